import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { ActorControl } from "../../../src/actor/ActorControl.ts"
import { ActorKv } from "../../../src/actor/ActorKv.ts"
import { isAddressedHere } from "../../../src/admin/actors/Access.ts"
import { type Asking, apiFor, apiOn, ask, ok, refused, runner, Twin, tokens } from "./ApiHarness.ts"

const test = (title: string, body: Effect.Effect<void, unknown, Asking | Twin | ActorControl | ActorKv>) =>
  it.effect(title, () => Effect.provide(body, apiFor(tokens)))

const ns = "namespace=default"
const all = { authorization: "Bearer all-of-it" }
const web = { "x-rivet-token": "only-web" }
const normal = { datacenters: { default: { normal: {} } } }
const body = (runner_name_selector: string, more: object = {}) => ({
  name: "counter",
  runner_name_selector,
  crash_policy: "sleep",
  ...more
})

const calls = [
  ["POST", `/actors?${ns}`, body("web")],
  ["PUT", `/actors?${ns}`, body("web", { key: "k" })],
  ["GET", `/actors?${ns}&name=counter`],
  ["GET", `/actors/names?${ns}`],
  ["DELETE", `/actors/x?${ns}`],
  ["POST", `/actors/x/sleep?${ns}`, {}],
  ["POST", `/actors/x/reschedule?${ns}`, {}],
  ["GET", `/actors/x/kv/keys/AA==?${ns}`],
  ["GET", `/runners?${ns}`],
  ["GET", `/runners/names?${ns}`],
  ["GET", `/runner-configs?${ns}`],
  ["PUT", `/runner-configs/web?${ns}`, normal],
  ["DELETE", `/runner-configs/web?${ns}`],
  ["GET", "/namespaces"],
  ["POST", "/namespaces", { name: "x", display_name: "X" }],
  ["GET", "/datacenters"]
] as const

describe("where the server has tokens", () => {
  test(
    "every call but /metadata asks for one, before anything else is judged",
    Effect.gen(function* () {
      for (const [method, path, payload] of calls) {
        assert.include(yield* refused(401, "api.unauthorized", method, path, payload), "x-rivet-token")
        for (const headers of [
          { "x-rivet-token": "no-such-token" },
          { authorization: "Bearer no-such-token" },
          { authorization: "Basic YWxsLW9mLWl0" },
          { authorization: "all-of-it" },
          { "x-rivet-token": "" }
        ]) {
          yield* refused(401, "api.unauthorized", method, path, payload, headers)
        }
        if (payload !== undefined) yield* refused(401, "api.unauthorized", method, path, "{ not json")
      }
      yield* ok("GET", "/metadata")
      assert.deepStrictEqual((yield* Twin).told, [])
    })
  )
  test(
    "either header will do, and a good one is not spoilt by a bad one",
    Effect.gen(function* () {
      for (const headers of [
        { "x-rivet-token": "all-of-it" },
        { authorization: "Bearer all-of-it" },
        { authorization: "bearer all-of-it" },
        { "x-rivet-token": "stale", authorization: "Bearer all-of-it" },
        { "x-rivet-token": "all-of-it", authorization: "Basic eA==" }
      ]) {
        yield* ok("GET", "/datacenters", undefined, headers)
      }
    })
  )
})

