import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { ActorControl, type ActorControlOptions, type ActorError } from "../../src/actor/ActorControl.ts"
import type { SessionId } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import {
  controlOn,
  controlOnHeldTurns,
  pass,
  request,
  running,
  settle,
  stopped,
  stoppedWell,
  TestRunner,
  wantsSleep,
  wantsStop
} from "./ControlHarness.ts"

const on = (options: ActorControlOptions = {}) => Effect.provide(controlOn(options))
const visit = (actorId: string, wait = true) =>
  Effect.tap(Effect.forkChild(ActorControl.use((control) => control.place(actorId, { wait }))), () => settle)
const reason = <A>(fiber: Fiber.Fiber<A, ActorError>) => Effect.map(Effect.flip(Fiber.join(fiber)), (e) => e.reason)

const oneStarting = (changes: Parameters<typeof request>[0] = {}, runner = new TestRunner()) =>
  Effect.gen(function* () {
    const control = yield* ActorControl
    yield* runner.connect()
    const { actorId } = yield* control.create(request(changes))
    yield* settle
    runner.take()
    return { actorId, control, runner, session: runner.session as SessionId }
  })

describe("waiting for an actor", () => {
  it.effect("one that runs is reached at once, one that nobody knows never", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneStarting()
      yield* runner.say(actorId, 0, running)
      const placement = yield* control.place(actorId, { wait: true })
      assert.deepStrictEqual(placement, { actorId, generation: 0, runner: session })
      assert.strictEqual(yield* control.place(actorId, { wait: false }), placement)
      assert.strictEqual(yield* reason(yield* visit("nobody")), "actor.not_found")
    }).pipe(on())
  )

  it.effect("one that starts is waited for; where placed is enough, until its start has left", () => {
    const { endTurn, layer } = controlOnHeldTurns()
    return Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner()
      yield* Effect.forkChild(runner.connect())
      yield* settle
      yield* endTurn
      yield* Effect.forkChild(control.create(request({ key: "k" })))
      yield* settle
      const { actorId } = yield* control.find("counter", "k")
      const patient = yield* visit(actorId)
      const hasty = yield* visit(actorId, false)
      assert.isUndefined(hasty.pollUnsafe())
      yield* endTurn
      assert.strictEqual((yield* Fiber.join(hasty)).generation, 0)
      assert.deepStrictEqual(runner.take(), ["start 0"])
      assert.strictEqual((yield* control.place(actorId, { wait: false })).generation, 0)
      assert.isUndefined(patient.pollUnsafe())
      yield* Effect.forkChild(runner.say(actorId, 0, running))
      yield* settle
      assert.strictEqual((yield* Fiber.join(patient)).generation, 0)
    }).pipe(Effect.provide(layer))
  })

  it.effect("without a runner it takes as long as it may, and is an error then", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const { actorId } = yield* control.create(request())
      const visitor = yield* visit(actorId)
      yield* pass(limits.actorReadyMs - 1)
      assert.isUndefined(visitor.pollUnsafe())
      yield* pass(1)
      assert.strictEqual(yield* reason(visitor), "guard.actor_ready_timeout")
      const runner = new TestRunner()
      const later = yield* visit(actorId)
      yield* runner.connect()
      yield* runner.say(actorId, 0, running)
      assert.strictEqual((yield* Fiber.join(later)).generation, 0)
    }).pipe(on())
  )

  it.effect("one whose runner is away is waited for until it is back", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneStarting()
      yield* runner.say(actorId, 0, running)
      yield* runner.disconnect
      const visitors = [yield* visit(actorId), yield* visit(actorId, false)]
      yield* pass(5_000)
      for (const visitor of visitors) assert.isUndefined(visitor.pollUnsafe())
      yield* runner.connect()
      for (const visitor of visitors) assert.strictEqual((yield* Fiber.join(visitor)).generation, 0)
    }).pipe(on())
  )

  it.effect("one that is destroyed meanwhile is an error of its own", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneStarting()
      const visitors = [yield* visit(actorId), yield* visit(actorId)]
      yield* control.destroy(actorId)
      yield* settle
      assert.isUndefined(visitors[0]?.pollUnsafe())
      yield* runner.say(actorId, 0, stoppedWell)
      for (const visitor of visitors) {
        assert.strictEqual(yield* reason(visitor), "actor.destroyed_while_waiting_for_ready")
      }
    }).pipe(on())
  )

  it.effect("one that is on its way to sleep wakes when it has slept in", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneStarting()
      yield* runner.say(actorId, 0, running)
      yield* runner.say(actorId, 0, wantsSleep)
      runner.take()
      const visitor = yield* visit(actorId)
      assert.deepStrictEqual(runner.take(), [])
      yield* runner.say(actorId, 0, stopped)
      assert.deepStrictEqual(runner.take(), ["start 1"])
      yield* runner.say(actorId, 1, running)
      assert.strictEqual((yield* Fiber.join(visitor)).generation, 1)
    }).pipe(on())
  )

  it.effect("one that stops each time is woken eight times, and not a ninth; who came later is not yet done", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneStarting({ crashPolicy: "sleep" })
      const visitor = yield* visit(actorId)
      let later: Fiber.Fiber<unknown, ActorError> | undefined
      for (let generation = 0; generation <= limits.actorWakesMax; generation++) {
        assert.isUndefined(visitor.pollUnsafe())
        if (generation === 5) later = yield* visit(actorId)
        yield* runner.say(actorId, generation, stopped)
      }
      assert.strictEqual(yield* reason(visitor), "guard.actor_wake_retries_exceeded")
      assert.isUndefined(later?.pollUnsafe())
      yield* runner.say(actorId, 9, running)
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(later as Fiber.Fiber<unknown, ActorError>)))
      assert.strictEqual((yield* control.place(actorId, { wait: true })).generation, 9)
    }).pipe(on())
  )

  it.effect("one that backs off is tried every two seconds while somebody waits", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneStarting()
      for (let generation = 0; generation < 6; generation++) {
        yield* runner.say(actorId, generation, stopped)
        if (generation < 5) yield* pass(32_000)
      }
      assert.isAbove((yield* control.get(actorId)).rescheduleAtMs ?? 0, 32_000 * 5 + 2_000)
      runner.take()
      const visitor = yield* visit(actorId)
      yield* pass(1_999)
      assert.deepStrictEqual(runner.take(), [])
      yield* pass(1)
      assert.deepStrictEqual(runner.take(), ["start 6"])
      yield* runner.say(actorId, 6, running)
      yield* Fiber.join(visitor)
    }).pipe(on())
  )

  it.effect("as many wait as may; who leaves makes room", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneStarting()
      const first = yield* visit(actorId)
      const second = yield* visit(actorId)
      assert.strictEqual(yield* reason(yield* visit(actorId)), "guard.overloaded")
      yield* Fiber.interrupt(first)
      const third = yield* visit(actorId)
      assert.strictEqual(yield* reason(yield* visit(actorId)), "guard.overloaded")
      yield* runner.say(actorId, 0, running)
      yield* Fiber.join(second)
      yield* Fiber.join(third)
      yield* runner.say(actorId, 0, wantsSleep, stopped)
      const again = [yield* visit(actorId), yield* visit(actorId)]
      for (const visitor of again) assert.isUndefined(visitor.pollUnsafe())
    }).pipe(on({ actorWaitersMax: 2 }))
  )

  it.effect("the API's sleep lasts until somebody wants it", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneStarting()
      yield* runner.say(actorId, 0, running)
      yield* control.sleep(actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* runner.say(actorId, 0, stopped)
      yield* pass(600_000)
      assert.deepStrictEqual(runner.take(), [])
      yield* visit(actorId)
      assert.deepStrictEqual(runner.take(), ["start 1"])
    }).pipe(on())
  )
})

