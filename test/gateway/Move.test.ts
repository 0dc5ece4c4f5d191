/** What a gateway answers a hub that a session moved to, and what it does with the stream then. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Layer, Queue, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { BusError, MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { MemoryVisitor } from "../../src/testing/MemoryVisitor.ts"
import type { Envelope, MovedStream, RouteQuestion } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { bytes, type Conversation, chunk, fakeHub, gatewayAlone, head, settle } from "./FakeHub.ts"

const session = "a".repeat(32)

const visit = Effect.fnUntraced(function* (options: ConstructorParameters<typeof MemoryVisitor>[0] = {}) {
  const gateway = yield* Gateway
  const visitor = new MemoryVisitor(options)
  yield* Effect.forkChild(gateway.request(visitor.exchange))
  return visitor
})

/** A gateway on a bus that does with a publish what the test says. */
const gatewayOn = (
  change: (envelopes: ReadonlyArray<Envelope>, publish: Effect.Effect<void, BusError>) => Effect.Effect<void, BusError>
) => {
  const bus = changedBus(
    (real) => (subject, envelopes, delivery) =>
      Effect.suspend(() => change(envelopes, real(subject, envelopes, delivery)))
  )
  return gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(bus))
}

/** The hub that a session moved to, as far as its gateway sees it. */
const elsewhere = Effect.fnUntraced(function* (hubId = "h2") {
  const bus = yield* MessageBus
  const hub = Subject.ofHub("default", hubId)
  const heard = yield* Queue.unbounded<Envelope>()
  const inbox = yield* bus.subscribe(hub)
  yield* Effect.forkScoped(Stream.runForEach(inbox, (envelope) => Queue.offer(heard, envelope)))
  const ask = (app: Conversation, over: Partial<RouteQuestion> = {}, stream: Partial<MovedStream> = {}) => {
    const { replyTo, route } = app.opening
    const open = { next: 1, credited: 0, granted: limits.windowBytesInitial }
    return bus.publish(
      replyTo,
      [
        {
          _tag: "RouteQuestion",
          replyTo: hub,
          name: "web",
          session,
          generation: 2,
          streams: [{ route, from: 0, open, ...stream }],
          ...over
        }
      ],
      "each"
    )
  }
  const granted = (app: Conversation, over: Partial<RouteQuestion> = {}, stream: Partial<MovedStream> = {}) =>
    Effect.map(Effect.andThen(ask(app, over, stream), Queue.take(heard)), (envelope) => {
      assert(envelope._tag === "RouteAnswer")
      assert.strictEqual(envelope.granted.length + envelope.denied.length, 1)
      return envelope.granted.length === 1
    })
  const say = (app: Conversation, frame: Parameters<Conversation["uplink"]>[0], generation = 2) =>
    app.publish(app.uplink(frame, { replyTo: hub, generation }))
  return { hub, ask, granted, heard, say }
})

