/** What has arrived for an app and was not read yet: a queue with one reader. Credit bounds its bytes, `framesHeldMax` its length. */
import { Fifo } from "../tunnel/Fifo.ts"

/** A queue that tells its one reader when something came. */
export class Inflow<A> {
  private readonly items = new Fifo<A>()
  private reader: (() => void) | undefined

  get length(): number {
    return this.items.length
  }

  push(item: A): void {
    this.items.push(item)
    this.wake()
  }

  take(): A | undefined {
    return this.items.shift()
  }

  takeAll(): Array<A> {
    return this.items.takeAll()
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
