import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { type ActorControl, ActorError, type ActorRequest, type ActorView } from "../../src/actor/ActorControl.ts"
import { findHere, findOnBus } from "../../src/actor/ActorDirectory.ts"
import { layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import { joinKey, percentDecode, readQuery, resolve } from "../../src/gateway/ActorQuery.ts"
import { isCbor } from "../../src/gateway/Cbor.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const read = (query: string, name = "room") => {
  const found = readQuery(
    name,
    query.split("&").filter((part) => part !== "")
  )
  return "_tag" in found ? found.refusal.rivet : found
}
const base = "rvt-namespace=default&rvt-method=get"
const create = "rvt-namespace=default&rvt-method=getOrCreate&rvt-pool=workers"

describe("a query", () => {
  it("finds by name and key, and with getOrCreate says what to create", () => {
    assert.deepStrictEqual(read(`${base}&rvt-key=a,b&rvt-token=t&rvt-skip-ready-wait=true&rvt-pool=p`), {
      namespace: "default",
      name: "room",
      skipReadyWait: true,
      key: "a/b",
      create: null
    })
    assert.deepStrictEqual(read(`${create}&rvt-input=oWFhAQ&rvt-crash-policy=restart&rvt-region=default`), {
      namespace: "default",
      name: "room",
      skipReadyWait: false,
      key: "/",
      create: { runnerName: "workers", crashPolicy: "restart", input: Buffer.from("a1616101", "hex") }
    })
  })

  it("takes the pool by its old name too, and the new one first", () => {
    const old = read("rvt-namespace=default&rvt-method=getOrCreate&rvt-runner=old")
    assert.deepInclude(old, { create: { runnerName: "old", crashPolicy: "sleep", input: null } })
    assert.deepInclude(read(`${create}&rvt-runner=old`), {
      create: { runnerName: "workers", crashPolicy: "sleep", input: null }
    })
  })

  it("decodes values as forms do, and leaves what is no escape", () => {
    assert.deepInclude(read(`${base}&rvt-key=a+b%2Cc%zz`), { key: "a b/c%zz" })
    assert.strictEqual(percentDecode("%e2%82%ac%"), "€%")
    assert.strictEqual(percentDecode("caf\u00c3\u00a9"), "café")
    assert.isUndefined(percentDecode("%c3"))
  })

  for (const [query, code] of [
    ["rvt-method=get", "guard.query_invalid_params"],
    ["rvt-namespace=default", "guard.query_invalid_params"],
    [`${base}&rvt-other=1`, "guard.query_invalid_params"],
    [`${base}&rvt-`, "guard.query_invalid_params"],
    [`${base}&rvt-skip-ready-wait=yes`, "guard.query_invalid_params"],
    ["rvt-namespace=default&rvt-method=create", "guard.query_invalid_params"],
    [`${create}&rvt-crash-policy=never`, "guard.query_invalid_params"],
    [`${create}&rvt-region=mars`, "guard.query_invalid_params"],
    [`${base}&rvt-method=get`, "guard.query_duplicate_param"],
    [`${base}&rvt-other=1&rvt-other=2`, "guard.query_duplicate_param"],
    [`${base}&rvt-key=%ff`, "guard.query_invalid_percent_encoding"],
    [`${base}&rvt-input=oA`, "guard.query_get_disallowed_params"],
    [`${base}&rvt-region=default`, "guard.query_get_disallowed_params"],
    [`${base}&rvt-crash-policy=sleep`, "guard.query_get_disallowed_params"],
    [`${base}&rvt-runner=x`, "guard.query_get_disallowed_params"],
    ["rvt-namespace=default&rvt-method=getOrCreate", "guard.query_missing_pool"],
    [`${create}&rvt-input=oA==`, "guard.query_invalid_base64_input"],
    [`${create}&rvt-input=o+A`, "guard.query_invalid_base64_input"],
    [`${create}&rvt-input=oAAAA`, "guard.query_invalid_base64_input"],
    [`${create}&rvt-input=oB`, "guard.query_invalid_base64_input"],
    [`${create}&rvt-input=`, "guard.query_invalid_cbor_input"],
    [`${create}&rvt-input=oQ`, "guard.query_invalid_cbor_input"]
  ]) {
    it(`${query} is refused with ${code}`, () => assert.strictEqual<unknown>(read(query as string), code))
  }

  it("a key is one text from its parts, and no two keys share one", () => {
    for (const [parts, key] of [
      [[], "/"],
      [["test"], "test"],
      [["a", "b", "c"], "a/b/c"],
      [["a/b", "", "c\\d"], "a\\/b/\\0/c\\\\d"],
      [["/"], "\\/"],
      [[""], "\\0"]
    ] as const) {
      assert.strictEqual(joinKey(parts), key)
    }
  })
})

