/** What a hub asks of gateways for a session that moved to it, and what it never does. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import { BusError, layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import * as HubMetrics from "../../src/hub/HubMetrics.ts"
import { openStream, type Session } from "../../src/hub/Session.ts"
import { Allowance, makeVerification } from "../../src/hub/Verification.ts"
import { layerMemoryWith, RouteStore } from "../../src/route/RouteStore.ts"
import {
  type Envelope,
  type MovedStream,
  type RouteAnswer,
  type RouteKey,
  type RouteQuestion,
  SessionId
} from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { RouteMap } from "../../src/tunnel/RouteMap.ts"

const alice = SessionId.make("a".repeat(32))
const bob = SessionId.make("b".repeat(32))
const sessionOf = (id: SessionId, generation = 2) => ({ id, name: "web", generation, openStreams: 0 }) as Session
const route = (requestId: number, gatewayId = 1): RouteKey => ({ gatewayId, requestId })
const stream = (key: RouteKey): MovedStream => ({ route: key, from: 0, open: { next: 1, credited: 0, granted: 0 } })
const list = (count: number, gatewayId = 1) => Array.from({ length: count }, (_, i) => stream(route(i, gatewayId)))
const settle = Effect.replicateEffect(Effect.yieldNow, 30, { discard: true })

/** A hub's verification, and every question that it puts. `refusing` gateways have no subscriber. */
const make = Effect.fnUntraced(function* (options: { readonly routesMax?: number } = {}) {
  const questions: Array<RouteQuestion> = []
  const subjects: Array<string> = []
  const told: Array<Envelope> = []
  const refusing = new Set<string>()
  const bus: MessageBus["Service"] = {
    ...Context.get(yield* Layer.build(busMemory), MessageBus),
    publish: (subject, envelopes, delivery) =>
      Effect.suspend(() => {
        assert.strictEqual(delivery, "one")
        for (const envelope of envelopes) if (envelope._tag === "RouteQuestion") questions.push(envelope)
        subjects.push(subject)
        return refusing.has(subject) ? Effect.fail(new BusError({ subject, reason: "NoResponders" })) : Effect.void
      })
  }
  const routes = Context.get(
    yield* Layer.build(layerMemoryWith({ ...limits, routesMax: options.routesMax ?? 1_000 })),
    RouteStore
  )
  const streams = new RouteMap<Session>()
  const verification = yield* makeVerification({
    bus,
    routes,
    streams,
    namespace: "default",
    hubId: "h1",
    uplink: (_, key, index, frame) => ({
      _tag: "Uplink",
      replyTo: "h1",
      session: "",
      generation: 0,
      route: key,
      index,
      frame
    }),
    tellGateway: (_, envelopes) => Effect.sync(() => void told.push(...envelopes))
  })
  const begin = (session: Session, moved: ReadonlyArray<MovedStream>, givenUp: Effect.Effect<unknown> = Effect.never) =>
    Effect.tap(Effect.forkChild(verification.verify(session, moved, givenUp)), () => settle)
  const answer = (
    granted: ReadonlyArray<RouteKey>,
    denied: ReadonlyArray<RouteKey> = [],
    over: Partial<RouteAnswer> = {}
  ) => verification.answered({ _tag: "RouteAnswer", session: alice, generation: 2, granted, denied, ...over })
  return { ...verification, routes, streams, questions, subjects, told, refusing, begin, answer }
})

const counts = Effect.gen(function* () {
  const of = (outcome: string) => Metric.value(Metric.withAttributes(HubMetrics.routesVerified, { outcome }))
  return {
    asked: (yield* of("asked")).count,
    granted: (yield* of("granted")).count,
    denied: (yield* of("denied")).count
  }
})

