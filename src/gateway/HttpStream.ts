/**
 * One HTTP request as a stream: opens it towards the runner, sends the body as credit allows, writes the answer as it comes and grants credit as
 * the visitor's socket drains. Replies are handled synchronously by `onFrame`; `run` is the request's one fiber.
 *
 * Nothing of either body is kept here beyond the opening frame: what the visitor has not sent waits in its socket, what it has not read in ours,
 * and neither is more than a window.
 */
import { Effect } from "effect"
import type { BusError } from "../bus/MessageBus.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, type HeaderList, type RequestFrame, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { isSafe } from "../tunnel/Method.ts"
import type { ErrorAnswer } from "./ErrorPage.ts"
import { endToEnd } from "./ForwardedHeaders.ts"
import { fromAbortCode, type GatewayErrorCode, neverSeen } from "./GatewayError.ts"
import { openStream } from "./Opening.ts"
import { judgeHead, judgeTrailers, validHeaders } from "./ResponseHead.ts"
import type { Refusal } from "./RivetError.ts"
import { begin, converse, lastWord } from "./StreamFiber.ts"
import type { StreamLink } from "./StreamLink.ts"
import type { Admitted, GatewayParts, StreamRecord, VisitorStream } from "./StreamRecord.ts"
import type { HttpExchange } from "./Visitor.ts"
import type { VisitorSide } from "./VisitorSide.ts"

const nothing = new Uint8Array(0)
/** Chunks published in one go: as much as an initial window, then others get a turn. */
const chunksPerTurn = 4

/** What a failed opening publish means: nobody got it, or a wait for room was in vain. */
export const openingError = (reason: BusError["reason"]): GatewayErrorCode => {
  switch (reason) {
    case "NoResponders":
      return "no_runner"
    case "Full":
      return "overloaded"
    case "Timeout":
    case "Disconnected":
      return "runner_lost"
    case "Unsendable":
      return "internal_error"
  }
  return absurd(reason)
}

/** One HTTP request of a visitor, from its head to the last byte of its answer. */
export class HttpStream implements VisitorSide, VisitorStream {
  private readonly parts: GatewayParts
  private readonly exchange: HttpExchange
  private readonly record: StreamRecord
  private link: StreamLink | undefined
  private opening: RequestFrame | undefined
  private attempts = 0
  private again = false
  private admitted: Admitted | undefined
  private bodyBytesMax = 0
  private uploading: boolean
  private trailersDue: HeaderList | undefined
  private sentMs = Number.POSITIVE_INFINITY
  private headSent = false
  private hasBody = true
  private promisedBytes: number | undefined
  private undrainedBytes = 0
  private answered = false
  private done = false
  private onDone: (() => void) | undefined

  constructor(parts: GatewayParts, exchange: HttpExchange, record: StreamRecord) {
    this.parts = parts
    this.exchange = exchange
    this.record = record
    this.uploading = exchange.body !== undefined
    exchange.whenDoneUnsafe((complete) => this.visitorDone(complete))
  }

  /** The stream's fiber, from entry to the last byte on its way to the visitor. */
  run(admitted: Admitted | Effect.Effect<Admitted, Refusal>): Effect.Effect<void> {
    return begin(admitted, {
      refuse: (refusal) => this.refuse(refusal),
      attempt: (found) => this.attempt(found, this.record.route)
    })
  }

  /** Answers with an error at once, without a runner. */
  refuse(refusal: Refusal): Effect.Effect<void> {
    this.fail(refusal.code, refusal)
    return this.departure
  }

  reply({ body, headers, status }: ErrorAnswer): Effect.Effect<void> {
    this.answered = true
    this.headSent = true
    this.exchange.response.head(status, headers)
    this.record.headed(status)
    this.exchange.response.end(body, [])
    return this.departure
  }

  private attempt(admitted: Admitted, route: RouteKey): Effect.Effect<void> {
    this.again = false
    this.admitted = admitted
    this.bodyBytesMax = admitted.bodyBytesMax
    const link = this.parts.inFlight.enter(route, admitted, this)
    if (link === undefined) {
      this.fail("overloaded")
      return this.departure
    }
    this.link = link
    this.opening ??= this.makeOpening(admitted)
    if (this.record.settled) {
      link.finish()
      return this.departure
    }
    if (!this.uploading) this.sentMs = this.parts.nowMs()
    this.attempts++
    return openStream(this.parts, admitted, link, this.opening, {
      taken: () => converse(this.parts, link, this),
      lost: (reason) => {
        if (this.mayAskAnew(reason)) return this.attempt(admitted, this.parts.inFlight.freshRoute())
        this.fail(openingError(reason))
        return this.departure
      }
    })
  }

  conversed(): Effect.Effect<void> {
    return this.again ? this.attempt(this.admitted as Admitted, this.parts.inFlight.freshRoute()) : this.departure
  }

