import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import * as Bare from "../../src/protocol/Bare.ts"
import * as Wire from "../../src/tunnel/Wire.ts"

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")
const bytes = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex")

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

describe("Bare", () => {
  it("writes each form as BARE has it", () => {
    const value: typeof Everything.Type = {
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
    assert.strictEqual(hex(everything.encode(value)), golden.replaceAll(" ", ""))
    assert.deepStrictEqual(
      JSON.stringify(everything.decode(bytes(golden)), (_, x) =>
        typeof x === "bigint" ? `${x}n` : x instanceof Map ? [...x] : x?.type === "Buffer" ? x.data : x
      ),
      JSON.stringify(value, (_, x) =>
        typeof x === "bigint" ? `${x}n` : x instanceof Map ? [...x] : x instanceof Uint8Array ? [...x] : x
      )
    )
  })

  it("says where it stopped", () => {
    const codec = Bare.make(Schema.Struct({ list: Wire.list(Schema.Struct({ name: Wire.str })) }), "Names")
    const error = refused(() => codec.decode(bytes("02 0161 02ff")))
    assert.deepStrictEqual({ ...error }, {
      _tag: "BareError",
      operation: "decode",
      type: "Names",
      path: ".list[1].name",
      offset: 3,
      reason: "Truncated"
    } as never)
  })
})
