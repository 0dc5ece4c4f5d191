/**
 * BARE (baremessages.org), derived from schemas: `make` compiles an annotated `Schema` into a codec. Every dialect is made of these.
 *
 * It answers for the bytes alone: widths, lengths, counts, canonical form. Patterns and brands of a schema are checked where trust changes,
 * by `Schema`, not here. Decoded `data` are views of the message. Nothing is allocated on the word of a length that the message cannot keep.
 * Next: `BareCompiler.ts`, `BareReader.ts`, `BareWriter.ts`, `BareError.ts`.
 */
import { SchemaAST as AST, Result, type Schema } from "effect"
import { compile, type Program } from "./BareCompiler.ts"
import { type BareError, Fault, makeBareError } from "./BareError.ts"
import { elementsMax, Reader } from "./BareReader.ts"
import { Writer } from "./BareWriter.ts"

export { BareError, type BareReason } from "./BareError.ts"
export { Reader } from "./BareReader.ts"
export { Writer } from "./BareWriter.ts"

/** Bytes and values of one schema. All of it is synchronous; what throws throws `BareError` and nothing else. */
export interface Codec<A> {
  /** The value's bytes, exactly: a view nobody writes to again. */
  readonly encode: (value: A) => Uint8Array
  /** The one value that fills `bytes`. Its `data` are views of them. */
  readonly decode: (bytes: Uint8Array) => A
  /** As `decode`, with the refusal as a value. */
  readonly decodeResult: (bytes: Uint8Array) => Result.Result<A, BareError>
  /** Appends to a message under construction. A refused value leaves it as it was. */
  readonly encodeInto: (writer: Writer, value: A) => void
  /** Reads one value and leaves the reader behind it; a refusal leaves the reader where it was. */
  readonly decodeFrom: (reader: Reader) => A
  /** The shape of the bytes in words, names included: programs whose layouts are equal understand each other. */
  readonly layout: string
}

/**
 * All codecs write into one: encoding is synchronous, and every message leaves before the next begins. A fresh slab costs its page faults,
 * so one of 256 KiB, which holds several chunks of 64 KiB, is the cheaper by a fifth.
 */
const scratch = new Writer(256 * 1024)

/** Compiles a codec. `name` is what errors call the outermost type; without it, the schema's `identifier`. */
export const make = <S extends Schema.Top>(schema: S, name?: string): Codec<S["Type"]> => {
  type A = S["Type"]
  const type = name ?? AST.resolveAt<string>("identifier")(schema.ast) ?? "value"
  const { write, read, layout } = compile(schema, false)
  let lazy: Program | undefined
  const traced = () => (lazy ??= compile(schema, true))

  const refuse = (operation: "encode" | "decode", path: string, reason: Fault["reason"], offset: number) =>
    makeBareError({ operation, type, path, offset, reason })

  /** Runs again over what was refused, this time keeping track. */
  const explainRead = (reader: Reader, start: number, elementsLeft: number, thrown: unknown): BareError => {
    if (!(thrown instanceof Fault)) throw thrown
    const program = traced()
    program.path.length = 0
    reader.pos = start
    reader.depth = 0
    reader.elementsLeft = elementsLeft
    let { reason, offset } = thrown
    try {
      program.read(reader)
    } catch (again) {
      if (again instanceof Fault) ({ reason, offset } = again)
    }
    reader.pos = start
    reader.depth = 0
    reader.elementsLeft = elementsLeft
    return refuse("decode", program.path.join(""), reason, offset - start)
  }

  const explainWrite = (writer: Writer, start: number, elementsLeft: number, value: A): BareError => {
    const program = traced()
    program.path.length = 0
    let reason: Fault["reason"] = "Type"
    let offset = writer.size - start
    writer.pos = writer.start + start
    writer.depth = 0
    writer.elementsLeft = elementsLeft
    try {
      program.write(writer, value)
    } catch (again) {
      // Whatever is not a Fault came of a value that is not what its type says: reading a field of `undefined`, say.
      offset = writer.size - start
      if (again instanceof Fault) reason = again.reason
    }
    writer.pos = writer.start + start
    writer.depth = 0
    writer.elementsLeft = elementsLeft
    return refuse("encode", program.path.join(""), reason, offset)
  }

  const decodeFrom = (reader: Reader): A => {
    const start = reader.pos
    const elementsLeft = reader.elementsLeft
    try {
      return read(reader)
    } catch (thrown) {
      throw explainRead(reader, start, elementsLeft, thrown)
    }
  }

  const encodeInto = (writer: Writer, value: A): void => {
    const start = writer.size
    const elementsLeft = writer.elementsLeft
    try {
      write(writer, value)
    } catch {
      throw explainWrite(writer, start, elementsLeft, value)
    }
  }

  const refusal = (bytes: Uint8Array, reader: Reader, thrown: unknown): BareError =>
    thrown === undefined
      ? refuse("decode", "", "Trailing", reader.pos)
      : explainRead(new Reader(bytes), 0, elementsMax, thrown)

  return {
    layout,
    encodeInto,
    decodeFrom,
    encode: (value) => {
      try {
        write(scratch, value)
      } catch {
        const error = explainWrite(scratch, 0, elementsMax, value)
        scratch.clear()
        throw error
      }
      return scratch.take()
    },
    decode: (bytes) => {
      const reader = new Reader(bytes)
      let thrown: unknown
      try {
        const value = read(reader)
        if (reader.pos === reader.end) return value
      } catch (fault) {
        thrown = fault
      }
      throw refusal(bytes, reader, thrown)
    },
    decodeResult: (bytes) => {
      const reader = new Reader(bytes)
      let thrown: unknown
      try {
        const value = read(reader)
        if (reader.pos === reader.end) return Result.succeed(value)
      } catch (fault) {
        thrown = fault
      }
      return Result.fail(refusal(bytes, reader, thrown))
    }
  }
}
