/** Bytes that say whose they are: from an id alone, so that whoever reads them knows what they have to be, and any gap, swap or stranger shows. */
import { createCipheriv, createHash } from "node:crypto"

/** The bytes that belong to an id. */
export const payload = (id: string, bytes: number): Buffer => {
  const key = createHash("sha256").update(id).digest().subarray(0, 16)
  return createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(bytes))
}

/** A line of a numbered stream. */
export const line = (id: string, n: number): string =>
  `${id} ${n} ${createHash("sha256").update(`${id} ${n}`).digest("hex").slice(0, 16)}`

/** Reads lines in order and says what is wrong with the first that is not the next one. */
export class LineReader {
  next = 0
  private readonly id: string

  constructor(id: string) {
    this.id = id
  }

  /** What is wrong, undefined where nothing is. */
  take(text: string): string | undefined {
    const expected = line(this.id, this.next)
    if (text !== expected) return `expected "${expected}", got "${text.slice(0, 80)}"`
    this.next++
    return undefined
  }
}
