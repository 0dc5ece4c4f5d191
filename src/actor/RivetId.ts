/**
 * The ids of Rivet's world: actors, runners, namespaces and rays. An id is 19 bytes: the version 1, 16 random bytes, and the label of its
 * datacentre as a big-endian 16-bit number. As text it is 30 digits of base 36, lower-case.
 *
 * The bytes are read as one number with the first byte lowest, and the lowest digit is written first: so the version shows in the first
 * characters of every id, as Rivet's own has it. 36^30 is more than 2^152, so not every text of 30 digits is an id.
 *
 * One id has one spelling here: upper case, which Rivet's parser lets pass, is no id, since ids are compared as text everywhere else.
 */
import { Context, Schema } from "effect"
import { SessionId } from "../tunnel/Envelope.ts"

/** The label of the only datacentre there is, which is called `default`. */
export const defaultLabel = 1

/** What tells ids apart, in bytes. */
export const uniqueBytes = 16

const idBytes = 1 + uniqueBytes + 2
const idDigits = 30
const version = 1
const digits = "0123456789abcdefghijklmnopqrstuvwxyz"

/** Draws the random part of an id. Not `Random`: whoever knows an actor's id may reach it, so it must not follow from a seed. Tests swap it. */
export const NewUnique = Context.Reference<() => Uint8Array>("wayleave/actor/NewUnique", {
  defaultValue: () => () => crypto.getRandomValues(new Uint8Array(uniqueBytes))
})

const spell = (bytes: Uint8Array): string => {
  const rest = Uint8Array.from(bytes)
  let text = ""
  for (let place = 0; place < idDigits; place++) {
    let remainder = 0
    for (let at = idBytes - 1; at >= 0; at--) {
      const value = remainder * 256 + (rest[at] as number)
      rest[at] = Math.floor(value / 36)
      remainder = value % 36
    }
    text += digits.charAt(remainder)
  }
  return text
}

const bytesOf = (text: string): Uint8Array | undefined => {
  if (text.length !== idDigits) return undefined
  const bytes = new Uint8Array(idBytes)
  for (let place = idDigits - 1; place >= 0; place--) {
    let carry = digits.indexOf(text.charAt(place))
    if (carry === -1) return undefined
    for (let at = 0; at < idBytes; at++) {
      const value = (bytes[at] as number) * 36 + carry
      bytes[at] = value & 0xff
      carry = value >> 8
    }
    if (carry !== 0) return undefined
  }
  return bytes[0] === version ? bytes : undefined
}

/** The parts of an id; undefined where the text is none: a wrong length or digit, another version, or more than 19 bytes hold. */
export const parse = (text: string): { readonly unique: Uint8Array; readonly label: number } | undefined => {
  const bytes = bytesOf(text)
  if (bytes === undefined) return undefined
  const label = (bytes[idBytes - 2] as number) * 256 + (bytes[idBytes - 1] as number)
  return { unique: bytes.subarray(1, 1 + uniqueBytes), label }
}

/** An id as text. */
export const RivetId = Schema.String.check(
  Schema.makeFilter((text: string) => bytesOf(text) !== undefined, { title: "a Rivet id" })
).pipe(Schema.brand("RivetId"))
export type RivetId = typeof RivetId.Type

/** The id with these 16 bytes, in the datacentre of this label. */
export const make = (unique: Uint8Array, label: number = defaultLabel): RivetId => {
  if (unique.length !== uniqueBytes) throw new RangeError(`an id has ${uniqueBytes} bytes of its own`)
  if (!Number.isInteger(label) || label < 0 || label > 0xffff) throw new RangeError("a label has 16 bits")
  const bytes = new Uint8Array(idBytes)
  bytes[0] = version
  bytes.set(unique, 1)
  bytes[idBytes - 2] = label >> 8
  bytes[idBytes - 1] = label & 0xff
  return spell(bytes) as RivetId
}

/** The id by which Rivet's world knows a runner's session: the same 16 bytes. */
export const ofSession = (session: SessionId, label: number = defaultLabel): RivetId =>
  make(Buffer.from(session, "hex"), label)

/** The session of such an id, whatever its label; undefined where the text is no id. */
export const toSession = (text: string): SessionId | undefined => {
  const parts = parse(text)
  return parts === undefined ? undefined : SessionId.make(Buffer.from(parts.unique).toString("hex"))
}
