/**
 * One cluster for as many requests as one likes: hours and days of it, with mishaps all the way, and a look at the size of every table a hundred
 * times. What grows with the number of requests shows here; `Simulation.ts` begins anew with each seed, and would not see it.
 */
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Effect, Fiber } from "effect"
import { type Cluster, type LiveGateway, makeCluster, names, type Plan } from "./Cluster.ts"
import { type Place, quickTalk } from "./Place.ts"
import { inspectRest, looking, mishap, type Outcome, runWorld } from "./Simulation.ts"
import { type Ledger, visitHttp, visitSocket } from "./Traffic.ts"
import type { Lookout } from "./Watch.ts"

/** How much everything holds at one moment, all processes together. */
export interface Sample {
  readonly requests: number
  readonly simulatedHours: number
  readonly sizes: Readonly<Record<string, number>>
}

/** Everything goes wrong now and then, nothing all the time, and the bus keeps what it confirmed. */
const plan: Plan = {
  bus: {
    fail: 0.01,
    failHalfWay: 0.005,
    failAfter: 0.005,
    drop: 0,
    repeat: 0.01,
    late: 0,
    slow: 0.01,
    delayMsMax: 1_000
  },
  socket: { delayMsMax: 20, stall: 0.001, stallMsMax: 10_000, reset: 0.0005, lostBehind: 0.0005, halfOpen: 0.0001 },
  lossy: false,
  crashes: true,
  drains: true,
  jumps: true,
  outages: true,
  cramped: false,
  quiet: false
}
/** Mostly small, so that it is requests that are many and not bytes. */
const sizes = [0, 1, 100, 100, 1_000, 3_000, 3_000, 10_000]
const largeSizes = [70_000]
const samplesTotal = 100
const paceMs = 200
const calmMs = 60_000

const measure = Effect.fnUntraced(function* ({ gateways, hubs, runners }: Cluster, lookout: Lookout, ledger: Ledger) {
  const found: Record<string, number> = {
    hubs: hubs.length,
    gateways: gateways.length,
    runners: runners.length,
    visitors: ledger.open,
    "gateway entries": 0,
    Open: 0,
    Closing: 0,
    HalfClosed: 0,
    Closed: 0,
    sessions: 0,
    "table's own": 0,
    "hub streams": 0,
    "runner streams": 0,
    timers: lookout.world.timersPending
  }
  const add = (what: string, many: number) => {
    found[what] = (found[what] ?? 0) + many
  }
  for (const { gateway } of gateways) add("gateway entries", yield* gateway.streams)
  for (const { hub, routes, table } of hubs) {
    for (const many of Object.values(table.held)) add("table's own", many)
    for (const [state, many] of Object.entries(yield* routes.counts)) add(state, many)
    const state = yield* hub.state
    add("sessions", state.sessions)
    add("hub streams", state.openStreams)
  }
  for (const { runner } of runners) add("runner streams", runner.countsUnsafe().openStreams)
  return found
})

setFlagsFromString("--expose-gc")
const collect = runInNewContext("gc") as () => void
const heapKiB = (): number => {
  collect()
  return Math.round(process.memoryUsage().heapUsed / 1024)
}

const life = Effect.fnUntraced(function* (
  lookout: Lookout,
  ledger: Ledger,
  requests: number,
  onSample: (sample: Sample) => void
) {
  const { world } = lookout
  const { random } = world
  const cluster = yield* makeCluster(plan, lookout)
  const { gateways } = cluster
  const namespace = "default"
  let added = 0
  const addRunner = () => Effect.ignore(cluster.startRunner(namespace, names[added++ % names.length] as string))
  for (let i = 0; i < 3; i++) yield* cluster.startHub(namespace)
  for (let i = 0; i < 2; i++) yield* cluster.startGateway(namespace)
  for (let i = 0; i < 6; i++) yield* addRunner()
  yield* Effect.sleep(5_000)
  yield* Effect.forkScoped(looking(cluster))
  const mishaps = yield* Effect.forkScoped(
    Effect.forever(
      Effect.andThen(
        Effect.suspend(() => Effect.sleep(random.below(2 * calmMs))),
        Effect.suspend(() => mishap(world, cluster, addRunner))
      )
    )
  )
  const every = Math.max(1, Math.floor(requests / samplesTotal))
  for (let visit = 1; visit <= requests; visit++) {
    const entry = gateways[random.below(gateways.length)] as LiveGateway
    const name = names[random.below(names.length)] as string
    const asked = random.below(200) === 0 ? largeSizes : sizes
    const place: Place = { name, sizes: asked, talk: quickTalk, rivet: false, record: undefined }
    yield* Effect.forkScoped((random.below(4) === 0 ? visitSocket : visitHttp)(ledger, entry, place, visit))
    yield* Effect.sleep(random.below(paceMs))
    if (visit % every !== 0) continue
    const found = yield* measure(cluster, lookout, ledger)
    const simulatedHours = world.nowMs / 3_600_000
    onSample({ requests: visit, simulatedHours, sizes: { ...found, "heap KiB": heapKiB() } })
  }
  yield* Fiber.interrupt(mishaps)
  cluster.calmDown()
  while (ledger.open > 0) yield* Effect.sleep(1_000)
  yield* Effect.sleep(180_000)
  world.note("rest")
  yield* inspectRest(cluster, ledger, 0)
})

/** A table beside itself: its mean over the second quarter of the time and over the last, and the most it ever held. */
export interface Growth {
  readonly name: string
  readonly early: number
  readonly late: number
  readonly most: number
  readonly flat: boolean
}

const mean = (numbers: ReadonlyArray<number>) => numbers.reduce((sum, each) => sum + each, 0) / numbers.length

/** Whether what each table holds depends on how much came before. The first quarter is left out: everything has to fill once. */
export const growthOf = (samples: ReadonlyArray<Sample>): ReadonlyArray<Growth> => {
  const quarter = Math.floor(samples.length / 4)
  return Object.keys(samples[0]?.sizes ?? {}).map((name) => {
    const values = samples.map((sample) => sample.sizes[name] as number)
    const [early, late] = [mean(values.slice(quarter, 2 * quarter)), mean(values.slice(-quarter))]
    return { name, early, late, most: Math.max(...values), flat: late <= early * 1.25 + 10 }
  })
}

/** Runs so many requests through one cluster, to its rest. */
export const soak = (seed: number, requests: number, onSample: (sample: Sample) => void): Outcome =>
  runWorld(
    seed,
    (lookout, ledger) => Effect.scoped(life(lookout, ledger, requests, onSample)),
    Number.POSITIVE_INFINITY
  )
