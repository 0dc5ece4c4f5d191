/**
 * What an actor's store answers, apart from where it keeps anything: which requests are refused and with which words, which keys a query
 * means, how much an answer may hold. `ActorKv.ts` and `ActorKvSqlite.ts` supply the table, so that both answer alike.
 *
 * Limits, texts and the order of the checks are Rivet's, since its clients show them to people. Two things differ on purpose: a prefix finds
 * all of its keys, those with 0xFF behind it too, and a list stops below what a client can decode. Pure and synchronous.
 */
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { KvQuery, KvRequest, KvResponse } from "./ActorMessage.ts"

/** One key with what is stored under it. */
export interface KvEntry {
  readonly key: Uint8Array
  readonly value: Uint8Array
  readonly version: Uint8Array
  readonly updatedAtMs: bigint
}

/** All keys from `start` on and before `end`; `undefined` is beyond every key. */
export interface KvRange {
  readonly start: Uint8Array
  readonly end: Uint8Array | undefined
}

/** One actor's entries as a layer keeps them. What it is given it copies, for it may be a view of a message. */
export interface KvTable {
  /** Bytes that may still be added, by `storedBytes`. */
  readonly remainingBytes: () => number
  readonly get: (key: Uint8Array) => KvEntry | undefined
  /** In byte order of the keys or its reverse; whoever reads may stop early. */
  readonly entries: (range: KvRange, reverse: boolean) => Iterable<KvEntry>
  readonly put: (entry: KvEntry) => void
  readonly delete: (key: Uint8Array) => void
  readonly deleteRange: (range: KvRange) => void
}

/** What makes one layer's answers differ from another's; tests make them narrow. */
export interface KvOptions {
  /** Stored with every entry: the text of the server's version. */
  readonly version: string
  readonly storeBytesMax: number
  readonly listBytesMax: number
}

/** As `tunnel/Limits.ts` has them. */
export const kvOptions = (version: string): KvOptions => ({
  version,
  storeBytesMax: limits.kvStoreBytesMax,
  listBytesMax: limits.kvListBytesMax
})

// What Rivet's key encoding adds to each key. Its limits count it.
const keyOverheadBytes = 2

// A key's, a value's and a version's length, and a time: the most that BARE spends on them.
const entryOverheadBytes = 3 * 5 + 8

/** What an entry counts towards the quota. Never zero, so a store of zero bytes is empty. */
export const storedBytes = (key: Uint8Array, value: Uint8Array): number => key.length + keyOverheadBytes + value.length

const longKey = (what: string) => `${what} is too long (max ${limits.kvKeyBytesMax + keyOverheadBytes} bytes)`
const isLong = (key: Uint8Array) => key.length > limits.kvKeyBytesMax

const keysRefusal = (keys: ReadonlyArray<Uint8Array>): string | undefined => {
  if (keys.length > limits.kvKeysMax) return `a maximum of ${limits.kvKeysMax} keys is allowed`
  return keys.some(isLong) ? longKey("key") : undefined
}

const boundsRefusal = (start: Uint8Array, end: Uint8Array): string | undefined => {
  if (isLong(start)) return longKey("start key")
  return isLong(end) ? longKey("end key") : undefined
}

const queryRefusal = (query: KvQuery): string | undefined => {
  switch (query._tag) {
    case "All":
      return undefined
    case "Range":
      return boundsRefusal(query.start, query.end)
    case "Prefix":
      return isLong(query.key) ? longKey("prefix key") : undefined
  }
  return absurd(query)
}

const putRefusal = (
  keys: ReadonlyArray<Uint8Array>,
  values: ReadonlyArray<Uint8Array>,
  remainingBytes: () => number
): string | undefined => {
  if (keys.length !== values.length) return "Keys list length != values list length"
  if (keys.length > limits.kvKeysMax) return `A maximum of ${limits.kvKeysMax} key-value entries is allowed`
  let payload = 0
  for (let at = 0; at < keys.length; at++) payload += storedBytes(keys[at] as Uint8Array, values[at] as Uint8Array)
  if (payload > limits.kvPutBytesMax) return `total payload is too large (max ${limits.kvPutBytesMax / 1024} KiB)`
  const remaining = remainingBytes()
  if (payload > remaining) {
    return `Not enough space left in storage (${remaining} bytes remaining, current payload is ${payload} bytes)`
  }
  if (keys.some(isLong)) return longKey("key")
  const isLarge = values.some((value) => value.length > limits.kvValueBytesMax)
  return isLarge ? `value is too large (max ${limits.kvValueBytesMax / 1024} KiB)` : undefined
}

