/**
 * One alarm for all that wait for something, of one kind: set for the earliest deadline that was heard of, and when it rings, each is asked for its own.
 * Most waits end long before theirs, and cost no timer; one look at all of them in as long as the shortest deadline takes is what it comes to.
 */
import { Effect } from "effect"
import { Rest } from "./Rest.ts"
import type { Turn } from "./Turn.ts"

/** What has a deadline. */
export interface Due {
  /** In milliseconds of the alarm's clock; `Infinity` for never, for the time being. */
  readonly dueMs: () => number
  readonly expire: () => void
  /** Its `expire` threw. Does not throw. */
  readonly crash: () => void
}

const never = Number.POSITIVE_INFINITY

/** The alarm. */
export class Deadlines {
  private nextMs = never
  private readonly rest: Rest
  private readonly nowMs: () => number

  constructor(options: { readonly nowMs: () => number; readonly soon: Turn }) {
    this.nowMs = options.nowMs
    this.rest = new Rest(options.soon)
  }

  /** Something is due then, at the latest. */
  note(dueMs: number): void {
    if (dueMs >= this.nextMs) return
    this.nextMs = dueMs
    this.rest.rouse()
  }

  /** Rings for as long as it runs. `all`: whatever may have a deadline. `onFaults` is told of what threw. */
  watch(all: () => Iterable<Due>, onFaults: (faults: ReadonlyArray<unknown>) => Effect.Effect<void>) {
    const look = Effect.suspend(() => {
      const faults = this.nowMs() >= this.nextMs ? this.ring(all()) : []
      return faults.length === 0 ? Effect.void : onFaults(faults)
    })
    const roused = Effect.onInterrupt(this.rest.roused, () => Effect.sync(() => this.rest.leave()))
    const wait = Effect.suspend(() => {
      if (this.nextMs === never) return roused
      // Timers know whole milliseconds: one that fired early would only be set again, and again.
      const waitMs = Math.max(0, Math.ceil(this.nextMs - this.nowMs()))
      return Effect.timeoutOption(roused, waitMs)
    })
    return Effect.forever(Effect.andThen(wait, look))
  }

  private ring(all: Iterable<Due>): ReadonlyArray<unknown> {
    const nowMs = this.nowMs()
    const due: Array<Due> = []
    this.nextMs = never
    for (const one of all) {
      const dueMs = one.dueMs()
      if (dueMs <= nowMs) due.push(one)
      else this.nextMs = Math.min(this.nextMs, dueMs)
    }
    const faults: Array<unknown> = []
    for (const one of due) {
      try {
        one.expire()
      } catch (fault) {
        faults.push(fault)
        one.crash()
      }
    }
    return faults
  }
}
