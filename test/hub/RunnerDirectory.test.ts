/** What a hub listens for, by what its runners are good for. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { connect } from "../../src/testing/ScriptedRunner.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { hubAlone, settle } from "./HubHarness.ts"

const listened = (subject: string) =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    const asked = bus.publish(subject, [{ _tag: "LeaseRenewal", gatewayId: 1 }], "one")
    return yield* Effect.match(asked, { onFailure: ({ reason }) => reason !== "NoResponders", onSuccess: () => true })
  })

const ranks = Effect.all({
  here: listened(Subject.ofName("default", "web")),
  away: listened(Subject.ofAway("default", "web"))
})

const nothing = { here: false, away: false }
const here = { here: true, away: false }
const away = { here: false, away: true }

it.effect(
  "a name is listened for in the second rank while its runner is away, until it is back or its time is over",
  () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* ranks, nothing)
      const runner = yield* connect({ name: "web" })
      assert.deepStrictEqual(yield* ranks, here)
      runner.socket.terminateUnsafe()
      yield* settle
      assert.deepStrictEqual(yield* ranks, away)
      const again = yield* connect({ name: "web" })
      assert.strictEqual(again.welcome.outcome, "resumed")
      assert.deepStrictEqual(yield* ranks, here)
      again.socket.terminateUnsafe()
      yield* TestClock.adjust(limits.sessionGraceMs)
      yield* settle
      assert.deepStrictEqual(yield* ranks, nothing)
    }).pipe(Effect.provide(hubAlone()))
)

it.effect("one runner at hand is enough for the first", () =>
  Effect.gen(function* () {
    const runner = yield* connect({ name: "web" })
    const other = yield* connect({ name: "web", session: 2 })
    runner.socket.terminateUnsafe()
    yield* settle
    assert.deepStrictEqual(yield* ranks, here)
    other.socket.closeUnsafe(1000, "")
    yield* settle
    assert.deepStrictEqual(yield* ranks, away)
  }).pipe(Effect.provide(hubAlone()))
)

it.effect("runners that come and go faster than the bus leave what is listened for as it should be", () =>
  Effect.gen(function* () {
    const runners = yield* Effect.forEach(
      Array.from({ length: 20 }, (_, i) => i),
      (i) => connect({ name: "web", session: i + 1 }),
      { concurrency: "unbounded" }
    )
    for (const [i, { socket }] of runners.entries())
      i % 2 === 0 ? socket.terminateUnsafe() : socket.closeUnsafe(1000, "")
    yield* settle
    assert.deepStrictEqual(yield* ranks, away)
    yield* TestClock.adjust(limits.sessionGraceMs)
    yield* settle
    assert.deepStrictEqual(yield* ranks, nothing)
  }).pipe(Effect.provide(hubAlone()))
)
