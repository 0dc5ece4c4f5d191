/**
 * A map from 32-bit ids to what lives as long as a request, for the per-request path: one open-addressed table, linear probing.
 *
 * Not a `Map`: that one makes a new table every few dozen insertions, and each old table points to its successor. Once a collection has moved one of
 * them to the old generation, all that ever passes through the map is kept alive until the next full one, and is copied there first: a request's
 * whole graph, and an eighth of a busy process's time (decision 0220).
 */

/** Room for a burst of 32 requests: a table that is empty between bursts need not grow in each. */
const slotsMin = 64

/** Spreads ids that follow each other, as those of one gateway do, over the whole table. */
const spread = 0x9e3779b1

/** Values by id, each of which is a whole number from 0 to 2³² − 1. Not bounded by itself: whoever fills it is. */
export class IdMap<A> {
  private ids = new Uint32Array(slotsMin)
  private items: Array<A | undefined> = new Array<A | undefined>(slotsMin).fill(undefined)
  private mask = slotsMin - 1
  private count = 0

  get size(): number {
    return this.count
  }

  /** How many slots it has, for tests. */
  get room(): number {
    return this.ids.length
  }

  get(id: number): A | undefined {
    return this.items[this.slotOf(id)]
  }

  has(id: number): boolean {
    return this.get(id) !== undefined
  }

  set(id: number, item: A): void {
    const slot = this.slotOf(id)
    const isNew = this.items[slot] === undefined
    this.ids[slot] = id
    this.items[slot] = item
    // Half full at most, so that a chain stays a few slots long.
    if (isNew && ++this.count * 2 > this.ids.length) this.resize(this.ids.length * 2)
  }

  /** Returns what was there. */
  delete(id: number): A | undefined {
    const slot = this.slotOf(id)
    const item = this.items[slot]
    if (item === undefined) return undefined
    this.empty(slot)
    this.count--
    // What a busy time took is given back.
    if (this.ids.length > slotsMin && this.count * 8 < this.ids.length) this.resize(this.ids.length / 2)
    return item
  }

  /** All there are now, in no order; what is deleted or set meanwhile does not change the list. */
  values(): Array<A> {
    return this.items.filter((item): item is A => item !== undefined)
  }

  /** The ids of those, likewise. */
  keys(): Array<number> {
    return Array.from(this.ids).filter((_, slot) => this.items[slot] !== undefined)
  }

  private homeOf(id: number): number {
    return (Math.imul(id, spread) >>> 8) & this.mask
  }

  /** Where the id is, or the free slot where it would be put. */
  private slotOf(id: number): number {
    let slot = this.homeOf(id)
    while (this.items[slot] !== undefined && this.ids[slot] !== id) slot = (slot + 1) & this.mask
    return slot
  }

  /** Empties a slot, and moves up what was put behind it for want of room, so that no chain has a hole. */
  private empty(slot: number): void {
    let hole = slot
    this.items[hole] = undefined
    for (let next = (hole + 1) & this.mask; this.items[next] !== undefined; next = (next + 1) & this.mask) {
      const home = this.homeOf(this.ids[next] as number)
      // It may move to the hole unless its chain begins after it.
      if (((next - home) & this.mask) < ((next - hole) & this.mask)) continue
      this.ids[hole] = this.ids[next] as number
      this.items[hole] = this.items[next]
      this.items[next] = undefined
      hole = next
    }
  }

  private resize(slots: number): void {
    const { ids, items } = this
    this.ids = new Uint32Array(slots)
    this.items = new Array<A | undefined>(slots).fill(undefined)
    this.mask = slots - 1
    for (let old = 0; old < items.length; old++) {
      const item = items[old]
      if (item === undefined) continue
      const slot = this.slotOf(ids[old] as number)
      this.ids[slot] = ids[old] as number
      this.items[slot] = item
    }
  }
}
