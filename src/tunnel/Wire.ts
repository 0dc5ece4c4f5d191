/**
 * The vocabulary of every schema that crosses a wire: each building block is an ordinary `Schema` that also says, by annotation,
 * how wide it is in BARE (baremessages.org). `protocol/Bare.ts` compiles a codec from these annotations; nothing here knows bytes.
 *
 * Annotate last: a `.check()` after `.annotate()` hides the annotation from the compiler.
 */
import { Schema } from "effect"

/** The BARE form of a schema node. `fixed` is data without a length prefix; `enum` maps each literal to its number. */
export type WireForm =
  | "u8"
  | "u16"
  | "u32"
  | "u64"
  | "i64"
  | "uint"
  | "bool"
  | "str"
  | "data"
  | "map"
  | "void"
  | { readonly fixed: number }
  | { readonly enum: Readonly<Record<string, number>> }

declare module "effect/Schema" {
  namespace Annotations {
    interface Annotations {
      /** How this node is written in BARE; structs, lists, tuples, unions and optionals need none. */
      readonly wire?: WireForm | undefined
      /** The number of this member in its union. */
      readonly wireTag?: number | undefined
    }
  }
}

const integer = (bits: number) => Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2 ** bits - 1 }))
const bigInteger = (minimum: bigint, maximum: bigint) =>
  Schema.BigInt.check(Schema.isBetweenBigInt({ minimum, maximum }))

/** Unsigned, 1 byte. */
export const u8 = integer(8).annotate({ wire: "u8" })
/** Unsigned, 2 bytes, little-endian. */
export const u16 = integer(16).annotate({ wire: "u16" })
/** Unsigned, 4 bytes, little-endian. */
export const u32 = integer(32).annotate({ wire: "u32" })
/** Unsigned, 8 bytes, little-endian, as `bigint`. */
export const u64 = bigInteger(0n, 2n ** 64n - 1n).annotate({ wire: "u64" })
/** Two's complement, 8 bytes, little-endian, as `bigint`. */
export const i64 = bigInteger(-(2n ** 63n), 2n ** 63n - 1n).annotate({ wire: "i64" })
/** Unsigned LEB128, canonical, at most `Number.MAX_SAFE_INTEGER`. */
export const uint = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)).annotate({ wire: "uint" })
/** One byte, 0 or 1. */
export const bool = Schema.Boolean.annotate({ wire: "bool" })
/** UTF-8 behind its length in bytes. Lone surrogates have no UTF-8 form and are refused. */
export const str = Schema.String.check(
  Schema.makeFilter((text: string) => text.isWellFormed(), { title: "well-formed Unicode" })
).annotate({ wire: "str" })
/** Bytes behind their length. A decoded value is a view of the message: copy what outlives it. */
export const data = Schema.Uint8Array.annotate({ wire: "data" })
/** Nothing at all: zero bytes. */
export const empty = Schema.Null.annotate({ wire: "void" })

/** `size` bytes without a length prefix. */
export const fixed = (size: number) =>
  Schema.Uint8Array.check(Schema.isBetweenLength(size, size)).annotate({ wire: { fixed: size } })

/** One byte saying whether a value follows; `null` stands for none. */
export const optional = <S extends Schema.Constraint>(schema: S) => Schema.NullOr(schema)

/** A count, then the elements. */
export const list = <S extends Schema.Constraint>(schema: S): Schema.$Array<S> => Schema.Array(schema)

/** A count, then key and value in turn. A key that comes twice is refused. */
export const map = <K extends Schema.Top, V extends Schema.Top>(key: K, value: V) =>
  Schema.ReadonlyMap(key, value).annotate({ wire: "map" })

/** One of the literals, written as its number (a `uint`). */
export const enumeration = <const Values extends Readonly<Record<string, number>>>(values: Values) =>
  Schema.Literals(Object.keys(values) as unknown as ReadonlyArray<Extract<keyof Values, string>>).annotate({
    wire: { enum: values }
  })

/** A member of the model's unions, `{ _tag, ...fields }`, with its number. */
export const tagged = <const Tag extends string, const Fields extends Schema.Struct.Fields>(
  number: number,
  tag: Tag,
  fields: Fields
) => Schema.TaggedStruct(tag, fields).annotate({ wireTag: number })

/** A member of a foreign union, `{ tag, val }`, with its number. */
export const variant = <const Tag extends string, V extends Schema.Top>(number: number, tag: Tag, val: V) =>
  Schema.Struct({ tag: Schema.Literal(tag), val }).annotate({ wireTag: number })
