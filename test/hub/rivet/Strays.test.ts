/** What a runner says on WebSockets that its hub does not know, as the published client does after a restart of the hub. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import * as HubMetrics from "../../../src/hub/HubMetrics.ts"
import { Strays } from "../../../src/hub/rivet/Strays.ts"
import { connect } from "../../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { changedBus } from "../../bus/ChangedBus.ts"
import {
  ack,
  actor,
  advance,
  answer,
  arrange,
  asText,
  atRest,
  bytesOf,
  close,
  hibernating,
  key,
  message,
  request,
  route,
  scenario,
  settle,
  socketId
} from "./RivetHarness.ts"

const MiB = 1024 * 1024

const refusedAs = (reason: "unknown" | "foreign" | "late") =>
  Effect.map(Metric.value(Metric.withAttributes(HubMetrics.framesRefused, { reason })), ({ count }) => Number(count))
const refusals = Effect.all({
  unknown: refusedAs("unknown"),
  foreign: refusedAs("foreign"),
  late: refusedAs("late"),
  held: Effect.map(Metric.value(HubMetrics.framesHeld), ({ count }) => Number(count))
})
type Refusals = Effect.Success<typeof refusals>

/** What was counted since. */
const since = (before: Refusals) =>
  Effect.map(refusals, ({ foreign, held, late, unknown }) => ({
    unknown: unknown - before.unknown,
    foreign: foreign - before.foreign,
    late: late - before.late,
    held: held - before.held
  }))
const none = { unknown: 0, foreign: 0, late: 0, held: 0 }

type Visitor = Effect.Success<ReturnType<typeof arrange>>["visitor"]

/** Its gateway has the WebSocket woken, and says where it goes on once it is attached. */
const woken = Effect.fnUntraced(function* (visitor: Visitor, index: number) {
  yield* visitor.wake(socketId, actor, index)
  assert.strictEqual(yield* visitor.creditOf(socketId), limits.windowBytesInitial)
  yield* visitor.wake(socketId, actor, index, "hub")
})

/** Another stream of the runner is served as ever. */
const goesOn = Effect.fnUntraced(function* ({
  runner,
  visitor
}: Pick<Effect.Success<ReturnType<typeof arrange>>, "runner" | "visitor">) {
  yield* visitor.open(actor, 77, request("/beside"))
  assert.deepInclude((yield* runner.nextFrame).frame, { _tag: "RequestStart", target: "/beside" })
  yield* runner.frame(route(77), answer())
  assert.deepInclude(yield* visitor.frameOf(77), { _tag: "ResponseStart", status: 200 })
})

describe.each(hibernating)("version %i: a WebSocket that the hub does not know", (version) => {
  scenario("is asked for once, and what its runner said meanwhile follows in order when it wakes", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, version)
      visitor.recalled.add(socketId)
      const before = yield* refusals
      yield* runner.frame(key, ack(3))
      yield* runner.frame(key, message("one"))
      yield* settle
      yield* runner.frame(key, message("two"))
      yield* settle
      assert.deepStrictEqual(
        visitor.questions.map(({ session: asker, streams }) => [asker, streams]),
        [[session, [{ route: key, from: null, open: null }]]]
      )
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* woken(visitor, 4)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), ack(3))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "one")
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "two")
      yield* visitor.follow(socketId, message("down"))
      const heard = yield* runner.nextFrame
      assert.deepStrictEqual([heard.route, heard.index, asText(heard.frame)], [key, 4, "down"])
      yield* runner.frame(key, message("three"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "three")
      assert.deepStrictEqual(yield* since(before), { ...none, held: 3 })
      assert.lengthOf(visitor.questions, 1)
      yield* runner.frame(key, close(1000, "done"))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1000, "done"))
      yield* atRest
    })
  )

  scenario(
    "that its gateway denies is nobody's: what was said is refused and counted, and not asked for again",
    (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* arrange(twin, version)
        const before = yield* refusals
        yield* runner.frame(key, message("one"))
        yield* runner.frame(key, message("two"))
        yield* settle
        assert.deepStrictEqual(yield* since(before), { ...none, unknown: 2, held: 2 })
        yield* runner.frame(key, message("three"))
        yield* settle
        assert.deepStrictEqual(yield* since(before), { ...none, unknown: 3, held: 2 })
        assert.lengthOf(visitor.questions, 1)
        assert.deepStrictEqual(yield* visitor.pending, [])
        // The runner is not told: it would answer again.
        assert.deepStrictEqual(yield* runner.pending, [])
        yield* goesOn({ runner, visitor })
      })
  )

  scenario("that the runner closed is closed for its visitor, behind what was said", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      visitor.recalled.add(socketId)
      yield* runner.frame(key, message("bye"))
      yield* runner.frame(key, close(4000, "moved"))
      yield* settle
      yield* visitor.wake(socketId, actor, 4)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "bye")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(4000, "moved"))
      yield* atRest
    })
  )
})

