/**
 * The tunnel's side of one stream in flight: which frame may come next, how many bytes either way, and what is still to be said. `StreamPin.ts` has
 * whose it is, `HttpStream.ts` and `SocketStream.ts` put the visitor's side on top; `InFlight.ts` deals the replies.
 *
 * Frames are taken synchronously, wherever they come from. What has to go down is noted here and published by the stream's own fiber, which
 * `wake` rouses once per turn: so a slow hub holds up its own streams and no others, and nobody forks anything per frame.
 */
import { Effect, Option } from "effect"
import type { BusError, MessageBus } from "../bus/MessageBus.ts"
import type { Subject } from "../bus/Subject.ts"
import { ReceiveWindow, SendWindow, type WindowBounds, windowDefault } from "../tunnel/Credit.ts"
import type { Downlink, MovedStream, RouteKey, RouteQuestion, Uplink } from "../tunnel/Envelope.ts"
import { type AbortCode, isSequenced, type RequestFrame, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { ReceiveSequence, SendSequence } from "../tunnel/Sequence.ts"
import { onRequestFrame, onResponseFrame, type StreamState } from "../tunnel/StreamState.ts"
import type { Turn } from "../tunnel/Turn.ts"
import type { GatewayErrorCode } from "./GatewayError.ts"
import { type Claim, StreamPin } from "./StreamPin.ts"

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
}

/** What every link of a gateway shares. */
export interface LinkOptions {
  readonly replyTo: Subject
  readonly nowMs: () => number
  readonly bounds?: WindowBounds
  /** Defers to the end of the present job. */
  readonly soon: Turn
}

/** Why an uplink did nothing. `Foreign`: another session than the one the stream was given to, or a fenced connection of it. `Late`: it counted already, or the stream is over. */
export type Refusal = "Foreign" | "Late" | "Duplicate"

/** One entry of the table of streams in flight. */
export class StreamLink {
  readonly route: RouteKey
  readonly name: string
  readonly traceparent: string
  state: StreamState = "Idle"
  /** Downlink credit: nothing may go beyond the opening frame before the hub granted some. */
  readonly credit = new SendWindow(0)
  /** Frames taken so far, credit aside. */
  taken = 0

  private readonly window: ReceiveWindow
  private readonly options: LinkOptions
  private readonly side: VisitorSide
  private readonly sendSequence = new SendSequence()
  private readonly receiveSequence = new ReceiveSequence()
  private readonly pin = new StreamPin()
  private owedBytes = 0
  /** What every Credit that left came to. */
  private grantedBytes = 0
  private lastWord: RequestFrame | undefined
  private readonly onOver: (link: StreamLink) => void
  private waiter: ((effect: Effect.Effect<void>) => void) | undefined
  private roused = false

  constructor(
    route: RouteKey,
    name: string,
    traceparent: string,
    side: VisitorSide,
    options: LinkOptions,
    onOver: (link: StreamLink) => void
  ) {
    this.route = route
    this.name = name
    this.traceparent = traceparent
    this.side = side
    this.options = options
    this.window = new ReceiveWindow(options.bounds ?? windowDefault)
    this.onOver = onOver
  }

  /** The hub that takes frames of the stream; undefined while none would. */
  get hub(): Subject | undefined {
    return this.pin.reachable ? this.pin.hub : undefined
  }

  /** Whether nothing but the opening frame has left: where no runner saw that, it may be repeated elsewhere. */
  get onlyOpened(): boolean {
    return this.sendSequence.upcomingIndex <= 1
  }

  /** Whether the stream has ended; a last word may still be on its way. */
  get over(): boolean {
    return this.state === "Ended"
  }

  /** Whether nothing is left to say. */
  get quiet(): boolean {
    return this.over && this.lastWord === undefined
  }

  /** Wraps a frame that is about to be published, and moves the state. */
  envelope(frame: RequestFrame): Downlink {
    const step = onRequestFrame(this.state, frame)
    // A last word after the end is the one frame that the table need not know: the end may have been our own.
    if (step.action === "deliver") this.state = step.state
    return {
      _tag: "Downlink",
      replyTo: this.options.replyTo,
      name: this.name,
      actor: "",
      traceparent: this.traceparent,
      route: this.route,
      index: this.sendSequence.indexOf(frame),
      frame
    }
  }

