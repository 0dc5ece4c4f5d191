/**
 * The rule this project exists for, as a whole matrix: every response frame × every state of its route × every fate of the publish. What must
 * happen is written down once, in `expected`; the relay, the store and the bus are the real ones but for the publish itself.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import { BusError, layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import * as HubMetrics from "../../src/hub/HubMetrics.ts"
import { makeRelay, type Relayed } from "../../src/hub/Relay.ts"
import { layerMemory, RouteStore } from "../../src/route/RouteStore.ts"
import { SessionId, type Uplink } from "../../src/tunnel/Envelope.ts"
import { isTerminal, type ResponseFrame } from "../../src/tunnel/Frame.ts"

const bytes = new Uint8Array([1, 2, 3])

/** One of each, and both kinds of those that may or may not be terminal. A variant that is missing here does not compile. */
const variants: {
  readonly [Tag in ResponseFrame["_tag"]]: ReadonlyArray<Extract<ResponseFrame, { readonly _tag: Tag }>>
} = {
  Informational: [{ _tag: "Informational", status: 103, headers: [] }],
  ResponseStart: [
    { _tag: "ResponseStart", status: 200, headers: [], body: bytes, streamed: false },
    { _tag: "ResponseStart", status: 200, headers: [], body: bytes, streamed: true }
  ],
  ResponseChunk: [
    { _tag: "ResponseChunk", body: bytes, finish: false },
    { _tag: "ResponseChunk", body: bytes, finish: true }
  ],
  ResponseTrailers: [{ _tag: "ResponseTrailers", headers: [] }],
  ResponseAbort: [{ _tag: "ResponseAbort", code: "app_failed", message: "" }],
  WebSocketOpen: [{ _tag: "WebSocketOpen", headers: [], canHibernate: false }],
  WebSocketMessage: [{ _tag: "WebSocketMessage", data: bytes, binary: true, finish: true }],
  WebSocketMessageAck: [{ _tag: "WebSocketMessageAck", index: 3 }],
  WebSocketClose: [{ _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false }],
  Credit: [{ _tag: "Credit", bytes: 10 }]
}

const states = ["Unknown", "Open", "Foreign", "Closing", "HalfClosed", "Closed"] as const
type State = (typeof states)[number]
const fates = ["succeeds", "fails", "is interrupted"] as const
type Fate = (typeof fates)[number]

interface Outcome {
  /** How often the bus was asked to take the frame; a failing publish is attempted again. */
  readonly published: boolean
  readonly refused: "Unknown" | "Foreign" | "Late" | null
  readonly routeAfter: "none" | "Open" | "Closing" | "HalfClosed" | "Closed"
  readonly reopened: 0 | 1
}

const expected = (frame: ResponseFrame, state: State, fate: Fate): Outcome => {
  switch (state) {
    case "Unknown":
      return { published: false, refused: "Unknown", routeAfter: "none", reopened: 0 }
    case "Foreign":
      return { published: false, refused: "Foreign", routeAfter: "Open", reopened: 0 }
    case "Closing":
    case "HalfClosed":
    case "Closed":
      return { published: false, refused: "Late", routeAfter: state, reopened: 0 }
    case "Open": {
      if (!isTerminal(frame)) return { published: true, refused: null, routeAfter: "Open", reopened: 0 }
      return fate === "succeeds"
        ? { published: true, refused: null, routeAfter: "Closed", reopened: 0 }
        : { published: true, refused: null, routeAfter: "Open", reopened: 1 }
    }
  }
}

const owner = SessionId.make("a".repeat(32))
const stranger = SessionId.make("b".repeat(32))
const key = { gatewayId: 1, requestId: 2 }
const neighbourKey = { gatewayId: 1, requestId: 3 }

const uplink = (frame: ResponseFrame, route = key): Uplink => ({
  _tag: "Uplink",
  replyTo: "hub",
  session: owner,
  generation: 1,
  route,
  index: 0,
  frame
})

/** The memory bus, with a `publish` of the test's own. */
const busThat = (publish: MessageBus["Service"]["publish"]) =>
  Layer.effect(
    MessageBus,
    Effect.map(MessageBus, (bus) => ({ ...bus, publish }))
  ).pipe(Layer.provide(busMemory))

/** A bus that meets its fate once something was handed to it. */
const fatefulBus = (fate: Fate, taken: Array<Uplink>, reached: Deferred.Deferred<void>) =>
  busThat((subject, envelopes) =>
    Effect.suspend(() => {
      taken.push(...(envelopes as ReadonlyArray<Uplink>))
      Deferred.doneUnsafe(reached, Effect.void)
      switch (fate) {
        case "succeeds":
          return Effect.void
        case "fails":
          return Effect.fail(new BusError({ subject, reason: "Full" }))
        case "is interrupted":
          return Effect.never
      }
    })
  )

