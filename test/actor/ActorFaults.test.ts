import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { ActorControl, type ActorControlOptions } from "../../src/actor/ActorControl.ts"
import type { SessionId } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import {
  controlOn,
  controlOnHeldTurns,
  introduction,
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

const on = (options: ActorControlOptions = {}) => Effect.provide(controlOn(options))

/** An actor whose start went to a runner. */
const oneStarting = (runner = new TestRunner(), changes: Parameters<typeof request>[0] = {}) =>
  Effect.gen(function* () {
    const control = yield* ActorControl
    yield* runner.connect()
    const { actorId } = yield* control.create(request(changes))
    yield* settle
    assert.deepStrictEqual(runner.take(), ["start 0"])
    return { actorId, control, runner, session: runner.session as SessionId }
  })
const oneRunning = (runner = new TestRunner(), changes: Parameters<typeof request>[0] = {}) =>
  Effect.tap(oneStarting(runner, changes), ({ actorId }) => runner.say(actorId, 0, running))

describe("a connection that breaks", () => {
  it.effect("before `running` arrived: the runner repeats it, and nothing is ordered again", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneStarting()
      const lost = runner.events(actorId, 0, running, setAlarm(90_000))
      yield* runner.disconnect
      yield* pass(1_000)
      assert.strictEqual(yield* runner.connect(), session)
      yield* pass(limits.actorResendMs - 1)
      assert.deepStrictEqual(
        (yield* runner.sayAgain(lost)).map(({ index }) => index),
        [1n]
      )
      yield* pass(60_000)
      assert.deepStrictEqual(runner.take(), [])
      assert.strictEqual(control.generationUnsafe(session, actorId), 0)
    }).pipe(on())
  )

  it.effect(
    "before the start arrived: nothing is repeated, and the next generation is started, never the same again",
    () =>
      Effect.gen(function* () {
        const { actorId, runner } = yield* oneStarting()
        yield* runner.disconnect
        yield* pass(1_000)
        yield* runner.connect()
        yield* pass(limits.actorResendMs - 1)
        assert.deepStrictEqual(runner.take(), [])
        yield* pass(1)
        assert.deepStrictEqual(runner.take(), ["stop 0", "start 1"])
        yield* runner.say(actorId, 1, running)
        yield* pass(60_000)
        assert.deepStrictEqual(runner.take(), [])
      }).pipe(on())
  )

  it.effect("where the runner is known to have the start, `running` has its whole time", () =>
    Effect.gen(function* () {
      const { actorId, runner } = yield* oneStarting(new TestRunner({ protocolVersion: 3 }))
      yield* runner.disconnect
      yield* runner.connect([{ actorId, generation: 0, index: 0n }])
      yield* pass(limits.actorStartMs - 1)
      assert.deepStrictEqual(runner.take(), [])
      yield* pass(1)
      assert.deepStrictEqual(runner.take(), ["stop 0", "start 1"])
    }).pipe(on())
  )

  it.effect("an acknowledged start is a start that arrived", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneStarting()
      yield* runner.disconnect
      yield* runner.connect()
      yield* control.acknowledged(session, [{ actorId, generation: 0, index: 0n }])
      yield* pass(limits.actorResendMs)
      assert.deepStrictEqual(runner.take(), [])
    }).pipe(on())
  )

  it.effect("after `running`: no start is sent again, however often it breaks", () =>
    Effect.gen(function* () {
      const { runner } = yield* oneRunning()
      for (let i = 0; i < 3; i++) {
        yield* runner.disconnect
        yield* runner.connect()
        yield* pass(limits.actorStartMs)
      }
      assert.deepStrictEqual(runner.take(), [])
    }).pipe(on())
  )

  it.effect("a stop is repeated once over each new connection, until the runner says `stopped`", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning()
      yield* control.destroy(actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      for (let i = 0; i < 2; i++) {
        yield* runner.disconnect
        yield* runner.connect()
        yield* pass(10_000)
        assert.deepStrictEqual(runner.take(), ["stop 0"])
      }
      yield* runner.say(actorId, 0, stopped)
      yield* runner.disconnect
      yield* runner.connect()
      assert.deepStrictEqual(runner.take(), [])
      assert.isNotNull((yield* control.get(actorId)).destroyedAtMs)
    }).pipe(on())
  )

  it.effect("a newer connection takes over: the older gets nothing, and its end ends nothing", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      const again = new TestRunner()
      assert.strictEqual(yield* again.connect(), session)
      yield* runner.disconnect
      yield* pass(limits.runnerLostMs)
      yield* control.destroy(actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), [])
      assert.deepStrictEqual(again.take(), ["stop 0"])
    }).pipe(on())
  )

  it.effect("what the runner introduces itself as counts from its newest connection on", () =>
    Effect.gen(function* () {
      const old = new TestRunner({ protocolVersion: 6, totalSlots: 1 })
      const { actorId, control } = yield* oneRunning(old)
      yield* old.disconnect
      const upgraded = new TestRunner({ protocolVersion: 7, totalSlots: 5, version: 2 })
      yield* upgraded.connect()
      assert.deepInclude((yield* control.runners)[0], { totalSlots: 5, remainingSlots: 4, version: 2 })
      // Version 7 means it when it says OK.
      yield* upgraded.say(actorId, 0, stoppedWell)
      assert.isNotNull((yield* control.get(actorId)).destroyedAtMs)
    }).pipe(on())
  )
})

