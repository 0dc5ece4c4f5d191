/**
 * Messages on their way to a visitor: written as they come, granted again as the visitor reads. What it has not read of an attachment that is over
 * is nobody's to be granted, but still held, and so still bounded.
 */
import type { MessageSocket } from "../socket/MessageSocket.ts"
import { limits } from "../tunnel/Limits.ts"

/** What became of a message, or of a sleep, beyond its being held. */
export type OutflowFault = "overflow" | "cut" | undefined

/** The writing half of a visitor's WebSocket. */
export class SocketOutflow {
  private readonly consumed: (bytes: number, stalled: boolean) => void
  private undrainedBytes = 0
  private undrainedMessages = 0
  /** Undrained of earlier attachments. */
  private staleBytes = 0
  private withinMessage = false

  /** `consumed` hears of bytes that left for the visitor. */
  constructor(consumed: (bytes: number, stalled: boolean) => void) {
    this.consumed = consumed
  }

  /** A fragment came, to be written once the socket is open. */
  arrived(finish: boolean): void {
    this.withinMessage = !finish
  }

  /** Writes a fragment. `overflow`: empty messages spend no credit, and there are more of them than may be held. */
  send(
    socket: MessageSocket,
    data: Uint8Array,
    options: { readonly binary: boolean; readonly finish: boolean }
  ): OutflowFault {
    if (socket.sendUnsafe(data, options)) {
      this.consumed(data.length, false)
      return undefined
    }
    if (++this.undrainedMessages > limits.framesHeldMax) return "overflow"
    if (this.undrainedMessages === 1) socket.whenWritableUnsafe(() => this.drained())
    this.undrainedBytes += data.length
    return undefined
  }

  /**
   * Whoever sent is gone, and the next begins with a window of its own. `cut`: the visitor has the beginning of a message whose rest will never come.
   * `overflow`: it reads none of it, and further windows would make a heap of it.
   */
  detach(): OutflowFault {
    if (this.withinMessage) return "cut"
    this.staleBytes += this.undrainedBytes
    this.undrainedBytes = 0
    return this.staleBytes > limits.staleBytesMax ? "overflow" : undefined
  }

  private drained(): void {
    const bytes = this.undrainedBytes
    this.undrainedBytes = 0
    this.undrainedMessages = 0
    this.staleBytes = 0
    this.consumed(bytes, true)
  }
}
