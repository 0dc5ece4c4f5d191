/** The actor API without a port, on a small control plane in memory that remembers what it was told. */
import { assert } from "@effect/vitest"
import { Clock, Context, Effect, Layer, Redacted } from "effect"
import { HttpServerRequest, HttpServerResponse } from "effect/http"
import {
  ActorControl,
  ActorError,
  type ActorRequest,
  type ActorView,
  type RunnerView
} from "../../../src/actor/ActorControl.ts"
import { type ActorKv, layerMemory } from "../../../src/actor/ActorKv.ts"
import * as RivetId from "../../../src/actor/RivetId.ts"
import * as ActorsApi from "../../../src/admin/ActorsApi.ts"
import * as Authenticator from "../../../src/auth/Authenticator.ts"
import { layerNoop, type StreamObserver } from "../../../src/gateway/StreamObserver.ts"
import { SessionId } from "../../../src/tunnel/Envelope.ts"

export const sessionOf = (letter: string) => SessionId.make(letter.repeat(32))

/** A runner as the control plane knows it. */
export const runner = (name: string, letter: string, more: Partial<RunnerView> = {}): RunnerView => ({
  name,
  key: `key-${letter}`,
  version: 3,
  totalSlots: 10,
  protocolVersion: 7,
  actorNames: new Map(),
  metadata: null,
  session: sessionOf(letter),
  remainingSlots: 9,
  createdAtMs: 1_000,
  lastSeenAtMs: 2_000,
  connected: true,
  drainingSinceMs: null,
  stoppedAtMs: null,
  ...more
})

const notFound = (actorId: string) => new ActorError({ reason: "actor.not_found", message: `no actor ${actorId}` })
const unused = () => Effect.die("not asked by the API")

/** What the twin knows, for tests to put in and to look at. */
export class Twin extends Context.Service<
  Twin,
  { readonly runners: Array<RunnerView>; readonly names: Map<string, string>; readonly told: Array<string> }
>()("test/Twin") {}

const twin = Layer.sync(Twin, () => ({ runners: [], names: new Map<string, string>(), told: [] }))

/** A control plane that creates and forgets, and never starts anything. */
export const control = Layer.effect(
  ActorControl,
  Effect.gen(function* () {
    const { names, runners, told } = yield* Twin
    const actors = new Map<string, ActorView>()
    const living = (name: string, key: string | null) =>
      [...actors.values()].find((one) => one.name === name && one.key === key && one.destroyedAtMs === null)
    const make = (request: ActorRequest) =>
      Effect.map(Clock.currentTimeMillis, (now): ActorView => {
        const { crashPolicy, key, name, runnerName } = request
        const actorId = RivetId.make(crypto.getRandomValues(new Uint8Array(16)))
        const view: ActorView = {
          actorId,
          name,
          key,
          runnerName,
          crashPolicy,
          createdAtMs: now,
          startedAtMs: null,
          connectableAtMs: null,
          sleptAtMs: null,
          pendingAllocationAtMs: now,
          rescheduleAtMs: null,
          destroyedAtMs: null
        }
        actors.set(actorId, view)
        told.push(`create ${name} with ${Buffer.from(request.input ?? []).toString("hex")}`)
        return view
      })
    const get = (actorId: string) => {
      const view = actors.get(actorId)
      return view === undefined ? Effect.fail(notFound(actorId)) : Effect.succeed(view)
    }
    const touch = (what: string, change: (view: ActorView, now: number) => ActorView) => (actorId: string) =>
      Effect.gen(function* () {
        const view = yield* get(actorId)
        if (view.destroyedAtMs !== null) return yield* notFound(actorId)
        actors.set(actorId, change(view, yield* Clock.currentTimeMillis))
        told.push(`${what} ${actorId}`)
      })
    return ActorControl.of({
      identify: unused,
      attach: unused,
      heard: unused,
      acknowledged: unused,
      draining: unused,
      lost: unused,
      suspect: unused,
      place: unused,
      autostart: unused,
      hostsUnsafe: () => null,
      generationUnsafe: () => undefined,
      aliveUnsafe: () => {},
      create: (request) =>
        request.key !== null && living(request.name, request.key) !== undefined
          ? Effect.fail(new ActorError({ reason: "actor.duplicate_key", message: "that key is taken" }))
          : make(request),
      getOrCreate: (request) => {
        const actor = living(request.name, request.key)
        return actor === undefined
          ? Effect.map(make(request), (made) => ({ actor: made, created: true }))
          : Effect.succeed({ actor, created: false })
      },
      find: (name, key) => {
        const actor = living(name, key)
        return actor === undefined ? Effect.fail(notFound(`${name}/${key}`)) : Effect.succeed(actor)
      },
      get,
      list: ({ cursor, includeDestroyed, limit, name }) =>
        Effect.sync(() => {
          const ids = [...actors.keys()]
          return ids
            .slice(cursor === undefined ? 0 : ids.indexOf(cursor) + 1)
            .map((id) => actors.get(id) as ActorView)
            .filter((one) => name === undefined || one.name === name)
            .filter((one) => includeDestroyed === true || one.destroyedAtMs === null)
            .slice(0, limit)
        }),
      names: Effect.sync(() => names),
      destroy: touch("destroy", (view, now) => ({ ...view, destroyedAtMs: now })),
      sleep: touch("sleep", (view, now) => ({ ...view, sleptAtMs: now })),
      reschedule: touch("reschedule", (view, now) => ({ ...view, rescheduleAtMs: now })),
      runners: Effect.sync(() => runners)
    })
  })
).pipe(Layer.provideMerge(twin))

