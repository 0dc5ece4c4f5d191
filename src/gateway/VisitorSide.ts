/**
 * What a `StreamLink` needs of either end: the visitor's side, which `HttpStream.ts` and `SocketStream.ts` are, and the gateway around it.
 */
import type { BusError } from "../bus/MessageBus.ts"
import type { Subject } from "../bus/Subject.ts"
import type { WindowGrowth } from "../tunnel/Credit.ts"
import type { Deadlines } from "../tunnel/Deadlines.ts"
import type { RequestFrame, ResponseFrame } from "../tunnel/Frame.ts"
import type { Turn } from "../tunnel/Turn.ts"
import type { GatewayErrorCode } from "./GatewayError.ts"
import type { LatelyServed } from "./LatelyServed.ts"
import type { StreamLink } from "./StreamLink.ts"

/** The visitor's side of a stream, as the link calls it. */
export interface VisitorSide {
  /** A reply that is in order and allowed by the stream's state. */
  readonly onFrame: (frame: ResponseFrame) => void
  /** The tunnel failed the stream; the link has already noted what the other end is to be told. */
  readonly onBroken: (code: GatewayErrorCode) => void
  /** Handling a frame threw. Whatever state that left, the visitor's side ends here and does not throw again. */
  readonly onCrash: () => void
  /** Data frames that may leave now, by credit and by what the visitor sent. Never called once the stream is over. */
  readonly collect: () => ReadonlyArray<RequestFrame>
  /** When `onDeadline` is due, in milliseconds of the gateway's clock; `Infinity` for never. */
  readonly deadlineMs: () => number
  readonly onDeadline: () => void
  /** Of a WebSocket that its app accepted as able to hibernate. */
  readonly sleeper?: Sleeper | undefined
}

/** What a link tells the side of a WebSocket that can outlive its other end. That it falls asleep by a frame, the side sees itself. */
export interface Sleeper {
  /** The hub is gone, and whoever held the other end with it. */
  readonly onLost: () => void
  /** A hub has the wake. */
  readonly onHeard: () => void
  /** No hub took the wake. */
  readonly onUnheard: (reason: BusError["reason"]) => void
  /** Whoever had the other end speaks on it, at a hub that does not know it: it is to be put back there. */
  readonly onRecalled: () => void
  /** A hub holds the other end again: what was not acknowledged goes first. */
  readonly onAttached: () => void
  /** The number of the message that goes next. */
  readonly nextNumber: () => number
}

/** Whom a stream is for: a runner's name or one actor, the other empty. */
export interface Addressee {
  /** Where the opening frame goes. */
  readonly subject: Subject
  readonly name: string
  readonly actor: string
  /** The visitor would rather not wait until the actor says that it runs. */
  readonly skipReadyWait: boolean
  readonly traceparent: string
}

/** What every link of a gateway shares. */
export interface LinkOptions {
  readonly replyTo: Subject
  /** Where wakes go. */
  readonly actors: Subject
  readonly nowMs: () => number
  /** What the windows of all links may grow by. */
  readonly growth: WindowGrowth
  /** Told of each hub that takes up a stream. */
  readonly lately: LatelyServed
  /** Defers to the end of the present job. */
  readonly soon: Turn
  readonly deadlines: Deadlines
  /** A stream is to be forgotten. */
  readonly onOver: (link: StreamLink) => void
}
