/**
 * Which hub served a subject last, remembered for a few seconds: a name that nobody listens for is one thing where its hub has just been lost, and
 * another where it never had one. Bounded: the oldest goes first.
 */
import type { Subject } from "../bus/Subject.ts"
import { limits } from "../tunnel/Limits.ts"

/** How old a note may get before it is written anew: a busy name is not put to the end of the line for each of its requests. */
const freshMs = 1_000

interface Note {
  readonly hub: Subject
  readonly atMs: number
}

/** The memory of one gateway. */
export class LatelyServed {
  private readonly notes = new Map<Subject, Note>()

  get size(): number {
    return this.notes.size
  }

  /** This hub took up a stream of that subject. */
  note(subject: Subject, hub: Subject, nowMs: number): void {
    const present = this.notes.get(subject)
    if (present !== undefined) {
      if (present.hub === hub && nowMs - present.atMs < freshMs) return
      this.notes.delete(subject)
    } else if (this.notes.size >= limits.namesRememberedMax) {
      for (const oldest of this.notes.keys()) {
        this.notes.delete(oldest)
        break
      }
    }
    this.notes.set(subject, { hub, atMs: nowMs })
  }

  /** The hub that served it last, unless that is too long ago. */
  hubOf(subject: Subject, nowMs: number): Subject | undefined {
    const note = this.notes.get(subject)
    return note === undefined || nowMs - note.atMs > limits.servedLatelyMs ? undefined : note.hub
  }

  /** That hub does not serve it any more, and said so. */
  forget(subject: Subject, hub: Subject): void {
    if (this.notes.get(subject)?.hub === hub) this.notes.delete(subject)
  }
}
