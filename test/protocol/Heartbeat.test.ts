import { assert, it } from "@effect/vitest"
import { Effect, Exit, Fiber } from "effect"
import { TestClock } from "effect/testing"
import * as Heartbeat from "../../src/protocol/Heartbeat.ts"

const options = { heartbeatMs: 10_000, heartbeatDeadlineMs: 25_000 }

const start = Effect.fnUntraced(function* () {
  const pings: Array<number> = []
  const heartbeat = yield* Heartbeat.make({ ...options, ping: (nonce) => pings.push(nonce) })
  const fiber = yield* Effect.forkChild(heartbeat.run, { startImmediately: true })
  return { pings, heartbeat, fiber }
})

it.effect("pings at once and then once per beat", () =>
  Effect.gen(function* () {
    const { pings, heartbeat } = yield* start()
    assert.deepStrictEqual(pings, [1])
    yield* TestClock.adjust(9_999)
    assert.deepStrictEqual(pings, [1])
    heartbeat.heard()
    yield* TestClock.adjust(1)
    assert.deepStrictEqual(pings, [1, 2])
    yield* TestClock.adjust(10_000)
    assert.deepStrictEqual(pings, [1, 2, 3])
  })
)

it.effect("fails once nothing was heard for the deadline, and not a moment before", () =>
  Effect.gen(function* () {
    const { fiber } = yield* start()
    yield* TestClock.adjust(24_999)
    assert.isUndefined(fiber.pollUnsafe())
    yield* TestClock.adjust(2)
    const error = yield* Effect.flip(Fiber.join(fiber))
    assert.deepInclude(error, { _tag: "HeartbeatTimeout", silentMs: 25_001 })
  })
)

it.effect("anything received is life, pong or not", () =>
  Effect.gen(function* () {
    const { heartbeat, fiber } = yield* start()
    for (let i = 0; i < 10; i++) {
      yield* TestClock.adjust(20_000)
      heartbeat.heard()
    }
    assert.isUndefined(fiber.pollUnsafe())
    yield* TestClock.adjust(25_001)
    assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
  })
)

it.effect("what is read in the very moment of the verdict still counts", () =>
  Effect.gen(function* () {
    const { heartbeat, fiber } = yield* start()
    yield* TestClock.adjust(25_000)
    heartbeat.heard()
    yield* TestClock.adjust(1)
    assert.isUndefined(fiber.pollUnsafe())
  })
)

it.effect("the round trip is from a ping to its own pong; late and invented pongs measure nothing", () =>
  Effect.gen(function* () {
    const { pings, heartbeat } = yield* start()
    const first = pings[0] as number
    assert.isUndefined(heartbeat.roundTripMs())
    yield* TestClock.adjust(40)
    heartbeat.pong(first + 7)
    assert.isUndefined(heartbeat.roundTripMs())
    heartbeat.pong(first)
    assert.strictEqual(heartbeat.roundTripMs(), 40)
    yield* TestClock.adjust(5)
    heartbeat.pong(first)
    assert.strictEqual(heartbeat.roundTripMs(), 40)
    yield* TestClock.adjust(10_000)
    heartbeat.pong(first)
    assert.strictEqual(heartbeat.roundTripMs(), 40)
  })
)

it.effect("an interrupted heartbeat pings no more", () =>
  Effect.gen(function* () {
    const { pings, fiber } = yield* start()
    yield* Fiber.interrupt(fiber)
    yield* TestClock.adjust(60_000)
    assert.deepStrictEqual(pings, [1])
  })
)
