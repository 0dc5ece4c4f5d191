import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import { ActorKv } from "../../src/actor/ActorKv.ts"
import * as ActorKvSqlite from "../../src/actor/ActorKvSqlite.ts"
import { kvOptions } from "../../src/actor/KvRules.ts"
import { actorKvContract, bytes, everything, list, put } from "../contract/ActorKvContract.ts"

const inMemory = ActorDatabase.layer({ file: ":memory:" })
actorKvContract("sqlite", (options) => Layer.provide(ActorKvSqlite.layer(options), Layer.fresh(inMemory)))

const stack = (file: string) => Layer.provideMerge(ActorKvSqlite.layer(kvOptions("1")), ActorDatabase.layer({ file }))

it.effect("what one stored, the next one finds, and no row is left of what is gone", () =>
  Effect.gen(function* () {
    const folder = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-kv-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true }))
    )
    const file = join(folder, "actors.sqlite")
    yield* ActorKv.use((kv) => kv.ask("a", put([[bytes("k"), bytes("v")]]))).pipe(Effect.provide(stack(file)))
    yield* Effect.gen(function* () {
      const kv = yield* ActorKv
      const found = yield* kv.ask("a", list(everything))
      assert.deepStrictEqual(found._tag === "Listed" ? [...found.values].map((value) => [...value]) : [], [[118]])
      yield* kv.ask("a", { _tag: "Delete", keys: [bytes("k")] })
      const { handle } = yield* ActorDatabase.ActorDatabase
      for (const table of ["kv_stores", "kv_entries"]) {
        assert.strictEqual(handle.prepare(`SELECT count(*) AS n FROM ${table}`).get()?.n, 0, table)
      }
    }).pipe(Effect.provide(stack(file)))
  })
)

it.effect("a failing database is an error, and the put that met it is undone whole", () =>
  Effect.gen(function* () {
    const kv = yield* ActorKv
    const { handle } = yield* ActorDatabase.ActorDatabase
    yield* kv.ask("a", put([[bytes("k"), bytes("before")]]))
    handle.exec(
      "CREATE TRIGGER full BEFORE INSERT ON kv_entries WHEN NEW.key = x'7a' BEGIN SELECT RAISE(ABORT, 'full'); END"
    )
    const both = put([
      [bytes("k"), bytes("after")],
      [bytes("z"), bytes("")]
    ])
    const error = yield* Effect.flip(kv.ask("a", both))
    assert.strictEqual(error._tag, "ActorKvError")
    assert.include(String(error.cause), "full")
    handle.exec("DROP TRIGGER full")
    const found = yield* kv.ask("a", list(everything))
    assert.deepStrictEqual(found._tag === "Listed" ? found.values.map((value) => Buffer.from(value).toString()) : [], [
      "before"
    ])
    assert.deepStrictEqual(yield* kv.ask("a", both), { _tag: "Stored" })
  }).pipe(Effect.provide(stack(":memory:")))
)

it.effect("a list that stops early leaves no reader behind that would hold up the log", () =>
  Effect.gen(function* () {
    const kv = yield* ActorKv
    const { handle } = yield* ActorDatabase.ActorDatabase
    yield* kv.ask("a", put(["a", "b", "c"].map((key) => [bytes(key), bytes("v")])))
    yield* kv.ask("a", list(everything, { limit: 1n }))
    // A statement still under way locks the tables that it reads.
    handle.exec("DROP TABLE kv_entries")
  }).pipe(Effect.provide(stack(":memory:")))
)
