import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Metric } from "effect"
import { TestClock } from "effect/testing"
import { ActorControl, type ActorControlOptions } from "../../src/actor/ActorControl.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import {
  controlOn,
  controlOnHeldTurns,
  request,
  running,
  setAlarm,
  settle,
  stopped,
  stoppedWell,
  TestRunner,
  wantsSleep,
  wantsStop
} from "./ControlHarness.ts"

const on = (options: ActorControlOptions = {}) => Effect.provide(controlOn(options))
const stateOf = (actorId: string) =>
  Effect.map(
    ActorControl.use((control) => control.get(actorId)),
    (view) => {
      if (view.destroyedAtMs !== null) return "destroyed"
      if (view.sleptAtMs !== null) return "sleeping"
      if (view.rescheduleAtMs !== null) return "backing off"
      if (view.pendingAllocationAtMs !== null) return "pending"
      return view.connectableAtMs !== null ? "running" : "starting or stopping"
    }
  )
const ready = (actorId: string) => ActorControl.use((control) => control.place(actorId, { wait: true }))
const reasonOf = <A, E extends { readonly reason: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.map(Effect.flip(effect), ({ reason }) => reason)

/** An actor that runs on a runner of its own. */
const oneRunning = (changes: Parameters<typeof request>[0] = {}, runner = new TestRunner()) =>
  Effect.gen(function* () {
    const control = yield* ActorControl
    yield* runner.connect()
    const { actorId } = yield* control.create(request(changes))
    yield* settle
    assert.deepStrictEqual(runner.take(), ["start 0"])
    yield* runner.say(actorId, 0, running)
    assert.strictEqual(yield* stateOf(actorId), "running")
    return { actorId, control, runner }
  })

describe("creating", () => {
  it.effect("an actor waits without a runner, which is no error, and starts when one comes", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const { actorId, pendingAllocationAtMs } = yield* control.create(
        request({ input: new Uint8Array([7]), key: "k" })
      )
      assert.strictEqual(pendingAllocationAtMs, 0)
      yield* TestClock.adjust("5 seconds")
      const runner = new TestRunner()
      yield* runner.connect()
      assert.deepStrictEqual(runner.takeCommands(), [
        {
          checkpoint: { actorId, generation: 0, index: 0n },
          command: {
            _tag: "StartActor",
            config: { name: "counter", key: "k", createdAtMs: 5_000n, input: new Uint8Array([7]) },
            hibernating: []
          }
        }
      ])
      yield* runner.say(actorId, 0, running)
      assert.deepInclude(yield* control.get(actorId), {
        createdAtMs: 0,
        startedAtMs: 5_000,
        connectableAtMs: 5_000,
        pendingAllocationAtMs: null
      })
    }).pipe(on())
  )

  it.effect("name and key belong to one living actor", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const first = yield* control.create(request({ key: "a" }))
      assert.strictEqual(yield* reasonOf(control.create(request({ key: "a" }))), "actor.duplicate_key")
      assert.deepInclude(yield* control.getOrCreate({ ...request(), key: "a" }), { created: false })
      assert.strictEqual((yield* control.find("counter", "a")).actorId, first.actorId)
      const other = yield* control.getOrCreate({ ...request(), key: "b" })
      assert.isTrue(other.created)
      yield* control.create(request({ name: "another", key: "a" }))
      yield* control.destroy(first.actorId)
      assert.strictEqual(yield* reasonOf(control.find("counter", "a")), "actor.not_found")
      assert.notStrictEqual((yield* control.create(request({ key: "a" }))).actorId, first.actorId)
    }).pipe(on())
  )

  it.effect("two names and keys that read alike are two", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      yield* control.create(request({ name: "a", key: "b:c" }))
      yield* control.create(request({ name: "a:b", key: "c" }))
      yield* control.create(request({ name: "ab", key: ":c" }))
    }).pipe(on())
  )

  it.effect("what is too long or empty is refused", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const invalid = (changes: Parameters<typeof request>[0]) => reasonOf(control.create(request(changes)))
      for (const changes of [
        { name: "" },
        { runnerName: "" },
        { name: "n".repeat(limits.actorNameBytesMax + 1) },
        { runnerName: "é".repeat(limits.actorNameBytesMax / 2 + 1) },
        { key: "k".repeat(limits.actorKeyBytesMax + 1) },
        { input: new Uint8Array(limits.actorInputBytesMax + 1) }
      ]) {
        assert.strictEqual(yield* invalid(changes), "actor.invalid_request")
      }
      yield* control.create(
        request({
          name: "n".repeat(limits.actorNameBytesMax),
          key: "k".repeat(limits.actorKeyBytesMax),
          input: new Uint8Array(limits.actorInputBytesMax)
        })
      )
    }).pipe(on())
  )

  it.effect("there are as many actors as may be; the destroyed make room first, the oldest before the others", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const ids: Array<string> = []
      for (let i = 0; i < 3; i++) ids.push((yield* control.create(request())).actorId)
      assert.strictEqual(yield* reasonOf(control.create(request())), "guard.overloaded")
      yield* control.destroy(ids[1] as string)
      yield* control.destroy(ids[0] as string)
      const fourth = yield* control.create(request())
      assert.strictEqual(yield* reasonOf(control.get(ids[1] as string)), "actor.not_found")
      assert.strictEqual(yield* stateOf(ids[0] as string), "destroyed")
      assert.deepStrictEqual(
        (yield* control.list({ limit: 10 })).map(({ actorId }) => actorId),
        [ids[2], fourth.actorId]
      )
    }).pipe(on({ actorsMax: 3 }))
  )

  it.effect("the destroyed are remembered for their time and in their number", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const ids: Array<string> = []
      for (let i = 0; i < 4; i++) {
        ids.push((yield* control.create(request())).actorId)
        yield* control.destroy(ids[i] as string)
        yield* TestClock.adjust("1 second")
      }
      const remembered = Effect.map(control.list({ limit: 10, includeDestroyed: true }), (all) =>
        all.map(({ actorId }) => actorId)
      )
      assert.deepStrictEqual(yield* remembered, ids.slice(1))
      assert.strictEqual(yield* reasonOf(control.destroy(ids[1] as string)), "actor.not_found")
      yield* TestClock.adjust(limits.actorDestroyedMs - 3_000)
      assert.deepStrictEqual(yield* remembered, ids.slice(2))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* remembered, [])
    }).pipe(on({ actorsDestroyedMax: 3 }))
  )

  it.effect(
    "actors are listed in the order of their creation, page by page, and their names with what runners announced",
    () =>
      Effect.gen(function* () {
        const control = yield* ActorControl
        const ids: Array<string> = []
        for (const name of ["a", "b", "a", "a"]) ids.push((yield* control.create(request({ name }))).actorId)
        const page = (cursor?: string) =>
          Effect.map(control.list({ name: "a", limit: 2, ...(cursor === undefined ? {} : { cursor }) }), (all) =>
            all.map(({ actorId }) => actorId)
          )
        assert.deepStrictEqual(yield* page(), [ids[0], ids[2]])
        assert.deepStrictEqual(yield* page(ids[2]), [ids[3]])
        assert.deepStrictEqual(yield* page("unknown"), [])
        yield* new TestRunner({ actorNames: new Map([["c", '{"icon":1}']]) }).connect()
        assert.deepStrictEqual(Object.fromEntries(yield* control.names), { a: "{}", b: "{}", c: '{"icon":1}' })
      }).pipe(on())
  )
})