  /** The opening frame is about to leave: from now the hub has `hubAnswerMs` for its first word. */
  opening(frame: RequestFrame): Downlink {
    this.pin.deadlineMs = this.options.nowMs() + limits.hubAnswerMs
    return this.envelope(frame)
  }

  /** Takes one reply. */
  receive(uplink: Uplink): Refusal | undefined {
    const standing = this.pin.hear(uplink)
    if (standing === "Foreign") return "Foreign"
    if (standing === "Fenced") {
      // Fenced, but for what the stream cannot do without: a hub's first Credit that a slow bus brings after the runner has reconnected.
      if (uplink.frame._tag !== "Credit") return "Foreign"
      if (this.pin.isClaimedSince(uplink)) return "Late"
      if (!this.over) this.take(uplink.frame)
      return undefined
    }
    if (this.lastWord !== undefined) this.wake()
    if (this.over) return "Late"
    const { frame } = uplink
    if (isSequenced(frame)) {
      const verdict = this.receiveSequence.accept(uplink.index)
      if (verdict === "duplicate") return "Duplicate"
      if (verdict === "gap") {
        this.break("runner_lost", "gap")
        return undefined
      }
    }
    this.take(frame)
    return undefined
  }

  private take(frame: ResponseFrame): void {
    const step = onResponseFrame(this.state, frame)
    switch (step.action) {
      case "ignore":
        return
      case "violation":
        return this.break("bad_response", "protocol_error")
      case "deliver": {
        this.state = step.state
        if (frame._tag === "Credit") {
          this.credit.grant(frame.bytes)
          this.wake()
          return
        }
        this.taken++
        this.side.onFrame(frame)
        // Only the frame itself: where the visitor's side broke over it, a last word is due first.
        if (step.state === "Ended") this.finish()
        return
      }
    }
  }

  /**
   * A hub asks whether the session may go on with the stream there. What has to go down waits until `settled`: it must not come before the answer.
   */
  claim(question: RouteQuestion, stream: MovedStream): Claim {
    if (this.quiet) return "No"
    const claim = this.pin.claim(question)
    if (claim === "Moved" && !this.over) this.resume(stream)
    return claim
  }

  /** The hub has its answer, or cannot be told: then whatever is heard of the stream by the end of the grace decides. */
  settled(told: boolean): void {
    if (!told) return this.lose()
    this.pin.open()
    this.wake()
  }

  /** The hub is gone, or has let go of the session. */
  lose(): void {
    this.pin.lose(this.options.nowMs() + limits.sessionGraceMs)
    this.wake()
  }

  /** The session went on elsewhere, and the hub that says so has let go of it. */
  moved(session: string, generation: number): void {
    if (this.pin.expect(session, generation)) this.lose()
  }

  /** What was on its way when the old hub was lost is found out at once, by place and by sum, and not by the silence that would follow. */
  private resume({ from, open }: MovedStream): void {
    if (from !== null && this.receiveSequence.misses(from)) return this.break("runner_lost", "gap")
    if (open === null) return
    if (open.next !== this.sendSequence.upcomingIndex) return this.break("runner_lost", "gap")
    this.credit.grantUpTo(open.granted)
    const lost = Math.min(Math.max(0, this.grantedBytes - open.credited), this.window.windowBytes)
    this.owedBytes += lost
    this.grantedBytes -= lost
  }

  /** Body bytes came in. `false`: more than granted; the stream is broken and the bytes are not to be used. */
  received(bytes: number): boolean {
    if (this.window.received(bytes)) return true
    this.break("bad_response", "overflow")
    return false
  }

  /** Body bytes went out to the visitor; `stalled` where they had to wait. A grant goes down once it is worth a frame. */
  consumed(bytes: number, stalled: boolean): void {
    const grant = this.window.consumed(bytes, stalled)
    if (grant === 0 || this.over) return
    this.owedBytes += grant
    this.wake()
  }

  /** The tunnel's part failed: tells the other end, then the visitor's side. */
  break(code: GatewayErrorCode, abort: AbortCode): void {
    this.close({ _tag: "RequestAbort", code: abort })
    this.side.onBroken(code)
  }

  /** Ends the stream from this side with a last word. It leaves in this turn, or as soon as the hub is known. Later calls change nothing. */
  close(lastWord: RequestFrame): void {
    if (this.over) return
    this.lastWord = lastWord
    this.state = "Ended"
    this.owedBytes = 0
    this.credit.close()
    this.window.close()
    this.wake()
  }

