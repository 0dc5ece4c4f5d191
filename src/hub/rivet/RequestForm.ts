/** What has to be otherwise about a request so that the published client can make one of its own from it. */
import type { RequestFrame } from "../../tunnel/Frame.ts"

/** A frame that opens a stream. */
export type Opening = Extract<RequestFrame, { readonly _tag: "RequestStart" | "WebSocketOpen" }>
type Request = Extract<Opening, { readonly _tag: "RequestStart" }>

/** With a body on GET or HEAD it fails; of no use to an app, that is left out with its length. */
const withoutNeedlessBody = (request: Request): Request => {
  if (request.body.length === 0 || (request.method !== "GET" && request.method !== "HEAD")) return request
  const headers = request.headers.filter(([name]) => name.toLowerCase() !== "content-length")
  return { ...request, headers, body: request.body.subarray(0, 0) }
}

/** It puts `http://localhost` in front of the target, which therefore has to be a path. */
export const fitForClient = (opening: Opening): Opening => {
  const target = opening.target.startsWith("/") ? opening.target : "/"
  return opening._tag === "RequestStart" ? withoutNeedlessBody({ ...opening, target }) : { ...opening, target }
}
