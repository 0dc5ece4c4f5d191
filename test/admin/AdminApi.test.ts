import { createServer } from "node:http"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Metric } from "effect"
import { HttpClient, HttpRouter, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import * as AdminApi from "../../src/admin/AdminApi.ts"
import * as Health from "../../src/admin/Health.ts"

const Live = HttpRouter.serve(AdminApi.routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(Health.layer),
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(NodeHttpClient.layerUndici)
)

const get = Effect.fnUntraced(function* (path: string) {
  const { address } = yield* HttpServer.HttpServer
  const port = NetAddress.isUnixPathAddress(address) ? 0 : address.port
  const response = yield* HttpClient.get(`http://127.0.0.1:${port}${path}`)
  return { status: response.status, type: response.headers["content-type"], body: yield* response.text }
})

it.live("is ready only between start and drain while the bus is in reach, and alive throughout", () =>
  Effect.gen(function* () {
    const health = yield* Health.Health
    const ask = Effect.all([get("/health/live"), get("/health/ready")])
    const seen: Array<readonly [number, number, string]> = []
    for (const readiness of ["starting", "ready", "disconnected", "ready", "draining", "ready"] as const) {
      yield* health.become(readiness)
      const [live, ready] = yield* ask
      seen.push([live.status, ready.status, ready.body])
    }
    assert.deepStrictEqual(seen, [
      [200, 503, '{"status":"starting"}'],
      [200, 200, '{"status":"ready"}'],
      [200, 503, '{"status":"disconnected"}'],
      [200, 200, '{"status":"ready"}'],
      [200, 503, '{"status":"draining"}'],
      [200, 503, '{"status":"draining"}']
    ])
  }).pipe(Effect.provide(Live))
)

it.live("shows metrics in Prometheus' text format", () =>
  Effect.gen(function* () {
    yield* Metric.update(Metric.counter("wayleave_test_total", { description: "For this test" }), 3)
    const metrics = yield* get("/metrics")
    assert.strictEqual(metrics.status, 200)
    assert.match(metrics.type ?? "", /^text\/plain; version=0\.0\.4/)
    assert.include(metrics.body, "# TYPE wayleave_test_total")
    assert.include(metrics.body, "wayleave_test_total 3")
    assert.strictEqual((yield* get("/elsewhere")).status, 404)
  }).pipe(Effect.provide(Live))
)
