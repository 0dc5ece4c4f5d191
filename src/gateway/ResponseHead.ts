/**
 * What a runner may put into a response head, and what makes it a 502. The judgement is made before a byte reaches the visitor, so that an app
 * cannot smuggle a second answer into the visitor's connection.
 */
import type { HeaderList } from "../tunnel/Frame.ts"
import { endToEnd } from "./ForwardedHeaders.ts"

/** A head fit for the visitor. `bodyBytes` is what content-length promises of the body that will follow, undefined where nothing does. */
export interface GoodHead {
  readonly _tag: "Good"
  readonly status: number
  readonly headers: HeaderList
  readonly hasBody: boolean
  readonly bodyBytes: number | undefined
}

/** A head that is not passed on, and why: for the log and the inspector, never for the visitor. */
export interface BadHead {
  readonly _tag: "Bad"
  readonly reason: string
}

const nameForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
// RFC 9110, 5.5, with obs-text: nothing that could end the line, and nothing a byte cannot hold.
const valueForm = /^[\t\x20-\x7e\x80-\xff]*$/

/** Whether every name and value may stand in an HTTP/1.1 header section. */
export const validHeaders = (headers: HeaderList): boolean => {
  for (const [name, value] of headers) if (!nameForm.test(name) || !valueForm.test(value)) return false
  return true
}

const bad = (reason: string): BadHead => ({ _tag: "Bad", reason })

/** The length all content-length fields agree on; undefined where there is none, NaN where they do not. */
const contentLength = (headers: HeaderList): number | undefined => {
  let length: number | undefined
  for (const [name, value] of headers) {
    if (name.length !== 14 || name.toLowerCase() !== "content-length") continue
    for (const one of value.split(",")) {
      const text = one.trim()
      const bytes = /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN
      if (Number.isNaN(bytes) || (length !== undefined && length !== bytes)) return Number.NaN
      length = bytes
    }
  }
  return length
}

const withoutLength = (headers: HeaderList): Array<readonly [string, string]> =>
  headers.filter(([name]) => name.toLowerCase() !== "content-length")

/**
 * Judges a head. `wholeBytes` is the length of the body where all of it came with the head: it becomes the content-length if the app gave none.
 */
export const judgeHead = (
  method: string,
  status: number,
  given: HeaderList,
  wholeBytes: number | undefined
): GoodHead | BadHead => {
  if (status < 200 || status > 599) return bad(`status ${status}`)
  if (!validHeaders(given)) return bad("a header name or value that HTTP does not allow")
  const length = contentLength(given)
  if (length !== undefined && Number.isNaN(length)) return bad("conflicting or unreadable content-length")
  const headers = endToEnd(given)
  if (status === 204) return { _tag: "Good", status, headers: withoutLength(headers), hasBody: false, bodyBytes: 0 }
  if (method === "HEAD" || status === 304) return { _tag: "Good", status, headers, hasBody: false, bodyBytes: 0 }
  if (length !== undefined) {
    // One field, whatever the app wrote: two equal ones are allowed to it, and trouble for many a visitor.
    const rest = withoutLength(headers)
    const single = headers.length === rest.length + 1 && given.some(([, value]) => value === String(length))
    if (!single) rest.push(["content-length", String(length)])
    return { _tag: "Good", status, headers: single ? headers : rest, hasBody: true, bodyBytes: length }
  }
  if (wholeBytes !== undefined) headers.push(["content-length", String(wholeBytes)])
  return { _tag: "Good", status, headers, hasBody: true, bodyBytes: wholeBytes }
}

// Fields that frame, route or authenticate have no meaning after the body (RFC 9110, 6.5.1).
const notInTrailers = new Set([
  "content-length",
  "transfer-encoding",
  "host",
  "trailer",
  "content-encoding",
  "content-type",
  "content-range",
  "authorization",
  "set-cookie",
  "cache-control",
  "expect",
  "max-forwards",
  "te",
  "connection"
])

/** A trailer section fit for either side: what may not stand there is left out. */
export const judgeTrailers = (trailers: HeaderList): HeaderList =>
  trailers.length === 0 || !validHeaders(trailers)
    ? []
    : endToEnd(trailers).filter(([name]) => !notInTrailers.has(name.toLowerCase()))
