import { assert, describe, it } from "@effect/vitest"
import { Effect, Metric } from "effect"
import { bind } from "../../src/tunnel/Series.ts"

const requests = Metric.counter("requests", { incremental: true })
const refused = Metric.withAttributes(requests, { outcome: "refused" })
const waiting = Metric.gauge("waiting")
const seconds = Metric.histogram("seconds", { boundaries: [1, 10] })

/** Each test has a registry of its own. */
const test = <E>(name: string, body: Effect.Effect<void, E>) =>
  it.effect(name, () => Effect.provideService(body, Metric.MetricRegistry, new Map() as never))

describe("a series that was bound", () => {
  test(
    "is the one that others update and read, whoever came first",
    Effect.gen(function* () {
      const context = yield* Effect.context<never>()
      yield* Metric.update(requests, 1)
      const bound = bind(requests, context)
      bound.update(10, context)
      yield* Metric.update(requests, 100)
      bind(requests, context).update(1000, context)
      assert.strictEqual((yield* Metric.value(requests)).count, 1111)
      assert.strictEqual(bound.get(context).count, 1111)
      assert.lengthOf(yield* Metric.snapshot, 1)
    })
  )

  test(
    "has the attributes of its metric and of its context, and is no other's",
    Effect.gen(function* () {
      const context = yield* Effect.context<never>()
      bind(refused, context).update(3, context)
      assert.strictEqual((yield* Metric.value(refused)).count, 3)
      assert.strictEqual((yield* Metric.value(requests)).count, 0)
      yield* Effect.provideService(
        Effect.gen(function* () {
          const inner = yield* Effect.context<never>()
          bind(refused, inner).update(5, inner)
          assert.strictEqual((yield* Metric.value(refused)).count, 5)
        }),
        Metric.CurrentMetricAttributes,
        { region: "south" }
      )
      assert.strictEqual((yield* Metric.value(refused)).count, 3)
    })
  )

  test(
    "stands at zero before anything was counted",
    Effect.gen(function* () {
      bind(refused, yield* Effect.context<never>())
      const [series] = yield* Metric.snapshot
      assert.deepInclude(series, { id: "requests", attributes: { outcome: "refused" } })
      assert.strictEqual((yield* Metric.value(refused)).count, 0)
    })
  )

  test(
    "may be a gauge or a histogram",
    Effect.gen(function* () {
      const context = yield* Effect.context<never>()
      const gauge = bind(waiting, context)
      gauge.update(5, context)
      gauge.modify(-2, context)
      bind(seconds, context).update(3, context)
      assert.strictEqual((yield* Metric.value(waiting)).value, 3)
      assert.deepStrictEqual((yield* Metric.value(seconds)).buckets, [
        [1, 0],
        [10, 1]
      ])
    })
  )
})