describe("a session that moved here", () => {
  it.effect("has each gateway asked once, and goes on with what they grant", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const session = sessionOf(alice)
      const moved = [stream(route(1)), stream(route(1, 2)), stream(route(2)), stream(route(1))]
      const verifying = yield* v.begin(session, moved)
      assert.deepStrictEqual(v.subjects, [Subject.ofGateway("default", 1), Subject.ofGateway("default", 2)])
      assert.deepInclude(v.questions[0], { name: "web", session: alice, generation: 2 })
      assert.deepStrictEqual(
        v.questions.map(({ streams }) => streams.map((one) => one.route)),
        [[route(1), route(2)], [route(1, 2)]]
      )
      yield* v.answer([route(1)], [route(2)])
      assert.isUndefined(verifying.pollUnsafe())
      yield* v.answer([route(1, 2)])
      assert.deepStrictEqual(yield* Fiber.join(verifying), [route(2)])
      assert.strictEqual(session.openStreams, 2)
      assert.strictEqual(v.streams.get(route(1)), session)
      assert.isTrue(v.wasDenied(alice, route(2)))
      assert.isFalse(v.wasDenied(bob, route(2)))
      assert.isFalse(v.wasDenied(alice, route(1)))
      assert.deepStrictEqual(yield* counts, { asked: 3, granted: 2, denied: 1 })
    })
  )

  it.effect("waits for no gateway that is not there", () =>
    Effect.gen(function* () {
      const v = yield* make()
      v.refusing.add(Subject.ofGateway("default", 1))
      const verifying = yield* v.begin(sessionOf(alice), [stream(route(1)), stream(route(1, 2))])
      yield* v.answer([route(1, 2)])
      assert.deepStrictEqual(yield* Fiber.join(verifying), [route(1)])
    })
  )

  it.effect("waits for the others no longer than its deadline, and a grant that comes later is declined", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const verifying = yield* v.begin(sessionOf(alice), list(2))
      yield* v.answer([route(0)])
      yield* TestClock.adjust(limits.verifyMs - 1)
      assert.isUndefined(verifying.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* Fiber.join(verifying), [route(1)])
      // At once, since the answer may be on its way or lost; and again when it comes.
      assert.strictEqual(v.told.length, 1)
      yield* v.answer([route(1)])
      assert.strictEqual(v.told.length, 2)
      for (const decline of v.told) {
        assert.deepInclude(decline, { _tag: "Uplink", session: alice, generation: 2, route: route(1) })
        assert.deepInclude((decline as { frame: object }).frame, { _tag: "ResponseAbort", code: "session_lost" })
      }
      assert.isUndefined(v.streams.get(route(1)))
    })
  )

  it.effect("is granted nothing twice: a repeated answer changes nothing", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const session = sessionOf(alice)
      const verifying = yield* v.begin(session, list(1))
      yield* v.answer([route(0)])
      yield* Fiber.join(verifying)
      yield* v.answer([route(0)])
      assert.deepStrictEqual(v.told, [])
      assert.strictEqual(session.openStreams, 1)
    })
  )

  it.effect("is not answered for an older connection of it", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const verifying = yield* v.begin(sessionOf(alice), list(1))
      yield* v.answer([route(0)], [], { generation: 1 })
      assert.isUndefined(verifying.pollUnsafe())
      assert.strictEqual(v.told.length, 1)
      yield* v.answer([], [route(0)])
      assert.deepStrictEqual(yield* Fiber.join(verifying), [route(0)])
    })
  )

  it.effect("gets no route beyond the table's bound, and its gateway is told", () =>
    Effect.gen(function* () {
      const v = yield* make({ routesMax: 1 })
      const verifying = yield* v.begin(sessionOf(alice), list(2))
      yield* v.answer([route(0), route(1)])
      assert.deepStrictEqual(yield* Fiber.join(verifying), [route(1)])
      assert.strictEqual(v.told.length, 1)
      assert.deepInclude(yield* v.routes.counts, { Open: 1 })
    })
  )

  it.effect("that was cut off while gateways were asked may ask again", () =>
    Effect.gen(function* () {
      const v = yield* make()
      assert.deepStrictEqual(yield* v.verify(sessionOf(alice), list(1), Effect.void), [route(0)])
      assert.deepStrictEqual(v.told, [])
      const again = yield* v.begin(sessionOf(alice, 3), list(1))
      yield* v.answer([route(0)], [], { generation: 3 })
      assert.deepStrictEqual(yield* Fiber.join(again), [])
    })
  )
})

