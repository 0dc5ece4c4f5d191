/**
 * The two unions everything inside Wayleave speaks: what goes down to a runner, and what comes back. This is their only definition; the
 * codec of `wayleave.1` is compiled from it, and Rivet's dialects convert to and from it.
 *
 * Whoever decides by frame does so in a `switch` closed by `absurd`, so a new variant stops the build wherever a decision is due.
 * Next: `Envelope.ts`, how a frame travels; `StreamState.ts`, which frame may follow which.
 */
import { Schema } from "effect"
import * as Wire from "./Wire.ts"

/** A header or trailer section: pairs in the order they came. Duplicates stay apart, so `set-cookie` never collapses. */
export const HeaderList = Wire.list(Schema.Tuple([Wire.str, Wire.str]))
export type HeaderList = typeof HeaderList.Type

/** Why a stream ended before its time. Travels in aborts and resets; only the gateway turns one into a status. */
export const AbortCode = Wire.enumeration({
  /** The visitor left, or the app gave up on its own answer. */
  cancelled: 0,
  /** A deadline passed. */
  deadline: 1,
  /** The peer broke the rules of the stream. */
  protocol_error: 2,
  /** More was sent than credit allowed, or more than a buffer may hold. */
  overflow: 3,
  /** A frame of the stream went missing on the way. */
  gap: 4,
  /** The runner could not reach the local app. */
  app_unreachable: 5,
  /** The app failed while answering. */
  app_failed: 6,
  /** Nobody serves that name. The request reached no runner. */
  no_runner: 7,
  /** The runner's session ended with the stream open. */
  session_lost: 8,
  /** A table or queue was full. The request reached no runner. */
  overloaded: 9,
  /** The runner or hub takes nothing new. The request reached no runner. */
  draining: 10,
  /** The hub could not hand frames to the bus. */
  publish_failed: 11,
  /** No route is open for the stream at the hub. */
  unknown_route: 12,
  /** There is no such actor. The request reached no runner. */
  actor_not_found: 13,
  /** The actor could not be started in time. The request reached no runner. */
  actor_not_ready: 14,
  /** The actor stopped with the stream open. */
  actor_stopped: 15,
  /** The request's body, or a message, is larger than the runner's wire carries. It reached no runner. */
  too_large: 16
})
export type AbortCode = typeof AbortCode.Type

/** Opens an HTTP exchange. `body` holds what was at hand; more follows as `RequestChunk` when `streamed`. `target` is RFC 9112's origin-form. */
export const RequestStart = Wire.tagged(0, "RequestStart", {
  method: Wire.str,
  target: Wire.str,
  headers: HeaderList,
  body: Wire.data,
  streamed: Wire.bool
})
/** A piece of the request body; the last one says `finish`, unless trailers do. */
export const RequestChunk = Wire.tagged(1, "RequestChunk", { body: Wire.data, finish: Wire.bool })
/** Ends the request body with a trailer section. */
export const RequestTrailers = Wire.tagged(2, "RequestTrailers", { headers: HeaderList })
/** The visitor, or a deadline, ended the exchange. Overtakes data. */
export const RequestAbort = Wire.tagged(3, "RequestAbort", { code: AbortCode })
/** Asks the app for a WebSocket. Answered by `WebSocketOpen`, or refused by an ordinary `ResponseStart`. */
export const WebSocketOpenRequest = Wire.tagged(4, "WebSocketOpen", { target: Wire.str, headers: HeaderList })
// A WebSocket message or a fragment of it; the last fragment says `finish`. The same in either direction.
const webSocketMessage = { data: Wire.data, binary: Wire.bool, finish: Wire.bool } as const
/** A message, or a fragment of one, from the visitor. */
export const WebSocketMessageDown = Wire.tagged(5, "WebSocketMessage", webSocketMessage)
/** The visitor closed. `code` is null where none was given, and 1006 (RFC 6455, 7.4.1) where its socket broke. */
export const WebSocketCloseDown = Wire.tagged(6, "WebSocketClose", {
  code: Wire.optional(Wire.u16),
  reason: Wire.str
})
/** Bytes the receiver will take beyond what it granted before. Either direction; overtakes data. */
export const Credit = Wire.tagged(7, "Credit", { bytes: Wire.u32 })

