import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import * as EnvelopeCodec from "../../src/bus/EnvelopeCodec.ts"
import * as Bare from "../../src/protocol/Bare.ts"
import { elementsMax } from "../../src/protocol/BareReader.ts"
import { Envelope } from "../../src/tunnel/Envelope.ts"
import type { HeaderList, ResponseFrame } from "../../src/tunnel/Frame.ts"
import * as Wire from "../../src/tunnel/Wire.ts"
import { makeRandom } from "../fuzz/Mutation.ts"

const KiB = 1024
const sizes = { fill: 4 * KiB, max: 16 * KiB }

const uplink = (frame: ResponseFrame, index = 0): Envelope => ({
  _tag: "Uplink",
  replyTo: "wayleave.default.hub.1",
  session: "0".repeat(32),
  generation: 1,
  route: { gatewayId: 1, requestId: 2 },
  index,
  frame
})
const chunk = (bytes: number, index = 0) =>
  uplink({ _tag: "ResponseChunk", body: new Uint8Array(bytes).fill(index), finish: false }, index)

const decodeAll = (messages: ReadonlyArray<Uint8Array> | undefined) =>
  messages?.flatMap((message) => EnvelopeCodec.decode(message) ?? [])

it.prop(
  "gives back every envelope there is, alone and among others",
  { batch: Schema.Array(Envelope) },
  ({ batch }) => {
    const messages = EnvelopeCodec.encode(batch, { fill: 64 * KiB, max: 1024 * KiB })
    assert.deepStrictEqual(decodeAll(messages), batch)
  }
)

it("fills messages up to their size, in order, and gives a larger envelope one of its own", () => {
  const batch = [...Array.from({ length: 20 }, (_, i) => chunk(1000, i)), chunk(10 * KiB, 20), chunk(10, 21)]
  const messages = EnvelopeCodec.encode(batch, sizes) ?? []
  assert.deepStrictEqual(decodeAll(messages), batch)
  assert.deepStrictEqual(
    messages.map((message) => EnvelopeCodec.decode(message)?.length),
    [3, 3, 3, 3, 3, 3, 2, 1, 1]
  )
  for (const message of messages) assert.isTrue(message.length <= sizes.fill || message.length > 10 * KiB)
})

it("refuses a batch with an envelope that is too long or has no form, and the next batch is none the worse", () => {
  assert.isUndefined(EnvelopeCodec.encode([chunk(10), chunk(17 * KiB)], sizes))
  const half = uplink({ _tag: "ResponseAbort", code: "cancelled", message: "\ud800" })
  assert.isUndefined(EnvelopeCodec.encode([chunk(10), half], sizes))
  assert.deepStrictEqual(decodeAll(EnvelopeCodec.encode([chunk(10)], sizes)), [chunk(10)])
  assert.deepStrictEqual(EnvelopeCodec.encode([], sizes), [])
})

it("counts the headers of each envelope, not those of a batch", () => {
  const headers: HeaderList = Array.from({ length: elementsMax / 2 }, () => ["a", "b"] as const)
  const head = uplink({ _tag: "ResponseStart", status: 200, headers, body: new Uint8Array(0), streamed: true })
  const batch = [head, head, head, head]
  assert.deepStrictEqual(decodeAll(EnvelopeCodec.encode(batch, { fill: 1024 * KiB, max: 1024 * KiB })), batch)
})

const seed = 77
it(`never throws over bytes that are none of ours (seed ${seed})`, () => {
  const random = makeRandom(seed)
  const [whole] = EnvelopeCodec.encode([chunk(50), chunk(60, 1)], sizes) as [Uint8Array]
  for (let i = 0; i < 5_000; i++) {
    const bytes = Uint8Array.from(whole)
    for (let flips = random.below(4) + 1; flips > 0; flips--) bytes[random.below(bytes.length)] = random.below(256)
    EnvelopeCodec.decode(bytes.subarray(0, random.below(bytes.length + 1)))
  }
  assert.isUndefined(EnvelopeCodec.decode(new Uint8Array([255])))
  assert.isUndefined(EnvelopeCodec.decode(whole.subarray(0, -1)))
})

it("names a layout that changes with the shape of the bytes, and with nothing else", () => {
  const layoutOf = (schema: Schema.Top) => Bare.make(schema).layout
  const point = layoutOf(Schema.Struct({ x: Wire.u8, y: Wire.optional(Wire.list(Wire.str)) }))
  assert.strictEqual(point, layoutOf(Schema.Struct({ x: Wire.u8, y: Wire.optional(Wire.list(Wire.str)) })))
  const others = [
    Schema.Struct({ x: Wire.u16, y: Wire.optional(Wire.list(Wire.str)) }),
    Schema.Struct({ x: Wire.u8, y: Wire.list(Wire.str) }),
    Schema.Struct({ x: Wire.u8, z: Wire.optional(Wire.list(Wire.str)) }),
    Schema.Struct({ y: Wire.optional(Wire.list(Wire.str)), x: Wire.u8 }),
    Schema.Union([Wire.tagged(0, "A", {}), Wire.tagged(1, "B", {})]),
    Schema.Union([Wire.tagged(0, "A", {}), Wire.tagged(2, "B", {})]),
    Wire.enumeration({ a: 0, b: 1 }),
    Wire.enumeration({ a: 0, b: 2 }),
    Wire.fixed(4),
    Wire.fixed(5),
    Wire.map(Wire.str, Wire.u8),
    Schema.Tuple([Wire.str, Wire.u8])
  ]
  assert.strictEqual(new Set([point, ...others.map(layoutOf)]).size, others.length + 1)
  assert.match(EnvelopeCodec.layout, /^[0-9a-f]{8}$/)
})
