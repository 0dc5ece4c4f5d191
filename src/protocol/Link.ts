/**
 * The sending half of a runner–hub conversation, the same on both ends: queues frames, lets control overtake data, puts what one turn produced
 * into one message or few, and keeps what was sent until the peer has it, so that a reconnect loses nothing and repeats nothing.
 *
 * A link belongs to a session, not to a socket: `attach` gives it one, `detach` takes it away, frames wait meanwhile. Pure and synchronous.
 */
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { Fifo } from "../tunnel/Fifo.ts"
import { overtakes, type RequestFrame, type ResponseFrame, weightBytes } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Turn } from "../tunnel/Turn.ts"
import type { LinkFrame } from "./Wayleave1.ts"

/** A message is closed once it holds this much; one chunk more still fits any limit. */
const messageTargetBytes = limits.chunkBytesMax

const whole = { binary: true, finish: true } as const

/** How frames become bytes on this side, and what happens when the link has to give up on some. */
export interface LinkOptions<Out> {
  /** Encodes one numbered message. */
  readonly encode: (received: number, frames: ReadonlyArray<LinkFrame<Out>>) => Uint8Array
  /** Encodes the unnumbered message that only says what was received. */
  readonly encodeAck: (received: number) => Uint8Array
  /** Told of a frame that has no form on the wire, and was left out. */
  readonly onUnencodable: (frame: LinkFrame<Out>) => void
  readonly turn: Turn
}

/** One side of a numbered conversation that outlives its sockets. Synchronous: the loop that owns the socket owns it. */
export class Link<Out extends RequestFrame | ResponseFrame> {
  private readonly options: LinkOptions<Out>
  private readonly control = new Fifo<LinkFrame<Out>>()
  private readonly data = new Fifo<LinkFrame<Out>>()
  private queued = 0
  private socket: MessageSocket | undefined
  private scheduled = false
  private blocked = false
  // Numbered messages the peer has not acknowledged: the first of them is number `sent - unacknowledged.length`.
  private readonly unacknowledged = new Fifo<Uint8Array>()
  private unacknowledgedBytes = 0
  private sent = 0
  private acked = 0
  private received = 0
  private receivedBytesUnacknowledged = 0

  constructor(options: LinkOptions<Out>) {
    this.options = options
  }

  /** Numbered messages received from the peer in this session. */
  get receivedCount(): number {
    return this.received
  }

  /** Bytes waiting to be put into messages. */
  get queuedBytes(): number {
    return this.queued
  }

  /** Bytes sent and kept for a reconnect. */
  get replayBytes(): number {
    return this.unacknowledgedBytes
  }

  /** Whether everything that the peer may lack is still here. */
  get lossless(): boolean {
    return this.acked >= this.sent - this.unacknowledged.length
  }

  /** Frames that the peer may lack, in order: those sent and not acknowledged, then those that wait. */
  *outstanding(decode: (message: Uint8Array) => ReadonlyArray<LinkFrame<Out>>): Iterable<LinkFrame<Out>> {
    for (let i = 0; i < this.unacknowledged.length; i++) yield* decode(this.unacknowledged.at(i) as Uint8Array)
    for (let i = 0; i < this.control.length; i++) yield this.control.at(i) as LinkFrame<Out>
    for (let i = 0; i < this.data.length; i++) yield this.data.at(i) as LinkFrame<Out>
  }

  /** Queues what an earlier link of this session left outstanding. No wall: it stood behind one there. */
  inherit(frames: Iterable<LinkFrame<Out>>): void {
    for (const frame of frames) {
      this.data.push(frame)
      this.queued += weightBytes(frame.frame)
    }
  }

  /** Queues a frame for the end of the turn, or until there are many. `false`: the queue is at its wall and the frame was not taken; credit should never let it come to that. */
  send(frame: LinkFrame<Out>): boolean {
    const bytes = weightBytes(frame.frame)
    if (overtakes(frame.frame)) this.control.push(frame)
    else {
      if (this.queued + bytes > limits.linkQueueBytesMax) return false
      this.data.push(frame)
    }
    this.queued += bytes
    if (this.socket === undefined || this.blocked) return true
    if (this.queued > messageTargetBytes || this.control.length + this.data.length >= limits.linkFramesWaitingMax)
      this.flush()
    else this.schedule()
    return true
  }

  /** Writes an unnumbered message now, ahead of everything queued. Dropped without a socket: such messages speak only of the present. */
  sendNow(message: Uint8Array): void {
    this.socket?.sendUnsafe(message, whole)
  }

