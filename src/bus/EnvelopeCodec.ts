/**
 * Envelopes as bytes, for a bus that leaves the process: BARE, compiled from the `Envelope` schema, one envelope behind the other until the
 * message ends. Nothing here knows a variant, so a new one needs no change; `layout` changes by itself, and keeps programs apart that would
 * misread each other.
 */
import { createHash } from "node:crypto"
import * as Bare from "../protocol/Bare.ts"
import { elementsMax } from "../protocol/BareReader.ts"
import { Envelope } from "../tunnel/Envelope.ts"

const codec = Bare.make(Envelope, "Envelope")
const slabBytes = 256 * 1024
const writer = new Bare.Writer(slabBytes)

/** Names the shape of the bytes: eight hexadecimal digits, equal where two programs understand each other. */
export const layout: string = createHash("sha256").update(codec.layout).digest("hex").slice(0, 8)

/** How long a message may be: filled up to `fill`, and up to `max` where a single envelope needs it. */
export interface MessageSizes {
  readonly fill: number
  readonly max: number
}

/** The messages that carry these envelopes, in order. Undefined where one of them has no form in bytes, or is longer than a message may be. */
export const encode = (
  envelopes: ReadonlyArray<Envelope>,
  { fill, max }: MessageSizes
): ReadonlyArray<Uint8Array> | undefined => {
  const messages: Array<Uint8Array> = []
  for (const envelope of envelopes) {
    const before = writer.size
    // Counted per envelope, as the reader does: a batch of many heads is no single huge one.
    writer.elementsLeft = elementsMax
    try {
      codec.encodeInto(writer, envelope)
    } catch {
      writer.clear()
      return undefined
    }
    if (writer.size - before > max) {
      writer.clear()
      return undefined
    }
    if (before > 0 && writer.size > fill) messages.push(writer.takeFirst(before))
  }
  if (writer.size > 0) messages.push(writer.take())
  return messages
}

/** The envelopes of a message, whose bytes are views of it. Undefined where it is none of ours. */
export const decode = (message: Uint8Array): ReadonlyArray<Envelope> | undefined => {
  const reader = new Bare.Reader(message)
  const envelopes: Array<Envelope> = []
  try {
    while (reader.left > 0) {
      reader.elementsLeft = elementsMax
      envelopes.push(codec.decodeFrom(reader))
    }
    return envelopes
  } catch {
    return undefined
  }
}
