/** Which Wayleave this is: the version of the package, read once. */
import { readFileSync } from "node:fs"

/** As `package.json` says. The file lies two folders up both in `src` and in `dist`. */
export const version: string = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version
