/** What the relay does with batches: the order of its three steps, what it tells of them, and what it leaves alone. One frame in every state is `Matrix.test.ts`. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import { BusError, layerMemory as busMemory, type Delivery, MessageBus } from "../../src/bus/MessageBus.ts"
import * as HubMetrics from "../../src/hub/HubMetrics.ts"
import { makeRelay } from "../../src/hub/Relay.ts"
import { layerMemory, RouteStore } from "../../src/route/RouteStore.ts"
import { type Envelope, SessionId, type Uplink } from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const owner = SessionId.make("a".repeat(32))
const stranger = SessionId.make("b".repeat(32))
const claimant = { session: owner, generation: 1 }
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

interface Publish {
  readonly subject: string
  readonly envelopes: ReadonlyArray<Envelope>
  readonly delivery: Delivery
}

/** A bus that notes what it takes, and fails as long as it is told to. */
/** The memory bus, with a `publish` of the test's own. */
const busThat = (publish: MessageBus["Service"]["publish"]) =>
  Layer.effect(
    MessageBus,
    Effect.map(MessageBus, (bus) => ({ ...bus, publish }))
  ).pipe(Layer.provide(busMemory))

const notingBus = (publishes: Array<Publish>, fails: () => boolean = () => false) =>
  busThat((subject, envelopes, delivery) =>
    Effect.suspend(() => {
      publishes.push({ subject, envelopes, delivery })
      return fails() ? Effect.fail(new BusError({ subject, reason: "Full" })) : Effect.void
    })
  )

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

  it.effect(
    "a last word for one gateway, not confirmed yet, holds up nothing for another: not even what comes after",
    () => {
      const sent: Array<number> = []
      const confirm = Deferred.makeUnsafe<void>()
      const bus = busThat((_, envelopes) =>
        Effect.suspend(() => {
          sent.push(...(envelopes as ReadonlyArray<Uplink>).map(({ index }) => index))
          return (envelopes as ReadonlyArray<Uplink>).some(({ frame }) => frame === end)
            ? Deferred.await(confirm)
            : Effect.void
        })
      )
      const elsewhere = { gatewayId: 2, requestId: 2 }
      const chunk: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array(1), finish: false }
      return Effect.gen(function* () {
        const routes = yield* RouteStore
        yield* routes.adopt(claimant)
        yield* routes.issue(key, owner)
        yield* routes.issue(elsewhere, owner)
        const relay = yield* makeRelay("default")
        const first = yield* Effect.forkChild(
          relay(claimant, [uplink(end), { ...uplink(chunk, elsewhere), index: 1 }]),
          { startImmediately: true }
        )
        yield* relay(claimant, [{ ...uplink(chunk, elsewhere), index: 2 }])
        assert.deepStrictEqual(sent, [0, 1, 2])
        yield* Deferred.succeed(confirm, undefined)
        assert.deepStrictEqual((yield* Fiber.join(first)).ended, [key])
      }).pipe(Effect.provide(Layer.merge(bus, layerMemory)))
    }
  )

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
      yield* routes.adopt(claimant)
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const fiber = yield* Effect.forkChild(relay(claimant, [uplink(end)]))
      yield* Deferred.await(reached)
      assert.strictEqual((yield* routes.counts).Closing, 1)
      yield* Deferred.succeed(finish, undefined)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(log, ["publishing", "published", "clear"])
    }).pipe(Effect.provide(Layer.merge(observed(log), bus)))
  })

  it.effect("leaves the stream beside a refused frame alone, in the same batch", () => {
    const publishes: Array<Publish> = []
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      yield* routes.issue(key, stranger)
      yield* routes.issue(neighbourKey, owner)
      const relay = yield* makeRelay("default")
      const relayed = yield* relay(claimant, [uplink(end), uplink(end, neighbourKey)])
      assert.deepStrictEqual(relayed.ended, [neighbourKey])
      assert.deepStrictEqual(
        publishes.map(({ envelopes }) => envelopes),
        [[uplink(end, neighbourKey)]]
      )
      assert.deepInclude(yield* routes.counts, { Open: 1, Closed: 1 })
    }).pipe(Effect.provide(Layer.merge(layerMemory, notingBus(publishes))))
  })

  it.effect("takes the retry of a last frame whose publish failed", () => {
    let failing = true
    const bus = busThat((subject) =>
      Effect.suspend(() => (failing ? Effect.fail(new BusError({ subject, reason: "Full" })) : Effect.void))
    )
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const first = yield* Effect.forkChild(relay(claimant, [uplink(end)]))
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual((yield* Fiber.join(first)).broken, [key])
      failing = false
      assert.deepStrictEqual((yield* relay(claimant, [uplink(end)])).ended, [key])
      assert.deepInclude(yield* routes.counts, { Open: 0, Closing: 0, Closed: 1 })
    }).pipe(Effect.provide(Layer.merge(layerMemory, bus)))
  })

  it.effect("is kept per gateway: one that cannot be reached breaks no other's streams", () => {
    const bus = busThat((subject) =>
      subject.endsWith("00000009") ? Effect.fail(new BusError({ subject, reason: "Full" })) : Effect.void
    )
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      const lost = { gatewayId: 9, requestId: 1 }
      yield* routes.issue(lost, owner)
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const fiber = yield* Effect.forkChild(relay(claimant, [uplink(end, lost), uplink(end)]))
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
      yield* routes.adopt(claimant)
      yield* routes.issue(key, owner)
      yield* routes.issue(neighbourKey, owner)
      const relay = yield* makeRelay("default")
      const stray = { gatewayId: key.gatewayId, requestId: 77 }
      const batch = [{ ...uplink(end), index: 13 }, uplink(end, neighbourKey), uplink(end, stray)]
      const relayed = yield* relay(claimant, batch)
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

describe("frames of a route that nobody holds", () => {
  const chunk: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array(1), finish: false }
  const unknownKey = { gatewayId: 1, requestId: 77 }
  const otherUnknown = { gatewayId: 2, requestId: 78 }

  it.effect("are offered to whoever may keep them, in order, and refused unless he does; no others are", () => {
    const published: Array<Publish> = []
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      yield* routes.issue(key, owner)
      yield* routes.issue(neighbourKey, stranger)
      const relay = yield* makeRelay("default")
      const offered: Array<Uplink> = []
      const keep = (stray: Uplink) => {
        offered.push(stray)
        return stray.route === unknownKey
      }
      const [first, mine, foreign, second, other] = [
        uplink(chunk, unknownKey),
        uplink(chunk),
        uplink(chunk, neighbourKey),
        { ...uplink(chunk, unknownKey), index: 1 },
        uplink(chunk, otherUnknown)
      ] as const
      const relayed = yield* relay(claimant, [first, mine, foreign, second, other], keep)
      assert.deepStrictEqual(offered, [first, second, other])
      assert.deepStrictEqual(
        relayed.refused.map(({ answer, reason }) => [answer, reason]),
        [
          [foreign, "Foreign"],
          [other, "Unknown"]
        ]
      )
      assert.deepStrictEqual(
        published.map(({ envelopes }) => envelopes),
        [[mine]]
      )
    }).pipe(Effect.provide(Layer.merge(layerMemory, notingBus(published))))
  })
})

