/**
 * The messages a visitor has sent, in order: cut into fragments as credit allows, and for a WebSocket that may hibernate kept until its app
 * acknowledges them, so that they can be sent again to whoever holds the other end next.
 *
 * Whole messages are numbered modulo 65,536: the opening is 0, the first message 1. Hub and runner count the same way, so what was sent once is
 * sent again under its number, and what has begun to be sent is sent on even where it was acknowledged meanwhile: a number left out would look
 * like a loss.
 */
import type { SocketMessage } from "../socket/MessageSocket.ts"
import { compactBytes } from "../tunnel/Compact.ts"
import type { SendWindow } from "../tunnel/Credit.ts"
import { Fifo } from "../tunnel/Fifo.ts"
import type { RequestFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HibernationBudget } from "./HibernationBudget.ts"

const circle = 0x1_0000

/** Roughly what a kept message costs beyond its bytes, so that empty ones are bounded too. */
const overheadBytes = 64

const compact = (message: SocketMessage): SocketMessage => {
  const data = compactBytes(message.data)
  return data === message.data ? message : { ...message, data }
}

/** What one visitor has sent and its app has not surely got. */
export class VisitorMessages {
  private readonly held = new Fifo<SocketMessage>()
  /** The number of the first message held. */
  private first = 1
  /** How many of those held were sent since the last `rewind`, how many ever, and how many are acknowledged: each a stretch from the first. */
  private sent = 0
  private everSent = 0
  private acknowledged = 0
  /** Bytes sent of the message behind those. */
  private offset = 0
  private weight = 0
  private budget: HibernationBudget | undefined
  private leave: (() => void) | undefined

  /** From now on messages are kept until acknowledged, against `budget`. `rouse` is called when its bound is reached or left. */
  keep(budget: HibernationBudget, rouse: () => void): void {
    this.budget = budget
    this.leave = budget.join(rouse)
  }

  /** Forgets everything, and gives back what it held of the budget. */
  discard(): void {
    this.budget?.change(-this.weight)
    this.leave?.()
    this.budget = undefined
    this.weight = 0
    this.held.takeAll()
    this.sent = this.everSent = this.acknowledged = this.offset = 0
  }

  push(batch: ReadonlyArray<SocketMessage>): void {
    let bytes = 0
    for (const message of batch) {
      this.held.push(this.budget === undefined ? message : compact(message))
      bytes += message.data.length + overheadBytes
    }
    this.weigh(bytes)
  }

  /** Whether messages wait to be sent. */
  get waiting(): boolean {
    return this.held.length > this.sent
  }

  /** Whether messages are kept that the app has not acknowledged, sent or not. */
  get unacknowledged(): boolean {
    return this.held.length > this.acknowledged
  }

  /** Whether more may be read from the visitor: of what is not kept, only once all has been sent. */
  get hasRoom(): boolean {
    if (this.budget === undefined) return !this.waiting
    return !this.ownFull && !this.budget.full
  }

  /** Whether there is no room, and this socket's own messages are a reason for it. */
  get stuck(): boolean {
    if (this.budget === undefined) return false
    return this.ownFull || (this.budget.full && this.budget.atShare(this.weight))
  }

  /** The number of the message that goes next. */
  get nextNumber(): number {
    return (this.first + this.sent) % circle
  }

  /** The next fragments that credit allows, at most so many. */
  take(credit: SendWindow, fragmentsMax: number): Array<RequestFrame> {
    const frames: Array<RequestFrame> = []
    while (frames.length < fragmentsMax) {
      // However many a visitor sent at once, what is sent and not acknowledged stays within a part of the circle.
      if (this.budget !== undefined && this.sent >= limits.hibernationMessagesMax) break
      const message = this.held.at(this.sent)
      if (message === undefined) break
      const { binary, data } = message
      const left = data.length - this.offset
      const bytes = credit.pieceBytes(left)
      if (bytes === 0 && left > 0) break
      credit.spend(bytes)
      const finish = bytes === left
      frames.push({
        _tag: "WebSocketMessage",
        data: data.subarray(this.offset, this.offset + bytes),
        binary,
        finish
      })
      this.offset += bytes
      if (finish) this.finished()
    }
    return frames
  }

  /** Messages up to this number are dealt with. One that names none of those sent changes nothing: it is old, or made up. */
  acknowledge(number: number): void {
    const count = ((number - this.first + circle) % circle) + 1
    if (count <= this.everSent) this.acknowledged = Math.max(this.acknowledged, count)
    this.release(Math.min(this.acknowledged, this.sent))
  }

  /** What was not acknowledged is to be sent again, from its beginning. */
  rewind(): void {
    this.release(this.acknowledged)
    this.sent = 0
    this.offset = 0
  }

  private get ownFull(): boolean {
    return this.weight >= limits.hibernationBytesMax || this.held.length >= limits.hibernationMessagesMax
  }

  private finished(): void {
    this.offset = 0
    this.sent++
    this.everSent = Math.max(this.everSent, this.sent)
    if (this.budget === undefined) this.acknowledged = this.sent
    this.release(Math.min(this.acknowledged, this.sent))
  }

  private release(count: number): void {
    if (count === 0) return
    let bytes = 0
    for (let i = 0; i < count; i++) bytes += (this.held.shift()?.data.length ?? 0) + overheadBytes
    this.first = (this.first + count) % circle
    this.sent = Math.max(0, this.sent - count)
    this.everSent -= count
    this.acknowledged -= count
    this.weigh(-bytes)
  }

  private weigh(bytes: number): void {
    this.weight += bytes
    this.budget?.change(bytes)
  }
}
