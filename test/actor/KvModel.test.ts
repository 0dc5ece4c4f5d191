/**
 * Both layers beside a plain map: random requests, time among them, and after each the same answer from all three. Keys are few and bounds
 * narrow, so that every sequence overwrites, runs full and is cut short. A failure is shown with the fewest requests that still fail.
 */
import { assert, it } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import { ActorKv, layerMemoryWith } from "../../src/actor/ActorKv.ts"
import * as ActorKvSqlite from "../../src/actor/ActorKvSqlite.ts"
import type { KvQuery, KvRequest, KvResponse } from "../../src/actor/ActorMessage.ts"
import type { KvOptions } from "../../src/actor/KvRules.ts"
import { makeRandom, type SeededRandom } from "../fuzz/Mutation.ts"

const options: KvOptions = { version: "v", storeBytesMax: 70, listBytesMax: 250 }

type Key = ReadonlyArray<number>
type Step =
  | { readonly _tag: "Get" | "Delete"; readonly keys: ReadonlyArray<Key> }
  | {
      readonly _tag: "List"
      readonly query: KvQuery["_tag"]
      readonly one: Key
      readonly other: Key
      readonly exclusive: boolean
      readonly reverse: boolean | null
      readonly limit: number | null
    }
  | { readonly _tag: "Put"; readonly entries: ReadonlyArray<{ readonly key: Key; readonly value: number }> }
  | { readonly _tag: "DeleteRange"; readonly one: Key; readonly other: Key }
  | { readonly _tag: "Drop" }
  | { readonly _tag: "Wait"; readonly ms: number }
type Asked = Exclude<Step, { readonly _tag: "Wait" }>

const pick = <A>(random: SeededRandom, from: ReadonlyArray<A>): A => from[random.below(from.length)] as A
const several = <A>(random: SeededRandom, max: number, make: () => A): ReadonlyArray<A> =>
  Array.from({ length: random.below(max + 1) }, make)

const anyStep = (random: SeededRandom): Step => {
  const key = (): Key => several(random, 3, () => pick(random, [0, 1, 254, 255]))
  switch (random.below(20)) {
    case 0:
      return { _tag: "Drop" }
    case 1:
    case 2:
      return { _tag: "DeleteRange", one: key(), other: key() }
    case 3:
    case 4:
    case 5:
      return { _tag: "Delete", keys: several(random, 2, key) }
    case 6:
    case 7:
      return { _tag: "Wait", ms: pick(random, [1, 1000]) }
    case 8:
    case 9:
    case 10:
      return { _tag: "Get", keys: several(random, 6, key) }
    case 11:
    case 12:
    case 13:
    case 14:
      return {
        _tag: "List",
        query: pick(random, ["All", "Range", "Prefix"]),
        one: key(),
        other: key(),
        exclusive: random.below(2) === 0,
        reverse: pick(random, [null, false, true]),
        limit: pick(random, [null, null, null, 0, 1, 2, 100])
      }
    default:
      return { _tag: "Put", entries: several(random, 4, () => ({ key: key(), value: random.below(9) })) }
  }
}

const bytesOf = (key: Key) => Uint8Array.from(key)
const filledBy = (length: number) => new Uint8Array(length).fill(length)

const query = (step: Asked & { readonly _tag: "List" }): KvQuery => {
  switch (step.query) {
    case "All":
      return { _tag: "All" }
    case "Range":
      return { _tag: "Range", start: bytesOf(step.one), end: bytesOf(step.other), exclusive: step.exclusive }
    case "Prefix":
      return { _tag: "Prefix", key: bytesOf(step.one) }
  }
}

const request = (step: Asked): KvRequest => {
  switch (step._tag) {
    case "Get":
    case "Delete":
      return { _tag: step._tag, keys: step.keys.map(bytesOf) }
    case "List": {
      const { limit, reverse } = step
      return { _tag: "List", query: query(step), reverse, limit: limit === null ? null : BigInt(limit) }
    }
    case "Put": {
      const keys = step.entries.map(({ key }) => bytesOf(key))
      return { _tag: "Put", keys, values: step.entries.map(({ value }) => filledBy(value)) }
    }
    case "DeleteRange":
      return { _tag: "DeleteRange", start: bytesOf(step.one), end: bytesOf(step.other) }
    case "Drop":
      return { _tag: "Drop" }
  }
}

/** Keys as hexadecimal digits: two of them compare as their bytes do, and one begins with another as its bytes do. */
const hex = (key: Key | Uint8Array) => Buffer.from(key).toString("hex")

interface Shown {
  readonly tag: string
  readonly entries: ReadonlyArray<string>
}

class Model {
  private readonly entries = new Map<string, { readonly length: number; readonly atMs: number }>()