describe("a batch that cannot be published", () => {
  const chunk: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array(1), finish: false }
  const end: ResponseFrame = { _tag: "ResponseAbort", code: "cancelled", message: "" }
  const count = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
    Effect.map(Metric.value(metric), (state) => state.count)
  const ready = Effect.gen(function* () {
    const routes = yield* RouteStore
    yield* routes.adopt(claimant)
    yield* routes.issue(key, owner)
    yield* routes.issue(neighbourKey, owner)
    return yield* makeRelay("default")
  })

  it.effect("is not tried again in parts where it was no frame's fault", () => {
    let tries = 0
    const bus = busThat((subject) =>
      Effect.suspend(() =>
        ++tries > limits.publishAttempts ? Effect.void : Effect.fail(new BusError({ subject, reason: "Full" }))
      )
    )
    return Effect.gen(function* () {
      const relay = yield* ready
      const relaying = yield* Effect.forkChild(relay(claimant, [uplink(end), uplink(end, neighbourKey)]))
      yield* TestClock.adjust("1 minute")
      const relayed = yield* Fiber.join(relaying)
      assert.deepStrictEqual([relayed.ended, relayed.broken], [[], [key, neighbourKey]])
      assert.strictEqual(tries, limits.publishAttempts)
    }).pipe(Effect.provide(Layer.merge(layerMemory, bus)))
  })

  it.effect("because of one frame goes in parts by route, each in order, and is counted by what became of them", () => {
    const published: Array<ReadonlyArray<Envelope>> = []
    const bus = busThat((subject, envelopes) =>
      Effect.suspend(() => {
        const impossible = envelopes.some((envelope) => (envelope as Uplink).index === 13)
        if (impossible) return Effect.fail(new BusError({ subject, reason: "Unsendable" }))
        published.push(envelopes)
        return Effect.void
      })
    )
    return Effect.gen(function* () {
      const relay = yield* ready
      const before = [yield* count(HubMetrics.framesPublished), yield* count(HubMetrics.publishesFailed)] as const
      const whole = [uplink(chunk, neighbourKey), uplink(end, neighbourKey)]
      const relayed = yield* relay(claimant, [whole[0] as Uplink, { ...uplink(chunk), index: 13 }, whole[1] as Uplink])
      assert.deepStrictEqual([relayed.ended, relayed.broken], [[neighbourKey], [key]])
      assert.deepStrictEqual(published, [whole])
      assert.strictEqual((yield* count(HubMetrics.framesPublished)) - before[0], 2)
      assert.strictEqual((yield* count(HubMetrics.publishesFailed)) - before[1], 1)
    }).pipe(Effect.provide(Layer.merge(layerMemory, bus)))
  })
})

