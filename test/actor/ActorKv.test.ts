import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { ActorKv, layerMemory, layerMemoryWith } from "../../src/actor/ActorKv.ts"
import { kvOptions } from "../../src/actor/KvRules.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { actorKvContract, bytes, everything, list, put } from "../contract/ActorKvContract.ts"

actorKvContract("layerMemory", (options) => layerMemoryWith({ ...options, memoryBytesMax: limits.kvMemoryBytesMax }))

// What a put's objects may cost is set aside; an entry costs its bytes, two more, and 256.
const memoryBytesMax = 128 * 256 + 10 * (256 + 2 + 1 + 97)

it.effect("all stores in memory together have a bound, and give back what they delete", () =>
  Effect.gen(function* () {
    const kv = yield* ActorKv
    const one = put([[bytes("k"), new Uint8Array(97)]])
    for (let actor = 0; actor < 10; actor++) {
      assert.deepStrictEqual(yield* kv.ask(`${actor}`, one), { _tag: "Stored" })
    }
    const message = "Not enough space left in storage (0 bytes remaining, current payload is 100 bytes)"
    assert.deepStrictEqual(yield* kv.ask("another", one), { _tag: "Failed", message })
    assert.deepStrictEqual(yield* kv.ask("0", one), { _tag: "Failed", message })
    assert.deepStrictEqual(yield* kv.ask("7", { _tag: "Drop" }), { _tag: "Dropped" })
    assert.deepStrictEqual(yield* kv.ask("another", one), { _tag: "Stored" })
  }).pipe(Effect.provide(layerMemoryWith({ ...kvOptions("1"), memoryBytesMax })))
)

it.effect("many small entries are as much bounded as few large ones", () =>
  Effect.gen(function* () {
    const kv = yield* ActorKv
    let stored = 0
    for (let from = 0; ; from += 128) {
      const entries = Array.from({ length: 128 }, (_, at) => [bytes(String(from + at)), bytes("")] as const)
      if ((yield* kv.ask("a", put(entries)))._tag !== "Stored") break
      stored += 128
    }
    assert.isAtLeast(stored, 128)
    assert.isAtMost(stored * 256, 200_000)
  }).pipe(Effect.provide(layerMemoryWith({ ...kvOptions("1"), memoryBytesMax: 200_000 })))
)

it.effect("the layer of the limits stores and finds", () =>
  Effect.gen(function* () {
    const kv = yield* ActorKv
    yield* kv.ask("a", put([[bytes("k"), bytes("v")]]))
    assert.strictEqual((yield* kv.ask("a", list(everything)))._tag, "Listed")
  }).pipe(Effect.provide(layerMemory))
)
