/**
 * What becomes of a visitor's WebSocket handshake: it waits for the app's word, is then accepted or refused as the app says, and on any failure
 * accepted all the same, since a browser shows a page nothing of a handshake that was refused.
 */
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { HeaderList, ResponseFrame } from "../tunnel/Frame.ts"
import { acceptHeaders } from "./ForwardedHeaders.ts"
import { type GoodHead, judgeHead } from "./ResponseHead.ts"
import { offersRivet, rivetProtocol } from "./RivetForm.ts"
import type { StreamRecord } from "./StreamRecord.ts"
import { headerOf, type VisitorUpgrade } from "./Visitor.ts"

/** The first subprotocol a visitor offered: browsers fail a handshake that answers none of theirs, and would not show why it was refused. */
const firstProtocol = (upgrade: VisitorUpgrade): string =>
  headerOf(upgrade.head, "sec-websocket-protocol").split(",")[0]?.trim() ?? ""

/** One handshake. The first decision stands, and is carried out at once. Nobody needs the handshake after that. */
export class SocketHandshake {
  private readonly upgrade: VisitorUpgrade
  private readonly record: StreamRecord
  private readonly onDecided: (socket: MessageSocket | undefined) => void
  private decided = false
  private refusal: GoodHead | undefined
  private readonly refusalBody: Array<Uint8Array> = []
  private refusalBytes = 0

  /** `onDecided` gets the visitor's socket, where there is one. */
  constructor(upgrade: VisitorUpgrade, record: StreamRecord, onDecided: (socket: MessageSocket | undefined) => void) {
    this.upgrade = upgrade
    this.record = record
    this.onDecided = onDecided
  }

  /** The app accepted. */
  accept(given: HeaderList): void {
    const { headers, protocol } = acceptHeaders(given)
    this.open(headers, this.protocolOf(protocol))
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
    this.open([], protocol)
  }

  /** The visitor left. */
  gone(): void {
    this.decide(() => undefined)
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
    this.refuse(head.status, this.record.headers(head.headers), Buffer.concat(this.refusalBody))
    this.record.settle("ok")
    return true
  }

  /** An HTTP answer instead of a WebSocket. */
  refuse(status: number, headers: HeaderList, body: Uint8Array): void {
    this.decide(() => {
      this.record.headed(status)
      this.upgrade.refuse(status, headers, body)
      return undefined
    })
  }

  private open(headers: HeaderList, protocol: string): void {
    this.decide(() => {
      this.record.headed(101)
      return this.upgrade.accept(this.record.headers(headers), protocol)
    })
  }

  private decide(carryOut: () => MessageSocket | undefined): void {
    if (this.decided) return
    this.decided = true
    this.onDecided(carryOut())
  }
}
