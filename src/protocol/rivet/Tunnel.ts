/** What all seven versions say about requests, answers and WebSockets in the same words, and the ids of versions 3 to 7. */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import { Id } from "./Actor.ts"

/** Headers are a map: one value a name. A second `set-cookie` cannot be said. */
export const Headers = Wire.map(Wire.str, Wire.str)

/** Opens an HTTP exchange; body chunks follow when `stream`. */
export const ToClientRequestStart = Schema.Struct({
  actorId: Id,
  method: Wire.str,
  path: Wire.str,
  headers: Headers,
  body: Wire.optional(Wire.data),
  stream: Wire.bool
})
/** A piece of a body, in either direction. */
export const BodyChunk = Schema.Struct({ body: Wire.data, finish: Wire.bool })
/** The head of an answer; body chunks follow when `stream`. */
export const ToServerResponseStart = Schema.Struct({
  status: Wire.u16,
  headers: Headers,
  body: Wire.optional(Wire.data),
  stream: Wire.bool
})
/** Asks an actor for a WebSocket. */
export const ToClientWebSocketOpen = Schema.Struct({ actorId: Id, path: Wire.str, headers: Headers })
/** A whole WebSocket message, never a fragment. */
export const WebSocketMessage = Schema.Struct({ data: Wire.data, binary: Wire.bool })
/** Messages down to the runner are dealt with up to this index, wrapping. */
export const WebSocketMessageAck = Schema.Struct({ index: Wire.u16 })
/** A WebSocket's close, where nothing else is said about it. */
export const ToClientWebSocketClose = Schema.Struct({
  code: Wire.optional(Wire.u16),
  reason: Wire.optional(Wire.str)
})

/** Four random bytes of a gateway process. */
export const GatewayId = Wire.fixed(4)
/** Four random bytes of one visitor's request. */
export const RequestId = Wire.fixed(4)
/** Versions 3 to 7: the route, and the message's place in its order. */
export const MessageId = Schema.Struct({ gatewayId: GatewayId, requestId: RequestId, messageIndex: Wire.u16 })
export type MessageId = typeof MessageId.Type

/** A WebSocket the visitor still holds while its actor sleeps (version 3 and later). */
export const HibernatingRequest = Schema.Struct({ gatewayId: GatewayId, requestId: RequestId })

/** Between engine parts (version 3 and later): is that runner's connection alive? */
export const ToRunnerPing = Schema.Struct({ gatewayId: GatewayId, requestId: RequestId, ts: Wire.i64 })
/** Its answer. */
export const ToGatewayPong = Schema.Struct({ requestId: RequestId, ts: Wire.i64 })
