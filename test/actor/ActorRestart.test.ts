import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as ActorControl from "../../src/actor/ActorControl.ts"
import { ActorKv } from "../../src/actor/ActorKv.ts"
import { ActorStore, ActorStoreError, layerMemory, type StoreChanges } from "../../src/actor/ActorStore.ts"
import type { SessionId } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import {
  atOnce,
  pass,
  request,
  running,
  setAlarm,
  settle,
  stopped,
  stoppedWell,
  TestRunner,
  wantsSleep
} from "./ControlHarness.ts"

/**
 * A control plane that can be killed and begun again on the same store. What is killed writes nothing more, not even what it would on its way
 * out; `until` lets a write through or has the process die in it, before or after it lasts.
 */
const makeHouse = Effect.gen(function* () {
  const store = Context.get(yield* Layer.build(layerMemory), ActorStore)
  let scope: Scope.Closeable | undefined
  let dead = false
  const writes: Array<StoreChanges> = []
  const house = {
    store,
    writes,
    /** What to do about the next writes. */
    fate: (_: StoreChanges): "lasts" | "dies before" | "dies after" | "fails" => "lasts",
    begin: Effect.gen(function* () {
      const mine = yield* Scope.make()
      scope = mine
      dead = false
      let killed = false
      const mortal = ActorStore.of({
        load: store.load,
        gatherMs: 0,
        write: (changes) =>
          Effect.suspend(() => {
            if (killed || dead) return Effect.fail(new ActorStoreError({ cause: "killed" }))
            const fate = house.fate(changes)
            if (fate === "fails") return Effect.fail(new ActorStoreError({ cause: "full" }))
            if (fate === "dies before") {
              killed = true
              return Effect.never
            }
            writes.push(changes)
            return Effect.andThen(
              store.write(changes),
              Effect.suspend(() => {
                if (fate === "lasts") return Effect.void
                killed = true
                return Effect.never
              })
            )
          })
      })
      const layer = ActorControl.layer().pipe(Layer.provide(Layer.succeed(ActorStore, mortal)), Layer.provide(atOnce))
      const control = Context.get(yield* Layer.buildWithScope(layer, mine), ActorControl.ActorControl)
      yield* settle
      return control
    }),
    kill: Effect.suspend(() => {
      dead = true
      const ending = scope
      // The fibers end, and whatever they would still write does not.
      return ending === undefined ? Effect.void : Effect.asVoid(Effect.forkChild(Scope.close(ending, Exit.void)))
    })
  }
  return house
})

type Control = ActorControl.ActorControl["Service"]
const within = (control: Control) => Effect.provideService(ActorControl.ActorControl, control)

/** A runner that forgets its connection: the process at its other end is gone. */
const connectTo = (control: Control, runner: TestRunner) => within(control)(runner.connect())
const say =
  (control: Control, ...args: Parameters<TestRunner["say"]>) =>
  (runner: TestRunner) =>
    within(control)(runner.say(...args))

const create = (control: Control, changes: Parameters<typeof request>[0] = {}) =>
  Effect.tap(
    Effect.map(control.create(request(changes)), ({ actorId }) => actorId),
    () => settle
  )

