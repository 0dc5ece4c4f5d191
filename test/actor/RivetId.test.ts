import { assert, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import * as RivetId from "../../src/actor/RivetId.ts"
import { SessionId } from "../../src/tunnel/Envelope.ts"

const byte = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 255 }))
const unique = Schema.Array(byte).check(Schema.isMinLength(16), Schema.isMaxLength(16))
const label = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 0xffff }))

/** The same spelling a second way, by `BigInt`. */
const spelled = (value: bigint): string => value.toString(36).padStart(30, "0").split("").reverse().join("")
const numberOf = (bytes: ReadonlyArray<number>): bigint =>
  bytes.reduceRight((value, next) => value * 256n + BigInt(next), 0n)

it.prop("an id is its bytes with the lowest first, and gives them back", { unique, label }, ({ unique, label }) => {
  const id = RivetId.make(Uint8Array.from(unique), label)
  assert.match(id, /^[0-9a-z]{30}$/)
  assert.strictEqual(id, spelled(numberOf([1, ...unique, label >> 8, label & 0xff])))
  assert.deepStrictEqual(RivetId.parse(id), { unique: Uint8Array.from(unique), label })
})

it.prop("a session and its id are one another's", { unique, label }, ({ unique, label }) => {
  const session = SessionId.make(Buffer.from(unique).toString("hex"))
  assert.strictEqual(RivetId.toSession(RivetId.ofSession(session, label)), session)
})

const digit = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 35 }))
const thirty = Schema.Array(digit).check(Schema.isMinLength(30), Schema.isMaxLength(30))

it.prop("thirty digits are an id just where their number fits 19 bytes", { digits: thirty }, ({ digits }) => {
  const any = digits.reduce((value, digit) => value * 36n + BigInt(digit), 0n)
  const ofVersion1 = any - (any % 256n) + 1n
  const parts = RivetId.parse(spelled(ofVersion1))
  assert.strictEqual(parts !== undefined, ofVersion1 < 2n ** 152n)
  if (parts !== undefined) assert.strictEqual(RivetId.make(parts.unique, parts.label), spelled(ofVersion1))
})

it("the smallest and the largest id are what they are", () => {
  assert.strictEqual(RivetId.make(new Uint8Array(16), 0), `1${"0".repeat(29)}`)
  const largest = spelled(2n ** 152n - 1n - 254n)
  assert.strictEqual(RivetId.make(new Uint8Array(16).fill(255), 0xffff), largest)
  assert.deepStrictEqual(RivetId.parse(largest), { unique: new Uint8Array(16).fill(255), label: 0xffff })
})

it("what is over the range, of another version, too short, too long or spelled otherwise is no id", () => {
  const id = RivetId.make(new Uint8Array(16).fill(7), 3)
  const wrong = [
    spelled(2n ** 152n + 1n),
    "z".repeat(30),
    spelled(0n),
    spelled(2n),
    spelled(257n * 2n),
    "",
    id.slice(1),
    `${id}0`,
    id.toUpperCase(),
    `${id.slice(0, 29)}-`,
    `${id.slice(0, 29)} `,
    `${id.slice(0, 28)}é`
  ]
  for (const text of wrong) {
    assert.isUndefined(RivetId.parse(text), text)
    assert.isUndefined(RivetId.toSession(text), text)
    assert.isFalse(Schema.is(RivetId.RivetId)(text), text)
  }
  assert.isTrue(Schema.is(RivetId.RivetId)(id))
  assert.isDefined(RivetId.parse(spelled(257n)))
})

it("bytes and labels that do not fit are a fault of the caller", () => {
  assert.throws(() => RivetId.make(new Uint8Array(15)), RangeError)
  assert.throws(() => RivetId.make(new Uint8Array(17)), RangeError)
  for (const label of [-1, 0x1_0000, 1.5]) assert.throws(() => RivetId.make(new Uint8Array(16), label), RangeError)
})

it.effect("the random part is drawn anew each time, and can be swapped", () =>
  Effect.gen(function* () {
    const draw = yield* RivetId.NewUnique
    assert.notDeepEqual(draw(), draw())
    const swapped = yield* RivetId.NewUnique.pipe(
      Effect.provideService(RivetId.NewUnique, () => new Uint8Array(16).fill(9))
    )
    assert.deepStrictEqual([...swapped()], new Array(16).fill(9))
  })
)
