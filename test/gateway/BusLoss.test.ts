/** What a gateway does about a bus between machines that goes out of reach. */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, SubscriptionRef } from "effect"
import { BusError, MessageBus } from "../../src/bus/MessageBus.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { visit, visitUpgrade } from "../../src/testing/TestTunnel.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { chunk, fakeHub, gatewayAlone, head, settle } from "./FakeHub.ts"

const atRest = Effect.gen(function* () {
  yield* settle
  assert.strictEqual(yield* Gateway.use((gateway) => gateway.inFlight), 0)
  assert.strictEqual(yield* Gateway.use((gateway) => gateway.streams), 0)
})

it.effect("every stream that a hub holds fails at once, and its hub is told", () =>
  Effect.gen(function* () {
    const { connected } = yield* MessageBus
    const hub = yield* fakeHub()
    const waiting = yield* visit({ target: "/waiting" })
    const first = yield* hub.next
    const reading = yield* visit({ target: "/reading" })
    const second = yield* hub.next
    yield* second.reply(head(true), chunk("half"))
    yield* settle
    yield* SubscriptionRef.set(connected, false)
    assert.strictEqual((yield* waiting.visitor.received).status, 502)
    assert.include(waiting.visitor.text, "runner_lost")
    assert.strictEqual((yield* reading.visitor.received).state, "broken")
    for (const app of [first, second]) {
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "gap" })
    }
    yield* atRest
  }).pipe(Effect.provide(gatewayAlone()))
)

it.effect("a request that no hub has answered yet goes on", () =>
  Effect.gen(function* () {
    const { connected } = yield* MessageBus
    const hub = yield* fakeHub()
    const { visitor } = yield* visit()
    const app = yield* hub.opened
    yield* SubscriptionRef.set(connected, false)
    yield* settle
    yield* SubscriptionRef.set(connected, true)
    yield* app.greet(0)
    yield* app.reply(head(false, "all the same"))
    assert.strictEqual((yield* visitor.received).status, 200)
    yield* atRest
  }).pipe(Effect.provide(gatewayAlone()))
)

for (const kind of ["request", "WebSocket"] as const) {
  it.effect(`a ${kind} that was not acknowledged is told to the hub that has it all the same`, () => {
    const unacknowledging = changedBus(
      (real) => (subject, envelopes, delivery) =>
        Effect.andThen(
          real(subject, envelopes, delivery),
          delivery === "one" ? Effect.fail(new BusError({ subject, reason: "Timeout" })) : Effect.void
        )
    )
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      if (kind === "request") {
        const { visitor } = yield* visit()
        assert.strictEqual((yield* visitor.received).status, 502)
      } else {
        const { visitor } = yield* visitUpgrade()
        assert.strictEqual((yield* visitor.answered)._tag, "Accepted")
      }
      const app = yield* hub.next
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "unknown_route" })
      yield* atRest
    }).pipe(Effect.provide(gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(unacknowledging))))
  })
}
