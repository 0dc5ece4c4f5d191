/**
 * Hub and gateway inside a program of your own, beside what else it does: here a status page on a second port that asks the hub itself.
 *
 *     node docs/examples/embedded-hub.ts
 *     curl http://127.0.0.1:8080/status
 */
import { createServer } from "node:http"
import { NodeHttpServer, NodeRuntime } from "@effect/platform-node"
import { Effect, Layer } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { NodeServer } from "wayleave"
import { Gateway, StreamObserver } from "wayleave/gateway"
import * as Hub from "wayleave/hub"

/** Every part is a layer: another bus, route store, authenticator or observer goes where these are. */
const Roles = Layer.mergeAll(Hub.layer(), Gateway.layer()).pipe(
  Layer.provide([Hub.RouteStore.layerMemory, Hub.Authenticator.layerOpen, StreamObserver.layerNoop]),
  Layer.provide(Hub.MessageBus.layerMemory)
)

const Status = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    const hub = yield* Hub.Hub
    yield* router.add(
      "GET",
      "/status",
      Effect.map(hub.state, (state) => HttpServerResponse.jsonUnsafe(state))
    )
  })
)

/** Visitors and runners on one port, the status page on another. */
export const layer = (ports: { readonly tunnel: number; readonly status: number }) =>
  Layer.mergeAll(
    NodeServer.layer({ host: "127.0.0.1", port: ports.tunnel }),
    HttpRouter.serve(Status, { disableLogger: true, disableListenLog: true }).pipe(
      Layer.provideMerge(NodeHttpServer.layer(createServer, { host: "127.0.0.1", port: ports.status }))
    )
  ).pipe(Layer.provide(Roles))

if (import.meta.main) NodeRuntime.runMain(Layer.launch(layer({ tunnel: 6420, status: 8080 })))
