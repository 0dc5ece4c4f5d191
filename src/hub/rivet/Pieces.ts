/** How the answer of a Rivet runner, which comes whole, is cut into what its gateway has credit for. */
import { compactBytes } from "../../tunnel/Compact.ts"
import { absurd, type ResponseFrame } from "../../tunnel/Frame.ts"

type Loaded = Extract<ResponseFrame, { readonly _tag: "ResponseStart" | "ResponseChunk" | "WebSocketMessage" }>

/** The frame as one with bytes that spend the gateway's credit; undefined where it is none of those. */
const loaded = (frame: ResponseFrame): Loaded | undefined => {
  switch (frame._tag) {
    case "ResponseStart":
    case "ResponseChunk":
    case "WebSocketMessage":
      return frame
    case "Informational":
    case "ResponseTrailers":
    case "ResponseAbort":
    case "WebSocketOpen":
    case "WebSocketMessageAck":
    case "WebSocketClose":
    case "Credit":
      return undefined
  }
  return absurd(frame)
}

const bytesOf = (frame: Loaded): Uint8Array => (frame._tag === "WebSocketMessage" ? frame.data : frame.body)

const withBytes = <Frame extends Loaded>(frame: Frame, bytes: Uint8Array): Frame =>
  frame._tag === "WebSocketMessage" ? { ...frame, data: bytes } : { ...frame, body: bytes }

/** A piece of a frame, and what follows it. */
export type Cut = readonly [piece: ResponseFrame, rest: ResponseFrame | undefined]

/** The first `bytes` of a frame, and what follows them; undefined where it has to wait for credit. */
export const cut = (frame: ResponseFrame, bytes: number): Cut | undefined => {
  const whole = loaded(frame)
  if (whole === undefined) return [frame, undefined]
  const all = bytesOf(whole)
  if (bytes === all.length) return [frame, undefined]
  const rest = all.subarray(bytes)
  const piece = withBytes(whole, all.subarray(0, bytes))
  // A head need not wait for the credit of its body.
  if (piece._tag === "ResponseStart") {
    return [
      { ...piece, streamed: true },
      { _tag: "ResponseChunk", body: rest, finish: !piece.streamed }
    ]
  }
  return bytes === 0 ? undefined : [{ ...piece, finish: false }, withBytes(whole, rest)]
}

/** The frame, fit to be kept for long. */
export const compact = (frame: ResponseFrame): ResponseFrame => {
  const whole = loaded(frame)
  if (whole === undefined) return frame
  const bytes = bytesOf(whole)
  const kept = compactBytes(bytes)
  return kept === bytes ? frame : withBytes(whole, kept)
}