describe("a word that was lost", () => {
  const asks = () => new TestRunner({}, { probes: true })

  it.effect("a visitor of an actor that stopped unheard is served by the next generation, in stated time", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning(asks())
      yield* runner.disconnect
      yield* runner.connect()
      assert.deepStrictEqual(runner.probed, [])
      const visitor = yield* Effect.forkChild(control.place(actorId, { wait: true }))
      yield* settle
      assert.deepStrictEqual(runner.probed, [actorId])
      yield* pass(limits.actorProbeMs)
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* pass(limits.actorVanishedMs)
      assert.deepStrictEqual(runner.take(), ["start 1"])
      yield* runner.say(actorId, 1, running)
      assert.strictEqual((yield* Fiber.join(visitor)).generation, 1)
      assert.deepStrictEqual(runner.probed, [actorId])
    }).pipe(on())
  )

  it.effect("an actor that answers is reached as soon as it has", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning(asks())
      yield* runner.disconnect
      yield* runner.connect()
      const visitors = [
        yield* Effect.forkChild(control.place(actorId, { wait: true })),
        yield* Effect.forkChild(control.place(actorId, { wait: false }))
      ]
      yield* pass(100)
      assert.deepStrictEqual(runner.probed, [actorId])
      control.aliveUnsafe(session, actorId)
      yield* settle
      for (const visitor of visitors) assert.strictEqual((yield* Fiber.join(visitor)).generation, 0)
      yield* pass(60_000)
      assert.deepStrictEqual(runner.take(), [])
      // Over this connection nothing can be lost unheard: nobody is asked again.
      assert.strictEqual((yield* control.place(actorId, { wait: true })).generation, 0)
      assert.deepStrictEqual(runner.probed, [actorId])
    }).pipe(on())
  )

  it.effect("anything it says is an answer", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning(asks())
      yield* runner.disconnect
      yield* runner.connect()
      yield* runner.say(actorId, 0, setAlarm(99_000))
      assert.strictEqual((yield* control.place(actorId, { wait: true })).generation, 0)
      assert.deepStrictEqual(runner.probed, [])
    }).pipe(on())
  )

  it.effect("one that was there after all and stops is not called crashed, and goes on whatever its policy", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning(asks(), { crashPolicy: "destroy" })
      yield* runner.disconnect
      yield* runner.connect()
      yield* Effect.forkChild(control.place(actorId, { wait: true }))
      yield* settle
      yield* pass(limits.actorProbeMs)
      yield* runner.say(actorId, 0, stopped)
      assert.deepStrictEqual(runner.take(), ["stop 0", "start 1"])
    }).pipe(on())
  )

  it.effect("a connection that breaks while it is asked begins anew", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning(asks())
      yield* runner.disconnect
      yield* runner.connect()
      const visitor = yield* Effect.forkChild(control.place(actorId, { wait: true }))
      yield* settle
      yield* runner.disconnect
      yield* pass(limits.actorProbeMs)
      yield* runner.connect()
      yield* settle
      assert.deepStrictEqual(runner.probed, [actorId, actorId])
      yield* runner.say(actorId, 0, setAlarm(99_000))
      assert.strictEqual((yield* Fiber.join(visitor)).generation, 0)
      assert.deepStrictEqual(runner.take(), [])
    }).pipe(on())
  )

  it.effect("a stop whose `stopped` was lost ends when the runner does not know the actor any more", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning(asks())
      yield* control.destroy(actorId)
      yield* settle
      yield* runner.disconnect
      yield* runner.connect()
      assert.deepStrictEqual(runner.probed, [actorId])
      yield* pass(limits.actorProbeMs - 1)
      assert.isNull((yield* control.get(actorId)).destroyedAtMs)
      yield* pass(1)
      assert.isNotNull((yield* control.get(actorId)).destroyedAtMs)
      assert.deepStrictEqual(runner.take(), ["stop 0", "stop 0"])
    }).pipe(on())
  )

  it.effect("a stop that takes its time after a reconnect has it, where the actor answers", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning(asks())
      yield* control.destroy(actorId)
      yield* settle
      yield* runner.disconnect
      yield* runner.connect()
      control.aliveUnsafe(session, actorId)
      yield* pass(limits.actorStopMs / 2)
      assert.isNull((yield* control.get(actorId)).destroyedAtMs)
      yield* runner.say(actorId, 0, stopped)
      assert.isNotNull((yield* control.get(actorId)).destroyedAtMs)
    }).pipe(on())
  )

  it.effect("who has no answer may say so: believed of an actor that was not heard of since its runner came back", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      yield* control.suspect(session, actorId)
      yield* pass(60_000)
      assert.deepStrictEqual(runner.take(), [])
      yield* runner.disconnect
      yield* runner.connect()
      // Nobody can be asked, so a visitor is sent there.
      assert.strictEqual((yield* control.place(actorId, { wait: true })).generation, 0)
      yield* control.suspect(session, "unknown")
      yield* control.suspect("f".repeat(32) as SessionId, actorId)
      assert.deepStrictEqual(runner.take(), [])
      yield* control.suspect(session, actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* pass(limits.actorVanishedMs)
      assert.deepStrictEqual(runner.take(), ["start 1"])
      assert.deepStrictEqual(runner.endings, [{ generation: 0, hibernates: true }])
    }).pipe(on())
  )

  it.effect("a runner that lists its actors without one that was not heard of since has lost it", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      const there = (yield* control.create(request())).actorId
      yield* settle
      yield* runner.say(there, 0, running)
      const list = [{ actorId: there, generation: 0, index: 0n }]
      // Over an unbroken connection a list that leaves somebody out says nothing.
      yield* control.acknowledged(session, list)
      yield* runner.disconnect
      yield* runner.connect()
      runner.take()
      yield* control.acknowledged(session, list)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      yield* pass(limits.actorVanishedMs)
      assert.deepStrictEqual(
        runner.takeCommands().map(({ checkpoint }) => [checkpoint.actorId, checkpoint.generation]),
        [[actorId, 1]]
      )
    }).pipe(on())
  )

  it.effect("before version 4 an acknowledgement lists nobody, and says of no actor that it is there", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning(new TestRunner({ protocolVersion: 3 }))
      yield* runner.disconnect
      yield* runner.connect([{ actorId, generation: 0, index: 0n }])
      yield* control.acknowledged(session, [])
      yield* control.acknowledged(session, [{ actorId, generation: 0, index: 0n }])
      yield* pass(60_000)
      assert.deepStrictEqual(runner.take(), [])
      yield* control.suspect(session, actorId)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
    }).pipe(on())
  )

  it.effect("version 4 lists without generations", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning(new TestRunner({ protocolVersion: 4 }))
      yield* runner.say(actorId, 0, stopped)
      yield* runner.say(actorId, 1, running)
      yield* runner.disconnect
      yield* runner.connect()
      runner.take()
      yield* control.acknowledged(session, [{ actorId, generation: 0, index: 0n }])
      yield* pass(60_000)
      assert.deepStrictEqual(runner.take(), [])
      yield* runner.disconnect
      yield* runner.connect()
      yield* control.acknowledged(session, [])
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 1"])
    }).pipe(on())
  )
})

