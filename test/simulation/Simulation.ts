/**
 * A whole cluster in a world of its own: gateways, hubs and runners as in production on one bus in memory, with sockets and bus that go wrong.
 * One seed decides how many of each there are, what visitors ask, what goes wrong and when. `simulate(seed)` runs it to its rest.
 */
import { Context, Effect, Exit, Fiber, Layer, Logger, Option, Random, Scope } from "effect"
import { layerOpen } from "../../src/auth/Authenticator.ts"
import { BusError, layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { Hub, layer as hubLayer } from "../../src/hub/Hub.ts"
import * as Wayleave1 from "../../src/protocol/Wayleave1.ts"
import { layerMemoryWith, RouteStore } from "../../src/route/RouteStore.ts"
import { NewSessionId, layer as runnerLayer } from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { DialError, Dialer } from "../../src/socket/MessageSocket.ts"
import * as FaultyBus from "../../src/testing/FaultyBus.ts"
import * as FaultySocket from "../../src/testing/FaultySocket.ts"
import { showRoute } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { app, type Ledger, visitHttp, visitSocket } from "./Traffic.ts"
import { forgedStatus, HubWatch } from "./Watch.ts"
import { World } from "./World.ts"

/** How one run went. */
export interface Outcome {
  readonly seed: number
  readonly steps: number
  readonly hash: number
  readonly requests: number
  /** Answered in full. */
  readonly complete: number
  readonly violations: ReadonlyArray<string>
  readonly notes: ReadonlyArray<string>
}

interface LiveHub {
  readonly hub: Hub["Service"]
  readonly routes: RouteStore["Service"]
  readonly watch: HubWatch
  readonly scope: Scope.Closeable
  readonly wires: Set<FaultySocket.FaultyWire>
  alive: boolean
}

const names = ["web", "api"]
const stepsMax = 3_000_000

/** Which faults this run knows. Some are wholly off: what hides behind a constant storm shows in a calm. */
const drawFaults = (world: World) => {
  const some = (rate: number) => (world.random.below(2) === 0 ? rate * world.chance() : 0)
  const drops = world.random.below(4) === 0
  const bus: FaultyBus.BusFaults = {
    fail: some(0.1),
    failHalfWay: some(0.05),
    failAfter: some(0.05),
    drop: drops ? some(0.03) : 0,
    repeat: some(0.1),
    late: some(0.05),
    slow: some(0.1),
    delayMsMax: world.random.below(3_000)
  }
  const socket: FaultySocket.SocketFaults = {
    delayMsMax: world.random.below(200),
    stall: some(0.02),
    stallMsMax: world.random.below(30_000),
    reset: some(0.02),
    halfOpen: some(0.01)
  }
  return {
    bus,
    socket,
    lossy: bus.drop + bus.late > 0,
    crashes: world.random.below(2) === 0,
    drains: world.random.below(2) === 0,
    jumps: world.random.below(2) === 0
  }
}

/** The cluster of one run, and what may be done to it. */
const makeCluster = Effect.fnUntraced(function* (world: World, violate: (what: string) => void) {
  const scope = yield* Effect.scope
  const { random } = world
  const plan = drawFaults(world)
  let calm = false
  const busFaults = () => (calm ? FaultyBus.faultless : plan.bus)
  const socketFaults = () => (calm ? FaultySocket.faultless : plan.socket)
  const inner = Context.get(yield* Layer.build(busMemory), MessageBus)
  const bounds = { ...limits, routesMax: random.below(4) === 0 ? 3 : 1_000, tombstonesMax: 10_000 }
  const hubs: Array<LiveHub> = []
  const watches: Array<HubWatch> = []
  const owners = new Map<string, Set<string>>()

  /** The bus as one process has it: gone once the process is. */
  const busOf = Effect.fnUntraced(function* (alive: () => boolean) {
    const faulty = yield* FaultyBus.make(inner, busFaults, world.chance, (kind, subject) =>
      world.note(`bus: ${kind} to ${subject}`)
    )
    const bus: MessageBus["Service"] = {
      ...faulty,
      publish: (subject, envelopes, delivery) =>
        Effect.suspend(() => {
          for (const envelope of envelopes) {
            if (envelope._tag !== "Downlink") continue
            world.note(`gateway publishes ${envelope.frame._tag} ${showRoute(envelope.route)} #${envelope.index}`)
          }
          return alive()
            ? faulty.publish(subject, envelopes, delivery)
            : Effect.fail(new BusError({ subject, reason: "Disconnected" }))
        })
    }
    return bus
  })

  const startHub = Effect.fnUntraced(function* () {
    const own = yield* Scope.fork(scope)
    const watch = new HubWatch(`hub${watches.length}`, world, bounds, violate, owners)
    watches.push(watch)
    const live = { alive: true }
    const bus = watch.bus(yield* busOf(() => live.alive).pipe(Scope.provide(scope)))
    const routes = watch.store(
      Context.get(yield* Layer.buildWithScope(Layer.fresh(layerMemoryWith(bounds)), own), RouteStore)
    )
    const parts = Layer.mergeAll(Layer.succeed(MessageBus, bus), Layer.succeed(RouteStore, routes), layerOpen)
    const built = yield* Layer.buildWithScope(hubLayer().pipe(Layer.provide(parts)), own)
    const entry: LiveHub = Object.assign(live, {
      hub: Context.get(built, Hub),
      routes,
      watch,
      scope: own,
      wires: new Set<FaultySocket.FaultyWire>()
    })
    hubs.push(entry)
    world.note(`${watch.label} starts`)
  })

  /** Without a word: the process is gone, and its sockets with it. */
  const crashHub = Effect.fnUntraced(function* (entry: LiveHub) {
    world.note(`${entry.watch.label} crashes`)
    if (!hubs.includes(entry)) return
    hubs.splice(hubs.indexOf(entry), 1)
    for (const wire of entry.wires) yield* wire.cut
    entry.alive = false
    yield* Effect.forkIn(Scope.close(entry.scope, Exit.void), scope)
  })

  /** As a deployment does: another comes up, and this one leaves once its runners are there. */
  const replaceHub = Effect.fnUntraced(function* (entry: LiveHub) {
    yield* startHub()
    world.note(`${entry.watch.label} drains`)
    const drained = Effect.timeoutOption(entry.hub.drain, limits.drainMs)
    yield* Effect.forkIn(Effect.andThen(drained, crashHub(entry)), scope)
  })

  const dialTo = Effect.fnUntraced(function* (entry: LiveHub) {
    const wire = yield* FaultySocket.make({
      protocol: Wayleave1.subprotocol,
      faults: socketFaults,
      chance: world.chance,
      soon: world.soon,
      onFault: (kind) => world.note(`wire of ${entry.watch.label}: ${kind}`)
    }).pipe(Scope.provide(entry.scope))
    entry.wires.add(wire)
    wire.near.whenClosedUnsafe(() => entry.wires.delete(wire))
    yield* Effect.forkIn(entry.hub.accept(wire.far, { token: Option.none(), remoteAddress: "192.0.2.1" }), entry.scope)
    return wire.near
  })
  const dialer = Dialer.of({
    dial: (url) =>
      Effect.suspend(() => {
        const entry = hubs[random.below(Math.max(1, hubs.length))]
        if (entry !== undefined) return dialTo(entry)
        return Effect.fail(new DialError({ url, reason: "Unreachable", status: undefined, message: "no hub is up" }))
      })
  })

  let sessions = 0
  const startRunner = Effect.fnUntraced(function* (name: string) {
    const own = yield* Scope.fork(scope)
    const newId = () => {
      sessions++
      return Uint8Array.from({ length: 16 }, (_, i) => (i < 2 ? sessions : random.below(256)))
    }
    const parts = Layer.mergeAll(
      Layer.succeed(Dialer, dialer),
      Layer.succeed(RunnerApp, app(world)),
      Layer.succeed(NewSessionId, newId)
    )
    const layer = runnerLayer({ hubUrl: "ws://hub.sim", name, drain: random.below(3) * 2_000 })
    yield* Layer.buildWithScope(layer.pipe(Layer.provide(parts)), own)
    return own
  })

  const startGateway = Effect.fnUntraced(function* () {
    const own = yield* Scope.fork(scope)
    const live = { alive: true }
    const bus = yield* busOf(() => live.alive).pipe(Scope.provide(scope))
    let draws = 0
    // Ids of requests begin at the same number everywhere: only the gateway tells them apart.
    const ids = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => (draws++ === 0 ? world.chance() : 0) }
    const parts = Layer.mergeAll(Layer.succeed(MessageBus, bus), layerNoop)
    const layer = gatewayLayer().pipe(Layer.provide(parts), Layer.provide(Layer.succeed(Random.Random, ids)))
    const built = yield* Layer.buildWithScope(layer, own)
    return { gateway: Context.get(built, Gateway), scope: own, live }
  })

  return {
    plan,
    hubs,
    startHub,
    crashHub,
    replaceHub,
    startRunner,
    startGateway,
    dialTo,
    calmDown: () => {
      calm = true
    }
  }
})

