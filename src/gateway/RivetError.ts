/**
 * What an error is called towards Rivet's clients, who ask in Rivet's forms (`ActorAddress.ts`): `group.code` with a status each. Shape and names are
 * Rivet's; its status too, but where that blames the visitor for what the server did, or invites a repetition of what may have run.
 *
 * `docs/errors.md` is compared with this table by a test. How such an answer looks is `RivetForm.ts`.
 */
import type { ActorError } from "../actor/ActorControl.ts"
import { absurd } from "../tunnel/Frame.ts"
import type { GatewayErrorCode } from "./GatewayError.ts"

interface Entry {
  readonly status: number
  readonly message: string
}

/** Every error a client that asks in Rivet's forms can meet. */
export const rivetErrors = {
  "actor.not_found": { status: 404, message: "The actor does not exist or was destroyed." },
  "actor.destroyed_while_waiting_for_ready": { status: 404, message: "The actor was destroyed before it was ready." },
  "actor.duplicate_key": { status: 400, message: "An actor with this name and key exists." },
  "actor.invalid_request": { status: 400, message: "No actor can be made of this request." },
  "api.unauthorized": { status: 401, message: "The request carries no valid credentials." },
  "api.forbidden": { status: 403, message: "The credentials do not cover this." },
  "core.internal_error": { status: 500, message: "The gateway failed while handling the request." },
  "guard.actor_ready_timeout": { status: 503, message: "The actor did not become ready in time." },
  "guard.actor_wake_retries_exceeded": { status: 503, message: "The actor stopped again each time it was woken." },
  "guard.actor_stopped_while_waiting": { status: 503, message: "The actor stopped before it had answered." },
  "guard.actor_stopped_while_waiting_for_websocket_open": {
    status: 503,
    message: "The actor stopped before it had accepted the WebSocket."
  },
  "guard.overloaded": { status: 503, message: "More actors wait or exist than may." },
  "guard.service_unavailable": { status: 503, message: "Nobody can take the request now." },
  "guard.gateway_response_start_timeout": { status: 504, message: "The actor did not begin its answer in time." },
  "guard.tunnel_request_aborted": { status: 502, message: "The actor gave up on its answer." },
  "guard.upstream_error": { status: 502, message: "The connection to the actor was lost." },
  "guard.invalid_response_body": { status: 502, message: "The actor's answer is not valid." },
  "guard.invalid_request_body": { status: 413, message: "The request body is too large." },
  "guard.rate_limit": { status: 429, message: "Too many requests." },
  "guard.no_route": { status: 404, message: "Nothing is at this address." },
  "guard.missing_header": { status: 400, message: "A header, or an item of a WebSocket's subprotocols, is missing." },
  "guard.invalid_header": { status: 400, message: "A header, or an item of a WebSocket's subprotocols, is not valid." },
  "guard.headers_too_large": { status: 431, message: "The request's target and headers are too large." },
  "guard.query_path_token_syntax": { status: 400, message: "With rvt- parameters the token goes into rvt-token." },
  "guard.query_empty_actor_name": { status: 400, message: "The name of the actor is empty." },
  "guard.query_invalid_percent_encoding": { status: 400, message: "A name or parameter is no UTF-8 once decoded." },
  "guard.query_duplicate_param": { status: 400, message: "A parameter is given twice." },
  "guard.query_invalid_params": {
    status: 400,
    message: "A parameter is missing, unknown, or has a value it cannot have."
  },
  "guard.query_get_disallowed_params": {
    status: 400,
    message: "The method get takes no input, region, pool or crash policy."
  },
  "guard.query_missing_pool": { status: 400, message: "The method getOrCreate needs rvt-pool." },
  "guard.query_invalid_base64_input": { status: 400, message: "rvt-input is not base64url without padding." },
  "guard.query_invalid_cbor_input": { status: 400, message: "rvt-input does not hold one CBOR item." },
  "guard.websocket_open_timeout": { status: 504, message: "The actor did not accept the WebSocket in time." },
  "guard.websocket_tunnel_ping_timeout": { status: 502, message: "The connection to the actor was lost." },
  "guard.websocket_pending_limit_reached": {
    status: 503,
    message: "The actor has not acknowledged the messages of this WebSocket, and no more are kept."
  },
  "guard.websocket_garbage_collected": {
    status: 504,
    message: "The actor was woken for this WebSocket and has shown no sign of knowing it."
  },
  "namespace.not_found": { status: 400, message: "There is no such namespace." },
  "pegboard.route_resolve_query_timeout": { status: 504, message: "Finding the actor took too long." }
} as const satisfies Readonly<Record<string, Entry>>

/** `group.code`. */
export type RivetErrorCode = keyof typeof rivetErrors

/** What a visitor is refused with at the door: our code, and where the request is in Rivet's form and says more, Rivet's with its facts. */
export interface Refusal {
  readonly code: GatewayErrorCode
  readonly rivet?: RivetErrorCode
  readonly metadata?: Readonly<Record<string, string>>
}

/** What Rivet calls it. A WebSocket has codes of its own for some. */
export const fromGatewayError = (code: GatewayErrorCode, kind: "http" | "websocket"): RivetErrorCode => {
  const socket = kind === "websocket"
  switch (code) {
    case "unknown_host":
      return "guard.no_route"
    case "actor_not_found":
      return "actor.not_found"
    case "actor_not_ready":
      return "guard.actor_ready_timeout"
    case "actor_stopped":
      return socket ? "guard.actor_stopped_while_waiting_for_websocket_open" : "guard.actor_stopped_while_waiting"
    case "pending_limit_reached":
      return "guard.websocket_pending_limit_reached"
    case "not_acknowledged":
      return "guard.websocket_garbage_collected"
    case "runner_lost":
      return socket ? "guard.websocket_tunnel_ping_timeout" : "guard.upstream_error"
    case "app_unreachable":
      return "guard.upstream_error"
    case "no_runner":
    case "overloaded":
    case "draining":
      return "guard.service_unavailable"
    case "response_start_timeout":
      return socket ? "guard.websocket_open_timeout" : "guard.gateway_response_start_timeout"
    case "response_aborted":
      return "guard.tunnel_request_aborted"
    case "bad_response":
      return "guard.invalid_response_body"
    case "body_too_large":
      return "guard.invalid_request_body"
    case "headers_too_large":
      return "guard.headers_too_large"
    case "bad_request":
    case "upgrade_required":
      return "guard.invalid_header"
    case "unauthorized":
      return "api.unauthorized"
    case "forbidden":
      return "api.forbidden"
    case "rate_limited":
      return "guard.rate_limit"
    case "internal_error":
      return "core.internal_error"
  }
  return absurd(code)
}

/** What is refused because an actor cannot be had: its reasons are Rivet's codes already. */
export const fromActorError = ({ reason }: ActorError): Refusal => {
  switch (reason) {
    case "actor.not_found":
    case "actor.destroyed_while_waiting_for_ready":
      return { code: "actor_not_found", rivet: reason }
    case "actor.duplicate_key":
    case "actor.invalid_request":
      return { code: "bad_request", rivet: reason }
    case "guard.actor_ready_timeout":
    case "guard.actor_wake_retries_exceeded":
      return { code: "actor_not_ready", rivet: reason }
    case "guard.overloaded":
      return { code: "overloaded", rivet: reason }
  }
  return absurd(reason)
}
