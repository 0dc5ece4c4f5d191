/**
 * One visitor's WebSocket as a stream: asks the app, completes or refuses the handshake by its answer, then carries messages as fragments both
 * ways on credit, and the close code and reason with them.
 *
 * Two fibers: one pulls the visitor's messages, the other publishes. A message that the runner has no credit for stops the pulling, and so the
 * visitor's socket; a message that the visitor does not read is not granted again. Where the app may hibernate, `Hibernation.ts` decides what
 * happens while nobody holds the other end.
 */
import { Effect, Fiber } from "effect"
import type { MessageSocket, SocketBatch, SocketClosed } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, type HeaderList, type RequestFrame, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { ErrorAnswer } from "./ErrorPage.ts"
import { fromAbortCode, type GatewayErrorCode, neverSeen } from "./GatewayError.ts"
import { Hibernation } from "./Hibernation.ts"
import { openingError } from "./HttpStream.ts"
import { publishOpening } from "./Opening.ts"
import { validHeaders } from "./ResponseHead.ts"
import type { Refusal } from "./RivetError.ts"
import { SocketHandshake } from "./SocketHandshake.ts"
import { SocketOutflow } from "./SocketOutflow.ts"
import { begin, converse, lastWord } from "./StreamFiber.ts"
import type { StreamLink } from "./StreamLink.ts"
import type { Admitted, GatewayParts, StreamRecord, VisitorStream } from "./StreamRecord.ts"
import type { VisitorUpgrade } from "./Visitor.ts"
import { VisitorMessages } from "./VisitorMessages.ts"
import type { Sleeper, VisitorSide } from "./VisitorSide.ts"

/** Fragments published in one go; then others get a turn. */
const fragmentsPerTurn = 8

/** RFC 6455's code for "none given" is never on a wire, and travels as null. */
const wireCode = (code: number): number | null => (code === 1005 ? null : code)
/** Its code for "broken" is not either, but an app has to hear that its visitor did not close on purpose. */
const broken = 1006

/** One WebSocket of a visitor, from its handshake to its close. */
export class SocketStream implements VisitorSide, VisitorStream {
  sleeper: Sleeper | undefined
  private readonly parts: GatewayParts
  private readonly upgrade: VisitorUpgrade
  private readonly record: StreamRecord
  private link: StreamLink | undefined
  private attempts = 0
  private closeDeadlineMs = Number.POSITIVE_INFINITY
  private readonly handshake: SocketHandshake
  private socket: MessageSocket | undefined
  /** What came between the app's yes and the visitor's open socket: at most a window. */
  private early: Array<(socket: MessageSocket) => void> = []
  private readonly messages = new VisitorMessages()
  private readonly outflow = new SocketOutflow((bytes, stalled) => this.link?.consumed(bytes, stalled))
  private hibernation: Hibernation | undefined
  private onRoom: (() => void) | undefined
  private closing: SocketClosed | undefined

  constructor(parts: GatewayParts, upgrade: VisitorUpgrade, record: StreamRecord) {
    this.parts = parts
    this.upgrade = upgrade
    this.record = record
    this.handshake = new SocketHandshake(upgrade, record)
    upgrade.whenGoneUnsafe(() => {
      if (!this.handshake.decided) this.visitorLeft()
    })
  }

  /** The stream's fiber, from entry to the closed socket. */
  run(admitted: Admitted | Effect.Effect<Admitted, Refusal>): Effect.Effect<void> {
    const work = begin(admitted, {
      refuse: (refusal) => this.refuse(refusal),
      attempt: (found) => this.attempt(found, this.record.route)
    })
    return Effect.ensuring(
      Effect.onInterrupt(work, () => this.interrupted()),
      this.release
    )
  }

  private readonly release = Effect.sync(() => {
    this.hibernation?.end()
    this.messages.discard()
    this.link?.flow.abandon()
  })

  /** Answers with an error at once, without a runner. */
  refuse(refusal: Refusal): Effect.Effect<void> {
    this.fail(refusal.code, refusal)
    return this.conclude
  }

