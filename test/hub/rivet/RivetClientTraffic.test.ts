/**
 * The eight situations in which real runners send on routes that look closed, with Rivet's own runners: as `../ClientTraffic.test.ts` has them for ours.
 * In each the runner keeps its connection, the request beside it gets its answer, and the same frame from a stranger goes nowhere.
 */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { RouteStore } from "../../../src/route/RouteStore.ts"
import { connect, type ScriptedRivetRunner } from "../../../src/testing/ScriptedRivetRunner.ts"
import type { ControlTwin } from "./ControlTwin.ts"
import {
  ack,
  actor,
  all,
  answer,
  asText,
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
  withSocket
} from "./RivetHarness.ts"

const besideId = 2
type Frame = Parameters<ScriptedRivetRunner["frame"]>[1]
const versionsOf = (list: ReadonlyArray<number>, frame: Frame) =>
  // Version 1 has no acks.
  frame._tag === "WebSocketMessageAck" ? list.filter((version) => version > 1) : list

/** A runner with an open WebSocket and, beside it, a request that waits for its answer; and a stranger. */
const arranged = Effect.fnUntraced(function* (twin: ControlTwin, version: number, canHibernate = false) {
  const { runner, session, visitor } = yield* withSocket(twin, version, canHibernate)
  const stranger = yield* connect({ version, key: "stranger" })
  yield* visitor.open(actor, besideId, request("/beside"))
  yield* runner.nextFrame
  yield* settle
  yield* visitor.pending
  return { runner, session, visitor, stranger }
})
type Arranged = Effect.Success<ReturnType<typeof arranged>>

const cut = Effect.fnUntraced(function* ({ runner }: Arranged) {
  runner.socket.terminateUnsafe()
  yield* Fiber.join(runner.accepted)
  yield* settle
})

/** Nothing of what was said reached the gateway. */
const unheard = ({ visitor }: Pick<Arranged, "visitor">) =>
  Effect.andThen(
    settle,
    Effect.map(visitor.pendingFrames, (frames) => assert.deepStrictEqual(frames, []))
  )

/** The connection lives, the answer beside it arrives, and the stranger's word goes nowhere. */
const aftermath = Effect.fnUntraced(function* (
  { stranger, visitor }: Pick<Arranged, "stranger" | "visitor">,
  runner: ScriptedRivetRunner,
  frame: Frame
) {
  yield* stranger.frame(key, frame)
  yield* unheard({ visitor })
  assert.isUndefined(stranger.socket.closedUnsafe())
  assert.isUndefined(runner.socket.closedUnsafe())
  yield* runner.frame(route(besideId), answer())
  assert.strictEqual((yield* visitor.frameOf(besideId))._tag, "ResponseStart")
})

