/**
 * Which actor a visitor means, in any of Rivet's forms: a path `/gateway/ACTOR…`, the same with a query instead of an id, the headers `x-rivet-*`
 * on `/request…`, or items of a WebSocket's subprotocols. Asked only where the host names no runner: an app of ours may have such paths itself.
 *
 * What goes on to the actor is cut out of the target byte for byte; nothing of it is decoded or put in order.
 */
import * as RivetId from "../actor/RivetId.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import { type ActorQuery, percentDecode, prefix, readQuery, skipReadyWait } from "./ActorQuery.ts"
import type { Refusal } from "./RivetError.ts"
import { headerOf, type VisitorHead } from "./Visitor.ts"

/**
 * `None`: in none of Rivet's forms. `target` is what the actor is asked for, `shown` what a log may show of the whole: a token in the path is
 * left out of it.
 */
export type ActorAddress =
  | { readonly _tag: "None" }
  | { readonly _tag: "Refused"; readonly refusal: Refusal; readonly shown: string }
  | {
      readonly _tag: "Actor"
      readonly actorId: string
      /** An actor that was told to start is enough. */
      readonly skipReadyWait: boolean
      readonly target: string
      readonly shown: string
    }
  | { readonly _tag: "Query"; readonly query: ActorQuery; readonly target: string; readonly shown: string }

const none: ActorAddress = { _tag: "None" }
const root = "/gateway"

const targetItem = "rivet_target."
const actorItem = "rivet_actor."
const tokenItem = "rivet_token."
const skipItem = "rivet_skip_ready_wait"

const routingHeaders = new Set(["x-rivet-target", "x-rivet-actor", "x-rivet-token", "x-rivet-skip-ready-wait"])
const routingItem = (item: string): boolean =>
  item.startsWith(targetItem) || item.startsWith(actorItem) || item.startsWith(tokenItem) || item === skipItem

const protocolHeader = "sec-websocket-protocol"
const itemsOf = (value: string): ReadonlyArray<string> => value.split(",").map((item) => item.trim())

/** Cuts a target in two. What stands behind a `#` was never meant to be sent. */
const cut = (target: string): { readonly path: string; readonly query: string | undefined } => {
  const hash = target.indexOf("#")
  const whole = hash < 0 ? target : target.slice(0, hash)
  const mark = whole.indexOf("?")
  return mark < 0 ? { path: whole, query: undefined } : { path: whole.slice(0, mark), query: whole.slice(mark + 1) }
}

const byPath = (given: string): ActorAddress => {
  const { path, query } = cut(given)
  if ((path !== root && !path.startsWith(`${root}/`)) || path.includes("//")) return none
  const slash = path.indexOf("/", root.length + 1)
  const segment = path.slice(root.length + 1, slash < 0 ? undefined : slash)
  const rest = slash < 0 ? "/" : path.slice(slash)
  const parts = query === undefined ? [] : query.split("&")
  const ours = parts.filter((part) => part.startsWith(prefix))
  if (ours.length > 0) {
    const kept = parts.filter((part) => part !== "" && !part.startsWith(prefix))
    return byQuery(segment, ours, kept.length === 0 ? rest : `${rest}?${kept.join("&")}`)
  }
  return direct(segment, query === undefined ? rest : `${rest}?${query}`)
}

const shownOf = (segment: string, target: string): string => {
  const at = segment.indexOf("@")
  return `${root}/${at < 0 ? segment : `${segment.slice(0, at)}@…`}${target}`
}

const byQuery = (segment: string, ours: ReadonlyArray<string>, target: string): ActorAddress => {
  const query = readQuery(segment, ours)
  const shown = shownOf(segment, target)
  return "_tag" in query ? { _tag: "Refused", refusal: query.refusal, shown } : { _tag: "Query", query, target, shown }
}

