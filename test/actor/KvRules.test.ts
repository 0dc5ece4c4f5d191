import { assert, it } from "@effect/vitest"
import type { KvRequest, KvResponse } from "../../src/actor/ActorMessage.ts"
import {
  answer,
  changes,
  type KvEntry,
  type KvTable,
  kvOptions,
  rangeOf,
  refusal,
  storedBytes
} from "../../src/actor/KvRules.ts"
import * as Rivet from "../../src/protocol/Rivet.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const options = kvOptions("1.2.3")
const MiB = 1024 * 1024

/** A table that lists as many entries as are asked of it, and counts them. */
const endless = (entry: (at: number) => KvEntry) => {
  const seen = { given: 0 }
  const table: KvTable = {
    remainingBytes: () => 0,
    get: () => undefined,
    *entries() {
      for (;;) yield entry(seen.given++)
    },
    put: () => assert.fail("put"),
    delete: () => assert.fail("delete"),
    deleteRange: () => assert.fail("deleteRange")
  }
  return { seen, table }
}
const numbered = (at: number) => Uint8Array.from([at >> 24, (at >> 16) & 0xff, (at >> 8) & 0xff, at & 0xff])
const listAll = (limit: bigint | null): KvRequest => ({ _tag: "List", query: { _tag: "All" }, reverse: null, limit })
const listedBy = (response: KvResponse) => (response._tag === "Listed" ? response : assert.fail(response._tag))

const encoded = (response: KvResponse): ReadonlyArray<Uint8Array> =>
  Rivet.versions.map((version) => {
    const message = { _tag: "KvAnswered", requestId: 1, response } as const
    return version.encodeDown({ _tag: "Actor", message }) as Uint8Array
  })

it("no list is more than a client can decode, and little is left unused", () => {
  for (const [keyBytes, valueBytes] of [
    [limits.kvKeyBytesMax, limits.kvValueBytesMax],
    [0, 1500]
  ] as const) {
    const { seen, table } = endless((at) => ({
      key: Buffer.concat([numbered(at), new Uint8Array(keyBytes)]),
      value: new Uint8Array(valueBytes),
      version: Buffer.from(options.version),
      updatedAtMs: 1n
    }))
    const response = listedBy(answer(table, listAll(2n ** 64n - 1n), 0, options))
    assert.strictEqual(seen.given, response.keys.length + 1)
    for (const message of encoded(response)) {
      assert.isAtMost(message.length, 32 * MiB - 1)
      assert.isAtMost(message.length, limits.kvListBytesMax + 64)
      assert.isAtLeast(message.length, 30 * MiB)
    }
  }
})

it("no list is longer than kvListEntriesMax, whatever limit it names", () => {
  const { seen, table } = endless((at) => ({
    key: numbered(at),
    value: new Uint8Array(0),
    version: new Uint8Array(0),
    updatedAtMs: 0n
  }))
  for (const [limit, count] of [
    [21_844n, 21_844],
    [21_845n, 21_845],
    [21_846n, 21_845],
    [2n ** 64n - 1n, 21_845],
    [null, 16_384],
    [0n, 0]
  ] as const) {
    seen.given = 0
    const response = listedBy(answer(table, listAll(limit), 0, options))
    assert.strictEqual(response.keys.length, count)
    // More of them than this no dialect could encode.
    assert.isAbove(encoded(response).length, 0)
    assert.strictEqual(seen.given, count)
  }
})

it("an actor's quota is 10 GiB, and a put may spend the last byte of it", () => {
  const full = 10 * 1024 * MiB
  assert.strictEqual(options.storeBytesMax, full)
  const value = new Uint8Array(1000)
  const put: KvRequest = { _tag: "Put", keys: [new Uint8Array(10)], values: [value] }
  assert.strictEqual(storedBytes(new Uint8Array(10), value), 1012)
  assert.isUndefined(refusal(put, () => options.storeBytesMax - (full - 1012)))
  assert.strictEqual(
    refusal(put, () => options.storeBytesMax - (full - 1011)),
    "Not enough space left in storage (1011 bytes remaining, current payload is 1012 bytes)"
  )
})

it("a query's range ends right behind its last key", () => {
  const range = (start: ReadonlyArray<number>, end: ReadonlyArray<number>, exclusive: boolean) =>
    rangeOf({ _tag: "Range", start: Uint8Array.from(start), end: Uint8Array.from(end), exclusive })
  assert.deepStrictEqual(range([1], [2], false).end, Uint8Array.from([2, 0]))
  assert.deepStrictEqual(range([1], [2], true).end, Uint8Array.from([2]))
  const behind = (...key: ReadonlyArray<number>) => rangeOf({ _tag: "Prefix", key: Uint8Array.from(key) }).end
  assert.deepStrictEqual(behind(1, 2), Uint8Array.from([1, 3]))
  assert.deepStrictEqual(behind(1, 255, 255), Uint8Array.from([2]))
  assert.isUndefined(behind(255, 255))
  assert.isUndefined(behind())
})

it("only what may change something is a change", () => {
  const key = new Uint8Array(0)
  const requests: ReadonlyArray<KvRequest> = [
    { _tag: "Get", keys: [] },
    listAll(null),
    { _tag: "Put", keys: [], values: [] },
    { _tag: "Delete", keys: [] },
    { _tag: "DeleteRange", start: key, end: key },
    { _tag: "Drop" }
  ]
  assert.deepStrictEqual(requests.map(changes), [false, false, true, true, true, true])
})