describe("a token that covers some runners", () => {
  test(
    "creates actors on these and on no others",
    Effect.gen(function* () {
      yield* ok("POST", `/actors?${ns}`, body("web-2"), web)
      yield* refused(403, "api.forbidden", "POST", `/actors?${ns}`, body("api"), web)
      yield* refused(403, "api.forbidden", "PUT", `/actors?${ns}`, body("api", { key: "k" }), web)
      yield* ok("POST", `/actors?${ns}`, body("api"), all)
      assert.strictEqual((yield* Twin).told.length, 2)
    })
  )
  test(
    "does not get another's actor by asking for its own under the same key",
    Effect.gen(function* () {
      yield* ok("PUT", `/actors?${ns}`, body("api", { key: "k" }), all)
      yield* refused(403, "api.forbidden", "PUT", `/actors?${ns}`, body("web", { key: "k" }), web)
    })
  )
  test(
    "sees and touches the actors of its own runners only",
    Effect.gen(function* () {
      const control = yield* ActorControl
      const kv = yield* ActorKv
      const made = (runnerName: string) =>
        control.create({ name: "counter", key: runnerName, runnerName, crashPolicy: "sleep", input: null })
      const [mine, other] = [(yield* made("web")).actorId, (yield* made("api")).actorId]
      for (const id of [mine, other]) {
        yield* kv.ask(id, { _tag: "Put", keys: [new Uint8Array(1)], values: [new Uint8Array(1)] })
      }
      const listed = (query: string, headers: Record<string, string>) =>
        Effect.map(
          ok<{ actors: ReadonlyArray<{ actor_id: string }> }>("GET", `/actors?${ns}&${query}`, undefined, headers),
          ({ actors }) => actors.map(({ actor_id }) => actor_id)
        )
      for (const query of ["name=counter", `actor_ids=${mine},${other}`]) {
        assert.deepStrictEqual(yield* listed(query, web), [mine])
        assert.deepStrictEqual(yield* listed(query, all), [mine, other])
      }
      assert.deepStrictEqual(yield* listed("name=counter&key=api", web), [])

      const touching = [
        ["GET", "/kv/keys/AA=="],
        ["POST", "/sleep"],
        ["POST", "/reschedule"],
        ["DELETE", ""]
      ] as const
      for (const [method, rest] of touching) {
        yield* refused(403, "api.forbidden", method, `/actors/${other}${rest}?${ns}`, undefined, web)
        yield* ok(method, `/actors/${mine}${rest}?${ns}`, undefined, web)
      }
      assert.isFalse((yield* Twin).told.some((line) => line.endsWith(other)))
      yield* ok("DELETE", `/actors/${other}?${ns}`, undefined, all)
    })
  )
  test(
    "sees the names, runners and configurations that are its own",
    Effect.gen(function* () {
      const { names, runners } = yield* Twin
      runners.push(
        runner("web", "a", { actorNames: new Map([["counter", "{}"]]) }),
        runner("api", "b", { actorNames: new Map([["ledger", "{}"]]) })
      )
      for (const name of ["counter", "ledger", "forgotten"]) names.set(name, "{}")
      for (const name of ["web", "api"]) yield* ok("PUT", `/runner-configs/${name}?${ns}`, normal, all)
      yield* refused(403, "api.forbidden", "PUT", `/runner-configs/api?${ns}`, normal, web)
      yield* refused(403, "api.forbidden", "DELETE", `/runner-configs/api?${ns}`, undefined, web)

      const seen = Effect.fnUntraced(function* (headers: Record<string, string>) {
        const get = (path: string) => ok("GET", `${path}?${ns}`, undefined, headers)
        const { runners: shown } = (yield* get("/runners")) as { runners: ReadonlyArray<{ name: string }> }
        return {
          actors: Object.keys((yield* get("/actors/names")).names as object),
          runners: shown.map(({ name }) => name).sort(),
          names: (yield* get("/runners/names")).names,
          configs: Object.keys((yield* get("/runner-configs")).runner_configs as object)
        }
      })
      assert.deepStrictEqual(yield* seen(web), {
        actors: ["counter"],
        runners: ["web"],
        names: ["web"],
        configs: ["web"]
      })
      assert.deepStrictEqual(yield* seen(all), {
        actors: ["counter", "forgotten", "ledger"],
        runners: ["api", "web"],
        names: ["api", "web"],
        configs: ["api", "web"]
      })
    })
  )
})

test(
  "a page of another origin may look, but changes nothing",
  Effect.gen(function* () {
    const from = (origin: string) => ({ ...all, origin })
    for (const origin of ["http://evil.example", "http://web.localhost:6420", "http://localhost:9999", "null"]) {
      yield* refused(403, "api.forbidden", "POST", `/actors?${ns}`, body("web"), from(origin))
      yield* refused(403, "api.forbidden", "DELETE", `/runner-configs/web?${ns}`, undefined, from(origin))
      assert.strictEqual((yield* ask("GET", "/datacenters", undefined, from(origin))).status, 200)
    }
    yield* ok("POST", `/actors?${ns}`, body("web"), from("http://localhost:6420"))
  })
)

describe("where there are no tokens", () => {
  const open = (...hosts: ReadonlyArray<string>) =>
    apiOn({ names: Effect.never, runners: Effect.succeed([]) }, { hosts })
  const answered = (host: string) =>
    Effect.map(ask("GET", "/runners?namespace=default", undefined, { host }), ({ status }) => status)

  it.effect("the API answers for this machine and for the server's own domain", () =>
    Effect.gen(function* () {
      const own = ["localhost:6420", "LOCALHOST", "127.0.0.1:6420", "127.8.0.1", "[::1]:6420", "Tunnel.example:6420"]
      for (const host of own) assert.strictEqual(yield* answered(host), 200, host)
    }).pipe(Effect.provide(open("tunnel.example")))
  )

  it.effect("it answers for no other name, which may be a page's that was made to lead here", () =>
    Effect.gen(function* () {
      const others = [
        "evil.example",
        "evil.example:6420",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        ""
      ]
      for (const host of others) assert.strictEqual(yield* answered(host), 403, host)
      const { body } = yield* ask("GET", "/metadata", undefined, { host: "evil.example" })
      assert.deepInclude(body, { group: "api", code: "forbidden" })
      assert.match(String((body as { message: string }).message), /without tokens .* localhost.*--token-file/)
      assert.isFalse(isAddressedHere(undefined, ["tunnel.example"]))
    }).pipe(Effect.provide(open("tunnel.example")))
  )

  it.effect("it answers for every name where it is told of none: there are tokens", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* answered("tunnel.example"), 200)
    }).pipe(Effect.provide(apiOn({ names: Effect.never, runners: Effect.succeed([]) })))
  )
})
