/**
 * What befalls a cluster: visitors, mishaps, intruders, and what must hold once all is quiet. One seed decides how many of each there are, what
 * is asked, what goes wrong and when. `simulate(seed)` runs it to its rest. Before: `Cluster.ts`; beside it: `Soak.ts`, one cluster for days.
 */
import { Cause, Effect, Exit, Fiber, Logger, Metric } from "effect"
import * as HubMetrics from "../../src/hub/HubMetrics.ts"
import * as Wayleave1 from "../../src/protocol/Wayleave1.ts"
import type { Uplink } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { type Cluster, drawPlan, type LiveGateway, makeCluster, names } from "./Cluster.ts"
import { oddPlace, startOddRunner } from "./OddRunner.ts"
import { type Place, quickTalk, sizesOfAll } from "./Place.ts"
import { intrudeAsRivet, type RivetRunners, rivetPlace, startRivetRunners } from "./RivetRunner.ts"
import { type Ledger, visitHttp, visitSocket } from "./Traffic.ts"
import { forgedStatus, type Lookout } from "./Watch.ts"
import { World } from "./World.ts"

/** How one run went. */
export interface Outcome {
  readonly seed: number
  readonly steps: number
  readonly hash: number
  readonly requests: number
  /** Answered in full. */
  readonly complete: number
  /** How often each of the eight situations came about in which runners of good faith say what looks forged. */
  readonly situations: ReadonlyMap<string, number>
  readonly violations: ReadonlyArray<string>
  readonly notes: ReadonlyArray<string>
}

const stepsMax = 3_000_000
/** How long a Rivet runner may take to leave where nothing is open: a network's longest stall is over by then. */
const departureMs = 10_000

/** Somebody with a session of his own who has learned of other people's routes, of this hub or of another. */
export const intrude = Effect.fnUntraced(function* (world: World, cluster: Cluster) {
  yield* Effect.sleep(world.random.below(4_000))
  const any = () => cluster.hubs[world.random.below(Math.max(1, cluster.hubs.length))]
  const entry = any()
  if (entry === undefined) return
  // What was issued at one hub is asked for at another as well.
  const seen = cluster.hubs.flatMap(({ watch }) => watch.issued)
  const socket = yield* cluster.dialTo(entry, { stranger: true })
  const say = (message: Wayleave1.ToHub) =>
    socket.sendUnsafe(Wayleave1.toHub.encode(message), { binary: true, finish: true })
  const own = "ee".repeat(16)
  // By a name that others serve he gets requests too, which he never answers: he leaves before they are many.
  const disguised = world.random.below(2) === 0
  say({
    _tag: "Hello",
    versions: [1],
    session: new Uint8Array(16).fill(0xee),
    connection: 1_000,
    name: disguised ? (names[0] as string) : "elsewhere",
    hub: "elsewhere",
    received: 0,
    streams: seen.map(({ key }) => ({
      route: key,
      from: 0,
      open: { next: 1, credited: 0, granted: limits.windowBytesInitial }
    })),
    capabilities: [],
    agent: "intruder"
  })
  for (let tries = 0; tries < 5; tries++) {
    yield* Effect.sleep(world.random.below(2_000))
    if (disguised) say({ _tag: "GoAway", reason: "seen enough" })
    const { watch } = world.random.below(2) === 0 ? entry : (any() ?? entry)
    const known = watch.issued.filter(({ key }) => !watch.everHad(own, key))
    const frames = known.map(({ key }) => ({
      route: key,
      index: world.random.below(3),
      frame: {
        _tag: "ResponseStart",
        status: forgedStatus,
        headers: [],
        body: new Uint8Array(0),
        streamed: world.random.below(2) === 0
      } as const
    }))
    if (frames.length > 0) say({ _tag: "Frames", received: 0, frames })
  }
  socket.closeUnsafe(1000, "")
})

/** One more mishap, whatever the plan has in store. */
export const mishap = Effect.fnUntraced(function* (
  world: World,
  cluster: Cluster,
  addRunner: (namespace: string) => Effect.Effect<void>
) {
  const { random } = world
  const { gateways, hubs, plan, runners } = cluster
  const scope = yield* Effect.scope
  const hub = hubs[random.below(Math.max(1, hubs.length))]
  if (plan.jumps && random.below(2) === 0) world.jumpWallClock((random.below(3) - 1) * 3_600_000)
  if (plan.outages && random.below(3) === 0) {
    cluster.setAway(true)
    // Now and then for longer than a lease.
    yield* Effect.sleep(random.below(random.below(5) === 0 ? 50_000 : 8_000))
    cluster.setAway(false)
  }
  if (hub !== undefined && random.below(3) === 0) for (const wire of [...hub.wires]) yield* wire.cut
  if (plan.drains && hub !== undefined && random.below(3) === 0) yield* cluster.replaceHub(hub)
  if (!plan.crashes) return
  if (hub !== undefined && random.below(3) === 0) {
    yield* cluster.crashHub(hub)
    yield* Effect.sleep(random.below(3_000))
    yield* cluster.succeedHub(hub)
  }
  if (random.below(4) === 0) {
    const gateway = gateways[random.below(gateways.length)] as LiveGateway
    yield* cluster.crashGateway(gateway)
    yield* cluster.startGateway(gateway.namespace)
  }
  const runner = runners[random.below(Math.max(1, runners.length))]
  if (runner !== undefined && random.below(2) === 0) {
    yield* cluster.stopRunner(runner)
    yield* Effect.forkIn(addRunner(runner.namespace), scope)
  }
})

