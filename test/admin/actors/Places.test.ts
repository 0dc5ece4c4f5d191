import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as RivetId from "../../../src/actor/RivetId.ts"
import * as Authenticator from "../../../src/auth/Authenticator.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { type Asking, apiFor, ok, refused, runner, sessionOf, Twin } from "./ApiHarness.ts"

const test = (title: string, body: Effect.Effect<void, unknown, Asking | Twin>) =>
  it.effect(title, () => Effect.provide(body, apiFor(Authenticator.layerOpen)))

const ns = "namespace=default"
const namespaceId = RivetId.make(new Uint8Array(16))

interface Listed {
  readonly runners: ReadonlyArray<{ readonly runner_id: string; readonly [field: string]: unknown }>
  readonly pagination: { readonly cursor?: string }
}
const list = (query = "") => ok<Listed>("GET", `/runners?${ns}${query}`)
const names = (listed: Listed) => listed.runners.map(({ key }) => key)
const idOf = (letter: string) => RivetId.ofSession(sessionOf(letter))

describe("GET /runners", () => {
  test(
    "shows runners as Rivet does, by the id of their session",
    Effect.gen(function* () {
      const { runners } = yield* Twin
      runners.push(runner("web", "a", { metadata: '{"os":"linux"}' }))
      assert.deepStrictEqual(yield* list(), {
        runners: [
          {
            runner_id: idOf("a"),
            namespace_id: namespaceId,
            datacenter: "default",
            name: "web",
            key: "key-a",
            version: 3,
            total_slots: 10,
            remaining_slots: 9,
            create_ts: 1_000,
            last_ping_ts: 2_000,
            last_rtt: 0,
            last_connected_ts: 2_000,
            drain_ts: null,
            stop_ts: null,
            metadata: { os: "linux" }
          }
        ],
        pagination: {}
      })
      runners[0] = runner("web", "a", { connected: false, drainingSinceMs: 7, stoppedAtMs: 8, metadata: "{" })
      const [shown] = (yield* list("&include_stopped=true")).runners
      assert.deepInclude(shown, { last_connected_ts: null, drain_ts: 7, stop_ts: 8, metadata: null })
    })
  )
  test(
    "tells them apart by name, by id, and by whether they run",
    Effect.gen(function* () {
      const { runners } = yield* Twin
      runners.push(runner("web", "a"), runner("api", "b"), runner("web", "c", { stoppedAtMs: 9 }))
      const sorted = (letters: string) =>
        [...letters].sort((one, other) => (idOf(one) < idOf(other) ? -1 : 1)).map((letter) => `key-${letter}`)
      assert.deepStrictEqual(names(yield* list()), sorted("ab"))
      assert.deepStrictEqual(names(yield* list("&include_stopped=true")), sorted("abc"))
      assert.deepStrictEqual(names(yield* list("&name=web")), ["key-a"])
      assert.deepStrictEqual(names(yield* list("&name=nobody")), [])
      assert.deepStrictEqual(names(yield* list(`&runner_ids=${idOf("b")}`)), ["key-b"])
      assert.deepStrictEqual(names(yield* list(`&runner_ids=${idOf("b")},${idOf("a")}`)), sorted("ab"))
      assert.deepStrictEqual(names(yield* list(`&runner_ids=${idOf("b")}&runner_ids=${idOf("c")}`)), ["key-b"])
    })
  )
  test(
    "goes page by page, also past a runner that left in between",
    Effect.gen(function* () {
      const { runners } = yield* Twin
      const letters = [..."abcdef"]
      runners.push(...letters.map((letter) => runner("web", letter)))
      const first = yield* list("&limit=4")
      assert.strictEqual(first.runners.length, 4)
      const { cursor } = first.pagination
      assert.strictEqual(cursor, first.runners[3]?.runner_id)
      runners.splice(
        runners.findIndex(({ session }) => RivetId.ofSession(session) === cursor),
        1
      )
      const second = yield* list(`&limit=4&cursor=${cursor}`)
      assert.deepStrictEqual([second.runners.length, second.pagination], [2, {}])
      assert.sameMembers(
        [...names(first), ...names(second)],
        letters.map((letter) => `key-${letter}`)
      )
    })
  )
  test(
    "is of a namespace, and a limit is a number",
    Effect.gen(function* () {
      yield* refused(400, "namespace.not_found", "GET", "/runners?namespace=x")
      yield* refused(400, "api.bad_request", "GET", "/runners")
      yield* refused(400, "api.bad_request", "GET", `/runners?${ns}&limit=many`)
    })
  )
})

test(
  "GET /runners/names has each name once",
  Effect.gen(function* () {
    const { runners } = yield* Twin
    runners.push(runner("web", "a"), runner("api", "b"), runner("web", "c"), runner("old", "d", { stoppedAtMs: 1 }))
    assert.deepStrictEqual(yield* ok("GET", `/runners/names?${ns}`), { names: ["api", "web"], pagination: {} })
    assert.deepStrictEqual(yield* ok("GET", `/runners/names?${ns}&limit=1`), {
      names: ["api"],
      pagination: { cursor: "api" }
    })
    yield* refused(400, "namespace.not_found", "GET", "/runners/names?namespace=x")
  })
)