  reply({ body, headers, status }: ErrorAnswer): Effect.Effect<void> {
    return Effect.sync(() => {
      this.record.settle("ok")
      this.record.headed(status)
      this.upgrade.refuse(status, headers, body)
    })
  }

  private attempt(admitted: Admitted, route: RouteKey): Effect.Effect<void> {
    // Left before its fiber had its first turn: nobody need be asked.
    if (this.handshake.decided) return this.conclude
    const link = this.parts.inFlight.enter(route, admitted, this)
    if (link === undefined) {
      this.fail("overloaded")
      return this.conclude
    }
    this.link = link
    this.attempts++
    const opening: RequestFrame = { _tag: "WebSocketOpen", target: admitted.target, headers: admitted.headers }
    return Effect.matchEffect(publishOpening(this.parts, admitted, link, opening), {
      onFailure: (error) => {
        // A hub may have it all the same: its first word finds nobody, and it is told so.
        link.finish()
        this.fail(openingError(error.reason))
        return this.conclude
      },
      onSuccess: () => this.converse(link, admitted)
    })
  }

  private readonly converse = Effect.fnUntraced(function* (this: SocketStream, link: StreamLink, admitted: Admitted) {
    const talking = yield* Effect.forkChild(converse(this.parts, link))
    yield* this.handshake.awaited
    if (this.handshake.takeAgain()) {
      yield* Fiber.join(talking)
      return yield* this.attempt(admitted, this.parts.inFlight.freshRoute())
    }
    yield* this.conclude
    yield* Fiber.join(talking)
  })

  /** Carries out what was decided; ends when the visitor's socket is closed. */
  private readonly conclude: Effect.Effect<void> = Effect.suspend(() =>
    this.handshake.conclude((socket) => this.serve(socket))
  )

  private readonly serve = Effect.fnUntraced(function* (this: SocketStream, socket: MessageSocket) {
    this.socket = socket
    this.record.headed(101)
    socket.whenClosedUnsafe((closed) => {
      // A socket that broke is not waited for behind messages without credit: the app hears of it in this turn.
      if (closed.code === broken) this.visitorLeft(closed)
      // Pull on, so that the close is seen and its linger begins.
      this.releasePuller()
    })
    const early = this.early
    this.early = []
    for (const f of early) f(socket)
    const closed = yield* Effect.flip(Effect.forever(Effect.flatMap(socket.pull, (batch) => this.offer(batch))))
    this.visitorClosed(closed)
  })

  /** Hands a batch over and waits until there is room for more: that is the visitor's backpressure. */
  private offer(batch: SocketBatch): Effect.Effect<void> {
    const link = this.link
    // Accepted only to be closed, or closed already: whatever still comes has no reader.
    if (link === undefined || link.over) return Effect.void
    this.messages.push(batch)
    this.hibernation?.wake()
    link.wake()
    return this.room
  }

