/**
 * What is decided about a visitor's request before a stream of it exists: whom it is for, and whether it may go there. What no runner should see is
 * refused here. The host decides first, so an ordinary request to NAME.DOMAIN pays nothing for the other forms.
 */
import { Effect } from "effect"
import type { FindActor } from "../actor/ActorDirectory.ts"
import * as Subject from "../bus/Subject.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { actorAddress, withoutRouting } from "./ActorAddress.ts"
import { resolve } from "./ActorQuery.ts"
import type { ErrorAnswer } from "./ErrorPage.ts"
import { forwardedHeaders } from "./ForwardedHeaders.ts"
import type { Refusal } from "./RivetError.ts"
import { RivetForm } from "./RivetForm.ts"
import { runnerName } from "./RunnerName.ts"
import type { Admitted } from "./StreamRecord.ts"
import { trustProxies } from "./TrustedProxies.ts"
import { headerOf, type VisitorHead } from "./Visitor.ts"

/** What a gateway admits by. */
export interface AdmissionOptions {
  readonly domain: string
  readonly namespace: string
  readonly trustedProxies: ReadonlyArray<string>
  /** 0 is no limit. */
  readonly requestBodyBytesMax: number
  readonly draining: () => boolean
  readonly makeRayId: () => string
  readonly findActor: FindActor
}

/** What becomes of a request. */
export type Verdict =
  | { readonly _tag: "Admitted"; readonly admitted: Admitted }
  | { readonly _tag: "Refused"; readonly refusal: Refusal }
  /** The gateway has the answer itself. */
  | { readonly _tag: "Answered"; readonly answer: ErrorAnswer }
  /** Which actor is meant has to be asked first. */
  | { readonly _tag: "Query"; readonly admitted: Effect.Effect<Admitted, Refusal> }

/** The verdict, and what is known of the request besides: `name` for the log, empty where it names nobody, and the target as a log may show it. */
export interface Admission {
  readonly verdict: Verdict
  readonly name: string
  readonly shown: string
  /** Set where the request is in one of Rivet's forms. */
  readonly form: RivetForm | undefined
}

const traceparentForm = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

const headBytes = (head: VisitorHead): number => {
  let bytes = head.target.length
  for (const [name, value] of head.headers) bytes += name.length + value.length + 4
  return bytes
}

const refuse = (refusal: Refusal): Verdict => ({ _tag: "Refused", refusal })

/** The smaller of two limits of which 0 is none. */
const stricter = (one: number, other: number): number => (one === 0 ? other : Math.min(one, other))

/** Makes the gateway's judgement. */
export const makeAdmit = (options: AdmissionOptions) => {
  const { domain, namespace } = options
  const trusted = trustProxies(options.trustedProxies)
  const actors = Subject.ofActors(namespace)
  const actorBodyBytesMax = stricter(options.requestBodyBytesMax, limits.actorBodyBytesMax)

  /** What is wrong with a request whoever it is for. */
  const faultOf = (head: VisitorHead, bodyBytesMax: number): Refusal | undefined => {
    if (options.draining()) return { code: "draining" }
    if (headBytes(head) > limits.headBytesMax) return { code: "headers_too_large" }
    if (bodyBytesMax > 0 && Number(headerOf(head, "content-length")) > bodyBytesMax) return { code: "body_too_large" }
    return undefined
  }

  const admit = (
    head: VisitorHead,
    host: string,
    { actor, bodyBytesMax, name, skipReadyWait, subject, target }: Omit<Admitted, "headers" | "traceparent">
  ): Admitted => {
    const headers = forwardedHeaders(head, host, trusted(head.remoteAddress))
    const traceparent = headerOf(head, "traceparent")
    return {
      name,
      actor,
      skipReadyWait,
      subject,
      target,
      headers: actor === "" ? headers : withoutRouting(headers),
      traceparent: traceparentForm.test(traceparent) ? traceparent : "",
      bodyBytesMax
    }
  }

  const byName = (head: VisitorHead, host: string, name: string, target: string): Admission => {
    const bodyBytesMax = options.requestBodyBytesMax
    const refusal = faultOf(head, bodyBytesMax)
    if (refusal !== undefined)
      return { verdict: { _tag: "Refused", refusal }, name, shown: head.target, form: undefined }
    const subject = Subject.ofName(namespace, name)
    const admitted = admit(head, host, { name, actor: "", skipReadyWait: false, subject, bodyBytesMax, target })
    return { verdict: { _tag: "Admitted", admitted }, name, shown: head.target, form: undefined }
  }

  const toActor = (
    head: VisitorHead,
    host: string,
    actor: string,
    { skipReadyWait, target }: Pick<Admitted, "skipReadyWait" | "target">
  ): Admitted =>
    admit(head, host, { name: "", actor, skipReadyWait, subject: actors, bodyBytesMax: actorBodyBytesMax, target })

  const byAddress = (head: VisitorHead, host: string, target: string, kind: "http" | "websocket"): Admission => {
    const address = actorAddress(head, target, kind)
    if (address._tag === "None") {
      // A fragment is never sent (RFC 9112, 3.2); only Rivet's own forms tolerate one.
      const code = target.includes("#") ? "bad_request" : "unknown_host"
      return { verdict: refuse({ code }), name: "", shown: head.target, form: undefined }
    }
    const { shown } = address
    const form = new RivetForm(options.makeRayId(), kind, head)
    const known = (name: string, verdict: Verdict): Admission => ({ verdict, name, shown, form })
    const fault = faultOf(head, actorBodyBytesMax)
    const name = address._tag === "Actor" ? address.actorId : address._tag === "Query" ? address.query.name : ""
    if (form.isPreflight) return known(name, { _tag: "Answered", answer: form.preflight() })
    if (fault !== undefined) return known(name, refuse(fault))
    switch (address._tag) {
      case "Refused":
        return known(name, refuse(address.refusal))
      case "Actor":
        return known(name, { _tag: "Admitted", admitted: toActor(head, host, address.actorId, address) })
      case "Query": {
        const found = resolve(options.findActor, namespace, address.query)
        const admitted = Effect.map(found, (actorId) =>
          toActor(head, host, actorId, { ...address.query, target: address.target })
        )
        return known(name, { _tag: "Query", admitted })
      }
    }
    return absurd(address)
  }

  return (head: VisitorHead, kind: "http" | "websocket"): Admission => {
    const found = runnerName(head, domain)
    switch (found._tag) {
      case "Found":
        return byName(head, found.host, found.name, found.target)
      case "None":
        return byAddress(head, found.host, found.target, kind)
      case "Ambiguous":
        return { verdict: refuse({ code: "bad_request" }), name: "", shown: head.target, form: undefined }
    }
    return absurd(found)
  }
}
