/**
 * What all hibernating WebSockets of a gateway may keep together for their apps to acknowledge. Each socket has a bound of its own
 * (`VisitorMessages.ts`); this one is there because many sockets below theirs are still too much.
 */

/** A sum over sockets. Those that take part are told when it is reached, and again when there is room. */
export class HibernationBudget {
  private held = 0
  private readonly members = new Set<() => void>()
  private readonly bytesMax: number
  private readonly meter: (bytes: number) => void

  /** `meter` hears every change, in bytes. */
  constructor(bytesMax: number, meter: (bytes: number) => void) {
    this.bytesMax = bytesMax
    this.meter = meter
  }

  get full(): boolean {
    return this.held >= this.bytesMax
  }

  /** Takes part from now on; `rouse` is called whenever `full` changes. Returns how to leave. */
  join(rouse: () => void): () => void {
    this.members.add(rouse)
    return () => this.members.delete(rouse)
  }

  /** Notes `bytes` more, or fewer where negative. */
  change(bytes: number): void {
    const before = this.full
    this.held += bytes
    this.meter(bytes)
    if (this.full !== before) for (const rouse of [...this.members]) rouse()
  }

  /** Whether a socket that holds this much holds at least its share: while the sum is reached, some socket always does. */
  atShare(bytes: number): boolean {
    return bytes > 0 && bytes * this.members.size >= this.held
  }
}
