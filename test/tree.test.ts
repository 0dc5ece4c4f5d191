/**
 * The shape of the source tree, as a test: imports point one way, platforms stay at the edge, every file is used, named and explained.
 */

import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { blankProse, importsOf, readTree, resolveImport, type SourceFile, undocumentedExports } from "./SourceTree.ts"

const tree = readTree(fileURLToPath(new URL("../src", import.meta.url)))
const folderOf = (path: string) => (path.includes("/") ? (path.split("/")[0] as string) : "")

/** Folders by layer: a file may import its own folder and every layer before its own. */
const contracts = ["protocol", "route", "bus", "socket", "actor", "auth"]
const roles = ["gateway", "hub", "runner"]
const around = ["admin", "telemetry"]
const outside = ["server", "cli", "testing", "demo"]

/** What each folder may import besides itself. Contracts may build on each other; the cycle rule of the linter keeps them apart. */
const allowed = (folder: string): ReadonlyArray<string> => {
  if (folder === "tunnel") return []
  if (contracts.includes(folder)) return ["tunnel", ...contracts]
  if (roles.includes(folder)) return ["tunnel", ...contracts]
  if (around.includes(folder)) return ["tunnel", ...contracts, ...roles, ...around]
  if (outside.includes(folder) || folder === "") return ["tunnel", ...contracts, ...roles, ...around, ...outside]
  return []
}

const platform =
  /^(?:@effect\/platform-node(?:\/|$)|ws$|undici$|@nats-io\/|node:(?:http|https|http2|net|tls|dgram|dns|child_process|cluster|fs|os|process|readline|repl|sqlite|stream|tty|worker_threads|timers)(?:\/|$))/
const platformFolders = ["server", "cli", "testing", "demo"]
/** Drivers: the one file per service that may know a platform, because nothing else imports it but `server`, `cli`, `testing` or an app. */
const drivers = [
  "socket/WsSocket.ts",
  "runner/LocalForward.ts",
  "bus/NatsConnection.ts",
  "actor/ActorDatabase.ts",
  "actor/ActorKvSqlite.ts",
  "actor/ActorStoreSqlite.ts"
]

const wrongImports = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> => {
  const wrong: Array<string> = []
  for (const file of files) {
    const folder = folderOf(file.path)
    for (const specifier of importsOf(file)) {
      const target = resolveImport(file.path, specifier)
      if (target === undefined) {
        if (platform.test(specifier) && !platformFolders.includes(folder) && !drivers.includes(file.path)) {
          wrong.push(`${file.path} imports the platform ${specifier}`)
        }
        continue
      }
      const into = folderOf(target)
      if (into !== folder && !allowed(folder).includes(into)) wrong.push(`${file.path} imports ${target}`)
    }
  }
  return wrong
}

/** Files that are entered from outside: package exports, commands, and the demo. */
const entries = (path: string) =>
  path === "index.ts" || /^[a-z]+\/index\.ts$/.test(path) || path === "cli/main.ts" || path === "demo/main.ts"

const unused = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> => {
  const used = new Set<string | undefined>()
  for (const file of files) for (const specifier of importsOf(file)) used.add(resolveImport(file.path, specifier))
  return files.map((file) => file.path).filter((path) => !entries(path) && !used.has(path))
}

const forbiddenNames =
  /^(?:utils?|helpers?|common|shared|misc|types?|managers?|base)$|(?:Utils?|Helpers?|Manager|Misc)$/i
const badlyNamed = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> =>
  files
    .map((file) => file.path)
    .filter((path) =>
      path
        .replace(/\.ts$/, "")
        .split("/")
        .some((part) => forbiddenNames.test(part))
    )

const linesMax = 400
const tooLong = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> =>
  files
    .filter((file) => file.text.trimEnd().split("\n").length > linesMax)
    .map((file) => `${file.path} has ${file.text.trimEnd().split("\n").length} lines`)