describe("a control plane that was killed and begins again", () => {
  it.effect("knows the runner that comes back, what it hosts and in which generation, and orders nothing again", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      const session = yield* connectTo(control, runner)
      const actorId = yield* create(control, { key: "k", input: new Uint8Array([1]) })
      yield* say(control, actorId, 0, running)(runner)
      yield* say(control, actorId, 0, stopped)(runner)
      yield* say(control, actorId, 1, running)(runner)
      runner.take()
      yield* house.kill
      yield* pass(10_000)
      control = yield* house.begin
      assert.strictEqual(control.generationUnsafe(session, actorId), 1)
      assert.strictEqual((yield* control.find("counter", "k")).actorId, actorId)
      yield* pass(limits.runnerLostMs - 1)
      assert.strictEqual(yield* connectTo(control, runner), session)
      assert.isTrue(control.hostsUnsafe(session, actorId))
      yield* pass(limits.actorStartMs)
      assert.deepStrictEqual(runner.take(), [])
      yield* say(control, actorId, 1, wantsSleep)(runner)
      assert.deepStrictEqual(runner.take(), ["stop 1"])
    })
  )

  it.effect("gives runners that do not come back their time, and then their actors to others", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      const session = yield* connectTo(control, runner)
      const actorId = yield* create(control)
      yield* say(control, actorId, 0, running)(runner)
      yield* house.kill
      control = yield* house.begin
      const other = new TestRunner({ key: "two" })
      yield* connectTo(control, other)
      yield* pass(limits.runnerLostMs - 1)
      assert.deepStrictEqual(other.take(), [])
      yield* pass(1)
      assert.deepStrictEqual(other.take(), ["start 1"])
      assert.notStrictEqual(yield* connectTo(control, runner), session)
    })
  )

  it.effect("after longer than a runner waits alone, knows that it stopped its actors itself", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      const session = yield* connectTo(control, runner)
      const actorId = yield* create(control)
      yield* say(control, actorId, 0, running)(runner)
      runner.take()
      // It was connected for long, and that is known.
      yield* pass(600_000)
      yield* house.kill
      yield* pass(limits.runnerLostMs + limits.actorBeatMs + 1)
      control = yield* house.begin
      assert.notStrictEqual(yield* connectTo(control, runner), session)
      assert.deepStrictEqual(runner.take(), ["start 1"])
    })
  )

  it.effect("killed after a start was stored and before it left: that generation is not ordered again", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      house.fate = ({ created }) => (created.length > 0 ? "dies after" : "lasts")
      yield* Effect.forkChild(control.create(request({ key: "k" })))
      yield* settle
      assert.deepStrictEqual(runner.take(), [])
      house.fate = () => "lasts"
      yield* house.kill
      control = yield* house.begin
      yield* connectTo(control, runner)
      yield* pass(limits.actorResendMs)
      assert.include(runner.take(), "start 1")
    })
  )

  it.effect("killed before a start was stored: nothing had left, and nobody was told of the actor", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      house.fate = ({ created }) => (created.length > 0 ? "dies before" : "lasts")
      const creating = yield* Effect.forkChild(control.create(request({ key: "k" })))
      yield* settle
      assert.isUndefined(creating.pollUnsafe())
      yield* house.kill
      house.fate = () => "lasts"
      control = yield* house.begin
      yield* connectTo(control, runner)
      yield* pass(limits.actorStartMs)
      assert.deepStrictEqual(runner.take(), [])
      assert.deepStrictEqual(yield* control.list({ limit: 9 }), [])
    })
  )

  it.effect("a start that had arrived is heard of again from the runner, and goes on", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      const session = yield* connectTo(control, runner)
      const actorId = yield* create(control)
      const unheard = runner.events(actorId, 0, running)
      runner.take()
      yield* house.kill
      control = yield* house.begin
      yield* connectTo(control, runner)
      yield* within(control)(runner.sayAgain(unheard))
      yield* pass(limits.actorStartMs)
      assert.deepStrictEqual(runner.take(), [])
      assert.strictEqual(control.generationUnsafe(session, actorId), 0)
    })
  )

  it.effect("an event that was not stored was not acknowledged", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      const actorId = yield* create(control)
      yield* say(control, actorId, 0, running)(runner)
      house.fate = () => "dies before"
      const unheard = runner.events(actorId, 0, setAlarm(50_000), wantsSleep)
      const heard = yield* Effect.forkChild(within(control)(runner.sayAgain(unheard)))
      yield* pass(limits.actorCommitMs)
      assert.deepStrictEqual(yield* Fiber.join(heard), [])
      runner.take()
      yield* house.kill
      house.fate = () => "lasts"
      control = yield* house.begin
      yield* connectTo(control, runner)
      yield* within(control)(runner.sayAgain(unheard))
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* say(control, actorId, 0, stopped)(runner)
      yield* pass(50_000)
      assert.deepStrictEqual(runner.take(), ["start 1"])
    })
  )

  it.effect("owes the same stops, to the actors that are there and to those that should not be", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      const actorId = yield* create(control)
      yield* say(control, actorId, 0, running)(runner)
      yield* say(control, "left over", 4, running)(runner)
      yield* control.destroy(actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["start 0", "stop 4", "stop 0"])
      yield* house.kill
      control = yield* house.begin
      yield* connectTo(control, runner)
      assert.deepStrictEqual(runner.take(), ["stop 4", "stop 0"])
      yield* say(control, actorId, 0, stopped)(runner)
      assert.isNotNull((yield* control.get(actorId)).destroyedAtMs)
    })
  )

  it.effect("keeps times: alarms, waits after crashes, and the order of those that wait", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      const runner = new TestRunner({ totalSlots: 2 })
      yield* connectTo(control, runner)
      const sleeper = yield* create(control)
      yield* say(control, sleeper, 0, running, setAlarm(20_000), wantsSleep, stopped)(runner)
      const crasher = yield* create(control)
      yield* say(control, crasher, 0, running, stopped)(runner)
      yield* say(control, crasher, 1, running, stopped)(runner)
      assert.strictEqual((yield* control.get(crasher)).rescheduleAtMs, 2_000)
      const blockers = [yield* create(control), yield* create(control)]
      for (const blocker of blockers) yield* say(control, blocker, 0, running)(runner)
      yield* pass(1_000)
      const second = yield* create(control)
      yield* pass(1_000)
      yield* house.kill
      runner.take()
      control = yield* house.begin
      yield* connectTo(control, runner)
      yield* pass(0)
      yield* control.destroy(blockers[0] as string)
      yield* say(control, blockers[0] as string, 0, stoppedWell)(runner)
      yield* pass(20_000)
      const order = runner
        .takeCommands()
        .flatMap(({ checkpoint, command }) => (command._tag === "StartActor" ? [checkpoint.actorId] : []))
      assert.deepStrictEqual(order.slice(0, 1), [second])
      yield* say(control, second, 0, running, stoppedWell)(runner)
      yield* say(control, crasher, 2, running, stoppedWell)(runner)
      const rest = runner.takeCommands().map(({ checkpoint }) => [checkpoint.actorId, checkpoint.generation])
      assert.deepStrictEqual(rest, [
        [crasher, 2],
        [sleeper, 1]
      ])
    })
  )

  it.effect("with a clock that was put back, waits no longer than anybody ever waits", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      yield* TestClock.setTime(Date.UTC(2030, 0))
      let control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      const actorId = yield* create(control)
      yield* say(control, actorId, 0, running)(runner)
      yield* control.destroy(actorId)
      yield* house.kill
      yield* TestClock.setTime(Date.UTC(2020, 0))
      control = yield* house.begin
      yield* connectTo(control, runner)
      yield* pass(limits.actorStopMs)
      assert.isNotNull((yield* control.get(actorId)).destroyedAtMs)
    })
  )

  it.effect("lists what it listed, in the same order, the destroyed too", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      let control = yield* house.begin
      yield* connectTo(control, new TestRunner({ actorNames: new Map([["announced", "{}"]]) }))
      const ids: Array<string> = []
      for (let i = 0; i < 4; i++) ids.push(yield* create(control, { runnerName: "nobody", key: `${i}` }))
      yield* control.destroy(ids[2] as string)
      yield* control.destroy(ids[0] as string)
      const before = yield* control.list({ limit: 9, includeDestroyed: true })
      yield* house.kill
      control = yield* house.begin
      assert.deepStrictEqual(yield* control.list({ limit: 9, includeDestroyed: true }), before)
      assert.deepStrictEqual([...(yield* control.names).keys()], ["announced", "counter"])
      assert.isTrue((yield* control.getOrCreate({ ...request({ runnerName: "nobody" }), key: "0" })).created)
      assert.isFalse((yield* control.getOrCreate({ ...request({ runnerName: "nobody" }), key: "1" })).created)
    })
  )

  it.effect("on a store that forgets, nobody is who they were", () =>
    Effect.gen(function* () {
      const once = Effect.gen(function* () {
        const scope = yield* Scope.make()
        const layer = ActorControl.layer().pipe(Layer.provide(layerMemory), Layer.provide(atOnce))
        const control = Context.get(yield* Layer.buildWithScope(layer, scope), ActorControl.ActorControl)
        const session = yield* connectTo(control, new TestRunner())
        yield* Scope.close(scope, Exit.void)
        return session
      })
      assert.notStrictEqual(yield* once, yield* once)
    })
  )

  it.effect("ended in the ordinary way, it has stored whatever it knew", () =>
    Effect.gen(function* () {
      const store = Context.get(yield* Layer.build(layerMemory), ActorStore)
      const turns: Array<() => void> = []
      const scope = yield* Scope.make()
      const held = yield* Layer.buildWithScope(
        ActorControl.layer().pipe(Layer.provide(Layer.succeed(ActorStore, store))),
        scope
      )
      yield* Effect.forkChild(Context.get(held, ActorControl.ActorControl).create(request()))
      yield* Effect.yieldNow
      turns.length = 0
      yield* Scope.close(scope, Exit.void)
      assert.strictEqual((yield* store.load).actors.length, 1)
    })
  )
})

