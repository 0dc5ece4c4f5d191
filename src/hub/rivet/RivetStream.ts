/**
 * One stream as the hub keeps it for a runner that knows no credit: what is gathered before it goes down, and what came up and waits until the
 * gateway will take it. Plain state; `RivetPeer.ts` feeds it from both sides, `RivetPump.ts` publishes what it gives.
 *
 * A WebSocket that can hibernate outlives its runner: it is put to sleep, and attached again to whoever hosts its actor next. `LastingSockets.ts`.
 */
import { sendableCloseReason } from "../../socket/MessageSocket.ts"
import { SendWindow } from "../../tunnel/Credit.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import {
  type AbortCode,
  bodyBytes,
  isSequenced,
  isTerminal,
  type RequestFrame,
  type ResponseFrame,
  weightBytes
} from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { ReceiveSequence, SendSequence, type SequenceVerdict } from "../../tunnel/Sequence.ts"
import type { IndexedFrame } from "../Session.ts"
import { Gathering, type HeldBytes } from "./Gathering.ts"
import { compact, cut } from "./Pieces.ts"

const modulus = 0x1_0000

/** The actor a stream is meant for, and the generation that has it. */
export interface StreamActor {
  readonly actorId: string
  readonly generation: number
}

/** Of a stream that no generation has had here. */
const noGeneration = -1

/** What the streams of one session hold together: of requests, and of answers. */
export interface SessionHeld {
  readonly requests: HeldBytes
  readonly answers: HeldBytes
}

type Request = Extract<RequestFrame, { readonly _tag: "RequestStart" }>

/** The actor sleeps, the visitor's socket stays. */
const asleep: ResponseFrame = { _tag: "WebSocketClose", code: null, reason: "", hibernate: true }

/** One stream given to a Rivet runner. */
export class RivetStream {
  readonly route: RouteKey
  readonly kind: "http" | "websocket"
  actor: StreamActor
  /** The body of the request, or the message, that is being put together. */
  readonly gathering: Gathering
  /** A request that the runner has not seen, since its body is still coming. */
  unsent: Request | undefined
  /** The app said yes to its WebSocket. */
  accepted = false
  /** And that it may outlive the actor's sleep. */
  canHibernate = false
  /** Asleep: nothing more is given until it is attached again. */
  parked = false
  /** Attached again, and its gateway has not yet said at which place it goes on. */
  placeDue = false
  /** Stands in the pump's line. */
  ready = false
  /** The number of the next ping after something of this stream was written to the runner's present connection; 0 where nothing was. */
  writtenBefore = 0

  private ending: "none" | "asleep" | "over" = "none"
  private held: HeldBytes
  private sequence = new SendSequence()
  private arrivals = new ReceiveSequence()
  private credit = new SendWindow(limits.windowBytesInitial)
  private readonly queue = new Fifo<ResponseFrame>()
  private rest: ResponseFrame | undefined
  private sleepsNext = false
  private grantBytes = 0
  private nextMessage = 0
  private heldBytes = 0

  constructor(route: RouteKey, kind: "http" | "websocket", actor: StreamActor, held: SessionHeld) {
    this.route = route
    this.kind = kind
    this.actor = actor
    this.gathering = new Gathering(held.requests)
    this.held = held.answers
    // Whoever makes it has the opening frame.
    this.arrivals.accept(0)
  }

  /** A WebSocket that a gateway knows as asleep, and nobody here remembers. */
  static asleep(route: RouteKey, actorId: string): RivetStream {
    const nothing: SessionHeld = { requests: { bytes: 0 }, answers: { bytes: 0 } }
    const stream = new RivetStream(route, "websocket", { actorId, generation: noGeneration }, nothing)
    stream.accepted = stream.canHibernate = stream.parked = true
    return stream
  }

  /** Nothing more is taken from the runner: the frame that ends the stream, or puts it to sleep, is queued or was published. */
  get closed(): boolean {
    return this.ending !== "none"
  }

  /**
   * What its visitor says finds nobody: the runner is done with it, or its gateway will hear that it sleeps and say all this again; or it was said to
   * whoever had it before, and its gateway has not yet said where it goes on.
   */
  get mute(): boolean {
    return this.closed || this.sleepsNext || this.parked || this.placeDue
  }

  /** Whether the visitor's socket may stay while the actor is away. One whose close is on its way does not. */
  get lasts(): boolean {
    return this.canHibernate && this.ending !== "over"
  }

  /** Judges the place of a frame from its gateway in its order. What finds nobody is not judged: the order begins anew before anything is heard again. */
  judge(frame: RequestFrame, index: number): SequenceVerdict {
    return this.mute ? "next" : this.arrivals.judge(frame, index)
  }

  /** The place of the next message of this stream on the runner's wire. */
  nextIndex(): number {
    const index = this.nextMessage
    this.nextMessage = (index + 1) % modulus
    return index
  }

  /** Its gateway goes on: the next message has this place, and begins anew. */
  goOnAt(index: number): void {
    this.nextMessage = index
    this.placeDue = false
    this.arrivals = new ReceiveSequence()
    this.gathering.drop()
  }

