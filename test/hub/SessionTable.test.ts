/** Which of two connections of a session is the newer: a runner counts its dials, and what it said first may arrive last. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { closeCodes } from "../../src/protocol/Wayleave1.ts"
import { connect, dial, hello } from "../../src/testing/ScriptedRunner.ts"
import { gateway, get, hubAlone, settle } from "./HubHarness.ts"

/** A Hello that says this, and how its connection ends. */
const refused = Effect.fnUntraced(function* (connection: number) {
  const late = yield* dial()
  yield* late.say(hello({ name: "web", connection }))
  yield* Fiber.join(late.accepted)
  return late.socket.closedUnsafe()
})

describe("a Hello that comes behind the one of its runner's next connection", () => {
  it.effect("is refused, so that the runner may dial again, and fences nobody", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const newer = yield* connect({ name: "web", connection: 2 })
      const end = yield* refused(1)
      assert.strictEqual(end?.code, closeCodes.protocol_error.code)
      assert.isTrue(closeCodes.protocol_error.retry)
      assert.isUndefined(newer.socket.closedUnsafe())
      yield* visitor.open("web", 1, get("/"))
      assert.strictEqual((yield* newer.nextFrame).route.requestId, 1)
      // The next one is the third, as its runner counts.
      const next = yield* connect({ name: "web", connection: 3, received: 1 })
      assert.strictEqual(next.welcome.outcome, "resumed")
      assert.strictEqual(newer.socket.closedUnsafe()?.code, closeCodes.fenced.code)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("is refused as well where that connection is lost by now", () =>
    Effect.gen(function* () {
      const newer = yield* connect({ name: "web", connection: 2 })
      newer.socket.terminateUnsafe()
      yield* Fiber.join(newer.accepted)
      assert.strictEqual((yield* refused(1))?.code, closeCodes.protocol_error.code)
      const next = yield* connect({ name: "web", connection: 3 })
      assert.strictEqual(next.welcome.outcome, "resumed")
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("and a Hello that is said twice, are told apart by their number", () =>
    Effect.gen(function* () {
      const first = yield* connect({ name: "web", connection: 1 })
      assert.strictEqual((yield* refused(1))?.code, closeCodes.protocol_error.code)
      assert.isUndefined(first.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("loses where both wait for the connection before to end", () =>
    Effect.gen(function* () {
      yield* connect({ name: "web", connection: 1 })
      const newer = yield* dial()
      const late = yield* dial()
      yield* newer.say(hello({ name: "web", connection: 3 }))
      yield* late.say(hello({ name: "web", connection: 2 }))
      yield* settle
      assert.isUndefined(newer.socket.closedUnsafe())
      assert.isDefined(late.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("is taken for the newer where its runner does not count", () =>
    Effect.gen(function* () {
      const before = yield* connect({ name: "web", connection: 2 })
      const uncounted = yield* connect({ name: "web" })
      assert.isUndefined(uncounted.socket.closedUnsafe())
      assert.strictEqual(before.socket.closedUnsafe()?.code, closeCodes.fenced.code)
    }).pipe(Effect.provide(hubAlone()))
  )
})
