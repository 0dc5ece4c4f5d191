/**
 * Everything `wayleave serve` runs, as one Layer: hub and gateway on one bus behind one port, health and metrics behind another.
 *
 * Next in the walk of a request: `NodeServer.ts`, which accepts it. Before that: `ServerConfig.ts`, which says where.
 */
import { createServer } from "node:http"
import { hostname } from "node:os"
import { NodeHttpServer } from "@effect/platform-node"
import { Console, Context, Effect, type FileSystem, Layer, Option, Stream, SubscriptionRef } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import * as ActorClaim from "../actor/ActorClaim.ts"
import * as ActorControl from "../actor/ActorControl.ts"
import * as ActorDatabase from "../actor/ActorDatabase.ts"
import * as ActorKv from "../actor/ActorKv.ts"
import * as ActorKvSqlite from "../actor/ActorKvSqlite.ts"
import * as ActorStore from "../actor/ActorStore.ts"
import * as ActorStoreSqlite from "../actor/ActorStoreSqlite.ts"
import { kvOptions } from "../actor/KvRules.ts"
import * as ActorsApi from "../admin/ActorsApi.ts"
import * as AdminApi from "../admin/AdminApi.ts"
import * as Health from "../admin/Health.ts"
import * as Authenticator from "../auth/Authenticator.ts"
import * as MessageBus from "../bus/MessageBus.ts"
import * as NatsMessageBus from "../bus/NatsMessageBus.ts"
import type { NatsStartError } from "../bus/NatsOptions.ts"
import * as Gateway from "../gateway/Gateway.ts"
import * as Hub from "../hub/Hub.ts"
import * as RouteStore from "../route/RouteStore.ts"
import * as AccessLog from "../telemetry/AccessLog.ts"
import * as PlainLog from "../telemetry/PlainLog.ts"
import { limits } from "../tunnel/Limits.ts"
import * as NodeServer from "./NodeServer.ts"
import { authority, requireProtection, type ServerConfig, type UnprotectedHost } from "./ServerConfig.ts"
import { version } from "./Version.ts"

/** The running server: where it listens, and how it ends well. */
export class Server extends Context.Service<
  Server,
  {
    /** For visitors, without a final slash. */
    readonly url: string
    readonly port: number
    /** For operators, without a final slash. */
    readonly adminUrl: string
    readonly adminPort: number
    /** Takes nothing new, tells runners to go elsewhere, and waits until what is open has finished, at most `drainMs`. */
    readonly drain: Effect.Effect<void>
    /** Fails when this process may not go on: another one controls the actors of its cluster. */
    readonly ousted: Effect.Effect<never, ActorClaim.ActorsTaken>
  }
>()("wayleave/server/Server") {}

/** Why actors cannot be had here. */
export type ActorsError =
  | ActorClaim.ActorsTaken
  | ActorDatabase.ActorDatabaseError
  | ActorStore.ActorStoreError
  | ActorKv.ActorKvError

/** What cannot be had: a port, a NATS server, a token file, or the courage to listen without one. */
export type ServerError =
  | NodeServer.ListenError
  | UnprotectedHost
  | Authenticator.TokenFileError
  | Gateway.GatewayConfigError
  | ActorsError
  | NatsStartError

const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : String(cause)

const actorsHere = ({ actorsFile }: ServerConfig) =>
  Option.match(actorsFile, {
    onNone: () =>
      ActorControl.layer().pipe(Layer.provide(ActorStore.layerMemory), Layer.provideMerge(ActorKv.layerMemory)),
    onSome: (file) =>
      ActorControl.layer().pipe(
        Layer.provide(ActorStoreSqlite.layer),
        // The control plane empties the store of an actor that is no more.
        Layer.provideMerge(ActorKvSqlite.layer(kvOptions(version))),
        Layer.provide(ActorDatabase.layer({ file }))
      )
  })

