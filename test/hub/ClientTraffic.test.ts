/**
 * What real runners send on routes that look closed: the eight situations that made a check like ours unusable elsewhere, each on our own model.
 * In each of them the runner keeps its connection, the stream beside it gets its answer, and the same frame from a stranger goes nowhere.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { RouteStore } from "../../src/route/RouteStore.ts"
import { connect, type ScriptedRunner } from "../../src/testing/ScriptedRunner.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { gateway, gatewayId, get, hubAlone, settle } from "./HubHarness.ts"

const route = (requestId: number) => ({ gatewayId, requestId })
const upgrade: RequestFrame = { _tag: "WebSocketOpen", target: "/", headers: [["host", "web.localhost"]] }
const accepted: ResponseFrame = { _tag: "WebSocketOpen", headers: [], canHibernate: true }
const message: ResponseFrame = { _tag: "WebSocketMessage", data: new Uint8Array([7]), binary: true, finish: true }
const ack: ResponseFrame = { _tag: "WebSocketMessageAck", index: 1 }
const close = (code: number, reason = ""): ResponseFrame => ({ _tag: "WebSocketClose", code, reason, hibernate: false })
const answer: ResponseFrame = {
  _tag: "ResponseStart",
  status: 200,
  headers: [],
  body: new Uint8Array(0),
  streamed: false
}

const socketId = 1
const besideId = 2

/** A runner with an open WebSocket and, beside it, a request that waits for its answer; and a stranger. */
const arrange = Effect.gen(function* () {
  const visitor = yield* gateway
  const runner = yield* connect({ name: "web", session: 1 })
  const stranger = yield* connect({ name: "other", session: 2 })
  yield* visitor.open("web", socketId, upgrade)
  const hub = (yield* visitor.next).replyTo
  yield* visitor.open("web", besideId, get("/"))
  yield* visitor.next
  yield* runner.nextFrame
  yield* runner.nextFrame
  yield* runner.frames([{ route: route(socketId), index: 0, frame: accepted }])
  assert.strictEqual((yield* visitor.next).frame._tag, "WebSocketOpen")
  return { visitor, runner, stranger, hub }
})
type Arranged = Effect.Success<typeof arrange>

const say = (runner: ScriptedRunner, ...frames: ReadonlyArray<readonly [ResponseFrame, number]>) =>
  Effect.andThen(runner.frames(frames.map(([frame, index]) => ({ route: route(socketId), index, frame }))), settle)

/** Nothing of what was said reached the gateway. */
const unheard = ({ visitor }: Arranged) => Effect.map(visitor.pending, (all) => assert.deepStrictEqual(all, []))

/** The connection lives, the answer beside it arrives, and the stranger's word goes nowhere. */
const aftermath = Effect.fnUntraced(function* (
  { stranger, visitor }: Arranged,
  runner: ScriptedRunner,
  frame: ResponseFrame,
  beside: "Answered" | "Gone" = "Answered"
) {
  yield* stranger.frames([{ route: route(socketId), index: 1, frame }])
  yield* settle
  assert.deepStrictEqual(yield* visitor.pending, [])
  assert.isUndefined(stranger.socket.closedUnsafe())
  assert.isUndefined(runner.socket.closedUnsafe())
  if (beside === "Gone") yield* visitor.open("web", besideId + 1, get("/"))
  if (beside === "Gone") yield* visitor.next
  const requestId = beside === "Gone" ? besideId + 1 : besideId
  yield* runner.frames([{ route: route(requestId), index: 0, frame: answer }])
  const heard = yield* visitor.next
  assert.deepStrictEqual([heard.route.requestId, heard.frame._tag], [requestId, "ResponseStart"])
})

const cut = Effect.fnUntraced(function* (runner: ScriptedRunner) {
  runner.socket.terminateUnsafe()
  yield* Fiber.join(runner.accepted)
})