/** Downlink: gateway to runner. */
export const RequestFrame = Schema.Union([
  RequestStart,
  RequestChunk,
  RequestTrailers,
  RequestAbort,
  WebSocketOpenRequest,
  WebSocketMessageDown,
  WebSocketCloseDown,
  Credit
])
export type RequestFrame = typeof RequestFrame.Type

/** A 1xx response other than 101. */
export const Informational = Wire.tagged(0, "Informational", { status: Wire.u16, headers: HeaderList })
/** The head of the answer. `body` holds what was at hand; more follows as `ResponseChunk` when `streamed`. */
export const ResponseStart = Wire.tagged(1, "ResponseStart", {
  status: Wire.u16,
  headers: HeaderList,
  body: Wire.data,
  streamed: Wire.bool
})
/** A piece of the response body; the last one says `finish`, unless trailers do. */
export const ResponseChunk = Wire.tagged(2, "ResponseChunk", { body: Wire.data, finish: Wire.bool })
/** Ends the response with a trailer section. */
export const ResponseTrailers = Wire.tagged(3, "ResponseTrailers", { headers: HeaderList })
/** The answer will not come, or not completely. Stays in line behind the data sent before it. */
export const ResponseAbort = Wire.tagged(4, "ResponseAbort", { code: AbortCode, message: Wire.str })
/** The app accepted the WebSocket. `headers` go into the 101, the chosen subprotocol among them. */
export const WebSocketAccept = Wire.tagged(5, "WebSocketOpen", { headers: HeaderList, canHibernate: Wire.bool })
/** A message, or a fragment of one, from the app. */
export const WebSocketMessageUp = Wire.tagged(6, "WebSocketMessage", webSocketMessage)
/** The app has dealt with messages up to `index` (hibernating WebSockets). */
export const WebSocketMessageAck = Wire.tagged(7, "WebSocketMessageAck", { index: Wire.u16 })
/** The app closed. With `hibernate` the visitor's socket is to stay until the app wakes. */
export const WebSocketCloseUp = Wire.tagged(8, "WebSocketClose", {
  code: Wire.optional(Wire.u16),
  reason: Wire.str,
  hibernate: Wire.bool
})
/** The same as `Credit`, from the runner: what the app will still take. */
export const CreditUp = Wire.tagged(9, "Credit", { bytes: Wire.u32 })

/** Uplink: runner to gateway. */
export const ResponseFrame = Schema.Union([
  Informational,
  ResponseStart,
  ResponseChunk,
  ResponseTrailers,
  ResponseAbort,
  WebSocketAccept,
  WebSocketMessageUp,
  WebSocketMessageAck,
  WebSocketCloseUp,
  CreditUp
])
export type ResponseFrame = typeof ResponseFrame.Type

/** The frame whose variants the types above do not know: unreachable, and a compile error where a variant was forgotten. */
export const absurd = (value: never): never => {
  throw new Error(`unreachable: ${String(value)}`)
}

/** Whether writing this frame to a runner issues a route. Nothing else does, above all no close or abort. */
export const opensRoute = (frame: RequestFrame): boolean => {
  switch (frame._tag) {
    case "RequestStart":
    case "WebSocketOpen":
      return true
    case "RequestChunk":
    case "RequestTrailers":
    case "RequestAbort":
    case "WebSocketMessage":
    case "WebSocketClose":
    case "Credit":
      return false
  }
  return absurd(frame)
}

/** Whether this request frame is the gateway's last word: afterwards the route is HalfClosed and only a polite echo may come. */
export const halfCloses = (frame: RequestFrame): boolean => {
  switch (frame._tag) {
    case "RequestAbort":
    case "WebSocketClose":
      return true
    case "RequestStart":
    case "RequestChunk":
    case "RequestTrailers":
    case "WebSocketOpen":
    case "WebSocketMessage":
    case "Credit":
      return false
  }
  return absurd(frame)
}

