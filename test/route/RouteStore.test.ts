import { assert, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { fromTable, layerMemoryWith } from "../../src/route/RouteStore.ts"
import { RouteTable } from "../../src/route/RouteTable.ts"
import { SessionId } from "../../src/tunnel/Envelope.ts"
import { routeStoreContract } from "../contract/RouteStoreContract.ts"

const bounds = { routesMax: 64, tombstonesMax: 32, tombstoneMs: 3_000, halfClosedMs: 2_000, leaseMs: 10_000 }
routeStoreContract("layerMemory", layerMemoryWith(bounds), bounds)

const session = SessionId.make("c".repeat(32))
const end = { _tag: "ResponseAbort", code: "cancelled", message: "" } as const

it("keeps at most tombstonesMax closed routes, the newest", () => {
  const table = new RouteTable(bounds)
  table.adopt({ session, generation: 1 })
  for (let requestId = 0; requestId < 100; requestId++) {
    const key = { gatewayId: 1, requestId }
    assert.strictEqual(table.issue(key, session, 0), "Issued")
    assert.strictEqual(table.authorize({ session, generation: 1 }, key, end), "Ending")
    table.clear(key, 0)
  }
  assert.strictEqual(table.stateCounts.Closed, 32)
  assert.strictEqual(table.stateOf({ gatewayId: 1, requestId: 99 }), "Closed")
  assert.isUndefined(table.stateOf({ gatewayId: 1, requestId: 67 }))
})

it("is empty after two hundred thousand routes came and went", () => {
  const table = new RouteTable({ ...bounds, tombstonesMax: 10_000 })
  table.adopt({ session, generation: 1 })
  let now = 0
  for (let requestId = 0; requestId < 200_000; requestId++) {
    const key = { gatewayId: requestId % 7, requestId }
    if (requestId % 16 === 0) now++
    assert.strictEqual(table.issue(key, session, now), "Issued")
    if (requestId % 3 === 0) table.halfClose(key, now)
    else {
      table.authorize({ session, generation: 1 }, key, end)
      if (requestId % 5 === 0) table.reopen(key, now)
      table.clear(key, now)
      if (requestId % 5 === 0) table.close(key, now)
    }
  }
  table.expire(now + bounds.halfClosedMs)
  table.expire(now + bounds.halfClosedMs + bounds.tombstoneMs)
  assert.deepStrictEqual(table.stateCounts, { Open: 0, Closing: 0, HalfClosed: 0, Closed: 0 })
})

it("ends nothing because the clock on the wall was put forward, and keeps nothing because it was put back", () => {
  let wallMs = 1_700_000_000_000
  let monotonicMs = 0
  const live = Effect.runSync(Clock.Clock)
  const clock: Clock.Clock = {
    ...live,
    currentTimeMillisUnsafe: () => wallMs,
    monotonicTimeNanosUnsafe: () => BigInt(monotonicMs) * 1_000_000n
  }
  const store = fromTable(new RouteTable(bounds), bounds.routesMax, clock)
  const route = { gatewayId: 1, requestId: 1 }
  Effect.runSync(store.issue(route, session).pipe(Effect.orDie))
  wallMs += 3_600_000
  assert.deepStrictEqual(Effect.runSync(store.expire), [])
  wallMs -= 7_200_000
  monotonicMs += bounds.leaseMs
  assert.deepStrictEqual(Effect.runSync(store.expire), [{ route, session }])
})
