/** Rivet's runners at a hub with the control plane as it is, from a visitor's first word to an actor's last. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, type Scope } from "effect"
import { ActorControl } from "../../../src/actor/ActorControl.ts"
import { type ActorKv, layerMemory as kvMemory } from "../../../src/actor/ActorKv.ts"
import { layerOpen } from "../../../src/auth/Authenticator.ts"
import { layerMemory as busMemory, type MessageBus } from "../../../src/bus/MessageBus.ts"
import { Hub, layer as hubLayer } from "../../../src/hub/Hub.ts"
import { type RouteStore, layerMemory as routesMemory } from "../../../src/route/RouteStore.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { controlOn } from "../../actor/ControlHarness.ts"
import { type PlayedRunner, play } from "./PlayedRunner.ts"
import {
  accept,
  advance,
  answer,
  asText,
  atRest,
  bytesOf,
  close,
  key,
  message,
  request,
  rivetGateway,
  route,
  settle,
  socketId,
  upgrade
} from "./RivetHarness.ts"

type Reached = Hub | MessageBus | RouteStore | ActorControl | ActorKv | Scope.Scope

const layer = hubLayer().pipe(
  Layer.provideMerge(Layer.mergeAll(busMemory, routesMemory, layerOpen, controlOn(), kvMemory))
)
const test = (name: string, body: Effect.Effect<void, unknown, Reached>) =>
  it.effect(name, () => body.pipe(Effect.provide(layer)))

const asleep = close(null, "", true)

/** A runner, a visitor whose first request by name has made its actor, and that request answered. */
const arrange = Effect.fnUntraced(function* (version: number) {
  const visitor = yield* rivetGateway
  const runner = yield* play({ version })
  yield* visitor.openName("pool", 1_000, request("/first"))
  const { actorId } = yield* runner.nextFrame
  yield* runner.wire.frame(route(1_000), answer())
  yield* visitor.frameOf(1_000)
  yield* settle
  return { visitor, runner, actorId }
})
type Arranged = Effect.Success<ReturnType<typeof arrange>>

/** A WebSocket that can hibernate. */
const openSocket = Effect.fnUntraced(function* ({ actorId, runner, visitor }: Arranged) {
  yield* visitor.open(actorId, socketId, upgrade)
  assert.strictEqual((yield* runner.nextFrame).frame._tag, "WebSocketOpen")
  yield* runner.wire.frame(key, accept(true))
  yield* visitor.frameOf(socketId)
})

const answered = Effect.fnUntraced(function* (visitor: Arranged["visitor"], runner: PlayedRunner, requestId: number) {
  assert.deepStrictEqual((yield* runner.nextFrame).route, route(requestId))
  yield* runner.wire.frame(route(requestId), answer(bytesOf(requestId)))
  const head = yield* visitor.frameOf(requestId)
  assert.strictEqual((yield* visitor.body(requestId, head)).length, requestId)
})

const generations = ({ started }: PlayedRunner) => started.map(({ generation }) => generation)

describe.each([2, 3, 4, 7])("version %i", (version) => {
  test(
    "is visited by its name: one actor is started for it, once",
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(version)
      for (let i = 1; i <= 3; i++) {
        yield* visitor.openName("pool", i, request("/"))
        yield* answered(visitor, runner, i)
      }
      assert.deepStrictEqual(generations(runner), [0])
      yield* atRest
    })
  )

  test(
    "keeps its actor over a reconnect: no second start, and what came meanwhile is answered",
    Effect.gen(function* () {
      const { actorId, runner, visitor } = yield* arrange(version)
      yield* visitor.open(actorId, 1, request("/before"))
      assert.deepStrictEqual((yield* runner.nextFrame).route, route(1))
      yield* runner.cut()
      yield* visitor.open(actorId, 2, request("/meanwhile"))
      yield* runner.dial()
      yield* runner.wire.frame(route(1), answer())
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      yield* answered(visitor, runner, 2)
      yield* visitor.open(actorId, 3, request("/after"))
      yield* answered(visitor, runner, 3)
      yield* advance(30_000)
      assert.deepStrictEqual(generations(runner), [0])
    })
  )

  test(
    "that lost its actor while it was away is asked, and has it started anew",
    Effect.gen(function* () {
      const { actorId, runner, visitor } = yield* arrange(version)
      yield* runner.cut()
      runner.hosted.clear()
      yield* runner.dial()
      yield* visitor.open(actorId, 1, request("/"))
      yield* advance(15_000, 100)
      yield* answered(visitor, runner, 1)
      assert.deepStrictEqual(generations(runner), [0, 1])
    })
  )

  test(
    "leaves in order: its actors stop, and the next one of its key is another",
    Effect.gen(function* () {
      const { actorId, runner, visitor } = yield* arrange(version)
      const { runnerId } = runner.wire.welcome
      yield* runner.wire.say({ _tag: "Stopping" })
      yield* settle
      assert.deepStrictEqual(runner.stopped, [actorId])
      runner.wire.socket.closeUnsafe(1000, "pegboard.runner_shutdown")
      yield* settle
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
      const next = yield* play({ version })
      assert.notStrictEqual(next.wire.welcome.runnerId, runnerId)
      yield* visitor.open(actorId, 1, request("/"))
      yield* advance(3_000, 100)
      yield* answered(visitor, next, 1)
      assert.deepStrictEqual(generations(next), [1])
    })
  )
})

describe.each([3, 7])("version %i: a WebSocket that can hibernate", (version) => {
  test(
    "sleeps with its actor, and a message of its visitor wakes both",
    Effect.gen(function* () {
      const arranged = yield* arrange(version)
      const { actorId, runner, visitor } = arranged
      yield* openSocket(arranged)
      runner.report(actorId, { _tag: "WantsSleep" })
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      assert.deepStrictEqual(runner.stopped, [actorId])
      yield* atRest
      yield* visitor.wake(socketId, actorId, 1)
      const credit = yield* visitor.creditOf(socketId)
      assert.strictEqual(credit, limits.windowBytesInitial)
      assert.deepStrictEqual(runner.started.at(-1), { actorId, generation: 1, hibernating: [key] })
      yield* visitor.wake(socketId, actorId, 1, "hub")
      yield* visitor.follow(socketId, message("good morning"))
      assert.deepStrictEqual([asText((yield* runner.nextFrame).frame)], ["good morning"])
      yield* runner.wire.frame(key, message("hello"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "hello")
    })
  )

  test(
    "goes to another runner when its own is lost, and the actor is told of it there",
    Effect.gen(function* () {
      const arranged = yield* arrange(version)
      const { actorId, runner, visitor } = arranged
      yield* openSocket(arranged)
      const other = yield* play({ version, key: "other" })
      yield* runner.cut()
      yield* advance(limits.runnerLostMs - 1_000)
      assert.deepStrictEqual(other.started, [])
      yield* advance(5_000)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      assert.deepStrictEqual(other.started, [{ actorId, generation: 1, hibernating: [key] }])
      assert.strictEqual(yield* visitor.creditOf(socketId), limits.windowBytesInitial)
      yield* visitor.wake(socketId, actorId, 1, "hub")
      yield* visitor.follow(socketId, message("still there?"))
      assert.strictEqual(asText((yield* other.nextFrame).frame), "still there?")
    })
  )

  test(
    "is closed where its actor is destroyed",
    Effect.gen(function* () {
      const arranged = yield* arrange(version)
      const { actorId, visitor } = arranged
      yield* openSocket(arranged)
      yield* ActorControl.use((control) => control.destroy(actorId))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1000, "actor.stopped"))
      yield* atRest
    })
  )
})
