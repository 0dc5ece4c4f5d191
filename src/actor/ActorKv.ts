/**
 * The store of each actor: keys and values as bytes, kept apart by actor, ordered by key. What Rivet's clients expect of it, limits and error
 * texts among them, stands in `KvRules.ts`.
 *
 * `layerMemory` is for tests and for a hub that keeps nothing; `ActorKvSqlite.ts` survives the process. Who may ask is not decided here:
 * `hub/rivet/ActorChannel.ts` asks `ActorControl.ts` first.
 */
import { Clock, Context, Effect, Layer, Schema } from "effect"
import { limits } from "../tunnel/Limits.ts"
import type { KvRequest, KvResponse } from "./ActorMessage.ts"
import { answer, type KvEntry, type KvOptions, type KvRange, type KvTable, kvOptions, storedBytes } from "./KvRules.ts"

/** The store itself failed: a full disk, a broken file. What a request did wrong is an answer (`Failed`), not this. */
export class ActorKvError extends Schema.TaggedError<ActorKvError>()("ActorKvError", {
  cause: Schema.Defect()
}) {}

/** Keys and values of actors. */
export class ActorKv extends Context.Service<
  ActorKv,
  {
    /** Answers one request to one actor's store. A change has lasted, as far as the layer lasts at all, when the effect returns. */
    readonly ask: (actorId: string, request: KvRequest) => Effect.Effect<KvResponse, ActorKvError>
  }
>()("wayleave/actor/ActorKv") {}

/** What all stores in memory share. */
export interface KvMemoryOptions extends KvOptions {
  readonly memoryBytesMax: number
}

// Its objects and its place in the array: many small entries cost more than their bytes.
const entryMemoryBytes = 256
// A put is judged by its bytes, so room for the objects of as many entries as it may have is set aside.
const putObjectsBytes = limits.kvKeysMax * entryMemoryBytes

/** All tables, and what they hold together. */
class KvMemory {
  readonly options: KvMemoryOptions
  private readonly tables = new Map<string, MemoryTable>()
  private bytes = 0

  constructor(options: KvMemoryOptions) {
    this.options = options
  }

  table(actorId: string): MemoryTable {
    return this.tables.get(actorId) ?? new MemoryTable(this, actorId)
  }

  /** A table is kept for as long as it has entries, so that the map is bounded by what it holds. */
  account(table: MemoryTable, entries: number, bytes: number): void {
    this.bytes += bytes + entries * entryMemoryBytes
    if (table.size === 0) this.tables.delete(table.actorId)
    else this.tables.set(table.actorId, table)
  }

  remainingBytes(): number {
    return Math.max(0, this.options.memoryBytesMax - this.bytes - putObjectsBytes)
  }
}

/** Entries in one sorted array: moving what is behind an insertion costs a memory move, and lists are slices. */
class MemoryTable implements KvTable {
  readonly actorId: string
  private readonly memory: KvMemory
  private readonly sorted: Array<KvEntry> = []
  private bytes = 0

  constructor(memory: KvMemory, actorId: string) {
    this.memory = memory
    this.actorId = actorId
  }

  get size(): number {
    return this.sorted.length
  }

  remainingBytes(): number {
    return Math.max(0, Math.min(this.memory.options.storeBytesMax - this.bytes, this.memory.remainingBytes()))
  }

  get(key: Uint8Array): KvEntry | undefined {
    const entry = this.sorted[this.placeOf(key)]
    return entry !== undefined && Buffer.compare(entry.key, key) === 0 ? entry : undefined
  }

  *entries(range: KvRange, reverse: boolean): Iterable<KvEntry> {
    const [from, to] = this.places(range)
    if (reverse) for (let at = to - 1; at >= from; at--) yield this.sorted[at] as KvEntry
    else for (let at = from; at < to; at++) yield this.sorted[at] as KvEntry
  }

  put({ key, value, ...metadata }: KvEntry): void {
    const kept = { key: Uint8Array.from(key), value: Uint8Array.from(value), ...metadata }
    this.replace(this.placeOf(key), this.get(key) === undefined ? 0 : 1, kept)
  }

  delete(key: Uint8Array): void {
    if (this.get(key) !== undefined) this.replace(this.placeOf(key), 1)
  }

  deleteRange(range: KvRange): void {
    const [from, to] = this.places(range)
    if (from < to) this.replace(from, to - from)
  }

  private replace(at: number, count: number, ...by: ReadonlyArray<KvEntry>): void {
    let bytes = 0
    for (const { key, value } of by) bytes += storedBytes(key, value)
    for (const { key, value } of this.sorted.splice(at, count, ...by)) bytes -= storedBytes(key, value)
    this.bytes += bytes
    this.memory.account(this, by.length - count, bytes)
  }

  private places({ end, start }: KvRange): readonly [from: number, to: number] {
    return [this.placeOf(start), end === undefined ? this.sorted.length : this.placeOf(end)]
  }

  /** Where `key` is, or would be put in. */
  private placeOf(key: Uint8Array): number {
    let from = 0
    let to = this.sorted.length
    while (from < to) {
      const middle = (from + to) >>> 1
      if (Buffer.compare((this.sorted[middle] as KvEntry).key, key) < 0) from = middle + 1
      else to = middle
    }
    return from
  }
}

/** Stores in this process's memory, with bounds of one's own. */
export const layerMemoryWith = (options: KvMemoryOptions): Layer.Layer<ActorKv> =>
  Layer.sync(ActorKv, () => {
    const memory = new KvMemory(options)
    return {
      ask: (actorId, request) =>
        Effect.map(Clock.currentTimeMillis, (now) => answer(memory.table(actorId), request, now, options))
    }
  })

/** The same as `tunnel/Limits.ts` has them: complete and bounded, and gone with the process. */
export const layerMemory: Layer.Layer<ActorKv> = layerMemoryWith({
  ...kvOptions("wayleave"),
  memoryBytesMax: limits.kvMemoryBytesMax
})