/** Before the file is opened: whoever refuses to start has touched nothing. */
const claimed = ActorClaim.layer({ holder: `process ${process.pid} on ${hostname()}` })

/** Said where another process takes Rivet's runners in. */
export const actorsElsewhere = Effect.logInfo(
  "actors are controlled by the one process of this cluster that has --actors-file; this one takes no Rivet runners"
)

/** What a server is to the others on its bus. */
export interface ServerOptions {
  /** All processes on its bus end together, so that nobody is left to go to. Unless given, so it is where the process has no others. */
  readonly alone?: boolean
  /** Leaves to another process, the keeper of workers, what holds for several of them. */
  readonly silent?: boolean
}

/**
 * The actors of Rivet's runners and what they store: in a file, or for as long as the process lives. In a cluster one process keeps them for all, the one
 * that has the file; the others take no Rivet runners, and their gateways ask that one. So whoever wants to know looks whether they are there.
 */
const actorsLayer = (
  config: ServerConfig,
  { silent }: ServerOptions
): Layer.Layer<never, ActorsError, MessageBus.MessageBus> => {
  if (Option.isNone(config.nats)) return actorsHere(config)
  if (Option.isSome(config.actorsFile)) return Layer.provideMerge(actorsHere(config), claimed)
  return silent === true ? Layer.empty : Layer.effectDiscard(actorsElsewhere)
}

const isAlone = ({ nats }: ServerConfig, { alone }: ServerOptions): boolean => alone ?? Option.isNone(nats)

/** Hub and gateway on one bus: in this process's memory, or between all processes that share the same NATS servers. */
const rolesLayer = (config: ServerConfig, options: ServerOptions) => {
  const authenticator = Option.match(config.tokenFile, {
    onNone: () => Authenticator.layerOpen,
    onSome: Authenticator.layerTokenFile
  })
  return Layer.mergeAll(
    Gateway.layer({ domain: config.domain }),
    Hub.layer({ domain: config.domain, alone: isAlone(config, options) })
  ).pipe(
    Layer.provide(RouteStore.layerMemory),
    Layer.provideMerge(AccessLog.layer({ json: config.json })),
    Layer.provideMerge(Layer.merge(actorsLayer(config, options), authenticator)),
    Layer.provideMerge(
      Option.match(config.nats, { onNone: () => MessageBus.layerMemory, onSome: (nats) => NatsMessageBus.layer(nats) })
    )
  )
}

const adminLayer = ({ adminPort, host }: ServerConfig) =>
  HttpRouter.serve(AdminApi.routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(
      Layer.effectContext(
        Effect.mapError(
          // A worker's own, which is not shared like the port for visitors.
          Layer.build(NodeHttpServer.layer(createServer, { host, port: adminPort, exclusive: true })),
          ({ cause }) => new NodeServer.ListenError({ host, port: adminPort, code: codeOf(cause) })
        )
      )
    )
  )

/** The port for visitors and runners, the actor API on it. */
const visitorsLayer = ({ domain, host, port, tokenFile }: ServerConfig) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const services = Option.all({
        control: yield* Effect.serviceOption(ActorControl.ActorControl),
        kv: yield* Effect.serviceOption(ActorKv.ActorKv)
      })
      const actorsApi = yield* Option.match(services, {
        onNone: () => ActorsApi.makeElsewhere,
        onSome: ({ control, kv }) =>
          ActorsApi.make(Option.isNone(tokenFile) ? { version, hosts: [domain, host] } : { version }).pipe(
            Effect.provideService(ActorControl.ActorControl, control),
            Effect.provideService(ActorKv.ActorKv, kv)
          )
      })
      return NodeServer.layer({ host, port, domain, actorsApi })
    })
  )

/** The gateway first refuses new visitors; what it has already published still finds its runner. */
const drainAlone = (gateway: Gateway.Gateway["Service"], hub: Hub.Hub["Service"]) =>
  Effect.andThen(gateway.drain, hub.drain)