describe("a runner of good faith keeps its connection, its answers, and nobody else's", () => {
  it.effect(
    "1: it goes on with sockets that it had before a reconnect, with what it buffered and with what comes later",
    () =>
      Effect.gen(function* () {
        const arranged = yield* arrange
        yield* cut(arranged.runner)
        const back = yield* connect({ name: "web", session: 1, received: 1 })
        assert.strictEqual(back.welcome.outcome, "resumed")
        yield* say(back, [message, 1], [ack, 2])
        yield* say(back, [message, 3])
        const heard = yield* arranged.visitor.pending
        assert.deepStrictEqual(
          heard.map(({ frame, index }) => [frame._tag, index]),
          [
            ["WebSocketMessage", 1],
            ["WebSocketMessageAck", 2],
            ["WebSocketMessage", 3]
          ]
        )
        yield* aftermath(arranged, back, message)
      }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("2: it closes sockets that it could not restore, and this hub never opened", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      const { runner, visitor } = arranged
      for (const frame of [close(1000, "ws.meta_not_found_during_restore"), close(1011, "ws.restore_error")]) {
        yield* runner.frames([{ route: route(99), index: 0, frame }])
        const told = yield* runner.next
        assert.deepInclude(told, { _tag: "Reset", route: route(99), code: "unknown_route" })
      }
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* aftermath(arranged, runner, close(1000))
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("3: handlers of restored sockets send while the hub knows nothing of the session", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      // It forgot what it had received, so the hub begins the session anew and tells the gateway that the old streams are lost.
      yield* cut(arranged.runner)
      const back = yield* connect({ name: "web", session: 1, received: 77 })
      assert.strictEqual(back.welcome.outcome, "begun")
      yield* settle
      const lost = yield* arranged.visitor.pending
      assert.deepStrictEqual(
        lost.map(({ frame, route: { requestId } }) => [requestId, frame._tag]),
        [
          [socketId, "ResponseAbort"],
          [besideId, "ResponseAbort"]
        ]
      )
      yield* say(back, [message, 0], [message, 0])
      yield* unheard(arranged)
      yield* aftermath(arranged, back, message, "Gone")
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("4: it sends on a socket that nobody ever mentioned to it", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      yield* arranged.runner.frames([{ route: { gatewayId: 5, requestId: 5 }, index: 0, frame: message }])
      assert.deepInclude(yield* arranged.runner.next, { _tag: "Reset", code: "unknown_route" })
      yield* unheard(arranged)
      yield* aftermath(arranged, arranged.runner, message)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("5: it echoes the visitor's close", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      const { hub, runner, visitor } = arranged
      yield* visitor.follow(hub, socketId, { _tag: "WebSocketClose", code: 1000, reason: "bye" }, 1)
      assert.strictEqual((yield* runner.nextFrame).frame._tag, "WebSocketClose")
      yield* say(runner, [close(1000, "bye"), 1])
      yield* unheard(arranged)
      // Only closed, never issued again.
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Open: 1, HalfClosed: 1 })
      yield* aftermath(arranged, runner, close(1000, "bye"))
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("6: it ends a stream twice", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      yield* say(arranged.runner, [close(1000), 1], [close(1006), 0])
      yield* say(arranged.runner, [close(1006), 0])
      const heard = yield* arranged.visitor.pending
      assert.deepStrictEqual(
        heard.map(({ frame }) => frame),
        [close(1000)]
      )
      yield* aftermath(arranged, arranged.runner, close(1006))
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("7: its messages and acknowledgements cross the visitor's close, or follow its own", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      const { hub, runner, visitor } = arranged
      yield* visitor.follow(hub, socketId, { _tag: "WebSocketClose", code: 1001, reason: "" }, 1)
      yield* settle
      yield* say(runner, [message, 1], [ack, 2])
      yield* unheard(arranged)
      // Acknowledged and closed while offline: both arrive after the reconnect, both with index 0.
      yield* cut(runner)
      const back = yield* connect({ name: "web", session: 1, received: 1 })
      yield* say(back, [ack, 0], [close(1000), 0])
      yield* unheard(arranged)
      yield* aftermath(arranged, back, ack)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("8: what it ran before speaks after it was started anew", () =>
    Effect.gen(function* () {
      const arranged = yield* arrange
      yield* cut(arranged.runner)
      const anew = yield* connect({ name: "web", session: 1, received: 77 })
      yield* settle
      yield* arranged.visitor.pending
      yield* say(anew, [message, 0], [ack, 0], [close(1000), 0])
      yield* unheard(arranged)
      yield* aftermath(arranged, anew, close(1000), "Gone")
    }).pipe(Effect.provide(hubAlone()))
  )
})
