/**
 * Flow control of one stream in one direction, in bytes of body: what a sender may still send, and when a receiver lets it send more.
 *
 * Both windows are plain counters and know neither clock nor socket; whoever owns the stream asks them at every frame. The gateway and the
 * runner each hold one of either kind per stream. `docs/internals/flow-control.md` shows the whole loop.
 */
import { limits } from "./Limits.ts"

/** Bytes this stream may still send. Zero parks the writer; a grant after close is a no-op, not an error. */
export class SendWindow {
  private available: number
  private granted: number
  private closed = false

  constructor(initialBytes: number) {
    this.available = initialBytes
    this.granted = initialBytes
  }

  /** Bytes that may be sent now; 0 once closed. */
  get availableBytes(): number {
    return this.available
  }

  /** The largest piece that may leave now out of `bytes` at hand: never above a chunk, 0 where credit is spent. */
  pieceBytes(bytes: number): number {
    return Math.min(bytes, this.available, limits.chunkBytesMax)
  }

  /** Takes what is being sent. Sending more than is available is a fault of the caller, not of the peer. */
  spend(bytes: number): void {
    if (this.closed) return
    if (bytes > this.available) throw new Error(`spent ${bytes} bytes of ${this.available} granted`)
    this.available -= bytes
  }

  /** The receiver granted more. Grants of a peer that does not count stop at what a number holds exactly. */
  grant(bytes: number): void {
    if (this.closed) return
    this.available = Math.min(this.available + bytes, Number.MAX_SAFE_INTEGER)
    this.granted = Math.min(this.granted + bytes, Number.MAX_SAFE_INTEGER)
  }

  /** The receiver says how much it has granted in all: what did not arrive of that counts now. Said again, it changes nothing. */
  grantUpTo(totalBytes: number): void {
    if (totalBytes > this.granted) this.grant(totalBytes - this.granted)
  }

  /** Nothing leaves any more, whatever is granted later. */
  close(): void {
    this.closed = true
    this.available = 0
  }
}

/** How a receive window may grow. */
export interface WindowBounds {
  readonly initialBytes: number
  readonly maxBytes: number
}

/** A window as the limits table states it. */
export const windowDefault: WindowBounds = {
  initialBytes: limits.windowBytesInitial,
  maxBytes: limits.windowBytesMax
}

/**
 * What a receiver holds and grants. At any time, bytes granted but not received, bytes received but not consumed, and bytes consumed but not
 * granted again add up to the window: so no more than one window of this stream is in memory or on its way.
 */
export class ReceiveWindow {
  private window: number
  private readonly maxBytes: number
  private granted: number
  private held = 0
  private owed = 0
  private sinceGrowth = 0
  private closed = false

  constructor(bounds: WindowBounds = windowDefault) {
    this.window = bounds.initialBytes
    this.maxBytes = bounds.maxBytes
    this.granted = bounds.initialBytes
  }

  /** The window as grown so far. */
  get windowBytes(): number {
    return this.window
  }

  /** Bytes received that were not consumed yet. */
  get heldBytes(): number {
    return this.held
  }

  /** Bytes arrived. `false`: more than was granted, the peer broke the rules and the stream is to end with `overflow`. */
  received(bytes: number): boolean {
    if (this.closed) return true
    if (bytes > this.granted) return false
    this.granted -= bytes
    this.held += bytes
    return true
  }

  /**
   * Bytes left memory towards their reader; `stalled` where they had to wait for it. Answers how many to grant now, 0 for not yet.
   *
   * A grant goes back with a quarter of the window: three quarters stay usable while it travels, and a stream costs four small
   * frames per window at most. The window doubles once a whole one went through without a stall: only then was it credit, and not the
   * reader, that limited the stream.
   */
  consumed(bytes: number, stalled: boolean): number {
    if (this.closed) return 0
    const taken = Math.min(bytes, this.held)
    this.held -= taken
    this.owed += taken
    this.sinceGrowth = stalled ? 0 : this.sinceGrowth + taken
    if (this.sinceGrowth >= this.window && this.window < this.maxBytes) {
      const grown = Math.min(this.window * 2, this.maxBytes)
      this.owed += grown - this.window
      this.window = grown
      this.sinceGrowth = 0
    }
    if (this.owed * 4 < this.window) return 0
    const grant = this.owed
    this.owed = 0
    this.granted += grant
    return grant
  }

  /** The stream is over: what still arrives is nobody's concern, and nothing is granted. */
  close(): void {
    this.closed = true
  }
}
