/**
 * Order and amounts of one stream at its gateway, both ways: the place of every frame, what may still go down, what is held of what came up, and what is
 * granted. `StreamLink.ts` says what follows from it.
 */
import { ReceiveWindow, SendWindow, type WindowGrowth } from "../tunnel/Credit.ts"
import type { MovedStream } from "../tunnel/Envelope.ts"
import type { RequestFrame } from "../tunnel/Frame.ts"
import { ReceiveSequence, SendSequence } from "../tunnel/Sequence.ts"

/** Counts from one attachment of a stream to the next. */
export class StreamFlow {
  /** Downlink credit: nothing may go beyond the opening frame before the hub granted some. */
  readonly credit = new SendWindow(0)
  readonly down = new SendSequence()
  readonly up = new ReceiveSequence()
  private readonly window: ReceiveWindow
  private owedBytes = 0
  /** What every Credit that left came to. */
  private grantedBytes = 0

  constructor(growth: WindowGrowth) {
    this.window = new ReceiveWindow(growth)
  }

  /** Body bytes came in. `false`: more than granted. */
  received(bytes: number): boolean {
    return this.window.received(bytes)
  }

  /** Body bytes went out to the visitor; `stalled` where they had to wait. Whether a grant is now worth a frame. */
  consumed(bytes: number, stalled: boolean): boolean {
    const grant = this.window.consumed(bytes, stalled)
    this.owedBytes += grant
    return grant > 0
  }

  /** What is to be granted now, if anything. */
  takeGrant(): RequestFrame | undefined {
    const bytes = this.owedBytes
    if (bytes === 0) return undefined
    this.grantedBytes += bytes
    this.owedBytes = 0
    return { _tag: "Credit", bytes }
  }

  /**
   * The session goes on at another hub. What was on its way when the old one was lost is found out at once, by place and by sum, and not by the silence that
   * would follow. `false`: something is missing.
   */
  resume({ from, open }: MovedStream): boolean {
    if (from !== null && this.up.misses(from)) return false
    if (open === null) return true
    if (open.next !== this.down.upcomingIndex) return false
    this.credit.grantUpTo(open.granted)
    const lost = Math.min(Math.max(0, this.grantedBytes - open.credited), this.window.windowBytes)
    this.owedBytes += lost
    this.grantedBytes -= lost
    return true
  }

  /** Nothing is granted any more, and nothing may go. */
  close(): void {
    this.owedBytes = 0
    this.credit.close()
    this.window.close()
  }

  /** The visitor is gone, or nothing of this attachment counts any more: what it has not read is not waited for. */
  abandon(): void {
    this.window.abandon()
  }
}
