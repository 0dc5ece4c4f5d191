/**
 * What every stream of a runner has, HTTP or WebSocket: its state, its place in the order, its two windows, and one end.
 *
 * Synchronous through and through: the connection's read loop hands frames in, the app's calls send frames out, nobody waits here. It never
 * throws at either of them: a peer or an app that breaks the rules loses this stream and no other. Next: `RequestStream.ts`, `WebSocketStream.ts`.
 */
import { Data } from "effect"
import type { UpFrame } from "../protocol/Wayleave1.ts"
import { ReceiveWindow, SendWindow, type WindowGrowth } from "../tunnel/Credit.ts"
import type { MovedStream, RouteKey } from "../tunnel/Envelope.ts"
import {
  type AbortCode,
  absurd,
  bodyBytes,
  type HeaderList,
  isTerminal,
  type RequestFrame,
  type ResponseFrame
} from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { ReceiveSequence, SendSequence } from "../tunnel/Sequence.ts"
import { onRequestFrame, onResponseFrame, type StreamState } from "../tunnel/StreamState.ts"

/**
 * How a stream ended. `Answered`: the app said its last word. `Closed`: the visitor closed the WebSocket. `Aborted`: nothing of it is sent any
 * more, because the visitor left, the hub reset it, the session was lost, the app gave up, or (`runner`) one of them broke the rules.
 */
export type StreamEnd =
  | { readonly _tag: "Answered" }
  | { readonly _tag: "Closed"; readonly code: number | null; readonly reason: string }
  | {
      readonly _tag: "Aborted"
      readonly by: "visitor" | "hub" | "session" | "app" | "runner"
      readonly code: AbortCode
      readonly message: string
    }

/** The stream is over, and what was asked of it cannot be had any more. */
export class StreamAborted extends Data.TaggedError("StreamAborted")<{
  readonly code: AbortCode
}> {}

/** What a stream needs of the session it belongs to. */
export interface StreamOwner {
  /** Queues a frame for the hub. `false`: the queue is at its wall. */
  readonly send: (frame: UpFrame) => boolean
  /** Takes back what is queued but has not left. */
  readonly withdraw: (route: RouteKey) => void
  /** The stream ended; called once. */
  readonly ended: (core: StreamCore) => void
  /** What the windows of all its streams may grow by. */
  readonly growth: WindowGrowth
  /** Calls `f` once what came before a visitor's close has waited long enough for the app. Returns how to stop that. */
  readonly giveTime: (f: () => void) => () => void
}

/** The app's side of a stream. */
export interface StreamSide {
  /** Takes the frames that carry something for the app; credit and aborts were dealt with. */
  readonly onFrame: (frame: Exclude<RequestFrame, { _tag: "Credit" | "RequestAbort" }>) => void
  /** The stream has ended: whoever waits for something looks again. */
  readonly onEnd: () => void
}

const messageCharsMax = 1024

// A lone surrogate or an oversized head would fail in the encoder, where it would take the frames of other streams with it.
const sendable = (headers: HeaderList): boolean => {
  let size = 0
  for (const [name, value] of headers) {
    if (!name.isWellFormed() || !value.isWellFormed()) return false
    size += name.length + value.length + 4
  }
  return size <= limits.headBytesMax
}

const sendableStatus = (status: number) => Number.isInteger(status) && status >= 100 && status <= 999

const faultOf = (frame: ResponseFrame): string | undefined => {
  switch (frame._tag) {
    case "Informational":
    case "ResponseStart":
      if (!sendableStatus(frame.status)) return `${frame.status} is not a status`
      return sendable(frame.headers) ? undefined : "the head of the answer is too large or not Unicode"
    case "ResponseTrailers":
    case "WebSocketOpen":
      return sendable(frame.headers) ? undefined : "the headers are too large or not Unicode"
    case "ResponseChunk":
    case "ResponseAbort":
    case "WebSocketMessage":
    case "WebSocketMessageAck":
    case "WebSocketClose":
    case "Credit":
      return undefined
  }
  return absurd(frame)
}

/** The state of one stream. */
export class StreamCore {
  readonly route: RouteKey
  side: StreamSide | undefined
  /** The app's effect may return and leave its WebSocket open: it is served by callbacks, to its end. */
  handedOver = false
  /** The status answered, undefined before. */
  status: number | undefined
  /** Body bytes sent and received so far. */
  bytesUp = 0
  bytesDown = 0
  private readonly owner: StreamOwner
  private readonly sent = new SendSequence()
  private readonly received = new ReceiveSequence()
  private readonly sendWindow: SendWindow
  private readonly receiveWindow: ReceiveWindow
  private creditedBytes = 0
  private grantedBytes: number
  private current: StreamState = "Idle"
  private over: StreamEnd | undefined
  private writers: Array<() => void> = []

  /** `windowBytes` is what either side may send before the other's first Credit, as the hub said in its Welcome. */
  constructor(route: RouteKey, owner: StreamOwner, windowBytes: number = limits.windowBytesInitial) {
    this.route = route
    this.owner = owner
    this.sendWindow = new SendWindow(windowBytes)
    this.grantedBytes = windowBytes
    this.receiveWindow = new ReceiveWindow(owner.growth, windowBytes)
  }

  /** Where the stream stands. */
  get state(): StreamState {
    return this.current
  }

  /** How it ended, undefined while it is open. */
  get end(): StreamEnd | undefined {
    return this.over
  }

