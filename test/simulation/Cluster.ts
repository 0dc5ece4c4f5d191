/**
 * A whole cluster in a world of its own: gateways, hubs and runners as in production on one bus in memory, with sockets and bus that go wrong.
 * This file builds them and ends them; what befalls them is `Simulation.ts`.
 */
import { Clock, Context, Effect, Exit, type Fiber, Layer, Option, Random, Scope } from "effect"
import { layerOpen } from "../../src/auth/Authenticator.ts"
import { BusError, layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { StreamObserver } from "../../src/gateway/StreamObserver.ts"
import { Hub, layer as hubLayer } from "../../src/hub/Hub.ts"
import * as Wayleave1 from "../../src/protocol/Wayleave1.ts"
import { fromTable, RouteStore } from "../../src/route/RouteStore.ts"
import { RouteTable } from "../../src/route/RouteTable.ts"
import { NewSessionId, Runner, layer as runnerLayer } from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { DialError, Dialer } from "../../src/socket/MessageSocket.ts"
import * as FaultyBus from "../../src/testing/FaultyBus.ts"
import * as FaultySocket from "../../src/testing/FaultySocket.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { makeActorFiles } from "./ActorFiles.ts"
import { GatewayWatch } from "./GatewayWatch.ts"
import { app } from "./Traffic.ts"
import { HubWatch, type Lookout } from "./Watch.ts"
import type { World } from "./World.ts"

/** What visitors reach runners by, in each namespace. */
export const names: ReadonlyArray<string> = ["web", "api"]

const { abuse, fenced, protocol_error } = Wayleave1.closeCodes
const partings: ReadonlySet<number> = new Set([abuse.code, fenced.code, protocol_error.code])
/** When a system finds out by itself that nobody is at the other end of a connection. */
const halfOpenMs = 45_000

/** What goes wrong in one run. */
export interface Plan {
  readonly bus: FaultyBus.BusFaults
  readonly socket: FaultySocket.SocketFaults
  /** The bus loses or reorders what it confirmed. */
  readonly lossy: boolean
  readonly crashes: boolean
  readonly drains: boolean
  readonly jumps: boolean
  /** The bus is away for seconds at a time. */
  readonly outages: boolean
  /** Hubs have hardly any room for routes. */
  readonly cramped: boolean
  /** Nothing goes wrong but on the wires of runners: then whatever they answer must arrive. */
  readonly quiet: boolean
}

/** Which faults this run knows. Some are wholly off: what hides behind a constant storm shows in a calm; where `quiet` all but those of wires. */
export const drawPlan = (world: World, quiet: boolean): Plan => {
  const plan = drawLoudPlan(world)
  if (!quiet) return plan
  const calm = { lossy: false, crashes: false, drains: false, jumps: false, outages: false, cramped: false }
  return { ...plan, ...calm, bus: FaultyBus.faultless, quiet }
}

const drawLoudPlan = (world: World): Plan => {
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
    lostBehind: some(0.02),
    halfOpen: some(0.01)
  }
  return {
    bus,
    socket,
    lossy: bus.drop + bus.late > 0,
    crashes: world.random.below(2) === 0,
    drains: world.random.below(2) === 0,
    jumps: world.random.below(2) === 0,
    outages: world.random.below(2) === 0,
    cramped: world.random.below(4) === 0,
    quiet: false
  }
}

/** A hub of the cluster, its store and whoever watches it. */
export interface LiveHub {
  readonly hub: Hub["Service"]
  readonly routes: RouteStore["Service"]
  readonly table: RouteTable
  readonly watch: HubWatch
  readonly namespace: string
  readonly scope: Scope.Closeable
  readonly wires: Set<FaultySocket.FaultyWire>
  readonly unwatch: () => void
  /** Controls the actors of its namespace, and takes Rivet's runners in. */
  readonly actors: boolean
  alive: boolean
  /** Whether another was started in its place: no more than one ever is. */
  hasSuccessor: boolean
}

