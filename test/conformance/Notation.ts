/**
 * The notation of the golden vectors: JSON cannot tell bytes, 64-bit integers, maps and absent values apart, so each is wrapped in an object
 * with one `$` key. A union member is `{ $tag, $val }`; plain objects are structs.
 */

/** A vector file. */
export interface VectorFile {
  readonly protocolVersion: number
  readonly vectors: ReadonlyArray<{ readonly type: string; readonly value: unknown; readonly hex: string }>
}

/** From the notation to the values our codecs take. */
export const fromNotation = (value: unknown): unknown => {
  if (Array.isArray(value)) return value.map(fromNotation)
  if (typeof value !== "object" || value === null) return value
  const wrapped = value as Readonly<Record<string, unknown>>
  if ("$tag" in wrapped) return { tag: wrapped.$tag, val: fromNotation(wrapped.$val) }
  if ("$data" in wrapped) return new Uint8Array(Buffer.from(wrapped.$data as string, "hex"))
  if ("$int" in wrapped) return BigInt(wrapped.$int as string)
  if ("$some" in wrapped) return fromNotation(wrapped.$some)
  if ("$enum" in wrapped) return wrapped.$enum
  if ("$map" in wrapped)
    return new Map(
      (wrapped.$map as ReadonlyArray<readonly [unknown, unknown]>).map(([k, v]) => [fromNotation(k), fromNotation(v)])
    )
  return Object.fromEntries(Object.entries(wrapped).map(([key, field]) => [key, fromNotation(field)]))
}

/** The published codec wants an `ArrayBuffer` where ours takes any view. */
export const toPublished = (value: unknown): unknown => {
  if (value instanceof Uint8Array) return new Uint8Array(value).buffer
  if (Array.isArray(value)) return value.map(toPublished)
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, toPublished(item)]))
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toPublished(item)]))
  return value
}

/** The other way round. */
export const fromPublished = (value: unknown): unknown => {
  if (value instanceof ArrayBuffer) return new Uint8Array(value)
  if (Array.isArray(value)) return value.map(fromPublished)
  if (value instanceof Map) return new Map([...value].map(([key, item]) => [key, fromPublished(item)]))
  if (typeof value === "object" && value !== null)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, fromPublished(item)]))
  return value
}