  /** Where the stream stands on this side, for a hub that does not know it. */
  get standing(): NonNullable<MovedStream["open"]> {
    return { next: this.received.expectedIndex, credited: this.creditedBytes, granted: this.grantedBytes }
  }

  /** The index of the next frame with a place in the order. */
  get nextIndex(): number {
    return this.sent.upcomingIndex
  }

  /** A frame of this stream arrived. */
  receive(frame: RequestFrame, index: number): void {
    if (this.over !== undefined) return
    const verdict = this.received.judge(frame, index)
    if (verdict === "duplicate") return
    if (verdict === "gap") return this.fail("gap", "a frame went missing on the way to the runner")
    const step = onRequestFrame(this.current, frame)
    if (step.action === "ignore") return
    if (step.action === "violation") return this.fail("protocol_error", `${frame._tag} cannot come here`)
    this.current = step.state
    switch (frame._tag) {
      case "Credit":
        this.creditedBytes += frame.bytes
        this.sendWindow.grant(frame.bytes)
        return this.wakeWriters()
      case "RequestAbort":
        return this.finish({ _tag: "Aborted", by: "visitor", code: frame.code, message: "the visitor left" })
      case "RequestStart":
      case "RequestChunk":
      case "RequestTrailers":
      case "WebSocketOpen":
      case "WebSocketMessage":
      case "WebSocketClose": {
        const bytes = bodyBytes(frame)
        this.bytesDown += frame._tag === "RequestStart" ? frame.body.length : bytes
        if (!this.receiveWindow.received(bytes)) return this.fail("overflow", "more was sent than had been granted")
        return this.side?.onFrame(frame)
      }
    }
    return absurd(frame)
  }

  /** The app took `bytes` that had come by credit; grants what is due. A reader counts as stalled once half a window waits for it. */
  consumed(bytes: number): void {
    if (this.over !== undefined || bytes === 0) return
    const stalled = this.receiveWindow.heldBytes * 2 > this.receiveWindow.windowBytes
    const grant = this.receiveWindow.consumed(bytes, stalled)
    if (grant === 0) return
    this.grantedBytes += grant
    this.emit({ _tag: "Credit", bytes: grant })
  }

  /** The largest piece of `bytes` that may leave now. */
  pieceBytes(bytes: number): number {
    return this.sendWindow.pieceBytes(bytes)
  }

  /** Sends a frame. Whatever its stream can no longer say is dropped; what it may never say ends it. */
  emit(frame: ResponseFrame): void {
    if (this.over !== undefined) return
    const step = onResponseFrame(this.current, frame)
    if (step.action === "ignore") return
    if (step.action === "violation") return this.fail("app_failed", `${frame._tag} cannot be sent here`)
    const fault = faultOf(frame)
    if (fault !== undefined) return this.fail("app_failed", fault)
    this.current = step.state
    const bytes = bodyBytes(frame)
    this.sendWindow.spend(bytes)
    this.bytesUp += bytes
    if (frame._tag === "ResponseStart") this.status = frame.status
    else if (frame._tag === "WebSocketOpen") this.status = 101
    if (!this.owner.send({ route: this.route, index: this.sent.indexOf(frame), frame })) {
      return this.fail("overflow", "the queue towards the hub is full")
    }
    if (isTerminal(frame)) this.finish({ _tag: "Answered" })
  }

  /** Gives the stream up and says so. What was sent before it still reaches the visitor. */
  abort(code: AbortCode, message: string): void {
    if (this.over !== undefined) return
    this.sendAbort(code, message)
    this.finish({ _tag: "Aborted", by: "app", code, message })
  }

  /** The hub or the session took the stream away: nothing is said any more. */
  lose(by: "hub" | "session", code: AbortCode, message: string): void {
    this.finish({ _tag: "Aborted", by, code, message })
  }

  /** The visitor closed the WebSocket. */
  closed(code: number | null, reason: string): void {
    this.finish({ _tag: "Closed", code, reason })
  }

  /** Calls `f` once, as soon as something may be sent or the stream has ended. Returns how to stop waiting. */
  whenWritable(f: () => void): () => void {
    if (this.over !== undefined || this.sendWindow.availableBytes > 0) {
      f()
      return () => {}
    }
    this.writers.push(f)
    return () => {
      this.writers = this.writers.filter((writer) => writer !== f)
    }
  }

  /** Calls `f` once what came before the visitor's close has waited long enough. Returns how to stop that. */
  giveTime(f: () => void): () => void {
    return this.owner.giveTime(f)
  }

  private fail(code: AbortCode, message: string): void {
    this.owner.withdraw(this.route)
    this.sendAbort(code, message)
    this.finish({ _tag: "Aborted", by: "runner", code, message })
  }

  private sendAbort(code: AbortCode, message: string): void {
    const frame = { _tag: "ResponseAbort", code, message: message.slice(0, messageCharsMax).toWellFormed() } as const
    this.owner.send({ route: this.route, index: 0, frame })
  }

  private finish(end: StreamEnd): void {
    if (this.over !== undefined) return
    this.over = end
    this.current = "Ended"
    this.sendWindow.close()
    // What is unread goes with the app.
    this.receiveWindow.abandon()
    this.owner.ended(this)
    this.side?.onEnd()
    this.wakeWriters()
  }

  private wakeWriters(): void {
    if (this.writers.length === 0) return
    const woken = this.writers
    this.writers = []
    for (const f of woken) f()
  }
}
