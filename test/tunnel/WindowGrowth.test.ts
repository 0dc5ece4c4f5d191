import { assert, describe, it } from "@effect/vitest"
import { ReceiveWindow, SendWindow, WindowGrowth } from "../../src/tunnel/Credit.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const mib = 1024 * 1024

/** A link of some length and width, and whoever reads at its far end. */
interface Course {
  readonly roundTripMs: number
  /** Bytes in a millisecond. */
  readonly linkRate: number
  readonly readerRate?: number
  /** After so many bytes nothing more is read. */
  readonly readerStopsAt?: number
  readonly bytes?: number
  readonly growth?: (nowMs: () => number) => WindowGrowth
}

/** Sends one stream over the link, event by event in a time of its own; what was read when, and what the windows came to. */
const run = (course: Course) => {
  const { linkRate, readerRate = Infinity, readerStopsAt = Infinity, roundTripMs } = course
  let left = course.bytes ?? 64 * mib
  let nowMs = 0
  const growth = course.growth?.(() => nowMs) ?? new WindowGrowth(() => nowMs)
  const receiver = new ReceiveWindow(growth)
  const sender = new SendWindow(limits.windowBytesInitial)
  const events: Array<{ readonly atMs: number; readonly happen: () => void }> = []
  const after = (ms: number, happen: () => void) => {
    const atMs = nowMs + ms
    const place = events.findLastIndex((event) => event.atMs <= atMs)
    events.splice(place + 1, 0, { atMs, happen })
  }
  let linkFreeMs = 0
  let readerFreeMs = 0
  let readBytes = 0
  let heldMax = 0
  const reads: Array<readonly [atMs: number, bytes: number]> = []

  const send = () => {
    let piece = sender.pieceBytes(left)
    while (piece > 0) {
      sender.spend(piece)
      left -= piece
      linkFreeMs = Math.max(linkFreeMs, nowMs) + piece / linkRate
      const bytes = piece
      after(linkFreeMs + roundTripMs / 2 - nowMs, () => arrive(bytes))
      piece = sender.pieceBytes(left)
    }
  }
  const arrive = (bytes: number) => {
    assert.isTrue(receiver.received(bytes))
    heldMax = Math.max(heldMax, receiver.heldBytes)
    const stalled = readerFreeMs > nowMs
    readerFreeMs = Math.max(readerFreeMs, nowMs) + bytes / readerRate
    after(readerFreeMs - nowMs, () => read(bytes, stalled))
  }
  const read = (bytes: number, stalled: boolean) => {
    if (readBytes >= readerStopsAt) return
    readBytes += bytes
    reads.push([nowMs, readBytes])
    const grant = receiver.consumed(bytes, stalled)
    if (grant === 0) return
    after(roundTripMs / 2, () => {
      sender.grant(grant)
      send()
    })
  }
  send()
  for (let event = events.shift(); event !== undefined; event = events.shift()) {
    nowMs = event.atMs
    event.happen()
  }
  return { growth, heldMax, nowMs, readBytes, reads, receiver }
}

/** Bytes in a millisecond over the second half. */
const rateLater = (reads: ReadonlyArray<readonly [number, number]>) => {
  const [fromMs, fromBytes] = reads[reads.length >> 1] as readonly [number, number]
  const [toMs, toBytes] = reads.at(-1) as readonly [number, number]
  return (toBytes - fromBytes) / (toMs - fromMs)
}