/**
 * Nobody is to notice. Runners go to other hubs, and visitors are taken as before until whoever sends them has seen that this process is not ready; each
 * answer is the last on its connection. Then nothing is listened for any more, which a balancer that asks nobody understands as well, and what is
 * open may finish.
 */
const drainAmongOthers = (
  gateway: Gateway.Gateway["Service"],
  hub: Hub.Hub["Service"],
  visitors: NodeServer.NodeServer["Service"]
) =>
  Effect.andThen(
    visitors.leave,
    Effect.all(
      [
        hub.drain,
        Effect.sleep(limits.balancerNoticeMs).pipe(Effect.andThen(visitors.shut), Effect.andThen(gateway.drain))
      ],
      { concurrency: 2, discard: true }
    )
  )

const make = Effect.fnUntraced(function* (config: ServerConfig, options: ServerOptions) {
  const gateway = yield* Gateway.Gateway
  const hub = yield* Hub.Hub
  const health = yield* Health.Health
  const { connected } = yield* MessageBus.MessageBus
  const claim = yield* Effect.serviceOption(ActorClaim.ActorClaim)
  const visitors = yield* NodeServer.NodeServer
  const admin = (yield* HttpServer.HttpServer).address
  const adminPort = NetAddress.isUnixPathAddress(admin) ? config.adminPort : admin.port
  yield* health.become("ready")
  // Its first word is how things are now.
  yield* Effect.forkScoped(
    Stream.runForEach(SubscriptionRef.changes(connected), (isThere) =>
      health.become(isThere ? "ready" : "disconnected")
    )
  )
  return Server.of({
    url: `http://${authority(config.host, visitors.port)}`,
    port: visitors.port,
    adminUrl: `http://${authority(config.host, adminPort)}`,
    adminPort,
    drain: health
      .become("draining")
      .pipe(
        Effect.andThen(isAlone(config, options) ? drainAlone(gateway, hub) : drainAmongOthers(gateway, hub, visitors)),
        Effect.timeoutOption(limits.drainMs),
        Effect.asVoid
      ),
    ousted: Option.match(claim, { onNone: () => Effect.never, onSome: ({ lost }) => lost })
  })
})

/** The server on its two ports. Closing its scope ends it at once; `drain` before that ends it well. */
export const layer = (
  config: ServerConfig,
  options: ServerOptions = {}
): Layer.Layer<Server, ServerError, FileSystem.FileSystem> =>
  Layer.effect(Server, make(config, options)).pipe(
    // One after the other: where both ports are taken, the one a person knows is named.
    Layer.provide(adminLayer(config)),
    Layer.provide(visitorsLayer(config)),
    Layer.provide([rolesLayer(config, options), Health.layer]),
    (server) => Layer.unwrap(Effect.as(requireProtection(config), server))
  )

/** Says that visitors may come, and where operators find each process. */
export const sayReady = (
  { json }: ServerConfig,
  url: string,
  adminUrls: ReadonlyArray<string>,
  annotations: Readonly<Record<string, unknown>>
): Effect.Effect<void> => {
  const ready = `wayleave listening on ${url}`
  if (json) return Effect.annotateLogs(Effect.logInfo(ready), { url, ...annotations })
  return Console.log([ready, ...adminUrls.map((adminUrl) => `health and metrics on ${adminUrl}`)].join("\n"))
}

/** Said after a first signal. */
export const sayDraining = Effect.logInfo("draining: open streams may finish; a second signal ends at once")

/** Serves until interrupted, which a first signal does, and drains then. */
export const run = (config: ServerConfig): Effect.Effect<never, ServerError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const server = yield* Server
    yield* sayReady(config, server.url, [server.adminUrl], { adminUrl: server.adminUrl })
    return yield* Effect.onInterrupt(server.ousted, () => Effect.andThen(sayDraining, server.drain))
  }).pipe(Effect.provide(layer(config)), Effect.provide(PlainLog.layer({ json: config.json })))