describe("a hub that a session moved to", () => {
  it.effect("is granted the stream of that session, in flight and asked for by its name, and no other", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const visitor = yield* visit()
      const app = yield* hub.next
      yield* settle
      const other = yield* elsewhere()
      const { requestId } = app.opening.route
      assert.isFalse(yield* other.granted(app, { session: "b".repeat(32) }))
      assert.isFalse(yield* other.granted(app, { name: "api" }))
      assert.isFalse(yield* other.granted(app, { generation: 1 }))
      assert.isFalse(yield* other.granted(app, {}, { route: { ...app.opening.route, requestId: requestId ^ 1 } }))
      assert.isFalse(yield* other.granted(app, {}, { route: { gatewayId: 1, requestId } }))
      assert.isTrue(yield* other.granted(app))
      // And so is a third, where the session moved on, but never again the second.
      const third = yield* elsewhere("h3")
      assert.isTrue(yield* third.granted(app, { generation: 3 }))
      assert.isFalse(yield* other.granted(app, { generation: 3 }))
      assert.isFalse(yield* other.granted(app))
      yield* third.say(app, head(false, "from the third"), 3)
      assert.strictEqual((yield* visitor.received).status, 200)
      assert.isFalse(yield* third.granted(app, { generation: 4 }))
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is granted nothing of a stream that no session has yet", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      yield* visit()
      const app = yield* hub.opened
      assert.isFalse(yield* (yield* elsewhere()).granted(app))
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("hears the answer first, then what was waiting, and the old hub nothing more", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const visitor = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      yield* settle
      const other = yield* elsewhere()
      yield* other.ask(app)
      yield* settle
      visitor.send(bytes(5))
      yield* settle
      yield* TestClock.adjust(100)
      assert.strictEqual((yield* Queue.take(other.heard))._tag, "RouteAnswer")
      assert.deepInclude(yield* Queue.take(other.heard), { _tag: "Downlink", index: 1 })
      assert.deepStrictEqual(yield* app.pending, [])
    }).pipe(
      Effect.provide(
        gatewayOn((envelopes, publish) =>
          envelopes.some(({ _tag }) => _tag === "RouteAnswer") ? Effect.delay(publish, 100) : publish
        )
      )
    )
  )

  it.effect("says what was granted in all, and what the old hub granted meanwhile is not counted again", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const visitor = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      visitor.send(bytes(limits.windowBytesInitial + 1_000))
      yield* settle
      const sent = (yield* app.pending).length
      assert.strictEqual(visitor.untakenBytes, 1_000)
      const other = yield* elsewhere()
      const open = { next: sent + 1, credited: 0, granted: limits.windowBytesInitial + 300 }
      assert.isTrue(yield* other.granted(app, {}, { open }))
      yield* settle
      assert.strictEqual(visitor.untakenBytes, 700)
      // On its way since before the move, and part of that sum.
      yield* app.reply({ _tag: "Credit", bytes: 300 })
      // Asked twice, since a bus may repeat: nothing changes.
      yield* Queue.clear(other.heard)
      assert.isTrue(yield* other.granted(app, {}, { open }))
      yield* settle
      assert.strictEqual(visitor.untakenBytes, 700)
      yield* other.say(app, { _tag: "Credit", bytes: 700 })
      yield* settle
      assert.strictEqual(visitor.untakenBytes, 0)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is told again what was granted and did not arrive, and no more than a window of it", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true), chunk(bytes(100_000)), chunk(bytes(100_000)))
      yield* settle
      const granted = (yield* app.pending).reduce((sum, frame) => sum + (frame._tag === "Credit" ? frame.bytes : 0), 0)
      assert.isAbove(granted, 0)
      const other = yield* elsewhere()
      assert.isTrue(yield* other.granted(app, {}, { from: 3, open: { next: 1, credited: 50, granted: 0 } }))
      const again = yield* Queue.take(other.heard)
      assert.deepInclude((again as { frame: object }).frame, { _tag: "Credit", bytes: granted - 50 })
    }).pipe(Effect.provide(gatewayAlone()))
  )

  for (const [what, stream] of [
    ["went up", { from: 1 }],
    ["went down", { open: { next: 0, credited: 0, granted: 0 } }]
  ] as const) {
    it.effect(`finds out at once what ${what} and was lost: both sides of that stream hear of the gap`, () =>
      Effect.gen(function* () {
        const hub = yield* fakeHub()
        const visitor = yield* visit()
        const app = yield* hub.next
        yield* settle
        const other = yield* elsewhere()
        assert.isTrue(yield* other.granted(app, {}, stream))
        assert.strictEqual((yield* visitor.received).status, 502)
        assert.include(visitor.text, "runner_lost")
        const last = yield* Queue.take(other.heard)
        assert.deepInclude((last as { frame: object }).frame, { _tag: "RequestAbort", code: "gap" })
        const gateway = yield* Gateway
        assert.strictEqual(yield* gateway.streams, 0)
      }).pipe(Effect.provide(gatewayAlone()))
    )
  }

  it.effect("hears the visitor's last word where that had nowhere to go", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const hub = yield* Scope.provide(fakeHub(), scope)
      const visitor = yield* visit()
      const app = yield* hub.next
      yield* settle
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(limits.leaseRenewalMs)
      visitor.leave()
      yield* settle
      const other = yield* elsewhere()
      assert.isTrue(yield* other.granted(app))
      const last = yield* Queue.take(other.heard)
      assert.deepInclude((last as { frame: object }).frame, { _tag: "RequestAbort", code: "cancelled" })
      const gateway = yield* Gateway
      yield* settle
      assert.strictEqual(yield* gateway.streams, 0)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("that cannot be told has the grace to say something, and is given up as the old one would be", () => {
    let failing = true
    const disconnected = Effect.fail(new BusError({ subject: "", reason: "Disconnected" }))
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const visitor = yield* visit()
      const app = yield* hub.next
      yield* settle
      const other = yield* elsewhere()
      yield* other.ask(app)
      yield* TestClock.adjust(limits.sessionGraceMs - 1)
      assert.strictEqual(visitor.answer.state, "open")
      failing = false
      yield* TestClock.adjust(1_000)
      yield* visitor.received
      assert.include(visitor.text, "runner_lost")
      const last = yield* Queue.take(other.heard)
      assert.deepInclude((last as { frame: object }).frame, { _tag: "RequestAbort", code: "session_lost" })
    }).pipe(
      Effect.provide(
        gatewayOn((envelopes, publish) =>
          failing && envelopes.some(({ _tag }) => _tag === "RouteAnswer") ? disconnected : publish
        )
      )
    )
  })
})