it.effect("names that runners announce are remembered up to a number", () =>
  Effect.gen(function* () {
    const control = yield* ActorControl
    yield* new TestRunner({
      actorNames: new Map([
        ["a", "1"],
        ["b", "2"],
        ["c", "3"]
      ])
    }).connect()
    yield* new TestRunner({
      key: "two",
      actorNames: new Map([
        ["a", "4"],
        ["d", "5"]
      ])
    }).connect()
    assert.deepStrictEqual(Object.fromEntries(yield* control.names), { a: "4", b: "2" })
  }).pipe(on({ actorNamesMax: 2 }))
)

describe("placement", () => {
  it.effect(
    "the highest version is first, among equals the one with most free slots, and nobody beyond its slots",
    () =>
      Effect.gen(function* () {
        const control = yield* ActorControl
        const old = new TestRunner({ key: "old", version: 1, totalSlots: 2 ** 32 - 1 })
        const small = new TestRunner({ key: "small", version: 2, totalSlots: 1 })
        const large = new TestRunner({ key: "large", version: 2, totalSlots: 2 })
        const none = new TestRunner({ key: "none", version: 3, totalSlots: 0 })
        const stranger = new TestRunner({ name: "other", version: 9 })
        for (const runner of [old, small, large, none, stranger]) yield* runner.connect()
        const where: Array<string> = []
        for (let i = 0; i < 5; i++) {
          yield* control.create(request())
          yield* settle
          for (const runner of [old, small, large, none, stranger]) {
            where.push(...runner.take().map(() => runner.introduction.key))
          }
        }
        // Two slots, then as many as the other, then the rest.
        assert.deepStrictEqual(where.slice(0, 1), ["large"])
        assert.deepStrictEqual(where.slice(1, 3).sort(), ["large", "small"])
        assert.deepStrictEqual(where.slice(3), ["old", "old"])
        const left = new Map((yield* control.runners).map(({ key, remainingSlots }) => [key, remainingSlots]))
        assert.strictEqual(left.get("old"), 2 ** 32 - 3)
        assert.strictEqual(left.get("large"), 0)
      }).pipe(on())
  )

  it.effect("who waits is placed in the order of arrival, when a slot frees", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner({ totalSlots: 1 })
      yield* runner.connect()
      const ids: Array<string> = []
      for (let i = 0; i < 4; i++) ids.push((yield* control.create(request())).actorId)
      yield* settle
      yield* control.destroy(ids[1] as string)
      for (const id of [ids[0], ids[2], ids[3]] as Array<string>) {
        assert.deepStrictEqual(
          runner.takeCommands().map(({ checkpoint }) => checkpoint.actorId),
          [id]
        )
        yield* runner.say(id, 0, running, wantsStop)
        assert.deepStrictEqual(runner.take(), ["stop 0"])
        yield* runner.say(id, 0, stoppedWell)
      }
    }).pipe(on())
  )

  it.effect("an actor that is moved goes elsewhere if there is elsewhere, and back if there is not", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning()
      const move = Effect.gen(function* () {
        yield* control.reschedule(actorId)
        yield* settle
      })
      yield* move
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* runner.say(actorId, 0, stopped)
      assert.deepStrictEqual(runner.take(), ["start 1"])
      yield* runner.say(actorId, 1, running)
      const other = new TestRunner({ key: "two", version: 0 })
      yield* other.connect()
      yield* move
      assert.deepStrictEqual(other.take(), [])
      yield* runner.say(actorId, 1, stopped)
      assert.deepStrictEqual(other.take(), ["start 2"])
      assert.deepStrictEqual(runner.take(), ["stop 1"])
      assert.deepStrictEqual(runner.endings, [
        { generation: 0, hibernates: true },
        { generation: 1, hibernates: true }
      ])
    }).pipe(on())
  )
})