const withoutModuleComment = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> =>
  files.filter((file) => !/^(?:#![^\n]*\n)?\/\*\*\s[\s\S]*?[A-Za-z]/.test(file.text)).map((file) => file.path)

const undocumented = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> =>
  files.flatMap((file) => undocumentedExports(file).map((name) => `${file.path} exports ${name}`))

/** Numbers that wait, and words that make a guess of a match, belong nowhere in logic on Effect time. */
const untimed = /\bDate\.now\(|\bnew Date\(\)|\bMath\.random\(|\bset(?:Timeout|Interval)\(/
const timeless = ["tunnel", "route", "bus", "protocol", "actor", "auth", "hub", "gateway", "runner", "admin"]
const offTheClock = (files: ReadonlyArray<SourceFile>): ReadonlyArray<string> =>
  files
    .filter((file) => timeless.includes(folderOf(file.path)) && !drivers.includes(file.path))
    .filter((file) => untimed.test(blankProse(file.text)))
    .map((file) => file.path)

describe("the source tree", () => {
  it("is found", () => assert.isAbove(tree.length, 10))
  it("imports in one direction, and a role never a role", () => assert.deepStrictEqual(wrongImports(tree), []))
  it("has no file that nobody imports", () => assert.deepStrictEqual(unused(tree), []))
  it("has no names that say nothing", () => assert.deepStrictEqual(badlyNamed(tree), []))
  it(`has no file above ${linesMax} lines`, () => assert.deepStrictEqual(tooLong(tree), []))
  it("explains every module at its top", () => assert.deepStrictEqual(withoutModuleComment(tree), []))
  it("documents every export", () => assert.deepStrictEqual(undocumented(tree), []))
  it("takes time and chance from Effect in all logic", () => assert.deepStrictEqual(offTheClock(tree), []))
})

const file = (path: string, text: string): SourceFile => ({ path, text })

describe("each of these checks sees what it is for", () => {
  it("a role importing a role, even a type of it", () => {
    const sample = file("hub/A.ts", 'import type { X } from "../gateway/X.ts"\nimport { Y } from "../tunnel/Y.ts"\n')
    assert.deepStrictEqual(wrongImports([sample]), ["hub/A.ts imports gateway/X.ts"])
  })
  it("an import that spans lines, a re-export, and one made at run time", () => {
    const sample = file(
      "tunnel/A.ts",
      'import {\n  B,\n  C\n} from "../route/B.ts"\nexport * from "../bus/D.ts"\nconst e = await import("../hub/E.ts")\n'
    )
    assert.deepStrictEqual(wrongImports([sample]), [
      "tunnel/A.ts imports route/B.ts",
      "tunnel/A.ts imports bus/D.ts",
      "tunnel/A.ts imports hub/E.ts"
    ])
  })
  it("a platform behind a role, but not in a driver, nor a pure module of Node", () => {
    const text =
      'import { WebSocket } from "ws"\nimport { createHash } from "node:crypto"\nimport * as h from "node:http"\n'
    assert.deepStrictEqual(wrongImports([file("hub/A.ts", text)]), [
      "hub/A.ts imports the platform ws",
      "hub/A.ts imports the platform node:http"
    ])
    assert.deepStrictEqual(wrongImports([file("socket/WsSocket.ts", text), file("server/A.ts", text)]), [])
  })
  it("an import that only a comment or a text mentions is none", () => {
    const sample = file(
      "tunnel/A.ts",
      '/** \nimport { X } from "../hub/X.ts"\n */\nconst s = `\nimport "../hub/Y.ts"\n`\n'
    )
    assert.deepStrictEqual(wrongImports([sample]), [])
  })
  it("a folder nobody assigned a layer", () => {
    assert.deepStrictEqual(wrongImports([file("extra/A.ts", 'import { X } from "../tunnel/X.ts"\n')]), [
      "extra/A.ts imports tunnel/X.ts"
    ])
  })
  it("an unused file", () => {
    const files = [file("index.ts", 'export * as A from "./a/A.ts"\n'), file("a/A.ts", ""), file("a/B.ts", "")]
    assert.deepStrictEqual(unused(files), ["a/B.ts"])
  })
  it("a name that says nothing, as file and as folder", () => {
    const files = [
      file("hub/utils.ts", ""),
      file("common/A.ts", ""),
      file("hub/RouteManager.ts", ""),
      file("hub/A.ts", "")
    ]
    assert.deepStrictEqual(badlyNamed(files), ["hub/utils.ts", "common/A.ts", "hub/RouteManager.ts"])
  })
  it("a file that is too long", () => {
    assert.deepStrictEqual(tooLong([file("a/A.ts", "x\n".repeat(401))]), ["a/A.ts has 401 lines"])
    assert.deepStrictEqual(tooLong([file("a/A.ts", "x\n".repeat(400))]), [])
  })
  it("a module without a word at its top", () => {
    const files = [
      file("a/A.ts", "import x\n"),
      file("a/B.ts", "/** Says what. */\n"),
      file("a/C.ts", "#!/usr/bin/env node\n/**\n * Says what.\n */\n")
    ]
    assert.deepStrictEqual(withoutModuleComment(files), ["a/A.ts"])
  })
  it("an export without a doc comment, of every kind", () => {
    const text = [
      "/** The module. */",
      'import { a } from "b"',
      "export const one = 1",
      "",
      "/** Two. */",
      "export const two = 2",
      "// No doc comment.",
      "export class Three {}",
      "/* Not one either. */",
      "export interface Four {}",
      "/** */",
      "export type Five = 5",
      "/**",
      " * Six, on several lines.",
      " */",
      "export function six() {}",
      "export type two = 2",
      "export abstract class Seven {}",
      "export async function eight() {}",
      'export { nine } from "./nine.ts"',
      "const text = `",
      "export const ten = 10",
      "`",
      "/** Far off. */",
      "",
      "export function* eleven() {}"
    ].join("\n")
    assert.deepStrictEqual(undocumentedExports(file("a/A.ts", text)), [
      "one",
      "Three",
      "Four",
      "Five",
      "Seven",
      "eight",
      "eleven"
    ])
  })
  it("time and chance taken from the machine", () => {
    const files = [
      file("hub/A.ts", "const t = Date.now()\n"),
      file("hub/B.ts", "// Date.now()\n"),
      file("gateway/C.ts", "setTimeout(() => {}, 1)\n"),
      file("cli/D.ts", "const t = Date.now()\n")
    ]
    assert.deepStrictEqual(offTheClock(files), ["hub/A.ts", "gateway/C.ts"])
  })
})
