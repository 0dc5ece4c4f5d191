/**
 * One visitor's WebSocket as a stream: asks the app, completes or refuses the handshake by its answer, then carries messages as fragments both
 * ways on credit, and the close code and reason with them.
 *
 * One fiber, which publishes; the visitor's messages are taken as they come. A message that the runner has no credit for stops the taking, and so the
 * visitor's socket; a message that the visitor does not read is not granted again. Where the app may hibernate, `Hibernation.ts` decides what
 * happens while nobody holds the other end. Most WebSockets do nothing nearly always: what only their beginning needs is let go of with it.
 */
import { Effect } from "effect"
import type { MessageSocket, SocketClosed, SocketReader } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, type HeaderList, type RequestFrame, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { ErrorAnswer } from "./ErrorPage.ts"
import { fromAbortCode, type GatewayErrorCode, neverSeen } from "./GatewayError.ts"
import { Hibernation } from "./Hibernation.ts"
import { openingError } from "./HttpStream.ts"
import { openStream } from "./Opening.ts"
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
export class SocketStream implements VisitorSide, VisitorStream, SocketReader {
  sleeper: Sleeper | undefined
  private readonly parts: GatewayParts
  private readonly record: StreamRecord
  /** Whom the visitor means, until the stream has begun. */
  private admitted: Admitted | Effect.Effect<Admitted, Refusal> | undefined
  private link: StreamLink | undefined
  private attempts = 0
  private again = false
  private closeDeadlineMs = Number.POSITIVE_INFINITY
  /** Until it is decided. */
  private handshake: SocketHandshake | undefined
  private socket: MessageSocket | undefined
  private readonly messages = new VisitorMessages()
  private readonly outflow = new SocketOutflow((bytes, stalled) => this.link?.consumed(bytes, stalled))
  private hibernation: Hibernation | undefined
  private closing: SocketClosed | undefined
  private onGone: (() => void) | undefined

  constructor(parts: GatewayParts, upgrade: VisitorUpgrade, record: StreamRecord) {
    this.parts = parts
    this.record = record
    this.handshake = new SocketHandshake(upgrade, record, (socket) => {
      this.handshake = undefined
      if (socket !== undefined) this.opened(socket)
    })
    upgrade.whenGoneUnsafe(() => {
      if (this.handshake !== undefined) this.visitorLeft()
    })
  }

  /** The stream's fiber, from entry to the closed socket. The effect itself holds nothing of the request. */
  run(admitted: Admitted | Effect.Effect<Admitted, Refusal>): Effect.Effect<void> {
    this.admitted = admitted
    return Effect.suspend(() =>
      begin(this.admitted as typeof admitted, {
        refuse: (refusal) => this.refuse(refusal),
        attempt: (found) => this.attempt(found, this.record.route)
      })
    )
  }

  release(): void {
    this.hibernation?.end()
    this.messages.discard()
    this.link?.flow.abandon()
  }

  /** Answers with an error at once, without a runner. */
  refuse(refusal: Refusal): Effect.Effect<void> {
    this.fail(refusal.code, refusal)
    return this.departure
  }

  reply({ body, headers, status }: ErrorAnswer): Effect.Effect<void> {
    return Effect.sync(() => {
      this.record.settle("ok")
      this.handshake?.refuse(status, headers, body)
    })
  }

  private attempt(admitted: Admitted, route: RouteKey): Effect.Effect<void> {
    // Left before its fiber had its first turn: nobody need be asked.
    if (this.handshake === undefined) return this.departure
    const { actor, name, skipReadyWait, subject, traceparent } = admitted
    const link = this.parts.inFlight.enter(route, { actor, name, skipReadyWait, subject, traceparent }, this)
    if (link === undefined) {
      this.fail("overloaded")
      return this.departure
    }
    this.link = link
    this.attempts++
    // A second attempt is made only before the app has decided: after that nobody needs the head.
    this.admitted = admitted
    const opening: RequestFrame = { _tag: "WebSocketOpen", target: admitted.target, headers: admitted.headers }
    return openStream(this.parts, admitted, link, opening, {
      taken: () => converse(this.parts, link, this),
      lost: (reason) => {
        this.fail(openingError(reason))
        return this.departure
      }
    })
  }

  conversed(): Effect.Effect<void> {
    if (!this.again) return this.departure
    this.again = false
    return this.attempt(this.admitted as Admitted, this.parts.inFlight.freshRoute())
  }

