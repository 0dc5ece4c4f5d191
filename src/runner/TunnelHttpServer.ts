/**
 * Effect's `HttpServer` over a tunnel: any HttpRouter or HttpApi app is reached through a hub by swapping this for its server's layer.
 *
 * It fulfils `RunnerApp` with whatever is served, and owns a runner. Next: `TunnelRequest.ts` and `TunnelResponse.ts`, one request each way;
 * `TunnelSocket.ts`, upgraded ones; `Runner.ts`, the connection.
 */
import { Context, Deferred, Effect, type FileSystem, Layer, type Path, type Scope } from "effect"
import {
  type Etag,
  HttpEffect,
  type HttpMiddleware,
  type HttpPlatform,
  HttpServer,
  HttpServerRequest,
  type HttpServerResponse
} from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import type { Dialer } from "../socket/MessageSocket.ts"
import { layerDialer } from "../socket/WsSocket.ts"
import type { RequestStream } from "./RequestStream.ts"
import * as Runner from "./Runner.ts"
import { RunnerApp } from "./RunnerApp.ts"
import { TunnelRequest } from "./TunnelRequest.ts"
import { writeResponse } from "./TunnelResponse.ts"
import type { WebSocketStream } from "./WebSocketStream.ts"

type HttpApp = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  unknown,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

type Handler = (stream: RequestStream | WebSocketStream) => Effect.Effect<void>

/** What is served, once something is. Streams that come earlier wait: the hub may know the runner before the app stands. */
const makeSwitch = Effect.gen(function* () {
  const served = yield* Deferred.make<Handler>()
  let handler: Handler | undefined
  const handle = (stream: RequestStream | WebSocketStream): Effect.Effect<void> =>
    handler === undefined ? Effect.flatMap(Deferred.await(served), (handler) => handler(stream)) : handler(stream)
  return {
    app: RunnerApp.of({ request: handle, webSocket: handle }),
    serve: (next: Handler) => {
      handler = next
      Deferred.doneUnsafe(served, Effect.succeed(next))
    }
  }
})

const makeHandler = (
  httpApp: HttpApp,
  middleware: HttpMiddleware.HttpMiddleware | undefined,
  services: Context.Context<never>
): Handler => {
  const handled = HttpEffect.toHandled(httpApp, writeResponse, middleware) as Effect.Effect<
    void,
    never,
    HttpServerRequest.HttpServerRequest
  >
  return (stream) =>
    Effect.provideContext(handled, Context.add(services, HttpServerRequest.HttpServerRequest, TunnelRequest.of(stream)))
}

/** Builds server and runner. Done after the first attempt to connect; fails only where the hub refuses at once. */
export const make = Effect.fnUntraced(function* (options: Runner.RunnerOptions) {
  const { app, serve } = yield* makeSwitch
  const runner = yield* Effect.provideService(Runner.make(options), RunnerApp, app)
  const server = HttpServer.make({
    // A tunnel has no socket address. This one is seen only where the app logs what it listens on.
    address: NetAddress.unixPathAddress(`/runners/${options.name}`),
    serve: Effect.fnUntraced(function* (httpApp, middleware) {
      const services = yield* Effect.context<never>()
      // What the app depends on is still there when this scope closes: the time to let open requests finish.
      yield* Effect.addFinalizer(() => runner.drain)
      serve(makeHandler(httpApp, middleware, services))
    })
  })
  return { server, runner }
})

/** Server and runner over the `Dialer` provided, and nothing else: bring the platform's `FileSystem` and the rest yourself. */
export const layerServer = (
  options: Runner.RunnerOptions
): Layer.Layer<HttpServer.HttpServer | Runner.Runner, Runner.RunnerRefused, Dialer> =>
  Layer.effectContext(
    Effect.map(make(options), ({ runner, server }) =>
      Context.add(Context.make(HttpServer.HttpServer, server), Runner.Runner, runner)
    )
  )

/**
 * All that an app needs to be served through a hub. The file system among it is empty: for uploads kept on disk or answers from files provide
 * the app with the platform's services before this layer.
 */
export const layer = (
  options: Runner.RunnerOptions
): Layer.Layer<
  | HttpServer.HttpServer
  | Runner.Runner
  | HttpPlatform.HttpPlatform
  | Etag.Generator
  | FileSystem.FileSystem
  | Path.Path,
  Runner.RunnerRefused
> => Layer.mergeAll(layerServer(options).pipe(Layer.provide(layerDialer)), HttpServer.layerServices)
