import { mkdtempSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, it } from "@effect/vitest"
import { Effect, Exit, Layer, Scope } from "effect"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-actors-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)
const file = Effect.map(folder, (path) => join(path, "actors.sqlite"))

const rows = (handle: DatabaseSync): ReadonlyArray<unknown> =>
  handle
    .prepare("SELECT n FROM seen ORDER BY n")
    .all()
    .map((row) => row.n)

it.effect("keeps what a transaction wrote, and nothing of one that failed", () =>
  Effect.gen(function* () {
    const path = yield* file
    yield* ActorDatabase.ActorDatabase.use((database) =>
      Effect.sync(() => {
        database.handle.exec("CREATE TABLE seen (n INTEGER)")
        assert.strictEqual(
          database.transactionUnsafe(() => {
            database.handle.exec("INSERT INTO seen VALUES (1), (2)")
            return "done"
          }),
          "done"
        )
        const failure = new Error("half way")
        assert.throws(
          () =>
            database.transactionUnsafe(() => {
              database.handle.exec("INSERT INTO seen VALUES (3)")
              throw failure
            }),
          failure
        )
        assert.deepStrictEqual(rows(database.handle), [1, 2])
        database.transactionUnsafe(() => database.handle.exec("INSERT INTO seen VALUES (4)"))
      })
    ).pipe(Effect.provide(ActorDatabase.layer({ file: path })))
    const kept = yield* ActorDatabase.ActorDatabase.use((database) => Effect.sync(() => rows(database.handle))).pipe(
      Effect.provide(ActorDatabase.layer({ file: path }))
    )
    assert.deepStrictEqual(kept, [1, 2, 4])
  })
)

it.effect("syncs at every commit to a write-ahead log that only its owner may read", () =>
  Effect.gen(function* () {
    const path = yield* file
    yield* ActorDatabase.ActorDatabase.use((database) =>
      Effect.sync(() => {
        database.transactionUnsafe(() => database.handle.exec("CREATE TABLE seen (n INTEGER)"))
        const ask = (pragma: string) => Object.values(database.handle.prepare(`PRAGMA ${pragma}`).get() ?? {})[0]
        assert.deepStrictEqual(["journal_mode", "synchronous", "locking_mode"].map(ask), ["wal", 2, "exclusive"])
        for (const name of [path, `${path}-wal`]) assert.strictEqual(statSync(name).mode & 0o777, 0o600, name)
      })
    ).pipe(Effect.provide(ActorDatabase.layer({ file: path })))
  })
)

const build = (path: string) => Layer.build(ActorDatabase.layer({ file: path }))
const refusal = (path: string) => Effect.map(Effect.flip(build(path)), (error) => error.reason)

it.effect("is refused while another has it open, and had as soon as it is closed", () =>
  Effect.gen(function* () {
    const path = yield* file
    const scope = yield* Scope.make()
    yield* Scope.provide(build(path), scope)
    assert.strictEqual(yield* refusal(path), "InUse")
    assert.strictEqual(yield* refusal(path), "InUse")
    yield* Scope.close(scope, Exit.void)
    yield* build(path)
  })
)

it.effect("is refused where it cannot be made, is none, or is of a newer version", () =>
  Effect.gen(function* () {
    const path = yield* file
    assert.strictEqual(yield* refusal(join(path, "nowhere", "actors.sqlite")), "Unusable")
    assert.strictEqual(yield* refusal(import.meta.filename), "Unusable")
    const newer = new DatabaseSync(path)
    newer.exec("PRAGMA user_version = 1000")
    newer.close()
    const error = yield* Effect.flip(build(path))
    assert.strictEqual(error.reason, "Newer")
    assert.include(error.message, "newer version")
  })
)
