/** What a hub does about a bus between machines: one that confirms late, and one that goes out of reach. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import { layerOpen } from "../../src/auth/Authenticator.ts"
import { BusError, MessageBus } from "../../src/bus/MessageBus.ts"
import { Hub, layer as hubLayer } from "../../src/hub/Hub.ts"
import { closeCodes } from "../../src/protocol/Wayleave1.ts"
import { RouteStore, layerMemory as routesMemory } from "../../src/route/RouteStore.ts"
import { connect, dial } from "../../src/testing/ScriptedRunner.ts"
import { isLastWord } from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { gateway, gatewayId, get, hubAlone, settle } from "./HubHarness.ts"

const route = (requestId: number) => ({ gatewayId, requestId })
const head: ResponseFrame = { _tag: "ResponseStart", status: 200, headers: [], body: new Uint8Array(0), streamed: true }
const end: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array([9]), finish: true }
const counts = RouteStore.use((routes) => routes.counts)

/** Hands everything over at once, and confirms last words when the gate opens. */
class LateBus {
  private waiting: Array<() => void> = []
  private open = false
  readonly layer = changedBus(
    (real) => (subject, envelopes, delivery) =>
      Effect.andThen(
        real(subject, envelopes, delivery),
        envelopes.some(isLastWord) && !this.open
          ? Effect.callback<void>((resume) => void this.waiting.push(() => resume(Effect.void)))
          : Effect.void
      )
  )
  readonly hub = hubLayer().pipe(Layer.provideMerge(Layer.mergeAll(this.layer, routesMemory, layerOpen)))

  openGate() {
    this.open = true
    for (const confirm of this.waiting) confirm()
    this.waiting = []
  }
}

describe("on a bus that confirms late", () => {
  it.effect("frames behind a last word do not wait for it, and its route is cleared when it is confirmed", () => {
    const late = new LateBus()
    return Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.open("web", 2, get("/"))
      yield* settle
      yield* runner.frames([{ route: route(1), index: 0, frame: end }])
      yield* runner.frames([{ route: route(2), index: 0, frame: head }])
      yield* settle
      const got = yield* visitor.pending
      assert.deepStrictEqual(
        got.map(({ frame }) => frame._tag),
        ["Credit", "Credit", "ResponseChunk", "ResponseStart"]
      )
      assert.deepInclude(yield* counts, { Open: 1, Closing: 1, Closed: 0 })
      late.openGate()
      yield* settle
      assert.deepInclude(yield* counts, { Open: 1, Closing: 0, Closed: 1 })
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).openStreams, 1)
    }).pipe(Effect.provide(late.hub))
  })

  it.effect("a runner whose last words all wait is not read beyond the limit, until one is confirmed", () => {
    const late = new LateBus()
    return Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      const streams = limits.relaysUnconfirmedMax + 3
      for (let i = 1; i <= streams; i++) yield* visitor.open("web", i, get("/"))
      yield* settle
      yield* visitor.pending
      for (let i = 1; i <= streams; i++) {
        yield* runner.frames([{ route: route(i), index: 0, frame: end }])
        yield* settle
      }
      assert.strictEqual((yield* visitor.pending).length, limits.relaysUnconfirmedMax)
      late.openGate()
      yield* settle
      assert.strictEqual((yield* visitor.pending).length, 3)
      assert.deepInclude(yield* counts, { Open: 0, Closing: 0, Closed: streams })
    }).pipe(Effect.provide(late.hub))
  })

  it.effect("a newer connection waits until the older one's last words are settled", () => {
    const late = new LateBus()
    return Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* runner.nextFrame
      yield* runner.frames([{ route: route(1), index: 0, frame: end }])
      yield* settle
      const second = yield* Effect.forkChild(connect({ name: "web", received: 1 }))
      yield* settle
      assert.isUndefined(second.pollUnsafe())
      late.openGate()
      assert.strictEqual((yield* Fiber.join(second)).welcome.outcome, "resumed")
      assert.deepInclude(yield* counts, { Open: 0, Closing: 0, Closed: 1 })
    }).pipe(Effect.provide(late.hub))
  })
})