  ask(step: Asked, nowMs: number): Shown {
    switch (step._tag) {
      case "Get": {
        const asked = step.keys.map(hex).filter((key, at, all) => key !== all[at - 1] && this.entries.has(key))
        return { tag: "Got", entries: asked.map((key) => this.show(key)) }
      }
      case "List":
        return { tag: "Listed", entries: this.list(step).map((key) => this.show(key)) }
      case "Put": {
        let stored = 0
        for (const [key, { length }] of this.entries) stored += key.length / 2 + 2 + length
        const payload = step.entries.reduce((sum, { key, value }) => sum + key.length + 2 + value, 0)
        const left = options.storeBytesMax > stored ? options.storeBytesMax - stored : 0
        if (payload > left) {
          const counts = `${left} bytes remaining, current payload is ${payload} bytes`
          return { tag: `Not enough space left in storage (${counts})`, entries: [] }
        }
        for (const { key, value } of step.entries) this.entries.set(hex(key), { length: value, atMs: nowMs })
        return { tag: "Stored", entries: [] }
      }
      case "Delete":
        for (const key of step.keys) this.entries.delete(hex(key))
        return { tag: "Deleted", entries: [] }
      case "DeleteRange":
        for (const key of this.entries.keys()) {
          if (key >= hex(step.one) && key < hex(step.other)) this.entries.delete(key)
        }
        return { tag: "Deleted", entries: [] }
      case "Drop":
        this.entries.clear()
        return { tag: "Dropped", entries: [] }
    }
  }

  private list(step: Asked & { readonly _tag: "List" }): ReadonlyArray<string> {
    const one = hex(step.one)
    const other = hex(step.other)
    const found = [...this.entries.keys()].sort().filter((key) => {
      if (step.query === "All") return true
      if (step.query === "Prefix") return key.startsWith(one)
      return key >= one && (step.exclusive ? key < other : key <= other)
    })
    if (step.reverse === true) found.reverse()
    const wire = (key: string) => key.length / 2 + (this.entries.get(key)?.length ?? 0) + options.version.length + 23
    let spent = 0
    return found
      .slice(0, step.limit ?? found.length)
      .filter((key, at) => (spent += wire(key)) <= options.listBytesMax || at === 0)
  }

  private show(key: string): string {
    const { atMs, length } = this.entries.get(key) ?? { atMs: 0, length: 0 }
    return `${key}=${hex(filledBy(length))}@${atMs}/${options.version}`
  }
}

const shown = (response: KvResponse): Shown => {
  switch (response._tag) {
    case "Failed":
      return { tag: response.message, entries: [] }
    case "Got":
    case "Listed": {
      const entries = response.keys.map((key, at) => {
        const { updatedAtMs, version } = response.metadata[at] ?? { updatedAtMs: 0n, version: new Uint8Array(0) }
        const value = response.values[at] as Uint8Array
        return `${hex(key)}=${hex(value)}@${updatedAtMs}/${Buffer.from(version).toString()}`
      })
      return { tag: response._tag, entries }
    }
    case "Stored":
    case "Deleted":
    case "Dropped":
      return { tag: response._tag, entries: [] }
  }
}

const memory = layerMemoryWith({ ...options, memoryBytesMax: 1_000_000 })
const sqlite = Layer.provide(ActorKvSqlite.layer(options), ActorDatabase.layer({ file: ":memory:" }))

interface Tried {
  readonly stores: ReadonlyArray<ActorKv["Service"]>
  readonly actor: string
}

/** Where one of them parts from the model; undefined where none ever does. */
const parting = Effect.fnUntraced(function* (steps: ReadonlyArray<Step>, { actor, stores }: Tried) {
  const model = new Model()
  let nowMs = 0
  for (const [at, step] of steps.entries()) {
    if (step._tag === "Wait") {
      nowMs += step.ms
      continue
    }
    yield* TestClock.setTime(nowMs)
    const wanted = JSON.stringify(model.ask(step, nowMs))
    for (const kv of stores) {
      const got = JSON.stringify(shown(yield* kv.ask(actor, request(step))))
      if (got !== wanted) return `step ${at} ${JSON.stringify(step)}: ${got}, the model says ${wanted}`
      // Whatever the neighbours do changes nothing here.
      yield* kv.ask(`neighbour of ${actor}`, request(step))
    }
  }
  for (const kv of stores) {
    yield* kv.ask(actor, { _tag: "Drop" })
    yield* kv.ask(`neighbour of ${actor}`, { _tag: "Drop" })
  }
  return undefined
})

const sequences = 300
const stepsEach = 80

it.effect(`both layers answer as a plain map does, in ${sequences} sequences of ${stepsEach} requests`, () =>
  Effect.gen(function* () {
    const stores = yield* Effect.forEach([memory, sqlite], (layer) =>
      Effect.map(Layer.build(layer), (context) => Context.get(context, ActorKv))
    )
    let actors = 0
    const tried = (steps: ReadonlyArray<Step>) => parting(steps, { stores, actor: `actor ${actors++}` })
    for (let seed = 1; seed <= sequences; seed++) {
      const random = makeRandom(seed)
      let steps: ReadonlyArray<Step> = Array.from({ length: stepsEach }, () => anyStep(random))
      if ((yield* tried(steps)) === undefined) continue
      // Leaves out one after the other of those that the fault can do without.
      for (let at = 0; at < steps.length; ) {
        const fewer = steps.filter((_, place) => place !== at)
        if ((yield* tried(fewer)) === undefined) at++
        else steps = fewer
      }
      assert.fail(`seed ${seed}: ${yield* tried(steps)}\n${steps.map((step) => JSON.stringify(step)).join("\n")}`)
    }
  })
)
