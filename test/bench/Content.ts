/** What the app of the benchmarks sends and expects: one source for both apps and for whoever checks the bytes. */

/** The answer to a small GET. */
export const small = Buffer.alloc(256, "x")

/** The body of a small POST. */
export const posted = Buffer.alloc(1024, "b")

const pieceBytes = 64 * 1024
/** A prime: a byte lost or repeated shows. */
const period = 65_521
const pattern = Buffer.alloc(pieceBytes + period)
for (let i = 0; i < pattern.length; i++) pattern[i] = ((i % period) * 31 + ((i % period) >> 8)) & 0xff

/** The bytes of a long body from `offset` on: at most a piece, and at most `left`. */
export const pieceAt = (offset: number, left: number): Buffer => {
  const from = offset % period
  return pattern.subarray(from, from + Math.min(pieceBytes, left))
}

/** Compares a long body with what it must be, as it comes. */
export const checker = () => {
  let offset = 0
  let wrongAt = -1
  return {
    add: (chunk: Uint8Array): void => {
      let done = 0
      while (done < chunk.length) {
        const expected = pieceAt(offset, chunk.length - done)
        if (wrongAt < 0 && expected.compare(chunk, done, done + expected.length) !== 0) wrongAt = offset
        offset += expected.length
        done += expected.length
      }
    },
    bytes: () => offset,
    /** The count of bytes, or where they differ. */
    verdict: (): string => (wrongAt < 0 ? String(offset) : `wrong from byte ${wrongAt} of ${offset}`)
  }
}

/** How often the app sends an event. */
export const eventEveryMs = 10

/** A server-sent event that says when it was sent, by the clock that all processes of a machine share. */
export const event = (): string => `data: ${process.hrtime.bigint()}\n\n`

/** Path and number of a target: `/down?1000`. */
export const parse = (target: string): readonly [string, number] => {
  const query = target.indexOf("?")
  return query < 0 ? [target, 0] : [target.slice(0, query), Number(target.slice(query + 1))]
}
