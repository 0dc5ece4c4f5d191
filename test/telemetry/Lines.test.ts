import { spawn, spawnSync } from "node:child_process"
import { once } from "node:events"
import { assert, it } from "@effect/vitest"
import { Lines } from "../../src/telemetry/Lines.ts"

it("lines of one moment leave in one write, in order", () => {
  const written: Array<string> = []
  const moments: Array<() => void> = []
  const lines = new Lines(
    (text) => written.push(text),
    (f) => moments.push(f)
  )
  lines.add("one")
  lines.add("two")
  assert.deepStrictEqual(written, [])
  for (const end of moments.splice(0)) end()
  assert.deepStrictEqual(written, ["one\ntwo\n"])
  lines.add("three")
  lines.flush()
  for (const end of moments.splice(0)) end()
  assert.deepStrictEqual(written, ["one\ntwo\n", "three\n"])
})

it("a process that exits before they would have left has said everything", () => {
  const module = new URL("../../src/telemetry/Lines.ts", import.meta.url).href
  const script = `import { standardOutput } from ${JSON.stringify(module)}; standardOutput.add("last words"); process.exit(3)`
  const { status, stdout } = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" })
  assert.deepStrictEqual([status, stdout], [3, "last words\n"])
})

it("a process whose reader has gone goes on, and its lines are lost", async () => {
  const module = new URL("../../src/telemetry/Lines.ts", import.meta.url).href
  const script = `
    import { standardOutput } from ${JSON.stringify(module)}
    process.stdin.once("data", () => {
      let lines = 0
      const timer = setInterval(() => {
        standardOutput.add("to nobody")
        standardOutput.flush()
        if (++lines === 5) process.exit(7)
      }, 5)
    })`
  const child = spawn(process.execPath, ["--input-type=module", "-e", script], { stdio: ["pipe", "pipe", "inherit"] })
  child.stdout.destroy()
  child.stdin.write("the reader is gone")
  assert.deepStrictEqual(await once(child, "exit"), [7, null])
})
