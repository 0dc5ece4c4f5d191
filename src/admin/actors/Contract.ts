/**
 * The actor API as a schema: what Rivet's clients may ask and what they are answered, in their spelling. `Handlers.ts` answers it, and
 * `HttpApiClient` of this very value asks.
 *
 * Unknown fields of a body are refused. Times are milliseconds since 1970, or null where it never happened.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { CrashPolicy } from "../../actor/ActorControl.ts"
import { RivetId } from "../../actor/RivetId.ts"
import { Access } from "./Access.ts"
import { failures } from "./Failure.ts"
import { Pagination, pageQuery } from "./Page.ts"

const Name = Schema.String.check(Schema.isMinLength(1))
const Time = Schema.Int
const optional = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))
const namespaced = { namespace: Schema.String }
const Empty = Schema.Struct({})
// `{}`, or no body at all, which is read as null.
const Nothing = [Schema.Record(Schema.String, Schema.Never), Schema.Null] as const
const Several = Schema.optionalKey(Schema.Array(Schema.String))
const Flag = Schema.optionalKey(Schema.Boolean)

/** An actor. */
export const Actor = Schema.Struct({
  actor_id: RivetId,
  name: Schema.String,
  key: Schema.NullOr(Schema.String),
  namespace_id: RivetId,
  datacenter: Schema.String,
  runner_name_selector: Schema.String,
  crash_policy: CrashPolicy,
  create_ts: Time,
  start_ts: Schema.NullOr(Time),
  connectable_ts: Schema.NullOr(Time),
  sleep_ts: Schema.NullOr(Time),
  pending_allocation_ts: Schema.NullOr(Time),
  reschedule_ts: Schema.NullOr(Time),
  destroy_ts: Schema.NullOr(Time)
})
export type Actor = typeof Actor.Type

const creation = {
  name: Name,
  runner_name_selector: Name,
  crash_policy: CrashPolicy,
  input: optional(Schema.Uint8ArrayFromBase64),
  datacenter: optional(Schema.String)
}

const actorPath = { actor_id: Schema.String }
const Named = Schema.Record(Schema.String, Schema.Struct({ metadata: Schema.Unknown }))

/** Actors. */
export const Actors = HttpApiGroup.make("actors")
  .add(
    HttpApiEndpoint.post("create", "/actors", {
      query: namespaced,
      payload: Schema.Struct({ ...creation, key: optional(Schema.String) }),
      success: Schema.Struct({ actor: Actor }),
      error: failures
    }),
    HttpApiEndpoint.put("getOrCreate", "/actors", {
      query: namespaced,
      payload: Schema.Struct({ ...creation, key: Schema.String }),
      success: Schema.Struct({ actor: Actor, created: Schema.Boolean }),
      error: failures
    }),
    HttpApiEndpoint.get("list", "/actors", {
      query: {
        ...namespaced,
        ...pageQuery,
        actor_ids: Several,
        actor_id: Several,
        name: Schema.optionalKey(Name),
        key: Schema.optionalKey(Schema.String),
        include_destroyed: Flag
      },
      success: Schema.Struct({ actors: Schema.Array(Actor), pagination: Pagination }),
      error: failures
    }),
    HttpApiEndpoint.get("names", "/actors/names", {
      query: { ...namespaced, ...pageQuery },
      success: Schema.Struct({ names: Named, pagination: Pagination }),
      error: failures
    }),
    HttpApiEndpoint.delete("destroy", "/actors/:actor_id", {
      params: actorPath,
      query: namespaced,
      success: Empty,
      error: failures
    }),
    HttpApiEndpoint.post("sleep", "/actors/:actor_id/sleep", {
      params: actorPath,
      query: namespaced,
      payload: Nothing,
      success: Empty,
      error: failures
    }),
    HttpApiEndpoint.post("reschedule", "/actors/:actor_id/reschedule", {
      params: actorPath,
      query: namespaced,
      payload: Nothing,
      success: Empty,
      error: failures
    }),
    HttpApiEndpoint.get("value", "/actors/:actor_id/kv/keys/:key", {
      params: { ...actorPath, key: Schema.String },
      query: namespaced,
      success: Schema.Struct({ value: Schema.Uint8ArrayFromBase64, update_ts: Time }),
      error: failures
    })
  )
  .middleware(Access)

