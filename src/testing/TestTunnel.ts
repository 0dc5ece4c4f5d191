/**
 * The whole tunnel in memory: gateway, bus, hub, route store and runner as in production, with only the sockets and the clock swapped. Give it
 * a `RunnerApp` and send it visitors; time is the test's, and the wire between runner and hub can be cut.
 */
import { Context, Effect, type Fiber, Layer, Option, Redacted } from "effect"
import { type Authenticator, layerOpen } from "../auth/Authenticator.ts"
import { layerMemory as busMemory, type MessageBus } from "../bus/MessageBus.ts"
import { Gateway, type GatewayConfigError, type GatewayOptions, layer as gatewayLayer } from "../gateway/Gateway.ts"
import { layerNoop } from "../gateway/StreamObserver.ts"
import { Hub, type HubOptions, layer as hubLayer } from "../hub/Hub.ts"
import { RouteStore, layerMemory as routesMemory } from "../route/RouteStore.ts"
import { type Runner, type RunnerOptions, type RunnerRefused, layer as runnerLayer } from "../runner/Runner.ts"
import type { RunnerApp } from "../runner/RunnerApp.ts"
import { DialError, Dialer, type MessageSocket, pair } from "../socket/MessageSocket.ts"
import { MemoryUpgrade, MemoryVisitor, type VisitorOptions } from "./MemoryVisitor.ts"

/** The wire between runners and the hub. */
export class TunnelWire extends Context.Service<
  TunnelWire,
  {
    /** Breaks every socket, as a network does: no close frame. Runners may dial again at once. */
    readonly cut: Effect.Effect<void>
    /** While down, dialling fails; going down cuts. */
    readonly setDown: (down: boolean) => Effect.Effect<void>
    /** Sockets dialled so far. */
    readonly dialled: Effect.Effect<number>
  }
>()("wayleave/testing/TunnelWire") {}

const bearer = (headers: ReadonlyArray<readonly [string, string]>) => {
  const value = headers.find(([name]) => name.toLowerCase() === "authorization")?.[1]
  return Option.map(Option.fromUndefinedOr(value), (text) => Redacted.make(text.replace(/^Bearer /i, "")))
}

const makeWire = Effect.gen(function* () {
  const hub = yield* Hub
  const scope = yield* Effect.scope
  const sockets = new Set<MessageSocket>()
  let down = false
  let dialled = 0
  const cut = Effect.sync(() => {
    for (const socket of [...sockets]) socket.terminateUnsafe()
  })
  const dialer = Dialer.of({
    dial: (url, options) =>
      Effect.suspend(() => {
        dialled++
        if (down) {
          return Effect.fail(
            new DialError({
              url,
              reason: "Unreachable",
              status: undefined,
              message: "the wire is down"
            })
          )
        }
        const [near, far] = pair({ protocol: options.protocols[0] ?? "" })
        sockets.add(near)
        near.whenClosedUnsafe(() => sockets.delete(near))
        return hub
          .accept(far, { token: bearer(options.headers), remoteAddress: "192.0.2.1" })
          .pipe(Effect.forkIn(scope), Effect.as(near))
      })
  })
  const wire = TunnelWire.of({
    cut,
    setDown: (value) =>
      Effect.suspend(() => {
        down = value
        return value ? cut : Effect.void
      }),
    dialled: Effect.sync(() => dialled)
  })
  return Context.make(Dialer, dialer).pipe(Context.add(TunnelWire, wire))
})

/** How the roles are set; each has defaults fit for a test. */
export interface TestTunnelOptions {
  readonly gateway?: GatewayOptions
  readonly hub?: HubOptions
  /** `null` for a tunnel without a runner. */
  readonly runner?: Partial<RunnerOptions> | null
}

/** A dialer that ends in the hub of the same process. */
export const layerWire: Layer.Layer<Dialer | TunnelWire, never, Hub> = Layer.effectContext(makeWire)

/** Gateway, hub, bus and routes, and the wire on which runners dial. */
export const layerServer = (
  options: Pick<TestTunnelOptions, "gateway" | "hub"> = {}
): Layer.Layer<Gateway | Hub | RouteStore | MessageBus | Authenticator | Dialer | TunnelWire, GatewayConfigError> =>
  layerWire.pipe(
    Layer.provideMerge(Layer.mergeAll(gatewayLayer(options.gateway), hubLayer(options.hub))),
    Layer.provideMerge(Layer.mergeAll(busMemory, routesMemory, layerOpen, layerNoop))
  )

/** The same with one runner named `web`, serving the `RunnerApp` it is provided with. */
export const layer = (
  options: TestTunnelOptions = {}
): Layer.Layer<
  Runner | Gateway | Hub | RouteStore | MessageBus | Authenticator | Dialer | TunnelWire,
  GatewayConfigError | RunnerRefused,
  RunnerApp
> =>
  runnerLayer({ hubUrl: "ws://hub.test", name: "web", ...options.runner }).pipe(
    Layer.provideMerge(layerServer(options))
  )

/** A visitor whose request is being served. */
export interface Visit {
  readonly visitor: MemoryVisitor
  readonly served: Fiber.Fiber<void>
}

/** Sends a visitor to the gateway. */
export const visit = Effect.fnUntraced(function* (options: VisitorOptions = {}) {
  const gateway = yield* Gateway
  const visitor = new MemoryVisitor(options)
  const served = yield* Effect.forkChild(gateway.request(visitor.exchange))
  const visit: Visit = { visitor, served }
  return visit
})

/** Sends a visitor that asks for a WebSocket. */
export const visitUpgrade = Effect.fnUntraced(function* (options: VisitorOptions = {}) {
  const gateway = yield* Gateway
  const visitor = new MemoryUpgrade(options)
  const served = yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
  return { visitor, served }
})

/** Whether nothing is left anywhere but tombstones: no request, stream, live route. */
export const atRest = Effect.gen(function* () {
  const gateway = yield* Gateway
  const hub = yield* Hub
  const routes = yield* RouteStore
  const counts = yield* routes.counts
  const { openStreams } = yield* hub.state
  return {
    inFlight: yield* gateway.inFlight,
    streams: yield* gateway.streams,
    openStreams,
    open: counts.Open,
    closing: counts.Closing
  }
})
