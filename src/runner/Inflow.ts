/** What has arrived for an app and was not read yet: a queue with one reader. Credit bounds its bytes, `framesHeldMax` its length. */
export class Inflow<A> {
  private items: Array<A> = []
  private head = 0
  private reader: (() => void) | undefined

  get length(): number {
    return this.items.length - this.head
  }

  push(item: A): void {
    this.items.push(item)
    this.wake()
  }

  take(): A | undefined {
    if (this.length === 0) return undefined
    const item = this.items[this.head] as A
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

  takeAll(): Array<A> {
    const all = this.head === 0 ? this.items : this.items.slice(this.head)
    this.items = []
    this.head = 0
    return all
  }

  /** Has the reader look again: something came, or nothing more will. */
  wake(): void {
    const reader = this.reader
    if (reader === undefined) return
    this.reader = undefined
    reader()
  }

  /** Calls `f` once, at the next arrival. A second reader takes the first one's place. Returns how to stop waiting. */
  whenArrived(f: () => void): () => void {
    this.reader = f
    return () => {
      if (this.reader === f) this.reader = undefined
    }
  }
}