describe("when the bus goes out of reach", () => {
  it.effect("every stream ends on both sides, its gateway is told when it can be, and the runner stays", () => {
    let away = false
    const bus = changedBus(
      (real) => (subject, envelopes, delivery) =>
        Effect.suspend(() =>
          away ? Effect.fail(new BusError({ subject, reason: "Disconnected" })) : real(subject, envelopes, delivery)
        )
    )
    return Effect.gen(function* () {
      const { connected } = yield* MessageBus
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* runner.nextFrame
      away = true
      yield* SubscriptionRef.set(connected, false)
      yield* settle
      const told = yield* runner.nextFrame
      assert.deepStrictEqual([told.route, told.frame], [route(1), { _tag: "RequestAbort", code: "gap" }])
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).openStreams, 0)
      // The runner echoes; nobody listens, and it is no offence.
      yield* runner.frames([{ route: route(1), index: 0, frame: end }])
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      away = false
      yield* SubscriptionRef.set(connected, true)
      yield* TestClock.adjust("1 second")
      assert.deepInclude((yield* visitor.next).frame, { _tag: "ResponseAbort", code: "gap" })
      yield* visitor.open("web", 2, get("/"))
      assert.strictEqual((yield* runner.nextFrame).route.requestId, 2)
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 1)
    }).pipe(Effect.provide(hubLayer().pipe(Layer.provideMerge(Layer.mergeAll(bus, routesMemory, layerOpen)))))
  })

  it.effect("a request that its runner has not seen yet leaves nothing to echo", () =>
    Effect.gen(function* () {
      const { connected } = yield* MessageBus
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      runner.socket.terminateUnsafe()
      yield* settle
      yield* visitor.open("web", 1, get("/"))
      yield* settle
      yield* SubscriptionRef.set(connected, false)
      yield* settle
      assert.deepInclude(yield* counts, { Open: 0, HalfClosed: 0, Closed: 1 })
    }).pipe(Effect.provide(hubAlone()))
  )
})

describe("when the bus stays away", () => {
  it.effect(
    "runners are sent elsewhere after a while, none is taken in, and those that found nothing are served again",
    () =>
      Effect.gen(function* () {
        const { connected } = yield* MessageBus
        const visitor = yield* gateway
        const first = yield* connect({ name: "web" })
        yield* SubscriptionRef.set(connected, false)
        yield* TestClock.adjust(limits.cutOffMs - 1)
        const early = yield* connect({ name: "web", session: 2 })
        const told = yield* Effect.forEach([first, early], ({ next }) => Effect.forkChild(next))
        yield* settle
        assert.isTrue(told.every((fiber) => fiber.pollUnsafe() === undefined))
        yield* TestClock.adjust(1)
        for (const fiber of told) assert.strictEqual((yield* Fiber.join(fiber))._tag, "GoAway")
        const { code, reason } = yield* Effect.flip((yield* dial()).next)
        assert.deepStrictEqual([code, reason], [closeCodes.draining.code, "the hub is cut off from the others"])
        yield* SubscriptionRef.set(connected, true)
        yield* settle
        yield* visitor.open("web", 1, get("/"))
        assert.strictEqual((yield* Effect.raceFirst(first.nextFrame, early.nextFrame)).route.requestId, 1)
        assert.strictEqual((yield* connect({ name: "web", session: 3 })).welcome.outcome, "begun")
      }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("a bus that is back before that moves nobody", () =>
    Effect.gen(function* () {
      const { connected } = yield* MessageBus
      const runner = yield* connect({ name: "web" })
      const told = yield* Effect.forkChild(runner.next)
      yield* SubscriptionRef.set(connected, false)
      yield* TestClock.adjust(limits.cutOffMs - 1)
      yield* SubscriptionRef.set(connected, true)
      yield* TestClock.adjust(limits.cutOffMs)
      assert.isUndefined(told.pollUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )
})
