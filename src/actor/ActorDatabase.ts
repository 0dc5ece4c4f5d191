/**
 * The file in which actors outlive the process: one SQLite database, opened once and shared by whoever keeps tables in it. `ActorKvSqlite.ts`
 * keeps keys and values there.
 *
 * What a transaction wrote is on the disk when it returns: write-ahead log, a sync at every commit. The file belongs to one process at a
 * time, since two control planes over one set of actors would each believe itself alone. Everything is synchronous and runs on the caller's
 * turn of the event loop; what that costs, and what would change it: `docs/decisions/0121-the-store-of-actors-is-a-file-of-the-hub.md`.
 */
import { closeSync, openSync } from "node:fs"
import type { DatabaseSync } from "node:sqlite"
import { Context, Effect, Layer, Schema } from "effect"

/** The file cannot be used: another process has it open (`InUse`), a newer version wrote it (`Newer`), or anything else (`Unusable`). */
export class ActorDatabaseError extends Schema.TaggedError<ActorDatabaseError>()("ActorDatabaseError", {
  file: Schema.String,
  reason: Schema.Literals(["InUse", "Newer", "Unusable"]),
  cause: Schema.Defect()
}) {
  override get message() {
    return `${this.file}: ${problems[this.reason]}`
  }
}

const problems = {
  InUse: "the file of actors is in use by another process",
  Newer: "the file of actors was written by a newer version",
  Unusable: "the file of actors cannot be used"
} as const

/** The open database. */
export class ActorDatabase extends Context.Service<
  ActorDatabase,
  {
    /** For preparing statements once, and for making the tables of one's own where they are missing. Never closed by its users. */
    readonly handle: DatabaseSync
    /** Runs `body` as one transaction: all of it lasts once this returns, nothing of it happened where it throws. Not to be nested. */
    readonly transactionUnsafe: <A>(body: () => A) => A
  }
>()("wayleave/actor/ActorDatabase") {}

/** Raised whenever older versions could not make sense of the tables any more. */
const format = 1

// `SQLITE_BUSY`. Bindings add the extended code in the bits above.
const busy = 5
const isBusy = (cause: unknown): boolean =>
  cause instanceof Error && "errcode" in cause && (Number(cause.errcode) & 0xff) === busy

const open = (file: string): Effect.Effect<DatabaseSync, ActorDatabaseError> =>
  Effect.tryPromise({
    try: async () => {
      // Only now: Node 22 warns whoever loads it, and most who import this package keep no actors in a file.
      const sqlite = await import("node:sqlite")
      // What apps keep is theirs: SQLite gives its other files the mode of this one.
      if (file !== ":memory:") closeSync(openSync(file, "a", 0o600))
      return new sqlite.DatabaseSync(file)
    },
    catch: (cause) => new ActorDatabaseError({ file, reason: "Unusable", cause })
  })

const prepare = (file: string, handle: DatabaseSync): Effect.Effect<void, ActorDatabaseError> =>
  Effect.gen(function* () {
    const found = yield* Effect.try({
      try: () => {
        // Exclusive comes first: the log's index then lives in memory, and no second process gets past the next line.
        handle.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        handle.exec("BEGIN IMMEDIATE; COMMIT")
        return Number(handle.prepare("PRAGMA user_version").get()?.user_version)
      },
      catch: (cause) => new ActorDatabaseError({ file, reason: isBusy(cause) ? "InUse" : "Unusable", cause })
    })
    if (found > format) return yield* new ActorDatabaseError({ file, reason: "Newer", cause: `format ${found}` })
    handle.exec(`PRAGMA user_version = ${format}`)
  })

const transactionOn =
  (handle: DatabaseSync) =>
  <A>(body: () => A): A => {
    handle.exec("BEGIN IMMEDIATE")
    try {
      const result = body()
      handle.exec("COMMIT")
      return result
    } catch (cause) {
      // A full disk or a failing one has rolled back already, and there is nothing left to undo.
      if (handle.isTransaction) handle.exec("ROLLBACK")
      throw cause
    }
  }

/** The database in `file`, made where it is missing, for as long as the scope lasts. `:memory:` keeps nothing. */
export const layer = (options: { readonly file: string }): Layer.Layer<ActorDatabase, ActorDatabaseError> =>
  Layer.effect(
    ActorDatabase,
    Effect.gen(function* () {
      const handle = yield* Effect.acquireRelease(open(options.file), (opened) => Effect.sync(() => opened.close()))
      yield* prepare(options.file, handle)
      return { handle, transactionUnsafe: transactionOn(handle) }
    })
  )
