/**
 * Rivet's public actor API on the visitors' port: actors are created, found, listed, put to sleep and destroyed here. `server/` hands over
 * what no runner's host and no `/gateway/` path takes, where `takes` says so.
 *
 * Around every answer, whatever became of the request: a ray id, one form of error, and a bound on bodies, time and number. What can be asked is
 * in `actors/Contract.ts`, who may ask in `actors/Access.ts`, the answers in `actors/Handlers.ts`.
 */
import { ByteSize, Cause, Effect, Layer, SchemaIssue, type Scope } from "effect"
import {
  HttpIncomingMessage,
  HttpRouter,
  HttpServer,
  HttpServerError,
  HttpServerRequest,
  HttpServerResponse
} from "effect/http"
import { HttpApiBuilder, HttpApiError } from "effect/http-api"
import type { ActorControl } from "../actor/ActorControl.ts"
import type { ActorKv } from "../actor/ActorKv.ts"
import * as RivetId from "../actor/RivetId.ts"
import type { Authenticator } from "../auth/Authenticator.ts"
import type { StreamObserver } from "../gateway/StreamObserver.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import * as Access from "./actors/Access.ts"
import { Api } from "./actors/Contract.ts"
import { type ApiFailure, failure, statusOf } from "./actors/Failure.ts"
import * as Handlers from "./actors/Handlers.ts"
import * as RunnerConfigs from "./actors/RunnerConfigs.ts"
import { makeWatch } from "./actors/Watch.ts"

/** Names the request, here as in Rivet: 30 characters, drawn anew for each answer. */
export const rayHeader = "x-rivet-ray-id"

const roots = new Set(["actors", "runners", "runner-configs", "namespaces", "datacenters", "metadata"])

/** Whether the API answers for this path. `/runners/connect` is where runners arrive, and not the API's. */
export const takes = (path: string): boolean => {
  const [, root, rest] = path.split("/")
  return root !== undefined && roots.has(root) && !(root === "runners" && rest === "connect")
}

const noStore = { "cache-control": "no-store" } as const

const answerOf = (said: ApiFailure) => HttpServerResponse.jsonUnsafe(said, { status: statusOf(said), headers: noStore })

const formatIssues = SchemaIssue.makeFormatterStandardSchemaV1()

/** What does not fit the schema, place by place: `payload.name: Missing key`. */
const misfits = ({ cause, kind }: HttpApiError.HttpApiSchemaError): ApiFailure => {
  const issues = formatIssues(cause.issue).issues.map(({ message, path = [] }) => ({
    path: [kind.toLowerCase(), ...path.map((part) => String(typeof part === "object" ? part.key : part))].join("."),
    message
  }))
  return failure("api.bad_request", issues.map(({ message, path }) => `${path}: ${message}`).join("; "), { issues })
}

/** What was the visitor's fault, as such; undefined for a fault of ours. */
const faultOf = (error: unknown): ApiFailure | undefined => {
  if (HttpApiError.HttpApiSchemaError.is(error)) {
    switch (error.kind) {
      case "Params":
      case "Headers":
      case "Query":
      case "Payload":
        return misfits(error)
      case "Body":
      case "ResponseHeaders":
        return undefined
    }
    return absurd(error.kind)
  }
  if (!HttpServerError.isHttpServerError(error)) return undefined
  switch (error.reason._tag) {
    case "RouteNotFound":
      return failure("api.not_found", "the actor API knows no such call")
    case "RequestParseError":
      return error.reason.reason === "BodyTooLarge"
        ? failure("guard.invalid_request_body", `a body has at most ${limits.apiBodyBytesMax} bytes`)
        : failure("api.bad_request", "the body could not be read")
    case "InternalError":
    case "ResponseError":
      return undefined
  }
  return absurd(error.reason)
}

/**
 * Whether a page of another origin sent this. Browsers send such requests without asking first, and where there are no tokens nothing else
 * would tell the person at this machine from any page that is open on it.
 */
const foreign = ({ headers, method }: HttpServerRequest.HttpServerRequest): boolean => {
  const { host, origin } = headers
  if (origin === undefined || method === "GET" || method === "HEAD") return false
  return !URL.canParse(origin) || new URL(origin).host !== host
}