describe("a WebSocket that the hub does not know", () => {
  scenario("is nobody's at once where no gateway is there", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      const before = yield* refusals
      yield* runner.frame({ gatewayId: 0xdead, requestId: 1 }, message("one"))
      yield* settle
      assert.deepStrictEqual(yield* since(before), { ...none, unknown: 1, held: 1 })
      yield* goesOn({ runner, visitor })
    })
  )

  scenario("is held no longer than a wake may take", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7, { pongs: true })
      visitor.recalled.add(socketId)
      const before = yield* refusals
      yield* runner.frame(key, message("one"))
      yield* advance(limits.hibernationWakeMs - 1_000)
      assert.deepStrictEqual(yield* since(before), { ...none, held: 1 })
      yield* advance(2_000)
      assert.deepStrictEqual(yield* since(before), { ...none, unknown: 1, held: 1 })
      // Then it may be asked for once more.
      yield* runner.frame(key, message("two"))
      yield* settle
      assert.lengthOf(visitor.questions, 2)
      yield* woken(visitor, 1)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "two")
    })
  )

  scenario("of an actor that another runner hosts gives nothing to who speaks on it", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, 7, { pongs: true })
      const forger = yield* connect({ version: 7, key: "forger", pongs: true })
      yield* settle
      visitor.recalled.add(socketId)
      const before = yield* refusals
      yield* forger.frame(key, message("forged"))
      yield* settle
      assert.notStrictEqual(visitor.questions[0]?.session, session)
      yield* woken(visitor, 1)
      yield* runner.frame(key, message("true"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "true")
      // It is known by now, and is not the forger's: no question, no delay.
      yield* forger.frame(key, message("forged again"))
      yield* settle
      assert.strictEqual((yield* since(before)).foreign, 0)
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* Effect.forEach([1, 2, 3, 4, 5, 6], () =>
        advance(limits.hibernationWakeMs / 5).pipe(Effect.andThen(visitor.lives))
      )
      assert.deepStrictEqual(yield* since(before), { ...none, foreign: 2, held: 2 })
      assert.deepStrictEqual(yield* visitor.pending, [])
    })
  )

  scenario("that sleeps here with its actor is not woken by what a runner says on it", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      twin.vacate(actor)
      twin.hold(actor)
      yield* visitor.wake(socketId, actor, 1)
      yield* settle
      const before = yield* refusals
      yield* runner.frame(key, message("late"))
      yield* settle
      assert.deepStrictEqual(yield* since(before), { ...none, unknown: 1 })
      assert.lengthOf(visitor.questions, 0)
    })
  )

  scenario("is the only kind of stream that is asked for", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      const before = yield* refusals
      yield* runner.frame(key, answer())
      yield* runner.frame(route(2), { _tag: "WebSocketOpen", headers: [], canHibernate: true })
      yield* runner.frame(route(3), { _tag: "ResponseAbort", code: "app_failed", message: "" })
      yield* settle
      assert.deepStrictEqual(yield* since(before), { ...none, unknown: 3 })
      assert.lengthOf(visitor.questions, 0)
    })
  )

  scenario("ends with overflow on both sides where more was said than may be kept", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      visitor.recalled.add(socketId)
      const before = yield* refusals
      for (let said = 0; said < limits.rivetStreamBytesMax + 16 * MiB; said += 16 * MiB) {
        yield* runner.frame(key, message(bytesOf(16 * MiB)))
        yield* settle
      }
      yield* visitor.wake(socketId, actor, 1)
      assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "overflow" })
      assert.deepInclude((yield* runner.nextFrame).frame, { _tag: "WebSocketClose", code: 1011 })
      assert.deepInclude(yield* since(before), { held: 2, unknown: 2 })
      yield* goesOn({ runner, visitor })
    })
  )

  scenario("is asked for with the others of its read, and a hundred that are denied cost no connection", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      const before = yield* refusals
      for (let n = 0; n < 100; n++) yield* runner.frame(route(1_000 + n), message("x"))
      yield* settle
      assert.strictEqual(
        visitor.questions.reduce((sum, { streams }) => sum + streams.length, 0),
        100
      )
      assert.deepStrictEqual(yield* since(before), { ...none, unknown: 100, held: 100 })
      yield* goesOn({ runner, visitor })
    })
  )

  scenario(
    "waits for its gateway where the bus is out of reach for a moment",
    (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* arrange(twin, 7)
        visitor.recalled.add(socketId)
        const before = yield* refusals
        yield* runner.frame(key, message("one"))
        yield* settle
        assert.lengthOf(visitor.questions, 0)
        yield* woken(visitor, 1)
        assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "one")
        assert.deepStrictEqual(yield* since(before), { ...none, held: 1 })
      }),
    {
      bus: changedBus(
        (real) => (subject, envelopes, delivery) =>
          envelopes.some(({ _tag }) => _tag === "RouteQuestion") ? Effect.void : real(subject, envelopes, delivery)
      )
    }
  )
})

