/** What a bus repeats or loses on its way down: Rivet's runners are told no places of pieces, so their hub judges them. */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { connect } from "../../../src/testing/ScriptedRivetRunner.ts"
import {
  accept,
  actor,
  answer,
  arrange,
  asText,
  bytesOf,
  hibernating,
  key,
  message,
  mk2,
  request,
  route,
  scenario,
  settle,
  socketId,
  upgrade,
  withSocket
} from "./RivetHarness.ts"

const piece = (data: Uint8Array, finish: boolean) => ({ _tag: "RequestChunk", body: data, finish }) as const
const id = 7

describe.each([1, 3, 7])("version %i: of what goes down to a runner", (version) => {
  scenario("a piece of a body that comes twice counts once", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, id, request("/", { streamed: true }))
      yield* visitor.creditOf(id)
      yield* visitor.follow(id, piece(bytesOf(10), false))
      yield* visitor.follow(id, piece(bytesOf(10), false), 1)
      yield* visitor.follow(id, piece(bytesOf(5), true))
      const { frame } = yield* runner.nextFrame
      assert.deepInclude(frame, { _tag: "RequestStart", body: Buffer.concat([bytesOf(10), bytesOf(5)]) })
      yield* runner.frame(route(id), answer())
      assert.strictEqual((yield* visitor.frameOf(id))._tag, "ResponseStart")
    })
  )

  scenario("a piece of a body that is missing ends its stream, and the runner never sees the request", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, id, request("/", { streamed: true }))
      yield* visitor.creditOf(id)
      yield* visitor.follow(id, piece(bytesOf(10), false), 2)
      assert.deepInclude(yield* visitor.frameOf(id), { _tag: "ResponseAbort", code: "gap" })
      yield* visitor.open(actor, id + 1, request("/beside"))
      assert.deepInclude((yield* runner.nextFrame).frame, { target: "/beside" })
    })
  )

  scenario("a message that comes twice is told once, and one that is missing ends its socket", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.follow(socketId, message("one"))
      yield* visitor.follow(socketId, message("one"), 1)
      yield* visitor.follow(socketId, message("two"))
      assert.strictEqual(asText((yield* runner.nextFrame).frame), "one")
      assert.strictEqual(asText((yield* runner.nextFrame).frame), "two")
      yield* visitor.follow(socketId, message("four"), 4)
      assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "gap" })
      assert.deepInclude((yield* runner.nextFrame).frame, { _tag: "WebSocketClose", code: 1011 })
    })
  )
})

describe.each(hibernating)("version %i, with a socket that can hibernate", (version) => {
  scenario("a message that is missing has it sleep for a moment, so that its gateway says it again", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version, true)
      yield* visitor.follow(socketId, message("two"), 2)
      assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "WebSocketClose", hibernate: true })
      yield* settle
      yield* visitor.wake(socketId, actor, 1, "hub")
      yield* visitor.follow(socketId, message("one"))
      yield* visitor.follow(socketId, message("two"))
      const first = yield* runner.nextFrame
      assert.deepInclude(first, { route: key, index: 1 })
      assert.strictEqual(asText(first.frame), "one")
      assert.strictEqual(asText((yield* runner.nextFrame).frame), "two")
    })
  )
})

describe.each(mk2)("version %i: of two sockets that may have lost something with a connection", (version) => {
  scenario("neither is told what waited for the next: both end there", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      const second = socketId + 1
      yield* visitor.open(actor, second, upgrade)
      yield* runner.nextFrame
      yield* runner.frame(route(second), accept())
      assert.strictEqual((yield* visitor.frameOf(second))._tag, "WebSocketOpen")
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* visitor.follow(socketId, message("behind what is lost"))
      yield* visitor.follow(second, message("and here"))
      yield* settle
      const back = yield* connect({ version })
      yield* settle
      const told = (yield* back.pending).flatMap((down) => (down._tag === "TunnelDown" ? [down.frame._tag] : []))
      assert.deepStrictEqual(told, ["WebSocketClose", "WebSocketClose"])
    })
  )
})
