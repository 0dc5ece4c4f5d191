/** A process that puts until it is killed, and says of each put that it was acknowledged. For `ActorKvKilled.test.ts`. */
import { writeSync } from "node:fs"
import { Effect, Layer } from "effect"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import { ActorKv } from "../../src/actor/ActorKv.ts"
import * as ActorKvSqlite from "../../src/actor/ActorKvSqlite.ts"
import { kvOptions } from "../../src/actor/KvRules.ts"

const file = process.argv[2] as string
const store = Layer.provide(ActorKvSqlite.layer(kvOptions("1")), ActorDatabase.layer({ file }))
const text = (of: string) => new TextEncoder().encode(of)

await Effect.runPromise(
  Effect.gen(function* () {
    const kv = yield* ActorKv
    for (let at = 0; ; at++) {
      const response = yield* kv.ask("a", {
        _tag: "Put",
        keys: [text(`first ${at}`), text(`second ${at}`)],
        values: [text(`${at}`), new Uint8Array(10_000)]
      })
      // Written before anything else happens: what was said was acknowledged.
      if (response._tag === "Stored") writeSync(1, `put ${at}\n`)
      yield* Effect.yieldNow
    }
  }).pipe(Effect.provide(store))
)
