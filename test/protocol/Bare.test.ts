import { assert, describe, it } from "@effect/vitest"
import { Result, Schema } from "effect"
import * as Bare from "../../src/protocol/Bare.ts"
import { depthMax, elementsMax } from "../../src/protocol/BareReader.ts"
import { slabBytesDefault } from "../../src/protocol/BareWriter.ts"
import * as Wire from "../../src/tunnel/Wire.ts"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")
const bytes = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(" ", ""), "hex"))

/** Runs what must be refused and returns the refusal. */
const refused = (run: () => unknown): Bare.BareError => {
  try {
    run()
  } catch (error) {
    assert.instanceOf(error, Bare.BareError)
    return error
  }
  throw new Error("nothing was refused")
}

const Everything = Schema.Struct({
  a: Wire.u8,
  b: Wire.u16,
  c: Wire.u32,
  d: Wire.u64,
  e: Wire.i64,
  f: Wire.uint,
  g: Wire.bool,
  h: Wire.str,
  i: Wire.data,
  j: Wire.fixed(4),
  k: Wire.optional(Wire.u8),
  l: Wire.list(Schema.Tuple([Wire.str, Wire.str])),
  m: Wire.map(Wire.str, Wire.u16),
  n: Wire.enumeration({ OK: 0, ERROR: 1 }),
  o: Schema.Union([Wire.tagged(0, "Left", { x: Wire.u8 }), Wire.tagged(200, "Right", {})]),
  p: Schema.Union([Wire.variant(0, "None", Wire.empty), Wire.variant(1, "Some", Wire.str)])
})
const everything = Bare.make(Everything, "Everything")
const sample: typeof Everything.Type = {
  a: 255,
  b: 0x0102,
  c: 0x01020304,
  d: 2n ** 64n - 1n,
  e: -1n,
  f: 300,
  g: true,
  h: "hé",
  i: new Uint8Array([9]),
  j: new Uint8Array([1, 2, 3, 4]),
  k: null,
  l: [["a", "b"]],
  m: new Map([["k", 7]]),
  n: "ERROR",
  o: { _tag: "Right" },
  p: { tag: "Some", val: "x" }
}
const golden =
  "ff 0201 04030201 ffffffffffffffff ffffffffffffffff ac02 01 0368c3a9 0109 01020304 00 01 0161 0162 01 016b 0700 01 c801 01 0178"

interface Tree {
  readonly children: ReadonlyArray<Tree>
}
const Tree = Schema.Struct({ children: Wire.list(Schema.suspend((): Schema.Codec<Tree> => Tree)) })
const tree = Bare.make(Tree, "Tree")

