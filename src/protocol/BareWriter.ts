/**
 * Writes BARE's forms into memory it grows as needed, and refuses what has no form: a number out of its range, half a surrogate pair.
 *
 * Messages are written one behind the other into a slab and handed out as views of it: no copy at the end, and no allocation at all for most.
 * A message larger than the slab gets memory of its own, which leaves with it, so a huge one retains nothing.
 */
import { type BareReason, Fault } from "./BareError.ts"
import { depthMax, elementsMax, halves, high, low, wholeSigned, wholeUnsigned } from "./BareReader.ts"

/** Bytes a writer allocates at a time, unless told otherwise. A view that is kept keeps its slab, as with Node's own pool. */
export const slabBytesDefault = 64 * 1024
/** Room left behind a payload that outgrew the slab, so that the few fields after it do not move it again. */
const tailBytes = 256

/** Texts up to here are written as if they were ASCII, with room for three bytes a unit in case they are not. */
const guessLengthMax = 4096

const nothing = Buffer.alloc(0)
const i64Min = -(2n ** 63n)
const i64Max = 2n ** 63n - 1n
const u64Max = 2n ** 64n - 1n

/** A growing message. `take` hands it out and begins the next. */
export class Writer {
  bytes: Buffer = nothing
  /** The length of `bytes`, which is dearer to ask for. */
  private limit = 0
  private readonly slabBytes: number
  /** Where the message being written begins. */
  start = 0
  pos = 0
  elementsLeft = elementsMax
  depth = 0

  constructor(slabBytes: number = slabBytesDefault) {
    this.slabBytes = slabBytes
  }

  /** Bytes written since the last `take`. */
  get size(): number {
    return this.pos - this.start
  }

  /** The message, exactly, as a view nobody writes to again. */
  take(): Uint8Array {
    const message = this.bytes.subarray(this.start, this.pos)
    if (this.limit > this.slabBytes) {
      this.bytes = nothing
      this.limit = 0
      this.pos = 0
    }
    this.start = this.pos
    this.elementsLeft = elementsMax
    return message
  }

  /** The first `size` bytes of it as a message; what was written behind them begins the next one. */
  takeFirst(size: number): Uint8Array {
    const message = this.bytes.subarray(this.start, this.start + size)
    this.start += size
    return message
  }

  /** Forgets what was written since the last `take`. */
  clear(): void {
    this.pos = this.start
    this.elementsLeft = elementsMax
    if (this.limit > this.slabBytes) {
      this.bytes = nothing
      this.limit = 0
      this.pos = 0
      this.start = 0
    }
  }

  fail(reason: BareReason): never {
    throw new Fault(reason, this.pos - this.start)
  }

  private grow(size: number): void {
    const used = this.pos - this.start
    const needed = used + size
    const next = Buffer.allocUnsafeSlow(
      needed + tailBytes <= this.slabBytes ? this.slabBytes : Math.max(used * 2, needed + tailBytes)
    )
    if (used > 0) next.set(this.bytes.subarray(this.start, this.pos))
    this.bytes = next
    this.limit = next.length
    this.start = 0
    this.pos = used
  }

  /** Makes sure that `size` bytes fit, and returns where they go. */
  need(size: number): number {
    if (this.pos + size > this.limit) this.grow(size)
    const at = this.pos
    this.pos = at + size
    return at
  }

  /** One byte the compiler knows to be one. */
  byte(value: number): void {
    const at = this.need(1)
    this.bytes[at] = value
  }

  u8(value: number): void {
    if ((value & 0xff) !== value) this.fail("Range")
    const at = this.need(1)
    this.bytes[at] = value
  }

  u16(value: number): void {
    if ((value & 0xffff) !== value) this.fail("Range")
    const at = this.need(2)
    const bytes = this.bytes
    bytes[at] = value
    bytes[at + 1] = value >>> 8
  }

  u32(value: number): void {
    if (value >>> 0 !== value) this.fail("Range")
    this.word(this.need(4), value)
  }

  private word(at: number, value: number): void {
    const bytes = this.bytes
    bytes[at] = value
    bytes[at + 1] = value >>> 8
    bytes[at + 2] = value >>> 16
    bytes[at + 3] = value >>> 24
  }

  private whole(): void {
    const at = this.need(8)
    this.word(at, halves[low] as number)
    this.word(at + 4, halves[high] as number)
  }

  u64(value: bigint): void {
    if (value < 0n || value > u64Max) this.fail("Range")
    wholeUnsigned[0] = value
    this.whole()
  }

  i64(value: bigint): void {
    if (value < i64Min || value > i64Max) this.fail("Range")
    wholeSigned[0] = value
    this.whole()
  }

  bool(value: boolean): void {
    if (value !== true && value !== false) this.fail("Type")
    this.byte(value ? 1 : 0)
  }

  uint(value: number): void {
    if (value >= 0 && value < 0x80 && (value | 0) === value) {
      const at = this.need(1)
      this.bytes[at] = value
    } else this.longUint(value)
  }

  private longUint(value: number): void {
    if (!Number.isSafeInteger(value) || value < 0) this.fail("Range")
    let rest = value
    while (rest > 0x7f) {
      this.byte((rest % 128) | 0x80)
      rest = Math.floor(rest / 128)
    }
    this.byte(rest)
  }

  /** The count of a list or map. */
  count(count: number): void {
    this.elementsLeft -= count
    if (this.elementsLeft < 0) this.fail("Elements")
    this.uint(count)
  }

  str(text: string): void {
    const length = text.length
    if (length < 24) {
      const start = this.need(length + 1)
      const bytes = this.bytes
      let at = start + 1
      let i = 0
      for (; i < length; i++) {
        const code = text.charCodeAt(i)
        if (code > 0x7f) break
        bytes[at++] = code
      }
      if (i === length) {
        bytes[start] = length
        return
      }
      this.pos = start
    }
    this.longStr(text)
  }

  private longStr(text: string): void {
    const length = text.length
    if (length > guessLengthMax) return this.measuredStr(text)
    // Written behind the prefix that ASCII would need: one native call, and right for nearly every text on this wire.
    const prefix = length < 0x80 ? 1 : 2
    const start = this.need(prefix + 3 * length)
    const size = this.bytes.utf8Write(text, start + prefix, 3 * length)
    this.pos = start
    // Each UTF-16 unit takes at least one byte, so equality means ASCII. Anything else is written again.
    if (size !== length) return this.measuredStr(text)
    this.uint(size)
    this.pos = start + prefix + size
  }

  private measuredStr(text: string): void {
    if (!text.isWellFormed()) this.fail("Surrogate")
    const size = Buffer.byteLength(text)
    this.uint(size)
    const at = this.need(size)
    this.bytes.utf8Write(text, at, size)
  }

  data(value: Uint8Array): void {
    if (!(value instanceof Uint8Array)) this.fail("Type")
    this.uint(value.length)
    this.raw(value)
  }

  fixed(value: Uint8Array, size: number): void {
    if (!(value instanceof Uint8Array)) this.fail("Type")
    if (value.length !== size) this.fail("Length")
    this.raw(value)
  }

  private raw(value: Uint8Array): void {
    const size = value.length
    const at = this.need(size)
    const bytes = this.bytes
    if (size <= 16) for (let i = 0; i < size; i++) bytes[at + i] = value[i] as number
    else bytes.set(value, at)
  }

  /** Enters a level of a recursive schema. */
  down(): void {
    if (++this.depth > depthMax) this.fail("Depth")
  }

  up(): void {
    this.depth--
  }
}
