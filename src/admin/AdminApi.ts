/**
 * What operators and their machines ask: `/health/live`, `/health/ready`, `/metrics`. Routes for an Effect router; `server/Server.ts` gives
 * them a port of their own, away from visitors.
 */
import { Effect } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { PrometheusMetrics } from "effect/observability"
import { Health, type Readiness } from "./Health.ts"

const noStore = { "cache-control": "no-store" } as const

const statusOf = (readiness: Readiness): number => {
  switch (readiness) {
    case "ready":
      return 200
    case "starting":
    case "disconnected":
    case "draining":
      return 503
  }
  return readiness satisfies never
}

/** Live answers as long as anything does; ready only while new work is welcome. */
export const routes = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    const health = yield* Health
    const live = HttpServerResponse.jsonUnsafe({ status: "live" }, { headers: noStore })
    const ready = Effect.map(health.readiness, (readiness) =>
      HttpServerResponse.jsonUnsafe({ status: readiness }, { status: statusOf(readiness), headers: noStore })
    )
    const metrics = Effect.map(PrometheusMetrics.format(), (body) =>
      HttpServerResponse.text(body, {
        contentType: "text/plain; version=0.0.4; charset=utf-8",
        headers: noStore
      })
    )
    yield* router.add("GET", "/health/live", live)
    yield* router.add("GET", "/health/ready", ready)
    yield* router.add("GET", "/metrics", metrics)
  })
)
