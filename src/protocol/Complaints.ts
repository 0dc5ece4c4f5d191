/** Keeps a flood of bad messages from becoming a flood of log lines: one line per kind at once, then one per interval that says how many more there were. */
export class Complaints {
  private readonly intervalMs: number
  private readonly kinds = new Map<string, { reportedAt: number; unreported: number }>()

  constructor(intervalMs: number) {
    this.intervalMs = intervalMs
  }

  /** Notes one more of `kind`. Returns how many this line stands for when one is due, else 0. Kinds are ours, never the peer's words: the map stays small. */
  note(kind: string, now: number): number {
    const known = this.kinds.get(kind)
    if (known === undefined) {
      this.kinds.set(kind, { reportedAt: now, unreported: 0 })
      return 1
    }
    known.unreported++
    if (now - known.reportedAt < this.intervalMs) return 0
    const count = known.unreported
    known.reportedAt = now
    known.unreported = 0
    return count
  }
}

/** Counts misbehaviour over a sliding window of two halves: cheap, and never forgiving within the window. */
export class AbuseMeter {
  private readonly max: number
  private readonly windowMs: number
  private windowStart = 0
  private current = 0
  private previous = 0

  constructor(options: { readonly max: number; readonly windowMs: number }) {
    this.max = options.max
    this.windowMs = options.windowMs
  }

  /** Notes `count` offences; `true` once more than the maximum fell into one window. */
  note(count: number, now: number): boolean {
    const elapsed = now - this.windowStart
    if (elapsed >= 2 * this.windowMs) {
      this.windowStart = now
      this.previous = 0
      this.current = 0
    } else if (elapsed >= this.windowMs) {
      this.windowStart += this.windowMs
      this.previous = this.current
      this.current = 0
    }
    this.current += count
    const overlap = 1 - (now - this.windowStart) / this.windowMs
    return this.current + this.previous * overlap > this.max
  }
}