describe("the life of an actor", () => {
  it.effect("it sleeps when it wishes to, wakes for a visitor, and its WebSockets are kept meanwhile", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning()
      yield* runner.say(actorId, 0, wantsSleep, wantsSleep)
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      assert.isTrue(control.hostsUnsafe(runner.session as never, actorId))
      yield* runner.say(actorId, 0, stopped)
      assert.strictEqual(yield* stateOf(actorId), "sleeping")
      assert.deepStrictEqual(runner.endings, [{ generation: 0, hibernates: true }])
      assert.isFalse(control.hostsUnsafe(runner.session as never, actorId))
      const visitor = yield* Effect.forkChild(ready(actorId))
      yield* settle
      assert.deepStrictEqual(runner.take(), ["start 1"])
      yield* runner.say(actorId, 1, running)
      assert.deepStrictEqual(yield* Fiber.join(visitor), { actorId, generation: 1, runner: runner.session as never })
    }).pipe(on())
  )

  it.effect("a wish to stop destroys it, and closes its WebSockets", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning({ key: "k" })
      yield* runner.say(actorId, 0, wantsStop)
      yield* runner.say(actorId, 0, stoppedWell)
      assert.strictEqual(yield* stateOf(actorId), "destroyed")
      assert.deepStrictEqual(runner.endings, [{ generation: 0, hibernates: false }])
      assert.isNull(control.hostsUnsafe(runner.session as never, actorId))
    }).pipe(on())
  )

  it.effect("before version 7 OK means nothing: a start that failed is a crash, a wish to stop is kept", () =>
    Effect.gen(function* () {
      const old = new TestRunner({ protocolVersion: 6 })
      const { actorId, runner } = yield* oneRunning({}, old)
      yield* runner.say(actorId, 0, stoppedWell)
      assert.deepStrictEqual(runner.take(), ["start 1"])
      yield* runner.say(actorId, 1, running, wantsStop)
      yield* runner.say(actorId, 1, stoppedWell)
      assert.strictEqual(yield* stateOf(actorId), "destroyed")
    }).pipe(on())
  )

  it.effect("from version 7 OK without a wish means done, and an error after a wish means it failed", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning()
      yield* runner.say(actorId, 0, wantsStop)
      runner.take()
      yield* runner.say(actorId, 0, stopped)
      assert.deepStrictEqual(runner.take(), ["start 1"])
      yield* runner.say(actorId, 1, running, stoppedWell)
      assert.strictEqual(yield* stateOf(actorId), "destroyed")
      assert.strictEqual(yield* reasonOf(control.place(actorId, { wait: true })), "actor.not_found")
    }).pipe(on())
  )

  it.effect("what crashes is started again at once, then after waits that double", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneRunning()
      for (const [generation, waitMs] of [0, 2_000, 4_000, 8_000].entries()) {
        if (generation > 0) yield* runner.say(actorId, generation, running)
        yield* runner.say(actorId, generation, stopped)
        if (waitMs > 0) {
          assert.strictEqual(yield* stateOf(actorId), "backing off")
          yield* TestClock.adjust(waitMs - 1)
          assert.deepStrictEqual(runner.take(), [])
          yield* TestClock.adjust(1)
        }
        yield* settle
        assert.deepStrictEqual(runner.take(), [`start ${generation + 1}`])
      }
    }).pipe(on())
  )

  it.effect(
    "a start that is not answered in its time is lost: its runner is told to stop it, and another runner is tried",
    () =>
      Effect.gen(function* () {
        const control = yield* ActorControl
        const deaf = new TestRunner({ key: "deaf", version: 2 })
        const other = new TestRunner({ key: "other" })
        yield* deaf.connect()
        yield* other.connect()
        const { actorId } = yield* control.create(request())
        yield* settle
        assert.deepStrictEqual(deaf.take(), ["start 0"])
        yield* TestClock.adjust(limits.actorStartMs - 1)
        assert.deepStrictEqual(other.take(), [])
        yield* TestClock.adjust(1)
        yield* settle
        assert.deepStrictEqual(other.take(), ["start 1"])
        assert.deepStrictEqual(deaf.take(), ["stop 0"])
        // It comes late: it is not what runs, and it is not told twice.
        yield* deaf.say(actorId, 0, running)
        assert.deepStrictEqual(deaf.take(), [])
        assert.strictEqual(control.generationUnsafe(deaf.session as never, actorId), undefined)
        yield* other.say(actorId, 1, running)
        assert.strictEqual(control.generationUnsafe(other.session as never, actorId), 1)
      }).pipe(on())
  )

  it.effect("what does not stop in its time is taken for stopped, and its slot is free", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning({}, new TestRunner({ totalSlots: 1 }))
      yield* control.destroy(actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* TestClock.adjust(limits.actorStopMs - 1)
      assert.strictEqual(yield* stateOf(actorId), "starting or stopping")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* stateOf(actorId), "destroyed")
      yield* settle
      // It was told once, over this connection.
      assert.deepStrictEqual(runner.take(), [])
      yield* control.create(request())
      yield* settle
      assert.deepStrictEqual(runner.take(), ["start 0"])
    }).pipe(on())
  )

  it.effect("an alarm wakes it when it sleeps, and nothing happens to it when it runs", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneRunning()
      yield* runner.say(actorId, 0, setAlarm(10_000))
      yield* TestClock.adjust("20 seconds")
      assert.deepStrictEqual(runner.take(), [])
      yield* runner.say(actorId, 0, setAlarm(60_000), wantsSleep, stopped)
      runner.take()
      yield* TestClock.adjust(39_999)
      assert.strictEqual(yield* stateOf(actorId), "sleeping")
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["start 1"])
    }).pipe(on())
  )

  it.effect("an alarm may be taken back, and one that has passed wakes at once", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneRunning()
      yield* runner.say(actorId, 0, setAlarm(1_000), setAlarm(null), wantsSleep, stopped)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* stateOf(actorId), "sleeping")
      const visitor = yield* Effect.forkChild(ready(actorId))
      yield* settle
      yield* runner.say(actorId, 1, running)
      yield* Fiber.join(visitor)
      runner.take()
      yield* runner.say(actorId, 1, setAlarm(3_599_999), wantsSleep, stopped)
      yield* TestClock.adjust(1)
      yield* settle
      // It said that it stopped before it could be told to.
      assert.deepStrictEqual(runner.take(), ["start 2"])
    }).pipe(on())
  )

  it.effect("an actor whose start never left is put to sleep and destroyed without a word to its runner", () => {
    const { endTurn, layer } = controlOnHeldTurns()
    return Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner()
      yield* Effect.forkChild(runner.connect())
      yield* settle
      yield* endTurn
      const names = ["sleeps", "ends", "moves", "runs"]
      for (const key of names) yield* Effect.forkChild(control.create(request({ key })))
      yield* settle
      const ids: Array<string> = []
      for (const key of names) ids.push((yield* control.find("counter", key)).actorId)
      const [sleeps, ends, moves, runs] = ids as [string, string, string, string]
      for (const order of [control.sleep(sleeps), control.destroy(ends), control.reschedule(moves)]) {
        yield* Effect.forkChild(order)
      }
      yield* settle
      yield* endTurn
      assert.deepStrictEqual(
        runner.takeCommands().map(({ checkpoint }) => [checkpoint.actorId, checkpoint.generation]),
        [
          [moves, 1],
          [runs, 0]
        ]
      )
      assert.deepStrictEqual(runner.endings, [])
      assert.strictEqual(yield* stateOf(sleeps), "sleeping")
      assert.strictEqual(yield* stateOf(ends), "destroyed")
    }).pipe(Effect.provide(layer))
  })
})

it.effect("how many actors are where, how often they start and crash, is counted", () =>
  Effect.gen(function* () {
    const { actorId, runner } = yield* oneRunning()
    yield* ActorControl.use((control) => control.create(request({ runnerName: "nobody" })))
    yield* runner.say(actorId, 0, stopped)
    yield* runner.say(actorId, 1, running, stopped)
    const metrics = yield* Metric.snapshot
    const value = (id: string, state?: string) => {
      const found = metrics.find((metric) => metric.id === id && metric.attributes?.state === state)
      return found === undefined ? undefined : JSON.parse(JSON.stringify(found.state))
    }
    assert.strictEqual(value("wayleave_actors", "pending").value, 1)
    assert.strictEqual(value("wayleave_actors", "backing_off").value, 1)
    assert.strictEqual(value("wayleave_actors", "running").value, 0)
    assert.isAtLeast(value("wayleave_actor_starts_total").count, 2)
    assert.isAtLeast(value("wayleave_actor_crashes_total").count, 2)
  }).pipe(on())
)
