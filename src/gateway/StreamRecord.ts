/**
 * What every stream of a gateway works with, and the record it keeps for observer and metrics: begun once, headed at most once, ended once.
 */

import type { Effect } from "effect"
import { type RouteKey, showRoute } from "../tunnel/Envelope.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import type { Admission } from "./Admission.ts"
import { type ErrorAnswer, errorAnswer } from "./ErrorPage.ts"
import { entryOf, type Outcome } from "./GatewayError.ts"
import type { GatewayMeter } from "./GatewayMetrics.ts"
import type { HibernationBudget } from "./HibernationBudget.ts"
import type { InFlight } from "./InFlight.ts"
import type { OpeningParts } from "./Opening.ts"
import type { Refusal } from "./RivetError.ts"
import type { RivetForm } from "./RivetForm.ts"
import type { Speech } from "./StreamFiber.ts"
import type { StreamObserver, StreamStart } from "./StreamObserver.ts"
import { headerOf, type VisitorHead } from "./Visitor.ts"
import type { Addressee } from "./VisitorSide.ts"

/** The parts of a gateway that its streams use. */
export interface GatewayParts extends Speech, OpeningParts {
  readonly inFlight: InFlight
  readonly observer: StreamObserver["Service"]
  readonly meter: GatewayMeter
  /** For the log: a fault of ours that its stream has already paid for. */
  readonly onFault: (fault: unknown) => void
  readonly domain: string
  readonly responseStartMs: number
  readonly webSocketOpenMs: number
  /** What its hibernating WebSockets may keep together. */
  readonly budget: HibernationBudget
}

/** A visitor's request after admission: for whom, and what the app will read. */
export interface Admitted extends Addressee {
  readonly target: string
  readonly headers: HeaderList
  /** The largest body it may have; 0 is no limit. */
  readonly bodyBytesMax: number
}

/** A stream as the gateway starts it: served by a runner, or refused at the door. Neither fails. */
export interface VisitorStream {
  /** Serves the stream, or refuses it, once it is known whom it is for. */
  readonly run: (admitted: Admitted | Effect.Effect<Admitted, Refusal>) => Effect.Effect<void>
  readonly refuse: (refusal: Refusal) => Effect.Effect<void>
  /** Gives the visitor an answer of the gateway's own that is no error. */
  readonly reply: (answer: ErrorAnswer) => Effect.Effect<void>
  /** A fault of ours: ends whatever there is, and does not throw. */
  readonly onCrash: () => void
  /** The gateway leaves: ends whatever there is, in order. */
  readonly onInterrupt: () => void
  /** Says what is still due to the hub, for a stream whose fiber ends before its time. */
  readonly farewell: () => Effect.Effect<void>
  /** Its fiber is over: gives back what it held beyond itself. */
  readonly release: () => void
}

/** One stream as observer and metrics see it. */
export class StreamRecord {
  bytesUp = 0
  bytesDown = 0
  status = 0
  /** The route of the first attempt; a second one has its own, the request keeps its id. */
  readonly route: RouteKey
  readonly start: StreamStart
  /** Set where the visitor asked in one of Rivet's forms, and is answered so. */
  readonly form: RivetForm | undefined
  private readonly parts: GatewayParts
  private readonly startedMs: number
  private readonly accept: string
  private outcome: Outcome | undefined

  constructor(
    parts: GatewayParts,
    route: RouteKey,
    kind: StreamStart["kind"],
    { form, name, shown }: Pick<Admission, "form" | "name" | "shown">,
    head: VisitorHead
  ) {
    const { method, remoteAddress } = head
    this.parts = parts
    this.route = route
    this.form = form
    this.start = { requestId: showRoute(route), kind, name, method, target: shown, remoteAddress }
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

  /** What the visitor is shown for a refusal or a failure. */
  errorAnswer(refusal: Refusal): ErrorAnswer {
    if (this.form !== undefined) return this.form.errorAnswer(refusal)
    const { name, requestId } = this.start
    return errorAnswer(refusal.code, { requestId, name, domain: this.parts.domain, accept: this.accept })
  }

  /** How a visitor's WebSocket is closed over one. */
  closeOf(refusal: Refusal): { readonly code: number; readonly reason: string } {
    return this.form?.close(refusal) ?? { code: entryOf(refusal.code).closeCode, reason: refusal.code }
  }

  /** The headers of an app's answer as the visitor gets them. */
  headers(given: HeaderList): HeaderList {
    return this.form === undefined ? given : this.form.headers(given)
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
