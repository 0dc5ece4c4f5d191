import { assert, describe } from "@effect/vitest"
import { Effect } from "effect"
import { RouteStore } from "../../../src/route/RouteStore.ts"
import type { RequestFrame } from "../../../src/tunnel/Frame.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import {
  ack,
  actor,
  all,
  answer,
  arrange,
  asText,
  atRest,
  bytesOf,
  close,
  closeDown,
  hibernating,
  key,
  message,
  request,
  route,
  scenario,
  settle,
  socketId,
  upgrade,
  withSocket
} from "./RivetHarness.ts"

const KiB = 1024
const said = (text: string, finish = true): RequestFrame => ({ ...message(text), finish })

describe.each(all)("version %i: a WebSocket", (version) => {
  scenario("carries messages both ways, text and binary, empty ones too, each with its number", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      const messages = [message("hello"), message(bytesOf(3)), message(""), message(new Uint8Array(0), true)]
      for (const [i, one] of messages.entries()) {
        yield* visitor.follow(socketId, one)
        const { frame, index } = yield* runner.nextFrame
        assert.strictEqual(index, i + 1)
        assert.deepInclude(frame, { _tag: "WebSocketMessage", binary: one.binary, finish: true })
        assert.strictEqual(asText(frame), asText(one))
        yield* runner.frame(key, one, i + 1)
        assert.deepInclude(yield* visitor.message(socketId), { binary: one.binary, data: Buffer.from(one.data) })
      }
    })
  )

  scenario(
    "joins what its visitor sends in fragments, granting each as it comes and the last once it has left",
    (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* withSocket(twin, version)
        yield* visitor.follow(socketId, said("frag", false))
        assert.strictEqual(yield* visitor.creditOf(socketId), 4)
        yield* visitor.follow(socketId, said("", false))
        yield* visitor.follow(socketId, said("men", false))
        assert.strictEqual(yield* visitor.creditOf(socketId), 3)
        assert.deepStrictEqual(yield* runner.pending, [])
        yield* visitor.follow(socketId, said("ts"))
        assert.strictEqual(yield* visitor.creditOf(socketId), 2)
        const { frame, index } = yield* runner.nextFrame
        assert.deepStrictEqual([index, asText(frame)], [1, "fragments"])
        yield* visitor.follow(socketId, said("next"))
        assert.strictEqual((yield* runner.nextFrame).index, 2)
      })
  )

  scenario("cuts a large message of its app into fragments, as its visitor takes them", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      const large = bytesOf(600 * KiB)
      yield* runner.frame(key, message(large))
      yield* runner.frame(key, message("after"))
      assert.isTrue((yield* visitor.message(socketId)).data.equals(Buffer.from(large)))
      assert.strictEqual((yield* visitor.message(socketId)).data.toString(), "after")
    })
  )

  scenario("carries what its app says in the order it was said, whatever numbers it says it with", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      for (const [i, index] of [0, 0, 7, 3, 65_535, 0].entries()) yield* runner.frame(key, message(`${i}`), index)
      for (const want of ["0", "1", "2", "3", "4", "5"]) {
        assert.strictEqual(asText(yield* visitor.frameOf(socketId)), want)
      }
    })
  )

  scenario("numbers its messages around: after 65535 comes 0", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      let last = 0
      for (let i = 1; i < 65_535; i++) yield* visitor.follow(socketId, said(""))
      for (let i = 1; i < 65_535; i++) last = (yield* runner.nextFrame).index
      assert.strictEqual(last, 65_534)
      for (const want of [65_535, 0, 1]) {
        yield* visitor.follow(socketId, said("x"))
        assert.strictEqual((yield* runner.nextFrame).index, want)
      }
    })
  )

  scenario("closed by its app ends for its visitor with that code and reason", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* runner.frame(key, message("bye"), 1)
      yield* runner.frame(key, close(4001, "done"), 2)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "bye")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(4001, "done"))
      yield* atRest
      // What the visitor still sends finds nobody, and does no harm.
      yield* visitor.follow(socketId, said("late"))
      yield* settle
      assert.deepStrictEqual(yield* runner.pending, [])
    })
  )

  scenario("closed by its app without a code, or abnormally, says so", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.open(actor, 2, upgrade)
      yield* runner.nextFrame
      yield* runner.frame(key, close(null))
      yield* runner.frame(route(2), close(1006, "Abnormal Closure"))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(null))
      assert.deepStrictEqual(yield* visitor.frameOf(2), close(1006, "Abnormal Closure"))
    })
  )

  scenario("with a close reason beyond what a close frame holds has it cut", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* runner.frame(key, close(1000, "ü".repeat(1_000_000)))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1000, "ü".repeat(61)))
    })
  )

  scenario("closed by its visitor is closed at the app, whose echo goes nowhere and leaves nothing", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.follow(socketId, closeDown(4000, "bye"))
      assert.deepInclude(yield* runner.nextFrame, { route: key, index: 1, frame: closeDown(4000, "bye") })
      yield* runner.frame(key, close(4000, "bye"))
      yield* runner.frame(key, message("crossed"))
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      assert.isUndefined(runner.socket.closedUnsafe())
      const counts = yield* RouteStore.use((routes) => routes.counts)
      assert.deepInclude(counts, { Open: 0, Closing: 0, HalfClosed: 1 })
    })
  )

  scenario("given up by its gateway is closed at the app for that reason", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.follow(socketId, { _tag: "RequestAbort", code: "deadline" })
      assert.deepInclude(yield* runner.nextFrame, { index: 1, frame: closeDown(1011, "ws.downstream_closed") })
    })
  )

  scenario("refused by its app ends with the app's code and reason", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, socketId, upgrade)
      yield* runner.nextFrame
      yield* runner.frame(key, close(4003, "not you"))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(4003, "not you"))
      yield* atRest
    })
  )

  scenario("whose actor stops is closed, as is one that waits for its app's yes", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.open(actor, 2, upgrade)
      yield* visitor.open(actor, 3, request("/"))
      yield* settle
      yield* runner.frame(key, message("last"))
      yield* settle
      twin.end(actor, false)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "last")
      const ends = new Map<number, unknown>()
      for (let i = 0; i < 3; i++) {
        const { frame, route: at } = yield* visitor.next
        if (frame._tag === "Credit") i--
        else ends.set(at.requestId, frame)
      }
      assert.deepStrictEqual(ends.get(socketId), close(1000, "actor.stopped"))
      for (const id of [2, 3]) assert.deepInclude(ends.get(id), { _tag: "ResponseAbort", code: "actor_stopped" })
      yield* atRest
    })
  )

  scenario("of an actor that lives is not touched by the end of another, or of an older generation", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* withSocket(twin, version)
      twin.port(session).ended({ actorId: actor, generation: 7, runner: session }, false)
      twin.port(session).ended({ actorId: "other", generation: 0, runner: session }, false)
      yield* runner.frame(key, message("alive"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "alive")
    })
  )
})

