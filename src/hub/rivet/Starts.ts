/**
 * Which starts a runner was told over its present connection. A request may go to an actor that has not said yet that it runs, but never ahead of its start:
 * the published client says nothing to one for an actor that it does not have.
 */
import { Effect } from "effect"
import type { StreamActor } from "./RivetStream.ts"

/** The starts of one session. At most one entry for each actor that it hosts. */
export class Starts {
  private readonly written = new Map<string, number>()
  private readonly waiting = new Map<string, Set<() => void>>()

  /** The start of this generation was written. */
  note({ actorId, generation }: StreamActor): void {
    this.written.set(actorId, generation)
    for (const f of this.waiting.get(actorId) ?? []) f()
  }

  /** That generation is over. */
  forget({ actorId, generation }: StreamActor): void {
    if (this.written.get(actorId) === generation) this.written.delete(actorId)
  }

  /** The connection broke: what was written may not have arrived. */
  forgetAll(): void {
    this.written.clear()
  }

  /** Whether the start of this generation was written. */
  isWritten({ actorId, generation }: StreamActor): boolean {
    return this.written.get(actorId) === generation
  }

  /** Waits until the start of this generation was written, for as long as that takes. */
  awaitWritten({ actorId, generation }: StreamActor): Effect.Effect<void> {
    return Effect.callback<void>((resume) => {
      const look = () => {
        if (this.isWritten({ actorId, generation })) resume(Effect.void)
      }
      look()
      const others = this.waiting.get(actorId) ?? new Set()
      this.waiting.set(actorId, others.add(look))
      return Effect.sync(() => this.leave(actorId, look))
    })
  }

  private leave(actorId: string, look: () => void): void {
    const others = this.waiting.get(actorId)
    others?.delete(look)
    if (others?.size === 0) this.waiting.delete(actorId)
  }
}
