import { assert, describe } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { ActorError } from "../../../src/actor/ActorControl.ts"
import { BusError, MessageBus } from "../../../src/bus/MessageBus.ts"
import { Hub } from "../../../src/hub/Hub.ts"
import { RouteStore } from "../../../src/route/RouteStore.ts"
import { connect } from "../../../src/testing/ScriptedRivetRunner.ts"
import { connect as connectWayleave } from "../../../src/testing/ScriptedRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { changedBus } from "../../bus/ChangedBus.ts"
import { actorOf, startOf } from "./ControlTwin.ts"
import { actor, advance, answer, arrange, atRest, request, route, scenario, settle, upgrade } from "./RivetHarness.ts"

describe("a request by the name of Rivet runners", () => {
  scenario("goes to the actor that this name leads to", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      twin.autostarts.set("pool", actor)
      yield* visitor.openName("pool", 1, request("/"))
      const heard = yield* runner.nextFrame
      assert.strictEqual(heard.actorId, actor)
      yield* runner.frame(route(1), answer())
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      yield* atRest
    })
  )

  scenario("goes to that actor wherever it is: on another runner of another name too", (twin) =>
    Effect.gen(function* () {
      const { visitor } = yield* arrange(twin, 7)
      const other = yield* connect({ version: 3, name: "elsewhere" })
      yield* settle
      twin.host(actor, twin.sessionOf("elsewhere"))
      twin.autostarts.set("pool", actor)
      yield* visitor.openName("pool", 1, request("/"))
      assert.strictEqual((yield* other.nextFrame).actorId, actor)
    })
  )

  scenario("is refused where it leads to none", (twin) =>
    Effect.gen(function* () {
      const { visitor } = yield* arrange(twin, 7)
      yield* visitor.openName("pool", 1, request("/"))
      assert.deepInclude(yield* visitor.nextFrame, { _tag: "ResponseAbort", code: "no_runner" })
      assert.strictEqual((yield* Effect.flip(visitor.openName("nobody", 2, request("/"))))._tag, "BusError")
      yield* atRest
    })
  )

  scenario("beside one of wayleave.1 goes to either, each in its own way", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      twin.autostarts.set("pool", actor)
      const other = yield* connectWayleave({ name: "pool" })
      for (let i = 0; i < 4; i++) yield* visitor.openName("pool", i, request("/"))
      assert.strictEqual((yield* runner.nextFrame).actorId, actor)
      assert.strictEqual((yield* other.nextFrame).frame._tag, "RequestStart")
    })
  )
})

const refusals: ReadonlyArray<readonly [ActorError["reason"], string]> = [
  ["actor.not_found", "actor_not_found"],
  ["actor.destroyed_while_waiting_for_ready", "actor_not_found"],
  ["actor.invalid_request", "actor_not_found"],
  ["actor.duplicate_key", "actor_not_found"],
  ["guard.actor_ready_timeout", "actor_not_ready"],
  ["guard.actor_wake_retries_exceeded", "actor_not_ready"],
  ["guard.overloaded", "overloaded"]
]

