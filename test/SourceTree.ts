/**
 * What `tree.test.ts` asks about the source tree: files, their imports, their exports. A scanner of lines, not a parser: the formatter,
 * which CI enforces, puts every top-level export at the start of a line, and TypeScript 7 offers no stable parser to tests.
 */
import { readdirSync, readFileSync } from "node:fs"
import { posix } from "node:path"

/** One source file: its path below the root, with `/`, and its text. */
export interface SourceFile {
  readonly path: string
  readonly text: string
}

/** All TypeScript files below `root`, sorted. */
export const readTree = (root: string): ReadonlyArray<SourceFile> =>
  readdirSync(root, { recursive: true, encoding: "utf8" })
    .filter((path) => path.endsWith(".ts"))
    .map((path) => path.replaceAll("\\", "/"))
    .sort()
    .map((path) => ({ path, text: readFileSync(`${root}/${path}`, "utf8") }))

/** The text with comments and the insides of template literals blanked, line for line, so that words in them are not taken for code. */
export const blankProse = (text: string): string => {
  // Strings are matched so that a `//` or a backtick inside one opens nothing; they are kept. Templates nest only through `${}`,
  // whose insides are blanked too: no import or export can stand there.
  const token = /\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[\s\S])*`/g
  return text.replace(token, (found) =>
    found.startsWith('"') || found.startsWith("'") ? found : found.replace(/[^\n]/g, " ")
  )
}

/** What a file imports or re-exports, types included: a specifier as written. */
export const importsOf = (file: SourceFile): ReadonlyArray<string> => {
  const code = blankProse(file.text)
  const found: Array<string> = []
  for (const match of code.matchAll(/^(?:import|export)\b[^"';]*?\bfrom\s+"([^"]+)"/gm)) found.push(match[1] as string)
  for (const match of code.matchAll(/^import\s+"([^"]+)"/gm)) found.push(match[1] as string)
  for (const match of code.matchAll(/\bimport\(\s*"([^"]+)"/g)) found.push(match[1] as string)
  return found
}

/** The file below the root that a relative specifier means; undefined for a package. */
export const resolveImport = (from: string, specifier: string): string | undefined =>
  specifier.startsWith(".") ? posix.join(posix.dirname(from), specifier) : undefined

const exported =
  /^export (?:declare )?(?:abstract )?(?:async )?(const|let|function\*?|class|interface|type|namespace)\s+([A-Za-z_$][\w$]*)/

/** Names that a file exports with no doc comment right above. A type that shares its name with a documented value is documented by it. */
export const undocumentedExports = (file: SourceFile): ReadonlyArray<string> => {
  const lines = file.text.split("\n")
  const code = blankProse(file.text).split("\n")
  const documented = new Set<string>()
  const missing: Array<string> = []
  for (let i = 0; i < code.length; i++) {
    const match = exported.exec(code[i] as string)
    if (match === null) continue
    const name = match[2] as string
    if (endsDocComment(lines, i - 1)) documented.add(name)
    else if (!documented.has(name)) missing.push(name)
  }
  return missing
}

/** Whether the comment that ends on this line is a doc comment with words in it. The module comment does not count for the first export. */
const endsDocComment = (lines: ReadonlyArray<string>, end: number): boolean => {
  if (end < 0 || !(lines[end] as string).trimEnd().endsWith("*/")) return false
  for (let i = end; i >= 0; i--) {
    const line = lines[i] as string
    const start = line.indexOf("/*")
    if (start < 0) continue
    const comment = lines.slice(i, end + 1).join("\n")
    return line.startsWith("/**") && /[A-Za-z]/.test(comment)
  }
  return false
}
