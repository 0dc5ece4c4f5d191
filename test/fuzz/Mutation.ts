/** Seeded damage: the same seed breaks the same bytes in the same way. */

/** A small generator of 32-bit numbers (mulberry32): quick, and good enough to break things with. */
export const makeRandom = (seed: number) => {
  let state = seed >>> 0
  const next = () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
  return { next, below: (bound: number) => next() % bound }
}
export type SeededRandom = ReturnType<typeof makeRandom>

/** Cuts, flips, splices in from another message, writes huge lengths, or appends; sometimes several at once. */
export const mutate = (random: SeededRandom, corpus: ReadonlyArray<Uint8Array>): Uint8Array => {
  let bytes = Uint8Array.from(corpus[random.below(corpus.length)] as Uint8Array)
  for (let rounds = 1 + random.below(3); rounds > 0; rounds--) {
    const at = random.below(bytes.length + 1)
    switch (random.below(5)) {
      case 0:
        bytes = bytes.slice(0, at)
        break
      case 1:
        if (at < bytes.length) bytes[at] = (bytes[at] as number) ^ (1 << random.below(8))
        break
      case 2: {
        const other = corpus[random.below(corpus.length)] as Uint8Array
        bytes = Uint8Array.from([...bytes.subarray(0, at), ...other.subarray(random.below(other.length + 1))])
        break
      }
      case 3:
        bytes = Uint8Array.from([...bytes.subarray(0, at), 0xff, 0xff, 0xff, 0xff, 0x7f, ...bytes.subarray(at)])
        break
      case 4:
        bytes = Uint8Array.from([...bytes, random.below(256)])
        break
    }
  }
  return bytes
}
