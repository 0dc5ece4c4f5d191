/** The programs in `docs/examples`, run as their readers would. */
import { request } from "node:http"
import { NodeFileSystem } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option } from "effect"
import { HttpRouter, HttpServer, HttpServerResponse } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { NodeServer, Server } from "wayleave"
import { RouteStore } from "wayleave/hub"
import { Runner, TunnelHttpServer } from "wayleave/runner"
import * as EmbeddedHub from "../../docs/examples/embedded-hub.ts"
import * as HttpApiExample from "../../docs/examples/http-api-through-the-tunnel.ts"
import * as OwnRouteStore from "../../docs/examples/own-route-store.ts"
import { SessionId } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { routeStoreContract } from "../contract/RouteStoreContract.ts"

const get = (port: number, host: string, path: string) =>
  Effect.callback<{ readonly status: number; readonly body: string }, Error>((resume) => {
    const call = request({ port, host: "127.0.0.1", path, headers: { host } }, (response) => {
      let body = ""
      response.on("data", (data) => {
        body += data
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, body })))
    })
    call.on("error", (error) => resume(Effect.fail(error)))
    call.end()
  })

const serverLayer = Server.layer({
  host: "127.0.0.1",
  port: 0,
  adminPort: 0,
  domain: "localhost",
  tokenFile: Option.none(),
  actorsFile: Option.none(),
  workers: 1,
  json: false,
  nats: Option.none()
}).pipe(Layer.provide(NodeFileSystem.layer))

describe("docs/examples", () => {
  it.live("an HttpApi app answers through the tunnel, and its schema still guards it", () =>
    Effect.gen(function* () {
      const server = yield* Server.Server
      yield* Effect.gen(function* () {
        yield* (yield* Runner.Runner).connected
        const greeted = yield* get(server.port, "greetings.localhost", "/greetings/Ada")
        assert.deepStrictEqual(greeted, { status: 200, body: '{"greeting":"Hello, Ada!"}' })
        assert.strictEqual((yield* get(server.port, "greetings.localhost", "/elsewhere")).status, 404)
      }).pipe(Effect.provide(HttpApiExample.layer(server.url)))
      assert.strictEqual((yield* get(server.port, "greetings.localhost", "/greetings/Ada")).status, 503)
    }).pipe(Effect.provide(serverLayer))
  )

  it.live("a hub inside another program takes runners and visitors, and the program can ask it", () =>
    Effect.gen(function* () {
      const { port } = yield* NodeServer.NodeServer
      const { address } = yield* HttpServer.HttpServer
      const status = Effect.map(
        get(NetAddress.isUnixPathAddress(address) ? 0 : address.port, "localhost", "/status"),
        ({ body }) => JSON.parse(body)
      )
      assert.deepStrictEqual(yield* status, { sessions: 0, openStreams: 0, draining: false })
      const app = HttpRouter.serve(
        HttpRouter.use((router) => router.add("GET", "/", HttpServerResponse.text("hi"))),
        {
          disableLogger: true,
          disableListenLog: true
        }
      ).pipe(Layer.provideMerge(TunnelHttpServer.layer({ hubUrl: `ws://127.0.0.1:${port}`, name: "web" })))
      yield* Effect.gen(function* () {
        yield* (yield* Runner.Runner).connected
        assert.deepStrictEqual(yield* status, { sessions: 1, openStreams: 0, draining: false })
        assert.deepStrictEqual(yield* get(port, "web.localhost", "/"), { status: 200, body: "hi" })
      }).pipe(Effect.provide(app))
    }).pipe(Effect.provide(EmbeddedHub.layer({ tunnel: 0, status: 0 })))
  )

  it.effect("an own route store sees what is issued and what is refused", () =>
    Effect.gen(function* () {
      const routes = yield* RouteStore.RouteStore
      const { entries } = yield* OwnRouteStore.RouteAudit
      const [alice, mallory] = [SessionId.make("a".repeat(32)), SessionId.make("f".repeat(32))]
      yield* routes.adopt({ session: alice, generation: 1 })
      yield* routes.adopt({ session: mallory, generation: 1 })
      yield* routes.issue({ gatewayId: 1, requestId: 2 }, alice)
      const frame = { _tag: "ResponseChunk", body: new Uint8Array(1), finish: false } as const
      yield* routes.authorize({ session: mallory, generation: 1 }, [
        { route: { gatewayId: 1, requestId: 2 }, frame },
        { route: { gatewayId: 1, requestId: 3 }, frame }
      ])
      assert.deepStrictEqual(yield* entries, [
        { route: "1/2", decision: "Issued" },
        { route: "1/2", decision: "Foreign" },
        { route: "1/3", decision: "Unknown" }
      ])
    }).pipe(Effect.provide(OwnRouteStore.layerAudited))
  )
})

routeStoreContract("the example's own route store", OwnRouteStore.layerAudited, limits)