describe("the actor that is made for visitors", () => {
  it.effect("is one for each runner name, made on first use", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner({ name: "web" })
      assert.isNull(yield* control.autostart("web"))
      yield* runner.connect()
      const [one, two] = yield* Effect.all([control.autostart("web"), control.autostart("web")], {
        concurrency: "unbounded"
      })
      assert.isNotNull(one)
      assert.strictEqual(one, two)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["start 0"])
      assert.deepInclude(yield* control.get(one as string), { name: "web", key: "autostart", runnerName: "web" })
    }).pipe(on())
  )

  it.effect("comes back by itself, on the next runner too, and sleeps when it wishes", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner({ name: "web" })
      yield* runner.connect()
      const actorId = (yield* control.autostart("web")) as string
      yield* settle
      yield* runner.say(actorId, 0, running, stopped)
      assert.deepStrictEqual(runner.take(), ["start 0", "start 1"])
      yield* runner.say(actorId, 1, running)
      yield* runner.disconnect
      const next = new TestRunner({ name: "web", key: "two" })
      yield* next.connect()
      yield* pass(limits.runnerLostMs)
      yield* pass(2_000)
      assert.deepStrictEqual(next.take(), ["start 2"])
      yield* next.say(actorId, 2, running, wantsSleep, stopped)
      assert.isNotNull((yield* control.get(actorId)).sleptAtMs)
      assert.strictEqual(yield* control.autostart("web"), actorId)
    }).pipe(on())
  )

  it.effect("is made again after it wished to end", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner({ name: "web" })
      yield* runner.connect()
      const actorId = (yield* control.autostart("web")) as string
      yield* settle
      yield* runner.say(actorId, 0, running, wantsStop, stoppedWell)
      const again = yield* control.autostart("web")
      assert.isNotNull(again)
      assert.notStrictEqual(again, actorId)
    }).pipe(on())
  )

  it.effect("is not where somebody made an actor for that runner name; elsewhere still", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      yield* new TestRunner({ name: "web" }).connect()
      yield* new TestRunner({ name: "api" }).connect()
      assert.isNotNull(yield* control.autostart("web"))
      yield* control.create(request({ runnerName: "web" }))
      assert.isNull(yield* control.autostart("web"))
      assert.isNotNull(yield* control.autostart("api"))
    }).pipe(on())
  )

  it.effect("is not where that is off, nor for names of which no runner is known", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner({ name: "web" })
      yield* runner.connect()
      assert.isNull(yield* control.autostart("web"))
      assert.isNull(yield* control.autostart("anything"))
      assert.deepStrictEqual(yield* control.list({ limit: 10 }), [])
    }).pipe(on({ autostart: false }))
  )

  it.effect("gives way to one that somebody else has under its name and key", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      yield* new TestRunner({ name: "web" }).connect()
      yield* control.create(request({ name: "web", key: "autostart", runnerName: "other" }))
      assert.isNull(yield* control.autostart("web"))
    }).pipe(on())
  )
})