/** Looks at every hub again and again: asks its store what strangers would, and forgets what can no longer come. */
export const looking = (cluster: Cluster): Effect.Effect<void> =>
  Effect.suspend(() =>
    Effect.forEach(
      cluster.hubs,
      ({ watch }) => {
        watch.tidy()
        return watch.probe()
      },
      { discard: true }
    )
  ).pipe(Effect.andThen(Effect.sleep(700)), Effect.forever)

/** What must hold once everything has run out: no stream, no route, no tombstone, and no session but those of the runners that are there. */
export const inspectRest = Effect.fnUntraced(function* (
  { gateways, hubs, runners }: Cluster,
  ledger: Ledger,
  rivetRunners: number
) {
  for (const { gateway, watch } of gateways) {
    const [serving, entries] = [yield* gateway.inFlight, yield* gateway.streams]
    if (serving + entries > 0) ledger.violate(`${watch.label} has ${serving} streams and ${entries} entries at rest`)
  }
  let sessions = 0
  for (const { hub, routes, table, watch } of hubs) {
    const state = yield* hub.state
    sessions += state.sessions
    if (state.openStreams !== 0) ledger.violate(`${watch.label} has ${state.openStreams} open streams at rest`)
    if (state.sessions !== watch.sessions) {
      ledger.violate(`${watch.label} has ${state.sessions} sessions at rest, and routes may be of ${watch.sessions}`)
    }
    const { gateways: known, halfClosing, sessions: owners } = table.held
    if (owners !== state.sessions || known + halfClosing > 0) {
      ledger.violate(
        `${watch.label} has a table with ${owners} sessions, ${known} gateways, ${halfClosing} in its queue`
      )
    }
    const counts = yield* routes.counts
    if (Object.values(counts).some((entries) => entries !== 0)) {
      ledger.violate(`${watch.label} has routes at rest: ${JSON.stringify(counts)}`)
    }
  }
  const expected = runners.length + rivetRunners
  if (sessions !== expected) ledger.violate(`${sessions} sessions at rest, of ${expected} runners`)
  for (const { runner } of runners) {
    const { openStreams } = runner.countsUnsafe()
    if (openStreams !== 0) ledger.violate(`a runner has ${openStreams} open streams at rest`)
  }
  if (hubs.some(({ actors }) => actors)) {
    // Of the only hub that has any: its last look at itself.
    const { answers, requests } = HubMetrics.heldBytesBy
    for (const gauge of [HubMetrics.lastingSockets, answers, requests]) {
      const { value } = yield* Metric.value(gauge)
      if (value !== 0) ledger.violate(`${value} at rest in ${gauge.id}`)
    }
  }
  if (ledger.open !== 0) ledger.violate(`${ledger.open} visitors are being served at rest`)
})

/** Which worlds have Rivet's runners, and which are quiet but for the wires of runners: told by the seed, so that others stay as they are. */
const kindOf = (seed: number) => ({ hasRivet: seed % 5 < 2, quiet: seed % 20 < 2 })

