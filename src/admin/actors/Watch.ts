/**
 * What is seen of the calls of the actor API: a line of the access log and the same metrics as those of visitors, each under a name of its own. A line has
 * the ray id for the request's, no runner's name, and for an outcome `ok`, `cancelled`, or the `group.code` that was answered.
 */
import { Clock, Effect, Exit, Metric, Option } from "effect"
import { HttpServerRequest, type HttpServerResponse } from "effect/http"
import { secondsBoundaries } from "../../gateway/GatewayMetrics.ts"
import { StreamObserver, type StreamStart } from "../../gateway/StreamObserver.ts"

/** Calls that ended, by outcome. */
export const requests = Metric.counter("wayleave_actor_api_requests_total", {
  description: "Calls of the actor API that ended, by outcome: ok, cancelled, or the error answered",
  incremental: true
})
/** Calls open now. */
export const inFlight = Metric.gauge("wayleave_actor_api_in_flight", { description: "Calls of the actor API open now" })
/** From a call's arrival to its answer. */
export const durations = Metric.histogram("wayleave_actor_api_request_seconds", {
  description: "From the arrival of a call of the actor API to its answer, in seconds",
  boundaries: secondsBoundaries
})

/** The error in an answer, as `group.code`. */
const errorIn = ({ body }: HttpServerResponse.HttpServerResponse): string => {
  if (body._tag !== "Uint8Array") return "core.internal_error"
  const { code, group } = JSON.parse(new TextDecoder().decode(body.body))
  return `${group}.${code}`
}

/** Watches one call after another. */
export const makeWatch = Effect.gen(function* () {
  const observer = yield* StreamObserver
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let open = 0

  const change = (by: 1 | -1) => {
    open += by
    inFlight.updateUnsafe(open, context)
  }

  const begin = Effect.map(HttpServerRequest.HttpServerRequest, (request) => {
    change(1)
    return { request, atMs: nowMs() }
  })

  return <E, R>(answer: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>, ray: string) =>
    Effect.acquireUseRelease(
      begin,
      () => answer,
      ({ atMs, request }, exit) =>
        Effect.sync(() => {
          change(-1)
          const response = Exit.isSuccess(exit) ? exit.value : undefined
          const outcome = response === undefined ? "cancelled" : response.status < 400 ? "ok" : errorIn(response)
          const durationMs = nowMs() - atMs
          Metric.withAttributes(requests, { outcome }).updateUnsafe(1, context)
          durations.updateUnsafe(durationMs / 1000, context)
          const start: StreamStart = {
            requestId: ray,
            kind: "http",
            name: "",
            method: request.method,
            target: request.url,
            remoteAddress: Option.getOrElse(request.remoteAddress, () => "")
          }
          observer.start(start)
          if (response !== undefined) observer.head(start, response.status)
          observer.end(start, {
            status: response?.status ?? 0,
            outcome,
            bytesUp: Number(request.headers["content-length"] ?? 0),
            bytesDown: response?.body._tag === "Uint8Array" ? response.body.contentLength : 0,
            durationMs
          })
        })
    )
})
