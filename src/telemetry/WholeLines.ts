/**
 * Takes what a process wrote as it comes, in pieces that end anywhere, and gives it on in whole lines. Where one process passes on what several say, no line
 * is torn by another's.
 */
import { limits } from "../tunnel/Limits.ts"

const lineFeed = 0x0a

/** The lines of one process. Bytes: what a line says is nobody's business here. */
export class WholeLines {
  private held: Array<Uint8Array> = []
  private heldBytes = 0

  /** What can be passed on now that this has come; empty where no line has ended. */
  add(piece: Uint8Array): Uint8Array {
    const end = piece.lastIndexOf(lineFeed) + 1
    if (end === 0 && this.heldBytes + piece.length <= limits.workerLineBytesMax) {
      this.hold(piece)
      return new Uint8Array(0)
    }
    // A line beyond all measure is passed on as it is.
    const whole = this.take(end === 0 ? piece : piece.subarray(0, end))
    if (end > 0 && end < piece.length) this.hold(piece.subarray(end))
    return whole
  }

  /** What is left when its process has ended, as a line. */
  end(): Uint8Array {
    return this.heldBytes === 0 ? new Uint8Array(0) : this.take(Uint8Array.of(lineFeed))
  }

  private hold(piece: Uint8Array): void {
    this.held.push(piece)
    this.heldBytes += piece.length
  }

  private take(last: Uint8Array): Uint8Array {
    if (this.heldBytes === 0) return last
    const whole = new Uint8Array(this.heldBytes + last.length)
    let at = 0
    for (const piece of [...this.held, last]) {
      whole.set(piece, at)
      at += piece.length
    }
    this.held = []
    this.heldBytes = 0
    return whole
  }
}
