import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import type { ActorControl } from "../../../src/actor/ActorControl.ts"
import { ActorKv } from "../../../src/actor/ActorKv.ts"
import * as RivetId from "../../../src/actor/RivetId.ts"
import * as Authenticator from "../../../src/auth/Authenticator.ts"
import { type Asking, apiFor, ask, ok, refused, Twin } from "./ApiHarness.ts"

const test = (title: string, body: Effect.Effect<void, unknown, Asking | Twin | ActorControl | ActorKv>) =>
  it.effect(title, () => Effect.provide(body, apiFor(Authenticator.layerOpen)))

interface Shown {
  readonly actor_id: string
  readonly [field: string]: unknown
}
interface Listed {
  readonly actors: ReadonlyArray<Shown>
  readonly pagination: { readonly cursor?: string }
}

const ns = "namespace=default"
const counter = { name: "counter", runner_name_selector: "web", crash_policy: "sleep" }
const create = (body: object = counter) =>
  Effect.map(ok<{ actor: Shown }>("POST", `/actors?${ns}`, body), ({ actor }) => actor)
const list = (query: string) => ok<Listed>("GET", `/actors?${ns}&${query}`)
const idsOf = ({ actors }: Listed) => actors.map(({ actor_id }) => actor_id)

describe("POST /actors", () => {
  test(
    "creates an actor and shows it as Rivet does, waiting for a runner",
    Effect.gen(function* () {
      yield* TestClock.setTime(1_700_000_000_000)
      const actor = yield* create({ ...counter, key: "a/b", input: "AAEC/w==", datacenter: "default" })
      assert.isDefined(RivetId.parse(actor.actor_id))
      assert.deepStrictEqual(actor, {
        actor_id: actor.actor_id,
        name: "counter",
        key: "a/b",
        namespace_id: RivetId.make(new Uint8Array(16)),
        datacenter: "default",
        runner_name_selector: "web",
        crash_policy: "sleep",
        create_ts: 1_700_000_000_000,
        start_ts: null,
        connectable_ts: null,
        sleep_ts: null,
        pending_allocation_ts: 1_700_000_000_000,
        reschedule_ts: null,
        destroy_ts: null
      })
      assert.deepStrictEqual((yield* Twin).told, ["create counter with 000102ff"])
    })
  )
  test(
    "takes null for what is left out",
    Effect.gen(function* () {
      const actor = yield* create({ ...counter, key: null, input: null, datacenter: null })
      assert.strictEqual(actor.key, null)
    })
  )
  test(
    "refuses a second actor of that name and key",
    Effect.gen(function* () {
      yield* create({ ...counter, key: "k" })
      yield* refused(400, "actor.duplicate_key", "POST", `/actors?${ns}`, { ...counter, key: "k" })
      yield* create({ ...counter, key: "other" })
      yield* create()
      yield* create()
    })
  )
  test(
    "refuses what it does not know, and says where",
    Effect.gen(function* () {
      const wrong = (body: unknown) => refused(400, "api.bad_request", "POST", `/actors?${ns}`, body)
      assert.include(yield* wrong({ ...counter, colour: "red" }), "payload.colour")
      assert.include(yield* wrong({ ...counter, crash_policy: "explode" }), "payload.crash_policy")
      assert.include(yield* wrong({ name: "counter", runner_name_selector: "web" }), "payload.crash_policy")
      assert.include(yield* wrong({ ...counter, name: "" }), "payload.name")
      assert.include(yield* wrong({ ...counter, key: 7 }), "payload.key")
      assert.include(yield* wrong({ ...counter, input: "not base64!" }), "payload.input")
      for (const body of ["{", "", "[]", "null", '"text"']) yield* wrong(body)
      assert.deepStrictEqual((yield* Twin).told, [])
    })
  )
  test(
    "refuses another namespace, and another datacentre",
    Effect.gen(function* () {
      yield* refused(400, "namespace.not_found", "POST", "/actors?namespace=other", counter)
      assert.include(yield* refused(400, "api.bad_request", "POST", "/actors", counter), "query.namespace")
      yield* refused(400, "datacenter.not_found", "POST", `/actors?${ns}`, { ...counter, datacenter: "mars" })
      assert.deepStrictEqual((yield* Twin).told, [])
    })
  )
})

describe("PUT /actors", () => {
  test(
    "creates what is not there, finds what is, and says which",
    Effect.gen(function* () {
      const put = () =>
        ok<{ actor: Shown; created: boolean }>("PUT", `/actors?${ns}`, { ...counter, key: "k", input: "AA==" })
      const first = yield* put()
      const second = yield* put()
      assert.deepStrictEqual([first.created, second.created], [true, false])
      assert.strictEqual(first.actor.actor_id, second.actor.actor_id)
      assert.strictEqual((yield* Twin).told.length, 1)
    })
  )
  test(
    "wants a key, and refuses what create refuses",
    Effect.gen(function* () {
      const path = `/actors?${ns}`
      assert.include(yield* refused(400, "api.bad_request", "PUT", path, counter), "payload.key")
      yield* refused(400, "api.bad_request", "PUT", path, { ...counter, key: null })
      yield* refused(400, "api.bad_request", "PUT", path, { ...counter, key: "k", more: 1 })
      yield* refused(400, "namespace.not_found", "PUT", "/actors?namespace=x", { ...counter, key: "k" })
      yield* refused(400, "datacenter.not_found", "PUT", path, { ...counter, key: "k", datacenter: "x" })
    })
  )
})

