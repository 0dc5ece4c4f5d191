/**
 * What every route store owes its hub, whatever it keeps its routes in: a list of named checks, so that anyone's store can be judged by any test
 * runner. Each wants a store of its own, and a clock that it may move: `TestClock` in the context that the store was built in.
 */
import * as assert from "node:assert/strict"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { type RouteCounts, RouteStore } from "../route/RouteStore.ts"
import { type RouteKey, SessionId } from "../tunnel/Envelope.ts"
import type { ResponseFrame } from "../tunnel/Frame.ts"

/** One thing that a store owes. `check` dies with an `AssertionError` where the store does not keep to it. */
export interface RouteStoreCase {
  /** A sentence about behaviour, with the store as its subject. */
  readonly title: string
  readonly check: Effect.Effect<void, never, RouteStore>
}

/** What the store under test was made with. `routesMax` of them are opened, so let it be small. */
export interface RouteStoreBounds {
  readonly routesMax: number
  readonly tombstoneMs: number
  readonly halfClosedMs: number
  readonly leaseMs: number
}

const alice = SessionId.make("a".repeat(32))
const bob = SessionId.make("b".repeat(32))
const route: RouteKey = { gatewayId: 1, requestId: 7 }
const neighbour: RouteKey = { gatewayId: 1, requestId: 8 }
const chunk: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array([1]), finish: false }
const last: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array([2]), finish: true }

const judge = (session: SessionId, generation: number, key: RouteKey, frame: ResponseFrame) =>
  RouteStore.use((routes) => routes.authorize({ session, generation }, [{ route: key, frame }])).pipe(
    Effect.map((verdict) => verdict.refused[0]?.reason ?? (verdict.ending.length > 0 ? "Ending" : "Admitted"))
  )

const expectCounts = (expected: Partial<RouteCounts>) =>
  RouteStore.use((routes) => routes.counts).pipe(
    Effect.map((counts) => assert.deepEqual(counts, { Open: 0, Closing: 0, HalfClosed: 0, Closed: 0, ...expected }))
  )

const opened = Effect.gen(function* () {
  const routes = yield* RouteStore
  yield* routes.adopt({ session: alice, generation: 1 })
  yield* routes.adopt({ session: bob, generation: 1 })
  yield* routes.issue(route, alice)
  return routes
})

const test = (title: string, body: Effect.Effect<void, unknown, RouteStore>): RouteStoreCase => ({
  title,
  check: Effect.orDie(body)
})