const direct = (segment: string, target: string): ActorAddress => {
  const at = segment.indexOf("@")
  const actorId = percentDecode(at < 0 ? segment : segment.slice(0, at))
  const token = percentDecode(at < 0 ? "-" : segment.slice(at + 1))
  if (actorId === undefined || actorId === "" || token === undefined || token === "") return none
  const shown = shownOf(segment, target)
  if (RivetId.parse(actorId) !== undefined) return { _tag: "Actor", actorId, skipReadyWait: false, target, shown }
  return { _tag: "Refused", refusal: { code: "actor_not_found", rivet: "actor.not_found" }, shown }
}

const refused = (shown: string, refusal: Refusal): ActorAddress => ({ _tag: "Refused", refusal, shown })
const missing = (shown: string, header: string) =>
  refused(shown, { code: "bad_request", rivet: "guard.missing_header", metadata: { header } })
const invalid = (shown: string, header: string, detail: string) =>
  refused(shown, { code: "bad_request", rivet: "guard.invalid_header", metadata: { header, detail } })

const noRoute = (head: VisitorHead, target: string) =>
  refused(target, {
    code: "unknown_host",
    rivet: "guard.no_route",
    metadata: { host: headerOf(head, "host"), path: target }
  })

/** Other places of Rivet's that a request may be sent to: not an actor's, and not the gateway's to judge. */
const otherTargets = new Set(["", "runner", "envoy", "api-public"])

const inTarget = (target: string): string => {
  const { path, query } = cut(target)
  return query === undefined ? path : `${path}?${query}`
}

const requestForm = /^\/request(?:[/?]|$)/

const byHeader = (head: VisitorHead, given: string): ActorAddress => {
  const place = headerOf(head, "x-rivet-target")
  if (otherTargets.has(place)) return none
  const target = inTarget(given)
  if (place !== "actor" || !requestForm.test(target)) return noRoute(head, target)
  const actorId = headerOf(head, "x-rivet-actor")
  if (actorId === "") return missing(target, "x-rivet-actor")
  if (RivetId.parse(actorId) === undefined) return invalid(target, "x-rivet-actor", "not the id of an actor")
  const skips = skipReadyWait(headerOf(head, "x-rivet-skip-ready-wait") || "false")
  if (skips === undefined) return invalid(target, "x-rivet-skip-ready-wait", "true, 1, false or 0")
  return { _tag: "Actor", actorId, skipReadyWait: skips, target, shown: target }
}

const bySubprotocol = (head: VisitorHead, given: string): ActorAddress => {
  const offered = headerOf(head, protocolHeader)
  if (!offered.includes(targetItem)) return none
  const items = itemsOf(offered)
  const place = items.find((item) => item.startsWith(targetItem))?.slice(targetItem.length)
  if (place === undefined || otherTargets.has(place)) return none
  const target = inTarget(given)
  if (place !== "actor") return noRoute(head, target)
  const encoded = items.find((item) => item.startsWith(actorItem))?.slice(actorItem.length)
  if (encoded === undefined || encoded === "") return missing(target, actorItem)
  const actorId = percentDecode(encoded)
  if (actorId === undefined || RivetId.parse(actorId) === undefined) {
    return invalid(target, actorItem, "not the id of an actor")
  }
  return { _tag: "Actor", actorId, skipReadyWait: items.includes(skipItem), target, shown: target }
}

/** Reads the form. A path beats any header; of a WebSocket no `x-rivet-*` header is read. `target` is in origin-form. */
export const actorAddress = (head: VisitorHead, target: string, kind: "http" | "websocket"): ActorAddress => {
  const found = target.startsWith(root) ? byPath(target) : none
  if (found._tag !== "None") return found
  return kind === "http" ? byHeader(head, target) : bySubprotocol(head, target)
}

/** Headers without what was meant for the gateway: where to, and by which token. */
export const withoutRouting = (headers: HeaderList): HeaderList => {
  const kept: Array<readonly [string, string]> = []
  for (const [name, value] of headers) {
    const lower = name.toLowerCase()
    if (routingHeaders.has(lower)) continue
    if (lower !== protocolHeader) {
      kept.push([name, value])
      continue
    }
    const items = itemsOf(value).filter((item) => !routingItem(item))
    if (items.length > 0) kept.push([name, items.join(", ")])
  }
  return kept
}
