import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect } from "effect"
import { TestClock } from "effect/testing"
import { Deadlines, type Due } from "../../src/tunnel/Deadlines.ts"

const never = Number.POSITIVE_INFINITY

/** One alarm that runs, and what has rung. */
const arrange = Effect.fnUntraced(function* (all: Map<string, number>) {
  const clock = yield* Clock.Clock
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const startMs = nowMs()
  const deadlines = new Deadlines({ nowMs, soon: queueMicrotask })
  const rung: Array<string> = []
  const crashed: Array<string> = []
  const faults: Array<unknown> = []
  let looks = 0
  const due = (name: string): Due => ({
    dueMs: () => startMs + (all.get(name) ?? never),
    expire: () => {
      rung.push(name)
      all.set(name, never)
      if (name === "faulty") throw new Error("boom")
    },
    crash: () => void crashed.push(name)
  })
  const everybody = () => {
    looks++
    return [...all.keys()].map(due)
  }
  yield* Effect.forkScoped(deadlines.watch(everybody, (found) => Effect.sync(() => void faults.push(...found))))
  yield* Effect.yieldNow
  return {
    note: (name: string, inMs: number) => {
      all.set(name, inMs)
      deadlines.note(startMs + inMs)
      return Effect.yieldNow
    },
    rung,
    crashed,
    faults,
    looks: () => looks
  }
})

describe("an alarm for many deadlines", () => {
  it.effect("rings for each at its time and for no other, one that was noted later and is due earlier too", () =>
    Effect.gen(function* () {
      const { note, rung } = yield* arrange(new Map())
      yield* note("late", 50)
      yield* note("early", 20)
      yield* TestClock.adjust(19)
      assert.deepStrictEqual(rung, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, ["early"])
      yield* TestClock.adjust(29)
      assert.deepStrictEqual(rung, ["early"])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(rung, ["early", "late"])
    })
  )

  it.effect("looks once for ten thousand that have ended before their time", () =>
    Effect.gen(function* () {
      const all = new Map<string, number>()
      const { looks, note, rung } = yield* arrange(all)
      for (let i = 0; i < 10_000; i++) {
        yield* note(`${i}`, 5_000)
        all.delete(`${i}`)
      }
      yield* TestClock.adjust(60_000)
      assert.deepStrictEqual(rung, [])
      assert.strictEqual(looks(), 1)
    })
  )

  it.effect("goes on to the others where one fails over its deadline", () =>
    Effect.gen(function* () {
      const { crashed, faults, note, rung } = yield* arrange(new Map())
      yield* note("faulty", 10)
      yield* note("sound", 10)
      yield* TestClock.adjust(10)
      assert.deepStrictEqual(rung, ["faulty", "sound"])
      assert.deepStrictEqual(crashed, ["faulty"])
      assert.strictEqual(faults.length, 1)
    })
  )
})