/** Whether this frame ends the answer, and with it the route, once it was published. */
export const isTerminal = (frame: ResponseFrame): boolean => {
  switch (frame._tag) {
    case "ResponseStart":
      return !frame.streamed
    case "ResponseChunk":
      return frame.finish
    case "ResponseTrailers":
    case "ResponseAbort":
    case "WebSocketClose":
      return true
    case "Informational":
    case "WebSocketOpen":
    case "WebSocketMessage":
    case "WebSocketMessageAck":
    case "Credit":
      return false
  }
  return absurd(frame)
}

/** Bytes of this frame that spend credit. Heads and control are free: they are bounded by other limits. */
export const bodyBytes = (frame: RequestFrame | ResponseFrame): number => {
  switch (frame._tag) {
    case "RequestChunk":
    case "ResponseChunk":
      return frame.body.length
    case "WebSocketMessage":
      return frame.data.length
    case "ResponseStart":
      return frame.body.length
    // The body inside RequestStart is free: it leaves before any credit can have come, and Limits bounds it.
    case "RequestStart":
    case "RequestTrailers":
    case "RequestAbort":
    case "WebSocketOpen":
    case "WebSocketClose":
    case "Credit":
    case "Informational":
    case "ResponseTrailers":
    case "ResponseAbort":
    case "WebSocketMessageAck":
      return 0
  }
  return absurd(frame)
}

const frameOverheadBytes = 24

const headerBytes = (headers: HeaderList): number => {
  let bytes = 0
  for (const [name, value] of headers) bytes += name.length + value.length + 4
  return bytes
}

/** Roughly what a frame weighs in a queue or a message, head and body: for filling messages and bounding queues, not for credit. */
export const weightBytes = (frame: RequestFrame | ResponseFrame): number => {
  switch (frame._tag) {
    case "RequestStart":
      return frameOverheadBytes + frame.target.length + headerBytes(frame.headers) + frame.body.length
    case "ResponseStart":
      return frameOverheadBytes + headerBytes(frame.headers) + frame.body.length
    case "RequestChunk":
    case "ResponseChunk":
      return frameOverheadBytes + frame.body.length
    case "WebSocketMessage":
      return frameOverheadBytes + frame.data.length
    case "WebSocketOpen":
    case "Informational":
    case "RequestTrailers":
    case "ResponseTrailers":
      return frameOverheadBytes + headerBytes(frame.headers)
    case "RequestAbort":
    case "ResponseAbort":
    case "WebSocketMessageAck":
    case "WebSocketClose":
    case "Credit":
      return frameOverheadBytes
  }
  return absurd(frame)
}

/** Whether a frame has a place in its stream's order, and so spends an index. Aborts and credit do not: whoever speaks for a lost peer cannot know the next index. */
export const isSequenced = (frame: RequestFrame | ResponseFrame): boolean => {
  switch (frame._tag) {
    case "Credit":
    case "RequestAbort":
    case "ResponseAbort":
      return false
    case "RequestStart":
    case "RequestChunk":
    case "RequestTrailers":
    case "WebSocketOpen":
    case "WebSocketMessage":
    case "WebSocketClose":
    case "Informational":
    case "ResponseStart":
    case "ResponseChunk":
    case "ResponseTrailers":
    case "WebSocketMessageAck":
      return true
  }
  return absurd(frame)
}

/** Whether a frame may overtake data on its way. A ResponseAbort stays in line: what the app sent before it failed still reaches the visitor. */
export const overtakes = (frame: RequestFrame | ResponseFrame): boolean => {
  switch (frame._tag) {
    case "Credit":
    case "RequestAbort":
      return true
    case "ResponseAbort":
    case "RequestStart":
    case "RequestChunk":
    case "RequestTrailers":
    case "WebSocketOpen":
    case "WebSocketMessage":
    case "WebSocketClose":
    case "Informational":
    case "ResponseStart":
    case "ResponseChunk":
    case "ResponseTrailers":
    case "WebSocketMessageAck":
      return false
  }
  return absurd(frame)
}
