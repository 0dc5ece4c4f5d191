/**
 * Several hubs and a gateway on one bus in memory, and a runner that dials whichever hub the test puts in front. A hub crashes as a process does: its
 * sockets break, it publishes nothing more, and nobody answers for it.
 */
import { Context, Effect, Exit, type Fiber, Layer, Option, Scope } from "effect"
import { layerOpen } from "../../src/auth/Authenticator.ts"
import { BusError, layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { Hub, type HubOptions, layer as hubLayer } from "../../src/hub/Hub.ts"
import { RouteStore, layerMemory as routesMemory } from "../../src/route/RouteStore.ts"
import { type RunnerOptions, layer as runnerLayer } from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { DialError, Dialer, type MessageSocket, pair } from "../../src/socket/MessageSocket.ts"
import type { Envelope } from "../../src/tunnel/Envelope.ts"

/** One hub, as the test has it in hand. */
export interface LiveHub {
  readonly hub: Hub["Service"]
  readonly routes: RouteStore["Service"]
  /** What it published, oldest first. */
  readonly published: Array<Envelope>
  readonly sockets: Set<MessageSocket>
  readonly crash: Effect.Effect<void>
}

/** The cluster, and a dialer that leads to the hub in front. */
export const makeHubs = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const bus = Context.get(yield* Layer.build(busMemory), MessageBus)
  const built = yield* Layer.build(
    gatewayLayer().pipe(Layer.provide(Layer.mergeAll(Layer.succeed(MessageBus, bus), layerNoop)))
  )
  const gateway = Context.get(built, Gateway)
  const state = { front: undefined as LiveHub | undefined, dialled: 0 }

  const start = Effect.fnUntraced(function* (options: HubOptions = {}) {
    const own = yield* Scope.fork(scope)
    const published: Array<Envelope> = []
    let alive = true
    const ownBus: MessageBus["Service"] = {
      ...bus,
      publish: (subject, envelopes, delivery) =>
        Effect.suspend(() => {
          if (!alive) return Effect.fail(new BusError({ subject, reason: "Disconnected" }))
          published.push(...envelopes)
          return bus.publish(subject, envelopes, delivery)
        })
    }
    const parts = Layer.mergeAll(Layer.succeed(MessageBus, ownBus), Layer.fresh(routesMemory), layerOpen)
    const services = yield* Layer.buildWithScope(hubLayer(options).pipe(Layer.provideMerge(parts)), own)
    const sockets = new Set<MessageSocket>()
    const live: LiveHub = {
      hub: Context.get(services, Hub),
      routes: Context.get(services, RouteStore),
      published,
      sockets,
      crash: Effect.suspend(() => {
        alive = false
        for (const socket of sockets) socket.terminateUnsafe()
        return Scope.close(own, Exit.void)
      })
    }
    return live
  })

  const dialer = Dialer.of({
    dial: (url, options) =>
      Effect.suspend(() => {
        state.dialled++
        const { front } = state
        if (front === undefined) {
          return Effect.fail(new DialError({ url, reason: "Unreachable", status: undefined, message: "no hub is up" }))
        }
        const [near, far] = pair({ protocol: options.protocols[0] ?? "" })
        front.sockets.add(near)
        near.whenClosedUnsafe(() => front.sockets.delete(near))
        return front.hub
          .accept(far, { token: Option.none(), remoteAddress: "192.0.2.1" })
          .pipe(Effect.forkIn(scope), Effect.as(near))
      })
  })

  const run = (app: RunnerApp["Service"], options: Partial<RunnerOptions> = {}) =>
    Layer.build(
      runnerLayer({ hubUrl: "ws://hub.test", name: "web", drain: 0, ...options }).pipe(
        Layer.provide(Layer.mergeAll(Layer.succeed(Dialer, dialer), Layer.succeed(RunnerApp, app)))
      )
    )

  return { bus, gateway, state, start, run, dialer }
})

/** Lets every fiber and every turn of the loop do what it can without time passing. */
export const settle = Effect.gen(function* () {
  for (let i = 0; i < 20; i++) {
    yield* Effect.promise(() => new Promise<void>((resume) => setImmediate(resume)))
    yield* Effect.replicateEffect(Effect.yieldNow, 20, { discard: true })
  }
})

/** Nothing is left of any stream, anywhere. */
export const atRest = Effect.fnUntraced(function* (gateway: Gateway["Service"], hubs: ReadonlyArray<LiveHub>) {
  const open: Array<number> = [yield* gateway.inFlight, yield* gateway.streams]
  for (const { hub, routes } of hubs) {
    const counts = yield* routes.counts
    open.push((yield* hub.state).openStreams, counts.Open, counts.Closing)
  }
  return open.every((count) => count === 0)
})

/** The fiber of a visit, and whether it has ended. */
export const ended = (fiber: Fiber.Fiber<void>) => fiber.pollUnsafe() !== undefined
