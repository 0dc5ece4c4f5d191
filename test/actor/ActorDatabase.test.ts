import { execFileSync } from "node:child_process"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"

const index = new URL("../../src/index.ts", import.meta.url)
const database = new URL("../../src/actor/ActorDatabase.ts", import.meta.url)

/** What a process that runs this text says. */
const said = (text: string): string => {
  const directory = mkdtempSync(join(tmpdir(), "wayleave-import-"))
  try {
    const file = join(directory, "main.mjs")
    writeFileSync(file, text)
    return execFileSync(process.execPath, [file], { encoding: "utf8" }).trim()
  } finally {
    rmSync(directory, { recursive: true })
  }
}

const isLoaded = `console.log(process.moduleLoadList.some((name) => name.includes("sqlite")))`

it("SQLite, of which Node 22 warns, is loaded where a file is opened and by nobody who imports the package", () => {
  assert.strictEqual(said(`await import("${index}"); ${isLoaded}`), "false")
  const open = `Effect.runPromise(Effect.scoped(Layer.build(layer({ file: ":memory:" }))))`
  const effect = import.meta.resolve("effect")
  assert.strictEqual(
    said(`import { Effect, Layer } from "${effect}"; import { layer } from "${database}"; await ${open}; ${isLoaded}`),
    "true"
  )
})