describe("a store that fails", () => {
  it.effect("holds back every command, and lets them go when it works again", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      const control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      house.fate = () => "fails"
      const creating = yield* Effect.forkChild(Effect.flip(control.create(request({ key: "k" }))))
      yield* pass(limits.actorCommitMs)
      assert.strictEqual((yield* Fiber.join(creating)).reason, "guard.overloaded")
      assert.deepStrictEqual(runner.take(), [])
      house.fate = () => "lasts"
      yield* pass(limits.actorStoreRetryMs)
      assert.deepStrictEqual(runner.take(), ["start 0"])
      const counted = yield* Metric.snapshot
      const failures = counted.find(({ id }) => id === "wayleave_actor_store_failures_total")
      assert.isDefined(failures)
    })
  )
})

describe("what is stored", () => {
  it.effect("of one turn is stored together, whatever happened in it", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      const control = yield* house.begin
      const runner = new TestRunner({ totalSlots: 100 })
      const session = (yield* connectTo(control, runner)) as SessionId
      house.writes.length = 0
      yield* Effect.forEach(
        Array.from({ length: 100 }, (_, at) => at),
        () => control.create(request()),
        { concurrency: "unbounded" }
      )
      yield* settle
      assert.isAtMost(house.writes.length, 2)
      house.writes.length = 0
      const started = runner.takeCommands()
      assert.strictEqual(started.length, 100)
      yield* control.heard(
        session,
        started.map(({ checkpoint }) => ({ checkpoint, event: running }))
      )
      yield* settle
      assert.strictEqual(house.writes.length, 1)
      assert.strictEqual(house.writes[0]?.lives.length, 100)
    })
  )

  it.effect("what was heard before is acknowledged without a write", () =>
    Effect.gen(function* () {
      const house = yield* makeHouse
      const control = yield* house.begin
      const runner = new TestRunner()
      yield* connectTo(control, runner)
      const actorId = yield* create(control)
      const events = runner.events(actorId, 0, running, setAlarm(5))
      yield* within(control)(runner.sayAgain(events))
      house.writes.length = 0
      assert.strictEqual((yield* within(control)(runner.sayAgain(events))).length, 1)
      assert.deepStrictEqual(house.writes, [])
    })
  )

  it.effect("with a store that takes its time changes are gathered in between", () =>
    Effect.gen(function* () {
      const store = Context.get(yield* Layer.build(layerMemory), ActorStore)
      let writes = 0
      const slow = ActorStore.of({
        load: store.load,
        gatherMs: 10,
        write: (changes) =>
          Effect.andThen(
            Effect.sync(() => void writes++),
            store.write(changes)
          )
      })
      yield* Effect.gen(function* () {
        const control = yield* ActorControl.ActorControl
        for (let i = 0; i < 5; i++) {
          yield* Effect.forkChild(control.create(request()))
          yield* settle
        }
        assert.strictEqual(writes, 1)
        yield* pass(10)
        assert.strictEqual(writes, 2)
        yield* pass(10)
        assert.strictEqual(writes, 2)
        assert.strictEqual((yield* store.load).actors.length, 5)
      }).pipe(
        Effect.provide(ActorControl.layer().pipe(Layer.provide(Layer.succeed(ActorStore, slow)), Layer.provide(atOnce)))
      )
    })
  )

  it.effect("the store of a destroyed actor is dropped before the actor is forgotten", () =>
    Effect.gen(function* () {
      const store = Context.get(yield* Layer.build(layerMemory), ActorStore)
      const dropped: Array<readonly [string, number]> = []
      const kv = ActorKv.of({
        ask: (actorId, asked) =>
          Effect.map(Effect.orDie(store.load), ({ actors }) => {
            assert.strictEqual(asked._tag, "Drop")
            dropped.push([actorId, actors.length])
            return { _tag: "Dropped" as const }
          })
      })
      yield* Effect.gen(function* () {
        const control = yield* ActorControl.ActorControl
        const actorId = yield* create(control)
        yield* control.destroy(actorId)
        yield* pass(limits.actorDestroyedMs - 1)
        assert.deepStrictEqual(dropped, [])
        yield* pass(1)
        assert.deepStrictEqual(dropped, [[actorId, 1]])
        assert.deepStrictEqual((yield* store.load).actors, [])
      }).pipe(
        Effect.provide(
          ActorControl.layer().pipe(
            Layer.provide([Layer.succeed(ActorStore, store), Layer.succeed(ActorKv, kv)]),
            Layer.provide(atOnce)
          )
        )
      )
    })
  )
})
