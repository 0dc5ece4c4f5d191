/**
 * Flow control of one stream in one direction, in bytes of body: what a sender may still send, and when a receiver lets it send more.
 *
 * Both windows are plain counters and know no socket, and a clock only as it is given; whoever owns the stream asks them at every frame. The gateway and the
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

/**
 * What the receive windows of one gateway, or of one runner's session, may grow by together, beyond the `windowBytesNear` that each may have for itself. A
 * plain counter: growth that it refuses does not happen, and the window stays as it is.
 */
export class WindowGrowth {
  /** Monotonic. Read with every grant, not with every frame. */
  readonly nowMs: () => number
  private readonly maxBytes: number
  private readonly meter: (bytes: number) => void
  private bytes = 0

  /** `meter` hears every change, in bytes. */
  constructor(
    nowMs: () => number,
    maxBytes: number = limits.windowGrowthBytesMax,
    meter: (bytes: number) => void = () => {}
  ) {
    this.nowMs = nowMs
    this.maxBytes = maxBytes
    this.meter = meter
  }

  /** What all windows have grown by now. */
  get takenBytes(): number {
    return this.bytes
  }

  /** `false`: there is not so much left, and nothing was taken. */
  take(bytes: number): boolean {
    if (this.bytes + bytes > this.maxBytes) return false
    this.give(-bytes)
    return true
  }

  /** Takes back what a window had grown by. */
  give(bytes: number): void {
    if (bytes === 0) return
    this.bytes -= bytes
    this.meter(-bytes)
  }
}

/** So many windows in a row say that it is the credit that a stream waits for, and not chance. */
const quickTurnsMin = 3

/**
 * What a receiver holds and grants. At any time, bytes granted but not received, bytes received but not consumed, and bytes consumed but not
 * granted again add up to the window: so no more than one window of this stream is in memory or on its way.
 */
export class ReceiveWindow {
  private readonly growth: WindowGrowth
  private window: number
  private granted: number
  private held = 0
  private owed = 0
  private closed = false
  /** How much of the window is of the growth that all share. */
  private shared = 0
  // A turn is a whole window consumed. The first has no beginning, and is not quick.
  private turnBegunMs = Number.NaN
  private quickTurns = 0
  private turnBytes = 0
  private turnStalled = false
  // Of a grant that is timed: what may still come without its having been heard of. Below zero none is.
  private unheard = -1
  private timedFromMs = 0
  private grantedAtMs = Number.POSITIVE_INFINITY
  /** The shortest seen; long before the first. */
  private roundTripMs = Number.POSITIVE_INFINITY

  constructor(growth: WindowGrowth, initialBytes: number = limits.windowBytesInitial) {
    this.growth = growth
    this.window = initialBytes
    this.granted = initialBytes
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
    if (this.unheard >= 0) {
      this.unheard -= bytes
      if (this.unheard < 0) this.roundTripMs = Math.min(this.roundTripMs, this.growth.nowMs() - this.timedFromMs)
    }
    return true
  }

  /**
   * Bytes left memory towards their reader; `stalled` where they had to wait for it. Answers how many to grant now, 0 for not yet.
   *
   * A grant goes back with a quarter of the window: three quarters stay usable while it travels, and a stream costs four small
   * frames per window at most.
   */
  consumed(bytes: number, stalled: boolean): number {
    const taken = Math.min(bytes, this.held)
    this.held -= taken
    if (this.closed) {
      this.giveBackUnheld()
      return 0
    }
    this.owed += taken
    this.turnBytes += taken
    this.turnStalled ||= stalled
    if (this.turnBytes >= this.window) this.turn()
    if (this.owed * 4 < this.window) return 0
    const nowMs = this.growth.nowMs()
    if (nowMs - this.grantedAtMs > limits.windowSlackMs) this.shrink()
    this.grantedAtMs = nowMs
    const grant = this.owed
    if (grant === 0) return 0
    this.owed = 0
    if (this.unheard < 0) {
      this.unheard = this.granted
      this.timedFromMs = nowMs
    }
    this.granted += grant
    return grant
  }

  /** The stream is over: what still arrives is nobody's concern, and nothing is granted. What is still held counts until it is consumed. */
  close(): void {
    this.closed = true
    this.giveBackUnheld()
  }

  /** What is still held will never be reported as consumed. */
  abandon(): void {
    this.held = 0
    this.close()
  }

  /**
   * A whole window went through, and the window doubles where it was the credit that limited the stream. On a long link it was where several windows in a
   * row each took less than two round trips: one alone may have piled up somewhere and come at once. A window of two round trips is more
   * than link or reader can use, so growth ends by itself. On a short link the turns of event loops are the round trip; there any window will do of
   * which nothing had to wait for its reader, up to `windowBytesNear`.
   */
  private turn(): void {
    const nowMs = this.growth.nowMs()
    const quick = this.roundTripMs >= limits.windowFarMs && nowMs - this.turnBegunMs < 2 * this.roundTripMs
    const keptUp = this.window < limits.windowBytesNear && !this.turnStalled
    this.quickTurns = quick ? this.quickTurns + 1 : 0
    this.turnBegunMs = nowMs
    this.turnBytes = 0
    this.turnStalled = false
    if (this.quickTurns < quickTurnsMin && !keptUp) return
    const grown = Math.min(this.window * 2, limits.windowBytesMax)
    if (grown <= this.window) return
    const shared = Math.max(0, grown - Math.max(this.window, limits.windowBytesNear))
    if (!this.growth.take(shared)) return
    this.shared += shared
    this.owed += grown - this.window
    this.window = grown
  }

  /** A stream that takes its time over a quarter of a window has no use for so large a one: what it consumed of the shared growth is not granted again. */
  private shrink(): void {
    const bytes = Math.min(this.shared, this.owed)
    this.owed -= bytes
    this.giveBack(bytes)
  }

  /** Of the closed window only what is held still takes room. */
  private giveBackUnheld(): void {
    this.giveBack(Math.min(this.shared, this.window - this.held))
  }

  private giveBack(bytes: number): void {
    this.growth.give(bytes)
    this.shared -= bytes
    this.window -= bytes
  }
}
