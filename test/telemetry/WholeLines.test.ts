import { assert, it } from "@effect/vitest"
import { WholeLines } from "../../src/telemetry/WholeLines.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes)

it("what ends in the middle of a line waits for the rest of it, and whole lines leave together", () => {
  const lines = new WholeLines()
  assert.strictEqual(text(lines.add(bytes("one\ntwo\nthr"))), "one\ntwo\n")
  assert.strictEqual(text(lines.add(bytes("e"))), "")
  assert.strictEqual(text(lines.add(bytes("e\nfour"))), "three\n")
  assert.strictEqual(text(lines.add(bytes("\n"))), "four\n")
  assert.strictEqual(text(lines.end()), "")
})

it("a character that is torn is whole again", () => {
  const lines = new WholeLines()
  const line = bytes("größe\n")
  const out = [...line].map((_, i) => text(lines.add(line.subarray(i, i + 1))))
  assert.strictEqual(out.join(""), "größe\n")
})

it("the last words of a process become a line", () => {
  const lines = new WholeLines()
  lines.add(bytes("killed in the mid"))
  assert.strictEqual(text(lines.end()), "killed in the mid\n")
  assert.strictEqual(text(lines.end()), "")
})

it("a line beyond all measure is not held for ever", () => {
  const lines = new WholeLines()
  const half = new Uint8Array(limits.workerLineBytesMax / 2 + 1).fill(0x61)
  assert.strictEqual(lines.add(half).length, 0)
  assert.strictEqual(lines.add(half).length, 2 * half.length)
  assert.strictEqual(lines.end().length, 0)
})
