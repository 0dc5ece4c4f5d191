/**
 * Reads BARE's forms from bytes it does not own. Every length and count is held against what is left before anything is allocated, data is
 * returned as a view, and whatever is refused is a `Fault`.
 *
 * Next: `BareCompiler.ts`, which writes the functions that call this.
 */
import { isUtf8 } from "node:buffer"
import { type BareReason, Fault } from "./BareError.ts"

/** List elements and map entries in one value. Each may cost a hundred bytes of heap for one on the wire, so this bounds the heap. */
export const elementsMax = 65_536
/** Levels of a recursive schema. */
export const depthMax = 64

declare global {
  interface Buffer {
    latin1Slice(start: number, end: number): string
    utf8Slice(start: number, end: number): string
    utf8Write(text: string, offset: number, length: number): number
  }
}

/** Both halves of a 64-bit integer and the integer itself, over the same memory: cheaper than a DataView per message. */
export const halves = new Int32Array(2)
/** The integer over `halves`, as `i64`. */
export const wholeSigned = new BigInt64Array(halves.buffer)
/** The integer over `halves`, as `u64`. */
export const wholeUnsigned = new BigUint64Array(halves.buffer)
/** Where the low half lies on this machine. */
export const low = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 0 : 1
/** Where the high half lies. */
export const high = 1 - low

/**
 * Short texts read lately. Header names, methods and actor ids come again and again, and finding one here costs half of making it anew.
 * Bounded: 512 texts of at most 24 bytes, ASCII only.
 */
const recentTexts: Array<string> = new Array(512).fill("")
const recentBytesMax = 24
/** Their bytes, one place behind the other: cheaper to compare than the texts' characters. */
const recentBytes = new Uint8Array(recentTexts.length * recentBytesMax)

const { latin1Slice, utf8Slice } = Buffer.prototype

/** A cursor over one message. Several values may be read from it in turn. */
export class Reader {
  bytes: Uint8Array
  pos = 0
  end: number
  elementsLeft = elementsMax
  depth = 0

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.end = bytes.length
  }

  /** Bytes not read yet. */
  get left(): number {
    return this.end - this.pos
  }

  fail(reason: BareReason): never {
    throw new Fault(reason, this.pos)
  }

  /** Moves over `size` bytes and returns where they begin. */
  need(size: number): number {
    const at = this.pos
    if (size > this.end - at) this.fail("Truncated")
    this.pos = at + size
    return at
  }

  u8(): number {
    return this.bytes[this.need(1)] as number
  }

  u16(): number {
    const at = this.need(2)
    const bytes = this.bytes
    return (bytes[at] as number) | ((bytes[at + 1] as number) << 8)
  }

  u32(): number {
    const at = this.need(4)
    const bytes = this.bytes
    return (
      ((bytes[at] as number) |
        ((bytes[at + 1] as number) << 8) |
        ((bytes[at + 2] as number) << 16) |
        ((bytes[at + 3] as number) << 24)) >>>
      0
    )
  }

  private loadWhole(): void {
    const at = this.need(8)
    const bytes = this.bytes
    halves[low] =
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    halves[high] =
      (bytes[at + 4] as number) |
      ((bytes[at + 5] as number) << 8) |
      ((bytes[at + 6] as number) << 16) |
      ((bytes[at + 7] as number) << 24)
  }

  u64(): bigint {
    this.loadWhole()
    return wholeUnsigned[0] as bigint
  }

  i64(): bigint {
    this.loadWhole()
    return wholeSigned[0] as bigint
  }

  bool(): boolean {
    const at = this.need(1)
    const byte = this.bytes[at] as number
    if (byte > 1) {
      this.pos = at
      this.fail("Bool")
    }
    return byte === 1
  }

  uint(): number {
    const at = this.need(1)
    const byte = this.bytes[at] as number
    return byte < 0x80 ? byte : this.longUint(at, byte & 0x7f)
  }

  private longUint(at: number, first: number): number {
    let value = first
    let scale = 128
    // Eight groups hold 56 bits; what is beyond 53 of them is refused below, so the sum never loses a bit unnoticed.
    for (let group = 1; group < 8; group++) {
      const byte = this.bytes[this.need(1)] as number
      value += (byte & 0x7f) * scale
      if (byte < 0x80) {
        if (byte !== 0 && value <= Number.MAX_SAFE_INTEGER) return value
        break
      }
      scale *= 128
    }
    this.pos = at
    return this.fail("Varint")
  }

  /** A length that the bytes left can satisfy. */
  private length(): number {
    const at = this.pos
    const size = this.uint()
    if (size > this.end - this.pos) {
      this.pos = at
      this.fail("Truncated")
    }
    return size
  }

  /** A count of elements of at least `size` bytes each that the bytes left can satisfy. */
  count(size: number): number {
    const at = this.pos
    const count = this.uint()
    if (count * size > this.end - this.pos) {
      this.pos = at
      this.fail("Truncated")
    }
    this.elementsLeft -= count
    if (this.elementsLeft < 0) {
      this.pos = at
      this.fail("Elements")
    }
    return count
  }

  str(): string {
    const start = this.pos
    const size = this.length()
    const at = this.pos
    this.pos = at + size
    if (size > recentBytesMax) return this.text(start, at, size)
    if (size === 0) return ""
    const bytes = this.bytes
    const end = at + size
    // Two sums side by side: each waits for its own multiplication only.
    let even = size
    let odd = 0
    let high = 0
    let i = at
    for (; i + 1 < end; i += 2) {
      const first = bytes[i] as number
      const second = bytes[i + 1] as number
      high |= first | second
      even = (Math.imul(even, 31) + first) | 0
      odd = (Math.imul(odd, 37) + second) | 0
    }
    if (i < end) {
      const last = bytes[i] as number
      high |= last
      even = (Math.imul(even, 31) + last) | 0
    }
    if (high > 0x7f) return this.text(start, at, size)
    const hash = even ^ odd
    const slot = (hash ^ (hash >>> 9)) & (recentTexts.length - 1)
    const kept = slot * recentBytesMax
    const recent = recentTexts[slot] as string
    if (recent.length === size) {
      let same = 0
      while (same < size && recentBytes[kept + same] === bytes[at + same]) same++
      if (same === size) return recent
    }
    const text = latin1Slice.call(bytes, at, end)
    recentTexts[slot] = text
    for (let j = 0; j < size; j++) recentBytes[kept + j] = bytes[at + j] as number
    return text
  }

  private text(start: number, at: number, size: number): string {
    const text = utf8Slice.call(this.bytes, at, at + size)
    // Whatever is not UTF-8 has become U+FFFD. One that was sent as such is rare, so the second look is.
    if (text.includes("\ufffd") && !isUtf8(this.bytes.subarray(at, at + size))) {
      this.pos = start
      this.fail("Utf8")
    }
    return text
  }

  /** A view of the message, not a copy. */
  data(): Uint8Array {
    const size = this.length()
    const at = this.pos
    this.pos = at + size
    return this.bytes.subarray(at, at + size)
  }

  /** A view of the message, not a copy. */
  fixed(size: number): Uint8Array {
    const at = this.need(size)
    return this.bytes.subarray(at, at + size)
  }

  /** Enters a level of a recursive schema. */
  down(): void {
    if (++this.depth > depthMax) this.fail("Depth")
  }

  up(): void {
    this.depth--
  }
}
