/** Server and runner in this very process, over real sockets: what they hold while they work, and that they hold nothing after. */
import { request } from "node:http"
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import { layerOpen } from "../../src/auth/Authenticator.ts"
import { layerMemory as busMemory, type MessageBus } from "../../src/bus/MessageBus.ts"
import * as NatsMessageBus from "../../src/bus/NatsMessageBus.ts"
import * as Gateway from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import * as Hub from "../../src/hub/Hub.ts"
import { RouteStore, layerMemory as routesMemory } from "../../src/route/RouteStore.ts"
import * as LocalForward from "../../src/runner/LocalForward.ts"
import * as Runner from "../../src/runner/Runner.ts"
import * as NodeServer from "../../src/server/NodeServer.ts"
import { layerDialer } from "../../src/socket/WsSocket.ts"
import { natsStartTimeoutMs, requireNatsServer, startNatsServer } from "../bus/NatsServer.ts"
import { makeRandom } from "../fuzz/Mutation.ts"
import { startLocalApp } from "./LocalApp.ts"
import * as Processes from "./Processes.ts"

const serverOn = <E>(bus: Layer.Layer<MessageBus, E>) =>
  NodeServer.layer({ host: "127.0.0.1", port: 0 }).pipe(
    Layer.provideMerge(Layer.mergeAll(Gateway.layer(), Hub.layer())),
    Layer.provideMerge(Layer.mergeAll(bus, routesMemory, layerOpen, layerNoop))
  )

/** What keeps the event loop alive, by kind. */
const resources = () => {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return { timers: counts.Timeout ?? 0, sockets: counts.TCPSocketWrap ?? 0, servers: counts.TCPServerWrap ?? 0 }
}

const seed = 99
const comesToRest = <E>(name: string, bus: Effect.Effect<Layer.Layer<MessageBus, E>, Error, Scope.Scope>) =>
  it.live(
    `${name}: after a thousand aborted requests and the end of the layer no timer, socket or server is left (seed ${seed})`,
    () =>
      Effect.gen(function* () {
        const random = makeRandom(seed)
        const server = serverOn(yield* bus)
        const before = resources()
        const scope = yield* Scope.make()
        const app = yield* startLocalApp.pipe(Scope.provide(scope))
        const context = yield* Layer.buildWithScope(server, scope)
        const { port } = yield* Effect.provideContext(NodeServer.NodeServer, context)
        const target = { protocol: "http:", host: "127.0.0.1", port: app.port } as const
        const runner = Runner.layer({ hubUrl: `ws://127.0.0.1:${port}`, name: "web" }).pipe(
          Layer.provide(LocalForward.layer(target)),
          Layer.provide(layerDialer)
        )
        yield* Layer.buildWithScope(runner, scope)
        assert.strictEqual((yield* Processes.fetch(port)).status, 200)

        const paths = ["/", "/hang", "/echo", "/big?bytes=1000000", "/reset"]
        const aborted = Effect.callback<void>((resume) => {
          const outgoing = request({
            host: "127.0.0.1",
            port,
            path: paths[random.below(paths.length)],
            headers: { host: Processes.host },
            agent: false
          })
          outgoing.on("error", () => {})
          outgoing.on("response", (response) => {
            response.on("error", () => {})
            response.resume()
          })
          outgoing.on("close", () => resume(Effect.void))
          outgoing.end()
          const timer = setTimeout(() => outgoing.destroy(), random.below(8))
          outgoing.on("close", () => clearTimeout(timer))
        })
        yield* Effect.replicateEffect(aborted, 1_000, { concurrency: 16, discard: true })
        const tables = Effect.gen(function* () {
          const counts = yield* RouteStore.use((routes) => routes.counts)
          const streams = yield* Gateway.Gateway.use((gateway) => gateway.streams)
          const { openStreams } = yield* Hub.Hub.use((hub) => hub.state)
          if (counts.Open + counts.Closing + streams + openStreams > 0) {
            return yield* Effect.fail(new Error(JSON.stringify({ counts, streams, openStreams })))
          }
        }).pipe(Effect.provideContext(context))
        yield* Processes.within(10_000, tables)
        yield* Scope.close(scope, Exit.void)
        yield* Processes.within(
          10_000,
          Effect.suspend(() => {
            const now = resources()
            // The wait in this loop is a timer itself, and so is the test's own deadline.
            return now.timers <= before.timers + 1 && now.sockets <= before.sockets && now.servers <= before.servers
              ? Effect.void
              : Effect.fail(new Error(`${JSON.stringify(before)} → ${JSON.stringify(now)}`))
          })
        )
      }).pipe(Effect.scoped),
    60_000
  )

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

comesToRest("on the memory bus", Effect.succeed(busMemory))
comesToRest(
  "over NATS",
  Effect.map(startNatsServer(), ({ port }) => NatsMessageBus.layer({ servers: [`127.0.0.1:${port}`] }))
)