describe("GET /actors", () => {
  test(
    "finds actors by id, repeated or with commas between, and leaves out what is not there",
    Effect.gen(function* () {
      const [one, two, three] = [yield* create(), yield* create(), yield* create()].map(({ actor_id }) => actor_id)
      const nobody = RivetId.make(new Uint8Array(16).fill(9))
      assert.deepStrictEqual(idsOf(yield* list(`actor_ids=${two}`)), [two])
      assert.deepStrictEqual(idsOf(yield* list(`actor_ids=${three},${nobody},${one}`)), [three, one])
      assert.deepStrictEqual(idsOf(yield* list(`actor_id=${one}&actor_id=${two}&actor_ids=${three},${two}`)), [
        three,
        two,
        one
      ])
      assert.deepStrictEqual(yield* list(`actor_ids=${nobody}`), { actors: [], pagination: {} })
    })
  )
  test(
    "finds the one of a name and key",
    Effect.gen(function* () {
      const actor = yield* create({ ...counter, key: "k" })
      yield* create({ ...counter, key: "other" })
      assert.deepStrictEqual(yield* list("name=counter&key=k"), { actors: [actor], pagination: {} })
      assert.deepStrictEqual(yield* list("name=counter&key=nobody"), { actors: [], pagination: {} })
    })
  )
  test(
    "shows destroyed actors only where they are asked for",
    Effect.gen(function* () {
      const { actor_id } = yield* create()
      yield* ok("DELETE", `/actors/${actor_id}?${ns}`)
      for (const query of ["name=counter", `actor_ids=${actor_id}`]) {
        assert.deepStrictEqual(idsOf(yield* list(query)), [])
        assert.deepStrictEqual(idsOf(yield* list(`${query}&include_destroyed=false`)), [])
        const { actors } = yield* list(`${query}&include_destroyed=true`)
        assert.deepStrictEqual(
          actors.map(({ destroy_ts }) => destroy_ts),
          [0]
        )
      }
    })
  )
  test(
    "lists a name page by page, until no cursor is left",
    Effect.gen(function* () {
      const made: Array<string> = []
      for (let at = 0; at < 7; at++) made.push((yield* create()).actor_id)
      yield* create({ ...counter, name: "another" })
      const found: Array<string> = []
      const sizes: Array<number> = []
      let cursor: string | undefined = ""
      while (cursor !== undefined) {
        const page: Listed = yield* list(`name=counter&limit=3${cursor === "" ? "" : `&cursor=${cursor}`}`)
        found.push(...idsOf(page))
        sizes.push(page.actors.length)
        cursor = page.pagination.cursor
      }
      assert.deepStrictEqual(found, made)
      assert.deepStrictEqual(sizes, [3, 3, 1])
      assert.deepStrictEqual((yield* list("name=counter&limit=7")).pagination, {})
      assert.deepStrictEqual((yield* list("name=counter&limit=99999999")).actors.length, 7)
    })
  )
  test(
    "refuses questions that contradict themselves or ask for nothing",
    Effect.gen(function* () {
      const { actor_id } = yield* create()
      const wrong = (query: string) => refused(400, "api.bad_request", "GET", `/actors?${ns}&${query}`)
      yield* wrong(`actor_ids=${actor_id}&name=counter`)
      yield* wrong(`actor_id=${actor_id}&key=k`)
      yield* wrong("")
      yield* wrong("key=k")
      yield* wrong("actor_ids=")
      yield* wrong("actor_ids=nonsense")
      yield* wrong(`actor_ids=${actor_id.toUpperCase()}`)
      yield* wrong("name=counter&cursor=nonsense")
      for (const limit of ["0", "-1", "1.5", "abc", "", "1e400"]) yield* wrong(`name=counter&limit=${limit}`)
      yield* wrong("name=counter&include_destroyed=perhaps")
      yield* refused(400, "namespace.not_found", "GET", "/actors?namespace=x&name=counter")
      const many = Array.from({ length: 1001 }, (_, at) => RivetId.make(new Uint8Array(16).fill(1), at))
      yield* wrong(`actor_ids=${many.join(",")}`)
      assert.deepStrictEqual((yield* list(`actor_ids=${many.slice(1).join(",")}`)).actors, [])
    })
  )
})