describe("Bare", () => {
  it("writes and reads each form as BARE has it", () => {
    assert.strictEqual(hex(everything.encode(sample)), golden.replaceAll(" ", ""))
    assert.deepStrictEqual(everything.decode(bytes(golden)), sample)
  })

  it.prop(
    "whatever a schema allows comes back as it went",
    { value: Everything },
    ({ value }) => assert.deepStrictEqual(everything.decode(new Uint8Array(everything.encode(value))), value),
    { arbitrary: { runs: 300 } }
  )

  it("holds a count against the bytes left before it reads the first element", () => {
    for (const [schema, input] of [
      [Wire.list(Wire.u32), "02 00000000 000000"],
      [Wire.map(Wire.str, Wire.u16), "02 0000 0000 00"],
      [Wire.list(Schema.Struct({ a: Wire.fixed(4), b: Wire.str })), "02 00000000 0000"]
    ] as const) {
      const { reason, offset, path } = refused(() => Bare.make(schema as Schema.Top).decode(bytes(input)))
      assert.deepStrictEqual({ reason, offset, path }, { reason: "Truncated", offset: 0, path: "" })
    }
  })

  it("refuses every truncation", () => {
    const whole = bytes(golden)
    for (let size = 0; size < whole.length; size++)
      assert.strictEqual(refused(() => everything.decode(whole.subarray(0, size))).operation, "decode")
  })

  it("says which field it stopped at, and where", () => {
    const names = Bare.make(Schema.Struct({ list: Wire.list(Schema.Struct({ name: Wire.str })) }), "Names")
    const { operation, type, path, offset, reason } = refused(() => names.decode(bytes("02 0161 02ff")))
    assert.deepStrictEqual(
      { operation, type, path, offset, reason },
      { operation: "decode", type: "Names", path: ".list[1].name", offset: 3, reason: "Truncated" }
    )
  })

  it("never repeats the payload in a refusal", () => {
    const secrets = Bare.make(Wire.map(Wire.str, Wire.u8), "Secrets")
    const error = refused(() => secrets.decode(bytes("02 03736563 01 03736563 02")))
    assert.strictEqual(error.reason, "DuplicateKey")
    assert.notInclude(JSON.stringify({ ...error, message: error.message, stack: error.stack }), "sec")
  })

  it.each([
    ["a bool of 2", Wire.bool, "02", "Bool"],
    ["an optional marked 2", Wire.optional(Wire.u8), "0200", "Bool"],
    ["a uint with a needless group", Wire.uint, "8000", "Varint"],
    ["a uint beyond 2^53", Wire.uint, "ffffffffffffff1f", "Varint"],
    ["a uint that never ends", Wire.uint, "ffffffffffffffffffff", "Varint"],
    ["a length beyond the message", Wire.data, "05 01", "Truncated"],
    ["a length of 2^53", Wire.str, "ffffffffffffff0f", "Truncated"],
    ["a count the rest cannot hold", Wire.list(Wire.u32), "02 00000000 000000", "Truncated"],
    ["a map count the rest cannot hold", Wire.map(Wire.str, Wire.str), "7f 0000", "Truncated"],
    ["a key twice", Wire.map(Wire.u8, Wire.empty), "02 01 01", "DuplicateKey"],
    ["an enum number nobody has", Wire.enumeration({ A: 0 }), "01", "Tag"],
    ["a tag nobody has", Schema.Union([Wire.variant(0, "A", Wire.empty)]), "01", "Tag"],
    ["a tag spelt in two bytes", Schema.Union([Wire.variant(0, "A", Wire.empty)]), "8000", "Tag"],
    ["bytes behind the value", Wire.u8, "0102", "Trailing"],
    ["short text that is not UTF-8", Wire.str, "01ff", "Utf8"],
    ["long text that is not UTF-8", Wire.str, `40${"61".repeat(63)}c3`, "Utf8"],
    ["half a surrogate pair in UTF-8's clothes", Wire.str, "03eda080", "Utf8"],
    ["an overlong slash", Wire.str, "02c0af", "Utf8"],
    ["more zero-size elements than allowed", Wire.list(Wire.empty), "ffff7f", "Elements"]
  ] as const)("refuses %s", (_, schema, input, reason) => {
    const codec = Bare.make(schema as Schema.Top)
    assert.strictEqual(refused(() => codec.decode(bytes(input))).reason, reason)
    const result = codec.decodeResult(bytes(input))
    assert.strictEqual(Result.isFailure(result) ? result.failure.reason : "accepted", reason)
  })

  it.each([
    ["a byte of 256", Wire.u8, 256, "Range"],
    ["a negative u16", Wire.u16, -1, "Range"],
    ["a u32 that is no integer", Wire.u32, 1.5, "Range"],
    ["a u64 of -1", Wire.u64, -1n, "Range"],
    ["a u64 of 2^64", Wire.u64, 2n ** 64n, "Range"],
    ["an i64 of 2^63", Wire.i64, 2n ** 63n, "Range"],
    ["a uint of NaN", Wire.uint, Number.NaN, "Range"],
    ["a uint of 2^53", Wire.uint, 2 ** 53, "Range"],
    ["a bool that is a number", Wire.bool, 1, "Type"],
    ["fixed data of another length", Wire.fixed(4), new Uint8Array(3), "Length"],
    ["data that is no bytes", Wire.data, "abc", "Type"],
    ["a field that is missing", Wire.str, undefined, "Type"],
    ["a 64-bit field that is a number", Wire.i64, 1, "Type"],
    ["half a surrogate pair in a short text", Wire.str, "\ud800", "Surrogate"],
    ["half a surrogate pair in a long text", Wire.str, `${"a".repeat(5000)}\udc00`, "Surrogate"],
    ["a literal no enum knows", Wire.enumeration({ A: 0 }), "B", "Tag"],
    ["a tag no union knows", Schema.Union([Wire.variant(0, "A", Wire.empty)]), { tag: "B", val: null }, "Tag"],
    ["a tuple of another length", Schema.Tuple([Wire.u8]), [1, 2], "Length"]
  ] as const)("refuses to write %s", (_, schema, value, reason) => {
    const codec = Bare.make(Schema.Struct({ field: schema as Schema.Top }), "Value")
    const error = refused(() => codec.encode({ field: value }))
    assert.deepStrictEqual([error.reason, error.type, error.path.startsWith(".field")], [reason, "Value", true])
  })

  it("keeps U+FFFD, a byte order mark and characters of every width", () => {
    const text = Bare.make(Wire.str)
    for (const value of [
      "\ufffd",
      "\ufeffx",
      "é",
      "日本語",
      "🚇",
      "ÿ".repeat(300),
      `${"a".repeat(200)}é`,
      "🚇".repeat(3000)
    ])
      assert.strictEqual(text.decode(text.encode(value)), value)
  })

  it("reads alike short texts that share a place among the recent ones", () => {
    const texts = Bare.make(Wire.list(Wire.str))
    const many = Array.from({ length: 5000 }, (_, i) => `name-${i * 7919}`)
    for (let round = 0; round < 2; round++) assert.deepStrictEqual(texts.decode(texts.encode(many)), many)
  })

  it("follows a recursive schema to its limit and no further", () => {
    let deep: Tree = { children: [] }
    for (let level = 0; level < depthMax; level++) deep = { children: [deep] }
    assert.deepStrictEqual(tree.decode(tree.encode(deep)), deep)
    assert.strictEqual(refused(() => tree.encode({ children: [deep] })).reason, "Depth")
    assert.strictEqual(refused(() => tree.decode(bytes(`${"01".repeat(depthMax + 1)}00`))).reason, "Depth")
    assert.deepStrictEqual(tree.decode(tree.encode(deep)), deep, "a refusal leaves no level behind")
  })

  it("counts the elements of a whole message, nested ones too", () => {
    const nested = Bare.make(Wire.list(Wire.list(Wire.empty)))
    const half = Array.from({ length: elementsMax / 2 }, () => null)
    assert.strictEqual(refused(() => nested.encode([half, half])).reason, "Elements")
    assert.strictEqual(nested.encode([half]).length, 4)
  })

  it("gives views of the message, not copies", () => {
    const message = bytes("0301 0203")
    assert.strictEqual((Bare.make(Wire.data).decode(message) as Uint8Array).buffer, message.buffer)
  })

  it("never writes again to a message it gave out", () => {
    const codec = Bare.make(Wire.data)
    const messages = Array.from({ length: 2000 }, (_, i) => codec.encode(new Uint8Array(100).fill(i % 251)))
    for (const [i, message] of messages.entries())
      assert.deepStrictEqual([message.length, message[1], message[100]], [101, i % 251, i % 251])
  })

  it("keeps none of a huge message's memory", () => {
    const writer = new Bare.Writer()
    const codec = Bare.make(Wire.data)
    codec.encodeInto(writer, new Uint8Array(8 * 1024 * 1024))
    assert.strictEqual(writer.take().length, 8 * 1024 * 1024 + 4)
    codec.encodeInto(writer, new Uint8Array(1))
    assert.isAtMost(writer.bytes.length, slabBytesDefault)
  })

  it("puts several values into one message and reads them in turn", () => {
    const text = Bare.make(Wire.str)
    const number = Bare.make(Wire.u32)
    const writer = new Bare.Writer()
    text.encodeInto(writer, "a")
    number.encodeInto(writer, 7)
    assert.throws(() => number.encodeInto(writer, -1))
    text.encodeInto(writer, "b")
    const reader = new Bare.Reader(writer.take())
    assert.deepStrictEqual(
      [text.decodeFrom(reader), number.decodeFrom(reader), text.decodeFrom(reader), reader.left],
      ["a", 7, "b", 0]
    )
    assert.throws(() => text.decodeFrom(reader))
  })

  it("refuses to compile what has no one form", () => {
    assert.throws(() => Bare.make(Schema.Struct({ a: Schema.Number })), /no BARE form/)
    assert.throws(() => Bare.make(Schema.Struct({ a: Schema.optionalKey(Wire.u8) })), /no BARE form/)
    assert.throws(() => Bare.make(Wire.map(Wire.data, Wire.u8)), /no BARE form/)
    assert.throws(
      () => Bare.make(Schema.Union([Wire.variant(0, "A", Wire.empty), Wire.variant(0, "B", Wire.empty)])),
      /used twice/
    )
  })
})
