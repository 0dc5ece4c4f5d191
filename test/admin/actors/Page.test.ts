import { assert, it } from "@effect/vitest"
import { Schema } from "effect"
import { pageOf, sizeOf } from "../../../src/admin/actors/Page.ts"

it("has 100 entries unless a limit is named, and never more than 1,000", () => {
  const cases = [{}, { limit: 1 }, { limit: 999 }, { limit: 1_000 }, { limit: 1_001 }, { limit: 2 ** 53 }]
  assert.deepStrictEqual(cases.map(sizeOf), [100, 1, 999, 1_000, 1_000, 1_000])
  const all = Array.from({ length: 1_001 }, (_, at) => String(at).padStart(4, "0"))
  const sizes = cases.map((query) => pageOf(all, (one) => one, query).entries.length)
  assert.deepStrictEqual(sizes, [100, 1, 999, 1_000, 1_000, 1_000])
})

const limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: 20 }))

it.prop(
  "following the cursors shows everything once, in the order of keys",
  { all: Schema.Array(Schema.String), limit },
  ({ all, limit }) => {
    const keys = [...new Set(all)]
    const seen: Array<string> = []
    let cursor: string | undefined
    do {
      const query = cursor === undefined ? { limit } : { limit, cursor }
      const { entries, pagination } = pageOf(keys, (one) => one, query)
      assert.isAtMost(entries.length, limit)
      seen.push(...entries)
      cursor = pagination.cursor
    } while (cursor !== undefined)
    assert.deepStrictEqual(seen, [...keys].sort())
  }
)
