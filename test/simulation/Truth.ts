/** The truth tables of beginnings and ends, and what hubs say in their own name, written down once more: the code under test has its own. */
import type { Uplink } from "../../src/tunnel/Envelope.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"

/** Which frames open a stream. */
export const opens: { readonly [Tag in RequestFrame["_tag"]]: boolean } = {
  RequestStart: true,
  RequestChunk: false,
  RequestTrailers: false,
  RequestAbort: false,
  WebSocketOpen: true,
  WebSocketMessage: false,
  WebSocketClose: false,
  Credit: false
}
/** The last frame of an answer. */
export const ends = (frame: ResponseFrame): boolean =>
  frame._tag === "ResponseAbort" ||
  frame._tag === "ResponseTrailers" ||
  frame._tag === "WebSocketClose" ||
  (frame._tag === "ResponseChunk" && frame.finish) ||
  (frame._tag === "ResponseStart" && !frame.streamed)

/** What hubs say in their own name once nobody holds the route any more. */
const ownWords = new Set([
  "the runner left before it saw the request",
  "the runner went away and did not come back",
  "the runner's queue is full",
  "the request cannot be encoded for its runner",
  "the hub could not say that it took the request"
])
/** Said of a stream that its session did not go on with. */
export const declined = "the runner went on without this stream"
/** Whether a hub says it in its own name. */
export const ownWord = ({ frame }: Uplink) => frame._tag === "ResponseAbort" && ownWords.has(frame.message)
