/** What every store of actors owes, whatever it keeps them in. Each test has a store of its own. */
import { assert, it } from "@effect/vitest"
import { Effect, type Layer } from "effect"
import { TestClock } from "effect/testing"
import { ActorKv } from "../../src/actor/ActorKv.ts"
import type { KvQuery, KvRequest, KvResponse } from "../../src/actor/ActorMessage.ts"
import { type KvOptions, kvOptions } from "../../src/actor/KvRules.ts"
import { limits } from "../../src/tunnel/Limits.ts"

/** Bytes as this suite writes them: text, or numbers. */
export const bytes = (of: string | ReadonlyArray<number>): Uint8Array =>
  typeof of === "string" ? new TextEncoder().encode(of) : Uint8Array.from(of)
const text = (of: Uint8Array): string => Buffer.from(of).toString("latin1")

export const put = (entries: ReadonlyArray<readonly [Uint8Array, Uint8Array]>): KvRequest => ({
  _tag: "Put",
  keys: entries.map(([key]) => key),
  values: entries.map(([, value]) => value)
})
export const list = (query: KvQuery, options: { reverse?: boolean; limit?: bigint } = {}): KvRequest => ({
  _tag: "List",
  query,
  reverse: options.reverse ?? null,
  limit: options.limit ?? null
})
export const everything: KvQuery = { _tag: "All" }
const range = (start: string, end: string, exclusive = false): KvQuery => ({
  _tag: "Range",
  start: bytes(start),
  end: bytes(end),
  exclusive
})
const prefix = (key: Uint8Array): KvQuery => ({ _tag: "Prefix", key })
const sized = (length: number, fill = 1): Uint8Array => new Uint8Array(length).fill(fill)
const times = <A>(count: number, make: (at: number) => A): ReadonlyArray<A> =>
  Array.from({ length: count }, (_, at) => make(at))
const numbered = (at: number) => bytes([at >> 16, (at >> 8) & 0xff, at & 0xff])

const entriesOf = (response: KvResponse) => {
  if (response._tag !== "Got" && response._tag !== "Listed") return assert.fail(`answered ${response._tag}`)
  assert.strictEqual(response.values.length, response.keys.length)
  assert.strictEqual(response.metadata.length, response.keys.length)
  return response.keys.map((key, at) => ({
    key: Uint8Array.from(key),
    value: Uint8Array.from(response.values[at] as Uint8Array),
    version: text(response.metadata[at]?.version as Uint8Array),
    updatedAtMs: response.metadata[at]?.updatedAtMs as bigint
  }))
}
const keysOf = (response: KvResponse) => entriesOf(response).map(({ key }) => text(key))

