/**
 * Everything `wayleave serve` runs, as one Layer: hub and gateway on one bus behind one port, health and metrics behind another.
 *
 * Next in the walk of a request: `NodeServer.ts`, which accepts it. Before that: `ServerConfig.ts`, which says where.
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Console, Context, Effect, type FileSystem, Layer, Option } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import * as AdminApi from "../admin/AdminApi.ts"
import * as Health from "../admin/Health.ts"
import * as Authenticator from "../auth/Authenticator.ts"
import * as MessageBus from "../bus/MessageBus.ts"
import * as Gateway from "../gateway/Gateway.ts"
import * as Hub from "../hub/Hub.ts"
import * as RouteStore from "../route/RouteStore.ts"
import * as AccessLog from "../telemetry/AccessLog.ts"
import * as PlainLog from "../telemetry/PlainLog.ts"
import { limits } from "../tunnel/Limits.ts"
import * as NodeServer from "./NodeServer.ts"
import { authority, requireProtection, type ServerConfig, type UnprotectedHost } from "./ServerConfig.ts"

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
  }
>()("wayleave/server/Server") {}

/** What cannot be had: a port, a token file, or the courage to listen without one. */
export type ServerError =
  | NodeServer.ListenError
  | UnprotectedHost
  | Authenticator.TokenFileError
  | Gateway.GatewayConfigError

const codeOf = (cause: unknown): string =>
  typeof cause === "object" && cause !== null && "code" in cause ? String(cause.code) : String(cause)

/** Hub and gateway on one bus, in this process's memory: when the hub drains, the only gateway already takes nothing new. */
const rolesLayer = (config: ServerConfig) => {
  const authenticator = Option.match(config.tokenFile, {
    onNone: () => Authenticator.layerOpen,
    onSome: Authenticator.layerTokenFile
  })
  return Layer.mergeAll(
    Gateway.layer({ domain: config.domain }),
    Hub.layer({ domain: config.domain, drainNoticeMs: 0 })
  ).pipe(
    Layer.provide([AccessLog.layer({ json: config.json }), authenticator, RouteStore.layerMemory]),
    Layer.provide(MessageBus.layerMemory)
  )
}

const adminLayer = ({ adminPort, host }: ServerConfig) =>
  HttpRouter.serve(AdminApi.routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(
      Layer.effectContext(
        Effect.mapError(
          Layer.build(NodeHttpServer.layer(createServer, { host, port: adminPort })),
          ({ cause }) => new NodeServer.ListenError({ host, port: adminPort, code: codeOf(cause) })
        )
      )
    )
  )

const make = Effect.fnUntraced(function* (config: ServerConfig) {
  const gateway = yield* Gateway.Gateway
  const hub = yield* Hub.Hub
  const health = yield* Health.Health
  const visitors = yield* NodeServer.NodeServer
  const admin = (yield* HttpServer.HttpServer).address
  const adminPort = NetAddress.isUnixPathAddress(admin) ? config.adminPort : admin.port
  yield* health.become("ready")
  return Server.of({
    url: `http://${authority(config.host, visitors.port)}`,
    port: visitors.port,
    adminUrl: `http://${authority(config.host, adminPort)}`,
    adminPort,
    drain: health.become("draining").pipe(
      // The gateway first refuses new visitors; what it has already published still finds its runner.
      Effect.andThen(gateway.drain),
      Effect.andThen(hub.drain),
      Effect.timeoutOption(limits.drainMs),
      Effect.asVoid
    )
  })
})

/** The server on its two ports. Closing its scope ends it at once; `drain` before that ends it well. */
export const layer = (config: ServerConfig): Layer.Layer<Server, ServerError, FileSystem.FileSystem> =>
  Layer.effect(Server, make(config)).pipe(
    // One after the other: where both ports are taken, the one a person knows is named.
    Layer.provide(adminLayer(config)),
    Layer.provide(NodeServer.layer({ host: config.host, port: config.port, domain: config.domain })),
    Layer.provide([rolesLayer(config), Health.layer]),
    (server) => Layer.unwrap(Effect.as(requireProtection(config), server))
  )

/** Serves until interrupted, which a first signal does, and drains then. */
export const run = (config: ServerConfig): Effect.Effect<never, ServerError, FileSystem.FileSystem> =>
  Effect.gen(function* () {
    const server = yield* Server
    const ready = `wayleave listening on ${server.url}`
    const admin = `health and metrics on ${server.adminUrl}`
    yield* config.json
      ? Effect.logInfo(ready).pipe(Effect.annotateLogs({ url: server.url, adminUrl: server.adminUrl }))
      : Console.log(`${ready}\n${admin}`)
    return yield* Effect.onInterrupt(Effect.never, () =>
      Effect.andThen(Effect.logInfo("draining: open streams may finish; a second signal ends at once"), server.drain)
    )
  }).pipe(Effect.provide(layer(config)), Effect.provide(PlainLog.layer({ json: config.json })))
