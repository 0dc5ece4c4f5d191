/**
 * One stream as the hub keeps it for a runner that knows no credit: what is gathered before it goes down, and what came up and waits until the
 * gateway will take it. Plain state; `RivetPeer.ts` feeds it from both sides, `RivetPump.ts` publishes what it gives.
 */
import { SendWindow } from "../../tunnel/Credit.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { absurd, isSequenced, isTerminal, type RequestFrame, type ResponseFrame } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { SendSequence } from "../../tunnel/Sequence.ts"
import type { IndexedFrame } from "../Session.ts"

const modulus = 0x1_0000
const nothing = new Uint8Array(0)

/** The actor a stream is meant for, and the generation that has it. */
export interface StreamActor {
  readonly actorId: string
  readonly generation: number
}

/** Bytes that the streams of one session hold together, for the bound over all of them. */
export interface HeldBytes {
  bytes: number
}

type Opening = Extract<RequestFrame, { readonly _tag: "RequestStart" | "WebSocketOpen" }>

const isSocketClose = (frame: ResponseFrame) => frame._tag === "WebSocketClose"

/** The bytes of a frame that spend the gateway's credit, and how the frame is cut where there is not enough. */
const payloadOf = (frame: ResponseFrame): Uint8Array => {
  switch (frame._tag) {
    case "ResponseStart":
    case "ResponseChunk":
      return frame.body
    case "WebSocketMessage":
      return frame.data
    case "Informational":
    case "ResponseTrailers":
    case "ResponseAbort":
    case "WebSocketOpen":
    case "WebSocketMessageAck":
    case "WebSocketClose":
    case "Credit":
      return nothing
    default:
      return absurd(frame)
  }
}

/** The first `bytes` of a frame with a payload, and what follows it. */
const cut = (frame: ResponseFrame, bytes: number): readonly [ResponseFrame, ResponseFrame] => {
  switch (frame._tag) {
    case "ResponseStart":
      return [
        { ...frame, body: frame.body.subarray(0, bytes), streamed: true },
        { _tag: "ResponseChunk", body: frame.body.subarray(bytes), finish: !frame.streamed }
      ]
    case "ResponseChunk":
      return [
        { ...frame, body: frame.body.subarray(0, bytes), finish: false },
        { ...frame, body: frame.body.subarray(bytes) }
      ]
    case "WebSocketMessage":
      return [
        { ...frame, data: frame.data.subarray(0, bytes), finish: false },
        { ...frame, data: frame.data.subarray(bytes) }
      ]
    case "Informational":
    case "ResponseTrailers":
    case "ResponseAbort":
    case "WebSocketOpen":
    case "WebSocketMessageAck":
    case "WebSocketClose":
    case "Credit":
      throw new Error("nothing to cut")
    default:
      return absurd(frame)
  }
}

/** One stream given to a Rivet runner. */
export class RivetStream {
  readonly route: RouteKey
  readonly actor: StreamActor
  readonly kind: "http" | "websocket"
  /** The app said that its WebSocket may outlive its sleep. */
  canHibernate: boolean
  /** Nothing more comes from the runner: the frame that ends the stream is queued, or was published. */
  closed = false
  /** Stands in the pump's line. */
  ready = false
  /** The number of the last ping written after something of this stream was. */
  writtenAt = 0

  private sequence = new SendSequence()
  private credit = new SendWindow(limits.windowBytesInitial)
  private readonly queue = new Fifo<ResponseFrame>()
  private rest: ResponseFrame | undefined
  private grantBytes = 0
  private nextMessage = 0
  private heldBytes = 0
  private readonly session: HeldBytes
  private opening: Opening | undefined
  private gathered: Array<Uint8Array> = []
  private gatheredBytes = 0

  constructor(
    route: RouteKey,
    actor: StreamActor,
    kind: "http" | "websocket",
    session: HeldBytes,
    canHibernate: boolean = false
  ) {
    this.route = route
    this.actor = actor
    this.kind = kind
    this.session = session
    this.canHibernate = canHibernate
  }

  /** The place of the next message of this stream on the runner's wire. */
  nextIndex(): number {
    const index = this.nextMessage
    this.nextMessage = (index + 1) % modulus
    return index
  }

  /** A gateway goes on with a WebSocket that was asleep: its next message has this place. */
  goOnAt(index: number): void {
    this.nextMessage = index
    this.gathered = []
    this.gatheredBytes = 0
  }