/** The suite. `layer` makes a new store with these bounds each time it is built. */
export const actorKvContract = (name: string, layer: (options: KvOptions) => Layer.Layer<ActorKv, unknown>): void => {
  const options = kvOptions("7.8.9")
  const test = (title: string, body: Effect.Effect<void, unknown, ActorKv>, bounds: Partial<KvOptions> = {}) =>
    it.effect(`${name}: ${title}`, () => Effect.provide(body, layer({ ...options, ...bounds })), 30_000)

  const ask = (request: KvRequest, actor = "a") => ActorKv.use((kv) => kv.ask(actor, request))
  const stored = (entries: ReadonlyArray<readonly [Uint8Array, Uint8Array]>, actor = "a") =>
    Effect.map(ask(put(entries), actor), (response) => assert.deepStrictEqual(response, { _tag: "Stored" }))
  const filled = (...keys: ReadonlyArray<string>) => stored(keys.map((key) => [bytes(key), bytes(`=${key}`)]))
  const keys = (request: KvRequest, actor = "a") => Effect.map(ask(request, actor), keysOf)
  const remaining = keys(list(everything))
  const refused = (request: KvRequest, message: string) =>
    Effect.map(ask(request), (response) => assert.deepStrictEqual(response, { _tag: "Failed", message }))

  test(
    "answers a get in the order asked, leaving out what is missing and saying twice what is asked twice, but not at once",
    Effect.gen(function* () {
      yield* filled("a", "b", "c")
      const get = (...asked: ReadonlyArray<string>) => keys({ _tag: "Get", keys: asked.map(bytes) })
      assert.deepStrictEqual(yield* get("c", "nothing", "a"), ["c", "a"])
      assert.deepStrictEqual(yield* get("b", "b", "a", "b"), ["b", "a", "b"])
      assert.deepStrictEqual(yield* get(), [])
      assert.deepStrictEqual(yield* get("nothing"), [])
    })
  )
  test(
    "keeps the value, the server's version and the time of the last put",
    Effect.gen(function* () {
      yield* TestClock.setTime(1_700_000_000_123)
      yield* stored([
        [bytes("k"), bytes("first")],
        [bytes("other"), bytes("same")]
      ])
      yield* TestClock.adjust("1 second")
      yield* stored([[bytes("k"), bytes("second")]])
      assert.deepStrictEqual(entriesOf(yield* ask(list(everything))), [
        { key: bytes("k"), value: bytes("second"), version: "7.8.9", updatedAtMs: 1_700_000_001_123n },
        { key: bytes("other"), value: bytes("same"), version: "7.8.9", updatedAtMs: 1_700_000_000_123n }
      ])
    })
  )
  test(
    "keeps the later of two values for one key in one put",
    Effect.gen(function* () {
      yield* stored([
        [bytes("k"), bytes("first")],
        [bytes("k"), bytes("second")]
      ])
      assert.deepStrictEqual(
        entriesOf(yield* ask(list(everything))).map(({ value }) => text(value)),
        ["second"]
      )
    })
  )
  test(
    "keeps what it was given, whatever becomes of the message that it came in",
    Effect.gen(function* () {
      for (const message of [bytes("xxkeyvaluexx"), Buffer.from("xxkeyvaluexx")]) {
        yield* stored([[message.subarray(2, 5), message.subarray(5, 10)]])
        message.fill(0)
        const [entry] = entriesOf(yield* ask(list(everything)))
        assert.deepStrictEqual([text(entry?.key as Uint8Array), text(entry?.value as Uint8Array)], ["key", "value"])
        yield* ask({ _tag: "Drop" })
      }
    })
  )
  test(
    "keeps an empty key, an empty value, and every byte there is",
    Effect.gen(function* () {
      const all = times(256, (at) => at)
      yield* stored([
        [bytes(""), bytes("")],
        [bytes(all), bytes(all)]
      ])
      const entries = entriesOf(yield* ask({ _tag: "Get", keys: [bytes(""), bytes(all)] }))
      assert.deepStrictEqual(
        entries.map(({ key, value }) => [[...key], [...value]]),
        [
          [[], []],
          [all, all]
        ]
      )
    })
  )
  test(
    "keeps actors apart",
    Effect.gen(function* () {
      yield* stored([[bytes("k"), bytes("of a")]], "a")
      yield* stored([[bytes("k"), bytes("of b")]], "b")
      assert.deepStrictEqual(yield* ask({ _tag: "Drop" }, "a"), { _tag: "Dropped" })
      assert.deepStrictEqual(yield* keys(list(everything), "a"), [])
      assert.deepStrictEqual(
        entriesOf(yield* ask(list(everything), "b")).map(({ value }) => text(value)),
        ["of b"]
      )
      assert.deepStrictEqual(yield* keys(list(everything), "c"), [])
    })
  )
  test(
    "lists in the order of bytes, or the reverse of it, up to a limit",
    Effect.gen(function* () {
      const order = [[], [0], [0, 0], [0, 255], [1], [127], [128], [255], [255, 0], [255, 255]]
      yield* stored(order.toReversed().map((key) => [bytes(key), bytes(key)]))
      const names = order.map((key) => text(bytes(key)))
      assert.deepStrictEqual(yield* keys(list(everything)), names)
      assert.deepStrictEqual(yield* keys(list(everything, { reverse: true })), names.toReversed())
      assert.deepStrictEqual(yield* keys(list(everything, { reverse: false, limit: 3n })), names.slice(0, 3))
      assert.deepStrictEqual(yield* keys(list(everything, { reverse: true, limit: 3n })), names.slice(-3).toReversed())
      assert.deepStrictEqual(yield* keys(list(everything, { limit: 0n })), [])
      assert.deepStrictEqual(yield* keys(list(everything, { limit: 2n ** 64n - 1n })), names)
    })
  )
  test(
    "lists whole values either way",
    Effect.gen(function* () {
      const values = times(2, (at) => bytes(times(100_000, (place) => (place * (at + 3)) & 0xff)))
      yield* stored(values.map((value, at) => [numbered(at), value]))
      const found = (reverse: boolean) =>
        Effect.map(ask(list(everything, { reverse })), (response) => entriesOf(response).map(({ value }) => value))
      assert.deepStrictEqual(yield* found(false), [...values])
      assert.deepStrictEqual(yield* found(true), values.toReversed())
    })
  )
  test(
    "lists a range from its start, with its end or without",
    Effect.gen(function* () {
      yield* filled("a", "b", "b0", "c", "d")
      assert.deepStrictEqual(yield* keys(list(range("b", "c"))), ["b", "b0", "c"])
      assert.deepStrictEqual(yield* keys(list(range("b", "c", true))), ["b", "b0"])
      assert.deepStrictEqual(yield* keys(list(range("b", "c"), { reverse: true, limit: 2n })), ["c", "b0"])
      assert.deepStrictEqual(yield* keys(list(range("b", "b"))), ["b"])
      assert.deepStrictEqual(yield* keys(list(range("b", "b", true))), [])
      assert.deepStrictEqual(yield* keys(list(range("c", "b"))), [])
      assert.deepStrictEqual(yield* keys(list(range("", "zzz"))), ["a", "b", "b0", "c", "d"])
    })
  )
  test(
    "finds all that begins with a prefix, 0xFF behind it too",
    Effect.gen(function* () {
      const all = [[1], [1, 0], [1, 254, 255], [1, 255], [1, 255, 255], [2], [255], [255, 255], [255, 255, 1]]
      yield* stored(all.map((key) => [bytes(key), bytes("")]))
      for (const of of [[], [1], [1, 255], [2], [255], [255, 255], [3]]) {
        const expected = all.filter((key) => of.every((byte, at) => key[at] === byte)).map((key) => text(bytes(key)))
        assert.deepStrictEqual(yield* keys(list(prefix(bytes(of)))), expected)
        assert.deepStrictEqual(yield* keys(list(prefix(bytes(of)), { reverse: true })), expected.toReversed())
      }
    })
  )
  test(
    "takes bytes of either kind, and leaves them as they are",
    Effect.gen(function* () {
      yield* filled("a", "b", "b0", "c")
      const b = Buffer.from("b")
      const c = Buffer.from("c")
      assert.deepStrictEqual(yield* keys(list(prefix(b))), ["b", "b0"])
      assert.deepStrictEqual(yield* keys(list({ _tag: "Range", start: b, end: b, exclusive: false })), ["b"])
      assert.deepStrictEqual(yield* keys({ _tag: "Get", keys: [b, bytes("b"), c] }), ["b", "c"])
      assert.deepStrictEqual(yield* ask({ _tag: "DeleteRange", start: b, end: c }), { _tag: "Deleted" })
      assert.deepStrictEqual(yield* remaining, ["a", "c"])
      assert.deepStrictEqual([b.toString(), c.toString()], ["b", "c"])
    })
  )
  test(
    "deletes keys, those that were never there too",
    Effect.gen(function* () {
      yield* filled("a", "b", "c")
      const request: KvRequest = { _tag: "Delete", keys: ["b", "nothing", "b"].map(bytes) }
      assert.deepStrictEqual(yield* ask(request), { _tag: "Deleted" })
      assert.deepStrictEqual(yield* remaining, ["a", "c"])
      assert.deepStrictEqual(yield* ask(request), { _tag: "Deleted" })
      assert.deepStrictEqual(yield* ask({ _tag: "Delete", keys: [bytes("x")] }, "nobody"), { _tag: "Deleted" })
    })
  )
  test(
    "deletes a range without its end, and nothing where the end is not behind the start",
    Effect.gen(function* () {
      yield* filled("a", "b", "b0", "c", "d")
      const from = (start: string, end: string): KvRequest => ({
        _tag: "DeleteRange",
        start: bytes(start),
        end: bytes(end)
      })
      for (const request of [from("c", "b"), from("b", "b"), from("x", "z")]) {
        assert.deepStrictEqual(yield* ask(request), { _tag: "Deleted" })
        assert.deepStrictEqual(yield* remaining, ["a", "b", "b0", "c", "d"])
      }
      assert.deepStrictEqual(yield* ask(from("b", "c")), { _tag: "Deleted" })
      assert.deepStrictEqual(yield* remaining, ["a", "c", "d"])
      assert.deepStrictEqual(yield* ask(from("", "z"), "nobody"), { _tag: "Deleted" })
    })
  )
  test(
    "drops all of an actor, and begins anew",
    Effect.gen(function* () {
      yield* filled("a", "b")
      assert.deepStrictEqual(yield* ask({ _tag: "Drop" }), { _tag: "Dropped" })
      assert.deepStrictEqual(yield* ask({ _tag: "Drop" }), { _tag: "Dropped" })
      assert.deepStrictEqual(yield* remaining, [])
      yield* filled("b")
      assert.deepStrictEqual(yield* remaining, ["b"])
    })
  )

  const keyMax = limits.kvKeyBytesMax
  test(
    "takes keys, prefixes and bounds of 2046 bytes, and none longer",
    Effect.gen(function* () {
      const long = sized(keyMax)
      const longer = sized(keyMax + 1)
      const short = bytes("k")
      assert.strictEqual(keyMax, 2046)
      yield* stored([[long, short]])
      const answered = [
        { _tag: "Get", keys: [long] },
        list(prefix(long)),
        list({ _tag: "Range", start: long, end: long, exclusive: false })
      ] as const
      for (const request of answered) assert.strictEqual((yield* keys(request)).length, 1)
      assert.deepStrictEqual(yield* ask({ _tag: "DeleteRange", start: long, end: long }), { _tag: "Deleted" })
      assert.deepStrictEqual(yield* ask({ _tag: "Delete", keys: [long] }), { _tag: "Deleted" })
      yield* refused({ _tag: "Get", keys: [short, longer] }, "key is too long (max 2048 bytes)")
      yield* refused({ _tag: "Delete", keys: [longer] }, "key is too long (max 2048 bytes)")
      yield* refused(
        put([
          [short, short],
          [longer, short]
        ]),
        "key is too long (max 2048 bytes)"
      )
      yield* refused(list(prefix(longer)), "prefix key is too long (max 2048 bytes)")
      const bounds: ReadonlyArray<readonly [Uint8Array, Uint8Array, string]> = [
        [longer, longer, "start key is too long (max 2048 bytes)"],
        [short, longer, "end key is too long (max 2048 bytes)"]
      ]
      for (const [start, end, message] of bounds) {
        yield* refused(list({ _tag: "Range", start, end, exclusive: true }), message)
        yield* refused({ _tag: "DeleteRange", start, end }, message)
      }
      assert.deepStrictEqual(yield* remaining, [])
    })
  )
  test(
    "takes values of 128 KiB, and none larger",
    Effect.gen(function* () {
      yield* stored([[bytes("k"), sized(131_072)]])
      yield* refused(put([[bytes("k"), sized(131_073)]]), "value is too large (max 128 KiB)")
      const [entry] = entriesOf(yield* ask(list(everything)))
      assert.strictEqual(entry?.value.length, 131_072)
    })
  )
  test(
    "takes 128 keys or entries at once, and none more",
    Effect.gen(function* () {
      const most = times(128, numbered)
      const more = times(129, numbered)
      yield* stored(most.map((key) => [key, bytes("")]))
      assert.strictEqual((yield* keys({ _tag: "Get", keys: most })).length, 128)
      yield* refused({ _tag: "Get", keys: more }, "a maximum of 128 keys is allowed")
      yield* refused({ _tag: "Delete", keys: more }, "a maximum of 128 keys is allowed")
      yield* refused(put(more.map((key) => [key, bytes("")])), "A maximum of 128 key-value entries is allowed")
      assert.deepStrictEqual(yield* ask({ _tag: "Delete", keys: most }), { _tag: "Deleted" })
      assert.deepStrictEqual(yield* remaining, [])
    })
  )
  test(
    "takes 976 KiB in one put, two bytes more a key, and nothing beyond",
    Effect.gen(function* () {
      const full = times(7, (at) => [numbered(at), sized(131_072)] as const)
      const spent = 7 * (3 + 2 + 131_072)
      const rest = 999_424 - spent - (1 + 2)
      yield* stored([...full, [bytes("k"), sized(rest)]])
      yield* refused(put([...full, [bytes("k"), sized(rest + 1)]]), "total payload is too large (max 976 KiB)")
    })
  )
  test(
    "judges a put by its lists' lengths, its count, its payload, the quota, its keys and its values, in this order",
    Effect.gen(function* () {
      const longer = sized(keyMax + 1)
      const larger = sized(131_073)
      const all = times(129, () => [longer, larger] as const)
      const { keys: manyKeys, values: manyValues } = put(all) as KvRequest & { readonly _tag: "Put" }
      yield* refused(
        { _tag: "Put", keys: manyKeys, values: manyValues.slice(1) },
        "Keys list length != values list length"
      )
      yield* refused(put(all), "A maximum of 128 key-value entries is allowed")
      yield* refused(put(all.slice(1)), "total payload is too large (max 976 KiB)")
      const payload = 2 * (keyMax + 1 + 2 + 131_073)
      yield* refused(
        put(all.slice(0, 2)),
        `Not enough space left in storage (200000 bytes remaining, current payload is ${payload} bytes)`
      )
      yield* refused(put(all.slice(0, 1)), "key is too long (max 2048 bytes)")
      yield* refused(put([[bytes("k"), larger]]), "value is too large (max 128 KiB)")
      assert.deepStrictEqual(yield* remaining, [])
    }),
    { storeBytesMax: 200_000 }
  )
  const full = (left: number, payload: number) =>
    `Not enough space left in storage (${left} bytes remaining, current payload is ${payload} bytes)`
  test(
    "holds an actor to its quota, and gives back what is replaced and deleted",
    Effect.gen(function* () {
      yield* stored([[bytes("a"), sized(97)]])
      yield* refused(put([[bytes("b"), sized(0)]]), full(0, 3))
      assert.deepStrictEqual(yield* remaining, ["a"])
      yield* stored([[bytes("b"), sized(97)]], "b")

      assert.deepStrictEqual(yield* ask({ _tag: "Delete", keys: [bytes("a")] }), { _tag: "Deleted" })
      yield* stored([[bytes("a"), sized(57)]])
      yield* refused(put([[bytes("a"), sized(38)]]), full(40, 41))
      yield* stored([[bytes("a"), sized(37)]])
      yield* stored([[bytes("b"), sized(57)]])
      yield* refused(put([[bytes("c"), sized(0)]]), full(0, 3))

      const some: KvRequest = { _tag: "DeleteRange", start: bytes("a"), end: bytes("b") }
      assert.deepStrictEqual(yield* ask(some), { _tag: "Deleted" })
      yield* refused(put([[bytes("c"), sized(38)]]), full(40, 41))
      assert.deepStrictEqual(yield* ask({ _tag: "Drop" }), { _tag: "Dropped" })
      yield* stored([[bytes("c"), sized(97)]])
    }),
    { storeBytesMax: 100 }
  )
  test(
    "lists at most 16,384 entries where no limit is named",
    Effect.gen(function* () {
      const count = 16_384 + 10
      for (let from = 0; from < count; from += 128) {
        yield* stored(times(Math.min(128, count - from), (at) => [numbered(from + at), bytes("")]))
      }
      assert.strictEqual((yield* remaining).length, 16_384)
      assert.strictEqual((yield* keys(list(everything, { limit: 16_390n }))).length, 16_390)
      assert.strictEqual((yield* keys(list(everything, { limit: 20_000n }))).length, count)
    })
  )
  test(
    "stops a list below the bytes it may have, and goes on from behind the last key",
    Effect.gen(function* () {
      yield* stored(times(20, (at) => [numbered(at), sized(100)]))
      const whole = times(20, (at) => text(numbered(at)))
      // Each entry: 3 + 100 + 5 bytes of key, value and version, and 23 for lengths and time.
      const fitting = Math.floor(1000 / 131)
      assert.strictEqual((yield* remaining).length, fitting)
      assert.strictEqual((yield* keys(list(everything, { limit: 3n }))).length, 3)

      const forwards: Array<string> = []
      let start = bytes("")
      for (let part = [""]; part.length > 0; ) {
        part = [...(yield* keys(list({ _tag: "Range", start, end: sized(9, 255), exclusive: true })))]
        forwards.push(...part)
        start = Uint8Array.from([...Buffer.from(part.at(-1) ?? "", "latin1"), 0])
      }
      assert.deepStrictEqual(forwards, whole)

      const backwards: Array<string> = []
      let end = sized(9, 255)
      for (let part = [""]; part.length > 0; ) {
        const query: KvQuery = { _tag: "Range", start: bytes(""), end, exclusive: true }
        part = [...(yield* keys(list(query, { reverse: true })))]
        backwards.push(...part)
        end = Buffer.from(part.at(-1) ?? "", "latin1")
      }
      assert.deepStrictEqual(backwards, whole.toReversed())
    }),
    { listBytesMax: 1000 }
  )
  test(
    "shows an entry that alone is more than a list may have",
    Effect.gen(function* () {
      yield* stored(times(2, (at) => [numbered(at), sized(100)]))
      assert.strictEqual((yield* remaining).length, 1)
    }),
    { listBytesMax: 10 }
  )
  test(
    "stands ready for the next request whatever came before",
    Effect.gen(function* () {
      const all = yield* Effect.all(
        times(50, (at) => (at % 2 === 0 ? filled(`k${at}`) : Effect.asVoid(ask(list(everything, { limit: 1n }))))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(all.length, 50)
      assert.strictEqual((yield* remaining).length, 25)
    })
  )
}
