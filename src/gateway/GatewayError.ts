/**
 * Everything a visitor can be told has gone wrong: one stable code each, with its status, its WebSocket close code, and advice. `docs/errors.md` is
 * compared with it by a test. How an error looks is `ErrorPage.ts`; what it is called towards Rivet's clients is `RivetError.ts`, the only other
 * file that knows status codes of errors.
 */
import { type AbortCode, absurd } from "../tunnel/Frame.ts"

/** What a code means to whoever meets it. `retryAfterSeconds` is set where trying again later is the remedy. */
export interface ErrorEntry {
  readonly status: number
  readonly closeCode: number
  readonly title: string
  readonly message: string
  readonly retryAfterSeconds?: number
}

/**
 * The codes. Close codes: 1008 the request is not allowed as it is, 1009 it is too large, 1011 the app failed, 1013 try again later, 1014 the
 * way to the app broke. The close reason is the code itself.
 */
export const errors = {
  unknown_host: {
    status: 404,
    closeCode: 1008,
    title: "No app at this address",
    message: "This address names no app. Use NAME.DOMAIN, or the header x-wayleave-name."
  },
  no_runner: {
    status: 503,
    closeCode: 1013,
    title: "Nobody is at home",
    message: "No runner serves this name right now. It may be starting or reconnecting.",
    retryAfterSeconds: 2
  },
  actor_not_found: {
    status: 404,
    closeCode: 1008,
    title: "No such actor",
    message: "There is no actor with this id, or it was destroyed."
  },
  actor_not_ready: {
    status: 503,
    closeCode: 1013,
    title: "The actor did not start",
    message: "The actor could not be started in time. Its runner may be starting, or have no room.",
    retryAfterSeconds: 2
  },
  actor_stopped: {
    status: 503,
    closeCode: 1013,
    title: "The actor stopped",
    message: "The actor stopped before it had answered.",
    retryAfterSeconds: 1
  },
  pending_limit_reached: {
    status: 503,
    closeCode: 1011,
    title: "Too much is unconfirmed",
    message: "The app has not acknowledged what this WebSocket sent, and no more of it is kept."
  },
  not_acknowledged: {
    status: 504,
    closeCode: 1011,
    title: "The app does not confirm",
    message: "The app was woken for this WebSocket and has shown no sign of knowing it."
  },
  runner_lost: {
    status: 502,
    closeCode: 1014,
    title: "The app's connection was lost",
    message: "The connection to the app was lost before it had answered."
  },
  app_unreachable: {
    status: 502,
    closeCode: 1014,
    title: "The app is not answering",
    message: "The runner is connected, but could not reach the app behind it. Is the app running on the exposed port?"
  },
  overloaded: {
    status: 503,
    closeCode: 1013,
    title: "Too busy",
    message: "Too many requests are open at once. Try again shortly.",
    retryAfterSeconds: 1
  },
  response_start_timeout: {
    status: 504,
    closeCode: 1014,
    title: "The app took too long",
    message: "The app did not begin its answer in time."
  },
  response_aborted: {
    status: 502,
    closeCode: 1011,
    title: "The app broke off",
    message: "The app gave up on its answer."
  },
  bad_response: {
    status: 502,
    closeCode: 1011,
    title: "The app's answer is not valid",
    message: "The answer of the app breaks the rules of HTTP or of the tunnel, and was not passed on."
  },
  body_too_large: {
    status: 413,
    closeCode: 1009,
    title: "Too much data",
    message: "The request body is larger than this gateway, or the runner's protocol, accepts."
  },
  headers_too_large: {
    status: 431,
    closeCode: 1009,
    title: "Headers too large",
    message: "The request's target and headers are larger than this gateway accepts."
  },
  bad_request: {
    status: 400,
    closeCode: 1008,
    title: "The request is not valid",
    message: "The request breaks the rules of HTTP, or leaves open which app is meant."
  },
  unauthorized: {
    status: 401,
    closeCode: 1008,
    title: "Who are you?",
    message: "This address asks for credentials, and the request carries none that are valid."
  },
  forbidden: {
    status: 403,
    closeCode: 1008,
    title: "Not allowed",
    message: "The credentials are valid, but do not cover this address."
  },
  rate_limited: {
    status: 429,
    closeCode: 1013,
    title: "Too many requests",
    message: "More requests than allowed came from here. Try again shortly.",
    retryAfterSeconds: 1
  },
  draining: {
    status: 503,
    closeCode: 1013,
    title: "Restarting",
    message: "This gateway or runner is about to stop and takes nothing new. Try again shortly.",
    retryAfterSeconds: 1
  },
  upgrade_required: {
    status: 426,
    closeCode: 1008,
    title: "WebSocket only",
    message: "This address takes runners only: connect by WebSocket with the subprotocol wayleave.1."
  },
  internal_error: {
    status: 500,
    closeCode: 1011,
    title: "A fault in the gateway",
    message: "The gateway failed while handling the request. This is a bug in Wayleave."
  }
} as const satisfies Readonly<Record<string, ErrorEntry>>

/** A stable error code. */
export type GatewayErrorCode = keyof typeof errors

/** How a stream ended, for metrics and the access log: `ok`, an error, or `cancelled` where the visitor left. */
export type Outcome = "ok" | "cancelled" | GatewayErrorCode

/** The entry of a code, with its optional parts visible to the compiler. */
export const entryOf = (code: GatewayErrorCode): ErrorEntry => errors[code]

/** What an abort from hub or runner means to the visitor. */
export const fromAbortCode = (code: AbortCode): GatewayErrorCode => {
  switch (code) {
    case "cancelled":
    case "app_failed":
    case "overflow":
      return "response_aborted"
    case "deadline":
      return "response_start_timeout"
    case "protocol_error":
      return "bad_response"
    case "app_unreachable":
      return "app_unreachable"
    case "no_runner":
      return "no_runner"
    case "overloaded":
      return "overloaded"
    case "draining":
      return "draining"
    case "actor_not_found":
      return "actor_not_found"
    case "actor_not_ready":
      return "actor_not_ready"
    case "actor_stopped":
      return "actor_stopped"
    case "too_large":
      return "body_too_large"
    // The visitor cannot do anything about the difference, the operator sees it in logs and metrics.
    case "gap":
    case "session_lost":
    case "publish_failed":
    case "unknown_route":
      return "runner_lost"
  }
  return absurd(code)
}

/** Whether the runner surely never saw the request, so that asking once more can do no harm. */
export const neverSeen = (code: AbortCode): boolean => {
  switch (code) {
    case "no_runner":
    case "overloaded":
    case "draining":
      return true
    case "cancelled":
    case "deadline":
    case "protocol_error":
    case "overflow":
    case "gap":
    case "app_unreachable":
    case "app_failed":
    case "session_lost":
    case "publish_failed":
    case "unknown_route":
    // Asked for in vain already, for as long as may be.
    case "actor_not_found":
    case "actor_not_ready":
    case "actor_stopped":
    // As large the next time.
    case "too_large":
      return false
  }
  return absurd(code)
}
