/**
 * One visitor's WebSocket as a stream: asks the app, completes or refuses the handshake by its answer, then carries messages as fragments both
 * ways on credit, and the close code and reason with them.
 *
 * Two fibers: one pulls the visitor's messages, the other publishes. A message that the runner has no credit for stops the pulling, and so the
 * visitor's socket; a message that the visitor does not read is not granted again.
 */
import { Effect, Fiber } from "effect"
import type { MessageSocket, SocketBatch, SocketClosed, SocketMessage } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, type HeaderList, type RequestFrame, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { acceptHeaders } from "./ForwardedHeaders.ts"
import { entryOf, fromAbortCode, type GatewayErrorCode, neverSeen } from "./GatewayError.ts"
import { lastWord, openingError } from "./HttpStream.ts"
import { type GoodHead, judgeHead, validHeaders } from "./ResponseHead.ts"
import { converse, type StreamLink, type VisitorSide } from "./StreamLink.ts"
import { type Admitted, type GatewayParts, headerOf, type StreamRecord, type VisitorStream } from "./StreamRecord.ts"
import type { VisitorUpgrade } from "./Visitor.ts"

/** Fragments published in one go; then others get a turn. */
const fragmentsPerTurn = 8

/** What becomes of the visitor's handshake. */
type Decision =
  | { readonly _tag: "Accept"; readonly headers: HeaderList; readonly protocol: string }
  | { readonly _tag: "Refuse"; readonly head: GoodHead }
  | { readonly _tag: "Gone" }

const gone: Decision = { _tag: "Gone" }

/** RFC 6455's code for "none given" is never on a wire, and travels as null. */
const wireCode = (code: number): number | null => (code === 1005 ? null : code)
/** Its code for "broken" is not either, but an app has to hear that its visitor did not close on purpose. */
const broken = 1006

/** The first subprotocol a visitor offered: browsers fail a handshake that answers none of theirs, and would not show why it was refused. */
export const firstProtocol = (upgrade: VisitorUpgrade): string =>
  headerOf(upgrade.head, "sec-websocket-protocol").split(",")[0]?.trim() ?? ""

/** One WebSocket of a visitor, from its handshake to its close. */
export class SocketStream implements VisitorSide, VisitorStream {
  private readonly parts: GatewayParts
  private readonly upgrade: VisitorUpgrade
  private readonly record: StreamRecord
  private link: StreamLink | undefined
  private attempts = 0
  private again = false
  private openDeadlineMs = Number.POSITIVE_INFINITY
  private closeDeadlineMs = Number.POSITIVE_INFINITY
  private decision: Decision | undefined
  private onDecision: (() => void) | undefined
  private refusal: GoodHead | undefined
  private refusalBody: Array<Uint8Array> = []
  private socket: MessageSocket | undefined
  /** What came between the app's yes and the visitor's open socket: at most a window. */
  private early: Array<(socket: MessageSocket) => void> = []
  private pending: ReadonlyArray<SocketMessage> = []
  private pendingIndex = 0
  private pendingOffset = 0
  private onSent: (() => void) | undefined
  private closing: SocketClosed | undefined
  private undrainedBytes = 0
  private undrainedMessages = 0

  constructor(parts: GatewayParts, upgrade: VisitorUpgrade, record: StreamRecord) {
    this.parts = parts
    this.upgrade = upgrade
    this.record = record
    upgrade.whenGoneUnsafe(() => {
      if (this.decision === undefined) this.visitorLeft()
    })
  }

  /** The stream's fiber, from entry to the closed socket. */
  run(admitted: Admitted): Effect.Effect<void> {
    return Effect.onInterrupt(this.attempt(admitted, this.record.route), () => this.interrupted())
  }

  /** Answers with an error at once, without a runner. */
  refuse(code: GatewayErrorCode): Effect.Effect<void> {
    this.fail(code)
    return this.conclude
  }

  private attempt(admitted: Admitted, route: RouteKey): Effect.Effect<void> {
    this.again = false
    // Left before its fiber had its first turn: nobody need be asked.
    if (this.decision !== undefined) return this.conclude
    const link = this.parts.inFlight.enter(route, admitted.name, admitted.traceparent, this)
    if (link === undefined) {
      this.fail("overloaded")
      return this.conclude
    }
    this.link = link
    this.attempts++
    this.openDeadlineMs = this.parts.nowMs() + this.parts.webSocketOpenMs
    const opening: RequestFrame = {
      _tag: "WebSocketOpen",
      target: admitted.target,
      headers: admitted.headers
    }
    const opened = this.parts.bus.publish(this.parts.subjectOf(admitted.name), [link.opening(opening)], "one")
    return Effect.matchEffect(opened, {
      onFailure: (error) => {
        link.finish()
        this.fail(openingError(error.reason))
        return this.conclude
      },
      onSuccess: () => this.converse(link, admitted)
    })
  }

  private readonly converse = Effect.fnUntraced(function* (this: SocketStream, link: StreamLink, admitted: Admitted) {
    const talking = yield* Effect.forkChild(converse(this.parts, link))
    yield* this.decided
    if (this.again) {
      yield* Fiber.join(talking)
      return yield* this.attempt(admitted, this.parts.inFlight.freshRoute())
    }
    yield* this.conclude
    yield* Fiber.join(talking)
  })

