/**
 * What comes in pieces and goes to a Rivet runner whole: the body of a request, the fragments of a message. One buffer that grows, so that a visitor
 * who sends byte by byte costs no more than the bytes.
 */
import type { AbortCode } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"

/** Bytes that the streams of one session hold together, for the bound over all of them. */
export interface HeldBytes {
  bytes: number
}

const nothing = new Uint8Array(0)

/** The pieces of one stream. */
export class Gathering {
  private session: HeldBytes
  /** A piece that is the only one so far is kept as it came: most messages are in one piece. */
  private only: Uint8Array | undefined
  private buffer = nothing
  private length = 0

  constructor(session: HeldBytes) {
    this.session = session
  }

  /** Keeps a piece. Where it cannot: `too_large` for a message of the runner's wire, or `overloaded`, with what all its streams gather. */
  add(piece: Uint8Array): AbortCode | undefined {
    const length = this.length + piece.length
    if (length > limits.rivetPayloadBytesMax) return "too_large"
    if (this.session.bytes + piece.length > limits.rivetSessionBytesMax) return "overloaded"
    this.session.bytes += piece.length
    if (this.length === 0) this.only = piece
    else this.append(piece, length)
    this.length = length
    return undefined
  }

  /** Everything, as one; then there is nothing. */
  take(): Uint8Array {
    const whole = this.only ?? this.buffer.subarray(0, this.length)
    this.drop()
    return whole
  }

  drop(): void {
    this.session.bytes -= this.length
    this.only = undefined
    this.buffer = nothing
    this.length = 0
  }

  /** From now on it counts with another session's. */
  moveTo(session: HeldBytes): void {
    this.session.bytes -= this.length
    this.session = session
    this.session.bytes += this.length
  }

  private append(piece: Uint8Array, length: number): void {
    if (this.buffer.length < length) {
      const grown = Buffer.allocUnsafeSlow(Math.min(Math.max(length, 2 * this.length), limits.rivetPayloadBytesMax))
      grown.set(this.only ?? this.buffer.subarray(0, this.length))
      this.buffer = grown
      this.only = undefined
    }
    this.buffer.set(piece, this.length)
  }
}
