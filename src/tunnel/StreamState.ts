/**
 * The life of one stream, HTTP or WebSocket, as one table: which frame may come in which state, and what follows.
 *
 * Gateway and runner hold the same state of the same stream and move it with every frame they send or take, so neither needs rules of its
 * own. Order on the wire is `Sequence.ts`'s concern, amounts are `Credit.ts`'s. Once Ended, everything is ignored: a second end changes nothing.
 */
import { absurd, type RequestFrame, type ResponseFrame } from "./Frame.ts"

/**
 * `Uploading`: the request body is under way, no head yet. `Awaiting`: the whole request was sent, no head yet. `Conversing`: both bodies are
 * under way. `Answering`: only the answer's. A WebSocket the app refuses with a body goes from `SocketOpening` to `Answering`; one that it
 * accepted as able to hibernate is `SocketLasting`, and `SocketAsleep` while nobody holds its other end. Its hub's `Credit` wakes it.
 */
export type StreamState =
  | "Idle"
  | "Uploading"
  | "Awaiting"
  | "Conversing"
  | "Answering"
  | "SocketOpening"
  | "SocketOpen"
  | "SocketLasting"
  | "SocketAsleep"
  | "Ended"

/** A request frame as far as the state of its stream depends on it. */
export type RequestEvent =
  | "request"
  | "requestStreamed"
  | "requestChunk"
  | "requestEnd"
  | "requestAbort"
  | "socketAsk"
  | "messageDown"
  | "closeDown"
  | "creditDown"

/** A response frame as far as the state of its stream depends on it. */
export type ResponseEvent =
  | "informational"
  | "response"
  | "responseStreamed"
  | "responseChunk"
  | "responseEnd"
  | "responseAbort"
  | "socketAccept"
  | "socketAcceptLasting"
  | "messageUp"
  | "messageAck"
  | "closeUp"
  | "sleepUp"
  | "creditUp"

/** What to do with the frame, and the state after it. A violation ends the stream: what follows it is ignored. */
export interface Step {
  readonly action: "deliver" | "ignore" | "violation"
  readonly state: StreamState
}

const violation: Step = { action: "violation", state: "Ended" }
const ended: Step = { action: "deliver", state: "Ended" }
const to = (state: StreamState): Step => ({ action: "deliver", state })
const ignored = (state: StreamState): Step => ({ action: "ignore", state })

const forbidden: Readonly<Record<RequestEvent | ResponseEvent, Step>> = {
  request: violation,
  requestStreamed: violation,
  requestChunk: violation,
  requestEnd: violation,
  requestAbort: violation,
  socketAsk: violation,
  messageDown: violation,
  closeDown: violation,
  creditDown: violation,
  informational: violation,
  response: violation,
  responseStreamed: violation,
  responseChunk: violation,
  responseEnd: violation,
  responseAbort: violation,
  socketAccept: violation,
  socketAcceptLasting: violation,
  messageUp: violation,
  messageAck: violation,
  closeUp: violation,
  sleepUp: violation,
  creditUp: violation
}

/** In every open state: either side may give up, and credit may come even where nobody needs it any more. */
const open = (state: StreamState): Readonly<Record<RequestEvent | ResponseEvent, Step>> => ({
  ...forbidden,
  requestAbort: ended,
  responseAbort: ended,
  creditDown: to(state),
  creditUp: to(state)
})

const over = (state: StreamState): Readonly<Record<RequestEvent | ResponseEvent, Step>> => {
  const row = { ...forbidden }
  for (const event of Object.keys(row) as Array<keyof typeof row>) row[event] = ignored(state)
  return row
}

