import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { ReceiveSequence, SendSequence } from "../../src/tunnel/Sequence.ts"

describe("Sequence", () => {
  it("counts from 0 and wraps after 65,535", () => {
    const sender = new SendSequence()
    assert.strictEqual(sender.next(), 0)
    for (let i = 1; i < 65_535; i++) sender.next()
    assert.strictEqual(sender.next(), 65_535)
    assert.strictEqual(sender.next(), 0)
  })

  it("frames without a place in the order carry 0 and spend nothing", () => {
    const sender = new SendSequence()
    sender.next()
    assert.strictEqual(sender.indexOf({ _tag: "Credit", bytes: 1 }), 0)
    assert.strictEqual(sender.indexOf({ _tag: "RequestChunk", body: new Uint8Array(1), finish: false }), 1)
  })

  it("a gap is found, also across the wrap, and does not move the receiver", () => {
    const receiver = new ReceiveSequence()
    assert.strictEqual(receiver.accept(1), "gap")
    for (let i = 0; i < 65_536; i++) assert.strictEqual(receiver.accept(i), "next")
    assert.strictEqual(receiver.accept(1), "gap")
    assert.strictEqual(receiver.accept(65_535), "duplicate")
    assert.strictEqual(receiver.accept(0), "next")
  })

  it("tells where both sides stand, and whether going on from a place leaves something out", () => {
    const sender = new SendSequence()
    const receiver = new ReceiveSequence()
    for (let i = 0; i < 3; i++) receiver.accept(sender.next())
    assert.strictEqual(sender.upcomingIndex, 3)
    assert.strictEqual(receiver.expectedIndex, 3)
    assert.deepStrictEqual(
      [2, 3, 4].map((index) => receiver.misses(index)),
      [false, false, true]
    )
    assert.strictEqual(receiver.expectedIndex, 3)
  })

  it("half of the circle is ahead, the other half behind", () => {
    const verdict = (index: number) => new ReceiveSequence().accept(index)
    assert.deepStrictEqual([1, 32_767, 32_768, 65_535].map(verdict), ["gap", "gap", "duplicate", "duplicate"])
  })

  it("credit and aborts are always next, whatever index they carry", () => {
    const receiver = new ReceiveSequence()
    receiver.accept(0)
    assert.strictEqual(receiver.judge({ _tag: "Credit", bytes: 0 }, 0), "next")
    assert.strictEqual(receiver.judge({ _tag: "ResponseAbort", code: "session_lost", message: "" }, 0), "next")
    assert.strictEqual(receiver.judge({ _tag: "WebSocketMessageAck", index: 9 }, 0), "duplicate")
  })

  it.prop(
    "whatever is repeated, each frame is taken once and in order",
    { start: Schema.Natural, repeats: Schema.Array(Schema.Natural) },
    ({ start, repeats }) => {
      const sender = new SendSequence()
      const receiver = new ReceiveSequence()
      const sent: Array<number> = []
      for (let i = 0; i < start % 70_000; i++) receiver.accept(sender.next())
      for (const back of repeats) {
        const index = sender.next()
        sent.push(index)
        if (receiver.accept(index) !== "next") return false
        const again = sent[sent.length - 1 - (back % sent.length)] as number
        if (receiver.accept(again) !== "duplicate") return false
      }
      return true
    }
  )
})
