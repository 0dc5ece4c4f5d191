/**
 * An Effect HttpApi app served through the tunnel. Nothing in the app knows of it: only the layer that provides its `HttpServer` is another one.
 *
 *     npx wayleave serve
 *     node docs/examples/http-api-through-the-tunnel.ts
 *     curl -H 'Host: greetings.localhost:6420' http://127.0.0.1:6420/greetings/Ada
 */
import { NodeRuntime } from "@effect/platform-node"
import { Effect, Layer, Schema } from "effect"
import { HttpRouter } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { TunnelHttpServer } from "wayleave/runner"

const Greeting = Schema.Struct({ greeting: Schema.String })

const Api = HttpApi.make("Greetings").add(
  HttpApiGroup.make("greetings").add(
    HttpApiEndpoint.get("greet", "/greetings/:name", { params: { name: Schema.String }, success: Greeting })
  )
)

const Handlers = HttpApiBuilder.group(Api, "greetings", (handlers) =>
  handlers.handle("greet", ({ params }) => Effect.succeed({ greeting: `Hello, ${params.name}!` }))
)

const App = HttpApiBuilder.layer(Api).pipe(Layer.provide(Handlers))

/** The app, reached at `greetings.DOMAIN` of that hub. With `NodeHttpServer.layer` in place of the last line it would have a port of its own. */
export const layer = (hubUrl: string) =>
  HttpRouter.serve(App, { disableListenLog: true }).pipe(
    Layer.provideMerge(TunnelHttpServer.layer({ hubUrl, name: "greetings" }))
  )

if (import.meta.main) NodeRuntime.runMain(Layer.launch(layer("ws://127.0.0.1:6420")))
