import { assert, it } from "@effect/vitest"
import { Clock, Effect, Schema } from "effect"
import { fromTable, layerMemoryWith, RouteStore, RouteTableFull } from "../../src/route/RouteStore.ts"
import { RouteTable } from "../../src/route/RouteTable.ts"
import { type RouteKey, SessionId } from "../../src/tunnel/Envelope.ts"
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
  assert.deepStrictEqual(table.held, { sessions: 1, gateways: 0, halfClosing: 0 })
  table.revoke(session, now)
  assert.deepStrictEqual(table.held, { sessions: 0, gateways: 0, halfClosing: 0 })
})

it("keeps a gateway as long as it has routes, and only asks for one while it does not", () => {
  const table = new RouteTable({ ...bounds, routesMax: 1 })
  table.adopt({ session, generation: 1 })
  const route = { gatewayId: 1, requestId: 1 }
  table.issue(route, session, 0)
  assert.strictEqual(table.issue({ gatewayId: 2, requestId: 1 }, session, 0), "Full")
  table.renew(3, 0)
  assert.strictEqual(table.held.gateways, 1)
  table.close(route, 0)
  assert.strictEqual(table.held.gateways, 0)
})

it("finds a route again whose gateway's last route made room for it", () => {
  const table = new RouteTable({ ...bounds, routesMax: 1 })
  table.adopt({ session, generation: 1 })
  const [first, second] = [1, 2].map((requestId) => ({ gatewayId: 1, requestId })) as [RouteKey, RouteKey]
  table.issue(first, session, 0)
  table.halfClose(first, 0)
  assert.strictEqual(table.issue(second, session, 0), "Issued")
  assert.deepStrictEqual([table.stateOf(first), table.stateOf(second)], ["Closed", "Open"])
  assert.deepStrictEqual(table.held, { sessions: 1, gateways: 1, halfClosing: 0 })
})

it("makes room with what was half-closed first, one by one, until nothing is left to give", () => {
  const table = new RouteTable({ ...bounds, routesMax: 3 })
  table.adopt({ session, generation: 1 })
  const keys = [1, 2, 3, 4, 5, 6].map((requestId) => ({ gatewayId: 1, requestId }))
  for (const key of keys.slice(0, 3)) table.issue(key, session, 0)
  table.halfClose(keys[2] as RouteKey, 0)
  table.halfClose(keys[0] as RouteKey, 1)
  assert.deepStrictEqual(
    keys.slice(3).map((key) => table.issue(key, session, 2)),
    ["Issued", "Issued", "Full"]
  )
  assert.deepStrictEqual(
    keys.map((key) => table.stateOf(key)),
    ["Closed", "Open", "Closed", "Open", "Open", undefined]
  )
})

it("says by its failures what was in the way, and by its name where it belongs", () => {
  assert.strictEqual(RouteStore.key, "wayleave/route/RouteStore")
  const full = new RouteTableFull({ routesMax: 7 })
  assert.deepStrictEqual(Schema.encodeSync(RouteTableFull)(full), { _tag: "RouteTableFull", routesMax: 7 })
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