describe("what is held of a session", () => {
  const make = () => {
    const answers = { bytes: 0 }
    let told = 0
    const strays = new Strays(answers, () => void told++)
    return { answers, strays, told: () => told }
  }

  it("is bounded in routes: one more is refused at once, and fits where another was refused", () => {
    const { strays } = make()
    for (let n = 0; n < limits.sessionRoutesAskedMax; n++) assert.isTrue(strays.hold(route(n), ack(1), 0))
    assert.isFalse(strays.hold(route(0xffff_ffff), ack(1), 0))
    assert.lengthOf(strays.takeUnasked(), limits.sessionRoutesAskedMax)
    assert.lengthOf(strays.takeUnasked(), 0)
    strays.refuse(route(0))
    assert.isTrue(strays.hold(route(0xffff_ffff), ack(1), 0))
    assert.deepStrictEqual(strays.takeUnasked(), [route(0xffff_ffff)])
  })

  it("is bounded in frames of one WebSocket, which is then not this runner's to go on with", () => {
    const { strays } = make()
    for (let n = 0; n < limits.framesHeldMax; n++) assert.isTrue(strays.hold(key, ack(n & 0xffff), 0))
    assert.isFalse(strays.hold(key, ack(1), 0))
    // Nor do later ones fit again: something is missing before them.
    assert.isFalse(strays.append(key, ack(2)))
    assert.isUndefined(strays.claim(key))
    assert.deepStrictEqual(strays.claim(key), [])
  })

  it("is bounded in bytes with all that gateways do not take yet, and counts until it was judged", () => {
    const { answers, strays, told } = make()
    answers.bytes = limits.rivetSessionBytesMax - 10_000
    assert.isTrue(strays.hold(key, message(bytesOf(4_000)), 0))
    assert.isTrue(strays.hold(route(2), message(bytesOf(4_000)), 0))
    const full = answers.bytes
    assert.isFalse(strays.hold(route(3), message(bytesOf(4_000)), 0))
    strays.refuse(key)
    assert.strictEqual(told(), 1)
    assert.isTrue(strays.hasRefused)
    assert.strictEqual(answers.bytes, full)
    assert.deepStrictEqual(strays.takeRefused(), [{ route: key, frame: message(bytesOf(4_000)) }])
    assert.isBelow(answers.bytes, full)
    assert.lengthOf(strays.claim(route(2)) ?? [], 1)
    assert.strictEqual(answers.bytes, limits.rivetSessionBytesMax - 10_000)
    assert.isFalse(strays.hasRefused)
  })

  it("ends with the session, or with its time, whichever comes first", () => {
    const { strays } = make()
    strays.hold(key, ack(1), 0)
    strays.hold(route(2), ack(2), 10)
    strays.sweep(limits.hibernationWakeMs)
    assert.deepStrictEqual(strays.takeRefused(), [{ route: key, frame: ack(1) }])
    strays.refuseAll()
    assert.deepStrictEqual(strays.takeRefused(), [{ route: route(2), frame: ack(2) }])
  })
})
