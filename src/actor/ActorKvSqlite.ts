/**
 * The stores of actors in the database of `ActorDatabase.ts`: what was acknowledged is there again after the process was killed.
 *
 * A request that changes something is one transaction; one that only reads needs none, since nobody else has the file open and no other
 * statement runs in between. Rules and texts are those of `KvRules.ts`.
 */
import type { DatabaseSync, SQLOutputValue } from "node:sqlite"
import { Clock, Effect, Layer } from "effect"
import { ActorDatabase } from "./ActorDatabase.ts"
import { ActorKv, ActorKvError } from "./ActorKv.ts"
import type { KvRequest } from "./ActorMessage.ts"
import { answer, changes, type KvEntry, type KvOptions, type KvRange, type KvTable, storedBytes } from "./KvRules.ts"

// A store has a row once it has an entry, and its size beside it: the quota is asked at every put.
const tables = `
  CREATE TABLE IF NOT EXISTS kv_stores (
    id INTEGER PRIMARY KEY,
    actor TEXT NOT NULL UNIQUE,
    bytes INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS kv_entries (
    store INTEGER NOT NULL,
    key BLOB NOT NULL,
    value BLOB NOT NULL,
    version BLOB NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (store, key)
  ) STRICT, WITHOUT ROWID`

const prepare = (handle: DatabaseSync) => {
  handle.exec(tables)
  const columns = "key, value, version, updated_ms"
  const before = { bounded: "store = ? AND key >= ? AND key < ?", unbounded: "store = ? AND key >= ?" }
  const list = (where: string, order: string) =>
    handle.prepare(`SELECT ${columns} FROM kv_entries WHERE ${where} ORDER BY key ${order}`)
  const size = "length(key) + length(value) + 2"
  return {
    store: handle.prepare("SELECT id, bytes FROM kv_stores WHERE actor = ?"),
    addStore: handle.prepare("INSERT INTO kv_stores (actor, bytes) VALUES (?, 0)"),
    resize: handle.prepare("UPDATE kv_stores SET bytes = ? WHERE id = ?"),
    removeStore: handle.prepare("DELETE FROM kv_stores WHERE id = ?"),
    get: handle.prepare(`SELECT ${columns} FROM kv_entries WHERE store = ? AND key = ?`),
    sizeOf: handle.prepare(`SELECT ${size} AS bytes FROM kv_entries WHERE store = ? AND key = ?`),
    put: handle.prepare(
      `INSERT INTO kv_entries (store, ${columns}) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT DO UPDATE SET value = excluded.value, version = excluded.version, updated_ms = excluded.updated_ms`
    ),
    delete: handle.prepare("DELETE FROM kv_entries WHERE store = ? AND key = ?"),
    bounded: {
      ascending: list(before.bounded, "ASC"),
      descending: list(before.bounded, "DESC"),
      size: handle.prepare(`SELECT total(${size}) AS bytes FROM kv_entries WHERE ${before.bounded}`),
      delete: handle.prepare(`DELETE FROM kv_entries WHERE ${before.bounded}`)
    },
    unbounded: {
      ascending: list(before.unbounded, "ASC"),
      descending: list(before.unbounded, "DESC"),
      size: handle.prepare(`SELECT total(${size}) AS bytes FROM kv_entries WHERE ${before.unbounded}`),
      delete: handle.prepare(`DELETE FROM kv_entries WHERE ${before.unbounded}`)
    }
  }
}
type Statements = ReturnType<typeof prepare>

const entryOf = (row: Record<string, SQLOutputValue>): KvEntry => ({
  key: row.key as Uint8Array,
  value: row.value as Uint8Array,
  version: row.version as Uint8Array,
  updatedAtMs: BigInt(row.updated_ms as number)
})

/** One actor's rows, for the length of one request. */
class SqliteTable implements KvTable {
  private readonly statements: Statements
  private readonly actorId: string
  private readonly bytesMax: number
  private id: number | bigint | undefined
  private bytes = 0

  constructor(statements: Statements, actorId: string, bytesMax: number) {
    this.statements = statements
    this.actorId = actorId
    this.bytesMax = bytesMax
    const row = statements.store.get(actorId)
    if (row === undefined) return
    this.id = row.id as number
    this.bytes = row.bytes as number
  }

  remainingBytes(): number {
    return Math.max(0, this.bytesMax - this.bytes)
  }

  get(key: Uint8Array): KvEntry | undefined {
    if (this.id === undefined) return undefined
    const row = this.statements.get.get(this.id, key)
    return row === undefined ? undefined : entryOf(row)
  }

  *entries({ end, start }: KvRange, reverse: boolean): Iterable<KvEntry> {
    if (this.id === undefined) return
    const order = reverse ? "descending" : "ascending"
    const rows =
      end === undefined
        ? this.statements.unbounded[order].iterate(this.id, start)
        : this.statements.bounded[order].iterate(this.id, start, end)
    for (const row of rows) yield entryOf(row)
  }

  put({ key, updatedAtMs, value, version }: KvEntry): void {
    this.id ??= this.statements.addStore.run(this.actorId).lastInsertRowid
    const replaced = (this.statements.sizeOf.get(this.id, key)?.bytes ?? 0) as number
    this.statements.put.run(this.id, key, value, version, updatedAtMs)
    this.resize(this.id, storedBytes(key, value) - replaced)
  }

  delete(key: Uint8Array): void {
    if (this.id === undefined) return
    const row = this.statements.sizeOf.get(this.id, key)
    if (row === undefined) return
    this.statements.delete.run(this.id, key)
    this.resize(this.id, -(row.bytes as number))
  }

  deleteRange({ end, start }: KvRange): void {
    if (this.id === undefined) return
    const { bounded, unbounded } = this.statements
    const row = end === undefined ? unbounded.size.get(this.id, start) : bounded.size.get(this.id, start, end)
    if (row?.bytes === 0) return
    if (end === undefined) unbounded.delete.run(this.id, start)
    else bounded.delete.run(this.id, start, end)
    this.resize(this.id, -(row?.bytes as number))
  }

  private resize(id: number | bigint, by: number): void {
    this.bytes += by
    if (this.bytes > 0) {
      this.statements.resize.run(this.bytes, id)
      return
    }
    this.statements.removeStore.run(id)
    this.id = undefined
  }
}

/** Stores in the database, which may hold other tables as well. */
export const layer = (options: KvOptions): Layer.Layer<ActorKv, ActorKvError, ActorDatabase> =>
  Layer.effect(
    ActorKv,
    Effect.gen(function* () {
      const database = yield* ActorDatabase
      const attempt = <A>(body: () => A) => Effect.try({ try: body, catch: (cause) => new ActorKvError({ cause }) })
      const statements = yield* attempt(() => prepare(database.handle))
      const ask = (actorId: string, request: KvRequest, nowMs: number) => () => {
        const asked = () => answer(new SqliteTable(statements, actorId, options.storeBytesMax), request, nowMs, options)
        return changes(request) ? database.transactionUnsafe(asked) : asked()
      }
      return {
        ask: (actorId, request) =>
          Effect.flatMap(Clock.currentTimeMillis, (nowMs) => attempt(ask(actorId, request, nowMs)))
      }
    })
  )
