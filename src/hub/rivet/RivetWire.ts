/**
 * What is written to one Rivet runner, over whatever socket it has: messages of streams wait in line for a socket that takes them, everything else
 * goes at once and ahead of them. Knows which of what was written has surely arrived.
 *
 * Synchronous and owned by the session. `RivetPeer.ts` says what to write.
 */
import { Effect } from "effect"
import type { ActorDownlink } from "../../actor/ActorMessage.ts"
import type { RivetVersion, WholeRequestFrame } from "../../protocol/rivet/Exchange.ts"
import type { DownFrame } from "../../protocol/Wayleave1.ts"
import type { MessageSocket } from "../../socket/MessageSocket.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { absurd, weightBytes } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"

const whole = { binary: true, finish: true } as const

/** A message of a stream, with its place in the stream's order. */
export interface StreamMessage {
  readonly route: RouteKey
  readonly index: number
  readonly actorId: string
  readonly frame: WholeRequestFrame
  /** What the gateway is granted once this has left. */
  readonly grantBytes: number
}

/** Who is told what became of a message. */
export interface RivetWireOptions {
  readonly onWritten: (message: StreamMessage) => void
  /** It has no form on the wire, and was left out. */
  readonly onUnencodable: (message: DownFrame) => void
  readonly onUnsayable: (message: ActorDownlink) => void
}

/** The last word of a stream is never too much: there is one for each. */
const mayWait = ({ _tag }: WholeRequestFrame): boolean => {
  switch (_tag) {
    case "RequestStart":
    case "RequestChunk":
    case "RequestTrailers":
    case "WebSocketOpen":
    case "WebSocketMessage":
    case "Credit":
      return true
    case "RequestAbort":
    case "WebSocketClose":
      return false
  }
  return absurd(_tag)
}

/** The writing side of one Rivet session. */
export class RivetWire {
  private readonly options: RivetWireOptions
  private readonly queue = new Fifo<StreamMessage>()
  private queuedBytes = 0
  private socket: MessageSocket | undefined
  private version: RivetVersion | undefined
  private full = false
  /** Bytes said beside the streams since the socket was last seen to take what it is given. */
  private saidBytes = 0
  private pingsSent = 0
  private pingsAnswered = 0
  private pingsOut: Array<{ readonly number: number; readonly atMs: bigint }> = []

  constructor(options: RivetWireOptions) {
    this.options = options
  }

  get connected(): boolean {
    return this.socket !== undefined
  }

  /** The socket holds more than it should: what is written to it waits in this process. */
  get blocked(): boolean {
    return this.full
  }

  /** More was said in answer to the runner than it reads. */
  private get choked(): boolean {
    return this.full && this.saidBytes > limits.rivetAnswersBytesMax
  }

  /** Waits while more was said in answer to the runner than it reads: nothing more is to be asked for by it until it does. */
  readonly unchoked: Effect.Effect<void> = Effect.suspend(() =>
    this.choked && this.socket !== undefined
      ? Effect.andThen(Effect.ignore(this.socket.writable), this.unchoked)
      : Effect.void
  )

  /** The number that the next ping will have. */
  get nextPing(): number {
    return this.pingsSent + 1
  }

  /** What was written before this ping has arrived. */
  hasArrived(ping: number): boolean {
    return ping <= this.pingsAnswered
  }

  /** Whether it can be known what has arrived: the runner answers pings. */
  get provesArrival(): boolean {
    return this.version?.mark === 2
  }

  /** Whether the start of an actor names the WebSockets that go on: its runner throws away all others. */
  get namesSockets(): boolean {
    return (this.version?.version ?? 0) >= 3
  }

  /** From now on this socket is written to, in this version. What waits leaves with `flush`. */
  attach(socket: MessageSocket, version: RivetVersion): void {
    this.socket = socket
    this.version = version
    this.unblock()
  }

  detach(socket: MessageSocket): void {
    if (this.socket !== socket) return
    this.socket = undefined
    this.unblock()
  }

  /** Puts a message in line. `false`: there are too many, and it was not taken. */
  write(message: StreamMessage): boolean {
    const bytes = weightBytes(message.frame)
    if (mayWait(message.frame) && this.queuedBytes + bytes > limits.linkQueueBytesMax) return false
    this.queuedBytes += bytes
    this.queue.push(message)
    this.flush()
    return true
  }

  /** Takes the messages of a stream out of the line again. */
  withdraw(route: RouteKey): ReadonlyArray<StreamMessage> {
    if (this.queue.length === 0) return []
    const withdrawn = this.queue.extract(
      (queued) => queued.route.requestId === route.requestId && queued.route.gatewayId === route.gatewayId
    )
    for (const { frame } of withdrawn) this.queuedBytes -= weightBytes(frame)
    return withdrawn
  }

  /** Writes what waits, as far as the socket takes it. */
  flush(): void {
    const { socket, version } = this
    if (socket === undefined || version === undefined || socket.closedUnsafe() !== undefined) return
    while (!this.full) {
      const next = this.queue.shift()
      if (next === undefined) return
      this.queuedBytes -= weightBytes(next.frame)
      const bytes = this.encode(version, next)
      if (bytes === null) continue
      this.send(socket, bytes)
      this.options.onWritten(next)
    }
  }

  /** Says something beside the streams. Without a socket, or without a form in this version, it is left out: what is owed is said again after a reconnect. */
  say(message: ActorDownlink): void {
    let bytes: Uint8Array | null
    try {
      bytes = this.version?.encodeDown({ _tag: "Actor", message }) ?? null
    } catch {
      return this.options.onUnsayable(message)
    }
    if (bytes !== null) this.sayBytes(bytes)
  }

  /** Says a message of no stream's, ahead of all that wait. */
  sayFrame(message: StreamMessage): void {
    const bytes = this.version === undefined ? null : this.encode(this.version, message)
    if (bytes !== null) this.sayBytes(bytes)
  }

  /** The same of bytes that are a message already. */
  sayBytes(bytes: Uint8Array): void {
    if (this.socket === undefined) return
    this.saidBytes += bytes.length
    this.send(this.socket, bytes)
  }

  /** Sends a ping; what was written before it has arrived once it is answered. */
  ping(nowMs: number): void {
    const atMs = BigInt(nowMs)
    this.pingsSent++
    this.pingsOut.push({ number: this.pingsSent, atMs })
    if (this.pingsOut.length > limits.rivetPingsOut) this.pingsOut.shift()
    this.say({ _tag: "Ping", atMs })
  }

  /** The runner answers the ping of that time. An answer to none of ours shows that it lives, and no more. */
  pong(atMs: bigint): void {
    const answered = this.pingsOut.find((ping) => ping.atMs === atMs)
    if (answered === undefined) return
    this.pingsAnswered = answered.number
    this.pingsOut = this.pingsOut.filter(({ number }) => number > answered.number)
  }

  private encode(version: RivetVersion, message: StreamMessage): Uint8Array | null {
    const { actorId, frame, index, route } = message
    try {
      return version.encodeDown({ _tag: "TunnelDown", route, index, actorId, frame })
    } catch {
      this.options.onUnencodable(message)
      return null
    }
  }

  private send(socket: MessageSocket, bytes: Uint8Array): void {
    const writable = socket.sendUnsafe(bytes, whole)
    if (writable) this.unblock()
    else if (!this.full) this.block(socket)
  }

  private block(socket: MessageSocket): void {
    this.full = true
    socket.whenWritableUnsafe(() => {
      if (this.socket !== socket) return
      this.unblock()
      this.flush()
    })
  }

  private unblock(): void {
    this.full = false
    this.saidBytes = 0
  }
}