describe("a request for an actor", () => {
  for (const [reason, code] of refusals) {
    scenario(`that cannot be had is refused: ${reason}`, (twin) =>
      Effect.gen(function* () {
        const { visitor } = yield* arrange(twin, 7)
        const held = twin.hold(actor)
        yield* visitor.open(actor, 1, request("/"))
        yield* Deferred.fail(held, new ActorError({ reason, message: "" }))
        const refused = yield* visitor.next
        assert.strictEqual(refused.session, "")
        assert.deepStrictEqual(refused.frame, { _tag: "ResponseAbort", code: code as never, message: reason })
        yield* atRest
      })
    )
  }

  scenario("whose runner is not at this hub is refused", (twin) =>
    Effect.gen(function* () {
      const { visitor } = yield* arrange(twin, 7)
      twin.host(actorOf(2), "f".repeat(32) as never)
      yield* visitor.open(actorOf(2), 1, request("/"))
      assert.deepInclude(yield* visitor.nextFrame, { _tag: "ResponseAbort", code: "actor_not_ready" })
    })
  )

  scenario("that is being started hears within a second that somebody has it, and then goes to its runner", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      const started = twin.hold(actor)
      yield* visitor.open(actor, 1, request("/"))
      yield* advance(limits.firstWordMs - 100, 100)
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* advance(100, 100)
      const word = yield* visitor.next
      assert.deepInclude(word, { session: "", index: 0, generation: 0 })
      assert.deepStrictEqual(word.frame, { _tag: "Credit", bytes: 0 })
      yield* advance(5_000)
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* Deferred.succeed(started, undefined)
      assert.deepInclude(yield* runner.nextFrame, { route: route(1), index: 0 })
      const credit = yield* visitor.next
      assert.notStrictEqual(credit.session, "")
      assert.strictEqual(credit.frame._tag, "Credit")
    })
  )

  scenario("that need not wait until its actor runs goes down right behind the start, and no sooner", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, 7)
      const other = actorOf(2)
      twin.host(other, session)
      const ready = twin.hold(other)
      yield* visitor.open(other, 1, request("/skips"), true)
      yield* visitor.open(other, 2, request("/waits"))
      assert.deepStrictEqual(yield* runner.pending, [])
      // Of another generation, which has ended: that one proves nothing.
      twin.port(session).command([startOf(other, 7)])
      yield* settle
      assert.lengthOf(yield* runner.pending, 1)
      twin.port(session).command([startOf(other)])
      yield* settle
      const [start, opened, ...more] = yield* runner.pending
      assert.deepInclude(start, { _tag: "Actor" })
      assert.deepInclude(opened, { _tag: "TunnelDown", route: route(1), actorId: other })
      assert.deepStrictEqual(more, [])
      yield* visitor.open(other, 3, request("/skips too"), true)
      assert.deepInclude(yield* runner.nextFrame, { route: route(3) })
      yield* Deferred.succeed(ready, undefined)
      assert.deepInclude(yield* runner.nextFrame, { route: route(2) })
    })
  )

  scenario("that need not wait, and whose start a broken connection may have swallowed, waits all the same", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, 7)
      const other = actorOf(2)
      twin.start(other, session)
      yield* settle
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      const ready = twin.hold(other)
      const back = yield* connect({ version: 7 })
      yield* visitor.open(other, 1, request("/skips"), true)
      assert.deepStrictEqual(yield* back.pending, [])
      yield* Deferred.succeed(ready, undefined)
      assert.deepInclude(yield* back.nextFrame, { route: route(1) })
    })
  )

  scenario("that is given up while its actor is being started reaches nobody, and leaves nothing", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      // So that the hub is known.
      yield* visitor.open(actor, 9, request("/"))
      yield* runner.nextFrame
      const started = twin.hold(actor)
      yield* visitor.open(actor, 1, request("/"))
      yield* visitor.open(actor, 2, upgrade)
      yield* visitor.follow(1, { _tag: "RequestAbort", code: "cancelled" })
      yield* visitor.follow(2, { _tag: "WebSocketClose", code: 1001, reason: "" })
      yield* settle
      yield* visitor.pending
      yield* Deferred.succeed(started, undefined)
      yield* advance(2 * limits.firstWordMs)
      assert.deepStrictEqual(yield* runner.pending, [])
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* runner.frame(route(9), answer())
      yield* atRest
    })
  )

  scenario("holds a place while it waits, of which there is a number; who gave up holds none", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      yield* visitor.open(actor, 0xffff_ffff, request("/"))
      yield* runner.nextFrame
      const started = twin.hold(actor)
      const bus = yield* MessageBus
      const open = (requestId: number) =>
        bus.publish(
          "wayleave.default.actors",
          [
            {
              _tag: "Downlink",
              replyTo: "wayleave.default.gateway.0a0b0c0d",
              name: "",
              actor,
              skipReadyWait: false,
              traceparent: "",
              route: route(requestId),
              index: 0,
              frame: request("/")
            }
          ],
          "one"
        )
      for (let i = 0; i < limits.actorOpensMax; i++) yield* open(i)
      yield* settle
      yield* visitor.pending
      yield* open(1_000_000)
      assert.deepInclude(yield* visitor.nextFrame, { _tag: "ResponseAbort", code: "overloaded" })
      yield* visitor.follow(0, { _tag: "RequestAbort", code: "cancelled" })
      yield* settle
      yield* open(1_000_001)
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* Deferred.succeed(started, undefined)
      yield* settle
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).openStreams, limits.actorOpensMax + 1)
    })
  )

  scenario("that comes twice is run once", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      yield* visitor.open(actor, 1, request("/once"))
      yield* visitor.open(actor, 1, request("/once"))
      yield* visitor.open(actor, 2, request("/next"))
      assert.deepInclude(yield* runner.nextFrame, { route: route(1) })
      assert.deepInclude(yield* runner.nextFrame, { route: route(2) })
    })
  )
})

/** A bus of which publishes to gateways fail while the test says so. */
const failingBus = (isFailing: () => boolean) =>
  changedBus(
    (real) => (subject, envelopes, delivery) =>
      Effect.suspend(() =>
        isFailing() && subject.includes(".gateway.")
          ? Effect.fail(new BusError({ subject, reason: "Full" }))
          : real(subject, envelopes, delivery)
      )
  )

describe("an answer that the bus does not take", () => {
  let failing = false
  const bus = failingBus(() => failing)
  scenario(
    "is tried again, and published once; its route ends after it was",
    (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* arrange(twin, 7)
        yield* visitor.open(actor, 1, request("/"))
        yield* runner.nextFrame
        yield* visitor.pending
        failing = true
        yield* runner.frame(route(1), answer())
        yield* settle
        assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Closing: 1, Closed: 0 })
        failing = false
        yield* advance(100, 10)
        assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
        yield* atRest
      }),
    { bus }
  )

  scenario(
    "breaks its stream on both sides once all attempts failed, and no other",
    (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* arrange(twin, 7, { pongs: true })
        yield* visitor.open(actor, 1, request("/"))
        yield* runner.nextFrame
        yield* visitor.pending
        failing = true
        yield* runner.frame(route(1), answer(new Uint8Array(1), true))
        yield* advance(1_000, 10)
        assert.deepInclude(yield* runner.nextFrame, {
          route: route(1),
          frame: { _tag: "RequestAbort", code: "cancelled" }
        })
        // What it still says must not come before the news of the end.
        yield* runner.frame(route(1), { _tag: "ResponseChunk", body: new Uint8Array(2), finish: true })
        yield* settle
        failing = false
        yield* advance(3_000)
        assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "publish_failed" })
        assert.isUndefined(runner.socket.closedUnsafe())
        yield* visitor.open(actor, 2, request("/"))
        yield* runner.nextFrame
        yield* runner.frame(route(2), answer())
        assert.strictEqual((yield* visitor.frameOf(2))._tag, "ResponseStart")
        yield* atRest
      }),
    { bus }
  )
})
