/**
 * Actors and runners in the tables of `ActorDatabase.ts`, where they outlive the process. Written in one transaction for each batch, read once,
 * when the control plane starts.
 */
import type { SQLInputValue } from "node:sqlite"
import { Effect, Layer, Schema } from "effect"
import { SessionId } from "../tunnel/Envelope.ts"
import { CrashPolicy } from "./Actor.ts"
import { ActorDatabase } from "./ActorDatabase.ts"
import { Life } from "./ActorLife.ts"
import { ActorStore, ActorStoreError, type StoredActor, type StoredRunner } from "./ActorStore.ts"

// `position` keeps the order of creation; a life changes often and is small, what an actor was created with never changes and may be large.
const schema = `
  CREATE TABLE IF NOT EXISTS actor (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    key TEXT,
    runner_name TEXT NOT NULL,
    crash_policy TEXT NOT NULL,
    input BLOB,
    created_at_ms REAL NOT NULL
  );
  CREATE TABLE IF NOT EXISTS actor_life (id TEXT PRIMARY KEY, life TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS runner (session TEXT PRIMARY KEY, runner TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS control (id INTEGER PRIMARY KEY CHECK (id = 0), alive_at_ms REAL NOT NULL);
`

const RunnerRow = Schema.fromJsonString(
  Schema.Struct({
    session: SessionId,
    introduction: Schema.Struct({
      name: Schema.String,
      key: Schema.String,
      version: Schema.Finite,
      totalSlots: Schema.Finite,
      protocolVersion: Schema.Finite,
      actorNames: Schema.Array(Schema.Tuple([Schema.String, Schema.String])),
      metadata: Schema.NullOr(Schema.String)
    }),
    createdAtMs: Schema.Finite,
    lastSeenAtMs: Schema.Finite,
    connected: Schema.Boolean,
    drainingSinceMs: Schema.NullOr(Schema.Finite),
    goneAtMs: Schema.NullOr(Schema.Finite),
    lost: Schema.Boolean,
    owedStops: Schema.Array(Schema.Struct({ actorId: Schema.String, generation: Schema.Int }))
  })
)

/** One row of `actor` with its life. */
const ActorRow = Schema.Struct({
  id: Schema.String,
  name: Schema.String,
  key: Schema.NullOr(Schema.String),
  runner_name: Schema.String,
  crash_policy: CrashPolicy,
  input: Schema.NullOr(Schema.Uint8Array),
  created_at_ms: Schema.Finite,
  life: Schema.fromJsonString(Life)
})

const readActor = Schema.decodeUnknownSync(ActorRow)
const readRunner = Schema.decodeUnknownSync(RunnerRow)

const runnerText = (runner: StoredRunner): string =>
  JSON.stringify({
    ...runner,
    introduction: { ...runner.introduction, actorNames: [...runner.introduction.actorNames] }
  })

const toActor = (row: unknown): StoredActor => {
  const { created_at_ms, crash_policy, id, input, key, life, name, runner_name } = readActor(row)
  return {
    actorId: id,
    request: { name, key, runnerName: runner_name, crashPolicy: crash_policy, input },
    createdAtMs: created_at_ms,
    life
  }
}

const toRunner = (row: Record<string, unknown>): StoredRunner => {
  const runner = readRunner(row.runner)
  return { ...runner, introduction: { ...runner.introduction, actorNames: new Map(runner.introduction.actorNames) } }
}

const attempt = <A>(body: () => A): Effect.Effect<A, ActorStoreError> =>
  Effect.try({ try: body, catch: (cause) => new ActorStoreError({ cause }) })

const make = Effect.gen(function* () {
  const database = yield* ActorDatabase
  const statements = yield* attempt(() => {
    database.handle.exec(schema)
    const prepare = (sql: string) => {
      const statement = database.handle.prepare(sql)
      return (...values: ReadonlyArray<SQLInputValue>) => statement.run(...values)
    }
    return {
      create: prepare(
        "INSERT OR IGNORE INTO actor (id, name, key, runner_name, crash_policy, input, created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)"
      ),
      beginLife: prepare("INSERT OR REPLACE INTO actor_life VALUES (?, ?)"),
      live: prepare("UPDATE actor_life SET life = ?2 WHERE id = ?1"),
      forget: prepare("DELETE FROM actor WHERE id = ?"),
      forgetLife: prepare("DELETE FROM actor_life WHERE id = ?"),
      runner: prepare("INSERT OR REPLACE INTO runner VALUES (?, ?)"),
      forgetRunner: prepare("DELETE FROM runner WHERE session = ?"),
      alive: prepare("INSERT OR REPLACE INTO control VALUES (0, ?)")
    }
  })
  return ActorStore.of({
    load: attempt(() => {
      const { handle } = database
      const alive = handle.prepare("SELECT alive_at_ms FROM control").get()
      return {
        actors: handle.prepare("SELECT * FROM actor JOIN actor_life USING (id) ORDER BY position").all().map(toActor),
        runners: handle.prepare("SELECT runner FROM runner").all().map(toRunner),
        aliveAtMs: alive === undefined ? null : Number(alive.alive_at_ms)
      }
    }),
    write: ({ aliveAtMs, created, forgotten, forgottenRunners, lives, runners }) =>
      attempt(() =>
        database.transactionUnsafe(() => {
          for (const { actorId, createdAtMs, life, request } of created) {
            const { crashPolicy, input, key, name, runnerName } = request
            statements.create(actorId, name, key, runnerName, crashPolicy, input, createdAtMs)
            statements.beginLife(actorId, JSON.stringify(life))
          }
          for (const { actorId, life } of lives) statements.live(actorId, JSON.stringify(life))
          for (const actorId of forgotten) {
            statements.forget(actorId)
            statements.forgetLife(actorId)
          }
          for (const runner of runners) statements.runner(runner.session, runnerText(runner))
          for (const session of forgottenRunners) statements.forgetRunner(session)
          statements.alive(aliveAtMs)
        })
      ),
    gatherMs: 10
  })
})

/** In the database that is provided. Fails where its tables cannot be made. */
export const layer: Layer.Layer<ActorStore, ActorStoreError, ActorDatabase> = Layer.effect(ActorStore, make)