/** Somebody with a session of his own who has learned of other people's routes. */
const intrude = Effect.fnUntraced(function* (world: World, cluster: Effect.Success<ReturnType<typeof makeCluster>>) {
  yield* Effect.sleep(world.random.below(4_000))
  const entry = cluster.hubs[world.random.below(Math.max(1, cluster.hubs.length))]
  if (entry === undefined) return
  // What was issued at one hub is asked for at another as well.
  const seen = cluster.hubs.flatMap(({ watch }) => watch.issued)
  const socket = yield* cluster.dialTo(entry)
  const say = (message: Wayleave1.ToHub) =>
    socket.sendUnsafe(Wayleave1.toHub.encode(message), { binary: true, finish: true })
  const own = "ee".repeat(16)
  // An opening frame that comes twice may have reached somebody else before it reached him.
  const foreign = () => {
    const his = new Set(entry.watch.issued.filter(({ owner }) => owner === own).map(({ key }) => showRoute(key)))
    return entry.watch.issued.filter(({ key }) => !his.has(showRoute(key)))
  }
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
    const frames = foreign().map(({ key }) => ({
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

const scenario = Effect.fnUntraced(function* (world: World, ledger: Ledger) {
  const { random } = world
  const cluster = yield* makeCluster(world, ledger.violate)
  const scope = yield* Effect.scope
  const { hubs, plan } = cluster
  if (plan.lossy) Object.assign(ledger, { patienceMs: 60_000 })
  const count = (max: number) => 1 + random.below(max)
  for (let i = count(3); i > 0; i--) yield* cluster.startHub()
  const gateways = yield* Effect.forEach(Array.from({ length: count(3) }), () => cluster.startGateway())
  const runners: Array<Scope.Closeable> = []
  let added = 0
  const addRunner = Effect.suspend(() =>
    Effect.map(cluster.startRunner(names[added++ % names.length] as string), (own) => void runners.push(own))
  )
  // One more than needed at most times; sometimes a name that nobody serves.
  for (let i = count(5); i > 0; i--) yield* Effect.forkIn(Effect.ignore(addRunner), scope)
  yield* Effect.sleep(random.below(1_000))

  const visits = Effect.gen(function* () {
    const total = 5 + random.below(25)
    const paceMs = [1, 50, 500][random.below(3)] as number
    const running: Array<Fiber.Fiber<void>> = []
    for (let visit = 1; visit <= total; visit++) {
      const entry = gateways[random.below(gateways.length)] as (typeof gateways)[number]
      const host = `${names[random.below(names.length)]}.localhost`
      const visited = random.below(3) === 0 ? visitSocket(ledger, host, visit) : visitHttp(ledger, host, visit)
      running.push(yield* Effect.forkChild(Effect.provideService(visited, Gateway, entry.gateway)))
      yield* Effect.sleep(random.below(paceMs))
    }
    return running
  })

  const mishaps = Effect.gen(function* () {
    for (let i = random.below(6); i > 0; i--) {
      yield* Effect.sleep(random.below(5_000))
      const hub = hubs[random.below(Math.max(1, hubs.length))]
      if (plan.jumps && random.below(2) === 0) world.jumpWallClock((random.below(3) - 1) * 3_600_000)
      if (hub !== undefined && random.below(3) === 0) for (const wire of [...hub.wires]) yield* wire.cut
      if (plan.crashes && hub !== undefined && random.below(3) === 0) {
        yield* cluster.crashHub(hub)
        yield* Effect.sleep(random.below(3_000))
        yield* cluster.startHub()
      } else if (plan.drains && hub !== undefined && random.below(3) === 0) yield* cluster.replaceHub(hub)
      const runner = runners.shift()
      if (plan.crashes && runner !== undefined && random.below(2) === 0) {
        yield* Effect.forkIn(Scope.close(runner, Exit.void), scope)
        yield* Effect.forkIn(Effect.ignore(addRunner), scope)
      } else if (runner !== undefined) runners.push(runner)
    }
  })
  const looking = Effect.forever(
    Effect.suspend(() =>
      Effect.forEach(hubs, ({ hub, watch }) => Effect.map(hub.state, ({ sessions }) => watch.inspect(sessions)), {
        discard: true
      })
    ).pipe(
      Effect.andThen(Effect.suspend(() => Effect.forEach(hubs, ({ watch }) => watch.probe(), { discard: true }))),
      Effect.andThen(Effect.sleep(700))
    )
  )
  yield* Effect.forkScoped(looking)
  const intruding = yield* Effect.forkChild(intrude(world, cluster))
  const going = yield* Effect.forkChild(mishaps)
  const running = yield* visits
  yield* Fiber.join(going)
  yield* Fiber.join(intruding)
  cluster.calmDown()
  for (const fiber of running) yield* Fiber.await(fiber)

  // Heartbeats, leases, half-closed routes and tombstones have run out, and somebody has looked.
  yield* Effect.sleep(180_000)
  world.note("rest")
  for (const { gateway } of gateways) {
    if ((yield* gateway.inFlight) !== 0 || (yield* gateway.streams) !== 0)
      ledger.violate("a gateway has streams at rest")
  }
  for (const { hub, routes, watch } of hubs) {
    const { openStreams } = yield* hub.state
    if (openStreams !== 0) ledger.violate(`${watch.label} has ${openStreams} open streams at rest`)
    const counts = yield* routes.counts
    if (Object.values(counts).some((entries) => entries !== 0)) {
      ledger.violate(`${watch.label} has routes at rest: ${JSON.stringify(counts)}`)
    }
  }
})

/** Runs one seed to its rest, synchronously. */
export const simulate = (seed: number): Outcome => {
  const world = new World(seed)
  const violations: Array<string> = []
  const violate = (what: string) => {
    if (violations.length < 10) violations.push(`at ${world.nowMs} ms: ${what}`)
    world.note(`VIOLATION ${what}`)
  }
  const ledger: Ledger = {
    world,
    violate,
    patienceMs: Number.POSITIVE_INFINITY,
    requests: 0,
    complete: 0,
    open: 0
  }
  const program = Effect.scoped(scenario(world, ledger)).pipe(Effect.provide(Logger.layer([])))
  const fiber = Effect.runForkWith(world.context())(program)
  while (fiber.pollUnsafe() === undefined) {
    if (!world.step()) {
      violate("nothing happens any more")
      break
    }
    if (world.steps > stepsMax) {
      violate("does not come to rest")
      break
    }
  }
  const exit = fiber.pollUnsafe()
  if (exit !== undefined && Exit.isFailure(exit)) violate(`broke: ${exit.cause}`)
  const { hash, notes, steps } = world
  const { complete, requests } = ledger
  return { seed, steps, hash: hash >>> 0, requests, complete, violations, notes }
}