const granted = (token: string, ...names: ReadonlyArray<string>) => ({ token: Redacted.make(token), names })

/** One token for everything, one for runners that begin with `web`. */
export const tokens = Authenticator.layerTokens([granted("all-of-it", "*"), granted("only-web", "web*")])

/** An answer, with its body read as JSON. */
export interface Answered {
  readonly status: number
  readonly headers: Headers
  readonly body: unknown
}

/** Asks the API. */
export class Asking extends Context.Service<
  Asking,
  {
    readonly ask: (
      method: string,
      path: string,
      body?: unknown,
      headers?: Record<string, string>
    ) => Effect.Effect<Answered>
  }
>()("test/Asking") {}

/** What a fetch would send. */
export const requestOf = (method: string, path: string, body: unknown, headers: Record<string, string>): Request =>
  new Request(`http://localhost:6420${path}`, {
    method,
    headers: {
      host: "localhost:6420",
      ...(body === undefined ? {} : { "content-type": "application/json" }),
      ...headers
    },
    ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) })
  })

const askingWith = (options: Omit<ActorsApi.ActorsApiOptions, "version">) =>
  Layer.effect(
    Asking,
    Effect.map(ActorsApi.make({ version: "1.2.3", ...options }), (api) => ({
      ask: (method, path, body, headers = {}) =>
        Effect.gen(function* () {
          const request = HttpServerRequest.fromWeb(requestOf(method, path, body, headers))
          const response = HttpServerResponse.toWeb(
            yield* api.pipe(
              Effect.provideService(HttpServerRequest.HttpServerRequest, request),
              Effect.scoped,
              Effect.orDie
            )
          )
          const text = yield* Effect.promise(() => response.text())
          assert.match(response.headers.get("content-type") ?? "", /^application\/json/, text)
          assert.isDefined(RivetId.parse(response.headers.get(ActorsApi.rayHeader) ?? ""))
          return { status: response.status, headers: response.headers, body: JSON.parse(text) }
        })
    }))
  )
const asking = askingWith({})

/** What a test may swap beside the control plane. */
export interface ApiOptions extends Omit<ActorsApi.ActorsApiOptions, "version"> {
  readonly observer?: Layer.Layer<StreamObserver>
}

/** The API on a control plane of which a test gives just the parts that it asks for. */
export const apiOn = (
  parts: Pick<ActorControl["Service"], "names" | "runners">,
  { observer = layerNoop, ...options }: ApiOptions = {}
): Layer.Layer<Asking> => {
  const partial = { ...parts, hostsUnsafe: () => null, generationUnsafe: () => undefined, aliveUnsafe: () => {} }
  return askingWith(options).pipe(
    Layer.provide([Layer.mock(ActorControl)(partial), layerMemory, Authenticator.layerOpen, observer])
  )
}

/** The API with everything behind it, for whoever this authenticator lets in. */
export const apiFor = (
  authenticator: Layer.Layer<Authenticator.Authenticator>
): Layer.Layer<Asking | Twin | ActorControl | ActorKv> =>
  asking.pipe(Layer.provideMerge([control, layerMemory]), Layer.provide([authenticator, layerNoop]))

export const ask = (method: string, path: string, body?: unknown, headers?: Record<string, string>) =>
  Asking.use((api) => api.ask(method, path, body, headers))

/** An answer of 200, and its body. */
export const ok = <A = Record<string, unknown>>(
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>
) =>
  Effect.map(ask(method, path, body, headers), (answer) => {
    assert.strictEqual(answer.status, 200, JSON.stringify(answer.body))
    return answer.body as A
  })

/** A refusal: its status and `group.code`; the body has no more than the form allows. Returns the message. */
export const refused = (
  status: number,
  code: string,
  ...call: readonly [method: string, path: string, body?: unknown, headers?: Record<string, string>]
) =>
  Effect.map(ask(...call), (answer) => {
    const said = answer.body as { group: string; code: string; message: string; metadata?: unknown }
    assert.deepStrictEqual([answer.status, `${said.group}.${said.code}`], [status, code], JSON.stringify(said))
    assert.isAbove(said.message.length, 5)
    assert.includeMembers(["group", "code", "message", "metadata"], Object.keys(said))
    return said.message
  })
