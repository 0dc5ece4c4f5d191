/** The local app that a runner forwards to, and what of a visitor's or the app's head does not pass: whatever concerned one connection only (RFC 9110, 7.6.1). */
import type { HeaderList } from "../tunnel/Frame.ts"

/** Where the app listens. */
export interface Target {
  readonly protocol: "http:" | "https:"
  readonly host: string
  readonly port: number
  /** `visitor`, the default: the app sees the Host the visitor asked for. `local`: its own, for servers that insist on it. */
  readonly hostHeader?: "visitor" | "local" | undefined
  /** `false` takes any certificate, as for a development server that signs its own. */
  readonly verifyCertificate?: boolean | undefined
}

const hopByHop = new Set(["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"])

/** The list without what its sender meant for its own connection. */
export const withoutHopByHop = (headers: HeaderList): HeaderList => {
  const named = headers
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.split(",").map((token) => token.trim().toLowerCase()))
  return headers.filter(([name]) => {
    const lower = name.toLowerCase()
    return !hopByHop.has(lower) && !named.includes(lower)
  })
}

/** How the target is written in a Host header. */
export const authority = (target: Target): string => {
  const host = target.host.includes(":") ? `[${target.host}]` : target.host
  return target.port === (target.protocol === "https:" ? 443 : 80) ? host : `${host}:${target.port}`
}

/** A visitor's head as the app is to see it. */
export const localHeaders = (headers: HeaderList, target: Target): HeaderList => {
  const passed = withoutHopByHop(headers)
  if (target.hostHeader !== "local" && passed.some(([name]) => name.toLowerCase() === "host")) return passed
  return [["Host", authority(target)], ...passed.filter(([name]) => name.toLowerCase() !== "host")]
}