describe("a window over a link", () => {
  const mbit = 1e6 / 8 / 1000
  for (const roundTripMs of [50, 200]) {
    for (const width of [10, 100, 200]) {
      it(`of ${width} Mbit/s and ${roundTripMs} ms fills it, with no more than four times what the link holds`, () => {
        const linkRate = width * mbit
        const { reads, receiver } = run({ roundTripMs, linkRate })
        assert.isAtLeast(rateLater(reads), 0.99 * linkRate)
        assert.isAtMost(receiver.windowBytes, Math.max(limits.windowBytesNear, 4 * linkRate * roundTripMs))
      })
    }
  }

  it("of 200 Mbit/s and 200 ms is filled within three seconds", () => {
    const { reads } = run({ roundTripMs: 200, linkRate: 200 * mbit })
    const begun = reads.find(([atMs]) => atMs >= 3_000) as readonly [number, number]
    const [toMs, toBytes] = reads.at(-1) as readonly [number, number]
    assert.isAtLeast((toBytes - begun[1]) / (toMs - begun[0]), 0.99 * 200 * mbit)
  })

  it("of no length stays at what is enough there", () => {
    const { receiver } = run({ roundTripMs: 0.5, linkRate: 2_000 * mbit })
    assert.strictEqual(receiver.windowBytes, limits.windowBytesNear)
  })

  it("of no length stays there too where windows pile up and come at once", () => {
    let nowMs = 0
    const growth = new WindowGrowth(() => nowMs)
    const window = new ReceiveWindow(growth)
    for (let i = 0; i < 100; i++) {
      if (i % 5 === 0) nowMs += 4
      window.received(window.windowBytes)
      window.consumed(window.windowBytes, false)
    }
    assert.strictEqual(window.windowBytes, limits.windowBytesNear)
  })

  it("does not grow for a reader that is slower than its first window lets it be", () => {
    const { receiver } = run({ roundTripMs: 200, linkRate: 100 * mbit, readerRate: 5 * mbit, bytes: 8 * mib })
    assert.strictEqual(receiver.windowBytes, limits.windowBytesInitial)
  })

  it("grows for a reader slower than the link as far as that one needs it", () => {
    const readerRate = 50 * mbit
    const { reads, receiver } = run({ roundTripMs: 200, linkRate: 200 * mbit, readerRate })
    assert.isAtLeast(rateLater(reads), 0.99 * readerRate)
    assert.isAtMost(receiver.windowBytes, 4 * readerRate * 200)
  })

  it("holds at most one window for a reader that stops, and grants nothing for it", () => {
    const readerStopsAt = 16 * mib
    const { growth, heldMax, readBytes, receiver } = run({ roundTripMs: 200, linkRate: 100 * mbit, readerStopsAt })
    assert.isBelow(readBytes, readerStopsAt + mib)
    assert.isAtMost(heldMax, receiver.windowBytes)
    receiver.close()
    // Nobody may have for another stream what this one still holds.
    assert.isAbove(receiver.heldBytes, limits.windowBytesNear)
    assert.strictEqual(growth.takenBytes, receiver.heldBytes - limits.windowBytesNear)
    receiver.abandon()
    assert.strictEqual(growth.takenBytes, 0)
  })

  it("grows by what is left of the growth of all, and not beyond", () => {
    const course = { roundTripMs: 200, linkRate: 200 * mbit }
    const { growth, receiver } = run({ ...course, growth: (nowMs) => new WindowGrowth(nowMs, 2 * mib) })
    assert.strictEqual(receiver.windowBytes, 2 * mib)
    assert.strictEqual(growth.takenBytes, mib)
  })
})

describe("the growth of all windows", () => {
  it("is refused whole beyond its maximum, and had again once it was given back", () => {
    const growth = new WindowGrowth(() => 0, 10)
    assert.isTrue(growth.take(6))
    assert.isFalse(growth.take(5))
    assert.isTrue(growth.take(4))
    growth.give(6)
    assert.strictEqual(growth.takenBytes, 4)
    assert.isTrue(growth.take(6))
  })

  it("ends at its maximum however many streams there are, and is whole again after them", () => {
    let nowMs = 0
    const growth = new WindowGrowth(() => nowMs)
    const windows = Array.from({ length: 200 }, () => new ReceiveWindow(growth))
    // A round trip takes 100 ms, and every stream always sends all that it may.
    for (let i = 0; i < 16; i++, nowMs += 100) {
      for (const window of windows) {
        window.received(window.windowBytes)
        window.consumed(window.windowBytes, false)
      }
    }
    const bytes = windows.reduce((sum, window) => sum + window.windowBytes, 0)
    assert.strictEqual(bytes, 200 * limits.windowBytesNear + limits.windowGrowthBytesMax)
    for (const window of windows) window.close()
    assert.strictEqual(growth.takenBytes, 0)
  })

  it("is given back by a stream that has no use for it any more, and by no other", () => {
    let nowMs = 0
    const growth = new WindowGrowth(() => nowMs)
    const window = new ReceiveWindow(growth)
    const pass = (bytes: number, ms: number) => {
      nowMs += ms
      assert.isTrue(window.received(bytes))
      return window.consumed(bytes, false)
    }
    while (window.windowBytes < limits.windowBytesMax) pass(window.windowBytes, 100)
    const quarter = limits.windowBytesMax / 4
    assert.strictEqual(pass(quarter, limits.windowSlackMs), quarter)
    assert.strictEqual(window.windowBytes, limits.windowBytesMax)
    assert.strictEqual(pass(quarter, limits.windowSlackMs + 1), 0)
    assert.strictEqual(window.windowBytes, limits.windowBytesMax - quarter)
    assert.strictEqual(growth.takenBytes, window.windowBytes - limits.windowBytesNear)
    for (let i = 0; i < 40; i++) pass(window.windowBytes / 4, limits.windowSlackMs + 1)
    assert.strictEqual(window.windowBytes, limits.windowBytesNear)
    assert.strictEqual(growth.takenBytes, 0)
  })
})