const arrange = (routes: RouteStore["Service"], state: State) => {
  const issue = Effect.orDie(routes.issue(key, state === "Foreign" ? stranger : owner))
  const end = routes.authorize({ session: owner, generation: 1 }, [
    { route: key, frame: { _tag: "ResponseAbort", code: "cancelled", message: "" } }
  ])
  switch (state) {
    case "Unknown":
      return Effect.void
    case "Open":
    case "Foreign":
      return issue
    case "Closing":
      return Effect.andThen(issue, end)
    case "HalfClosed":
      return Effect.andThen(issue, routes.halfClose(key))
    case "Closed":
      return Effect.andThen(Effect.andThen(issue, end), routes.clear([key]))
  }
}

const counterOf = {
  Unknown: Metric.withAttributes(HubMetrics.framesRefused, { reason: "unknown" }),
  Foreign: Metric.withAttributes(HubMetrics.framesRefused, { reason: "foreign" }),
  Late: Metric.withAttributes(HubMetrics.framesRefused, { reason: "late" })
}
const count = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
  Effect.map(Metric.value(metric), (state) => state.count)

const stateOf = (counts: Effect.Success<RouteStore["Service"]["counts"]>): Outcome["routeAfter"] => {
  const present = (["Open", "Closing", "HalfClosed", "Closed"] as const).filter((state) => counts[state] > 0)
  assert.isAtMost(present.length, 1)
  return present[0] ?? "none"
}

for (const state of states) {
  describe(`a frame on a route that is ${state}`, () => {
    for (const frame of Object.values(variants).flat() as ReadonlyArray<ResponseFrame>) {
      for (const fate of fates) {
        const want = expected(frame, state, fate)
        const kind = isTerminal(frame) ? `terminal ${frame._tag}` : frame._tag
        const verb = want.published ? "is published" : `is refused as ${want.refused}`
        it.effect(`${kind} ${verb}, the route is ${want.routeAfter} when the publish ${fate}`, () => {
          const taken: Array<Uplink> = []
          const reached = Deferred.makeUnsafe<void>()
          return Effect.gen(function* () {
            const routes = yield* RouteStore
            yield* routes.adopt({ session: owner, generation: 1 })
            yield* arrange(routes, state)
            const relay = yield* makeRelay("default")
            const before = {
              refused: want.refused === null ? 0 : yield* count(counterOf[want.refused]),
              reopened: yield* count(HubMetrics.routesReopened)
            }
            const fiber: Fiber.Fiber<Relayed> = yield* Effect.forkChild(
              relay({ session: owner, generation: 1 }, [uplink(frame)])
            )
            if (want.published) {
              yield* Deferred.await(reached)
              yield* TestClock.adjust("1 second")
            }
            if (fate === "is interrupted" && want.published) yield* Fiber.interrupt(fiber)
            else {
              const relayed = yield* Fiber.join(fiber)
              assert.deepStrictEqual(
                relayed.refused.map(({ reason }) => reason),
                want.refused === null ? [] : [want.refused]
              )
              assert.strictEqual(relayed.ended.length, want.routeAfter === "Closed" && want.published ? 1 : 0)
              assert.strictEqual(relayed.broken.length, want.published && fate === "fails" ? 1 : 0)
            }
            assert.strictEqual(taken.length > 0, want.published)
            assert.strictEqual(stateOf(yield* routes.counts), want.routeAfter)
            assert.strictEqual((yield* count(HubMetrics.routesReopened)) - before.reopened, want.reopened)
            if (want.refused !== null) {
              assert.strictEqual((yield* count(counterOf[want.refused])) - before.refused, 1)
            }
          }).pipe(Effect.provide(Layer.merge(layerMemory, fatefulBus(fate, taken, reached))))
        })
      }
    }
  })
}