describe("a hub that lets go of a session because that is elsewhere", () => {
  const moved = (app: Conversation, generation: number): Envelope => ({
    _tag: "SessionMoved",
    session,
    generation,
    routes: [app.opening.route]
  })
  const publish = (app: Conversation, envelope: Envelope) =>
    Effect.andThen(
      Effect.flatMap(MessageBus, (bus) => bus.publish(app.opening.replyTo, [envelope], "each")),
      settle
    )

  it.effect("says nothing more on its streams, which have the grace to be heard of", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const visitor = yield* visit()
      const app = yield* hub.next
      yield* settle
      yield* publish(app, moved(app, 2))
      yield* app.reply(head(false, "from before"))
      yield* settle
      assert.strictEqual(visitor.answer.status, 0)
      yield* TestClock.adjust(limits.sessionGraceMs - 1)
      const other = yield* elsewhere()
      assert.isTrue(yield* other.granted(app))
      yield* TestClock.adjust(limits.sessionGraceMs)
      yield* other.say(app, chunk("x"))
      yield* settle
      assert.strictEqual(visitor.answer.status, 502)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("ends them where nobody is heard of, and is not believed once somebody was", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const lost = yield* visit()
      const lostApp = yield* hub.next
      const kept = yield* visit()
      const keptApp = yield* hub.next
      yield* settle
      const other = yield* elsewhere()
      assert.isTrue(yield* other.granted(keptApp))
      yield* publish(lostApp, moved(lostApp, 2))
      yield* publish(keptApp, moved(keptApp, 2))
      yield* TestClock.adjust(limits.sessionGraceMs)
      yield* lost.received
      assert.include(lost.text, "runner_lost")
      assert.strictEqual(kept.answer.state, "open")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("and says so after the next hub has the stream, or again, holds nothing up there", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const visitor = yield* visit()
      const app = yield* hub.next
      yield* settle
      const leaving: Envelope = { _tag: "SessionLeaving", replyTo: hub.hub, session, routes: [app.opening.route] }
      yield* publish(app, leaving)
      const other = yield* elsewhere()
      assert.isTrue(yield* other.granted(app))
      yield* settle
      yield* publish(app, leaving)
      visitor.leave()
      const last = yield* Queue.take(other.heard)
      assert.deepInclude((last as { frame: object }).frame, { _tag: "RequestAbort", code: "cancelled" })
      yield* settle
      assert.strictEqual(yield* Gateway.use((gateway) => gateway.streams), 0)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("and is gone before it has let go is noticed all the same: the visitor is answered", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const hub = yield* Scope.provide(fakeHub(), scope)
      const visitor = yield* visit()
      const app = yield* hub.next
      yield* settle
      const { route } = app.opening
      yield* publish(app, { _tag: "SessionLeaving", replyTo: hub.hub, session, routes: [route] })
      yield* Scope.close(scope, Exit.void)
      yield* TestClock.adjust(limits.leaseRenewalMs + limits.sessionGraceMs)
      yield* settle
      assert.strictEqual(visitor.answer.status, 502)
      assert.include(visitor.text, "runner_lost")
    }).pipe(Effect.provide(gatewayAlone()))
  )
})
