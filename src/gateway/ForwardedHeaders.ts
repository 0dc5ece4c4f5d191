/**
 * The headers that change on the way. Hop-by-hop ones go off in both directions (RFC 9110, 7.6.1); what the request says about its own origin
 * is kept as far as the proxy before us is trusted, and replaced otherwise. All others keep their order, spelling and duplicates.
 */
import type { HeaderList } from "../tunnel/Frame.ts"
import { nameHeader } from "./RunnerName.ts"
import type { VisitorHead } from "./Visitor.ts"

const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "transfer-encoding",
  "upgrade"
])

// An app needs these whatever Connection claims; taking them off would change where the request goes, or how long it is.
const neverNamed = new Set(["host", "content-length"])

/** The header names that Connection declares to be for this hop only, in lower case. */
const connectionOptions = (headers: HeaderList): ReadonlySet<string> | undefined => {
  let names: Set<string> | undefined
  for (const [name, value] of headers) {
    if (name.length !== 10 || name.toLowerCase() !== "connection") continue
    for (const option of value.split(",")) {
      const named = option.trim().toLowerCase()
      if (named === "" || named === "close" || named === "keep-alive" || neverNamed.has(named)) continue
      names ??= new Set()
      names.add(named)
    }
  }
  return names
}

/** Calls `keep` with each end-to-end header, and its name in lower case. */
const eachEndToEnd = (headers: HeaderList, keep: (lower: string, pair: readonly [string, string]) => void): void => {
  const named = connectionOptions(headers)
  for (const pair of headers) {
    const lower = pair[0].toLowerCase()
    if (hopByHop.has(lower) || named?.has(lower)) continue
    keep(lower, pair)
  }
}

/** A header list without what was meant for this hop only: for response heads, 1xx, trailers and WebSocket answers. */
export const endToEnd = (headers: HeaderList): Array<readonly [string, string]> => {
  const kept: Array<readonly [string, string]> = []
  eachEndToEnd(headers, (_, pair) => kept.push(pair))
  return kept
}

/** Whether TE asks for trailers: the one part of it that is worth passing on. */
const wantsTrailers = (headers: HeaderList): boolean =>
  headers.some(
    ([name, value]) =>
      name.length === 2 &&
      name.toLowerCase() === "te" &&
      value.split(",").some((coding) => coding.trim().toLowerCase() === "trailers")
  )

// The runner's own handshake with the app makes these anew.
const handshake = new Set([
  "sec-websocket-key",
  "sec-websocket-version",
  "sec-websocket-extensions",
  "sec-websocket-accept"
])

const quoted = (text: string): string => (/^[\w.-]+$/.test(text) ? text : `"${text.replace(/[\\"]/g, "\\$&")}"`)

/** An address as `Forwarded` writes it (RFC 7239, 6): IPv6 in brackets and quotes. */
const forwardedNode = (address: string): string => (address.includes(":") ? `"[${address}]"` : quoted(address))

const plainAddress = (address: string): string => (address.startsWith("::ffff:") ? address.slice(7) : address)

interface Claims {
  readonly for: Array<string>
  readonly forwarded: Array<string>
  host: string | undefined
  proto: string | undefined
}

/** Notes what a header claims about the request's origin; `true` where it was one of those headers and must not be copied. */
const claimed = (lower: string, value: string, claims: Claims, trusted: boolean): boolean => {
  if (lower === "x-forwarded-for") claims.for.push(value)
  else if (lower === "x-forwarded-host") claims.host ??= value
  else if (lower === "x-forwarded-proto") claims.proto ??= value
  else if (lower === "forwarded") claims.forwarded.push(value)
  // Relatives of these that some apps believe as well: kept from a proxy we trust, otherwise nobody vouches for them.
  else return !trusted && (lower === "x-real-ip" || lower.startsWith("x-forwarded-"))
  return true
}

/** The headers an app receives. `host` is the one the visitor asked for, also where it came in the target. */
export const forwardedHeaders = (head: VisitorHead, host: string, trusted: boolean): HeaderList => {
  const headers: Array<readonly [string, string]> = []
  const claims: Claims = { for: [], forwarded: [], host: undefined, proto: undefined }
  eachEndToEnd(head.headers, (lower, pair) => {
    if (claimed(lower, pair[1], claims, trusted)) return
    if (lower === "expect" || lower === nameHeader || handshake.has(lower)) return
    headers.push(lower === "host" && pair[1] !== host ? [pair[0], host] : pair)
  })
  if (wantsTrailers(head.headers)) headers.push(["te", "trailers"])
  const address = plainAddress(head.remoteAddress)
  const proto = head.encrypted ? "https" : "http"
  const element = `for=${forwardedNode(address)};host=${quoted(host)};proto=${proto}`
  headers.push(
    ["x-forwarded-for", trusted ? [...claims.for, address].join(", ") : address],
    ["x-forwarded-host", (trusted ? claims.host : undefined) ?? host],
    ["x-forwarded-proto", (trusted ? claims.proto : undefined) ?? proto],
    ["forwarded", trusted ? [...claims.forwarded, element].join(", ") : element]
  )
  return headers
}

/** The headers of an app's WebSocket answer, split from the subprotocol it chose. */
export const acceptHeaders = (headers: HeaderList): { readonly headers: HeaderList; readonly protocol: string } => {
  const kept: Array<readonly [string, string]> = []
  let protocol = ""
  eachEndToEnd(headers, (lower, pair) => {
    if (lower === "sec-websocket-protocol") protocol = pair[1].trim()
    else if (!handshake.has(lower) && lower !== "content-length") kept.push(pair)
  })
  return { headers: kept, protocol }
}