describe.each(all)(
  "version %i: a runner of good faith keeps its connection, its answers, and nobody else's",
  (version) => {
    scenario(
      "1: it goes on with sockets that it had before a reconnect, with what it buffered and with what comes later",
      (twin) =>
        Effect.gen(function* () {
          const before = yield* arranged(twin, version)
          const { visitor } = before
          yield* cut(before)
          // Nothing was written to it since the last answered ping, or nothing proves anything.
          const back = yield* connect({ version })
          yield* back.frame(key, message("buffered"), 1)
          yield* back.frame(key, message("later"), 2)
          if (version > 3) {
            // The opening itself is not known to have arrived: the socket ended, and its traffic is over.
            assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "gap" })
            yield* unheard(before)
          } else {
            assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "buffered")
            assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "later")
          }
          yield* aftermath(before, back, message("x"))
        })
    )

    scenario("4: it sends on a socket that nobody ever mentioned to it", (twin) =>
      Effect.gen(function* () {
        const before = yield* arranged(twin, version)
        yield* before.runner.frame({ gatewayId: 5, requestId: 5 }, message("cleanup"))
        yield* unheard(before)
        yield* aftermath(before, before.runner, message("x"))
      })
    )

    scenario("5: it echoes the visitor's close", (twin) =>
      Effect.gen(function* () {
        const before = yield* arranged(twin, version)
        const { runner, visitor } = before
        yield* visitor.follow(socketId, closeDown(1000, "bye"))
        assert.deepInclude(yield* runner.nextFrame, { frame: closeDown(1000, "bye") })
        yield* runner.frame(key, close(1000, "bye"), 1)
        yield* unheard(before)
        // Only closed, never issued again.
        assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Open: 1, HalfClosed: 1 })
        yield* aftermath(before, runner, close(1000, "bye"))
      })
    )

    scenario("6: it ends a stream twice", (twin) =>
      Effect.gen(function* () {
        const before = yield* arranged(twin, version)
        const { runner, visitor } = before
        yield* runner.frame(key, close(1000), 1)
        yield* runner.frame(key, close(1006, "Abnormal Closure"), 0)
        yield* settle
        yield* runner.frame(key, close(1006, "Abnormal Closure"), 0)
        assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1000))
        yield* unheard(before)
        yield* aftermath(before, runner, close(1006))
      })
    )

    for (const [what, frame] of [
      ["message", message("crossing")],
      ["acknowledgement", ack(1)]
    ] as const) {
      if (!versionsOf(all, frame).includes(version)) continue
      scenario(`7: its ${what} crosses the visitor's close, or follows its own`, (twin) =>
        Effect.gen(function* () {
          const before = yield* arranged(twin, version)
          const { runner, visitor } = before
          yield* visitor.follow(socketId, closeDown(1001))
          yield* settle
          yield* runner.frame(key, frame, 1)
          yield* unheard(before)
          // Acknowledged and closed while offline: both arrive after the reconnect, both with index 0.
          yield* cut(before)
          const back = yield* connect({ version })
          yield* back.frame(key, frame, 0)
          yield* back.frame(key, close(1000), 0)
          yield* unheard(before)
          yield* aftermath(before, back, frame)
        })
      )
    }

    scenario("8: what it ran before speaks after it was started anew", (twin) =>
      Effect.gen(function* () {
        const before = yield* arranged(twin, version)
        const { runner, session, visitor } = before
        twin.start(actor, session, 1)
        yield* settle
        yield* visitor.pending
        yield* runner.frame(key, message("old"), 0)
        yield* runner.frame(key, close(1000), 0)
        yield* runner.frame(route(besideId), answer())
        yield* unheard(before)
        yield* visitor.open(actor, 3, request("/"))
        yield* runner.nextFrame
        yield* runner.frame(route(3), answer())
        assert.strictEqual((yield* visitor.frameOf(3))._tag, "ResponseStart")
      })
    )
  }
)

describe.each(hibernating)("version %i, with sockets that can hibernate: a runner of good faith", (version) => {
  scenario("1: goes on with them after a reconnect, with what it buffered and with what comes later", (twin) =>
    Effect.gen(function* () {
      const before = yield* arranged(twin, version, true)
      const { visitor } = before
      yield* cut(before)
      const back = yield* connect({ version })
      yield* back.frame(key, message("buffered"), 1)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(null, "", true))
      yield* visitor.wake(socketId, actor, 1, "hub")
      yield* back.frame(key, ack(0), 2)
      yield* back.frame(key, message("later"), 3)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "buffered")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), ack(0))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "later")
      yield* aftermath(before, back, message("x"))
    })
  )

  for (const end of [close(1000, "ws.meta_not_found_during_restore"), close(1011, "ws.restore_error")]) {
    scenario(`2: closes those that it could not restore, with ${end.reason}`, (twin) =>
      Effect.gen(function* () {
        const before = yield* arranged(twin, version, true)
        const { runner, session, visitor } = before
        twin.end(actor, true)
        assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(null, "", true))
        twin.start(actor, session, 1)
        yield* settle
        // Before a word was said about it on this connection.
        yield* runner.frame(key, end, 0)
        assert.deepStrictEqual(yield* visitor.frameOf(socketId), end)
        yield* visitor.open(actor, besideId, request("/"))
        yield* runner.nextFrame
        yield* aftermath(before, runner, end)
      })
    )
  }

  scenario("3: speaks from the handlers of those that it restores", (twin) =>
    Effect.gen(function* () {
      const before = yield* arranged(twin, version, true)
      const { runner, session, visitor } = before
      twin.end(actor, true)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(null, "", true))
      twin.start(actor, session, 1)
      yield* settle
      yield* visitor.pending
      yield* runner.frame(key, message("restored"), 0)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "restored")
      yield* visitor.open(actor, besideId, request("/"))
      yield* runner.nextFrame
      yield* aftermath(before, runner, message("x"))
    })
  )
})
