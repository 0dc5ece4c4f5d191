/**
 * The place of each frame in its route's order, per direction: an index of 16 bits that wraps. It finds what a bus lost or repeated; a gap
 * resets that stream and no other.
 *
 * Only frames with `isSequenced` spend an index; all others carry 0 and are never judged.
 */
import { isSequenced, type RequestFrame, type ResponseFrame } from "./Frame.ts"

const modulus = 0x1_0000

/** `next`: in order. `duplicate`: seen already, to be ignored. `gap`: something before it is missing, and will stay so. */
export type SequenceVerdict = "next" | "duplicate" | "gap"

/** The sender's side: hands out indices. */
export class SendSequence {
  private upcoming = 0

  /** The index that the next sequenced frame will get. */
  get upcomingIndex(): number {
    return this.upcoming
  }

  /** The index of the next sequenced frame. */
  next(): number {
    const index = this.upcoming
    this.upcoming = (index + 1) % modulus
    return index
  }

  /** The index this frame travels with: the next one, or 0 where the frame has no place in the order. */
  indexOf(frame: RequestFrame | ResponseFrame): number {
    return isSequenced(frame) ? this.next() : 0
  }
}

/** The receiver's side: judges indices. */
export class ReceiveSequence {
  private expected = 0

  /** The index of the frame that has to come next. */
  get expectedIndex(): number {
    return this.expected
  }

  /** Whether a sender that goes on with this index leaves out something that has not come. */
  misses(index: number): boolean {
    return this.verdictOf(index) === "gap"
  }

  /**
   * Judges the index of a sequenced frame and moves on where it is the next. The half of the circle behind the expected index counts as
   * seen, the other half as ahead: 32,767 frames of one stream can never be in flight at once, credit is spent long before.
   */
  accept(index: number): SequenceVerdict {
    const verdict = this.verdictOf(index)
    if (verdict === "next") this.expected = (index + 1) % modulus
    return verdict
  }

  private verdictOf(index: number): SequenceVerdict {
    const ahead = (index - this.expected + modulus) % modulus
    if (ahead === 0) return "next"
    return ahead < modulus / 2 ? "gap" : "duplicate"
  }

  /** Judges any frame: one without a place in the order is always next. */
  judge(frame: RequestFrame | ResponseFrame, index: number): SequenceVerdict {
    return isSequenced(frame) ? this.accept(index) : "next"
  }
}