/** How somebody dials a hub. */
export interface Dialling {
  /** The query of the address, where it speaks one of Rivet's dialects. */
  readonly query?: string
  /** Of bad faith: whatever it is parted from for, it has earned. */
  readonly stranger?: boolean
  /** The connection is lost to one of its sides, or may be. */
  readonly onBreak?: () => void
}

/** Somebody whom a gateway serves. */
export interface Served {
  readonly fiber: Fiber.Fiber<void>
  /** The visitor's connection breaks. */
  readonly leave: () => void
}

/** A gateway of the cluster and whom it serves. */
export interface LiveGateway {
  readonly gateway: Gateway["Service"]
  readonly watch: GatewayWatch
  readonly namespace: string
  readonly scope: Scope.Closeable
  readonly serving: Set<Served>
  readonly unwatch: () => void
  alive: boolean
}

/** A runner of the cluster; its scope's end drains it. */
export interface LiveRunner {
  readonly runner: Runner["Service"]
  readonly namespace: string
  readonly scope: Scope.Closeable
}

/** The cluster of one run, and what may be done to it. */
export const makeCluster = Effect.fnUntraced(function* (plan: Plan, lookout: Lookout) {
  const scope = yield* Effect.scope
  const { world } = lookout
  const { random } = world
  let calm = false
  let away = false
  const busFaults = () => (calm ? FaultyBus.faultless : plan.bus)
  const socketFaults = () => (calm ? FaultySocket.faultless : plan.socket)
  const inner = Context.get(yield* Layer.build(busMemory), MessageBus)
  const bounds = { ...limits, routesMax: plan.cramped ? 3 : 1_000, tombstonesMax: 10_000 }
  const hubs: Array<LiveHub> = []
  const gateways: Array<LiveGateway> = []
  const runners: Array<LiveRunner> = []
  const begun = { hubs: 0, gateways: 0, sessions: 0 }
  const actorFiles = yield* makeActorFiles(world)
  /** Two that control the same actors is a mistake that `ActorClaim.ts` guards against. */
  let controlled = false

  /** The bus as one process has it: gone once the process is. */
  const busOf = Effect.fnUntraced(function* (process: { readonly alive: boolean }) {
    const faulty = yield* FaultyBus.make(inner, busFaults, world.chance, (kind, subject) =>
      world.note(`bus: ${kind} to ${subject}`)
    )
    const bus: MessageBus["Service"] = {
      ...faulty,
      publish: (subject, envelopes, delivery) =>
        Effect.suspend(() =>
          process.alive && !away
            ? faulty.publish(subject, envelopes, delivery)
            : Effect.fail(new BusError({ subject, reason: "Disconnected" }))
        )
    }
    return bus
  })

  const startHub = Effect.fnUntraced(function* (namespace: string, wantsActors = false) {
    const actors = wantsActors && !controlled
    if (actors) controlled = true
    const own = yield* Scope.fork(scope)
    const watch = new HubWatch(`hub${begun.hubs++}`, namespace, bounds, lookout)
    const process = { alive: true }
    const bus = watch.bus(yield* busOf(process).pipe(Scope.provide(scope)))
    const table = new RouteTable(bounds)
    const routes = watch.store(fromTable(table, bounds.routesMax, yield* Clock.Clock))
    const unwatch = world.afterEachStep(watch.afterStep)
    const parts = Layer.mergeAll(
      Layer.succeed(MessageBus, bus),
      Layer.succeed(RouteStore, routes),
      layerOpen,
      actors ? actorFiles.openedBy(process) : Layer.empty
    )
    const built = yield* Layer.buildWithScope(hubLayer({ namespace }).pipe(Layer.provide(parts)), own)
    const wires = new Set<FaultySocket.FaultyWire>()
    const hub = Context.get(built, Hub)
    const known = { hub, routes, table, watch, namespace, scope: own, wires, unwatch, actors, hasSuccessor: false }
    hubs.push(Object.assign(process, known))
    world.note(`${watch.label} starts in ${namespace}`)
  })

  /** Without a word: the process is gone, and its sockets with it. */
  const crashHub = Effect.fnUntraced(function* (entry: LiveHub) {
    world.note(`${entry.watch.label} crashes`)
    if (!hubs.includes(entry)) return
    hubs.splice(hubs.indexOf(entry), 1)
    for (const wire of entry.wires) yield* wire.cut
    entry.alive = false
    if (entry.actors) controlled = false
    yield* Effect.forkIn(Effect.andThen(Scope.close(entry.scope, Exit.void), Effect.sync(entry.unwatch)), scope)
  })

  /** Starts another in its place, unless one was. */
  const succeedHub = (entry: LiveHub) =>
    Effect.suspend(() => {
      if (entry.hasSuccessor) return Effect.void
      entry.hasSuccessor = true
      return startHub(entry.namespace, entry.actors)
    })

  /** As a deployment does: another comes up, and this one leaves once its runners are there. Actors have one process, and wait for it. */
  const replaceHub = Effect.fnUntraced(function* (entry: LiveHub) {
    if (!entry.actors) yield* succeedHub(entry)
    world.note(`${entry.watch.label} drains`)
    const replaced = Effect.suspend(() => {
      if (!hubs.includes(entry)) return Effect.void
      return Effect.andThen(crashHub(entry), succeedHub(entry))
    })
    const drained = Effect.timeoutOption(entry.hub.drain, limits.drainMs)
    yield* Effect.forkIn(Effect.andThen(drained, replaced), scope)
  })

  const dialTo = Effect.fnUntraced(function* (
    entry: LiveHub,
    { onBreak = () => {}, query, stranger = false }: Dialling = {}
  ) {
    const wire = yield* FaultySocket.make({
      protocol: query === undefined ? Wayleave1.subprotocol : "rivet",
      faults: socketFaults,
      chance: world.chance,
      soon: world.soon,
      onFault: (kind) => {
        world.note(`wire of ${entry.watch.label}: ${kind}`)
        if (kind === "halfOpen") {
          onBreak()
          // Versions 1 to 3 of Rivet know no heartbeat, and no version's client notices that none comes: their systems do, some time.
          if (query !== undefined) world.after(halfOpenMs, () => Effect.runSync(wire.cut))
        }
      }
    }).pipe(Scope.provide(entry.scope))
    entry.wires.add(wire)
    for (const end of [wire.near, wire.far]) end.whenClosedUnsafe(onBreak)
    wire.near.whenClosedUnsafe(({ code, reason }) => {
      // Not for what it said, nor for a newer connection: nobody here dials before he has given up the last.
      if (partings.has(code) && !stranger)
        lookout.violate(`${entry.watch.label} parts from a runner: ${code} ${reason}`)
    })
    wire.near.whenClosedUnsafe(() => entry.wires.delete(wire))
    const peer = { token: Option.none(), remoteAddress: "192.0.2.1", ...(query !== undefined && { rivetQuery: query }) }
    yield* Effect.forkIn(entry.hub.accept(wire.far, peer), entry.scope)
    return wire.near
  })
  const hubIn = (namespace: string): LiveHub | undefined => {
    const own = hubs.filter((entry) => entry.namespace === namespace)
    return own[random.below(Math.max(1, own.length))]
  }
  const unreachable = Effect.fail(
    new DialError({ url: "ws://hub.sim", reason: "Unreachable", status: undefined, message: "no hub is up" })
  )
  /** A connection to some hub of the namespace. Where it is one of Rivet's, mostly to the one that takes them. */
  const dial = (namespace: string, dialling: Dialling = {}) =>
    Effect.suspend(() => {
      const isLed = dialling.query !== undefined && random.below(10) > 0
      const entry = isLed ? hubs.find(({ actors }) => actors) : hubIn(namespace)
      return entry === undefined ? unreachable : dialTo(entry, dialling)
    })

  const startRunner = Effect.fnUntraced(function* (namespace: string, name: string) {
    const own = yield* Scope.fork(scope)
    const newId = () => {
      begun.sessions++
      const [high, low] = [begun.sessions >> 8, begun.sessions & 0xff]
      return Uint8Array.from({ length: 16 }, (_, i) => (i === 0 ? high : i === 1 ? low : random.below(256)))
    }
    const parts = Layer.mergeAll(
      Layer.succeed(Dialer, Dialer.of({ dial: () => dial(namespace) })),
      Layer.succeed(RunnerApp, app(world, namespace)),
      Layer.succeed(NewSessionId, newId)
    )
    const layer = runnerLayer({ hubUrl: "ws://hub.sim", name, drain: random.below(3) * 2_000 })
    const built = yield* Layer.buildWithScope(layer.pipe(Layer.provide(parts)), own)
    runners.push({ runner: Context.get(built, Runner), namespace, scope: own })
  })

  const stopRunner = (entry: LiveRunner) => {
    runners.splice(runners.indexOf(entry), 1)
    return Effect.asVoid(Effect.forkIn(Scope.close(entry.scope, Exit.void), scope))
  }

  const startGateway = Effect.fnUntraced(function* (namespace: string) {
    const own = yield* Scope.fork(scope)
    const watch = new GatewayWatch(`gateway${begun.gateways++}`, namespace, lookout)
    const process = { alive: true }
    const bus = watch.bus(yield* busOf(process).pipe(Scope.provide(scope)))
    // Ids of requests begin at the same number everywhere, and in another namespace gateways have the same ids as well.
    const twin = gateways.find((other) => other.namespace !== namespace && !ids.has(`${namespace} ${idOf.get(other)}`))
    const id = (twin && idOf.get(twin)) ?? world.chance()
    ids.add(`${namespace} ${id}`)
    let draws = 0
    const numbers = { nextIntUnsafe: () => 0, nextDoubleUnsafe: () => (draws++ === 0 ? id : 0) }
    const parts = Layer.mergeAll(Layer.succeed(MessageBus, bus), Layer.succeed(StreamObserver, watch.observer))
    const layer = gatewayLayer({ namespace }).pipe(
      Layer.provide(parts),
      Layer.provide(Layer.succeed(Random.Random, numbers))
    )
    const gateway = Context.get(yield* Layer.buildWithScope(layer, own), Gateway)
    const unwatch = world.afterEachStep(() => watch.afterStep(gateway))
    const serving = new Set<Served>()
    const entry: LiveGateway = Object.assign(process, { gateway, watch, namespace, scope: own, serving, unwatch })
    idOf.set(entry, id)
    gateways.push(entry)
  })
  const ids = new Set<string>()
  const idOf = new Map<LiveGateway, number>()

  /** Without a word, as a hub: whoever it served has a broken connection, and no hub hears of it. */
  const crashGateway = Effect.fnUntraced(function* (entry: LiveGateway) {
    world.note(`${entry.watch.label} crashes`)
    gateways.splice(gateways.indexOf(entry), 1)
    idOf.delete(entry)
    entry.alive = false
    for (const { fiber, leave } of entry.serving) {
      leave()
      fiber.interruptUnsafe()
    }
    yield* Effect.forkIn(Effect.andThen(Scope.close(entry.scope, Exit.void), Effect.sync(entry.unwatch)), scope)
  })

  return {
    plan,
    hubs,
    gateways,
    runners,
    startHub,
    crashHub,
    replaceHub,
    succeedHub,
    startRunner,
    stopRunner,
    startGateway,
    crashGateway,
    dialTo,
    dial,
    /** The bus is out of reach for everybody, or there again. */
    setAway: (on: boolean) => {
      away = on
      world.note(on ? "bus: away" : "bus: back")
    },
    /** Nothing goes wrong any more. */
    calmDown: () => {
      calm = true
      away = false
    }
  }
})

/** What `makeCluster` makes. */
export type Cluster = Effect.Success<ReturnType<typeof makeCluster>>
