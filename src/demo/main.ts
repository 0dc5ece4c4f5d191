/**
 * `npm start`: the server, and the demo app exposed as `demo`, in one process. The app's runner dials the hub as any other would.
 */
import { createServer } from "node:http"
import { NodeHttpServer } from "@effect/platform-node"
import { Console, Effect, Layer, Option } from "effect"
import { HttpRouter, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { runProcess, saying } from "../cli/runProcess.ts"
import * as LocalForward from "../runner/LocalForward.ts"
import * as Runner from "../runner/Runner.ts"
import * as Server from "../server/Server.ts"
import { resolve } from "../server/ServerConfig.ts"
import * as WsSocket from "../socket/WsSocket.ts"
import * as PlainLog from "../telemetry/PlainLog.ts"
import * as DemoApp from "./DemoApp.ts"

/** A demo that is over is over: nobody waits for its event stream. */
const drain = "500 millis"

/** The app on a free port of loopback, and a runner that forwards to it. */
const demo = (hubUrl: string) => {
  const app = HttpRouter.serve(DemoApp.routes, { disableLogger: true, disableListenLog: true }).pipe(
    Layer.provideMerge(
      NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: 0, gracefulShutdownTimeout: drain })
    )
  )
  const forward = Layer.unwrap(
    Effect.map(HttpServer.HttpServer, ({ address }) =>
      LocalForward.layer({
        protocol: "http:",
        host: "127.0.0.1",
        port: NetAddress.isUnixPathAddress(address) ? 0 : address.port
      })
    )
  )
  return Runner.layer({ hubUrl, name: "demo", drain }).pipe(
    Layer.provide(forward),
    Layer.provide([app, WsSocket.layerDialer])
  )
}

const program = Effect.gen(function* () {
  // The demo is for this machine, whatever the environment says of a real server.
  const config = { ...(yield* resolve({})), host: "127.0.0.1", tokenFile: Option.none<string>() }
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
