/** Where a stream's fiber rests until there is something to do: whatever happens in one turn of the event loop rouses it once. */
import { Effect } from "effect"
import type { Turn } from "./Turn.ts"

/** The rest of one fiber. */
export class Rest {
  private readonly soon: Turn
  private waiter: ((effect: Effect.Effect<void>) => void) | undefined
  private due = false

  constructor(soon: Turn) {
    this.soon = soon
  }

  /** Whether the fiber rests, and nothing has roused it. */
  get resting(): boolean {
    return this.waiter !== undefined && !this.due
  }

  /** There is something to do. */
  rouse(): void {
    if (this.due) return
    this.due = true
    if (this.waiter !== undefined) this.soon(() => this.end())
  }

  private end(): void {
    const waiter = this.waiter
    if (waiter === undefined) return
    this.waiter = undefined
    this.due = false
    waiter(Effect.void)
  }

  /** Waits until it is roused; at once where it was since it waited last. Whoever gives up waiting and comes back says so: `leave`. */
  get roused(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.due) {
        this.due = false
        return resume(Effect.void)
      }
      this.waiter = resume
    })
  }

  /** Nobody waits any more: what rouses it from now on is for the next wait. */
  leave(): void {
    this.waiter = undefined
  }
}