  private readonly room: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.messages.hasRoom || this.link?.over === true || this.socket?.closedUnsafe() !== undefined) {
      return resume(Effect.void)
    }
    this.onRoom = () => resume(Effect.void)
  })

  private releasePuller(): void {
    const onRoom = this.onRoom
    this.onRoom = undefined
    onRoom?.()
  }

  collect(): ReadonlyArray<RequestFrame> {
    const link = this.link as StreamLink
    const frames = this.messages.take(link.flow.credit, fragmentsPerTurn)
    for (const frame of frames) if (frame._tag === "WebSocketMessage") this.record.bytesUp += frame.data.length
    if (frames.length > 0) this.hibernation?.onSent()
    if (frames.length === fragmentsPerTurn) link.wake()
    if (this.closing !== undefined && !this.messages.waiting) this.sayClosed(this.closing)
    else if (this.messages.hasRoom) this.releasePuller()
    return frames
  }

  /** The visitor closed in order: its code goes down behind the messages it sent before. */
  private visitorClosed(closed: SocketClosed): void {
    const link = this.link
    if (link === undefined || link.over) return
    this.closing = closed
    if (link.asleep) return this.hibernation?.wake()
    if (!this.messages.waiting) return this.sayClosed(closed)
    this.closeDeadlineMs = this.parts.nowMs() + limits.closeLingerMs
    link.wake()
  }

  private sayClosed(closed: SocketClosed): void {
    this.record.settle(closed.code === broken ? "cancelled" : "ok")
    this.link?.close({ _tag: "WebSocketClose", code: wireCode(closed.code), reason: closed.reason })
  }

  private visitorLeft(closed?: SocketClosed): void {
    // Nobody is there to be told: the actor is woken for it, and the end waits until then.
    if (closed !== undefined && this.link?.asleep === true) return this.visitorClosed(closed)
    if (this.record.settle("cancelled")) this.link?.close({ _tag: "WebSocketClose", code: broken, reason: "" })
    this.handshake.gone()
    this.releasePuller()
  }

  deadlineMs(): number {
    const link = this.link as StreamLink
    if (!this.handshake.decided) return (link.pinnedMs ?? 0) + this.parts.webSocketOpenMs
    if (this.closing !== undefined && !link.asleep) return this.closeDeadlineMs
    return this.hibernation?.deadlineMs() ?? Number.POSITIVE_INFINITY
  }

  onDeadline(): void {
    if (!this.handshake.decided) this.abandon("response_start_timeout", "deadline")
    else if (this.closing !== undefined && this.link?.asleep !== true) this.sayClosed(this.closing)
    else this.hibernation?.onDeadline()
  }

  onBroken(code: GatewayErrorCode): void {
    this.fail(code)
  }

  onCrash(): void {
    this.link?.close({ _tag: "RequestAbort", code: "protocol_error" })
    this.record.settle("internal_error")
    this.handshake.gone()
    this.socket?.terminateUnsafe()
    this.releasePuller()
  }

  onFrame(frame: ResponseFrame): void {
    switch (frame._tag) {
      case "WebSocketOpen":
        return this.onAccept(frame.headers, frame.canHibernate)
      case "WebSocketMessage":
        this.hibernation?.onLife()
        return this.onMessage(frame.data, frame.binary, frame.finish)
      case "WebSocketMessageAck":
        return this.onAcknowledged(frame.index)
      case "WebSocketClose":
        if (this.link?.asleep === true) return this.fallAsleep(false)
        return this.onClose(frame.code ?? (frame.hibernate ? 1000 : null), frame.reason)
      case "ResponseStart":
        return this.handshake.beginRefusal(frame)
          ? this.onRefusalBody(frame.body, !frame.streamed)
          : this.abandon("bad_response", "protocol_error")
      case "ResponseChunk":
        return this.onRefusalBody(frame.body, frame.finish)
      case "ResponseTrailers":
        return this.onRefusalBody(new Uint8Array(0), true)
      case "ResponseAbort":
        return this.onAbort(frame.code)
      // The link takes credit itself, and its state lets nothing of HTTP through.
      case "Informational":
      case "Credit":
        return
      default:
        return absurd(frame)
    }
  }

  private onAbort(code: AbortCode): void {
    if (this.link?.asleep === true) return this.hibernation?.onRefused(fromAbortCode(code))
    if (neverSeen(code) && this.attempts < 2 && this.link?.taken === 1 && !this.record.settled) {
      this.handshake.askAgain()
    } else this.fail(fromAbortCode(code))
  }

  private onAccept(headers: HeaderList, canHibernate: boolean): void {
    if (!validHeaders(headers)) return this.abandon("bad_response", "protocol_error")
    if (canHibernate) this.mayHibernate(this.link as StreamLink)
    this.handshake.accept(headers)
  }

  private mayHibernate(link: StreamLink): void {
    const { messages, parts } = this
    const rouse = () => {
      if (messages.hasRoom) this.releasePuller()
      link.wake()
    }
    messages.keep(parts.budget, rouse)
    const hibernation = new Hibernation({
      nowMs: parts.nowMs,
      spread: (link.route.requestId % 64) / 64,
      messages,
      askWake: () => link.wantWake(),
      rouse: link.wake,
      giveUp: (refusal) => this.abandon(refusal.code, "deadline", refusal),
      meter: parts.meter.asleep
    })
    this.hibernation = hibernation
    this.sleeper = {
      // Its actor may live on with another hub, and speak to a route that nobody there knows.
      onLost: () => this.fallAsleep(true),
      onHeard: () => hibernation.onHeard(),
      onUnheard: (reason) => hibernation.onRefused(openingError(reason)),
      onRecalled: () => hibernation.recall(),
      onAttached: () => this.onAttached(),
      nextNumber: () => messages.nextNumber
    }
  }

  /** Nobody holds the other end any more; the visitor notices nothing. */
  private fallAsleep(wanted: boolean): void {
    const fault = this.outflow.detach()
    if (fault === "cut") return this.abandon("runner_lost", "gap")
    if (fault === "overflow") return this.abandon("response_aborted", "overflow")
    this.messages.rewind()
    this.hibernation?.onAsleep(wanted || this.messages.unacknowledged || this.closing !== undefined)
  }

  private onAttached(): void {
    this.hibernation?.onAttached()
    if (this.closing !== undefined) this.closeDeadlineMs = this.parts.nowMs() + limits.closeLingerMs
  }

  private onAcknowledged(number: number): void {
    if (this.hibernation === undefined) return
    this.messages.acknowledge(number)
    this.hibernation.onAcknowledged()
    if (this.messages.hasRoom) this.releasePuller()
    this.link?.wake()
  }

  private onMessage(data: Uint8Array, binary: boolean, finish: boolean): void {
    const link = this.link as StreamLink
    if (!link.received(data.length)) return
    this.record.bytesDown += data.length
    this.outflow.arrived(finish)
    this.whenOpen((socket) => {
      if (this.outflow.send(socket, data, { binary, finish }) === "overflow") this.abandon("bad_response", "overflow")
    })
  }

  private onClose(code: number | null, reason: string): void {
    this.record.settle("ok")
    const { form } = this.record
    // An app that closes a WebSocket it never accepted still gets its code across.
    this.handshake.acceptToClose()
    const said = code === null && form !== undefined ? form.plainClose : { code: code ?? 1005, reason }
    this.whenOpen((socket) => socket.closeUnsafe(said.code, said.reason))
    this.releasePuller()
  }

  private whenOpen(f: (socket: MessageSocket) => void): void {
    if (this.socket === undefined) this.early.push(f)
    else f(this.socket)
  }

  private onRefusalBody(data: Uint8Array, finish: boolean): void {
    if (!(this.link as StreamLink).received(data.length)) return
    this.record.bytesDown += data.length
    if (!this.handshake.addRefusal(data, finish)) this.fail("bad_response")
  }

  private abandon(code: GatewayErrorCode, abort: AbortCode, refusal: Refusal = { code }): void {
    this.link?.close({ _tag: "RequestAbort", code: abort })
    this.fail(code, refusal)
  }

  /** A browser shows a page nothing of a refused handshake: so errors accept, and close with a code and a reason that scripts can read. */
  private fail(code: GatewayErrorCode, refusal: Refusal = { code }): void {
    if (!this.record.settle(code)) return
    this.handshake.acceptToClose()
    const said = this.record.closeOf(refusal)
    this.whenOpen((socket) => socket.closeUnsafe(said.code, said.reason))
    this.releasePuller()
  }

  private interrupted(): Effect.Effect<void> {
    this.link?.close({ _tag: "WebSocketClose", code: 1001, reason: "draining" })
    this.record.settle("draining")
    if (!this.handshake.decided) this.refuseDraining()
    this.socket?.closeUnsafe(1001, "draining")
    return this.farewell()
  }

  farewell(): Effect.Effect<void> {
    return this.link === undefined ? Effect.void : lastWord(this.parts.bus, this.link)
  }

  private refuseDraining(): void {
    const answer = this.record.errorAnswer({ code: "draining" })
    this.upgrade.refuse(answer.status, answer.headers, answer.body)
  }
}
