import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import { type Due, DueQueue } from "../../src/actor/DueQueue.ts"

const due = (): Due => ({ atMs: 0, place: -1 })
const make = (count: number): Array<Due & { readonly id: number }> =>
  Array.from({ length: count }, (_, id) => ({ id, atMs: 0, place: -1 }))

it("gives what is due in order of time, and nothing before its time", () => {
  const queue = new DueQueue()
  const [a, b, c] = [due(), due(), due()]
  queue.set(a, 30)
  queue.set(b, 10)
  queue.set(c, 20)
  assert.strictEqual(queue.nextMs, 10)
  assert.isUndefined(queue.take(9))
  assert.strictEqual(queue.take(25), b)
  assert.strictEqual(queue.take(25), c)
  assert.isUndefined(queue.take(25))
  assert.strictEqual(queue.size, 1)
})

it("moves an entry that is set again, and takes one out that is cleared, as often as one likes", () => {
  const queue = new DueQueue()
  const [a, b] = [due(), due()]
  queue.set(a, 10)
  queue.set(b, 20)
  queue.set(a, 30)
  assert.strictEqual(queue.nextMs, 20)
  queue.set(a, 5)
  assert.strictEqual(queue.nextMs, 5)
  queue.clear(a)
  queue.clear(a)
  assert.strictEqual(queue.size, 1)
  assert.strictEqual(queue.take(20), b)
  assert.isUndefined(queue.nextMs)
})

const entries = 24
it.prop(
  "does what a sorted list does, whatever is set, moved, cleared and taken",
  {
    moves: Schema.Array(
      Schema.Tuple([
        Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: entries - 1 })),
        Schema.Int.check(Schema.isBetween({ minimum: -40, maximum: 100 }))
      ])
    )
  },
  ({ moves }) => {
    const queue = new DueQueue<Due & { readonly id: number }>()
    const all = make(entries)
    const model = new Map<number, number>()
    for (const [id, value] of moves) {
      const one = all[id] as Due & { readonly id: number }
      if (value >= 0) {
        queue.set(one, value)
        model.set(id, value)
      } else if (value >= -20) {
        queue.clear(one)
        model.delete(id)
      } else {
        const first = Math.min(...model.values())
        const taken = queue.take(50)
        if (first > 50 || model.size === 0) {
          if (taken !== undefined) return false
        } else if (taken === undefined || model.get(taken.id) !== first || !model.delete(taken.id)) return false
      }
      if (queue.size !== model.size) return false
      if (queue.nextMs !== (model.size === 0 ? undefined : Math.min(...model.values()))) return false
    }
    return true
  },
  { arbitrary: { runs: 1_000 } }
)
