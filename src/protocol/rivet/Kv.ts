/**
 * What Rivet's runners say about an actor's key-value store. Equal in all seven versions but for two things, which the versions' own files
 * choose: what a timestamp is called, and the requests of version 7.
 */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"

/** Opaque bytes, ordered byte by byte. */
export const KvKey = Wire.data
/** Opaque bytes. */
export const KvValue = Wire.data

/** Keys from `start` to `end`, the latter left out when `exclusive`. */
export const KvListRangeQuery = Schema.Struct({ start: KvKey, end: KvKey, exclusive: Wire.bool })
/** Keys that begin with `key`. */
export const KvListPrefixQuery = Schema.Struct({ key: KvKey })
/** Which keys to list. */
export const KvListQuery = Schema.Union([
  Wire.variant(0, "KvListAllQuery", Wire.empty),
  Wire.variant(1, "KvListRangeQuery", KvListRangeQuery),
  Wire.variant(2, "KvListPrefixQuery", KvListPrefixQuery)
])

/** The values of these keys; one that is missing is left out of the answer. */
export const KvGetRequest = Schema.Struct({ keys: Wire.list(KvKey) })
/** The entries a query finds, at most `limit` of them. */
export const KvListRequest = Schema.Struct({
  query: KvListQuery,
  reverse: Wire.optional(Wire.bool),
  limit: Wire.optional(Wire.u64)
})
/** Two lists side by side; nothing on the wire makes them equally long. */
export const KvPutRequest = Schema.Struct({ keys: Wire.list(KvKey), values: Wire.list(KvValue) })
/** Removes these keys. */
export const KvDeleteRequest = Schema.Struct({ keys: Wire.list(KvKey) })
/** Only version 7 can say it. */
export const KvDeleteRangeRequest = Schema.Struct({ start: KvKey, end: KvKey })

/** The timestamp's name in versions 1 to 3. */
export const KvMetadataCreated = Schema.Struct({ version: Wire.data, createTs: Wire.i64 })
/** The same bytes as version 4 renamed them. */
export const KvMetadataUpdated = Schema.Struct({ version: Wire.data, updateTs: Wire.i64 })

/** Three lists side by side: a key, its value and what is known about it share a position. */
export const kvEntries = <Metadata extends Schema.Top>(metadata: Metadata) =>
  Schema.Struct({ keys: Wire.list(KvKey), values: Wire.list(KvValue), metadata: Wire.list(metadata) })

/** The answers, with entries described by `metadata`. */
export const kvResponseData = <Metadata extends Schema.Top>(metadata: Metadata) =>
  Schema.Union([
    Wire.variant(0, "KvErrorResponse", Schema.Struct({ message: Wire.str })),
    Wire.variant(1, "KvGetResponse", kvEntries(metadata)),
    Wire.variant(2, "KvListResponse", kvEntries(metadata)),
    Wire.variant(3, "KvPutResponse", Wire.empty),
    Wire.variant(4, "KvDeleteResponse", Wire.empty),
    Wire.variant(5, "KvDropResponse", Wire.empty)
  ])
