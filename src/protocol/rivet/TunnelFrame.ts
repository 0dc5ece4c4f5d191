/**
 * Frames of the model ↔ what all seven versions say of requests, answers and WebSockets in the same words. The versions' own words (acks,
 * hibernation, ids) are in `RivetMk1.ts` and `RivetMk2.ts`. What is lost stands in `docs/protocol/rivet.md`, line by line.
 */
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { absurd, type HeaderList } from "../../tunnel/Frame.ts"
import type { WholeRequestFrame, WholeResponseFrame } from "./Exchange.ts"
import type * as V4 from "./V4.ts"

type RequestKind = typeof V4.ToClientTunnelMessageKind.Type
type ResponseKind = typeof V4.ToServerTunnelMessageKind.Type

const noBytes = new Uint8Array(0)

/** An id of the route as Rivet's four bytes, most significant first: a hex dump then reads as our logs do. */
export const idBytes = (id: number): Uint8Array => new Uint8Array([id >>> 24, id >>> 16, id >>> 8, id])

/** Rivet's four bytes, from `at`, as an id of the route. */
export const idNumber = (bytes: Uint8Array, at = 0): number =>
  (((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)) >>>
  0

/** A route as two fields of Rivet's. */
export const routeBytes = (route: RouteKey) => ({
  gatewayId: idBytes(route.gatewayId),
  requestId: idBytes(route.requestId)
})

/** Two fields of Rivet's as a route. */
export const routeOf = (ids: { readonly gatewayId: Uint8Array; readonly requestId: Uint8Array }): RouteKey => ({
  gatewayId: idNumber(ids.gatewayId),
  requestId: idNumber(ids.requestId)
})

/**
 * A list of headers as Rivet's map. Values of one name are joined as RFC 9110 §5.3 allows, cookies as RFC 9113 §8.2.3 asks. Of several
 * `set-cookie` the first stays: they cannot be joined, and the map has one place.
 */
const toMap = (headers: HeaderList): ReadonlyMap<string, string> => {
  const map = new Map<string, string>()
  const spelt = new Map<string, string>()
  for (const [name, value] of headers) {
    const plain = name.toLowerCase()
    const first = spelt.get(plain)
    if (first === undefined) {
      spelt.set(plain, name)
      map.set(name, value)
    } else if (plain !== "set-cookie") map.set(first, `${map.get(first)}${plain === "cookie" ? "; " : ", "}${value}`)
  }
  return map
}

const toList = (headers: ReadonlyMap<string, string>): HeaderList => [...headers]

const some = (bytes: Uint8Array): Uint8Array | null => (bytes.length === 0 ? null : bytes)
const someText = (text: string): string | null => (text === "" ? null : text)

/** A frame down as Rivet says it, or null where it has no words: credit only. */
export const lowerRequest = (frame: WholeRequestFrame, actorId: string): RequestKind | null => {
  switch (frame._tag) {
    case "RequestStart": {
      const { method, target: path, streamed: stream } = frame
      const body = some(frame.body)
      return {
        tag: "ToClientRequestStart",
        val: { actorId, method, path, headers: toMap(frame.headers), body, stream }
      }
    }
    case "RequestChunk":
      return { tag: "ToClientRequestChunk", val: { body: frame.body, finish: frame.finish } }
    case "RequestTrailers":
      return { tag: "ToClientRequestChunk", val: { body: noBytes, finish: true } }
    case "RequestAbort":
      return { tag: "ToClientRequestAbort", val: null }
    case "WebSocketOpen":
      return { tag: "ToClientWebSocketOpen", val: { actorId, path: frame.target, headers: toMap(frame.headers) } }
    case "WebSocketMessage":
      return { tag: "ToClientWebSocketMessage", val: { data: frame.data, binary: frame.binary } }
    case "WebSocketClose":
      return { tag: "ToClientWebSocketClose", val: { code: frame.code, reason: someText(frame.reason) } }
    case "Credit":
      return null
  }
  return absurd(frame)
}

/** What Rivet says down, as a frame. `actorId` is empty where the kind does not say it. */
export const liftRequest = (kind: RequestKind): { readonly actorId: string; readonly frame: WholeRequestFrame } => {
  switch (kind.tag) {
    case "ToClientRequestStart": {
      const { actorId, method, path: target, headers, body, stream: streamed } = kind.val
      return {
        actorId,
        frame: { _tag: "RequestStart", method, target, headers: toList(headers), body: body ?? noBytes, streamed }
      }
    }
    case "ToClientRequestChunk":
      return { actorId: "", frame: { _tag: "RequestChunk", body: kind.val.body, finish: kind.val.finish } }
    case "ToClientRequestAbort":
      return { actorId: "", frame: { _tag: "RequestAbort", code: "cancelled" } }
    case "ToClientWebSocketOpen": {
      const { actorId, path: target, headers } = kind.val
      return { actorId, frame: { _tag: "WebSocketOpen", target, headers: toList(headers) } }
    }
    case "ToClientWebSocketMessage": {
      const { data, binary } = kind.val
      return { actorId: "", frame: { _tag: "WebSocketMessage", data, binary, finish: true } }
    }
    case "ToClientWebSocketClose":
      return {
        actorId: "",
        frame: { _tag: "WebSocketClose", code: kind.val.code, reason: kind.val.reason ?? "" }
      }
  }
  return absurd(kind)
}

/** What Rivet's runner answers, as a frame. */
export const liftResponse = (kind: ResponseKind): WholeResponseFrame => {
  switch (kind.tag) {
    case "ToServerResponseStart": {
      const { status, headers, body, stream: streamed } = kind.val
      return { _tag: "ResponseStart", status, headers: toList(headers), body: body ?? noBytes, streamed }
    }
    case "ToServerResponseChunk":
      return { _tag: "ResponseChunk", body: kind.val.body, finish: kind.val.finish }
    case "ToServerResponseAbort":
      return { _tag: "ResponseAbort", code: "app_failed", message: "" }
    case "ToServerWebSocketOpen":
      return { _tag: "WebSocketOpen", headers: [], canHibernate: kind.val.canHibernate }
    case "ToServerWebSocketMessage":
      return { _tag: "WebSocketMessage", data: kind.val.data, binary: kind.val.binary, finish: true }
    case "ToServerWebSocketMessageAck":
      return { _tag: "WebSocketMessageAck", index: kind.val.index }
    case "ToServerWebSocketClose": {
      const { code, reason, hibernate } = kind.val
      return { _tag: "WebSocketClose", code, reason: reason ?? "", hibernate }
    }
  }
  return absurd(kind)
}

/** An answer as Rivet says it, or null where it has no words: 1xx responses and credit. */
export const lowerResponse = (frame: WholeResponseFrame): ResponseKind | null => {
  switch (frame._tag) {
    case "ResponseStart": {
      const { status, streamed: stream } = frame
      return {
        tag: "ToServerResponseStart",
        val: { status, headers: toMap(frame.headers), body: some(frame.body), stream }
      }
    }
    case "ResponseChunk":
      return { tag: "ToServerResponseChunk", val: { body: frame.body, finish: frame.finish } }
    case "ResponseTrailers":
      return { tag: "ToServerResponseChunk", val: { body: noBytes, finish: true } }
    case "ResponseAbort":
      return { tag: "ToServerResponseAbort", val: null }
    case "WebSocketOpen":
      return { tag: "ToServerWebSocketOpen", val: { canHibernate: frame.canHibernate } }
    case "WebSocketMessage":
      return { tag: "ToServerWebSocketMessage", val: { data: frame.data, binary: frame.binary } }
    case "WebSocketMessageAck":
      return { tag: "ToServerWebSocketMessageAck", val: { index: frame.index } }
    case "WebSocketClose": {
      const { code, hibernate } = frame
      return { tag: "ToServerWebSocketClose", val: { code, reason: someText(frame.reason), hibernate } }
    }
    case "Informational":
    case "Credit":
      return null
  }
  return absurd(frame)
}