  /** The gateway takes this much more. */
  granted(bytes: number): void {
    this.credit.grant(bytes)
  }

  /** The gateway is to be granted this much more: as many bytes have left for the runner. */
  grant(bytes: number): void {
    this.grantBytes += bytes
  }

  /** Queues a whole frame from the runner. Where it cannot, says why: nothing was kept. After the end nothing is taken. */
  offer(frame: ResponseFrame): AbortCode | undefined {
    if (this.closed) return undefined
    const payload = bodyBytes(frame)
    const weight = weightBytes(frame)
    if (weight - payload > limits.headBytesMax) return "protocol_error"
    if (payload > limits.rivetPayloadBytesMax || this.queue.length >= limits.framesHeldMax) return "overflow"
    if (this.heldBytes + weight > limits.rivetStreamBytesMax) return "overflow"
    if (this.held.bytes + weight > limits.rivetSessionBytesMax) return "overflow"
    if (frame._tag !== "WebSocketClose") this.push(compact(frame))
    else if (frame.hibernate && this.canHibernate) this.sleep()
    else this.push({ ...frame, reason: sendableCloseReason(frame.reason), hibernate: false })
    return undefined
  }

  /** Ends with this frame, said for the runner, behind what it has said itself. */
  end(frame: ResponseFrame): void {
    if (!this.closed) this.push(frame)
  }

  /** Forgets what waits and ends with this frame instead. */
  endWith(frame: ResponseFrame): void {
    this.drop()
    this.push(frame)
  }

  /** Puts it to sleep, behind what the runner has said. */
  sleep(): void {
    if (this.closed) return
    // On its way there already, because its connection was lost: it stays.
    if (this.sleepsNext || this.parked) this.ending = "asleep"
    else this.push(asleep)
  }

  /** Puts it to sleep as soon as the message under way is whole. What waits behind that waits until it is attached again. */
  sleepSoon(): void {
    if (this.parked || !this.lasts) return
    this.account(-weightBytes(asleep) * this.queue.extract((frame) => frame === asleep).length)
    this.sleepsNext = true
  }

  /** Goes on with this generation of its actor. The gateway hears of it with a first window, and counts from there as we do. */
  attach(held: SessionHeld, actor: StreamActor, index: number): void {
    this.held.bytes -= this.heldBytes
    this.held = held.answers
    this.held.bytes += this.heldBytes
    this.gathering.moveTo(held.requests)
    this.actor = actor
    this.sequence = new SendSequence()
    this.credit = new SendWindow(limits.windowBytesInitial)
    this.grantBytes = limits.windowBytesInitial
    this.writtenBefore = 0
    this.ending = "none"
    this.parked = false
    this.ready = false
    this.goOnAt(index)
    this.placeDue = true
  }

  /** Forgets what waits: nobody will take it any more. */
  drop(): void {
    this.queue.takeAll()
    this.rest = undefined
    this.sleepsNext = false
    this.gathering.drop()
    this.account(-this.heldBytes)
  }

  /** The next frame that may be published now, with its place; undefined where there is none, or no credit for it. */
  take(): IndexedFrame | undefined {
    if (this.parked) return undefined
    if (this.grantBytes > 0) {
      const bytes = this.grantBytes
      this.grantBytes = 0
      return { index: 0, frame: { _tag: "Credit", bytes } }
    }
    const frame = this.rest ?? this.queue.peek()
    // Its gateway has to hear first that there is something to sleep.
    if (this.rest === undefined && this.sleepsNext && frame?._tag !== "WebSocketOpen") return this.fallAsleep()
    if (frame === undefined) return undefined
    if (frame === asleep) return this.fallAsleep()
    const bytes = this.credit.pieceBytes(bodyBytes(frame))
    const parts = cut(frame, bytes)
    if (parts === undefined) return undefined
    const [piece, rest] = parts
    this.credit.spend(bytes)
    if (this.rest === undefined) this.queue.shift()
    this.rest = rest
    this.account((rest === undefined ? 0 : weightBytes(rest)) - weightBytes(frame))
    return this.indexed(piece)
  }

  private fallAsleep(): IndexedFrame {
    // What the visitor has said of a message that is not whole comes again, from its beginning.
    this.gathering.drop()
    if (this.queue.peek() === asleep) {
      this.queue.shift()
      this.account(-weightBytes(asleep))
    }
    this.sleepsNext = false
    this.parked = true
    return this.indexed(asleep)
  }

  private push(frame: ResponseFrame): void {
    if (frame._tag === "WebSocketOpen") {
      this.accepted = true
      this.canHibernate = frame.canHibernate
    }
    if (frame === asleep) this.ending = "asleep"
    else if (isTerminal(frame)) this.ending = "over"
    this.account(weightBytes(frame))
    this.queue.push(frame)
  }

  private account(bytes: number): void {
    this.heldBytes += bytes
    this.held.bytes += bytes
  }

  private indexed(frame: ResponseFrame): IndexedFrame {
    return { index: isSequenced(frame) ? this.sequence.next() : 0, frame }
  }
}
