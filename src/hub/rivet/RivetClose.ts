/**
 * How a hub closes a Rivet runner's connection: a code, and a reason of the form `group.code#ray`, of which the published client reads the first two
 * parts. Only `ws.eviction` keeps it from coming back, for good: it is said to a connection that a newer one of the same runner replaced, and never otherwise.
 */
import type { CloseReason } from "../../protocol/Wayleave1.ts"

/** Rivet's own words for why a connection ended. */
export type RivetReason =
  | "ws.invalid_url"
  | "namespace.not_found"
  | "ws.timed_out_waiting_for_init"
  | "ws.connection_closed"
  | "ws.invalid_initial_packet"
  | "ws.invalid_packet"
  | "ws.eviction"
  | "ws.going_away"
  | "core.internal_error"
  | "guard.missing_header"
  | "guard.rate_limit"
  | "guard.service_unavailable"
  | "api.forbidden"

/** Our reason in Rivet's words. */
export const reasonOf = {
  protocol_error: "ws.invalid_packet",
  unauthorized: "guard.missing_header",
  forbidden: "api.forbidden",
  heartbeat_timeout: "core.internal_error",
  fenced: "ws.eviction",
  hello_timeout: "ws.timed_out_waiting_for_init",
  unsupported_version: "ws.invalid_packet",
  abuse: "ws.invalid_packet",
  bad_name: "ws.invalid_initial_packet",
  overloaded: "guard.rate_limit",
  draining: "ws.going_away"
} as const satisfies Readonly<Record<CloseReason, RivetReason>>

/** 1000 for what is in order, 1011 for everything else. */
export const codeOf = (reason: RivetReason): number =>
  reason === "ws.eviction" || reason === "ws.connection_closed" ? 1000 : 1011