  private readonly decided: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.decision !== undefined || this.again) return resume(Effect.void)
    this.onDecision = () => resume(Effect.void)
  })

  private decide(decision: Decision): void {
    if (this.decision !== undefined) return
    this.decision = decision
    this.onDecision?.()
  }

  /** Carries the decision out; ends when the visitor's socket is closed. */
  private readonly conclude: Effect.Effect<void> = Effect.suspend(() => {
    const decision = this.decision ?? gone
    switch (decision._tag) {
      case "Gone":
        return Effect.void
      case "Refuse":
        this.record.headed(decision.head.status)
        this.upgrade.refuse(decision.head.status, decision.head.headers, Buffer.concat(this.refusalBody))
        this.record.settle("ok")
        return Effect.void
      case "Accept":
        return Effect.flatMap(this.upgrade.accept(decision.headers, decision.protocol), (socket) => this.serve(socket))
      default:
        return absurd(decision)
    }
  })

  private readonly serve = Effect.fnUntraced(function* (this: SocketStream, socket: MessageSocket) {
    this.socket = socket
    this.record.headed(101)
    socket.whenClosedUnsafe((closed) => {
      // A socket that broke is not waited for behind messages without credit: the app hears of it in this turn.
      if (closed.code === broken) this.visitorLeft()
      // Otherwise pull on, so that the close is seen and its linger begins.
      else this.releasePuller()
    })
    const early = this.early
    this.early = []
    for (const f of early) f(socket)
    const closed = yield* Effect.flip(Effect.forever(Effect.flatMap(socket.pull, (batch) => this.offer(batch))))
    this.visitorClosed(closed)
  })

  /** Hands a batch over and waits until all of it has left: that is the visitor's backpressure. */
  private offer(batch: SocketBatch): Effect.Effect<void> {
    const link = this.link
    // Accepted only to be closed, or closed already: whatever still comes has no reader.
    if (link === undefined || link.over) return Effect.void
    // Something is left only when the visitor closed before its messages had credit: they stay in front.
    this.pending = [...this.pending.slice(this.pendingIndex), ...batch]
    this.pendingIndex = 0
    link.wake()
    return this.sent
  }

  private readonly sent: Effect.Effect<void> = Effect.callback((resume) => {
    if (
      this.pendingIndex >= this.pending.length ||
      this.link?.over === true ||
      this.socket?.closedUnsafe() !== undefined
    ) {
      return resume(Effect.void)
    }
    this.onSent = () => resume(Effect.void)
  })

  private releasePuller(): void {
    const onSent = this.onSent
    this.onSent = undefined
    onSent?.()
  }

  collect(): ReadonlyArray<RequestFrame> {
    const link = this.link as StreamLink
    const frames: Array<RequestFrame> = []
    while (this.pendingIndex < this.pending.length && frames.length < fragmentsPerTurn) {
      const { data, binary } = this.pending[this.pendingIndex] as SocketMessage
      const left = data.length - this.pendingOffset
      const bytes = link.credit.pieceBytes(left)
      if (bytes === 0 && left > 0) break
      const finish = bytes === left
      link.credit.spend(bytes)
      this.record.bytesUp += bytes
      frames.push({
        _tag: "WebSocketMessage",
        data: data.subarray(this.pendingOffset, this.pendingOffset + bytes),
        binary,
        finish
      })
      this.pendingOffset = finish ? 0 : this.pendingOffset + bytes
      if (finish) this.pendingIndex++
    }
    if (this.pendingIndex < this.pending.length) {
      if (frames.length === fragmentsPerTurn) link.wake()
      return frames
    }
    this.pending = []
    this.pendingIndex = 0
    if (this.closing !== undefined) this.sayClosed(this.closing)
    else this.releasePuller()
    return frames
  }

  /** The visitor closed in order: its code goes down behind the messages it sent before. */
  private visitorClosed(closed: SocketClosed): void {
    const link = this.link
    if (link === undefined || link.over) return
    this.closing = closed
    if (this.pendingIndex >= this.pending.length) return this.sayClosed(closed)
    this.closeDeadlineMs = this.parts.nowMs() + limits.closeLingerMs
    link.wake()
  }

  private sayClosed(closed: SocketClosed): void {
    this.record.settle("ok")
    this.link?.close({ _tag: "WebSocketClose", code: wireCode(closed.code), reason: closed.reason })
  }

  private visitorLeft(): void {
    if (this.record.settle("cancelled")) this.link?.close({ _tag: "WebSocketClose", code: broken, reason: "" })
    this.decide(gone)
    this.releasePuller()
  }

  deadlineMs(): number {
    return this.decision === undefined ? this.openDeadlineMs : this.closeDeadlineMs
  }

  onDeadline(): void {
    if (this.decision === undefined) this.abandon("response_start_timeout", "deadline")
    else if (this.closing !== undefined) this.sayClosed(this.closing)
  }

  onBroken(code: GatewayErrorCode): void {
    this.fail(code)
  }

  onCrash(): void {
    this.link?.close({ _tag: "RequestAbort", code: "protocol_error" })
    this.record.settle("internal_error")
    this.decide(gone)
    this.socket?.terminateUnsafe()
    this.releasePuller()
  }

  onFrame(frame: ResponseFrame): void {
    switch (frame._tag) {
      case "WebSocketOpen":
        return this.onAccept(frame.headers)
      case "WebSocketMessage":
        return this.onMessage(frame.data, frame.binary, frame.finish)
      case "WebSocketClose":
        return this.onClose(frame.code, frame.reason)
      case "ResponseStart":
        return this.onRefusal(frame)
      case "ResponseChunk":
        return this.onRefusalBody(frame.body, frame.finish)
      case "ResponseTrailers":
        return this.onRefusalBody(new Uint8Array(0), true)
      case "ResponseAbort":
        if (neverSeen(frame.code) && this.attempts < 2 && this.link?.taken === 1 && !this.record.settled) {
          this.again = true
          this.onDecision?.()
        } else this.fail(fromAbortCode(frame.code))
        return
      // Acknowledgements belong to hibernation, which this gateway does not offer; the rest the link's state keeps away.
      case "WebSocketMessageAck":
      case "Informational":
      case "Credit":
        return
      default:
        return absurd(frame)
    }
  }

  private onAccept(headers: HeaderList): void {
    if (!validHeaders(headers)) return this.abandon("bad_response", "protocol_error")
    this.decide({ _tag: "Accept", ...acceptHeaders(headers) })
  }

  private onMessage(data: Uint8Array, binary: boolean, finish: boolean): void {
    const link = this.link as StreamLink
    if (!link.received(data.length)) return
    this.record.bytesDown += data.length
    this.whenOpen((socket) => {
      if (socket.sendUnsafe(data, { binary, finish })) return link.consumed(data.length, false)
      // Empty messages spend no credit: their number is bounded instead.
      if (++this.undrainedMessages > limits.framesHeldMax) return this.abandon("bad_response", "overflow")
      if (this.undrainedMessages === 1) {
        socket.whenWritableUnsafe(() => {
          const bytes = this.undrainedBytes
          this.undrainedBytes = 0
          this.undrainedMessages = 0
          link.consumed(bytes, true)
        })
      }
      this.undrainedBytes += data.length
    })
  }

  private onClose(code: number | null, reason: string): void {
    this.record.settle("ok")
    // An app that closes a WebSocket it never accepted still gets its code across.
    this.decide({ _tag: "Accept", headers: [], protocol: firstProtocol(this.upgrade) })
    this.whenOpen((socket) => socket.closeUnsafe(code ?? 1005, reason))
    this.releasePuller()
  }

  private whenOpen(f: (socket: MessageSocket) => void): void {
    if (this.socket === undefined) this.early.push(f)
    else f(this.socket)
  }

  private onRefusal(frame: Extract<ResponseFrame, { readonly _tag: "ResponseStart" }>): void {
    const head = judgeHead("GET", frame.status, frame.headers, frame.streamed ? undefined : frame.body.length)
    if (head._tag === "Bad") return this.abandon("bad_response", "protocol_error")
    this.refusal = head
    this.onRefusalBody(frame.body, !frame.streamed)
  }

  /** A refusal is small: it is gathered within the first window, and nothing more is granted to it. */
  private onRefusalBody(data: Uint8Array, finish: boolean): void {
    if (!(this.link as StreamLink).received(data.length)) return
    this.record.bytesDown += data.length
    this.refusalBody.push(data)
    const head = this.refusal
    if (!finish || head === undefined) return
    if (head.hasBody && head.bodyBytes !== undefined && head.bodyBytes !== this.record.bytesDown) {
      return this.fail("bad_response")
    }
    this.decide({ _tag: "Refuse", head })
  }

  private abandon(code: GatewayErrorCode, abort: AbortCode): void {
    this.link?.close({ _tag: "RequestAbort", code: abort })
    this.fail(code)
  }

  /** A browser shows a page nothing of a refused handshake: so errors accept, and close with a code and a reason that scripts can read. */
  private fail(code: GatewayErrorCode): void {
    if (!this.record.settle(code)) return
    this.decide({ _tag: "Accept", headers: [], protocol: firstProtocol(this.upgrade) })
    this.whenOpen((socket) => socket.closeUnsafe(entryOf(code).closeCode, code))
    this.releasePuller()
  }

  private interrupted(): Effect.Effect<void> {
    this.link?.close({ _tag: "WebSocketClose", code: 1001, reason: "draining" })
    this.record.settle("draining")
    if (this.decision === undefined) this.refuseDraining()
    this.socket?.closeUnsafe(1001, "draining")
    return this.farewell()
  }

  farewell(): Effect.Effect<void> {
    return this.link === undefined ? Effect.void : lastWord(this.parts, this.link)
  }

  private refuseDraining(): void {
    const answer = this.record.errorAnswer("draining")
    this.upgrade.refuse(answer.status, answer.headers, answer.body)
  }
}
