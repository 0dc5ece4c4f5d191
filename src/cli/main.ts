#!/usr/bin/env node
/**
 * The command `wayleave`. Looks at the Node it runs on before anything else is loaded: what follows would not even parse on an old one.
 * Next: `WayleaveCommand.ts`.
 */
import { refusalOf } from "./NodeVersion.ts"

const refusal = refusalOf(process.versions.node)
if (refusal === undefined) {
  const { main } = await import("./WayleaveCommand.ts")
  main()
} else {
  process.stderr.write(refusal)
  process.exitCode = 1
}