  /** The answer may still be on its way to a slow visitor: only when it has left, or the visitor has, is the request over. */
  private readonly departure: Effect.Effect<void> = Effect.callback((resume) => {
    // Looked at here and not in an effect before: a fiber may have to wait between two effects, and miss the visitor's leave.
    if (this.done) return resume(Effect.void)
    this.onDone = () => resume(Effect.void)
  })

  /** The opening frame, with as much of the body as is at hand, so that a small request is one frame. */
  private makeOpening(admitted: Admitted): RequestFrame {
    const body = this.uploading ? this.takeAtHand() : nothing
    return {
      _tag: "RequestStart",
      method: this.exchange.head.method,
      target: admitted.target,
      headers: admitted.headers,
      body,
      streamed: this.uploading || this.trailersDue !== undefined
    }
  }

  private takeAtHand(): Uint8Array {
    const pieces: Array<Uint8Array> = []
    let bytes = 0
    while (this.uploading && bytes < limits.chunkBytesMax) {
      const data = this.takePiece(limits.chunkBytesMax - bytes)
      if (data === undefined) break
      bytes += data.length
      pieces.push(data)
    }
    return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces)
  }

  /** The next piece of the visitor's body, minding its end and its limit. */
  private takePiece(bytesMax: number): Uint8Array | undefined {
    const body = this.exchange.body
    const piece = body?.takeUnsafe(bytesMax)
    if (body === undefined || piece === undefined) return undefined
    this.record.bytesUp += piece.data.length
    if (this.bodyBytesMax > 0 && this.record.bytesUp > this.bodyBytesMax) {
      this.abandon("body_too_large", "cancelled")
      return undefined
    }
    if (piece.end) {
      this.uploading = false
      const trailers = judgeTrailers(body.trailersUnsafe())
      if (trailers.length > 0) this.trailersDue = trailers
    }
    return piece.data
  }

  collect(): ReadonlyArray<RequestFrame> {
    if (!this.uploading && this.trailersDue === undefined) return []
    const frames: Array<RequestFrame> = []
    const link = this.link as StreamLink
    while (this.uploading && frames.length < chunksPerTurn) {
      const room = link.flow.credit.pieceBytes(limits.chunkBytesMax)
      const data = this.takePiece(room)
      if (data === undefined) {
        // Without room the next grant rouses us; with it, the visitor's next bytes do.
        if (room > 0 && this.uploading && !link.over) this.exchange.body?.whenReadableUnsafe(() => link.wake())
        break
      }
      link.flow.credit.spend(data.length)
      const finish = !this.uploading && this.trailersDue === undefined
      if (finish || data.length > 0) frames.push({ _tag: "RequestChunk", body: data, finish })
    }
    if (this.uploading && frames.length === chunksPerTurn) link.wake()
    if (!this.uploading) {
      if (this.trailersDue !== undefined) frames.push({ _tag: "RequestTrailers", headers: this.trailersDue })
      this.trailersDue = undefined
      this.sentMs = this.parts.nowMs()
    }
    return link.over ? [] : frames
  }

  deadlineMs(): number {
    // An actor may have had to be started first: its time begins when a runner has the request.
    return this.headSent
      ? Number.POSITIVE_INFINITY
      : Math.max(this.sentMs, this.link?.pinnedMs ?? 0) + this.parts.responseStartMs
  }

  onDeadline(): void {
    this.abandon("response_start_timeout", "deadline")
  }

  onBroken(code: GatewayErrorCode): void {
    this.fail(code)
  }

  onCrash(): void {
    this.link?.close({ _tag: "RequestAbort", code: "protocol_error" })
    try {
      this.fail("internal_error")
    } catch {
      // The sink itself is at fault, half way into an answer: nothing but the end of the transfer is left to say.
      this.exchange.response.destroy()
    }
  }

  onFrame(frame: ResponseFrame): void {
    switch (frame._tag) {
      case "Informational":
        return this.onInformational(frame.status, frame.headers)
      case "ResponseStart":
        return this.onHead(frame)
      case "ResponseChunk":
        return frame.finish ? this.complete(frame.body, []) : this.pass(frame.body)
      case "ResponseTrailers":
        return this.complete(nothing, judgeTrailers(frame.headers))
      case "ResponseAbort":
        if (this.mayRepeat(frame.code)) this.again = true
        else this.fail(fromAbortCode(frame.code))
        return
      // The link takes credit itself, and its state lets nothing of a WebSocket through.
      case "Credit":
      case "WebSocketOpen":
      case "WebSocketMessage":
      case "WebSocketMessageAck":
      case "WebSocketClose":
        return
    }
    return absurd(frame)
  }

  /** Once, and only where nothing beyond the opening frame has left, nor come: all of it is still here. */
  private mayRepeat(code: AbortCode): boolean {
    const untouched = this.link?.taken === 1 && this.link.onlyOpened
    return neverSeen(code) && this.attempts < 2 && untouched && !this.record.settled
  }

  /** The bus lost its server with the opening frame under way: a request that changes nothing is asked anew, once, as soon as there is one again. */
  private mayAskAnew(reason: BusError["reason"]): boolean {
    if (reason !== "Disconnected" || this.attempts > 1 || this.record.settled) return false
    const whole = this.opening?._tag === "RequestStart" && !this.opening.streamed
    return whole && isSafe(this.exchange.head.method)
  }

  private onInformational(status: number, headers: HeaderList): void {
    if (status === 101 || status < 100 || status > 199 || !validHeaders(headers)) {
      return this.abandon("bad_response", "protocol_error")
    }
    // The visitor's wait for 100 is between it and us: Expect is not forwarded.
    if (status !== 100) this.exchange.response.informational(status, endToEnd(headers))
  }

  private onHead(frame: Extract<ResponseFrame, { readonly _tag: "ResponseStart" }>): void {
    const whole = frame.streamed ? undefined : frame.body.length
    const head = judgeHead(this.exchange.head.method, frame.status, frame.headers, whole)
    if (head._tag === "Bad") return this.abandon("bad_response", "protocol_error")
    // Judged before the head is written: a body that came with its head and does not fit it can still be told as an error.
    if (head.hasBody && whole !== undefined && head.bodyBytes !== whole) return this.fail("bad_response")
    this.hasBody = head.hasBody
    this.promisedBytes = head.bodyBytes
    this.headSent = true
    this.exchange.response.head(head.status, this.record.headers(head.headers))
    this.record.headed(head.status)
    if (!frame.streamed) return this.complete(frame.body, [])
    if (frame.body.length === 0) this.exchange.response.flushHead()
    else this.pass(frame.body)
  }

  /** Passes body bytes on, more of which will follow. */
  private pass(data: Uint8Array): void {
    const link = this.link as StreamLink
    if (!this.takeBody(link, data)) return
    if (!this.hasBody || data.length === 0 || this.exchange.response.write(data)) {
      return link.consumed(data.length, false)
    }
    if (this.undrainedBytes === 0) this.exchange.response.whenWritableUnsafe(() => this.drained(link))
    this.undrainedBytes += data.length
  }

  /** Counts body bytes; `false` where the stream broke over them, for want of credit or of room in its content-length. */
  private takeBody(link: StreamLink, data: Uint8Array): boolean {
    if (!link.received(data.length)) return false
    if (!this.hasBody) return true
    if (this.promisedBytes !== undefined && this.record.bytesDown + data.length > this.promisedBytes) {
      this.abandon("bad_response", "protocol_error")
      return false
    }
    this.record.bytesDown += data.length
    return true
  }

  private drained(link: StreamLink): void {
    const bytes = this.undrainedBytes
    this.undrainedBytes = 0
    link.consumed(bytes, true)
  }

  private complete(last: Uint8Array, trailers: HeaderList): void {
    if (!this.takeBody(this.link as StreamLink, last)) return
    if (this.hasBody && this.promisedBytes !== undefined && this.record.bytesDown < this.promisedBytes) {
      return this.fail("bad_response")
    }
    if (this.record.settled || this.answered) return
    this.answered = true
    this.exchange.response.end(this.hasBody ? last : nothing, trailers)
  }

  /** Ends both sides: tells the runner, then the visitor. */
  private abandon(code: GatewayErrorCode, abort: AbortCode): void {
    this.link?.close({ _tag: "RequestAbort", code: abort })
    this.fail(code)
  }

  /** Tells the visitor: as an error where nothing was sent yet, by a broken transfer otherwise, never by a clean end. */
  private fail(code: GatewayErrorCode, refusal: Refusal = { code }): void {
    if (!this.record.settle(code)) return
    const { response } = this.exchange
    if (this.headSent) return response.destroy()
    const answer = this.record.errorAnswer(refusal)
    this.headSent = true
    response.head(answer.status, answer.headers)
    this.record.headed(answer.status)
    response.end(this.exchange.head.method === "HEAD" ? nothing : answer.body, [])
  }

  private visitorDone(complete: boolean): void {
    this.done = true
    // An answer is a success once it has left, not once we have written it.
    if (this.record.settle(complete && this.answered ? "ok" : "cancelled")) {
      this.link?.close({ _tag: "RequestAbort", code: "cancelled" })
    }
    this.link?.flow.abandon()
    this.onDone?.()
  }

  onInterrupt(): void {
    this.link?.close({ _tag: "RequestAbort", code: "cancelled" })
    this.fail("draining")
  }

  release(): void {}

  farewell(): Effect.Effect<void> {
    return this.link === undefined ? Effect.void : lastWord(this.parts.bus, this.link)
  }
}
