/**
 * Our version 7 beside `@rivetkit/engine-runner-protocol` 2.2.1, byte for byte. Where the two differ is stated below and in
 * `docs/protocol/rivet.md`; a new release of that package that changes it fails here.
 */

import { assert, describe, it } from "@effect/vitest"
import * as Published from "@rivetkit/engine-runner-protocol"
import type { Schema } from "effect"
import { BareError, type Codec } from "../../src/protocol/Bare.ts"
import * as V7 from "../../src/protocol/rivet/V7.ts"
import { fromPublished, toPublished } from "./Notation.ts"

interface Pair {
  readonly type: string
  readonly schema: Schema.Top
  readonly ours: Codec<unknown>
  readonly encode: (value: never) => Uint8Array
  readonly decode: (bytes: Uint8Array) => unknown
  readonly runs: number
}

const schemas = { ...V7 }

const pair = (
  type: keyof typeof V7.codecs & keyof typeof V7,
  encode: Pair["encode"],
  decode: Pair["decode"],
  runs: number
): Pair => ({ type, schema: schemas[type], ours: V7.codecs[type] as unknown as Codec<unknown>, encode, decode, runs })

const pairs: ReadonlyArray<Pair> = [
  pair("ToServer", Published.encodeToServer, Published.decodeToServer, 4000),
  pair("ToClient", Published.encodeToClient, Published.decodeToClient, 4000),
  pair("ToRunner", Published.encodeToRunner, Published.decodeToRunner, 1000),
  pair("ToGateway", Published.encodeToGateway, Published.decodeToGateway, 1000),
  pair("ToServerlessServer", Published.encodeToServerlessServer, Published.decodeToServerlessServer, 200),
  pair("ActorCommandKeyData", Published.encodeActorCommandKeyData, Published.decodeActorCommandKeyData, 1000)
]

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

describe("the published codec", () => {
  for (const { type, schema, ours, encode, decode, runs } of pairs)
    it.prop(
      `writes and reads ${type} as ours does, ${runs} times`,
      { value: schema },
      ({ value }) => {
        const bytes = new Uint8Array(ours.encode(value))
        assert.strictEqual(hex(encode(toPublished(value) as never)), hex(bytes))
        assert.deepStrictEqual(fromPublished(decode(bytes)), value)
        assert.deepStrictEqual(ours.decode(bytes), value)
      },
      { arbitrary: { runs } }
    )
})

const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"))
const ours = V7.codecs.ToServer

/** What reading `text` leads to: the value's tag, or that it was refused. */
const verdict = (decode: (input: Uint8Array) => unknown, text: string): string => {
  try {
    return (decode(bytes(text)) as { readonly tag: string }).tag
  } catch {
    return "refused"
  }
}

describe("both refuse", () => {
  it.each([
    ["a length with a needless group", "01 8000"],
    ["a tag in two bytes", "8300"],
    ["trailing bytes", "0300"],
    ["a bool of 2", "05 0141 01000000 01 00 02"],
    ["a key twice", "00 0172 01000000 02000000 01 02 0161 0162 0161 0162 00"],
    ["overlong UTF-8", "00 02c0af 01000000 02000000 00 00"],
    ["a surrogate in UTF-8's clothes", "00 03eda080 01000000 02000000 00 00"],
    ["a count far beyond the message", "01 ffffffff0f"]
  ])("%s", (_, text) => {
    assert.deepStrictEqual(
      [verdict(ours.decode, text), verdict(Published.decodeToServer, text)],
      ["refused", "refused"]
    )
  })
})

const init = (fields: object) => ({
  tag: "ToServerInit",
  val: { name: "r", version: 1, totalSlots: 1, prepopulateActorNames: null, metadata: null, ...fields }
})

describe("ours refuses to write always, the other only where its assertions are built in, as here", () => {
  it.each([
    ["a u32 of 2^32, else wrapped to 0", init({ version: 2 ** 32 })],
    ["a negative u32", init({ version: -1 })],
    ["a fraction", init({ version: 1.5 })],
    ["an i64 of 2^63, else wrapped", { tag: "ToServerPong", val: { ts: 2n ** 63n } }]
  ])("%s", (_, value) => {
    assert.throws(() => ours.encode(value as never), BareError)
    assert.throws(() => Published.encodeToServer(value as never), "too large number")
  })
})

describe("only ours refuses to write", () => {
  it.each([
    ["half a surrogate pair, which the other writes as bytes it refuses to read", init({ name: "\ud800" }), 15],
    ["undefined for absent", init({ metadata: undefined }), 13],
    ["a tag that does not exist, for which the other writes nothing at all", { tag: "Nothing", val: null }, 0]
  ])("%s", (_, value, theirSize) => {
    assert.throws(() => ours.encode(value as never), BareError)
    assert.strictEqual(Published.encodeToServer(value as never).length, theirSize)
  })
})

describe("the two read differently", () => {
  const roundTrip = (name: string) => {
    const input = Published.encodeToServer(init({ name }) as never)
    const mine = ours.decode(input)
    const theirs = Published.decodeToServer(input)
    return [mine, theirs].map((message) => message.tag === "ToServerInit" && message.val.name === name)
  }

  it("a byte order mark before 256 bytes of text: ours keeps it", () => {
    assert.deepStrictEqual(roundTrip(`\ufeff${"a".repeat(300)}`), [true, false])
    assert.deepStrictEqual(roundTrip(`\ufeff${"a".repeat(100)}`), [true, true])
  })

  it("more than 65,536 elements: ours refuses", () => {
    const keys = Array.from({ length: 65_537 }, () => new ArrayBuffer(0))
    const request = { actorId: "", requestId: 0, data: { tag: "KvGetRequest", val: { keys } } } as const
    const input = Published.encodeToServer({ tag: "ToServerKvRequest", val: request })
    assert.strictEqual(Published.decodeToServer(input).tag, "ToServerKvRequest")
    assert.throws(() => ours.decode(input), BareError)
  })

  it("more than 32 MiB: ours leaves that limit to the socket", () => {
    const body = new Uint8Array(32 * 1024 * 1024)
    const messageId = { gatewayId: new Uint8Array(4), requestId: new Uint8Array(4), messageIndex: 0 }
    const messageKind = { tag: "ToServerResponseChunk", val: { body, finish: true } } as const
    const input = ours.encode({ tag: "ToServerTunnelMessage", val: { messageId, messageKind } })
    assert.strictEqual(ours.decode(input).tag, "ToServerTunnelMessage")
    assert.throws(() => Published.decodeToServer(new Uint8Array(input)))
  })
})