  /** Only when the visitor's socket has closed is its stream over. */
  private get departure(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      if (this.socket === undefined || this.socket.closedUnsafe() !== undefined) return resume(Effect.void)
      this.onGone = () => resume(Effect.void)
    })
  }

  private opened(socket: MessageSocket): void {
    this.admitted = undefined
    this.socket = socket
    socket.readUnsafe(this)
    this.read(socket)
  }

  onReadable(): void {
    this.guarded(() => this.readOn())
  }

  onClosed(closed: SocketClosed): void {
    this.guarded(() => this.socketClosed(closed))
  }

  /** What the visitor's socket calls: a fault of ours costs this stream and nothing else. */
  private guarded(f: () => void): void {
    try {
      f()
    } catch (fault) {
      this.onCrash()
      this.parts.onFault(fault)
    }
  }

  private socketClosed(closed: SocketClosed): void {
    // A socket that broke is not waited for behind messages without credit: the app hears of it in this turn.
    if (closed.code === broken) this.visitorLeft(closed)
    this.onGone?.()
    // Read on, so that the close is seen and its linger begins.
    this.readOn()
  }

  /** Takes what the visitor has sent, while there is room for it: that is the visitor's backpressure. */
  private read(socket: MessageSocket): void {
    while (this.messages.hasRoom || this.link?.over !== false || socket.closedUnsafe() !== undefined) {
      const batch = socket.takeUnsafe()
      if (batch === undefined) break
      // Accepted only to be closed, or closed already: whatever still comes has no reader.
      if (this.link?.over !== false) continue
      this.messages.push(batch)
      this.hibernation?.wake()
      this.link.wake()
    }
    const closed = socket.closedUnsafe()
    if (closed !== undefined && this.closing === undefined) this.visitorClosed(closed)
  }

  /** There may be room again, or something to take. */
  private readOn(): void {
    if (this.socket !== undefined) this.read(this.socket)
  }

  collect(): ReadonlyArray<RequestFrame> {
    const link = this.link as StreamLink
    const frames = this.messages.take(link.flow.credit, fragmentsPerTurn)
    for (const frame of frames) if (frame._tag === "WebSocketMessage") this.record.bytesUp += frame.data.length
    if (frames.length > 0) this.hibernation?.onSent()
    if (frames.length === fragmentsPerTurn) link.wake()
    if (this.closing !== undefined && !this.messages.waiting) this.sayClosed(this.closing)
    else if (this.messages.hasRoom) this.readOn()
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
    this.handshake?.gone()
    this.readOn()
  }

  deadlineMs(): number {
    const link = this.link as StreamLink
    if (this.handshake !== undefined) return (link.pinnedMs ?? 0) + this.parts.webSocketOpenMs
    if (this.closing !== undefined && !link.asleep) return this.closeDeadlineMs
    return this.hibernation?.deadlineMs() ?? Number.POSITIVE_INFINITY
  }

  onDeadline(): void {
    if (this.handshake !== undefined) this.abandon("response_start_timeout", "deadline")
    else if (this.closing !== undefined && this.link?.asleep !== true) this.sayClosed(this.closing)
    else this.hibernation?.onDeadline()
  }

  onBroken(code: GatewayErrorCode): void {
    this.fail(code)
  }

  onCrash(): void {
    this.link?.close({ _tag: "RequestAbort", code: "protocol_error" })
    this.record.settle("internal_error")
    this.handshake?.gone()
    this.socket?.terminateUnsafe()
    this.readOn()
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
        return this.handshake?.beginRefusal(frame) === true
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
    }
    return absurd(frame)
  }

  private onAbort(code: AbortCode): void {
    if (this.link?.asleep === true) return this.hibernation?.onRefused(fromAbortCode(code))
    if (neverSeen(code) && this.attempts < 2 && this.link?.taken === 1 && !this.record.settled) {
      this.again = true
    } else this.fail(fromAbortCode(code))
  }

  private onAccept(headers: HeaderList, canHibernate: boolean): void {
    if (!validHeaders(headers)) return this.abandon("bad_response", "protocol_error")
    if (canHibernate) this.mayHibernate(this.link as StreamLink)
    this.handshake?.accept(headers)
  }

  private mayHibernate(link: StreamLink): void {
    const { messages, parts } = this
    const rouse = () => {
      if (messages.hasRoom) this.readOn()
      link.wake()
    }
    messages.keep(parts.budget, rouse)
    const hibernation = new Hibernation({
      nowMs: parts.nowMs,
      spread: (link.route.requestId % 64) / 64,
      messages,
      askWake: () => link.wantWake(),
      rouse: () => link.wake(),
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
    if (this.messages.hasRoom) this.readOn()
    this.link?.wake()
  }

  private onMessage(data: Uint8Array, binary: boolean, finish: boolean): void {
    const link = this.link as StreamLink
    if (!link.received(data.length)) return
    this.record.bytesDown += data.length
    this.outflow.arrived(finish)
    // Accepted before: the state of the stream lets no message come ahead of that.
    const { socket } = this
    if (socket === undefined) return
    if (this.outflow.send(socket, data, { binary, finish }) === "overflow") this.abandon("bad_response", "overflow")
  }

  private onClose(code: number | null, reason: string): void {
    this.record.settle("ok")
    const { form } = this.record
    // An app that closes a WebSocket it never accepted still gets its code across.
    this.handshake?.acceptToClose()
    const said = code === null && form !== undefined ? form.plainClose : { code: code ?? 1005, reason }
    this.socket?.closeUnsafe(said.code, said.reason)
    this.readOn()
  }

  private onRefusalBody(data: Uint8Array, finish: boolean): void {
    if (!(this.link as StreamLink).received(data.length)) return
    this.record.bytesDown += data.length
    if (this.handshake?.addRefusal(data, finish) === false) this.fail("bad_response")
  }

  private abandon(code: GatewayErrorCode, abort: AbortCode, refusal: Refusal = { code }): void {
    this.link?.close({ _tag: "RequestAbort", code: abort })
    this.fail(code, refusal)
  }

  /** A browser shows a page nothing of a refused handshake: so errors accept, and close with a code and a reason that scripts can read. */
  private fail(code: GatewayErrorCode, refusal: Refusal = { code }): void {
    if (!this.record.settle(code)) return
    this.handshake?.acceptToClose()
    const said = this.record.closeOf(refusal)
    this.socket?.closeUnsafe(said.code, said.reason)
    this.readOn()
  }

  onInterrupt(): void {
    this.link?.close({ _tag: "WebSocketClose", code: 1001, reason: "draining" })
    this.record.settle("draining")
    if (this.handshake !== undefined) {
      const { body, headers, status } = this.record.errorAnswer({ code: "draining" })
      this.handshake.refuse(status, headers, body)
    }
    this.socket?.closeUnsafe(1001, "draining")
  }

  farewell(): Effect.Effect<void> {
    return this.link === undefined ? Effect.void : lastWord(this.parts.bus, this.link)
  }
}
