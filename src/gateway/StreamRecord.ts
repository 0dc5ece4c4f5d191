/**
 * What every stream of a gateway works with, and the record it keeps for observer and metrics: begun once, headed at most once, ended once.
 */

import type { Effect } from "effect"
import type { Subject } from "../bus/Subject.ts"
import { type RouteKey, showRoute } from "../tunnel/Envelope.ts"
import { type ErrorAnswer, errorAnswer } from "./ErrorPage.ts"
import type { GatewayErrorCode, Outcome } from "./GatewayError.ts"
import type { GatewayMeter } from "./GatewayMetrics.ts"
import type { InFlight } from "./InFlight.ts"
import type { Speech } from "./StreamLink.ts"
import type { StreamObserver, StreamStart } from "./StreamObserver.ts"
import type { VisitorHead } from "./Visitor.ts"

/** The parts of a gateway that its streams use. */
export interface GatewayParts extends Speech {
  readonly inFlight: InFlight
  readonly observer: StreamObserver["Service"]
  readonly meter: GatewayMeter
  /** Milliseconds of a clock that never jumps. */
  readonly nowMs: () => number
  readonly domain: string
  readonly subjectOf: (name: string) => Subject
  readonly responseStartMs: number
  readonly webSocketOpenMs: number
  /** 0 is no limit. */
  readonly requestBodyBytesMax: number
}

/** A visitor's request after admission: which runner, and what the app will read. */
export interface Admitted {
  readonly name: string
  readonly target: string
  readonly headers: ReadonlyArray<readonly [string, string]>
  readonly traceparent: string
}

/** A stream as the gateway starts it: served by a runner, or refused at the door. Neither fails. */
export interface VisitorStream {
  readonly run: (admitted: Admitted) => Effect.Effect<void>
  readonly refuse: (code: GatewayErrorCode) => Effect.Effect<void>
  /** A fault of ours: ends whatever there is, and does not throw. */
  readonly onCrash: () => void
  /** Says what is still due to the hub, for a stream whose fiber ends before its time. */
  readonly farewell: () => Effect.Effect<void>
}

/** The first header of that name, empty where there is none. */
export const headerOf = (head: VisitorHead, lower: string): string => {
  for (const [name, value] of head.headers) {
    if (name.length === lower.length && name.toLowerCase() === lower) return value
  }
  return ""
}

/** One stream as observer and metrics see it. */
export class StreamRecord {
  bytesUp = 0
  bytesDown = 0
  status = 0
  /** The route of the first attempt; a second one has its own, the request keeps its id. */
  readonly route: RouteKey
  readonly start: StreamStart
  private readonly parts: GatewayParts
  private readonly startedMs: number
  private readonly accept: string
  private outcome: Outcome | undefined

  constructor(parts: GatewayParts, route: RouteKey, kind: StreamStart["kind"], name: string, head: VisitorHead) {
    const { method, target, remoteAddress } = head
    this.parts = parts
    this.route = route
    this.start = { requestId: showRoute(route), kind, name, method, target, remoteAddress }
    this.accept = headerOf(head, "accept")
    this.startedMs = parts.nowMs()
    parts.meter.opened()
    parts.observer.start(this.start)
  }

  /** The visitor got a status. */
  headed(status: number): void {
    this.status = status
    this.parts.observer.head(this.start, status)
  }

  /** Settles how the stream ends; the first word stands. Answers whether this was it. */
  settle(outcome: Outcome): boolean {
    if (this.outcome !== undefined) return false
    this.outcome = outcome
    return true
  }

  get settled(): boolean {
    return this.outcome !== undefined
  }

  /** What the visitor is shown for a code. */
  errorAnswer(code: GatewayErrorCode): ErrorAnswer {
    const { name, requestId } = this.start
    return errorAnswer(code, { requestId, name, domain: this.parts.domain, accept: this.accept })
  }

  /** The stream is over and out: counted and reported. */
  end(): void {
    const outcome = this.outcome ?? "cancelled"
    const durationMs = this.parts.nowMs() - this.startedMs
    const { bytesUp, bytesDown, status } = this
    this.parts.meter.closed()
    this.parts.meter.ended(outcome, bytesUp, bytesDown, durationMs)
    this.parts.observer.end(this.start, { status, outcome, bytesUp, bytesDown, durationMs })
  }
}
