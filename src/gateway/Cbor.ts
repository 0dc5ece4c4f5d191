/** Whether bytes are one item of CBOR (RFC 8949), and nothing else: an actor's input is passed on as it came, but not as rubbish. */

/** Deeper than this nobody nests on purpose, and a parser has a stack. */
const depthMax = 64

const strictText = new TextDecoder("utf-8", { fatal: true })
const isText = (bytes: Uint8Array): boolean => {
  try {
    strictText.decode(bytes)
    return true
  } catch {
    return false
  }
}

/** Walks over items. Every method answers where it ended, or -1 where the bytes are none. */
class Walk {
  private readonly bytes: Uint8Array
  private readonly view: DataView

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  }

  item(at: number, depth: number): number {
    const first = this.bytes[at]
    if (first === undefined || depth > depthMax) return -1
    const major = first >> 5
    const info = first & 31
    if (info === 31) return this.indefinite(at + 1, major, depth)
    const widths = info < 24 ? 0 : info < 28 ? 1 << (info - 24) : -1
    const next = at + 1 + widths
    if (widths < 0 || next > this.bytes.length) return -1
    const value = widths === 0 ? info : this.argument(at + 1, widths)
    switch (major) {
      case 0:
      case 1:
        return next
      case 2:
        return value <= this.bytes.length - next ? next + value : -1
      case 3:
        return value <= this.bytes.length - next && isText(this.bytes.subarray(next, next + value)) ? next + value : -1
      case 4:
        return this.items(next, value, depth)
      case 5:
        return this.items(next, value * 2, depth)
      case 6:
        return this.item(next, depth + 1)
      default:
        // A simple value below 32 has one form, of one byte (section 3.3).
        return widths === 1 && value < 32 ? -1 : next
    }
  }

  private argument(at: number, width: number): number {
    if (width === 1) return this.view.getUint8(at)
    if (width === 2) return this.view.getUint16(at)
    return width === 4 ? this.view.getUint32(at) : Number(this.view.getBigUint64(at))
  }

  private items(at: number, count: number, depth: number): number {
    let next = at
    for (let i = 0; i < count && next !== -1; i++) next = this.item(next, depth + 1)
    return next
  }

  private indefinite(at: number, major: number, depth: number): number {
    if (major < 2 || major > 5) return -1
    let next = at
    for (let count = 0; next !== -1; count++) {
      if (this.bytes[next] === 0xff) return major === 5 && count % 2 === 1 ? -1 : next + 1
      // A string of indefinite length is made of strings of its own kind that are not.
      const chunk = this.bytes[next] ?? 0
      if (major < 4 && (chunk >> 5 !== major || (chunk & 31) === 31)) return -1
      next = this.item(next, depth + 1)
    }
    return -1
  }
}

/** Whether these bytes are exactly one item. */
export const isCbor = (bytes: Uint8Array): boolean => new Walk(bytes).item(0, 0) === bytes.length && bytes.length > 0