describe("an actor by its id", () => {
  test(
    "is destroyed, put to sleep and moved",
    Effect.gen(function* () {
      const { actor_id } = yield* create()
      assert.deepStrictEqual(yield* ok("POST", `/actors/${actor_id}/sleep?${ns}`, {}), {})
      assert.deepStrictEqual(yield* ok("POST", `/actors/${actor_id}/reschedule?${ns}`, {}), {})
      // Nothing to say is as good as `{}`.
      assert.deepStrictEqual(yield* ok("POST", `/actors/${actor_id}/sleep?${ns}`), {})
      assert.deepStrictEqual(yield* ok("DELETE", `/actors/${actor_id}?${ns}`), {})
      assert.deepStrictEqual((yield* Twin).told.slice(1), [
        `sleep ${actor_id}`,
        `reschedule ${actor_id}`,
        `sleep ${actor_id}`,
        `destroy ${actor_id}`
      ])
      yield* refused(404, "actor.not_found", "DELETE", `/actors/${actor_id}?${ns}`)
    })
  )
  test(
    "is not found where there is none, and refused where the id is no id",
    Effect.gen(function* () {
      const nobody = RivetId.make(new Uint8Array(16).fill(9))
      const calls = [
        ["DELETE", ""],
        ["POST", "/sleep"],
        ["POST", "/reschedule"],
        ["GET", "/kv/keys/AA=="]
      ] as const
      for (const [method, rest] of calls) {
        yield* refused(404, "actor.not_found", method, `/actors/${nobody}${rest}?${ns}`)
        yield* refused(400, "api.bad_request", method, `/actors/nonsense${rest}?${ns}`)
        yield* refused(400, "namespace.not_found", method, `/actors/${nobody}${rest}?namespace=x`)
        yield* refused(400, "api.bad_request", method, `/actors/${nobody}${rest}`)
      }
      yield* refused(400, "api.bad_request", "POST", `/actors/${nobody}/sleep?${ns}`, { now: true })
      yield* refused(404, "api.not_found", "POST", `/actors/${nobody}/dance?${ns}`, {})
    })
  )
})

describe("GET /actors/{id}/kv/keys/{key}", () => {
  const value = (actorId: string, key: string) => `/actors/${actorId}/kv/keys/${encodeURIComponent(key)}?${ns}`
  test(
    "shows one value of the actor's store",
    Effect.gen(function* () {
      yield* TestClock.setTime(5_000)
      const kv = yield* ActorKv
      const { actor_id } = yield* create()
      const keys = [[0xfb, 0xff, 0xfe], [1], [], new Array(2046).fill(0xff)].map((key) => Uint8Array.from(key))
      yield* kv.ask(actor_id, { _tag: "Put", keys, values: keys.map((key) => Uint8Array.from([key.length & 0xff])) })
      for (const key of keys) {
        const text = Buffer.from(key).toString("base64")
        const expected = { value: Buffer.from([key.length & 0xff]).toString("base64"), update_ts: 5_000 }
        if (key.length > 0) {
          assert.deepStrictEqual(yield* ok("GET", value(actor_id, text)), expected)
          assert.deepStrictEqual(yield* ok("GET", value(actor_id, Buffer.from(key).toString("base64url"))), expected)
        }
      }
    })
  )
  test(
    "refuses a key that is not there, not base64, or too long",
    Effect.gen(function* () {
      const { actor_id } = yield* create()
      yield* refused(404, "actor.kv_key_not_found", "GET", value(actor_id, "AA=="))
      for (const key of ["A", "A===", "AA=A", "ä", "AAAAA", "A A="]) {
        yield* refused(400, "api.bad_request", "GET", value(actor_id, key))
      }
      const long = Buffer.alloc(2047).toString("base64")
      assert.strictEqual(
        yield* refused(400, "api.bad_request", "GET", value(actor_id, long)),
        "key is too long (max 2048 bytes)"
      )
    })
  )
})

describe("GET /actors/names", () => {
  test(
    "lists every name with its metadata, page by page",
    Effect.gen(function* () {
      const { names } = yield* Twin
      for (const [name, metadata] of [
        ["b", '{"x":1}'],
        ["a", "not json"],
        ["c", "{}"]
      ] as const) {
        names.set(name, metadata)
      }
      assert.deepStrictEqual(yield* ok("GET", `/actors/names?${ns}`), {
        names: { a: { metadata: null }, b: { metadata: { x: 1 } }, c: { metadata: {} } },
        pagination: {}
      })
      assert.deepStrictEqual(yield* ok("GET", `/actors/names?${ns}&limit=2`), {
        names: { a: { metadata: null }, b: { metadata: { x: 1 } } },
        pagination: { cursor: "b" }
      })
      assert.deepStrictEqual(yield* ok("GET", `/actors/names?${ns}&limit=2&cursor=b`), {
        names: { c: { metadata: {} } },
        pagination: {}
      })
      yield* refused(400, "namespace.not_found", "GET", "/actors/names?namespace=x")
      yield* refused(400, "api.bad_request", "GET", "/actors/names")
    })
  )
})

it.effect("a fault of ours is one, and tells nothing but that", () =>
  Effect.gen(function* () {
    const { names } = yield* Twin
    Object.defineProperty(names, Symbol.iterator, { value: () => assert.fail("a secret of the inside") })
    const message = yield* refused(500, "core.internal_error", "GET", `/actors/names?${ns}`)
    assert.notInclude(message, "secret")
    assert.strictEqual((yield* ask("GET", "/metadata")).status, 200)
  }).pipe(Effect.provide(apiFor(Authenticator.layerOpen)))
)
