import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { Link } from "../../src/protocol/Link.ts"
import { type DownFrame, toRunner } from "../../src/protocol/Wayleave1.ts"
import { type MessageSocket, pair } from "../../src/socket/MessageSocket.ts"
import type { RequestFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"

/** A link whose turns end when the test says so. */
const make = () => {
  const turns: Array<() => void> = []
  const unencodable: Array<number> = []
  const link = new Link<RequestFrame>({
    encode: (received, frames) => toRunner.encode({ _tag: "Frames", received, frames }),
    encodeAck: (received) => toRunner.encode({ _tag: "Ack", received }),
    onUnencodable: ({ route }) => unencodable.push(route.requestId),
    turn: (f) => turns.push(f)
  })
  const endTurn = () => {
    for (const f of turns.splice(0)) f()
  }
  return { link, endTurn, unencodable }
}

const read = (socket: MessageSocket) =>
  Effect.map(socket.pull, (batch) => batch.map(({ data }) => toRunner.decode(data)))

/** The frames of every numbered message in the socket, message by message. */
const messages = (socket: MessageSocket) =>
  Effect.map(read(socket), (all) => all.flatMap((message) => (message._tag === "Frames" ? [message.frames] : [])))

const chunk = (requestId: number, bytes: number): DownFrame => ({
  route: { gatewayId: 1, requestId },
  index: 0,
  frame: { _tag: "RequestChunk", body: new Uint8Array(bytes), finish: false }
})
const credit = (requestId: number): DownFrame => ({
  route: { gatewayId: 1, requestId },
  index: 0,
  frame: { _tag: "Credit", bytes: 1 }
})
const ids = (frames: ReadonlyArray<DownFrame>) => frames.map(({ route }) => route.requestId)

describe("a link", () => {
  it.effect("hands on what its peer may lack, in order, to one that begins anew", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left] = pair({ protocol: "" })
      link.attach(left, 0)
      for (const id of [1, 2, 3]) {
        link.send(chunk(id, 10))
        endTurn()
      }
      link.acknowledged(1)
      link.detach(left)
      link.send(chunk(4, 10))
      link.send(credit(5))
      const decode = (message: Uint8Array) => {
        const decoded = toRunner.decode(message)
        return decoded._tag === "Frames" ? decoded.frames : []
      }
      const outstanding = [...link.outstanding(decode)]
      assert.deepStrictEqual(ids(outstanding), [2, 3, 5, 4])
      const next = make()
      next.link.inherit(outstanding)
      const [near, far] = pair({ protocol: "" })
      next.link.attach(near, 0)
      assert.deepStrictEqual((yield* messages(far)).map(ids), [[2, 3, 5, 4]])
      assert.strictEqual(next.link.queuedBytes, 0)
    })
  )

  it.effect("is lossless as long as it holds everything that was not acknowledged", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      const count = limits.linkReplayBytesMax / limits.chunkBytesMax
      for (let i = 0; i < count; i++) {
        assert.isTrue(link.lossless)
        link.send(chunk(i, limits.chunkBytesMax))
        endTurn()
        yield* messages(right)
      }
      // With what each message has around its frames, the first is forgotten.
      assert.isFalse(link.lossless)
      link.acknowledged(1)
      assert.isTrue(link.lossless)
    })
  )

  it.effect("puts what one turn produced into one message, control first", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      link.send(chunk(1, 10))
      link.send(chunk(2, 10))
      link.send(credit(3))
      endTurn()
      const sent = yield* messages(right)
      assert.deepStrictEqual(sent.map(ids), [[3, 1, 2]])
      assert.strictEqual(link.queuedBytes, 0)
    })
  )

  it.effect("does not wait for the turn's end once twelve frames wait: the peer begins with them", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      for (let id = 1; id <= 30; id++) link.send(chunk(id, 10))
      assert.deepStrictEqual(
        (yield* messages(right)).map(({ length }) => length),
        [12, 12]
      )
      endTurn()
      assert.deepStrictEqual((yield* messages(right)).map(ids), [[25, 26, 27, 28, 29, 30]])
    })
  )

  it.effect("does not wait for the turn's end once a message is full", () =>
    Effect.gen(function* () {
      const { link } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      for (let i = 0; i < 3; i++) link.send(chunk(i, limits.chunkBytesMax))
      assert.deepStrictEqual((yield* messages(right)).map(ids), [[0], [1], [2]])
    })
  )

  it.effect("stops at the socket's mark, and lets control overtake what waits", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      for (let i = 0; i < 20; i++) link.send(chunk(i, limits.chunkBytesMax))
      endTurn()
      link.send(credit(99))
      endTurn()
      assert.isAbove(link.queuedBytes, 10 * limits.chunkBytesMax)
      const first = (yield* messages(right)).flatMap(ids)
      assert.isBelow(first.length, 8)
      assert.notInclude(first, 99)
      const second = (yield* messages(right)).flatMap(ids)
      assert.strictEqual(second[0], 99)
    })
  )

  it("refuses data beyond its wall, and never control", () => {
    const { link } = make()
    let taken = 0
    while (link.send(chunk(1, limits.chunkBytesMax))) taken++
    assert.isAtMost(taken * limits.chunkBytesMax, limits.linkQueueBytesMax)
    assert.isAbove((taken + 2) * limits.chunkBytesMax, limits.linkQueueBytesMax)
    assert.isTrue(link.send(credit(1)))
  })

  it.effect("takes a stream's waiting frames out again", () =>
    Effect.gen(function* () {
      const { link } = make()
      link.send(chunk(1, 10))
      link.send(chunk(2, 10))
      link.send(chunk(1, 10))
      assert.strictEqual(link.withdraw({ gatewayId: 1, requestId: 1 }).length, 2)
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      assert.deepStrictEqual((yield* messages(right)).map(ids), [[2]])
      assert.strictEqual(link.queuedBytes, 0)
    })
  )

  it.effect("repeats over a new socket just what the peer did not receive, before anything new", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      for (let i = 0; i < 4; i++) {
        link.send(chunk(i, 10))
        endTurn()
      }
      yield* messages(right)
      left.terminateUnsafe()
      link.detach(left)
      link.send(chunk(9, 10))
      assert.isTrue(link.canResume(2))
      const [left2, right2] = pair({ protocol: "" })
      link.attach(left2, 2)
      assert.deepStrictEqual((yield* messages(right2)).map(ids), [[2], [3], [9]])
    })
  )

  it.effect("leaves out a frame that has no form on the wire, and sends the others", () =>
    Effect.gen(function* () {
      const { link, endTurn, unencodable } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      link.send(chunk(1, 10))
      link.send({
        route: { gatewayId: 1, requestId: 2 },
        index: 0,
        frame: { _tag: "RequestTrailers", headers: [["x", "\ud800"]] }
      })
      link.send(chunk(3, 10))
      endTurn()
      assert.deepStrictEqual((yield* messages(right)).map(ids), [[1, 3]])
      assert.deepStrictEqual(unencodable, [2])
    })
  )

  it.effect("keeps its queue when the socket has closed and nobody told it yet", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left] = pair({ protocol: "" })
      link.attach(left, 0)
      left.terminateUnsafe()
      link.send(chunk(1, 10))
      endTurn()
      assert.isAbove(link.queuedBytes, 0)
      assert.strictEqual(link.replayBytes, 0)
      const [left2, right2] = pair({ protocol: "" })
      link.attach(left2, 0)
      assert.deepStrictEqual((yield* messages(right2)).map(ids), [[1]])
    })
  )

  it.effect("keeps what is unacknowledged within its bound, and then cannot resume", () =>
    Effect.gen(function* () {
      const { link, endTurn } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      const count = Math.ceil(limits.linkReplayBytesMax / limits.chunkBytesMax) + 8
      for (let i = 0; i < count; i++) {
        link.send(chunk(i, limits.chunkBytesMax))
        endTurn()
        yield* messages(right)
      }
      assert.isAtMost(link.replayBytes, limits.linkReplayBytesMax)
      assert.isFalse(link.canResume(0))
      assert.isTrue(link.canResume(count))
      assert.isFalse(link.canResume(count + 1))
      link.acknowledged(count)
      assert.strictEqual(link.replayBytes, 0)
      // An old count in a repeated message takes nothing back, an invented one gives nothing away.
      link.acknowledged(1)
      link.acknowledged(count + 100)
      assert.isTrue(link.canResume(count))
    })
  )

  it.effect("acknowledges by itself once enough came in and nothing went out", () =>
    Effect.gen(function* () {
      const { link } = make()
      const [left, right] = pair({ protocol: "" })
      link.attach(left, 0)
      link.onReceived(limits.linkAckBytes - 1)
      link.onReceived(1)
      assert.deepStrictEqual(yield* read(right), [{ _tag: "Ack", received: 2 }])
    })
  )
})