describe("the order of things", () => {
  const observed = (log: Array<string>) =>
    Layer.effect(
      RouteStore,
      Effect.map(RouteStore, (routes) => ({
        ...routes,
        clear: (keys) =>
          Effect.andThen(
            Effect.sync(() => log.push("clear")),
            routes.clear(keys)
          ),
        reopen: (keys) =>
          Effect.andThen(
            Effect.sync(() => log.push("reopen")),
            routes.reopen(keys)
          )
      }))
    ).pipe(Layer.provide(layerMemory))

  const end: ResponseFrame = { _tag: "ResponseAbort", code: "cancelled", message: "" }

  it.effect("is publish, then clear: while the publish is under way nothing is cleared", () => {
    const log: Array<string> = []
    const finish = Deferred.makeUnsafe<void>()
    const reached = Deferred.makeUnsafe<void>()
    const bus = busThat(() =>
      Effect.sync(() => {
        log.push("publishing")
        Deferred.doneUnsafe(reached, Effect.void)
      }).pipe(Effect.andThen(Deferred.await(finish)), Effect.andThen(Effect.sync(() => void log.push("published"))))
    )
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt({ session: owner, generation: 1 })
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const fiber = yield* Effect.forkChild(relay({ session: owner, generation: 1 }, [uplink(end)]))
      yield* Deferred.await(reached)
      assert.strictEqual((yield* routes.counts).Closing, 1)
      yield* Deferred.succeed(finish, undefined)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(log, ["publishing", "published", "clear"])
    }).pipe(Effect.provide(Layer.merge(observed(log), bus)))
  })

  it.effect("leaves the stream beside a refused frame alone, in the same batch", () => {
    const taken: Array<Uplink> = []
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt({ session: owner, generation: 1 })
      yield* routes.issue(key, stranger)
      yield* routes.issue(neighbourKey, owner)
      const relay = yield* makeRelay("default")
      const relayed = yield* relay({ session: owner, generation: 1 }, [uplink(end), uplink(end, neighbourKey)])
      assert.deepStrictEqual(relayed.ended, [neighbourKey])
      assert.deepStrictEqual(
        taken.map(({ route }) => route),
        [neighbourKey]
      )
      assert.deepInclude(yield* routes.counts, { Open: 1, Closed: 1 })
    }).pipe(Effect.provide(Layer.merge(layerMemory, fatefulBus("succeeds", taken, Deferred.makeUnsafe()))))
  })

  it.effect("takes the retry of a last frame whose publish failed", () => {
    let failing = true
    const bus = busThat((subject) =>
      Effect.suspend(() => (failing ? Effect.fail(new BusError({ subject, reason: "Full" })) : Effect.void))
    )
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt({ session: owner, generation: 1 })
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const first = yield* Effect.forkChild(relay({ session: owner, generation: 1 }, [uplink(end)]))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* Fiber.join(first)).broken, [key])
      failing = false
      assert.deepStrictEqual((yield* relay({ session: owner, generation: 1 }, [uplink(end)])).ended, [key])
      assert.deepInclude(yield* routes.counts, { Open: 0, Closing: 0, Closed: 1 })
    }).pipe(Effect.provide(Layer.merge(layerMemory, bus)))
  })

  it.effect("is kept per gateway: one that cannot be reached breaks no other's streams", () => {
    const bus = busThat((subject) =>
      subject.endsWith("00000009") ? Effect.fail(new BusError({ subject, reason: "Full" })) : Effect.void
    )
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt({ session: owner, generation: 1 })
      const lost = { gatewayId: 9, requestId: 1 }
      yield* routes.issue(lost, owner)
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const fiber = yield* Effect.forkChild(relay({ session: owner, generation: 1 }, [uplink(end, lost), uplink(end)]))
      yield* TestClock.adjust("1 second")
      const relayed = yield* Fiber.join(fiber)
      assert.deepStrictEqual(relayed, { refused: [], ended: [key], broken: [lost] })
    }).pipe(Effect.provide(Layer.merge(layerMemory, bus)))
  })

  it.effect("breaks the stream of a frame that the bus has no form for, and not the streams it came with", () => {
    const attempts: Array<number> = []
    const bus = busThat((subject, envelopes) =>
      Effect.suspend(() => {
        attempts.push(envelopes.length)
        const impossible = envelopes.some(({ _tag }, i) => _tag === "Uplink" && (envelopes[i] as Uplink).index === 13)
        return impossible ? Effect.fail(new BusError({ subject, reason: "Unsendable" })) : Effect.void
      })
    )
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt({ session: owner, generation: 1 })
      yield* routes.issue(key, owner)
      yield* routes.issue(neighbourKey, owner)
      const relay = yield* makeRelay("default")
      const stray = { gatewayId: key.gatewayId, requestId: 77 }
      const batch = [{ ...uplink(end), index: 13 }, uplink(end, neighbourKey), uplink(end, stray)]
      const relayed = yield* relay({ session: owner, generation: 1 }, batch)
      assert.deepStrictEqual([relayed.ended, relayed.broken], [[neighbourKey], [key]])
      assert.deepStrictEqual(
        relayed.refused.map(({ reason }) => reason),
        ["Unknown"]
      )
      // Once together, once apart: what has no form gets none by trying again.
      assert.deepStrictEqual(attempts, [2, 1, 1])
      assert.deepInclude(yield* routes.counts, { Open: 1, Closing: 0, Closed: 1 })
    }).pipe(Effect.provide(Layer.merge(layerMemory, bus)))
  })
})