describe("a runner that is gone", () => {
  it.effect("has its time to come back as itself; its actors go elsewhere when that has passed, and not before", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      const other = new TestRunner({ key: "two" })
      yield* other.connect()
      yield* runner.disconnect
      yield* pass(limits.runnerLostMs - 1)
      assert.deepStrictEqual(other.take(), [])
      yield* pass(1)
      assert.deepStrictEqual(other.take(), ["start 1"])
      assert.notStrictEqual(yield* runner.connect(), session)
      yield* other.say(actorId, 1, running)
      assert.isFalse(control.hostsUnsafe(session, actorId))
      const gone = (yield* control.runners).find((view) => view.session === session)
      assert.deepInclude(gone, { connected: false, stoppedAtMs: limits.runnerLostMs })
    }).pipe(on())
  )

  it.effect("is not lost while it introduces itself", () =>
    Effect.gen(function* () {
      const { control, runner, session } = yield* oneRunning()
      yield* runner.disconnect
      yield* pass(limits.runnerLostMs - 1)
      assert.strictEqual(yield* control.identify(runner.introduction), session)
      yield* pass(limits.runnerLostMs - 1)
      assert.strictEqual(yield* runner.connect(), session)
      assert.deepStrictEqual(runner.take(), [])
    }).pipe(on())
  )

  it.effect("an actor sleeps or ends with its runner where its policy says so", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning(new TestRunner(), { crashPolicy: "sleep" })
      const ends = (yield* control.create(request({ crashPolicy: "destroy" }))).actorId
      yield* settle
      yield* runner.say(ends, 0, running)
      yield* runner.disconnect
      yield* pass(limits.runnerLostMs)
      assert.isNotNull((yield* control.get(actorId)).sleptAtMs)
      assert.isNotNull((yield* control.get(ends)).destroyedAtMs)
    }).pipe(on())
  )

  it.effect("evicted, it is somebody else at once, but its actors may live on, so they wait for the threshold", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      const other = new TestRunner({ key: "two" })
      yield* other.connect()
      yield* control.lost(session)
      yield* runner.disconnect
      assert.notStrictEqual(yield* control.identify(runner.introduction), session)
      yield* pass(limits.runnerLostMs - 1)
      assert.deepStrictEqual(other.take(), [])
      yield* pass(1)
      assert.deepStrictEqual(other.take(), ["start 1"])
      assert.isFalse(control.hostsUnsafe(session, actorId))
    }).pipe(on())
  )

  it.effect("what it says `stopped` of before the threshold has passed goes elsewhere at once", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      const other = new TestRunner({ key: "two" })
      yield* other.connect()
      yield* control.lost(session)
      yield* runner.say(actorId, 0, stopped)
      assert.deepStrictEqual(other.take(), ["start 1"])
      yield* runner.disconnect
    }).pipe(on())
  )

  it.effect(
    "told so later, its threshold counts from when its connection ended, and telling it twice changes nothing",
    () =>
      Effect.gen(function* () {
        const { control, runner, session } = yield* oneRunning()
        const other = new TestRunner({ key: "two" })
        yield* other.connect()
        yield* runner.disconnect
        yield* pass(limits.runnerLostMs - 1)
        yield* control.lost(session)
        yield* control.lost(session)
        yield* pass(1)
        assert.deepStrictEqual(other.take(), ["start 1"])
      }).pipe(on())
  )

  it.effect("leaving, it takes nothing new, each actor is told to stop, and goes elsewhere as it does", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      yield* control.draining(session)
      yield* control.draining(session)
      yield* settle
      assert.deepStrictEqual(runner.take(), ["stop 0"])
      const successor = new TestRunner()
      assert.notStrictEqual(yield* successor.connect(), session)
      const { actorId: another } = yield* control.create(request({ key: "new" }))
      yield* settle
      assert.deepStrictEqual(successor.take(), ["start 0"])
      yield* successor.say(another, 0, running)
      // The client gives its actors 120 s.
      yield* pass(110_000)
      assert.isTrue(control.hostsUnsafe(session, actorId))
      yield* runner.say(actorId, 0, stoppedWell)
      assert.deepStrictEqual(successor.take(), ["start 1"])
      assert.deepStrictEqual(runner.take(), [])
    }).pipe(on())
  )

  it.effect("an actor whose start had not left when its runner began to leave, or was gone, starts elsewhere", () => {
    const { endTurn, layer } = controlOnHeldTurns()
    return Effect.gen(function* () {
      const control = yield* ActorControl
      const leaving = new TestRunner({ key: "leaving", version: 3 })
      const breaking = new TestRunner({ key: "breaking", version: 2 })
      const staying = new TestRunner({ key: "staying", version: 1 })
      for (const runner of [leaving, breaking, staying]) yield* Effect.forkChild(runner.connect())
      yield* settle
      yield* endTurn
      yield* Effect.forkChild(control.create(request()))
      yield* settle
      yield* control.draining(leaving.session as SessionId)
      yield* breaking.disconnect
      yield* endTurn
      yield* endTurn
      assert.deepStrictEqual([leaving.take(), breaking.take(), staying.take()], [[], [], ["start 2"]])
    }).pipe(Effect.provide(layer))
  })

  it.effect("leaving and then gone, it is not waited for", () =>
    Effect.gen(function* () {
      const { control, runner, session } = yield* oneRunning()
      const other = new TestRunner({ key: "two" })
      yield* other.connect()
      yield* control.draining(session)
      yield* settle
      yield* control.lost(session)
      yield* settle
      assert.deepStrictEqual(other.take(), ["start 1"])
      yield* runner.disconnect
    }).pipe(on())
  )

  it.effect("leaving, and its connection breaks: its time is the lost threshold, not that of a stop", () =>
    Effect.gen(function* () {
      const { control, runner, session } = yield* oneRunning()
      const other = new TestRunner({ key: "two" })
      yield* other.connect()
      yield* control.draining(session)
      yield* runner.disconnect
      yield* pass(limits.runnerLostMs - 1)
      assert.deepStrictEqual(other.take(), [])
      yield* pass(1)
      assert.deepStrictEqual(other.take(), ["start 1"])
    }).pipe(on())
  )

  it.effect("is listed for a while, and one that only introduced itself is not", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const runner = new TestRunner()
      yield* runner.connect()
      yield* control.identify(introduction({ key: "never connects" }))
      yield* runner.disconnect
      yield* pass(limits.runnerLostMs)
      assert.strictEqual((yield* control.runners).length, 1)
      yield* pass(limits.runnerGoneMs)
      assert.strictEqual((yield* control.runners).length, 0)
    }).pipe(on())
  )

  it.effect(
    "two processes with one key take its connection from each other: said loudly, once, and not of one reconnect",
    () => {
      const said: Array<string> = []
      const listen = Logger.make(({ message }) => {
        said.push(String(message))
      })
      return Effect.gen(function* () {
        const one = new TestRunner()
        const two = new TestRunner()
        yield* one.connect()
        yield* two.connect()
        yield* pass(limits.runnerTakeoverWindowMs + 1)
        yield* one.connect()
        yield* two.connect()
        assert.deepStrictEqual(said, [])
        for (let i = 0; i < 3; i++) yield* one.connect()
        assert.strictEqual(said.length, 1)
        assert.include(said[0], "two runner processes use one key")
      }).pipe(on(), Effect.provide(Logger.layer([listen])))
    }
  )

  it.effect("makes room for others; with every place taken one more gets an identity and no actors", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const first = new TestRunner({ key: "1" })
      const second = new TestRunner({ key: "2" })
      const third = new TestRunner({ key: "3", version: 9 })
      yield* first.connect()
      yield* second.connect()
      yield* third.connect()
      yield* control.create(request())
      yield* settle
      assert.deepStrictEqual(third.take(), [])
      assert.deepStrictEqual([...first.take(), ...second.take()], ["start 0"])
      yield* third.disconnect
      yield* second.disconnect
      yield* pass(limits.runnerLostMs)
      yield* third.connect()
      yield* control.create(request())
      yield* settle
      assert.strictEqual((yield* control.runners).length, 2)
      assert.include(third.take().join(), "start")
    }).pipe(on({ runnersMax: 2 }))
  )
})