/** The suite for a store that was made with these bounds. */
export const routeStoreContract = (bounds: RouteStoreBounds): ReadonlyArray<RouteStoreCase> => [
  test(
    "admits its owner's frames and leaves the route open",
    Effect.gen(function* () {
      yield* opened
      assert.equal(yield* judge(alice, 1, route, chunk), "Admitted")
      assert.equal(yield* judge(alice, 1, route, chunk), "Admitted")
    })
  ),
  test(
    "calls a route nobody was issued Unknown, and a stranger's Foreign",
    Effect.gen(function* () {
      yield* opened
      assert.equal(yield* judge(alice, 1, neighbour, chunk), "Unknown")
      assert.equal(yield* judge(alice, 1, { gatewayId: 2, requestId: 7 }, chunk), "Unknown")
      assert.equal(yield* judge(bob, 1, route, last), "Foreign")
      assert.equal(yield* judge(alice, 1, route, chunk), "Admitted")
    })
  ),
  test(
    "takes a route to Closing with its terminal frame, within a batch too",
    Effect.gen(function* () {
      const routes = yield* opened
      const verdict = yield* routes.authorize({ session: alice, generation: 1 }, [
        { route, frame: chunk },
        { route, frame: last },
        { route, frame: chunk }
      ])
      assert.equal(verdict.admitted.length, 2)
      assert.deepEqual(verdict.ending, [route])
      assert.deepEqual(
        verdict.refused.map(({ reason }) => reason),
        ["Late"]
      )
      yield* expectCounts({ Closing: 1 })
    })
  ),
  test(
    "remembers a cleared route, so that the late is not taken for the forged, and forgets it in the end",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* judge(alice, 1, route, last)
      yield* routes.clear([route])
      yield* expectCounts({ Closed: 1 })
      assert.equal(yield* judge(alice, 1, route, chunk), "Late")
      assert.equal(yield* judge(bob, 1, route, chunk), "Foreign")
      yield* TestClock.adjust(bounds.tombstoneMs)
      yield* routes.expire
      assert.equal(yield* judge(alice, 1, route, chunk), "Unknown")
      yield* expectCounts({})
    })
  ),
  test(
    "opens the route again when the publish failed, and takes the retry",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* judge(alice, 1, route, last)
      yield* routes.reopen([route])
      yield* expectCounts({ Open: 1 })
      assert.equal(yield* judge(alice, 1, route, last), "Ending")
    })
  ),
  test(
    "clears and reopens only what is Closing",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* routes.clear([route, neighbour])
      yield* routes.reopen([route, neighbour])
      yield* expectCounts({ Open: 1 })
    })
  ),
  test(
    "fences every connection but the newest of a session",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* routes.adopt({ session: alice, generation: 2 })
      assert.equal(yield* judge(alice, 1, route, last), "Foreign")
      assert.equal(yield* judge(alice, 2, route, chunk), "Admitted")
      yield* routes.adopt({ session: alice, generation: 1 })
      assert.equal(yield* judge(alice, 1, route, chunk), "Foreign")
    })
  ),
  test(
    "swallows the echo after the gateway's last word, and keeps the route no longer than its grace",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* routes.halfClose(route)
      assert.equal(yield* judge(alice, 1, route, last), "Late")
      yield* expectCounts({ HalfClosed: 1 })
      yield* TestClock.adjust(bounds.halfClosedMs)
      yield* routes.expire
      yield* expectCounts({ Closed: 1 })
      assert.equal(yield* judge(alice, 1, route, last), "Late")
    })
  ),
  test(
    "does not open again what the gateway gave up while the last frame was being published",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* judge(alice, 1, route, last)
      yield* routes.halfClose(route)
      yield* routes.reopen([route])
      yield* expectCounts({ HalfClosed: 1 })
    })
  ),
  test(
    "revokes a lost session's routes and names those still awaited",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* routes.issue(neighbour, alice)
      yield* routes.halfClose(neighbour)
      yield* routes.issue({ gatewayId: 2, requestId: 1 }, bob)
      assert.deepEqual(yield* routes.revoke(alice), [route])
      assert.deepEqual(yield* routes.revoke(alice), [])
      assert.equal(yield* judge(alice, 1, route, last), "Late")
      assert.equal(yield* judge(bob, 1, { gatewayId: 2, requestId: 1 }, last), "Ending")
    })
  ),
  test(
    "ends a revocation in the middle of a publish as Closed, not as Open",
    Effect.gen(function* () {
      const routes = yield* opened
      yield* judge(alice, 1, route, last)
      yield* routes.revoke(alice)
      yield* routes.reopen([route])
      yield* expectCounts({ Closed: 1 })
    })
  ),
  test(
    "refuses a key in use and takes it again once its tombstone stands",
    Effect.gen(function* () {
      const routes = yield* opened
      assert.equal((yield* Effect.flip(routes.issue(route, bob)))._tag, "RouteTaken")
      yield* judge(alice, 1, route, last)
      yield* routes.clear([route])
      yield* routes.issue(route, bob)
      assert.equal(yield* judge(bob, 1, route, chunk), "Admitted")
      assert.equal(yield* judge(alice, 1, route, chunk), "Foreign")
      yield* TestClock.adjust(bounds.tombstoneMs)
      yield* routes.renew(1)
      yield* routes.expire
      assert.equal(yield* judge(bob, 1, route, chunk), "Admitted")
    })
  ),
  test(
    "refuses what goes beyond the bound instead of evicting a live route",
    Effect.gen(function* () {
      const routes = yield* RouteStore
      yield* routes.adopt({ session: alice, generation: 1 })
      for (let i = 0; i < bounds.routesMax; i++) yield* routes.issue({ gatewayId: 1, requestId: i }, alice)
      const beyond: RouteKey = { gatewayId: 1, requestId: bounds.routesMax }
      const error = yield* Effect.flip(routes.issue(beyond, alice))
      assert.equal(error._tag, "RouteTableFull")
      for (let i = 0; i < bounds.routesMax; i++) {
        assert.equal(yield* judge(alice, 1, { gatewayId: 1, requestId: i }, chunk), "Admitted")
      }
      // What nobody awaits any more makes room at once.
      yield* routes.halfClose({ gatewayId: 1, requestId: 0 })
      yield* routes.issue(beyond, alice)
    })
  ),
  test(
    "closes the routes of a gateway that was not heard of for a lease, and of no other",
    Effect.gen(function* () {
      const routes = yield* opened
      const other: RouteKey = { gatewayId: 2, requestId: 1 }
      yield* routes.issue(other, alice)
      yield* TestClock.adjust(bounds.leaseMs - 1)
      yield* routes.renew(2)
      assert.deepEqual(yield* routes.expire, [])
      yield* TestClock.adjust(1)
      assert.deepEqual(yield* routes.expire, [{ route, session: alice }])
      assert.equal(yield* judge(alice, 1, route, last), "Late")
      assert.equal(yield* judge(alice, 1, other, chunk), "Admitted")
    })
  )
]