describe("CBOR", () => {
  // Examples of RFC 8949, appendix A, and what they break into.
  for (const hex of [
    "00",
    "17",
    "1818",
    "1b000000e8d4a51000",
    "20",
    "3bffffffffffffffff",
    "f90000",
    "fa47c35000",
    "fb3ff199999999999a",
    "f4",
    "f8ff",
    "c11a514b67b0",
    "4401020304",
    "62c3bc",
    "83010203",
    "a26161016162820203",
    "5f42010243030405ff",
    "7f657374726561646d696e67ff",
    "9f018202039f0405ffff",
    "bf61610161629f0203ffff"
  ]) {
    it(`${hex} is one item`, () => assert.isTrue(isCbor(Buffer.from(hex, "hex"))))
  }
  for (const hex of [
    "",
    "18",
    "1c",
    "0000",
    "4401",
    "62c328",
    "8301",
    "a101",
    "5f4101",
    "5f6161ff",
    "5f5f4101ffff",
    "bf01ff",
    "ff",
    "1f",
    "f800",
    "5bffffffffffffffff",
    "9bffffffffffffffff00",
    "81".repeat(80)
  ]) {
    it(`${hex.slice(0, 24)} is not`, () => assert.isFalse(isCbor(Buffer.from(hex, "hex"))))
  }
})

const view = (actorId: string): ActorView => ({
  actorId,
  name: "room",
  key: "a",
  runnerName: "workers",
  crashPolicy: "sleep",
  createdAtMs: 0,
  startedAtMs: null,
  connectableAtMs: null,
  sleptAtMs: null,
  pendingAllocationAtMs: null,
  rescheduleAtMs: null,
  destroyedAtMs: null
})

/** A control plane that only finds and creates. */
const control = (parts: Partial<ActorControl["Service"]>) => parts as ActorControl["Service"]

const get = { namespace: "default", skipReadyWait: false, name: "room", key: "a", create: null }

describe("asking for it", () => {
  it.effect("finds, or creates with what was asked", () =>
    Effect.gen(function* () {
      const asked: Array<ActorRequest> = []
      const plane = control({
        find: (name, key) => Effect.succeed(view(`${name}:${key}`)),
        getOrCreate: (request) => {
          asked.push(request)
          return Effect.succeed({ actor: view("new"), created: true })
        }
      })
      assert.strictEqual(yield* resolve(findHere(plane), "default", get), "room:a")
      const wish = { runnerName: "workers", crashPolicy: "restart", input: null } as const
      assert.strictEqual(yield* resolve(findHere(plane), "default", { ...get, create: wish }), "new")
      assert.deepStrictEqual(asked, [{ name: "room", key: "a", ...wish }])
    })
  )

  it.effect("is refused by the reason the control plane gives, for another namespace, and where there is none", () =>
    Effect.gen(function* () {
      const plane = control({
        find: () => Effect.fail(new ActorError({ reason: "guard.actor_ready_timeout", message: "" }))
      })
      const failed = yield* Effect.flip(resolve(findHere(plane), "default", get))
      assert.deepStrictEqual(failed, { code: "actor_not_ready", rivet: "guard.actor_ready_timeout" })
      const elsewhere = yield* Effect.flip(resolve(findHere(plane), "other", get))
      assert.strictEqual(elsewhere.rivet, "namespace.not_found")
      const nobody = yield* Effect.flip(resolve(findOnBus(yield* MessageBus, "default"), "default", get))
      assert.deepStrictEqual(nobody, { code: "no_runner" })
    }).pipe(Effect.provide(busMemory))
  )

  it.effect("takes no longer than it may", () =>
    Effect.gen(function* () {
      const asking = yield* Effect.forkChild(
        Effect.flip(resolve(findHere(control({ find: () => Effect.never })), "default", get))
      )
      yield* TestClock.adjust(limits.queryMs)
      assert.deepInclude(yield* Fiber.join(asking), { rivet: "pegboard.route_resolve_query_timeout" })
    })
  )
})