describe("events", () => {
  it.effect("that were heard before are heard once, and acknowledged again", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneStarting()
      const history = runner.events(actorId, 0, running, setAlarm(50_000), setAlarm(60_000))
      yield* runner.sayAgain(history)
      assert.deepStrictEqual(yield* runner.sayAgain(history.slice(1, 2)), [
        (history[1] as (typeof history)[0]).checkpoint
      ])
      yield* runner.say(actorId, 0, wantsSleep, stopped)
      yield* pass(59_999)
      assert.isNotNull((yield* control.get(actorId)).sleptAtMs)
      yield* pass(1)
      assert.isNull((yield* control.get(actorId)).sleptAtMs)
    }).pipe(on())
  )

  it.effect("of a runner that begins to count anew are heard: `running` begins the count, `stopped` needs none", () =>
    Effect.gen(function* () {
      const { actorId, control, runner } = yield* oneRunning()
      yield* runner.say(actorId, 0, setAlarm(1_000), setAlarm(2_000), setAlarm(3_000))
      const at = (index: bigint) => ({ actorId, generation: 0, index })
      yield* runner.sayAgain([
        { checkpoint: at(0n), event: running },
        { checkpoint: at(1n), event: setAlarm(70_000) }
      ])
      yield* runner.sayAgain([{ checkpoint: at(1n), event: stopped }])
      assert.deepStrictEqual(runner.take(), ["start 1"])
      assert.strictEqual(control.generationUnsafe(runner.session as SessionId, actorId), 1)
    }).pipe(on())
  )

  it.effect(
    "of an older generation on the same runner are not acknowledged: the runner would drop younger ones for it",
    () =>
      Effect.gen(function* () {
        const { actorId, runner } = yield* oneRunning()
        const old = runner.events(actorId, 0, setAlarm(1))
        yield* runner.say(actorId, 0, stopped)
        assert.deepStrictEqual(runner.take(), ["start 1"])
        assert.deepStrictEqual(yield* runner.sayAgain(old), [])
        // It had said that it stopped: it is not told to.
        assert.deepStrictEqual(runner.take(), [])
      }).pipe(on())
  )

  it.effect(
    "of what a runner should not host are acknowledged, do nothing, and have it told to stop, once a connection",
    () =>
      Effect.gen(function* () {
        const { actorId, control, session } = yield* oneRunning()
        const stray = new TestRunner({ key: "stray" })
        yield* stray.connect()
        const events = stray.events(actorId, 7, running, wantsSleep)
        assert.deepStrictEqual(
          (yield* stray.sayAgain(events)).map(({ index }) => index),
          [1n]
        )
        yield* stray.say("unknown", 0, running)
        assert.deepStrictEqual(stray.take(), ["stop 7", "stop 0"])
        yield* stray.sayAgain(events)
        assert.deepStrictEqual(stray.take(), [])
        yield* stray.disconnect
        yield* stray.connect()
        assert.deepStrictEqual(stray.take(), ["stop 7", "stop 0"])
        yield* stray.say(actorId, 7, stopped)
        yield* stray.disconnect
        yield* stray.connect()
        assert.deepStrictEqual(stray.take(), ["stop 0"])
        assert.strictEqual(control.generationUnsafe(session, actorId), 0)
        assert.isFalse(control.hostsUnsafe(stray.session as SessionId, actorId))
      }).pipe(on())
  )

  it.effect("a list of actors with one that should not be there has it told to stop", () =>
    Effect.gen(function* () {
      const { actorId, control, runner, session } = yield* oneRunning()
      yield* control.acknowledged(session, [
        { actorId, generation: 0, index: 0n },
        { actorId: "left over", generation: 3, index: 0n }
      ])
      yield* settle
      assert.deepStrictEqual(
        runner.takeCommands().map(({ checkpoint }) => checkpoint),
        [{ actorId: "left over", generation: 3, index: 1n }]
      )
    }).pipe(on())
  )

  it.effect("no runner is told to stop more than a bounded number of things it should not host", () =>
    Effect.gen(function* () {
      const runner = new TestRunner()
      yield* runner.connect()
      for (let i = 0; i <= limits.runnerOwedStopsMax; i++) {
        yield* ActorControl.use((control) =>
          Effect.forkChild(
            control.heard(runner.session as SessionId, [
              { checkpoint: { actorId: `stray ${i}`, generation: 0, index: 0n }, event: running }
            ])
          )
        )
      }
      yield* settle
      runner.take()
      yield* runner.disconnect
      yield* runner.connect()
      const again = runner.takeCommands().map(({ checkpoint }) => checkpoint.actorId)
      assert.strictEqual(again.length, limits.runnerOwedStopsMax)
      assert.notInclude(again, "stray 0")
    }).pipe(on())
  )

  it.effect("of a session that nobody knows are nothing", () =>
    Effect.gen(function* () {
      const control = yield* ActorControl
      const nobody = "f".repeat(32) as SessionId
      assert.deepStrictEqual(
        yield* control.heard(nobody, [{ checkpoint: { actorId: "a", generation: 0, index: 0n }, event: running }]),
        []
      )
      yield* control.acknowledged(nobody, [])
      yield* control.draining(nobody)
      yield* control.lost(nobody)
      control.aliveUnsafe(nobody, "a")
      assert.isNull(control.hostsUnsafe(nobody, "a"))
      assert.isUndefined(control.generationUnsafe(nobody, "a"))
    }).pipe(on())
  )
})
