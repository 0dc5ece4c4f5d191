/**
 * How answers look to a visitor that asked in one of Rivet's forms (`ActorAddress.ts`): its ray id on every answer, errors in Rivet's shape, close
 * codes and reasons its clients read, and what lets a browser's script use an actor from any origin.
 */
import { sendableCloseReason } from "../socket/MessageSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import type { ErrorAnswer } from "./ErrorPage.ts"
import { entryOf } from "./GatewayError.ts"
import { fromGatewayError, type Refusal, rivetErrors } from "./RivetError.ts"
import { headerOf, type VisitorHead } from "./Visitor.ts"

/** The subprotocol that every client of Rivet's offers, and expects. */
export const rivetProtocol = "rivet"

/** Whether a visitor offers it. Rivet's clients do wherever they go, and their runners cannot name a subprotocol. */
export const offersRivet = (head: VisitorHead): boolean => offeredBy(head).includes(rivetProtocol)

const offeredBy = (head: VisitorHead): ReadonlyArray<string> =>
  headerOf(head, "sec-websocket-protocol")
    .split(",")
    .map((item) => item.trim())

const rayHeader = "x-rivet-ray-id"
const allowOrigin = "access-control-allow-origin"

const encoder = new TextEncoder()

const isVary = (name: string) => name.length === 4 && name.toLowerCase() === "vary"

/** One visitor's request in Rivet's form, as far as answers to it depend on that. */
export class RivetForm {
  readonly rayId: string
  private readonly kind: "http" | "websocket"
  private readonly head: VisitorHead
  private readonly origin: string

  constructor(rayId: string, kind: "http" | "websocket", head: VisitorHead) {
    this.rayId = rayId
    this.kind = kind
    this.head = head
    this.origin = headerOf(head, "origin")
  }

  /** Whether this asks for permission only, as browsers do before some requests. It is answered here: the actor is not asked, nor woken. */
  get isPreflight(): boolean {
    const asks = headerOf(this.head, "access-control-request-method") !== ""
    return this.kind === "http" && this.head.method === "OPTIONS" && this.origin !== "" && asks
  }

  /** The answer to that: everything is allowed. */
  preflight(): ErrorAnswer {
    const asked = headerOf(this.head, "access-control-request-headers")
    const headers = this.headers([
      ["access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS, PATCH"],
      ["access-control-allow-headers", asked === "" ? "*" : asked],
      ["access-control-max-age", "86400"]
    ])
    return { status: 204, headers, body: new Uint8Array(0) }
  }

  /** The headers of an answer, with what every such answer has. An app that says itself who may read it is not overruled. */
  headers(given: HeaderList): HeaderList {
    const headers: Array<readonly [string, string]> = []
    let decided = false
    for (const pair of given) {
      const lower = pair[0].toLowerCase()
      if (lower === rayHeader) continue
      if (lower === allowOrigin) decided = true
      headers.push(pair)
    }
    headers.push([rayHeader, this.rayId])
    if (decided || this.kind === "websocket") return headers
    headers.push([allowOrigin, this.origin === "" ? "*" : this.origin], ["access-control-expose-headers", "*"])
    if (this.origin !== "") {
      headers.push(["access-control-allow-credentials", "true"])
      varyByOrigin(headers)
    }
    return headers
  }

  /** What a visitor is told instead of an answer. */
  errorAnswer(refusal: Refusal): ErrorAnswer {
    const { code, group, message, status } = this.errorOf(refusal)
    const { metadata } = refusal
    const body = encoder.encode(JSON.stringify({ group, code, message, ...(metadata && { metadata }) }))
    const headers: Array<readonly [string, string]> = [
      ["content-type", "application/json"],
      ["content-length", String(body.length)],
      ["cache-control", "no-store"],
      ["x-content-type-options", "nosniff"],
      ["x-wayleave-error", refusal.code]
    ]
    const { retryAfterSeconds } = entryOf(refusal.code)
    if (retryAfterSeconds !== undefined) headers.push(["retry-after", String(retryAfterSeconds)])
    return { status, headers: this.headers(headers), body }
  }

  /** How a WebSocket is closed over an error. */
  close(refusal: Refusal): { readonly code: number; readonly reason: string } {
    const { code, group } = this.errorOf(refusal)
    return { code: 1011, reason: sendableCloseReason(`${group}.${code}#${this.rayId}`) }
  }

  /** How a WebSocket is closed that its app closed without a code. */
  readonly plainClose = { code: 1000, reason: "ws.closed" } as const

  /** The subprotocol of the 101: `rivet` where it was offered, else what the app chose of those offered, else none. */
  protocol(chosen: string): string {
    const offered = offeredBy(this.head)
    if (offered.includes(rivetProtocol)) return rivetProtocol
    return chosen !== "" && offered.includes(chosen) ? chosen : ""
  }

  private errorOf({ code, rivet }: Refusal) {
    const name = rivet ?? fromGatewayError(code, this.kind)
    const dot = name.indexOf(".")
    return { group: name.slice(0, dot), code: name.slice(dot + 1), ...rivetErrors[name] }
  }
}

/** The answer differs by origin, so caches are told; what the app said of that stays. */
const varyByOrigin = (headers: Array<readonly [string, string]>): void => {
  const at = headers.findIndex(([name]) => isVary(name))
  const pair = headers[at]
  if (pair === undefined) headers.push(["vary", "Origin"])
  else if (!/(?:^|,)\s*(?:origin|\*)\s*(?:,|$)/i.test(pair[1])) headers[at] = [pair[0], `${pair[1]}, Origin`]
}
