/** Every bound of what a hub keeps for Rivet's runners, at its edge. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { CommandNumbers } from "../../../src/hub/rivet/CommandNumbers.ts"
import { Gathering } from "../../../src/hub/rivet/Gathering.ts"
import { LastingSockets } from "../../../src/hub/rivet/LastingSockets.ts"
import { RivetStream, type SessionHeld } from "../../../src/hub/rivet/RivetStream.ts"
import { RivetWire, type StreamMessage } from "../../../src/hub/rivet/RivetWire.ts"
import { versionOf } from "../../../src/protocol/Rivet.ts"
import { pair } from "../../../src/socket/MessageSocket.ts"
import type { RequestFrame } from "../../../src/tunnel/Frame.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { stopOf } from "./ControlTwin.ts"
import { accept, answer, bytesOf, chunk, closeDown, message, route, settle } from "./RivetHarness.ts"

const MiB = 1024 * 1024
const someone = { actorId: "a", generation: 0 }
const nothingHeld = (): SessionHeld => ({ requests: { bytes: 0 }, answers: { bytes: 0 } })
const streamOf = (held = nothingHeld(), requestId = 1) => new RivetStream(route(requestId), "http", someone, held)

describe("what is gathered", () => {
  it("is one, in the order it came, and then nothing", () => {
    const session = { bytes: 0 }
    const gathering = new Gathering(session)
    assert.strictEqual(gathering.take().length, 0)
    const pieces = [0, 5, 0, 1, 70_000, 3].map((length, i) => bytesOf(length, i))
    for (const piece of pieces) assert.isUndefined(gathering.add(piece))
    assert.strictEqual(session.bytes, 70_009)
    assert.isTrue(Buffer.from(gathering.take()).equals(Buffer.concat(pieces)))
    assert.strictEqual(session.bytes, 0)
    assert.strictEqual(gathering.take().length, 0)
  })

  it("is not copied where it is one piece", () => {
    const gathering = new Gathering({ bytes: 0 })
    const piece = bytesOf(10)
    gathering.add(piece)
    assert.strictEqual(gathering.take(), piece)
  })

  it("may have 20 MiB and not a byte more", () => {
    const session = { bytes: 0 }
    const gathering = new Gathering(session)
    const piece = bytesOf(MiB)
    for (let i = 0; i < 20; i++) assert.isUndefined(gathering.add(piece))
    assert.strictEqual(gathering.add(bytesOf(1)), "too_large")
    assert.strictEqual(session.bytes, 20 * MiB)
    gathering.drop()
    assert.strictEqual(session.bytes, 0)
  })

  it("costs no more than its bytes where it comes byte by byte", () => {
    const gathering = new Gathering({ bytes: 0 })
    const used = () => process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers
    const before = used()
    for (let i = 0; i < 2 * MiB; i++) gathering.add(new Uint8Array([i]))
    assert.isBelow(used() - before, 100 * MiB)
    assert.strictEqual(gathering.take().length, 2 * MiB)
  })

  it("is bounded over all streams of a session", () => {
    const session = { bytes: 0 }
    const piece = bytesOf(16 * MiB)
    const all = Array.from({ length: limits.rivetSessionBytesMax / piece.length }, () => new Gathering(session))
    for (const one of all) assert.isUndefined(one.add(piece))
    assert.strictEqual(new Gathering(session).add(bytesOf(1)), "overloaded")
    all[0]?.drop()
    assert.isUndefined(new Gathering(session).add(bytesOf(1)))
  })
})

describe("what a stream holds of an answer", () => {
  it("is bounded over all streams of a session, and given back", () => {
    const held = nothingHeld()
    const body = bytesOf(20 * MiB)
    const streams: Array<RivetStream> = []
    for (let i = 0; i < 12; i++) {
      const stream = streamOf(held, i)
      streams.push(stream)
      assert.isUndefined(stream.offer(answer(body)))
    }
    const last = streamOf(held, 99)
    assert.strictEqual(last.offer(answer(body)), "overflow")
    assert.isUndefined(last.offer(answer(bytesOf(1))))
    for (const stream of [...streams, last]) stream.drop()
    assert.deepStrictEqual(held, nothingHeld())
  })

  it("is bounded in one frame, in all its bytes and in its frames, each at its own number", () => {
    assert.isUndefined(streamOf().offer(chunk(bytesOf(limits.rivetPayloadBytesMax))))
    assert.strictEqual(streamOf().offer(chunk(bytesOf(limits.rivetPayloadBytesMax + 1))), "overflow")
    const full = streamOf()
    for (let i = 0; i < limits.framesHeldMax; i++) assert.isUndefined(full.offer(chunk(new Uint8Array(0))))
    assert.strictEqual(full.offer(chunk(new Uint8Array(0))), "overflow")
    // What the hub says for the runner is never too much.
    full.end(chunk(new Uint8Array(0), true))
    assert.isTrue(full.closed)
  })

  it("keeps no read alive for a few of its bytes", () => {
    const read = new Uint8Array(MiB)
    const stream = streamOf()
    stream.offer(message(read.subarray(7, 9)))
    const taken = stream.take()
    if (taken?.frame._tag !== "WebSocketMessage") throw new Error("no message")
    assert.isBelow(taken.frame.data.buffer.byteLength, 16 * 1024)
  })

  it("stays with a WebSocket that goes to another session", () => {
    const first = nothingHeld()
    const second = nothingHeld()
    const stream = new RivetStream(route(1), "websocket", someone, first)
    stream.offer(accept(true))
    stream.offer(message(bytesOf(MiB)))
    const before = first.answers.bytes
    stream.attach(second, someone, 1)
    assert.strictEqual(first.answers.bytes, 0)
    assert.strictEqual(second.answers.bytes, before)
    stream.drop()
    assert.deepStrictEqual([first, second], [nothingHeld(), nothingHeld()])
  })
})

describe("WebSockets that may outlive their actor", () => {
  it("are so many at most; the next one may not", () => {
    const sockets = new LastingSockets({} as never, () => 0)
    const streams = Array.from({ length: limits.lastingSocketsMax + 1 }, (_, i) =>
      RivetStream.asleep(route(i), `${i % 7}`)
    )
    const last = streams.pop() as RivetStream
    for (const stream of streams) assert.isDefined(sockets.enter(stream, undefined))
    assert.isUndefined(sockets.enter(last, undefined))
    // One that is known already takes no second place.
    assert.isDefined(sockets.enter(RivetStream.asleep(route(5), "x"), undefined))
    assert.strictEqual(sockets.size, limits.lastingSocketsMax)
    sockets.over(streams[6] as RivetStream)
    assert.isDefined(sockets.enter(last, undefined))
    assert.strictEqual(sockets.ofActor("x").length, 1)
  })
})

describe("commands whose number may still be acknowledged", () => {
  it("are so many; the oldest are forgotten", () => {
    const numbers = new CommandNumbers()
    for (let i = 0; i <= limits.commandNumbersMax; i++) {
      assert.strictEqual(numbers.number(stopOf(`${i}`)).checkpoint.index, BigInt(i))
    }
    const seen = numbers.seenUpTo(BigInt(limits.commandNumbersMax))
    assert.strictEqual(seen.length, limits.commandNumbersMax)
    assert.strictEqual(seen[0]?.actorId, "1")
  })
})

const wireOf = () => {
  const written: Array<StreamMessage> = []
  const wire = new RivetWire({
    onWritten: (one) => void written.push(one),
    onUnencodable: () => {},
    onUnsayable: () => {}
  })
  return { wire, written }
}
const messageOf = (frame: Exclude<RequestFrame, { readonly _tag: "WebSocketMessage" }>, index = 0): StreamMessage => ({
  route: route(1),
  index,
  actorId: "a",
  frame,
  grantBytes: 0
})
const v7 = versionOf(7) as NonNullable<ReturnType<typeof versionOf>>
const request = (body: Uint8Array) =>
  ({ _tag: "RequestStart", method: "POST", target: "/", headers: [], body, streamed: false }) as const

describe("what waits for a runner's socket", () => {
  it("is bounded; the last word of a stream always has a place", () => {
    const { wire } = wireOf()
    const piece = bytesOf(16 * MiB)
    for (let i = 0; i < 3; i++) assert.isTrue(wire.write(messageOf(request(piece))))
    assert.isFalse(wire.write(messageOf(request(piece))))
    let more = 0
    for (const bytes of [MiB, 1024, 0]) while (wire.write(messageOf(request(new Uint8Array(bytes))))) more++
    assert.isTrue(wire.write(messageOf({ _tag: "RequestAbort", code: "cancelled" })))
    assert.isTrue(wire.write(messageOf(closeDown(1000))))
    assert.strictEqual(wire.withdraw(route(1)).length, 5 + more)
    assert.isTrue(wire.write(messageOf(request(piece))))
  })

  it.effect("leaves in order as the socket takes it, and everything said beside it goes ahead", () =>
    Effect.gen(function* () {
      const { wire, written } = wireOf()
      const [near, far] = pair({ protocol: "rivet" })
      wire.attach(near, v7)
      for (let i = 0; i < 5; i++) wire.write(messageOf(request(bytesOf(200 * 1024)), i))
      wire.say({ _tag: "Ping", atMs: 1n })
      yield* settle
      assert.isTrue(wire.blocked)
      assert.deepStrictEqual(
        written.map(({ index }) => index),
        [0, 1]
      )
      const tags: Array<string> = []
      while (tags.length < 6) {
        for (const { data } of yield* far.pull) {
          const down = v7.decodeDown(data)
          tags.push(down._tag === "TunnelDown" ? `${down.index}` : down._tag)
        }
        yield* settle
      }
      assert.deepStrictEqual(tags, ["0", "1", "Actor", "2", "3", "4"])
      assert.isFalse(wire.blocked)
    })
  )

  it.effect("leaves answers to the runner's questions their share, and holds them up only for themselves", () =>
    Effect.gen(function* () {
      const { wire } = wireOf()
      const [near, far] = pair({ protocol: "rivet" })
      wire.attach(near, v7)
      for (let i = 0; i < 10; i++) wire.write(messageOf(request(bytesOf(200 * 1024)), i))
      assert.isTrue(wire.blocked)
      yield* wire.unchoked
      wire.sayBytes(new Uint8Array(limits.rivetAnswersBytesMax))
      yield* wire.unchoked
      wire.sayBytes(new Uint8Array(1))
      const waiting = yield* Effect.forkChild(wire.unchoked)
      yield* settle
      assert.isUndefined(waiting.pollUnsafe())
      yield* far.pull
      yield* settle
      // Full again of what waited behind, and yet.
      assert.isTrue(wire.blocked)
      assert.isDefined(waiting.pollUnsafe())
    })
  )

  it("forgets pings beyond a number: they prove nothing any more", () => {
    const { wire } = wireOf()
    const [near] = pair({ protocol: "rivet" })
    wire.attach(near, v7)
    for (let i = 1; i <= limits.rivetPingsOut + 1; i++) wire.ping(i)
    wire.pong(1n)
    assert.isFalse(wire.hasArrived(1))
    wire.pong(2n)
    assert.isTrue(wire.hasArrived(2))
    assert.isFalse(wire.hasArrived(3))
    // An answer that comes late proves no more than the one before it did.
    wire.pong(20n)
    wire.pong(10n)
    assert.isTrue(wire.hasArrived(20))
    assert.isFalse(wire.hasArrived(21))
  })
})
