/** Pages of the actor API: so many entries, and a cursor that leads to the next. A page may be short or empty; only a missing cursor is the end. */
import { Schema } from "effect"
import { limits } from "../../tunnel/Limits.ts"

/** How a page is asked for. More than `apiPageMax` is answered with as many. */
export const pageQuery = {
  limit: Schema.optionalKey(Schema.Int.check(Schema.isGreaterThanOrEqualTo(1))),
  cursor: Schema.optionalKey(Schema.String)
}

/** Where the next page begins. */
export const Pagination = Schema.Struct({ cursor: Schema.optionalKey(Schema.String) })
export type Pagination = typeof Pagination.Type

/** What was asked for. */
export interface PageQuery {
  readonly limit?: number
  readonly cursor?: string
}

/** Entries of this page at most. */
export const sizeOf = ({ limit }: PageQuery): number => Math.min(limit ?? limits.apiPageDefault, limits.apiPageMax)

/** One page of what is at hand, in the order of its keys. A key that has gone since is no fault: the page begins behind where it was. */
export const pageOf = <A>(all: Iterable<A>, keyOf: (one: A) => string, query: PageQuery) => {
  const { cursor } = query
  const sorted = [...all]
    .map((entry) => ({ entry, key: keyOf(entry) }))
    .filter(({ key }) => cursor === undefined || key > cursor)
    .sort((one, other) => (one.key < other.key ? -1 : 1))
  const page = sorted.slice(0, sizeOf(query))
  const last = page.at(-1)
  const pagination: Pagination = last !== undefined && page.length < sorted.length ? { cursor: last.key } : {}
  return { entries: page.map(({ entry }) => entry), pagination }
}
