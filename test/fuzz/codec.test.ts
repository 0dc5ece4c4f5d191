/**
 * Every decoder, given what nobody should send: golden messages, cut, flipped, spliced, stretched and with lengths out of all proportion.
 * 50,000 inputs in the ordinary suite; `npm run test:fuzz` runs a million. `WAYLEAVE_FUZZ_SEED` chooses others; a failure prints its own.
 */
import { readdirSync, readFileSync } from "node:fs"
import { getHeapStatistics } from "node:v8"
import { assert, describe, it } from "@effect/vitest"
import { Result } from "effect"
import type { Codec } from "../../src/protocol/Bare.ts"
import * as Bare from "../../src/protocol/Bare.ts"
import { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import * as Wire from "../../src/tunnel/Wire.ts"
import type { VectorFile } from "../conformance/Notation.ts"
import { codecOf } from "../protocol/versions.ts"

const runs = Number(process.env.WAYLEAVE_FUZZ_RUNS ?? 50_000)
const seed = Number(process.env.WAYLEAVE_FUZZ_SEED ?? 1)

/** A small generator of good enough chance: the same numbers for the same seed, wherever it runs. */
const generator = (start: number) => {
  let state = start >>> 0
  return (below: number): number => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}

interface Subject {
  readonly name: string
  readonly codec: Codec<unknown>
  readonly inputs: Array<Uint8Array>
}

const subjects = new Map<string, Subject>()
const subject = (name: string, codec: Codec<unknown>): Subject => {
  const known = subjects.get(name)
  if (known !== undefined) return known
  const added: Subject = { name, codec, inputs: [] }
  subjects.set(name, added)
  return added
}

const folder = new URL("../vectors/", import.meta.url)
for (const file of readdirSync(folder)) {
  const { protocolVersion, vectors } = JSON.parse(readFileSync(new URL(file, folder), "utf8")) as VectorFile
  for (const { type, hex } of vectors)
    subject(`v${protocolVersion} ${type}`, codecOf(protocolVersion, type)).inputs.push(
      new Uint8Array(Buffer.from(hex, "hex"))
    )
}

// The model's own frames, one large message among them: most of its mutations are valid.
const request = Bare.make(RequestFrame, "RequestFrame")
const response = Bare.make(ResponseFrame, "ResponseFrame")
const headers = Array.from({ length: 40 }, (_, i) => [`name-${i}`, "välue ".repeat(i)] as const)
subject("RequestFrame", request as Codec<unknown>).inputs.push(
  request.encode({
    _tag: "RequestStart",
    method: "GET",
    target: "/ü",
    headers,
    body: new Uint8Array(99),
    streamed: true
  }),
  request.encode({ _tag: "RequestChunk", body: new Uint8Array(16_384), finish: false }),
  request.encode({ _tag: "WebSocketClose", code: 1000, reason: "bye" })
)
subject("ResponseFrame", response as Codec<unknown>).inputs.push(
  response.encode({ _tag: "ResponseTrailers", headers }),
  response.encode({ _tag: "ResponseAbort", code: "gap", message: "🚇" }),
  response.encode({ _tag: "Credit", bytes: 1 })
)

const lengths = [
  "7f",
  "ff01",
  "8000",
  "ffff03",
  "ffffffff07",
  "ffffffff0f",
  "ffffffffffffff0f",
  "ffffffffffffffffffff01"
]
const hugeLengths = lengths.map((text) => Buffer.from(text, "hex"))

const mutate = (
  input: Uint8Array,
  others: ReadonlyArray<Uint8Array>,
  random: (below: number) => number
): Uint8Array => {
  const at = random(input.length + 1)
  const before = input.subarray(0, at)
  const after = input.subarray(at)
  switch (random(8)) {
    case 0:
      return before
    case 1: {
      const flipped = new Uint8Array(input)
      if (at < flipped.length) flipped[at] = (flipped[at] as number) ^ (1 << random(8))
      return flipped
    }
    case 2: {
      const replaced = new Uint8Array(input)
      if (at < replaced.length) replaced[at] = random(256)
      return replaced
    }
    case 3: {
      const other = others[random(others.length)] as Uint8Array
      return Buffer.concat([before, other.subarray(random(other.length + 1))])
    }
    case 4:
      return Buffer.concat([before, hugeLengths[random(hugeLengths.length)] as Uint8Array, after])
    case 5:
      return Buffer.concat([before, hugeLengths[random(hugeLengths.length)] as Uint8Array, after.subarray(1)])
    case 6:
      return Buffer.concat([before, after.subarray(random(8))])
    default:
      return Buffer.concat([before, before.subarray(random(at + 1)), after])
  }
}

const heapSlack = 64 * 1024

/** What came of one input, in a form that two runs can be compared by. */
const verdict = (codec: Codec<unknown>, input: Uint8Array): string => {
  const result = codec.decodeResult(input)
  if (Result.isFailure(result)) {
    const { _tag, message } = result.failure
    assert.strictEqual(_tag, "BareError")
    return message
  }
  // A decoder that took what an encoder would not write would let two spellings of one message pass.
  assert.strictEqual(Buffer.compare(codec.encode(result.success), input), 0, "valid, but not canonical")
  return "valid"
}

/** Heap bytes taken by a decode, or a negative number where a collection came between. */
const heapTaken = (codec: Codec<unknown>, input: Uint8Array): number => {
  const before = getHeapStatistics()
  codec.decodeResult(input)
  const after = getHeapStatistics()
  return after.used_heap_size + after.external_memory - before.used_heap_size - before.external_memory
}

const collection = [...subjects.values()]

describe("decoders under fire", () => {
  it("have inputs of every type to start from", () => {
    assert.isAbove(collection.length, 50)
    for (const { name, codec, inputs } of collection)
      for (const input of inputs) assert.strictEqual(verdict(codec, input), "valid", name)
  })

  it(`refuse or accept ${runs} mutated inputs, alike both times, within 2 × input + 64 KiB of heap`, {
    timeout: 900_000
  }, () => {
    const random = generator(seed)
    const counts = { valid: 0, refused: 0, measured: 0, heapMost: 0 }
    for (let run = 0; run < runs; run++) {
      const { name, codec, inputs } = collection[random(collection.length)] as Subject
      let input = inputs[random(inputs.length)] as Uint8Array
      for (let times = 1 + random(3); times > 0; times--) input = mutate(input, inputs, random)
      const where = `seed ${seed}, run ${run}, ${name}: ${Buffer.from(input.subarray(0, 512)).toString("hex")}`
      try {
        const first = verdict(codec, input)
        assert.strictEqual(verdict(codec, input), first)
        counts[first === "valid" ? "valid" : "refused"]++
        // Machine code compiled meanwhile is on the heap too: what is above the bound is measured again before it counts.
        const bound = 2 * input.length + heapSlack
        let taken = heapTaken(codec, input)
        for (let again = 0; again < 10 && taken > bound; again++) taken = Math.min(taken, heapTaken(codec, input))
        if (taken < 0) continue
        counts.measured++
        counts.heapMost = Math.max(counts.heapMost, taken)
        assert.isAtMost(taken, bound)
      } catch (cause) {
        throw new Error(where, { cause })
      }
    }
    assert.isAbove(counts.valid, runs / 100, "some mutations are harmless")
    assert.isAbove(counts.refused, runs / 2, "most are not")
    assert.isAbove(counts.measured, runs * 0.9, "nearly every run was measured")
    if (runs > 50_000) process.stdout.write(`${JSON.stringify(counts)}\n`)
  })

  it("see the heap that a decode takes", () => {
    // The measurement itself, on a message known to need far more: a view costs many times the byte that asks for it.
    const keys = Bare.make(Wire.list(Wire.data))
    const dense = keys.encode(Array.from({ length: 20_000 }, () => new Uint8Array(0)))
    const samples = [1, 2, 3, 4, 5].map(() => heapTaken(keys as Codec<unknown>, dense)).filter((taken) => taken > 0)
    assert.isAbove(Math.min(...samples), 20_000 * 40)
  })
})