/** A runner. */
export const Runner = Schema.Struct({
  runner_id: RivetId,
  namespace_id: RivetId,
  datacenter: Schema.String,
  name: Schema.String,
  key: Schema.String,
  version: Schema.Int,
  total_slots: Schema.Int,
  remaining_slots: Schema.Int,
  create_ts: Time,
  last_ping_ts: Time,
  last_rtt: Schema.Int,
  last_connected_ts: Schema.NullOr(Time),
  drain_ts: Schema.NullOr(Time),
  stop_ts: Schema.NullOr(Time),
  metadata: Schema.Unknown
})
export type Runner = typeof Runner.Type

/** Runners. */
export const Runners = HttpApiGroup.make("runners")
  .add(
    HttpApiEndpoint.get("list", "/runners", {
      query: {
        ...namespaced,
        ...pageQuery,
        name: Schema.optionalKey(Name),
        runner_ids: Several,
        include_stopped: Flag
      },
      success: Schema.Struct({ runners: Schema.Array(Runner), pagination: Pagination }),
      error: failures
    }),
    HttpApiEndpoint.get("names", "/runners/names", {
      query: { ...namespaced, ...pageQuery },
      success: Schema.Struct({ names: Schema.Array(Schema.String), pagination: Pagination }),
      error: failures
    })
  )
  .middleware(Access)

const Normal = Schema.Record(Schema.String, Schema.Never)
const normal = Schema.Struct({ datacenters: Schema.Struct({ default: Schema.Struct({ normal: Normal }) }) })
// Let in by the schema so that it can be refused in words of its own.
const proposed = Schema.Struct({ normal: Schema.optionalKey(Normal), serverless: Schema.optionalKey(Schema.Unknown) })

/** Pools of runners by name. */
export const Configs = HttpApiGroup.make("runnerConfigs")
  .add(
    HttpApiEndpoint.get("list", "/runner-configs", {
      query: { ...namespaced, ...pageQuery },
      success: Schema.Struct({ runner_configs: Schema.Record(Schema.String, normal), pagination: Pagination }),
      error: failures
    }),
    HttpApiEndpoint.put("put", "/runner-configs/:name", {
      params: { name: Name },
      query: namespaced,
      payload: Schema.Struct({ datacenters: Schema.Struct({ default: proposed }) }),
      success: Schema.Struct({ endpoint_config_changed: Schema.Boolean }),
      error: failures
    }),
    HttpApiEndpoint.delete("remove", "/runner-configs/:name", {
      params: { name: Name },
      query: namespaced,
      success: Empty,
      error: failures
    })
  )
  .middleware(Access)

/** The namespace; there is one. */
export const Namespace = Schema.Struct({
  namespace_id: RivetId,
  name: Schema.String,
  display_name: Schema.String,
  create_ts: Time
})

/** Namespaces and datacentres, of which there is one each. */
export const Places = HttpApiGroup.make("places")
  .add(
    HttpApiEndpoint.get("namespaces", "/namespaces", {
      query: { ...pageQuery, name: Schema.optionalKey(Schema.String) },
      success: Schema.Struct({ namespaces: Schema.Array(Namespace), pagination: Pagination }),
      error: failures
    }),
    HttpApiEndpoint.post("createNamespace", "/namespaces", {
      payload: Schema.Struct({ name: Schema.String, display_name: Schema.String }),
      success: Schema.Struct({ namespace: Namespace }),
      error: failures
    }),
    HttpApiEndpoint.get("datacenters", "/datacenters", {
      success: Schema.Struct({
        datacenters: Schema.Array(Schema.Struct({ label: Schema.Int, name: Schema.String })),
        pagination: Pagination
      }),
      error: failures
    })
  )
  .middleware(Access)

/** What clients ask first, to see whether anybody is there. Open to everybody. */
export const Presence = HttpApiGroup.make("presence").add(
  HttpApiEndpoint.get("metadata", "/metadata", {
    success: Schema.Struct({ runtime: Schema.String, version: Schema.String }),
    error: failures
  })
)

/** All of it. */
export const Api = HttpApi.make("actors-api")
  .add(Actors, Runners, Configs, Places, Presence)
  .annotate(HttpApi.PayloadParseOptions, { onExcessProperty: "error" })
  .annotateMerge(OpenApi.annotations({ title: "Actors" }))