  /** A fault of ours: tells both ends as far as that still goes. */
  crash(): void {
    this.close({ _tag: "RequestAbort", code: "protocol_error" })
    this.side.onCrash()
  }

  /** Forgets the stream: its terminal frame came, or its last word left. */
  finish(): void {
    this.state = "Ended"
    this.lastWord = undefined
    this.credit.close()
    this.window.close()
    this.onOver(this)
    this.wake()
  }

  /** What is to be published now. Control goes first; after the last word nothing does. */
  outgoing(): ReadonlyArray<Downlink> {
    if (this.hub === undefined) return []
    const envelopes: Array<Downlink> = []
    if (this.lastWord !== undefined) {
      envelopes.push(this.envelope(this.lastWord))
      this.finish()
      return envelopes
    }
    if (this.over) return envelopes
    if (this.owedBytes > 0) {
      envelopes.push(this.envelope({ _tag: "Credit", bytes: this.owedBytes }))
      this.grantedBytes += this.owedBytes
      this.owedBytes = 0
    }
    for (const frame of this.side.collect()) envelopes.push(this.envelope(frame))
    return envelopes
  }

  /** Rouses the stream's fiber at the end of this turn; any number of reasons in one turn rouse it once. */
  readonly wake = (): void => {
    if (this.roused) return
    this.roused = true
    if (this.waiter !== undefined) this.options.soon(() => this.rouse())
  }

  private rouse(): void {
    const waiter = this.waiter
    if (waiter === undefined) return
    this.waiter = undefined
    this.roused = false
    waiter(Effect.void)
  }

  private readonly work: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.roused) {
      this.roused = false
      return resume(Effect.void)
    }
    this.waiter = resume
    return Effect.sync(() => {
      if (this.waiter === resume) this.waiter = undefined
    })
  })

  /** Waits for something to do, or for the next deadline and deals with it. */
  readonly awaitWork: Effect.Effect<void> = Effect.suspend(() => {
    const ofVisitor = this.pin.hub === undefined || this.over ? Number.POSITIVE_INFINITY : this.side.deadlineMs()
    const dueMs = Math.min(this.pin.deadlineMs, ofVisitor)
    if (dueMs === Number.POSITIVE_INFINITY) return this.work
    return Effect.map(Effect.timeoutOption(this.work, Math.max(0, dueMs - this.options.nowMs())), (worked) => {
      if (Option.isNone(worked)) this.expire()
    })
  })

  private expire(): void {
    // Meanwhile the hub may have spoken, or the clock may be early: only then is there still time.
    const nowMs = this.options.nowMs()
    if (nowMs >= this.pin.deadlineMs) return this.giveUp()
    if (this.pin.hub !== undefined && !this.over && nowMs >= this.side.deadlineMs()) this.side.onDeadline()
  }

  /** Nobody spoke for the stream in time. */
  private giveUp(): void {
    if (this.pin.hub === undefined) {
      const told = this.over
      this.finish()
      if (!told) this.side.onBroken("runner_lost")
      return
    }
    // The last word goes where the stream was last: should a hub be there after all, it must not keep the route.
    this.pin.open()
    if (this.over) this.wake()
    else this.break("runner_lost", "session_lost")
  }
}

/** The body of a stream's fiber from its opening frame to its end: publishes what is due, then waits. */
export const converse = Effect.fnUntraced(function* (bus: MessageBus["Service"], link: StreamLink) {
  while (true) {
    const envelopes = link.outgoing()
    if (envelopes.length > 0) {
      const failed = yield* publish(bus, link.hub as Subject, envelopes)
      // The last word is noted by `break` and gets its own attempt; should that fail too, the hub's lease on us has to end the route.
      if (failed !== undefined && !link.over) link.break("runner_lost", "publish_failed")
      continue
    }
    if (link.quiet) return
    yield* link.awaitWork
  }
})

const publish = (
  bus: MessageBus["Service"],
  hub: Subject,
  envelopes: ReadonlyArray<Downlink>
): Effect.Effect<BusError["reason"] | undefined> =>
  Effect.match(bus.publish(hub, envelopes, "each"), {
    onFailure: (error) => error.reason,
    onSuccess: () => undefined
  })
