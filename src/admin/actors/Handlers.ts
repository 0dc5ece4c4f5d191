/**
 * Answers the actor API: what was asked in Rivet's spelling is asked of `ActorControl` and `ActorKv`, and their answers go back in that spelling.
 *
 * An actor belongs to the runners it runs on: a token that does not cover their name may neither see nor touch it. Whoever is refused for
 * that reason learns that the actor exists and nothing else; ids are random.
 */
import { Effect, Layer } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import {
  ActorControl,
  type ActorError,
  type ActorRequest,
  type ActorView,
  type RunnerView
} from "../../actor/ActorControl.ts"
import { ActorKv } from "../../actor/ActorKv.ts"
import * as RivetId from "../../actor/RivetId.ts"
import { absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { Caller } from "./Access.ts"
import { type Actor, Api, type Runner } from "./Contract.ts"
import { type ApiFailure, fail, fromActorError } from "./Failure.ts"
import { pageOf, sizeOf } from "./Page.ts"
import { RunnerConfigs } from "./RunnerConfigs.ts"

const here = "default"
const namespaceId = RivetId.make(new Uint8Array(RivetId.uniqueBytes))
const namespace = { namespace_id: namespaceId, name: here, display_name: "Default", create_ts: 0 }

/** All that happens in a namespace happens in this one. */
const inNamespace = (query: { readonly namespace: string }) =>
  query.namespace === here ? Effect.void : fail("namespace.not_found", `the only namespace is ${here}`)

const saidByControl = <A, R>(effect: Effect.Effect<A, ActorError | ApiFailure, R>): Effect.Effect<A, ApiFailure, R> =>
  Effect.mapError(effect, (error) => ("_tag" in error ? fromActorError(error) : error))

const covered = (runnerName: string) =>
  Effect.flatMap(Caller, (caller) =>
    Effect.flatMap(caller.covers(runnerName), (covers) =>
      covers ? Effect.void : fail("api.forbidden", `the token does not cover runners called ${runnerName}`)
    )
  )

/** Those of them that the caller's token covers. Each name is asked about once. */
const coveredOf = Effect.fnUntraced(function* <A>(all: ReadonlyArray<A>, runnerName: (one: A) => string) {
  const caller = yield* Caller
  const known = new Map<string, boolean>()
  for (const name of new Set(all.map(runnerName))) known.set(name, yield* caller.covers(name))
  return all.filter((one) => known.get(runnerName(one)) === true)
})

const actorIdOf = (text: string) =>
  RivetId.parse(text) === undefined
    ? fail("api.bad_request", "an actor id is 30 digits of base 36")
    : Effect.succeed(text)

const asActor = (view: ActorView): Actor => ({
  actor_id: view.actorId as RivetId.RivetId,
  name: view.name,
  key: view.key,
  namespace_id: namespaceId,
  datacenter: here,
  runner_name_selector: view.runnerName,
  crash_policy: view.crashPolicy,
  create_ts: view.createdAtMs,
  start_ts: view.startedAtMs,
  connectable_ts: view.connectableAtMs,
  sleep_ts: view.sleptAtMs,
  pending_allocation_ts: view.pendingAllocationAtMs,
  reschedule_ts: view.rescheduleAtMs,
  destroy_ts: view.destroyedAtMs
})

/** What a runner said of itself as JSON; `null` where it said nothing, or nothing that is JSON. */
const parsed = (json: string | null): unknown => {
  try {
    return json === null ? null : JSON.parse(json)
  } catch {
    return null
  }
}

const asRunner = (view: RunnerView): Runner => ({
  runner_id: RivetId.ofSession(view.session),
  namespace_id: namespaceId,
  datacenter: here,
  name: view.name,
  key: view.key,
  version: view.version,
  total_slots: view.totalSlots,
  remaining_slots: view.remainingSlots,
  create_ts: view.createdAtMs,
  last_ping_ts: view.lastSeenAtMs,
  last_rtt: 0,
  last_connected_ts: view.connected ? view.lastSeenAtMs : null,
  drain_ts: view.drainingSinceMs,
  stop_ts: view.stoppedAtMs,
  metadata: parsed(view.metadata)
})

interface Creation {
  readonly name: string
  readonly runner_name_selector: string
  readonly crash_policy: ActorRequest["crashPolicy"]
  readonly input?: Uint8Array | null
  readonly datacenter?: string | null
}

const asRequest = Effect.fnUntraced(function* (payload: Creation) {
  if (payload.datacenter !== undefined && payload.datacenter !== null && payload.datacenter !== here) {
    return yield* fail("datacenter.not_found", `the only datacenter is ${here}`)
  }
  yield* covered(payload.runner_name_selector)
  return {
    name: payload.name,
    runnerName: payload.runner_name_selector,
    crashPolicy: payload.crash_policy,
    input: payload.input ?? null
  }
})

/** Ids as they are asked for: repeated, or several in one with commas between. */
const idsOf = (...lists: ReadonlyArray<ReadonlyArray<string> | undefined>): ReadonlyArray<string> => [
  ...new Set(lists.flatMap((list) => (list ?? []).flatMap((text) => text.split(","))).filter((id) => id !== ""))
]

const base64 = /^(?:[A-Za-z0-9+/_-]{4})*(?:[A-Za-z0-9+/_-]{2,3}={0,2})?$/

const actors = HttpApiBuilder.group(
  Api,
  "actors",
  Effect.fnUntraced(function* (handlers) {
    const control = yield* ActorControl
    const kv = yield* ActorKv

    /** The actor, if the caller may have it. */
    const mine = Effect.fnUntraced(function* (actorId: string) {
      const view = yield* Effect.flatMap(actorIdOf(actorId), control.get).pipe(saidByControl)
      yield* covered(view.runnerName)
      return view
    })
    const none = (error: ApiFailure) => (error.code === "not_found" ? Effect.succeed([]) : Effect.fail(error))
    const shown = Effect.fnUntraced(function* (views: ReadonlyArray<ActorView>, includeDestroyed: boolean | undefined) {
      const visible = views.filter(({ destroyedAtMs }) => destroyedAtMs === null || includeDestroyed === true)
      return (yield* coveredOf(visible, ({ runnerName }) => runnerName)).map(asActor)
    })
    const one = (found: Effect.Effect<ActorView, ActorError>) =>
      found.pipe(
        saidByControl,
        Effect.map((view) => [view]),
        Effect.catch(none)
      )

    return handlers.handleAll({
      create: Effect.fnUntraced(function* ({ payload, query }) {
        yield* inNamespace(query)
        const request = yield* asRequest(payload)
        const view = yield* saidByControl(control.create({ ...request, key: payload.key ?? null }))
        return { actor: asActor(view) }
      }),
      getOrCreate: Effect.fnUntraced(function* ({ payload, query }) {
        yield* inNamespace(query)
        const request = yield* asRequest(payload)
        const { actor, created } = yield* saidByControl(control.getOrCreate({ ...request, key: payload.key }))
        // What was there already may run on another's runners.
        yield* covered(actor.runnerName)
        return { actor: asActor(actor), created }
      }),
      list: Effect.fnUntraced(function* ({ query }) {
        yield* inNamespace(query)
        const { include_destroyed: includeDestroyed, key, name } = query
        const ids = idsOf(query.actor_ids, query.actor_id)
        if (ids.length > limits.apiPageMax) {
          return yield* fail("api.bad_request", `at most ${limits.apiPageMax} actors can be asked for by id`)
        }
        if (ids.length > 0) {
          if (name !== undefined || key !== undefined) {
            return yield* fail("api.bad_request", "actors are asked for by id, or by name and key, not by both")
          }
          for (const id of ids) yield* actorIdOf(id)
          const views = yield* Effect.forEach(ids, (id) => one(control.get(id)))
          return { actors: yield* shown(views.flat(), includeDestroyed), pagination: {} }
        }
        if (name === undefined) {
          return yield* fail("api.bad_request", "actors are asked for by actor_ids, or by name with or without key")
        }
        if (key !== undefined) {
          return { actors: yield* shown(yield* one(control.find(name, key)), includeDestroyed), pagination: {} }
        }
        const limit = sizeOf(query)
        const after = query.cursor === undefined ? {} : { cursor: yield* actorIdOf(query.cursor) }
        const views = yield* control.list({
          name,
          includeDestroyed: includeDestroyed ?? false,
          limit: limit + 1,
          ...after
        })
        const page = views.slice(0, limit)
        const last = page.at(-1)
        return {
          actors: yield* shown(page, includeDestroyed),
          pagination: last !== undefined && page.length < views.length ? { cursor: last.actorId } : {}
        }
      }),
      names: Effect.fnUntraced(function* ({ query }) {
        yield* inNamespace(query)
        const caller = yield* Caller
        const runners = yield* coveredOf(yield* control.runners, ({ name }) => name)
        const announced = new Set(runners.flatMap(({ actorNames }) => [...actorNames.keys()]))
        const all = [...(yield* control.names)]
        const mayAll = yield* caller.coversAll
        const { entries, pagination } = pageOf(
          mayAll ? all : all.filter(([name]) => announced.has(name)),
          ([name]) => name,
          query
        )
        const names = Object.fromEntries(entries.map(([name, metadata]) => [name, { metadata: parsed(metadata) }]))
        return { names, pagination }
      }),
      destroy: Effect.fnUntraced(function* ({ params, query }) {
        yield* inNamespace(query)
        const { actorId } = yield* mine(params.actor_id)
        yield* saidByControl(control.destroy(actorId))
        return {}
      }),
      sleep: Effect.fnUntraced(function* ({ params, query }) {
        yield* inNamespace(query)
        const { actorId } = yield* mine(params.actor_id)
        yield* saidByControl(control.sleep(actorId))
        return {}
      }),
      reschedule: Effect.fnUntraced(function* ({ params, query }) {
        yield* inNamespace(query)
        const { actorId } = yield* mine(params.actor_id)
        yield* saidByControl(control.reschedule(actorId))
        return {}
      }),
      value: Effect.fnUntraced(function* ({ params, query }) {
        yield* inNamespace(query)
        if (!base64.test(params.key)) return yield* fail("api.bad_request", "the key is not base64")
        const { actorId } = yield* mine(params.actor_id)
        // A store that fails is a fault of ours, and told as one.
        const response = yield* Effect.orDie(
          kv.ask(actorId, { _tag: "Get", keys: [Buffer.from(params.key, "base64")] })
        )
        switch (response._tag) {
          case "Got": {
            const [value] = response.values
            const [metadata] = response.metadata
            if (value === undefined || metadata === undefined) {
              return yield* fail("actor.kv_key_not_found", "the actor keeps nothing under this key")
            }
            return { value, update_ts: Number(metadata.updatedAtMs) }
          }
          case "Failed":
            return yield* fail("api.bad_request", response.message)
          case "Listed":
          case "Stored":
          case "Deleted":
          case "Dropped":
            return yield* Effect.die(`a get was answered ${response._tag}`)
        }
        return absurd(response)
      })
    })
  })
)

const runners = HttpApiBuilder.group(
  Api,
  "runners",
  Effect.fnUntraced(function* (handlers) {
    const control = yield* ActorControl
    const mine = Effect.flatMap(control.runners, (views) => coveredOf(views, ({ name }) => name))
    return handlers.handleAll({
      list: Effect.fnUntraced(function* ({ query }) {
        yield* inNamespace(query)
        const ids = idsOf(query.runner_ids)
        const wanted = (yield* mine).filter(
          ({ name, stoppedAtMs }) =>
            (query.name === undefined || name === query.name) &&
            (stoppedAtMs === null || query.include_stopped === true)
        )
        const all = wanted.map(asRunner).filter(({ runner_id }) => ids.length === 0 || ids.includes(runner_id))
        const { entries, pagination } = pageOf(all, ({ runner_id }) => runner_id, query)
        return { runners: entries, pagination }
      }),
      names: Effect.fnUntraced(function* ({ query }) {
        yield* inNamespace(query)
        const names = new Set((yield* mine).filter(({ stoppedAtMs }) => stoppedAtMs === null).map(({ name }) => name))
        const { entries, pagination } = pageOf(names, (name) => name, query)
        return { names: entries, pagination }
      })
    })
  })
)

const normal = { datacenters: { [here]: { normal: {} } } }

const configs = HttpApiBuilder.group(
  Api,
  "runnerConfigs",
  Effect.fnUntraced(function* (handlers) {
    const kept = yield* RunnerConfigs
    return handlers.handleAll({
      list: Effect.fnUntraced(function* ({ query }) {
        yield* inNamespace(query)
        const mine = yield* coveredOf([...(yield* kept.names)], (name) => name)
        const { entries, pagination } = pageOf(mine, (name) => name, query)
        return { runner_configs: Object.fromEntries(entries.map((name) => [name, normal])), pagination }
      }),
      put: Effect.fnUntraced(function* ({ params, payload, query }) {
        yield* inNamespace(query)
        const proposed = payload.datacenters.default
        if (proposed.serverless !== undefined) {
          const message =
            "serverless runners are not supported: runners connect by themselves, and their pool is normal"
          return yield* fail("runner_config.invalid", message)
        }
        if (proposed.normal === undefined) {
          return yield* fail("runner_config.invalid", "a runner configuration says what it is: normal")
        }
        yield* covered(params.name)
        yield* kept.put(params.name)
        return { endpoint_config_changed: false }
      }),
      remove: Effect.fnUntraced(function* ({ params, query }) {
        yield* inNamespace(query)
        yield* covered(params.name)
        yield* kept.remove(params.name)
        return {}
      })
    })
  })
)

const places = HttpApiBuilder.group(Api, "places", (handlers) =>
  handlers.handleAll({
    namespaces: ({ query }) => {
      const all = query.name === undefined || query.name === here ? [namespace] : []
      const { entries, pagination } = pageOf(all, ({ namespace_id }) => namespace_id, query)
      return Effect.succeed({ namespaces: entries, pagination })
    },
    createNamespace: ({ payload }) => {
      const why = payload.name === here ? "exists already" : `cannot be created: the only namespace is ${here}`
      return fail("namespace.cannot_create", `the namespace ${payload.name} ${why}`)
    },
    datacenters: () => Effect.succeed({ datacenters: [{ label: RivetId.defaultLabel, name: here }], pagination: {} })
  })
)

const presence = (version: string) =>
  HttpApiBuilder.group(Api, "presence", (handlers) =>
    handlers.handle("metadata", () => Effect.succeed({ runtime: "wayleave", version }))
  )

/** All groups. `version` is this server's. */
export const layer = (version: string) => Layer.mergeAll(actors, runners, configs, places, presence(version))