/** Why the request is refused, in Rivet's words; undefined where it is not. */
export const refusal = (request: KvRequest, remainingBytes: () => number): string | undefined => {
  switch (request._tag) {
    case "Get":
    case "Delete":
      return keysRefusal(request.keys)
    case "List":
      return queryRefusal(request.query)
    case "Put":
      return putRefusal(request.keys, request.values, remainingBytes)
    case "DeleteRange":
      return boundsRefusal(request.start, request.end)
    case "Drop":
      return undefined
  }
  return absurd(request)
}

const everything: KvRange = { start: new Uint8Array(0), end: undefined }

/** The first key in order that does not begin with `prefix` and is not before it. */
const behindPrefix = (prefix: Uint8Array): Uint8Array | undefined => {
  let last = prefix.length - 1
  while (last >= 0 && prefix[last] === 0xff) last--
  if (last < 0) return undefined
  // Not `slice`: that of a Buffer, which a decoded message is made of, copies nothing.
  const behind = Uint8Array.from(prefix.subarray(0, last + 1))
  behind[last] = (behind[last] as number) + 1
  return behind
}

/** The first key in order behind `key`. */
const behindKey = (key: Uint8Array): Uint8Array => {
  const behind = new Uint8Array(key.length + 1)
  behind.set(key)
  return behind
}

/** The keys a query means. */
export const rangeOf = (query: KvQuery): KvRange => {
  switch (query._tag) {
    case "All":
      return everything
    case "Range":
      return { start: query.start, end: query.exclusive ? query.end : behindKey(query.end) }
    case "Prefix":
      return { start: query.key, end: behindPrefix(query.key) }
  }
  return absurd(query)
}

/** An answer's three lists, and what they weigh on the wire. */
class Entries {
  readonly keys: Array<Uint8Array> = []
  readonly values: Array<Uint8Array> = []
  readonly metadata: Array<{ readonly version: Uint8Array; readonly updatedAtMs: bigint }> = []
  wireBytes = 0

  push({ key, updatedAtMs, value, version }: KvEntry): void {
    this.keys.push(key)
    this.values.push(value)
    this.metadata.push({ version, updatedAtMs })
  }

  /** Whether the entry still fits; the first always does. */
  takes({ key, value, version }: KvEntry, bytesMax: number): boolean {
    this.wireBytes += key.length + value.length + version.length + entryOverheadBytes
    return this.keys.length === 0 || this.wireBytes <= bytesMax
  }

  answer<Tag extends "Got" | "Listed">(tag: Tag) {
    return { _tag: tag, keys: this.keys, values: this.values, metadata: this.metadata } as const
  }
}

const got = (table: KvTable, keys: ReadonlyArray<Uint8Array>): KvResponse => {
  const entries = new Entries()
  let previous: Uint8Array | undefined
  for (const key of keys) {
    const repeated = previous !== undefined && Buffer.compare(previous, key) === 0
    previous = key
    const entry = repeated ? undefined : table.get(key)
    if (entry !== undefined) entries.push(entry)
  }
  return entries.answer("Got")
}

const listed = (table: KvTable, request: KvRequest & { readonly _tag: "List" }, bytesMax: number): KvResponse => {
  const asked = request.limit ?? BigInt(limits.kvListEntriesDefault)
  const limit = asked > limits.kvListEntriesMax ? limits.kvListEntriesMax : Number(asked)
  const entries = new Entries()
  if (limit > 0) {
    for (const entry of table.entries(rangeOf(request.query), request.reverse ?? false)) {
      if (!entries.takes(entry, bytesMax)) break
      entries.push(entry)
      if (entries.keys.length === limit) break
    }
  }
  return entries.answer("Listed")
}

/** Judges the request and carries it out. Of a key that stands twice in one put, the later value stays. */
export const answer = (table: KvTable, request: KvRequest, nowMs: number, options: KvOptions): KvResponse => {
  const message = refusal(request, () => table.remainingBytes())
  if (message !== undefined) return { _tag: "Failed", message }
  switch (request._tag) {
    case "Get":
      return got(table, request.keys)
    case "List":
      return listed(table, request, options.listBytesMax)
    case "Put": {
      const version = Buffer.from(options.version, "utf8")
      const updatedAtMs = BigInt(Math.trunc(nowMs))
      request.keys.forEach((key, at) => {
        table.put({ key, value: request.values[at] as Uint8Array, version, updatedAtMs })
      })
      return { _tag: "Stored" }
    }
    case "Delete":
      for (const key of request.keys) table.delete(key)
      return { _tag: "Deleted" }
    case "DeleteRange":
      table.deleteRange(request)
      return { _tag: "Deleted" }
    case "Drop":
      table.deleteRange(everything)
      return { _tag: "Dropped" }
  }
  return absurd(request)
}

/** Whether a request may change anything. */
export const changes = (request: KvRequest): boolean => {
  switch (request._tag) {
    case "Get":
    case "List":
      return false
    case "Put":
    case "Delete":
    case "DeleteRange":
    case "Drop":
      return true
  }
  return absurd(request)
}