describe("a relay", () => {
  const chunk: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array(1), finish: false }
  const end: ResponseFrame = { _tag: "ResponseAbort", code: "cancelled", message: "" }
  const count = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
    Effect.map(Metric.value(metric), (state) => state.count)

  /** The store in memory; notes the batches that it judges and whatever else it is asked. */
  const notingStore = (judged: Array<ReadonlyArray<unknown>>, asked: Array<string>) =>
    Layer.effect(
      RouteStore,
      Effect.map(RouteStore, (routes) => ({
        ...routes,
        authorize: (who, batch) => {
          judged.push(batch)
          return routes.authorize(who, batch)
        },
        clear: (keys) => {
          asked.push("clear")
          return routes.clear(keys)
        },
        reopen: (keys) => {
          asked.push("reopen")
          return routes.reopen(keys)
        }
      }))
    ).pipe(Layer.provide(layerMemory))

  it.effect("asks nothing and says nothing over an empty batch", () => {
    const judged: Array<ReadonlyArray<unknown>> = []
    const publishes: Array<Publish> = []
    return Effect.gen(function* () {
      const relay = yield* makeRelay("default")
      assert.deepStrictEqual(yield* relay(claimant, []), { refused: [], ended: [], broken: [] })
      assert.deepStrictEqual([judged, publishes], [[], []])
    }).pipe(Effect.provide(Layer.merge(notingStore(judged, []), notingBus(publishes))))
  })

  it.effect("hands a batch of one gateway over as it is, and clears only where something ended", () => {
    const judged: Array<ReadonlyArray<unknown>> = []
    const asked: Array<string> = []
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const batch = [uplink(chunk), uplink(chunk)]
      yield* relay(claimant, batch)
      assert.strictEqual(judged[0], batch)
      assert.deepStrictEqual(asked, [])
      yield* relay(claimant, [uplink(end)])
      assert.deepStrictEqual(asked, ["clear"])
    }).pipe(Effect.provide(Layer.merge(notingStore(judged, asked), notingBus([]))))
  })

  it.effect("publishes to each gateway's own subject in its namespace, in order, whatever the batch mixes", () => {
    const publishes: Array<Publish> = []
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      const other = { gatewayId: 0xfe, requestId: 2 }
      yield* routes.issue(key, owner)
      yield* routes.issue(other, owner)
      const relay = yield* makeRelay("blue")
      const [ours, theirs] = [
        [uplink(chunk), uplink(end)],
        [uplink(chunk, other), uplink(end, other)]
      ] as const
      const { ended } = yield* relay(claimant, [ours[0], theirs[0], ours[1], theirs[1]])
      assert.deepStrictEqual(ended, [key, other])
      assert.deepStrictEqual(publishes, [
        { subject: "wayleave.blue.gateway.00000001", envelopes: ours, delivery: "each" },
        { subject: "wayleave.blue.gateway.000000fe", envelopes: theirs, delivery: "each" }
      ])
    }).pipe(Effect.provide(Layer.merge(layerMemory, notingBus(publishes))))
  })

  it.effect(
    "tries a failing publish as often as the limit says, 20 ms and then 40 ms apart, and counts one failure",
    () => {
      const publishes: Array<Publish> = []
      return Effect.gen(function* () {
        const routes = yield* RouteStore
        yield* routes.adopt(claimant)
        yield* routes.issue(key, owner)
        const relay = yield* makeRelay("default")
        const before = [yield* count(HubMetrics.publishesFailed), yield* count(HubMetrics.framesPublished)]
        const fiber = yield* Effect.forkChild(relay(claimant, [uplink(chunk), uplink(chunk)]))
        const seen: Array<number> = []
        for (const ms of [0, 19, 1, 39, 1, 1_000]) {
          yield* TestClock.adjust(ms)
          seen.push(publishes.length)
        }
        assert.deepStrictEqual(seen, [1, 1, 2, 2, 3, 3])
        assert.strictEqual(limits.publishAttempts, 3)
        assert.deepStrictEqual((yield* Fiber.join(fiber)).broken, [key])
        const after = [yield* count(HubMetrics.publishesFailed), yield* count(HubMetrics.framesPublished)]
        assert.deepStrictEqual(
          after.map((each, i) => each - (before[i] as number)),
          [1, 0]
        )
      }).pipe(
        Effect.provide(
          Layer.merge(
            layerMemory,
            notingBus(publishes, () => true)
          )
        )
      )
    }
  )

  it.effect("publishes nothing and counts nothing where all of a batch was refused", () => {
    const publishes: Array<Publish> = []
    return Effect.gen(function* () {
      const relay = yield* makeRelay("default")
      const before = yield* count(HubMetrics.framesPublished)
      const { refused } = yield* relay(claimant, [uplink(chunk), uplink(end)])
      assert.deepStrictEqual(
        refused.map(({ reason }) => reason),
        ["Unknown", "Unknown"]
      )
      assert.deepStrictEqual(publishes, [])
      assert.strictEqual((yield* count(HubMetrics.framesPublished)) - before, 0)
    }).pipe(Effect.provide(Layer.merge(layerMemory, notingBus(publishes))))
  })

  it.effect("counts the frames that it published, each once", () => {
    return Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt(claimant)
      yield* routes.issue(key, owner)
      const relay = yield* makeRelay("default")
      const before = yield* count(HubMetrics.framesPublished)
      yield* relay(claimant, [uplink(chunk), uplink(chunk), uplink(end), uplink(chunk)])
      assert.strictEqual((yield* count(HubMetrics.framesPublished)) - before, 3)
    }).pipe(Effect.provide(Layer.merge(layerMemory, notingBus([]))))
  })
})
