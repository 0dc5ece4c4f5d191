/**
 * What is to happen when, in order of time: a heap whose entries know their place in it, so that each can be moved or taken out. One queue and one
 * fiber serve every actor, runner and waiter; nobody else counts time.
 */

/** An entry, for as long as its owner lives. Made once, set and cleared as often as needed. */
export interface Due {
  /** When; of no meaning while it is not in a queue. */
  atMs: number
  /** Where in the heap; -1 while it is in none. */
  place: number
}

/** Entries by time, the earliest first. Bounded by whoever owns the entries: each is in at most once. */
export class DueQueue<D extends Due> {
  private readonly heap: Array<D> = []

  get size(): number {
    return this.heap.length
  }

  /** When the first is due. */
  get nextMs(): number | undefined {
    return this.heap[0]?.atMs
  }

  /** Puts it in, or moves it. */
  set(due: D, atMs: number): void {
    if (due.place === -1) {
      due.atMs = atMs
      due.place = this.heap.push(due) - 1
      this.rise(due)
      return
    }
    const later = atMs > due.atMs
    due.atMs = atMs
    if (later) this.sink(due)
    else this.rise(due)
  }

  /** Takes it out, if it is in. */
  clear(due: D): void {
    const { place } = due
    if (place === -1) return
    due.place = -1
    const last = this.heap.pop() as D
    if (last === due) return
    this.heap[place] = last
    last.place = place
    this.rise(last)
    this.sink(last)
  }

  /** Takes out the first that is due by now. */
  take(now: number): D | undefined {
    const first = this.heap[0]
    if (first === undefined || first.atMs > now) return undefined
    this.clear(first)
    return first
  }

  private put(due: D, place: number): void {
    this.heap[place] = due
    due.place = place
  }

  private rise(due: D): void {
    let { place } = due
    while (place > 0) {
      const above = (place - 1) >> 1
      const parent = this.heap[above] as D
      if (parent.atMs <= due.atMs) break
      this.put(parent, place)
      place = above
    }
    this.put(due, place)
  }

  private sink(due: D): void {
    let { place } = due
    for (;;) {
      let below = place * 2 + 1
      let child = this.heap[below]
      if (child === undefined) break
      const right = this.heap[below + 1]
      if (right !== undefined && right.atMs < child.atMs) {
        child = right
        below++
      }
      if (child.atMs >= due.atMs) break
      this.put(child, place)
      place = below
    }
    this.put(due, place)
  }
}
