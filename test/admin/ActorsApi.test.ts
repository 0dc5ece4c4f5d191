import { createServer, type IncomingHttpHeaders, request } from "node:http"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { HttpApiClient } from "effect/http-api"
import { TestClock } from "effect/testing"
import { layerMemory } from "../../src/actor/ActorKv.ts"
import * as RivetId from "../../src/actor/RivetId.ts"
import * as ActorsApi from "../../src/admin/ActorsApi.ts"
import { Api } from "../../src/admin/actors/Contract.ts"
import * as Authenticator from "../../src/auth/Authenticator.ts"
import { layerNoop } from "../..//src/gateway/StreamObserver.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { listen } from "../socket/Loopback.ts"
import { apiOn, ask, control, ok, refused } from "./actors/ApiHarness.ts"

it("takes the paths of the API, and not the one where runners arrive", () => {
  const taken = [
    "/actors",
    "/actors/names",
    "/actors/x/kv/keys/y",
    "/runners",
    "/runners/names",
    "/runner-configs/x",
    "/namespaces",
    "/datacenters",
    "/metadata"
  ]
  for (const path of taken) assert.isTrue(ActorsApi.takes(path), path)
  for (const path of [
    "",
    "/",
    "/actor",
    "/actorsx",
    "/x/actors",
    "/runners/connect",
    "/runners/connect/",
    "/gateway/x"
  ]) {
    assert.isFalse(ActorsApi.takes(path), path)
  }
})

const names = "/actors/names?namespace=default"

it.effect("answers at most apiInFlightMax requests at once, and the next as soon as one is done", () =>
  Effect.gen(function* () {
    const gate = yield* Deferred.make<ReadonlyMap<string, string>>()
    yield* Effect.gen(function* () {
      const open = yield* Effect.forEach(Array.from({ length: limits.apiInFlightMax }), () =>
        Effect.forkChild(ask("GET", names))
      )
      yield* Effect.replicateEffect(Effect.yieldNow, 50)
      yield* refused(503, "guard.overloaded", "GET", "/metadata")
      yield* Fiber.interrupt(open[0] as Fiber.Fiber<unknown>)
      yield* ok("GET", "/metadata")
      yield* Deferred.succeed(gate, new Map())
      for (const fiber of open.slice(1)) assert.strictEqual((yield* Fiber.join(fiber)).status, 200)
      yield* ok("GET", names)
    }).pipe(Effect.provide(apiOn({ names: Deferred.await(gate), runners: Effect.succeed([]) })))
  })
)

it.effect("gives a request apiRequestMs, and frees its place then", () =>
  Effect.gen(function* () {
    const slow = yield* Effect.forkChild(refused(504, "guard.request_timeout", "GET", names))
    yield* Effect.replicateEffect(Effect.yieldNow, 50)
    yield* TestClock.adjust(limits.apiRequestMs - 1)
    assert.isUndefined(slow.pollUnsafe())
    yield* TestClock.adjust(1)
    yield* Fiber.join(slow)
    yield* ok("GET", "/metadata")
  }).pipe(Effect.provide(apiOn({ names: Effect.never, runners: Effect.succeed([]) })))
)

/** The API on a port of its own, as `server/` mounts it. */
const served = Effect.gen(function* () {
  const api = yield* ActorsApi.make({ version: "1.2.3" })
  const handler = yield* NodeHttpServer.makeHandler(api, { scope: yield* Effect.scope })
  const server = createServer(handler)
  return yield* listen(server)
}).pipe(Effect.provide(Layer.mergeAll(control, layerMemory, Authenticator.layerOpen, layerNoop)))

interface Sent {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
}

/** One request whose body is sent as it is, in chunks unless its length is told. */
const send = (port: number, path: string, body: ReadonlyArray<string>, headers: Record<string, string | number>) =>
  Effect.callback<Sent, Error>((resume) => {
    const options = { host: "127.0.0.1", port, path, method: "POST", headers, agent: false }
    const outgoing = request(options, (response) => {
      const { headers, statusCode = 0 } = response
      let text = ""
      response.setEncoding("utf8").on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resume(Effect.succeed({ status: statusCode, headers, body: text })))
    })
    // A server that refuses what is still being sent may close before all of it is gone.
    outgoing.on("error", (error) => resume(Effect.fail(error)))
    for (const chunk of body) outgoing.write(chunk)
    outgoing.end()
    return Effect.sync(() => void outgoing.destroy())
  })

const json = { "content-type": "application/json" }
const create = "/actors?namespace=default"
const actor = { name: "counter", runner_name_selector: "web", crash_policy: "sleep" }
/** A body of that many bytes which the API accepts. */
const bodyOf = (bytes: number) => {
  const bare = JSON.stringify({ ...actor, input: "" }).length
  return JSON.stringify({ ...actor, input: "A".repeat(bytes - bare - ((bytes - bare) % 4)) }).padEnd(bytes, " ")
}

it.live("on a port, takes bodies up to apiBodyBytesMax and no byte more, whether their length is told or not", () =>
  Effect.gen(function* () {
    const port = yield* served
    const most = bodyOf(limits.apiBodyBytesMax)
    const more = bodyOf(limits.apiBodyBytesMax + 1)
    for (const [body, status] of [
      [most, 200],
      [more, 413]
    ] as const) {
      for (const headers of [json, { ...json, "content-length": body.length }]) {
        const answer = yield* send(port, create, [body], headers)
        assert.strictEqual(answer.status, status, answer.body)
        assert.isDefined(RivetId.parse(String(answer.headers["x-rivet-ray-id"])))
        assert.strictEqual(answer.headers["content-type"], "application/json")
        if (status === 413)
          assert.deepInclude(JSON.parse(answer.body), { group: "guard", code: "invalid_request_body" })
      }
    }
  })
)

it.live("on a port, refuses bodies of another type in form, and takes none for JSON without one", () =>
  Effect.gen(function* () {
    const port = yield* served
    const body = [JSON.stringify(actor)]
    const wrong = yield* send(port, create, body, { "content-type": "application/x-www-form-urlencoded" })
    assert.strictEqual(wrong.status, 415)
    assert.deepInclude(JSON.parse(wrong.body), { group: "api", code: "unsupported_media_type" })
    assert.strictEqual((yield* send(port, create, body, {})).status, 200)
    assert.strictEqual(
      (yield* send(port, create, body, { "content-type": "application/json; charset=utf-8" })).status,
      200
    )
  })
)

it.live("an Effect program asks by the same schema", () =>
  Effect.gen(function* () {
    const port = yield* served
    const api = yield* HttpApiClient.make(Api, { baseUrl: `http://127.0.0.1:${port}` })
    const query = { namespace: "default" }
    const input = Uint8Array.from([1, 2, 3])
    const { actor } = yield* api.actors.create({
      query,
      payload: { name: "counter", runner_name_selector: "web", crash_policy: "restart", input }
    })
    const { actors } = yield* api.actors.list({ query: { ...query, actor_ids: [actor.actor_id] } })
    assert.deepStrictEqual(actors, [actor])
    yield* api.actors.destroy({ params: { actor_id: actor.actor_id }, query })
    const error = yield* Effect.flip(api.actors.destroy({ params: { actor_id: actor.actor_id }, query }))
    assert.deepInclude(error, { group: "actor", code: "not_found" })
  }).pipe(Effect.provide(NodeHttpClient.layerUndici))
)
