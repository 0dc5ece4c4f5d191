/** What a gateway does where nobody listens for a name: whose runner is away for a moment, whose hub was lost, and that was never there. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Layer, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { BusError, MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { visit, visitUpgrade } from "../../src/testing/TestTunnel.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { fakeHub, gatewayAlone, head, settle } from "./FakeHub.ts"

/** A hub that has served one request of the name, and the scope that it lives in. */
const servedOnce = Effect.gen(function* () {
  const life = yield* Scope.make()
  const hub = yield* fakeHub("web", "h1").pipe(Scope.provide(life))
  const { visitor } = yield* visit()
  const app = yield* hub.next
  yield* app.reply(head(false, "once"))
  assert.strictEqual((yield* visitor.received).status, 200)
  return { lose: Scope.close(life, Exit.void) }
})

it.effect("a name that was never there is nobody, at once", () =>
  Effect.gen(function* () {
    const { visitor } = yield* visit()
    yield* settle
    assert.strictEqual((yield* visitor.received).status, 503)
    assert.include(visitor.text, "no_runner")
  }).pipe(Effect.provide(gatewayAlone()))
)

it.effect("a name whose hub is gone is asked for again, and served by whoever has it then", () =>
  Effect.gen(function* () {
    const { lose } = yield* servedOnce
    yield* lose
    const { visitor } = yield* visit()
    yield* TestClock.adjust(limits.askAgainMs - 2 * limits.askAgainEveryMs)
    assert.strictEqual(visitor.answer.status, 0)
    const other = yield* fakeHub("web", "h2", "b".repeat(32))
    yield* TestClock.adjust(limits.askAgainEveryMs)
    const app = yield* other.next
    yield* app.reply(head(false, "again"))
    assert.strictEqual((yield* visitor.received).status, 200)
    assert.strictEqual(visitor.text, "again")
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

it.effect("and so is a WebSocket", () =>
  Effect.gen(function* () {
    const { lose } = yield* servedOnce
    yield* lose
    yield* visitUpgrade()
    yield* TestClock.adjust(limits.askAgainEveryMs)
    const other = yield* fakeHub("web", "h2", "b".repeat(32))
    yield* TestClock.adjust(limits.askAgainEveryMs)
    assert.strictEqual((yield* other.opened).opening.frame._tag, "WebSocketOpen")
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

it.effect("it is asked for no longer than that", () =>
  Effect.gen(function* () {
    const { lose } = yield* servedOnce
    yield* lose
    const { visitor } = yield* visit()
    yield* TestClock.adjust(limits.askAgainMs - 1)
    assert.strictEqual(visitor.answer.status, 0)
    yield* TestClock.adjust(2 * limits.askAgainEveryMs)
    assert.strictEqual((yield* visitor.received).status, 503)
    assert.include(visitor.text, "no_runner")
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

it.effect("a name whose hub was lost long ago is nobody, at once", () =>
  Effect.gen(function* () {
    const { lose } = yield* servedOnce
    yield* lose
    yield* TestClock.adjust(limits.servedLatelyMs + 1)
    const { visitor } = yield* visit()
    yield* settle
    assert.strictEqual((yield* visitor.received).status, 503)
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

it.effect("a hub that is there and does not listen for the name any more is believed, at once", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    const { lose } = yield* servedOnce
    yield* lose
    // The same hub, without its runner.
    yield* bus.subscribe(Subject.ofHub("default", "h1"))
    const { visitor } = yield* visit()
    yield* settle
    assert.strictEqual((yield* visitor.received).status, 503)
    assert.include(visitor.text, "no_runner")
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

it.effect("a hub that came back with its runner between two questions is asked for the name once more", () => {
  let misses = 0
  const opens = [Subject.ofName("default", "web"), Subject.ofAway("default", "web")]
  const bus = changedBus(
    (real) => (subject, envelopes, delivery) =>
      Effect.suspend(() =>
        opens.includes(subject) && misses-- > 0
          ? Effect.fail(new BusError({ subject, reason: "NoResponders" }))
          : real(subject, envelopes, delivery)
      )
  )
  return Effect.gen(function* () {
    const hub = yield* fakeHub("web", "h1")
    const first = yield* visit()
    yield* (yield* hub.next).reply(head(false, "once"))
    yield* first.visitor.received
    // Nobody listens for the name, nor for those that are away, and then both hub and name are there.
    misses = 2
    const { visitor } = yield* visit()
    yield* (yield* hub.next).reply(head(false, "again"))
    assert.strictEqual((yield* visitor.received).status, 200)
    assert.strictEqual(visitor.text, "again")
  }).pipe(Effect.provide(gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(bus))))
})

it.effect("a visitor that leaves meanwhile is not asked for again", () =>
  Effect.gen(function* () {
    const { lose } = yield* servedOnce
    yield* lose
    const { visitor } = yield* visit()
    yield* TestClock.adjust(limits.askAgainEveryMs)
    visitor.leave()
    const other = yield* fakeHub("web", "h2", "b".repeat(32))
    // One question was under way already, and who took it is told; there is no other.
    yield* TestClock.adjust(limits.askAgainMs)
    const told = (yield* other.told).filter(({ _tag }) => _tag === "Downlink")
    assert.isAtMost(told.length, 1)
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

it.effect("who waits for a runner's return is asked only where nobody has a runner", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    const away = yield* bus.subscribe(Subject.ofAway("default", "web"), ["one"])
    const life = yield* Scope.make()
    const hub = yield* fakeHub("web", "h1").pipe(Scope.provide(life))
    yield* visit({ target: "/first" })
    const app = yield* hub.next
    assert.strictEqual(app.opening.frame._tag === "RequestStart" && app.opening.frame.target, "/first")
    yield* Scope.close(life, Exit.void)
    yield* visit({ target: "/second" })
    const [asked] = yield* Stream.runCollect(Stream.take(away, 1))
    assert.strictEqual(
      asked?._tag === "Downlink" && asked.frame._tag === "RequestStart" && asked.frame.target,
      "/second"
    )
  }).pipe(Effect.scoped, Effect.provide(gatewayAlone()))
)

describe("an opening frame that arrived, and is reported as lost once its hub has spoken", () => {
  /** Hands each opening frame over, and says that it is lost when the test says so. */
  const lostLater = Effect.gen(function* () {
    const told = yield* Deferred.make<void>()
    const bus = changedBus((real) => (subject, envelopes, delivery) => {
      const arrives = real(subject, envelopes, delivery)
      if (subject !== Subject.ofName("default", "web")) return arrives
      const lost = Effect.fail(new BusError({ subject, reason: "Disconnected" }))
      return Effect.andThen(arrives, Effect.andThen(Deferred.await(told), lost))
    })
    return {
      told: Deferred.succeed(told, undefined),
      layer: gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(bus))
    }
  })

  it.effect("is a request that goes on", () =>
    Effect.gen(function* () {
      const { layer, told } = yield* lostLater
      yield* Effect.gen(function* () {
        const hub = yield* fakeHub("web", "h1")
        const { visitor } = yield* visit({ method: "POST" })
        const app = yield* hub.next
        yield* settle
        yield* told
        yield* settle
        yield* app.reply(head(false, "taken"))
        assert.strictEqual((yield* visitor.received).status, 200)
        assert.strictEqual(visitor.text, "taken")
        assert.deepStrictEqual(yield* app.pending, [])
      }).pipe(Effect.provide(layer))
    })
  )

  it.effect("is a WebSocket that goes on, and whose close its hub hears of", () =>
    Effect.gen(function* () {
      const { layer, told } = yield* lostLater
      yield* Effect.gen(function* () {
        const hub = yield* fakeHub("web", "h1")
        const { visitor } = yield* visitUpgrade()
        const app = yield* hub.next
        yield* settle
        yield* told
        yield* settle
        yield* app.reply({ _tag: "WebSocketOpen", headers: [], canHibernate: false })
        const answer = yield* visitor.answered
        assert.strictEqual(answer._tag, "Accepted")
        visitor.leave()
        assert.strictEqual((yield* app.next)._tag, "WebSocketClose")
      }).pipe(Effect.provide(layer))
    })
  )
})