const unsupported = failure("api.unsupported_media_type", "bodies are application/json")
const tooSlow = failure("guard.request_timeout", `the request took longer than ${limits.apiRequestMs / 1000} s`)
const crowded = failure("guard.overloaded", `more than ${limits.apiInFlightMax} requests at once`)
const crossSite = failure("api.forbidden", "the request comes from a page of another origin")
const misaddressed = failure(
  "api.forbidden",
  "without tokens the actor API answers for localhost, loopback addresses and the server's own domain only: ask by one of these, or give the server tokens (--token-file)"
)

/** Stands around the whole router, so that what it cannot find is answered in form too. */
const envelope = ({ hosts }: ActorsApiOptions) =>
  HttpRouter.middleware(
    Effect.gen(function* () {
      const draw = yield* RivetId.NewUnique
      const watch = yield* makeWatch
      let inFlight = 0
      const judged = <E, R>(answer: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>, ray: string) =>
        answer.pipe(
          Effect.map((response) => (response.status === 415 ? answerOf(unsupported) : response)),
          Effect.timeoutOrElse({ duration: limits.apiRequestMs, orElse: () => Effect.succeed(answerOf(tooSlow)) }),
          Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(limits.apiBodyBytesMax)),
          Effect.catchCause((cause) => {
            if (Cause.hasInterruptsOnly(cause)) return Effect.failCause(cause)
            const fault = faultOf(Cause.squash(cause))
            if (fault !== undefined) return Effect.succeed(answerOf(fault))
            const internal = answerOf(failure("core.internal_error", "a fault of this server; its log has the ray id"))
            return Effect.logError("actor API", cause).pipe(Effect.annotateLogs({ ray }), Effect.as(internal))
          })
        )
      const refusalOf = (request: HttpServerRequest.HttpServerRequest): ApiFailure | undefined => {
        if (hosts !== undefined && !Access.isAddressedHere(request.headers.host, hosts)) return misaddressed
        if (foreign(request)) return crossSite
        return inFlight >= limits.apiInFlightMax ? crowded : undefined
      }
      return (httpEffect) =>
        Effect.gen(function* () {
          const ray = RivetId.make(draw())
          const request = yield* HttpServerRequest.HttpServerRequest
          const refusal = refusalOf(request)
          const answer =
            refusal !== undefined
              ? Effect.succeed(answerOf(refusal))
              : Effect.acquireUseRelease(
                  Effect.sync(() => void inFlight++),
                  () => judged(httpEffect, ray),
                  () => Effect.sync(() => void inFlight--)
                )
          return HttpServerResponse.setHeader(yield* watch(answer, ray), rayHeader, ray)
        })
    }),
    { global: true }
  )

/** What the API is served as. */
export interface ActorsApiOptions {
  /** This server's version, which `/metadata` shows. */
  readonly version: string
  /** Where there are no tokens: by which names the server may be addressed, beside those of this machine. Not given, by any. */
  readonly hosts?: ReadonlyArray<string>
}

/** Answers the request at hand. */
export type ActorsApiHandler = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  HttpServerError.HttpServerError,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

// Keys of 2046 bytes as base64, each character of it percent-encoded.
const paramLengthMax = 8_192

/**
 * The API as one handler for Effect's HTTP server: `NodeHttpServer.makeHandler` makes a callback of `node:http` from it. Everything in it is built
 * once and lives as long as the scope.
 */
export const make = (
  options: ActorsApiOptions
): Effect.Effect<ActorsApiHandler, never, ActorControl | ActorKv | Authenticator | StreamObserver | Scope.Scope> =>
  HttpRouter.toHttpEffect(
    HttpApiBuilder.layer(Api).pipe(
      Layer.provide(Handlers.layer(options.version)),
      Layer.provide([Access.layer, RunnerConfigs.layerMemory]),
      Layer.provideMerge(envelope(options)),
      Layer.provide(HttpServer.layerServices)
    )
  ).pipe(Effect.provideService(HttpRouter.RouterConfig, { maxParamLength: paramLengthMax }))

const withoutActors = failure(
  "guard.service_unavailable",
  "another process of this cluster controls its actors, the one that has --actors-file: ask that one"
)

/** The API where a cluster's actors are controlled by another process. */
export const makeElsewhere: Effect.Effect<ActorsApiHandler, never, StreamObserver> = Effect.gen(function* () {
  const draw = yield* RivetId.NewUnique
  const watch = yield* makeWatch
  return Effect.suspend(() => {
    const ray = RivetId.make(draw())
    const answer = Effect.sync(() => HttpServerResponse.setHeader(answerOf(withoutActors), rayHeader, ray))
    return watch(answer, ray)
  })
})
