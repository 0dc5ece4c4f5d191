/**
 * What goes wrong in the actor API, in the form that Rivet's clients read: `{ group, code, message, metadata? }`. The statuses stand here and
 * nowhere else in `admin/`.
 *
 * Failures are plain values, since they are what is sent. Whatever is not one of them is a fault of ours: `core.internal_error`.
 */
import { Effect, Schema } from "effect"
import type { ActorError } from "../../actor/ActorControl.ts"

/** Each failure with its status. */
export const statuses = {
  "api.bad_request": 400,
  "api.unauthorized": 401,
  "api.forbidden": 403,
  "api.not_found": 404,
  "api.unsupported_media_type": 415,
  "actor.not_found": 404,
  "actor.kv_key_not_found": 404,
  "actor.duplicate_key": 400,
  "actor.invalid_request": 400,
  "actor.destroyed_while_waiting_for_ready": 400,
  "namespace.not_found": 400,
  "namespace.cannot_create": 400,
  "datacenter.not_found": 400,
  "runner_config.invalid": 400,
  "guard.actor_ready_timeout": 503,
  "guard.actor_wake_retries_exceeded": 400,
  "guard.invalid_request_body": 413,
  "guard.overloaded": 503,
  "guard.request_timeout": 504,
  "guard.service_unavailable": 503,
  "core.internal_error": 500
} as const

/** `group.code`. */
export type FailureCode = keyof typeof statuses

const Said = Schema.Struct({
  group: Schema.String,
  code: Schema.String,
  message: Schema.String,
  metadata: Schema.optionalKey(Schema.Record(Schema.String, Schema.Unknown))
})

/** A failure as it is sent. */
export type ApiFailure = typeof Said.Type

/** The status a failure is sent with. */
export const statusOf = ({ code, group }: Pick<ApiFailure, "code" | "group">): number =>
  (statuses as Readonly<Record<string, number>>)[`${group}.${code}`] ?? statuses["core.internal_error"]

const ofStatus = (status: number) =>
  Said.check(
    Schema.makeFilter((said) => statusOf(said) === status, { title: `a failure of status ${status}` })
  ).annotate({ httpApiStatus: status })

/** One schema for each status, as an `HttpApi` wants its errors. */
export const failures = [...new Set(Object.values(statuses))].map(ofStatus)

/** A failure. `metadata` is for programs. */
export const failure = (
  code: FailureCode,
  message: string,
  metadata?: Readonly<Record<string, unknown>>
): ApiFailure => {
  const dot = code.indexOf(".")
  const said = { group: code.slice(0, dot), code: code.slice(dot + 1), message }
  return metadata === undefined ? said : { ...said, metadata }
}

/** The same as an effect. */
export const fail = (code: FailureCode, message: string): Effect.Effect<never, ApiFailure> =>
  Effect.fail(failure(code, message))

/** What the control plane refuses, in its own words. */
export const fromActorError = (error: ActorError): ApiFailure => failure(error.reason, error.message)
