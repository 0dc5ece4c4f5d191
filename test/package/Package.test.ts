/**
 * What a stranger gets: the packed package, installed in an empty folder. Its command runs, every export imports and has types, and an old
 * Node is told so in one sentence.
 */
import { execFileSync, spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { oldestNode } from "../../src/cli/NodeVersion.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"))
const minutes = 60_000

// npm tells the scripts it runs about the package they belong to; the npm started here is to know only the folder it runs in.
const env = Object.fromEntries(
  Object.entries(process.env).filter(
    ([name]) => !/^npm_(?:package|lifecycle|command|execpath|config_local_prefix)|^INIT_CWD$/.test(name)
  )
)

let work = ""
let home = ""
let packed: ReadonlyArray<string> = []

const run = (command: string, args: ReadonlyArray<string>, cwd: string): string =>
  execFileSync(command, args, { cwd, env, encoding: "utf8", timeout: 5 * minutes, stdio: ["ignore", "pipe", "pipe"] })

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "wayleave-package-"))
  home = join(work, "home")
  mkdirSync(home)
  const [pack] = JSON.parse(
    run("npm", ["pack", "--json", "--silent", "--pack-destination", work], root)
  ) as ReadonlyArray<{
    readonly filename: string
    readonly files: ReadonlyArray<{ readonly path: string }>
  }>
  packed = (pack?.files ?? []).map((file) => file.path)
  writeFileSync(join(home, "package.json"), '{ "name": "stranger", "private": true, "type": "module" }\n')
  run("npm", ["install", "--prefer-offline", "--no-audit", "--no-fund", join(work, pack?.filename ?? "")], home)
}, 10 * minutes)

afterAll(() => {
  if (work !== "") rmSync(work, { recursive: true, force: true })
})

describe("the package", () => {
  it("holds code, licence and readme, and neither tests nor the demo", () => {
    for (const file of [
      "package.json",
      "README.md",
      "LICENSE",
      "dist/index.js",
      "dist/index.d.ts",
      "dist/cli/main.js"
    ]) {
      assert.include(packed, file)
    }
    const strays = packed.filter((file) => !/^(?:dist|src)\/|^(?:package\.json|README\.md|LICENSE)$/.test(file))
    assert.deepStrictEqual(strays, [])
    assert.isEmpty(packed.filter((file) => file.includes("/demo/")))
  })

  it("says its version by npx", () => {
    assert.include(run("npx", ["--no-install", "wayleave", "--version"], home), manifest.version)
  })

  it("in a clone is made by npm ci, and its command runs there, on a Node of the clone's own", () => {
    assert.strictEqual(manifest.scripts.prepare, "npm run build")
    // npm makes a command executable when it links it, once; what was built again since has to be by itself.
    assert.notStrictEqual(statSync(join(root, "dist/cli/main.js")).mode & 0o100, 0)
    assert.include(run("npx", ["--no-install", "wayleave", "--version"], root), manifest.version)
  })

  it("shows help for the command and for each subcommand", () => {
    assert.include(run("npx", ["--no-install", "wayleave", "--help"], home), "serve")
    assert.include(run("npx", ["--no-install", "wayleave", "serve", "--help"], home), "--admin-port")
    assert.include(run("npx", ["--no-install", "wayleave", "expose", "--help"], home), "--token-file")
  })

  const entries = Object.keys(manifest.exports).filter((entry) => entry !== "./package.json")

  for (const entry of entries) {
    const name = `wayleave${entry.slice(1)}`
    it(`${name} imports and exports something`, () => {
      const script = `const m = await import(${JSON.stringify(name)}); console.log(Object.keys(m).length)`
      assert.isAbove(Number(run(process.execPath, ["--input-type=module", "--eval", script], home)), 0)
      assert.isTrue(existsSync(join(home, "node_modules/wayleave", manifest.exports[entry].types)))
    })
  }

  it("type-checks where it is imported, in strict mode", () => {
    const lines = entries.map((entry, i) => `import * as m${i} from "wayleave${entry.slice(1)}"\nconsole.log(m${i})`)
    writeFileSync(join(home, "use.ts"), `${lines.join("\n")}\n`)
    const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2024", "--module", "nodenext"]
    const tsc = join(root, "node_modules/typescript/bin/tsc")
    const types = ["--types", "node", "--typeRoots", join(root, "node_modules/@types")]
    const checked = spawnSync(process.execPath, [tsc, ...options, ...types, "use.ts"], { cwd: home, encoding: "utf8" })
    assert.strictEqual(checked.stdout, "")
    assert.strictEqual(checked.status, 0)
  })

  it("tells an old Node which one it needs, and ends with 1", () => {
    const pretend = "Object.defineProperty(process.versions, 'node', { value: '20.20.2' })"
    const main = join(home, "node_modules/wayleave/dist/cli/main.js")
    const told = spawnSync(
      process.execPath,
      ["--import", `data:text/javascript,${encodeURIComponent(pretend)}`, main],
      {
        cwd: home,
        encoding: "utf8"
      }
    )
    assert.include(told.stderr, `wayleave needs Node ${oldestNode} or newer, and this is Node 20.20.2`)
    assert.strictEqual(told.stderr.trim().split("\n").length, 1)
    assert.strictEqual(told.status, 1)
  })
})
