/**
 * What a route costs: issue, authorize its terminal frame, clear, in batches of 16, through the service as the hub calls it and on the table
 * alone, beside a loop that does nothing. Alone: `node test/bench/routes.ts`.
 *
 * Seconds are seconds of processor time, the collector's threads included, since others use the machine as well; many short rounds in turn.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Clock, Effect } from "effect"
import { fromTable } from "../../src/route/RouteStore.ts"
import { RouteTable } from "../../src/route/RouteTable.ts"
import { type RouteKey, SessionId } from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { tableOf } from "../cluster/Table.ts"
import { median } from "./Statistics.ts"

/** One way to drive the table. */
export interface RouteRow {
  readonly name: string
  readonly cyclesPerSecond: number
  /** How many turns of an empty loop over the same keys one cycle costs. */
  readonly emptyLoops: number
}

/** Bytes of heap per entry. */
export interface RouteBytes {
  readonly open: number
  readonly tombstone: number
}

const batchLength = 16
const session = SessionId.make("a".repeat(32))
const claimant = { session, generation: 1 }
const last: ResponseFrame = {
  _tag: "ResponseStart",
  status: 200,
  headers: [],
  body: new Uint8Array(0),
  streamed: false
}

/** Keys as a gateway hands them out: one after the other. */
const makeKeys = () => {
  let requestId = 0
  return (): ReadonlyArray<RouteKey> => {
    const keys: Array<RouteKey> = []
    for (let i = 0; i < batchLength; i++) keys.push({ gatewayId: 7, requestId: requestId++ >>> 0 })
    return keys
  }
}

/** Keys of routes that stay open meanwhile. */
const heldKeys = (count: number): ReadonlyArray<RouteKey> =>
  Array.from({ length: count }, (_, requestId) => ({ gatewayId: 8, requestId }))

const alone = (open = 0) => {
  const table = new RouteTable(limits)
  const nextKeys = makeKeys()
  table.adopt(claimant)
  for (const key of heldKeys(open)) table.issue(key, session, 0)
  return (batches: number) => {
    for (let batch = 0; batch < batches; batch++) {
      const keys = nextKeys()
      for (const key of keys) table.issue(key, session, batch)
      for (const key of keys) table.authorize(claimant, key, last)
      for (const key of keys) table.clear(key, batch)
    }
  }
}

const throughTheService = (heldOpen = 0) => {
  const table = new RouteTable(limits)
  const routes = fromTable(table, limits.routesMax, Effect.runSync(Clock.Clock))
  const nextKeys = makeKeys()
  table.adopt(claimant)
  const open = (key: RouteKey) => routes.issue(key, session)
  Effect.runSync(Effect.orDie(Effect.forEach(heldKeys(heldOpen), open, { discard: true })))
  const answer = (route: RouteKey) => ({ route, frame: last })
  const cycle = Effect.fnUntraced(function* (batches: number) {
    for (let batch = 0; batch < batches; batch++) {
      const keys = nextKeys()
      yield* Effect.forEach(keys, open, { discard: true })
      const { ending } = yield* routes.authorize(claimant, keys.map(answer))
      yield* routes.clear(ending)
    }
  })
  return (batches: number) => Effect.runSync(Effect.orDie(cycle(batches)))
}

/** The last sum, so that the optimiser cannot leave out the loop. */
export let kept = 0
const empty = () => {
  const nextKeys = makeKeys()
  return (batches: number) => {
    for (let batch = 0; batch < batches; batch++) for (const key of nextKeys()) kept ^= key.requestId
  }
}

/** Seconds of processor time that `run` needs, the median of some rounds. */
const secondsOf = (run: (batches: number) => void, rounds: number, batches: number): number => {
  const times: Array<number> = []
  // The first rounds fill the tombstones to their bound, where a busy hub stands.
  for (let round = -5; round < rounds; round++) {
    const begun = process.cpuUsage()
    run(batches)
    const { system, user } = process.cpuUsage(begun)
    if (round >= 0) times.push((user + system) / 1e6)
  }
  return median(times)
}

/** Each of them alone, one after the other: two tables at once would push each other out of the processor's cache, and a hub has one. */
export const routesBench = (rounds = 21, batches = 4_000): ReadonlyArray<RouteRow> => {
  const measure = (run: (batches: number) => void) => secondsOf(run, rounds, batches)
  const emptySeconds = measure(empty())
  const row = (name: string, seconds: number): RouteRow => ({
    name,
    cyclesPerSecond: (batches * batchLength) / seconds,
    emptyLoops: seconds / emptySeconds
  })
  return [
    row("through the service", measure(throughTheService())),
    row("on the table alone", measure(alone())),
    row("empty loop", emptySeconds)
  ]
}

/** A cycle while so many other routes are open, in nanoseconds. */
export interface OpenRoutesRow {
  readonly open: number
  readonly serviceNs: number
  readonly tableNs: number
}

/** Whether a cycle costs more the more routes are open. */
export const openRoutesBench = (
  counts: ReadonlyArray<number> = [1, 100, 10_000, 100_000],
  rounds = 21,
  batches = 4_000
): ReadonlyArray<OpenRoutesRow> => {
  const ns = (run: (batches: number) => void) => (secondsOf(run, rounds, batches) * 1e9) / (batches * batchLength)
  return counts.map((open) => ({ open, serviceNs: ns(throughTheService(open)), tableNs: ns(alone(open)) }))
}

/** What the table holds on to per entry, its key included: heap after a full collection, with and without. */
export const routeBytes = (count = 100_000): RouteBytes => {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  const heap = () => {
    collect()
    collect()
    const { arrayBuffers, heapUsed } = process.memoryUsage()
    return heapUsed + arrayBuffers
  }
  const table = new RouteTable(limits)
  table.adopt(claimant)
  const before = heap()
  for (let requestId = 0; requestId < count; requestId++) table.issue({ gatewayId: 7, requestId }, session, 0)
  const open = heap()
  for (let requestId = 0; requestId < count; requestId++) {
    const key = { gatewayId: 7, requestId }
    table.authorize(claimant, key, last)
    table.clear(key, 0)
  }
  const closed = heap()
  // Read after the measurement, so that the table lives until then.
  if (table.stateCounts.Closed !== count) throw new Error("not every route was closed")
  return { open: (open - before) / count, tombstone: (closed - before) / count }
}

/** All that this file measures. */
export interface RoutesResult {
  readonly rows: ReadonlyArray<RouteRow>
  readonly open: ReadonlyArray<OpenRoutesRow>
  readonly bytes: RouteBytes
}

/** Runs all of it. */
export const routes = (): RoutesResult => ({ rows: routesBench(), open: openRoutesBench(), bytes: routeBytes() })

/** All of it as tables. */
export const routesTable = ({ bytes, open, rows }: RoutesResult): string =>
  [
    tableOf(
      ["issue, authorize, clear", "million cycles/s", "empty loops"],
      rows.map(({ cyclesPerSecond, emptyLoops, name }) => [
        name,
        (cyclesPerSecond / 1e6).toFixed(2),
        emptyLoops.toFixed(1)
      ])
    ),
    tableOf(
      ["other open routes", "ns a cycle through the service", "on the table alone"],
      open.map((row) => [row.open.toLocaleString("en-US"), row.serviceNs.toFixed(0), row.tableNs.toFixed(0)])
    ),
    `Bytes per open route ${bytes.open.toFixed(0)}, per tombstone ${bytes.tombstone.toFixed(0)}.`
  ].join("\n\n")

if (import.meta.main) process.stdout.write(`${routesTable(routes())}\n`)
