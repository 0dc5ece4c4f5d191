import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import * as ActorStore from "../../src/actor/ActorStore.ts"
import * as ActorStoreSqlite from "../../src/actor/ActorStoreSqlite.ts"
import { actorStoreContract, noChanges, storedActor, storedRunner } from "../contract/ActorStoreContract.ts"

const sqlite = (file: string) => ActorStoreSqlite.layer.pipe(Layer.provideMerge(ActorDatabase.layer({ file })))

actorStoreContract("layerMemory", ActorStore.layerMemory)
actorStoreContract("sqlite", sqlite(":memory:"))

const file = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-control-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true }))
  ),
  (path) => join(path, "actors.sqlite")
)

it.effect("sqlite: what was written is there when the file is opened again", () =>
  Effect.gen(function* () {
    const path = yield* file
    yield* ActorStore.ActorStore.use((store) =>
      store.write({ ...noChanges, created: [storedActor("a")], runners: [storedRunner()], aliveAtMs: 5 })
    ).pipe(Effect.provide(sqlite(path)))
    const world = yield* ActorStore.ActorStore.use((store) => store.load).pipe(Effect.provide(sqlite(path)))
    assert.deepStrictEqual(world.actors[0]?.life, storedActor("a").life)
    assert.deepStrictEqual(world.runners, [storedRunner()])
    assert.strictEqual(world.aliveAtMs, 5)
  })
)

it.effect("sqlite: a write that fails half way has written nothing", () =>
  Effect.gen(function* () {
    const store = yield* ActorStore.ActorStore
    const database = yield* ActorDatabase.ActorDatabase
    database.handle.exec("CREATE TRIGGER refuse BEFORE INSERT ON runner BEGIN SELECT RAISE(ABORT, 'full'); END")
    const error = yield* Effect.flip(
      store.write({ ...noChanges, created: [storedActor("a")], runners: [storedRunner()] })
    )
    assert.strictEqual(error._tag, "ActorStoreError")
    assert.deepStrictEqual((yield* store.load).actors, [])
    database.handle.exec("DROP TRIGGER refuse")
    yield* store.write({ ...noChanges, created: [storedActor("a")], runners: [storedRunner()] })
    assert.strictEqual((yield* store.load).actors.length, 1)
  }).pipe(Effect.provide(sqlite(":memory:")))
)

it.effect("sqlite: rows that make no sense are an error, not a guess", () =>
  Effect.gen(function* () {
    const store = yield* ActorStore.ActorStore
    const database = yield* ActorDatabase.ActorDatabase
    yield* store.write({ ...noChanges, created: [storedActor("a")] })
    database.handle.exec(`UPDATE actor_life SET life = '{"state":{"_tag":"Novelty"}}'`)
    assert.strictEqual((yield* Effect.flip(store.load))._tag, "ActorStoreError")
  }).pipe(Effect.provide(sqlite(":memory:")))
)