describe("whoever guesses routes", () => {
  it.effect("has what was denied not asked again for as long as a tombstone lasts", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const first = yield* v.begin(sessionOf(alice), list(1))
      yield* v.answer([], [route(0)])
      yield* Fiber.join(first)
      assert.deepStrictEqual(yield* v.verify(sessionOf(alice, 3), list(1), Effect.never), [route(0)])
      assert.strictEqual(v.questions.length, 1)
      yield* TestClock.adjust(limits.tombstoneMs)
      yield* v.begin(sessionOf(alice, 4), list(1))
      assert.strictEqual(v.questions.length, 2)
    })
  )

  it.effect("is forgotten what he was denied where others were denied more than the bound since", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const deny = (id: SessionId, requestId: number, count: number) =>
        v
          .verify(
            sessionOf(id),
            Array.from({ length: count }, (_, i) => stream(route(requestId + i))),
            Effect.never
          )
          .pipe(Effect.forkChild, Effect.tap(TestClock.adjust(limits.verifyMs)), Effect.flatMap(Fiber.join))
      yield* deny(alice, 0, 1)
      assert.isTrue(v.wasDenied(alice, route(0)))
      for (let i = 0; i < limits.deniedRoutesMax; i += 8192) {
        yield* deny(SessionId.make(i.toString(16).padStart(32, "0")), 1 + i, 8192)
      }
      assert.isFalse(v.wasDenied(alice, route(0)))
      assert.isTrue(v.wasDenied(SessionId.make("0".repeat(32)), route(1)))
    })
  )

  it.effect("has no gateway asked about a route that somebody holds here", () =>
    Effect.gen(function* () {
      const v = yield* make()
      openStream(v.streams, route(0), sessionOf(bob))
      assert.deepStrictEqual(yield* v.verify(sessionOf(alice), list(1), Effect.never), [route(0)])
      assert.deepStrictEqual(v.questions, [])
    })
  )

  it.effect("makes questions of a bounded size, to a bounded number of gateways", () =>
    Effect.gen(function* () {
      const v = yield* make()
      yield* v.begin(sessionOf(alice), list(limits.questionRoutesMax + 1))
      assert.deepStrictEqual(
        v.questions.map(({ streams }) => streams.length),
        [limits.questionRoutesMax, 1]
      )
      const many = Array.from({ length: limits.questionGatewaysMax + 1 }, (_, i) => stream(route(0, 10 + i)))
      const verifying = yield* v.begin(sessionOf(bob), many)
      yield* settle
      assert.strictEqual(v.questions.length, 2 + limits.questionGatewaysMax)
      for (const { route } of many.slice(0, -1)) yield* v.answer([], [route], { session: bob })
      assert.strictEqual((yield* Fiber.join(verifying)).length, many.length)
    })
  )

  it.effect("may have so many asked for one session, and again once time has passed", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const half = limits.sessionRoutesAskedMax / 2
      const ask = (from: number, count: number, generation: number) =>
        v.begin(
          sessionOf(alice, generation),
          Array.from({ length: count }, (_, i) => stream(route(from + i)))
        )
      const asked = () => v.questions.reduce((sum, { streams }) => sum + streams.length, 0)
      yield* ask(0, half, 1)
      yield* ask(half, half, 2)
      assert.strictEqual(asked(), limits.sessionRoutesAskedMax)
      const beyond = yield* ask(2 * half, 1, 3)
      assert.deepStrictEqual(yield* Fiber.join(beyond), [route(2 * half)])
      assert.strictEqual(asked(), limits.sessionRoutesAskedMax)
      yield* TestClock.adjust(limits.abuseWindowMs)
      yield* ask(3 * half, half, 4)
      assert.strictEqual(asked(), limits.sessionRoutesAskedMax + half)
    })
  )

  it.effect("may have so many asked by one hub, whatever sessions he makes up", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const per = limits.streamsPerSessionMax
      const rounds = limits.hubRoutesAskedMax / per
      for (let i = 0; i < rounds + 3; i++) {
        const session = sessionOf(SessionId.make(i.toString(16).padStart(32, "0")))
        yield* Effect.forkChild(v.verify(session, list(per), Effect.never))
      }
      yield* settle
      assert.strictEqual(
        v.questions.reduce((sum, { streams }) => sum + streams.length, 0),
        limits.hubRoutesAskedMax
      )
    })
  )
})

it("an allowance fills with time, and gives all or nothing", () => {
  const allowance = new Allowance(10, 1_000, 0)
  assert.isFalse(allowance.take(11, 0))
  assert.isTrue(allowance.take(10, 0))
  assert.isFalse(allowance.take(1, 99))
  assert.isTrue(allowance.take(1, 199))
  assert.isTrue(allowance.take(10, 60_000))
  assert.isFalse(allowance.take(1, 60_000))
})

describe("a session that speaks on routes nobody here holds", () => {
  it.effect("has their gateways asked, each about its own, and hears of those that are not there", () =>
    Effect.gen(function* () {
      const v = yield* make()
      v.refusing.add(Subject.ofGateway("default", 2))
      const refused: Array<RouteKey> = []
      yield* v.inquire(sessionOf(alice), [route(1), route(1, 2), route(2)], (one) => void refused.push(one))
      assert.deepStrictEqual(
        v.questions.map(({ generation, session, streams }) => [session, generation, streams]),
        [
          [alice, 2, [route(1), route(2)].map((one) => ({ route: one, from: null, open: null }))],
          [alice, 2, [{ route: route(1, 2), from: null, open: null }]]
        ]
      )
      assert.deepStrictEqual(refused, [route(1, 2)])
      assert.isTrue(v.wasDenied(alice, route(1, 2)))
      yield* v.answer([], [route(2)])
      assert.isTrue(v.wasDenied(alice, route(2)))
      assert.isFalse(v.wasDenied(alice, route(1)))
      assert.deepStrictEqual(v.told, [])
    })
  )

  it.effect("may have no more asked than one that moves, and has nothing denied for it", () =>
    Effect.gen(function* () {
      const v = yield* make()
      const refused: Array<RouteKey> = []
      const inquire = (count: number) =>
        v.inquire(
          sessionOf(alice),
          list(count).map((one) => one.route),
          (one) => void refused.push(one)
        )
      yield* inquire(limits.sessionRoutesAskedMax)
      assert.deepStrictEqual(refused, [])
      const put = v.questions.length
      yield* inquire(1)
      assert.deepStrictEqual(refused, [route(0)])
      assert.isFalse(v.wasDenied(alice, route(0)))
      assert.lengthOf(v.questions, put)
      yield* TestClock.adjust(limits.abuseWindowMs)
      yield* inquire(1)
      assert.lengthOf(v.questions, put + 1)
    })
  )
})