const normal = { datacenters: { default: { normal: {} } } }

describe("runner configurations", () => {
  test(
    "are put, listed and removed",
    Effect.gen(function* () {
      const put = (name: string) => ok("PUT", `/runner-configs/${name}?${ns}`, normal)
      assert.deepStrictEqual(yield* put("web"), { endpoint_config_changed: false })
      yield* put("web")
      yield* put("api%2Fv1")
      const both = { "api/v1": normal, web: normal }
      assert.deepStrictEqual(yield* ok("GET", `/runner-configs?${ns}`), { runner_configs: both, pagination: {} })
      assert.deepStrictEqual(yield* ok("GET", `/runner-configs?${ns}&limit=1`), {
        runner_configs: { "api/v1": normal },
        pagination: { cursor: "api/v1" }
      })
      assert.deepStrictEqual(yield* ok("DELETE", `/runner-configs/web?${ns}`), {})
      assert.deepStrictEqual(yield* ok("DELETE", `/runner-configs/web?${ns}`), {})
      assert.deepStrictEqual(yield* ok("GET", `/runner-configs?${ns}`), {
        runner_configs: { "api/v1": normal },
        pagination: {}
      })
    })
  )
  test(
    "are normal: a serverless one is refused by name",
    Effect.gen(function* () {
      const path = `/runner-configs/web?${ns}`
      const serverless = { url: "http://app.example", headers: {}, request_lifespan: 60, slots_per_runner: 1 }
      assert.include(
        yield* refused(400, "runner_config.invalid", "PUT", path, { datacenters: { default: { serverless } } }),
        "serverless"
      )
      yield* refused(400, "runner_config.invalid", "PUT", path, {
        datacenters: { default: { normal: {}, serverless } }
      })
      yield* refused(400, "runner_config.invalid", "PUT", path, { datacenters: { default: {} } })
      const wrong = [
        {},
        { datacenters: {} },
        { datacenters: { default: { normal: {} }, mars: { normal: {} } } },
        { datacenters: { default: { normal: { slots: 1 } } } },
        { datacenters: { default: { normal: {} } }, more: 1 },
        { datacenters: { default: { normal: {}, more: 1 } } }
      ]
      for (const body of wrong) yield* refused(400, "api.bad_request", "PUT", path, body)
      yield* refused(400, "namespace.not_found", "PUT", "/runner-configs/web?namespace=x", normal)
      yield* refused(400, "namespace.not_found", "GET", "/runner-configs?namespace=x")
      yield* refused(400, "namespace.not_found", "DELETE", "/runner-configs/web?namespace=x")
      assert.deepStrictEqual(yield* ok("GET", `/runner-configs?${ns}`), { runner_configs: {}, pagination: {} })
    })
  )
  test(
    "are bounded in number, and one that is there may be put again",
    Effect.gen(function* () {
      const put = (at: number) => ["PUT", `/runner-configs/pool-${at}?${ns}`, normal] as const
      for (let at = 0; at < limits.runnerConfigsMax; at++) yield* ok(...put(at))
      yield* refused(503, "guard.overloaded", ...put(limits.runnerConfigsMax))
      yield* ok(...put(0))
      yield* ok("DELETE", `/runner-configs/pool-0?${ns}`)
      yield* ok(...put(limits.runnerConfigsMax))
    })
  )
})

describe("namespaces", () => {
  const theOne = { namespace_id: namespaceId, name: "default", display_name: "Default", create_ts: 0 }
  test(
    "there is one",
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* ok("GET", "/namespaces"), { namespaces: [theOne], pagination: {} })
      assert.deepStrictEqual(yield* ok("GET", "/namespaces?name=default&limit=1"), {
        namespaces: [theOne],
        pagination: {}
      })
      assert.deepStrictEqual(yield* ok("GET", "/namespaces?name=other"), { namespaces: [], pagination: {} })
    })
  )
  test(
    "no other can be made",
    Effect.gen(function* () {
      const post = (body: unknown) => ["POST", "/namespaces", body] as const
      const other = { name: "prod", display_name: "Production" }
      assert.include(yield* refused(400, "namespace.cannot_create", ...post(other)), "prod")
      assert.include(
        yield* refused(400, "namespace.cannot_create", ...post({ ...other, name: "default" })),
        "exists already"
      )
      yield* refused(400, "api.bad_request", ...post({ name: "prod" }))
      yield* refused(400, "api.bad_request", ...post({ ...other, more: 1 }))
    })
  )
})

test(
  "GET /datacenters has one entry",
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* ok("GET", "/datacenters"), {
      datacenters: [{ label: 1, name: "default" }],
      pagination: {}
    })
  })
)

test(
  "GET /metadata says that somebody is here",
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* ok("GET", "/metadata"), { runtime: "wayleave", version: "1.2.3" })
  })
)

test(
  "what the API does not know is not found, in form",
  Effect.gen(function* () {
    for (const [method, path] of [
      ["GET", "/"],
      ["GET", "/nothing/here"],
      ["PATCH", "/actors"],
      ["GET", "/actors/x"],
      ["DELETE", "/namespaces"],
      ["OPTIONS", "/actors"]
    ] as const) {
      yield* refused(404, "api.not_found", method, path)
    }
  })
)