  /** Takes the queued data of one stream out again and returns it: its stream was aborted. */
  withdraw(route: RouteKey): ReadonlyArray<LinkFrame<Out>> {
    if (this.data.length === 0) return []
    const withdrawn = this.data.extract(
      (queued) => queued.route.requestId === route.requestId && queued.route.gatewayId === route.gatewayId
    )
    for (const { frame } of withdrawn) this.queued -= weightBytes(frame)
    return withdrawn
  }

  /** Whether everything after the peer's `received` messages is still here to be repeated. */
  canResume(peerReceived: number): boolean {
    return peerReceived <= this.sent && peerReceived >= this.sent - this.unacknowledged.length
  }

  /** Goes on over `socket`: repeats what the peer lacks, then sends what waits. Ask `canResume` first. */
  attach(socket: MessageSocket, peerReceived: number): void {
    this.acknowledged(peerReceived)
    this.socket = socket
    this.blocked = false
    this.receivedBytesUnacknowledged = 0
    let writable = true
    for (let i = 0; i < this.unacknowledged.length; i++) {
      writable = socket.sendUnsafe(this.unacknowledged.at(i) as Uint8Array, whole)
    }
    if (writable) this.flush()
    else this.block(socket)
  }

  /** The socket is gone, or another has taken over; frames wait. */
  detach(socket: MessageSocket): void {
    if (this.socket !== socket) return
    this.socket = undefined
    this.blocked = false
  }

  /** Notes a numbered message of `bytes` that was dealt with, and acknowledges where nothing else soon will. */
  onReceived(bytes: number): void {
    this.received++
    this.receivedBytesUnacknowledged += bytes
    if (this.receivedBytesUnacknowledged >= limits.linkAckBytes) {
      this.receivedBytesUnacknowledged = 0
      this.sendNow(this.options.encodeAck(this.received))
    }
  }

  /** The peer has received this many numbered messages. Never goes back: a repeated message carries an old count. */
  acknowledged(peerReceived: number): void {
    const first = this.sent - this.unacknowledged.length
    if (peerReceived > this.sent) return
    this.acked = Math.max(this.acked, peerReceived)
    for (let i = first; i < peerReceived; i++) {
      this.unacknowledgedBytes -= (this.unacknowledged.shift() as Uint8Array).length
    }
  }

  /** One frame that cannot be encoded must cost its stream, not the message it shares with others. */
  private encode(frames: ReadonlyArray<LinkFrame<Out>>): Uint8Array {
    try {
      return this.options.encode(this.received, frames)
    } catch {
      const encodable = frames.filter((frame) => {
        try {
          this.options.encode(0, [frame])
          return true
        } catch {
          this.options.onUnencodable(frame)
          return false
        }
      })
      return this.options.encode(this.received, encodable)
    }
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    this.options.turn(() => {
      this.scheduled = false
      this.flush()
    })
  }

  private flush(): void {
    const socket = this.socket
    // A closed socket takes nothing; emptied into it, the queue would only run through the replay buffer and be forgotten there.
    if (socket === undefined || this.blocked || socket.closedUnsafe() !== undefined) return
    while (this.control.length > 0 || this.data.length > 0) {
      if (!socket.sendUnsafe(this.nextMessage(), whole)) return this.block(socket)
    }
  }

  private block(socket: MessageSocket): void {
    this.blocked = true
    socket.whenWritableUnsafe(() => {
      if (this.socket !== socket) return
      this.blocked = false
      this.flush()
    })
  }

  private nextMessage(): Uint8Array {
    const frames: Array<LinkFrame<Out>> = []
    let bytes = 0
    while (bytes < messageTargetBytes) {
      const frame = this.control.shift() ?? this.data.shift()
      if (frame === undefined) break
      frames.push(frame)
      bytes += weightBytes(frame.frame)
    }
    this.queued -= bytes
    this.receivedBytesUnacknowledged = 0
    const message = this.encode(frames)
    this.sent++
    this.unacknowledged.push(message)
    this.unacknowledgedBytes += message.length
    // Beyond the bound the oldest are forgotten: a reconnect that would need them cannot resume, and its streams fail cleanly.
    while (this.unacknowledgedBytes > limits.linkReplayBytesMax && this.unacknowledged.length > 1) {
      this.unacknowledgedBytes -= (this.unacknowledged.shift() as Uint8Array).length
    }
    return message
  }
}
