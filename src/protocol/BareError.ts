/**
 * Why bytes were refused, or a value could not be written. One error for the whole codec: facts as fields, and never the payload.
 *
 * Peers send garbage for free, so refusing it must be cheap: a `Fault` is thrown inside the codec without a stack, and the `BareError` made
 * from it captures none either. Next: `Bare.ts`, which turns one into the other.
 */
import { Data } from "effect"

/** What was wrong. The first group is found in bytes, the second in values, the last in both. */
export type BareReason =
  /** Fewer bytes are left than the form, its length or its count asks for. */
  | "Truncated"
  /** Bytes are left after the value. */
  | "Trailing"
  /** A `uint` with a needless last group, or beyond `Number.MAX_SAFE_INTEGER`. */
  | "Varint"
  /** A `bool` or the mark of an optional that is neither 0 nor 1. */
  | "Bool"
  /** Text that is not UTF-8. */
  | "Utf8"
  /** A map key that came before. */
  | "DuplicateKey"
  /** A number outside its width. */
  | "Range"
  /** Fixed data or a tuple of another length. */
  | "Length"
  /** Text with half a surrogate pair, which has no UTF-8 form. */
  | "Surrogate"
  /** A value that is not of its schema's type at all. */
  | "Type"
  /** No member of the union, or of the enum, has this tag. */
  | "Tag"
  /** More list elements and map entries than one value may hold. */
  | "Elements"
  /** A recursive schema nested too deep. */
  | "Depth"

/** Thrown inside the codec and caught there. Not an `Error`: it has no stack to pay for. */
export class Fault {
  readonly reason: BareReason
  readonly offset: number
  constructor(reason: BareReason, offset: number) {
    this.reason = reason
    this.offset = offset
  }
}

/**
 * A refusal. `type` names the outermost schema, `path` leads from it to the field at fault (list and map entries by position, for a key is
 * payload too), `offset` is the byte where that field begins or broke off, counted from the start of the value.
 */
export class BareError extends Data.TaggedError("BareError")<{
  readonly operation: "encode" | "decode"
  readonly type: string
  readonly path: string
  readonly offset: number
  readonly reason: BareReason
}> {
  override get message(): string {
    return `${this.operation} ${this.type}${this.path} at byte ${this.offset}: ${this.reason}`
  }
}

/** The same as `new BareError`, without capturing a stack, which costs more than all the rest of a refusal. */
export const makeBareError = (fields: ConstructorParameters<typeof BareError>[0]): BareError => {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 0
  try {
    return new BareError(fields)
  } finally {
    Error.stackTraceLimit = limit
  }
}