  /** The opening frame while the runner has not seen it: its body is still coming. */
  get unsent(): Opening | undefined {
    return this.opening
  }

  /** Holds an opening frame back until its body is complete. */
  holdOpening(frame: Opening): void {
    this.opening = frame
    if (frame._tag === "RequestStart" && frame.body.length > 0) this.gather(frame.body)
  }

  /** Keeps a piece of a request body or of a message. `false`: more than a message of the runner's wire may hold. */
  gather(bytes: Uint8Array): boolean {
    this.gatheredBytes += bytes.length
    if (this.gatheredBytes > limits.rivetPayloadBytesMax) return false
    if (bytes.length > 0) this.gathered.push(bytes)
    return true
  }

  /** Everything gathered, as one. */
  takeGathered(): Uint8Array {
    const { gathered } = this
    this.gathered = []
    this.gatheredBytes = 0
    this.opening = undefined
    return gathered.length === 1 ? (gathered[0] as Uint8Array) : Buffer.concat(gathered)
  }

  /** The gateway takes this much more. */
  granted(bytes: number): void {
    this.credit.grant(bytes)
  }

  /** The gateway is to be granted this much more: as many bytes have left for the runner. */
  grant(bytes: number): void {
    this.grantBytes += bytes
  }

  /** Queues a whole frame from the runner, or one said for it. `false`: the stream's buffer is full. After the end nothing is taken. */
  offer(frame: ResponseFrame): boolean {
    if (this.closed) return true
    const bytes = payloadOf(frame).length
    if (bytes > limits.rivetPayloadBytesMax || this.heldBytes + bytes > limits.rivetStreamBytesMax) return false
    if (this.session.bytes + bytes > limits.rivetSessionBytesMax) return false
    if (frame._tag === "WebSocketOpen") this.canHibernate = frame.canHibernate
    this.hold(bytes)
    this.queue.push(frame)
    this.closed = isTerminal(frame)
    return true
  }

  /** Forgets what waits and ends with this frame instead. */
  endWith(frame: ResponseFrame): void {
    this.drop()
    this.queue.push(frame)
    this.closed = true
  }

  /** Forgets what waits: nobody will take it any more. */
  drop(): void {
    this.queue.takeAll()
    this.rest = undefined
    this.hold(-this.heldBytes)
  }

  /** The next frame that may be published now, with its place; undefined where there is none, or no credit for it. */
  take(): IndexedFrame | undefined {
    if (this.grantBytes > 0) {
      const bytes = this.grantBytes
      this.grantBytes = 0
      return { index: 0, frame: { _tag: "Credit", bytes } }
    }
    const frame = this.rest ?? this.queue.peek()
    if (frame === undefined) return undefined
    const payload = payloadOf(frame).length
    const piece = this.credit.pieceBytes(payload)
    // A head need not wait for the credit of its body, and an empty message for none.
    if (piece === 0 && payload > 0 && frame._tag !== "ResponseStart") return undefined
    this.credit.spend(piece)
    this.hold(-piece)
    if (this.rest === undefined) this.queue.shift()
    if (piece === payload) {
      this.rest = undefined
      return this.indexed(frame)
    }
    const [first, rest] = cut(frame, piece)
    this.rest = rest
    return this.indexed(first)
  }

  /** The visitor's socket is to sleep and wake again: the frame that says the first, after which everything is counted anew. What waits, waits on. */
  rearm(): IndexedFrame {
    const sleeping = this.indexed(asleep)
    this.sequence = new SendSequence()
    this.credit = new SendWindow(limits.windowBytesInitial)
    this.grantBytes = 0
    return sleeping
  }

  /** Whether the visitor's socket may stay while the actor is away. One whose close is on its way does not. */
  get sleeps(): boolean {
    return this.canHibernate && !this.closed
  }

  private hold(bytes: number): void {
    this.heldBytes += bytes
    this.session.bytes += bytes
  }

  private indexed(frame: ResponseFrame): IndexedFrame {
    return { index: isSequenced(frame) ? this.sequence.next() : 0, frame }
  }
}

/** The actor sleeps, the visitor's socket stays. */
export const asleep: ResponseFrame = { _tag: "WebSocketClose", code: null, reason: "", hibernate: true }

/** Whether the frame tells a gateway to keep the visitor's socket for an actor that sleeps. */
export const putsToSleep = (frame: ResponseFrame): boolean =>
  isSocketClose(frame) && frame._tag === "WebSocketClose" && frame.hibernate
