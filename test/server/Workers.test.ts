import { once } from "node:events"
import { PassThrough } from "node:stream"
import { assert, it } from "@effect/vitest"
import { passOn } from "../../src/server/Workers.ts"

const line = (letter: string) => `${letter.repeat(999)}\n`

it("lines of several processes are not torn, wherever their pieces end", async () => {
  const to = new PassThrough({ highWaterMark: 1_000_000 })
  const [one, other] = [new PassThrough(), new PassThrough()]
  const passed = [passOn(one, to), passOn(other, to)]
  for (let i = 0; i < 50; i++) {
    one.write(line("a").slice(0, 300))
    other.write(line("b").slice(0, 700))
    await new Promise(setImmediate)
    one.write(line("a").slice(300))
    other.write(line("b").slice(700))
  }
  one.end("the last words")
  other.end()
  await Promise.all(passed)
  const lines = String(to.read()).split("\n")
  assert.strictEqual(lines.pop(), "")
  const rest = new Map<string, number>()
  for (const one of lines) rest.set(one, (rest.get(one) ?? 0) + 1)
  assert.deepStrictEqual(
    [...rest].sort(([one], [other]) => one.length - other.length || one.localeCompare(other)),
    [
      ["the last words", 1],
      ["a".repeat(999), 50],
      ["b".repeat(999), 50]
    ]
  )
})

it("a reader that does not keep up is waited for, and nothing is gathered meanwhile", async () => {
  const to = new PassThrough({ highWaterMark: 1 })
  const from = new PassThrough({ highWaterMark: 4_000 })
  const passed = passOn(from, to)
  let wrote = 0
  while (from.write(line("a"))) {
    wrote++
    assert.isBelow(wrote, 100)
    await new Promise(setImmediate)
  }
  assert.isAtMost(to.writableLength + to.readableLength, 2_000)
  to.resume()
  await once(from, "drain")
  from.end()
  await passed
})

it("a reader that goes away holds nobody up", async () => {
  const to = new PassThrough({ highWaterMark: 1 })
  to.on("error", () => {})
  const from = new PassThrough({ highWaterMark: 1_000 })
  const passed = passOn(from, to)
  from.write(line("a"))
  from.write(line("a"))
  await new Promise(setImmediate)
  to.destroy()
  from.write(line("b"))
  from.end()
  await passed
})
