import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { ReceiveWindow, SendWindow, WindowGrowth } from "../../src/tunnel/Credit.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const kib = 1024
/** Growth at a clock that stands. */
const still = () => new WindowGrowth(() => 0)

describe("SendWindow", () => {
  it("spends what was granted and no more", () => {
    const window = new SendWindow(10)
    window.spend(10)
    assert.strictEqual(window.availableBytes, 0)
    assert.throws(() => window.spend(1))
    window.grant(4)
    assert.strictEqual(window.availableBytes, 4)
  })

  it("cuts pieces by credit and by the chunk maximum", () => {
    const window = new SendWindow(100 * kib)
    assert.strictEqual(window.pieceBytes(7), 7)
    assert.strictEqual(window.pieceBytes(1e9), limits.chunkBytesMax)
    window.spend(64 * kib)
    assert.strictEqual(window.pieceBytes(1e9), 36 * kib)
    window.spend(36 * kib)
    assert.strictEqual(window.pieceBytes(1e9), 0)
  })

  it("a grant after close is a no-op", () => {
    const window = new SendWindow(10)
    window.close()
    window.grant(50)
    assert.strictEqual(window.availableBytes, 0)
    window.spend(1)
  })

  it("told a sum, counts what had not arrived of it, once", () => {
    const window = new SendWindow(10)
    window.grant(5)
    window.spend(15)
    window.grantUpTo(15)
    window.grantUpTo(12)
    assert.strictEqual(window.availableBytes, 0)
    window.grantUpTo(20)
    window.grantUpTo(20)
    assert.strictEqual(window.availableBytes, 5)
    window.grant(1)
    window.grantUpTo(22)
    assert.strictEqual(window.availableBytes, 7)
  })

  it("stays exact however much a peer grants", () => {
    const window = new SendWindow(Number.MAX_SAFE_INTEGER - 5)
    window.grant(0xffff_ffff)
    assert.strictEqual(window.availableBytes, Number.MAX_SAFE_INTEGER)
  })
})

describe("ReceiveWindow", () => {
  it("refuses the first byte beyond what was granted", () => {
    const window = new ReceiveWindow(still())
    assert.isTrue(window.received(256 * kib))
    assert.isFalse(window.received(1))
  })

  it("grants once a quarter of the window was consumed, not before", () => {
    const window = new ReceiveWindow(still())
    window.received(128 * kib)
    assert.strictEqual(window.consumed(64 * kib - 1, true), 0)
    assert.strictEqual(window.consumed(1, true), 64 * kib)
    assert.strictEqual(window.heldBytes, 64 * kib)
  })

  it("doubles with every window of which nothing had to wait, up to what is enough for short links", () => {
    const window = new ReceiveWindow(still())
    let granted = 0
    for (let i = 0; i < 64; i++) {
      assert.isTrue(window.received(64 * kib))
      granted += window.consumed(64 * kib, false)
    }
    assert.strictEqual(window.windowBytes, limits.windowBytesNear)
    // All that came was granted again, and the growth on top of it, up to what is not owed yet.
    const growth = limits.windowBytesNear - limits.windowBytesInitial
    assert.isAtLeast(granted, 64 * 64 * kib + growth - limits.windowBytesNear / 4)
  })

  it("a stall anywhere within a window keeps it from growing", () => {
    const window = new ReceiveWindow(still())
    for (let i = 0; i < 64; i++) {
      assert.isTrue(window.received(64 * kib))
      window.consumed(64 * kib, i % 4 === 3)
    }
    assert.strictEqual(window.windowBytes, limits.windowBytesInitial)
  })

  it("neither grants nor refuses after close", () => {
    const window = new ReceiveWindow(still())
    window.received(256 * kib)
    window.close()
    assert.strictEqual(window.consumed(256 * kib, false), 0)
    assert.isTrue(window.received(1))
  })

  const step = Schema.Struct({
    send: Schema.Natural,
    consume: Schema.Natural,
    passMs: Schema.Natural,
    stalled: Schema.Boolean,
    late: Schema.Boolean
  })
  it.prop(
    "sender and receiver in step: never an overflow, never above one window, never a deadlock, and all growth given back",
    { steps: Schema.Array(step), close: Schema.Boolean },
    ({ close, steps }) => {
      let nowMs = 0
      const growth = new WindowGrowth(() => nowMs)
      const receiver = new ReceiveWindow(growth)
      const sender = new SendWindow(limits.windowBytesInitial)
      let travelling: Array<number> = []
      for (const step of steps) {
        nowMs += step.passMs % 1_500
        const bytes = Math.min(step.send % (2 * limits.windowBytesMax), sender.availableBytes)
        sender.spend(bytes)
        if (!receiver.received(bytes)) return false
        if (receiver.heldBytes > receiver.windowBytes || receiver.windowBytes > limits.windowBytesMax) return false
        if (growth.takenBytes !== Math.max(0, receiver.windowBytes - limits.windowBytesNear)) return false
        const grant = receiver.consumed(step.consume % (receiver.heldBytes + 1), step.stalled)
        if (grant > 0) travelling.push(grant)
        if (!step.late) {
          for (const one of travelling) sender.grant(one)
          travelling = []
        }
      }
      if (close) {
        const held = receiver.heldBytes
        receiver.close()
        if (growth.takenBytes !== Math.max(0, held - limits.windowBytesNear)) return false
        receiver.consumed(held, true)
        return growth.takenBytes === 0
      }
      for (const one of travelling) sender.grant(one)
      const last = receiver.consumed(receiver.heldBytes, true)
      if (sender.availableBytes + last === 0) return false
      receiver.abandon()
      return growth.takenBytes === 0
    }
  )
})
