import { assert, describe, it } from "@effect/vitest"
import { IdMap } from "../../src/tunnel/IdMap.ts"
import { makeRandom } from "../fuzz/Mutation.ts"

const sorted = (numbers: Iterable<number>) => [...numbers].sort((one, other) => one - other)

describe("a map by id", () => {
  it("answers as a Map does, whatever is set and deleted in whatever order (100,000 steps)", () => {
    const random = makeRandom(7)
    const map = new IdMap<number>()
    const model = new Map<number, number>()
    // Few ids for many steps, so that chains form and break; some from either end of the range.
    const ids = [...Array.from({ length: 96 }, (_, i) => i), 0xffff_ffff, 0xffff_fffe, 0x8000_0000]
    for (let step = 0; step < 100_000; step++) {
      const id = ids[random.below(ids.length)] as number
      if (random.below(2) === 0) {
        map.set(id, step)
        model.set(id, step)
      } else {
        assert.strictEqual(map.delete(id), model.get(id))
        model.delete(id)
      }
      assert.strictEqual(map.size, model.size)
      const other = ids[random.below(ids.length)] as number
      assert.strictEqual(map.get(other), model.get(other))
      assert.strictEqual(map.has(other), model.has(other))
    }
    assert.deepStrictEqual(sorted(map.keys()), sorted(model.keys()))
    assert.deepStrictEqual(sorted(map.values()), sorted(model.values()))
  })

  it("finds each of 100,000 ids that follow each other, and gives back their room", () => {
    const map = new IdMap<number>()
    const first = 0xffff_ffff - 50_000
    for (let i = 0; i < 100_000; i++) map.set((first + i) >>> 0, i)
    for (let i = 0; i < 100_000; i++) assert.strictEqual(map.get((first + i) >>> 0), i)
    assert.strictEqual(map.get(first - 1), undefined)
    for (let i = 0; i < 100_000; i++) assert.strictEqual(map.delete((first + i) >>> 0), i)
    assert.strictEqual(map.size, 0)
    assert.strictEqual(map.room, 64)
  })

  it("is half full at most, and gives room back once less than an eighth is used", () => {
    const map = new IdMap<number>()
    for (let id = 0; id < 32; id++) map.set(id, id)
    assert.strictEqual(map.room, 64)
    map.set(32, 32)
    assert.strictEqual(map.room, 128)
    for (let id = 0; id < 17; id++) map.delete(id)
    assert.deepStrictEqual([map.size, map.room], [16, 128])
    map.delete(17)
    assert.deepStrictEqual([map.size, map.room], [15, 64])
  })

  it("tells what there was when it was asked, however it changes meanwhile", () => {
    const map = new IdMap<string>()
    for (const id of [1, 2, 3]) map.set(id, `${id}`)
    const values = map.values()
    for (const _ of values) for (const id of [1, 2, 3]) map.delete(id)
    assert.deepStrictEqual(values.sort(), ["1", "2", "3"])
    assert.deepStrictEqual(map.values(), [])
  })
})
