/**
 * What becomes of a visitor's WebSocket handshake: it waits for the app's word, is then accepted or refused as the app says, and on any failure
 * accepted all the same, since a browser shows a page nothing of a handshake that was refused.
 */
import { Effect } from "effect"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import { absurd, type HeaderList, type ResponseFrame } from "../tunnel/Frame.ts"
import { acceptHeaders } from "./ForwardedHeaders.ts"
import { type GoodHead, judgeHead } from "./ResponseHead.ts"
import { offersRivet, rivetProtocol } from "./RivetForm.ts"
import type { StreamRecord } from "./StreamRecord.ts"
import { headerOf, type VisitorUpgrade } from "./Visitor.ts"

type Decision =
  | { readonly _tag: "Accept"; readonly headers: HeaderList; readonly protocol: string }
  | { readonly _tag: "Refuse"; readonly head: GoodHead }
  | { readonly _tag: "Gone" }

/** The first subprotocol a visitor offered: browsers fail a handshake that answers none of theirs, and would not show why it was refused. */
const firstProtocol = (upgrade: VisitorUpgrade): string =>
  headerOf(upgrade.head, "sec-websocket-protocol").split(",")[0]?.trim() ?? ""

/** One handshake. The first decision stands. */
export class SocketHandshake {
  private readonly upgrade: VisitorUpgrade
  private readonly record: StreamRecord
  private decision: Decision | undefined
  private onDecision: (() => void) | undefined
  private again = false
  private refusal: GoodHead | undefined
  private readonly refusalBody: Array<Uint8Array> = []
  private refusalBytes = 0

  constructor(upgrade: VisitorUpgrade, record: StreamRecord) {
    this.upgrade = upgrade
    this.record = record
  }

  get decided(): boolean {
    return this.decision !== undefined
  }

  /** The app accepted. */
  accept(given: HeaderList): void {
    const { headers, protocol } = acceptHeaders(given)
    this.decide({ _tag: "Accept", headers, protocol: this.protocolOf(protocol) })
  }

  /** The app's choice. Where it made none, a visitor that offers `rivet` gets that: it would not go on without, and apps on Rivet's runners cannot choose. */
  private protocolOf(chosen: string): string {
    const { form } = this.record
    if (form !== undefined) return form.protocol(chosen)
    return chosen === "" && offersRivet(this.upgrade.head) ? rivetProtocol : chosen
  }

  /** There is nothing to accept for, but a code and a reason to be told. */
  acceptToClose(): void {
    const protocol = this.record.form?.protocol("") ?? firstProtocol(this.upgrade)
    this.decide({ _tag: "Accept", headers: [], protocol })
  }

  /** The visitor left. */
  gone(): void {
    this.decide({ _tag: "Gone" })
  }

  /** The app began an ordinary answer instead; `false` where no visitor may get it. */
  beginRefusal(frame: Extract<ResponseFrame, { readonly _tag: "ResponseStart" }>): boolean {
    const head = judgeHead("GET", frame.status, frame.headers, frame.streamed ? undefined : frame.body.length)
    if (head._tag === "Bad") return false
    this.refusal = head
    return true
  }

  /** A refusal is small: it is gathered within the first window, and nothing more is granted to it. `false`: its body is not what its head promised. */
  addRefusal(data: Uint8Array, finish: boolean): boolean {
    this.refusalBody.push(data)
    this.refusalBytes += data.length
    const head = this.refusal
    if (!finish || head === undefined) return true
    if (head.hasBody && head.bodyBytes !== undefined && head.bodyBytes !== this.refusalBytes) return false
    this.decide({ _tag: "Refuse", head })
    return true
  }

  /** Another hub is to be asked: whoever waits goes on without a decision. */
  askAgain(): void {
    this.again = true
    this.onDecision?.()
  }

  /** Whether that is so; said once. */
  takeAgain(): boolean {
    const { again } = this
    this.again = false
    return again
  }

  /** Waits for a decision, or for having to ask again. */
  readonly awaited: Effect.Effect<void> = Effect.callback((resume) => {
    if (this.decided || this.again) return resume(Effect.void)
    this.onDecision = () => resume(Effect.void)
  })

  /** Carries the decision out. `serve` gets the open socket. */
  conclude(serve: (socket: MessageSocket) => Effect.Effect<void>): Effect.Effect<void> {
    const { decision, record, upgrade } = this
    if (decision === undefined) return Effect.void
    switch (decision._tag) {
      case "Gone":
        return Effect.void
      case "Refuse": {
        const { headers, status } = decision.head
        record.headed(status)
        upgrade.refuse(status, record.headers(headers), Buffer.concat(this.refusalBody))
        record.settle("ok")
        return Effect.void
      }
      case "Accept":
        return Effect.flatMap(upgrade.accept(record.headers(decision.headers), decision.protocol), serve)
      default:
        return absurd(decision)
    }
  }

  private decide(decision: Decision): void {
    if (this.decision !== undefined) return
    this.decision = decision
    this.onDecision?.()
  }
}
