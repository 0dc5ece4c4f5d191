/**
 * `npm start`: the server, and the demo app behind it as `demo`, in one process. The app has no port: it is an Effect router whose
 * `HttpServer` is the tunnel, and its runner dials the hub as any other would.
 */
import { Console, Effect, Layer, Option } from "effect"
import { HttpRouter } from "effect/http"
import { runProcess, saying } from "../cli/runProcess.ts"
import * as Runner from "../runner/Runner.ts"
import * as TunnelHttpServer from "../runner/TunnelHttpServer.ts"
import * as Server from "../server/Server.ts"
import { resolve } from "../server/ServerConfig.ts"
import * as PlainLog from "../telemetry/PlainLog.ts"
import * as DemoApp from "./DemoApp.ts"

/** A demo that is over is over: nobody waits for its event stream. */
const drain = "500 millis"

const demo = (hubUrl: string) =>
  HttpRouter.serve(DemoApp.routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(TunnelHttpServer.layer({ hubUrl, name: "demo", drain }))
  )

const program = Effect.gen(function* () {
  // The demo is for this machine, whatever the environment says of a real server.
  const config = {
    ...(yield* resolve({})),
    host: "127.0.0.1",
    tokenFile: Option.none<string>(),
    nats: Option.none<never>()
  }
  yield* Effect.gen(function* () {
    const server = yield* Server.Server
    yield* Console.log(`wayleave listening on ${server.url}`)
    yield* Effect.gen(function* () {
      const { connected } = yield* Runner.Runner
      const { publicUrl } = yield* connected
      yield* Console.log(`\n  Open ${publicUrl}\n\n  Ctrl-C ends it\n`)
      return yield* Effect.never
    }).pipe(Effect.provide(demo(server.url)))
  }).pipe(Effect.provide(Server.layer(config)), Effect.provide(PlainLog.layer({ json: config.json })))
})

runProcess(saying(program))