describe.each(hibernating)("version %i: a WebSocket that can hibernate", (version) => {
  scenario("passes its app's acks on, in order with its messages", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version, true)
      yield* visitor.follow(socketId, said("one"))
      yield* visitor.follow(socketId, said("two"))
      yield* runner.frame(key, message("reply"), 1)
      yield* runner.frame(key, ack(2), 2)
      yield* runner.frame(key, ack(65_535), 3)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "reply")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), ack(2))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), ack(65_535))
    })
  )
})

describe.each(all)("version %i: at the edge of 20 MiB", (version) => {
  scenario("a message of exactly that much passes; one byte more ends that socket alone", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      const data = bytesOf(limits.rivetPayloadBytesMax)
      yield* runner.frame(key, message(data))
      assert.isTrue((yield* visitor.message(socketId)).data.equals(Buffer.from(data)))
      yield* visitor.open(actor, 2, request("/beside"))
      yield* runner.nextFrame
      yield* runner.frame(key, message(bytesOf(limits.rivetPayloadBytesMax + 1)))
      assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "overflow" })
      assert.deepInclude(yield* runner.nextFrame, { route: key, frame: closeDown(1011, "ws.downstream_closed") })
      yield* runner.frame(route(2), answer())
      assert.strictEqual((yield* visitor.frameOf(2))._tag, "ResponseStart")
      assert.isUndefined(runner.socket.closedUnsafe())
      yield* atRest
    })
  )
})
