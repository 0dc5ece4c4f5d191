/**
 * The tunnel's side of one stream in flight: which frame may come next, how many bytes either way, and what is still to be said. `StreamPin.ts` has
 * whose it is, `HttpStream.ts` and `SocketStream.ts` put the visitor's side on top; `InFlight.ts` deals the replies.
 *
 * Frames are taken synchronously, wherever they come from. What has to go down is noted here and published by the stream's own fiber, which
 * `wake` rouses once per turn: so a slow hub holds up its own streams and no others, and nobody forks anything per frame.
 */
import type { Effect } from "effect"
import type { Subject } from "../bus/Subject.ts"
import type { Due } from "../tunnel/Deadlines.ts"
import type { Downlink, Envelope, MovedStream, RouteKey, RouteQuestion, Uplink, Wake } from "../tunnel/Envelope.ts"
import { type AbortCode, isSequenced, type RequestFrame, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { Rest } from "../tunnel/Rest.ts"
import { onRequestFrame, onResponseFrame, type StreamState } from "../tunnel/StreamState.ts"
import type { GatewayErrorCode } from "./GatewayError.ts"
import { StreamFlow } from "./StreamFlow.ts"
import { type Claim, StreamPin } from "./StreamPin.ts"
import type { Addressee, LinkOptions, Sleeper, VisitorSide } from "./VisitorSide.ts"

/** Why an uplink did nothing. `Foreign`: another session than the one the stream was given to, or a fenced connection of it. `Late`: it counted already, or the stream is over. */
export type Refusal = "Foreign" | "Late" | "Duplicate"

/** One entry of the table of streams in flight. */
export class StreamLink implements Due {
  readonly route: RouteKey
  readonly addressee: Addressee
  state: StreamState = "Idle"
  /** When the opening frame left, or a hub last took up the other end; `Infinity` before. */
  openedMs = Number.POSITIVE_INFINITY
  /** Frames taken so far, credit aside. */
  taken = 0
  /** When a runner's session was first heard of. */
  pinnedMs: number | undefined
  /** Counts how often a hub took up the other end: what was begun before is not continued. */
  attachments = 0
  /** Order and amounts, since a hub last took up the other end. */
  flow: StreamFlow
  /** Whose it is, and the hub that has it or had it last: should that be gone, the stream must know, may it be written to or not. */
  readonly pin = new StreamPin()
  private readonly options: LinkOptions
  private readonly side: VisitorSide
  private lastWord: RequestFrame | undefined
  private wakeWanted = false
  private numberOwed = false
  private readonly rest: Rest

  constructor(route: RouteKey, addressee: Addressee, side: VisitorSide, options: LinkOptions) {
    this.route = route
    this.addressee = addressee
    this.side = side
    this.options = options
    this.flow = new StreamFlow(options.growth)
    this.rest = new Rest(options.soon)
  }

  /** Where wakes go. */
  get actors(): Subject {
    return this.options.actors
  }

  /** The hub that takes frames of the stream; undefined while none would. */
  get hub(): Subject | undefined {
    return this.pin.reachable ? this.pin.hub : undefined
  }

  /** Whether nothing but the opening frame has left: where no runner saw that, it may be repeated elsewhere. */
  get onlyOpened(): boolean {
    return this.flow.down.upcomingIndex <= 1
  }

  /** Whether the stream has ended; a last word may still be on its way. */
  get over(): boolean {
    return this.state === "Ended"
  }

  /** Whether nobody holds the other end, and the visitor's WebSocket stays all the same. */
  get asleep(): boolean {
    return this.state === "SocketAsleep"
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
      name: this.addressee.name,
      actor: this.addressee.actor,
      skipReadyWait: this.addressee.skipReadyWait,
      traceparent: this.addressee.traceparent,
      route: this.route,
      index: this.flow.down.indexOf(frame),
      frame
    }
  }

  /** The opening frame is about to leave: from now the hub has `hubAnswerMs` for its first word. */
  opening(frame: RequestFrame): Downlink {
    this.openedMs = this.options.nowMs()
    this.pin.deadlineMs = this.openedMs + limits.hubAnswerMs
    return this.envelope(frame)
  }

  /** Takes one reply. */
  receive(uplink: Uplink): Refusal | undefined {
    const { frame } = uplink
    if (this.asleep) return this.receiveAsleep(uplink)
    const known = this.pin.known
    if (!known && uplink.session === "") return this.receiveOfHub(uplink)
    const standing = this.pin.hear(uplink)
    if (!known) {
      this.pinnedMs = this.options.nowMs()
      this.options.lately.note(this.addressee.subject, uplink.replyTo, this.pinnedMs)
      this.options.deadlines.note(this.nextDueMs())
    }
    if (standing === "Foreign") return "Foreign"
    if (standing === "Fenced") {
      // Fenced, but for what the stream cannot do without: a hub's first Credit that a slow bus brings after the runner has reconnected.
      if (frame._tag !== "Credit") return "Foreign"
      if (this.pin.isClaimedSince(uplink)) return "Late"
      if (!this.over) this.take(frame)
      return undefined
    }
    if (this.lastWord !== undefined) this.wake()
    if (this.over) return "Late"
    if (isSequenced(frame)) {
      const verdict = this.flow.up.accept(uplink.index)
      if (verdict === "duplicate") return "Duplicate"
      if (verdict === "gap") {
        this.break("runner_lost", "gap")
        return undefined
      }
    }
    this.take(frame)
    return undefined
  }

  /** The hub's own word, before there is a session: it has the stream, and an actor is being started for it; or nobody will have it. */
  private receiveOfHub({ frame, replyTo }: Uplink): Refusal | undefined {
    if (frame._tag !== "Credit" && frame._tag !== "ResponseAbort") return "Foreign"
    this.pin.place(replyTo, this.options.nowMs() + limits.placementMs)
    if (this.lastWord !== undefined) this.wake()
    if (this.over) return "Late"
    if (frame._tag === "ResponseAbort") this.take(frame)
    return undefined
  }

  /** While the stream sleeps, a Credit of a session puts it back; nothing that is said now has a place in an order. */
  private receiveAsleep(uplink: Uplink): Refusal | undefined {
    if (uplink.frame._tag === "Credit") {
      if (uplink.session !== "") this.attach(uplink)
      else {
        this.pin.hub = uplink.replyTo
        this.side.sleeper?.onHeard()
      }
      return undefined
    }
    if (uplink.session !== "" && !this.pin.isOf(uplink.session)) return "Foreign"
    this.take(uplink.frame)
    return undefined
  }

  private attach(uplink: Uplink): void {
    this.pin.attach(uplink)
    this.pinnedMs = this.options.nowMs()
    this.openedMs = this.pinnedMs
    this.flow.abandon()
    this.flow = new StreamFlow(this.options.growth)
    this.attachments++
    this.wakeWanted = false
    this.numberOwed = true
    this.take(uplink.frame)
    this.side.sleeper?.onAttached()
  }

  /** Whether it fell asleep: its other end is gone, and the visitor's WebSocket stays. */
  private fallAsleep(): boolean {
    if (this.state !== "SocketLasting" && !this.asleep) return false
    this.pin.forget()
    if (this.asleep) return true
    this.state = "SocketAsleep"
    this.detach()
    this.side.sleeper?.onLost()
    return true
  }

  private detach(): void {
    this.numberOwed = false
    this.flow.close()
  }

  /** Asks for the stream to be put back: the wake leaves in this turn. */
  wantWake(): void {
    this.wakeWanted = true
    this.wake()
  }

  /** The wake to be published now, once. */
  takeWake(): Wake | undefined {
    if (!this.wakeWanted || !this.asleep) return undefined
    this.wakeWanted = false
    return this.wakeEnvelope()
  }

  /** The visitor's side, while the stream sleeps. */
  get sleeper(): Sleeper | undefined {
    return this.asleep ? this.side.sleeper : undefined
  }

  private wakeEnvelope(): Wake {
    return {
      _tag: "Wake",
      replyTo: this.options.replyTo,
      name: this.addressee.name,
      actor: this.addressee.actor,
      route: this.route,
      index: this.side.sleeper?.nextNumber() ?? 0
    }
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
          this.flow.credit.grant(frame.bytes)
          // The first Credit of a request that is all there grants nothing, and rouses nobody.
          if (frame.bytes > 0 || this.numberOwed) this.wake()
          return
        }
        this.taken++
        this.side.onFrame(frame)
        // Only the frame itself: where the visitor's side broke over it, a last word is due first.
        if (step.state === "Ended") this.finish()
        else if (step.state === "SocketAsleep") this.detach()
        return
      }
    }
  }

  /**
   * A hub asks whether the session may go on with the stream there. What has to go down waits until `settled`: it must not come before the answer.
   */
  claim(question: RouteQuestion, stream: MovedStream): Claim {
    if (this.quiet || this.asleep) return "No"
    const claim = this.pin.claim(question)
    if (claim !== "Moved") return claim
    // The new hub has it from now: its age at the old one tells nothing.
    this.openedMs = this.options.nowMs()
    if (!this.over && !this.flow.resume(stream)) this.break("runner_lost", "gap")
    return claim
  }

  /** The hub has its answer, or cannot be told: then whatever is heard of the stream by the end of the grace decides. */
  settled(told: boolean): void {
    if (!told) return this.lose()
    this.pin.open()
    this.wake()
  }

  /** The hub is gone, or has let go of the session: the stream waits a while to be heard of from another, or sleeps. */
  lose(): void {
    if (this.fallAsleep()) return
    this.pin.lose(this.options.nowMs() + limits.sessionGraceMs)
    this.wake()
  }

  /** The session went on elsewhere, and the hub that says so has let go of it. */
  moved(session: string, generation: number): void {
    if (this.pin.expect(session, generation)) this.lose()
  }

  /** Body bytes came in. `false`: more than granted; the stream is broken and the bytes are not to be used. */
  received(bytes: number): boolean {
    if (this.flow.received(bytes)) return true
    this.break("bad_response", "overflow")
    return false
  }

  /** Body bytes went out to the visitor; `stalled` where they had to wait. A grant goes down once it is worth a frame. */
  consumed(bytes: number, stalled: boolean): void {
    if (this.flow.consumed(bytes, stalled) && !this.over) this.wake()
  }

  /** The tunnel's part failed: tells the other end, then the visitor's side. */
  break(code: GatewayErrorCode, abort: AbortCode): void {
    this.close({ _tag: "RequestAbort", code: abort })
    this.side.onBroken(code)
  }

  /** Ends the stream from this side with a last word. It leaves in this turn, or as soon as the hub is known. Later calls change nothing. */
  close(lastWord: RequestFrame): void {
    if (this.over) return
    // Asleep, and no hub is known: there is nobody to tell.
    if (this.asleep && this.hub === undefined) return this.finish()
    this.lastWord = lastWord
    this.state = "Ended"
    this.flow.close()
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
    this.detach()
    this.options.onOver(this)
    this.wake()
  }

  /** What is to be published now. Control goes first; after the last word nothing does. */
  outgoing(): ReadonlyArray<Envelope> {
    if (this.hub === undefined) return []
    const envelopes: Array<Envelope> = []
    // Ahead of all else to whoever holds the other end now, asked or not: which number the next message has.
    if (this.numberOwed) envelopes.push(this.wakeEnvelope())
    this.numberOwed = false
    if (this.lastWord !== undefined) {
      envelopes.push(this.envelope(this.lastWord))
      this.finish()
      return envelopes
    }
    if (this.over || this.asleep) return envelopes
    const grant = this.flow.takeGrant()
    if (grant !== undefined) envelopes.push(this.envelope(grant))
    for (const frame of this.side.collect()) envelopes.push(this.envelope(frame))
    return envelopes
  }

  /** Rouses the stream's fiber at the end of this turn; any number of reasons in one turn rouse it once. */
  wake(): void {
    this.rest.rouse()
  }

  /** Waits for something to do; whatever comes due meanwhile rouses it as well. */
  awaitWork(): Effect.Effect<void> {
    this.options.deadlines.note(this.nextDueMs())
    return this.rest.roused
  }

  /** When `expire` is due: never while the fiber is at work, which comes back to wait. */
  dueMs(): number {
    return this.rest.resting ? this.nextDueMs() : Number.POSITIVE_INFINITY
  }

  private nextDueMs(): number {
    if (this.asleep) return this.side.deadlineMs()
    const ofVisitor = this.over || !this.pin.known ? Number.POSITIVE_INFINITY : this.side.deadlineMs()
    return Math.min(this.pin.deadlineMs, ofVisitor)
  }

  /** A deadline has passed. */
  expire(): void {
    if (!this.asleep && this.options.nowMs() >= this.pin.deadlineMs) this.giveUp()
    else if (!this.over) this.side.onDeadline()
    this.wake()
  }

  /** Nobody spoke for the stream in time. */
  private giveUp(): void {
    if (this.pin.known) {
      // The last word goes where the stream was last: should a hub be there after all, it must not keep the route.
      this.pin.open()
      if (!this.over) this.break("runner_lost", "session_lost")
      return
    }
    if (this.over) return this.finish()
    if (this.pin.hub !== undefined) return this.break("actor_not_ready", "deadline")
    this.finish()
    this.side.onBroken("runner_lost")
  }
}