const scenario = Effect.fnUntraced(function* (seed: number, lookout: Lookout, ledger: Ledger) {
  const { world } = lookout
  const { random } = world
  const { hasRivet, quiet } = kindOf(seed)
  const plan = drawPlan(world, quiet)
  const cluster = yield* makeCluster(plan, lookout)
  const scope = yield* Effect.scope
  const { gateways } = cluster
  ledger.lossy = plan.lossy
  ledger.quiet = quiet
  const count = (max: number) => 1 + random.below(max)
  const namespaces = random.below(3) === 0 ? ["default", "other"] : ["default"]
  let added = 0
  const addRunner = (namespace: string) =>
    Effect.ignore(cluster.startRunner(namespace, names[added++ % names.length] as string))
  for (const namespace of namespaces) {
    for (let i = count(3); i > 0; i--) yield* cluster.startHub(namespace, hasRivet && namespace === "default")
    for (let i = count(3); i > 0; i--) yield* cluster.startGateway(namespace)
    // One more than needed at most times; sometimes a name that nobody serves.
    for (let i = count(5); i > 0; i--) yield* Effect.forkIn(addRunner(namespace), scope)
  }
  const { situations } = ledger
  const special: Array<Place> = []
  const places = names.map(
    (name): Place => ({ name, sizes: sizesOfAll, talk: quickTalk, rivet: false, record: undefined })
  )
  let odd: Effect.Effect<void> | undefined
  if (random.below(3) === 0 || quiet) {
    const place = oddPlace(world)
    odd = yield* startOddRunner(world, cluster, "default", place, situations)
    special.push(place)
  }
  let rivet: RivetRunners | undefined
  if (hasRivet) {
    const place = rivetPlace(world)
    rivet = yield* startRivetRunners(ledger, cluster, place)
    special.push(place)
  }
  yield* Effect.sleep(random.below(1_000))

  const visits = Effect.gen(function* () {
    const total = 5 + random.below(25)
    const paceMs = [1, 50, 500][random.below(3)] as number
    const running: Array<Fiber.Fiber<void>> = []
    for (let visit = 1; visit <= total; visit++) {
      const entry = gateways[random.below(gateways.length)] as LiveGateway
      const from = special.length > 0 && random.below(2) === 0 ? special : places
      const place = from[from.length > 1 ? random.below(from.length) : 0] as Place
      const visited = (random.below(3) === 0 ? visitSocket : visitHttp)(ledger, entry, place, visit)
      running.push(yield* Effect.forkChild(visited))
      yield* Effect.sleep(random.below(paceMs))
    }
    return running
  })
  const mishaps = Effect.gen(function* () {
    for (let i = random.below(6); i > 0; i--) {
      yield* Effect.sleep(random.below(5_000))
      yield* mishap(world, cluster, addRunner)
      if (rivet !== undefined && plan.crashes && random.below(3) === 0) yield* rivet.replaceOne
    }
  })
  yield* Effect.forkScoped(looking(cluster))
  const intruding = yield* Effect.forkChild(intrude(world, cluster))
  const watches = () => cluster.hubs.map(({ watch }) => watch)
  const pretending = hasRivet
    ? yield* Effect.forkChild(Effect.ignore(intrudeAsRivet(ledger, cluster, watches)))
    : undefined
  const going = yield* Effect.forkChild(mishaps)
  const running = yield* visits
  yield* Fiber.join(going)
  yield* Fiber.join(intruding)
  if (pretending !== undefined) yield* Fiber.join(pretending)
  cluster.calmDown()
  for (const fiber of running) yield* Fiber.join(fiber)
  if (odd !== undefined) yield* odd

  // Heartbeats, leases, half-closed routes and tombstones have run out, and somebody has looked.
  yield* Effect.sleep(180_000)
  world.note("rest")
  yield* inspectRest(cluster, ledger, rivet?.count() ?? 0)
  if (rivet === undefined) return
  // What a hub still had of their streams it would wait for now, long after this.
  yield* rivet.leave
  yield* Effect.sleep(departureMs)
  world.note("Rivet's runners have left")
  yield* inspectRest(cluster, ledger, 0)
})

/** What goes through a run's log as an error is one: a stream that failed over a frame, a fiber that died. */
const logger = (violate: (what: string) => void) =>
  Logger.make(({ cause, logLevel, message }) => {
    if (logLevel !== "Error" && logLevel !== "Fatal") return
    // Here it is networks that fail again and again.
    if (String(message).startsWith("two runner processes use one key")) return
    violate(`an error was logged: ${String(message)} ${cause.reasons.length === 0 ? "" : Cause.pretty(cause)}`)
  })

/** Runs a scenario in a world from a seed, synchronously, until it is over or does not come to an end. */
export const runWorld = <A>(
  seed: number,
  make: (lookout: Lookout, ledger: Ledger) => Effect.Effect<A, unknown>,
  stepsAtMost: number
): Outcome => {
  const world = new World(seed)
  const violations: Array<string> = []
  const violate = (what: string) => {
    if (violations.length < 10) violations.push(`at ${world.nowMs} ms: ${what}`)
    world.note(`VIOLATION ${what}`)
  }
  const lookout: Lookout = {
    world,
    violate,
    everHeld: new Map(),
    lawful: new WeakMap<Uplink, string>()
  }
  const ledger: Ledger = {
    world,
    violate,
    lossy: false,
    requests: 0,
    complete: 0,
    open: 0,
    quiet: false,
    situations: new Map()
  }
  const program = make(lookout, ledger).pipe(Effect.provide(Logger.layer([logger(violate)])))
  const fiber = Effect.runForkWith(world.context())(program)
  while (fiber.pollUnsafe() === undefined) {
    if (!world.step()) {
      violate("nothing happens any more")
      break
    }
    if (world.steps > stepsAtMost) {
      violate("does not come to rest")
      break
    }
  }
  const exit = fiber.pollUnsafe()
  if (exit !== undefined && Exit.isFailure(exit)) violate(`broke: ${Cause.pretty(exit.cause)}`)
  const { hash, notes, steps } = world
  const { complete, requests, situations } = ledger
  return { seed, steps, hash: hash >>> 0, requests, complete, situations, violations, notes }
}

/** Runs one seed to its rest, synchronously. */
export const simulate = (seed: number): Outcome =>
  runWorld(seed, (lookout, ledger) => Effect.scoped(scenario(seed, lookout, ledger)), stepsMax)