/** The whole table. What a row does not name is a violation. */
export const table: Readonly<Record<StreamState, Readonly<Record<RequestEvent | ResponseEvent, Step>>>> = {
  Idle: {
    ...forbidden,
    request: to("Awaiting"),
    requestStreamed: to("Uploading"),
    socketAsk: to("SocketOpening"),
    // The opening was lost or refused on its way, and its sender has given up already: there is nothing to end.
    requestAbort: ignored("Idle"),
    closeDown: ignored("Idle"),
    creditDown: ignored("Idle")
  },
  Uploading: {
    ...open("Uploading"),
    requestChunk: to("Uploading"),
    requestEnd: to("Awaiting"),
    informational: to("Uploading"),
    response: ended,
    responseStreamed: to("Conversing")
  },
  Awaiting: {
    ...open("Awaiting"),
    informational: to("Awaiting"),
    response: ended,
    responseStreamed: to("Answering")
  },
  Conversing: {
    ...open("Conversing"),
    requestChunk: to("Conversing"),
    requestEnd: to("Answering"),
    responseChunk: to("Conversing"),
    // An answer that ends ends the stream, even with the upload under way: nobody reads the rest.
    responseEnd: ended
  },
  Answering: {
    ...open("Answering"),
    responseChunk: to("Answering"),
    responseEnd: ended,
    // A refused WebSocket: the visitor's close is on its way down while the refusal's body comes up.
    closeDown: ended
  },
  SocketOpening: {
    ...open("SocketOpening"),
    closeDown: ended,
    // A 1xx has no place in front of a 101, and does no harm.
    informational: ignored("SocketOpening"),
    socketAccept: to("SocketOpen"),
    socketAcceptLasting: to("SocketLasting"),
    response: ended,
    responseStreamed: to("Answering"),
    // An app that closes without having accepted refuses.
    closeUp: ended,
    sleepUp: ended
  },
  SocketOpen: {
    ...open("SocketOpen"),
    messageDown: to("SocketOpen"),
    closeDown: ended,
    messageUp: to("SocketOpen"),
    messageAck: to("SocketOpen"),
    closeUp: ended,
    // Never said to be able to hibernate: for its visitor this is an end like any other.
    sleepUp: ended
  },
  SocketLasting: {
    ...open("SocketLasting"),
    messageDown: to("SocketLasting"),
    closeDown: ended,
    messageUp: to("SocketLasting"),
    messageAck: to("SocketLasting"),
    closeUp: ended,
    sleepUp: to("SocketAsleep")
  },
  SocketAsleep: {
    ...forbidden,
    // Given up by its gateway: the hub is told, so that it need not keep a place for it.
    requestAbort: ended,
    closeDown: ended,
    creditDown: ignored("SocketAsleep"),
    // What was on its way from the attachment before.
    messageUp: ignored("SocketAsleep"),
    messageAck: ignored("SocketAsleep"),
    // Runner and hub may both say it.
    sleepUp: ignored("SocketAsleep"),
    closeUp: ended,
    // It could not be woken, this time.
    responseAbort: to("SocketAsleep"),
    creditUp: to("SocketLasting")
  },
  Ended: over("Ended")
}

/** The event a request frame is. */
export const requestEvent = (frame: RequestFrame): RequestEvent => {
  switch (frame._tag) {
    case "RequestStart":
      return frame.streamed ? "requestStreamed" : "request"
    case "RequestChunk":
      return frame.finish ? "requestEnd" : "requestChunk"
    case "RequestTrailers":
      return "requestEnd"
    case "RequestAbort":
      return "requestAbort"
    case "WebSocketOpen":
      return "socketAsk"
    case "WebSocketMessage":
      return "messageDown"
    case "WebSocketClose":
      return "closeDown"
    case "Credit":
      return "creditDown"
  }
  return absurd(frame)
}

/** The event a response frame is. */
export const responseEvent = (frame: ResponseFrame): ResponseEvent => {
  switch (frame._tag) {
    case "Informational":
      return "informational"
    case "ResponseStart":
      return frame.streamed ? "responseStreamed" : "response"
    case "ResponseChunk":
      return frame.finish ? "responseEnd" : "responseChunk"
    case "ResponseTrailers":
      return "responseEnd"
    case "ResponseAbort":
      return "responseAbort"
    case "WebSocketOpen":
      return frame.canHibernate ? "socketAcceptLasting" : "socketAccept"
    case "WebSocketMessage":
      return "messageUp"
    case "WebSocketMessageAck":
      return "messageAck"
    case "WebSocketClose":
      return frame.hibernate ? "sleepUp" : "closeUp"
    case "Credit":
      return "creditUp"
  }
  return absurd(frame)
}

/** What the table says. Allocates nothing. */
export const transition = (state: StreamState, event: RequestEvent | ResponseEvent): Step => table[state][event]

/** The step for a frame going down, sent or received. */
export const onRequestFrame = (state: StreamState, frame: RequestFrame): Step => table[state][requestEvent(frame)]

/** The step for a frame coming up, sent or received. */
export const onResponseFrame = (state: StreamState, frame: ResponseFrame): Step => table[state][responseEvent(frame)]
