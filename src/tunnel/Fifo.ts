/** A first-in, first-out queue over one array, for the per-frame path. */

/** Gives back what was pushed, in order, and forgets what it gave without moving the rest each time. */
export class Fifo<A> {
  private items: Array<A> = []
  private head = 0
  get length(): number {
    return this.items.length - this.head
  }
  push(item: A): void {
    this.items.push(item)
  }
  peek(): A | undefined {
    return this.items[this.head]
  }
  shift(): A | undefined {
    if (this.head === this.items.length) return undefined
    const item = this.items[this.head]
    this.items[this.head] = undefined as A
    this.head++
    if (this.head === this.items.length) {
      this.items = []
      this.head = 0
    } else if (this.head > 1024 && this.head * 2 > this.items.length) {
      this.items = this.items.slice(this.head)
      this.head = 0
    }
    return item
  }
  /** Everything at once. */
  takeAll(): Array<A> {
    const all = this.head === 0 ? this.items : this.items.slice(this.head)
    this.items = []
    this.head = 0
    return all
  }
  at(index: number): A | undefined {
    return this.items[this.head + index]
  }
  /** Keeps what passes; returns what did not. */
  extract(drop: (item: A) => boolean): Array<A> {
    const dropped: Array<A> = []
    const kept: Array<A> = []
    for (let i = this.head; i < this.items.length; i++) {
      const item = this.items[i] as A
      if (drop(item)) dropped.push(item)
      else kept.push(item)
    }
    this.items = kept
    this.head = 0
    return dropped
  }
}
