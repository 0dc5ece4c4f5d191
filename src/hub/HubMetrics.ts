/** What a hub counts. Names and meanings stand in `docs/metrics.md`, which a test compares with this file. */
import { type Context, Metric } from "effect"
import type { CloseReason } from "../protocol/Wayleave1.ts"
import type { RouteCounts } from "../route/RouteTable.ts"

/** Runner sessions, those in their grace period among them. */
export const sessions = Metric.gauge("wayleave_hub_sessions", {
  description: "Runner sessions, those in their grace period among them"
})
/** Streams given to runners and not yet ended. */
export const openStreams = Metric.gauge("wayleave_hub_open_streams", {
  description: "Streams given to runners and not yet ended"
})
/** Routes by state. */
export const routes = Metric.gauge("wayleave_hub_routes", { description: "Routes by state" })
/** The same gauge, by state. */
export const routesBy = {
  Open: Metric.withAttributes(routes, { state: "open" }),
  Closing: Metric.withAttributes(routes, { state: "closing" }),
  HalfClosed: Metric.withAttributes(routes, { state: "half_closed" }),
  Closed: Metric.withAttributes(routes, { state: "closed" })
} as const
const heldBytes = Metric.gauge("wayleave_hub_rivet_held_bytes", {
  description: "Bytes held for Rivet's runners: requests that are not whole, and answers that visitors have not taken"
})
/** Bytes held for Rivet's runners, by direction. */
export const heldBytesBy = {
  requests: Metric.withAttributes(heldBytes, { direction: "down" }),
  answers: Metric.withAttributes(heldBytes, { direction: "up" })
} as const
/** WebSockets of Rivet's runners that may outlive their actor's sleep, asleep or not. */
export const lastingSockets = Metric.gauge("wayleave_hub_rivet_lasting_sockets", {
  description: "WebSockets of Rivet's runners that may outlive their actor's sleep, asleep or not"
})
/** Frames from runners that were published. */
export const framesPublished = Metric.counter("wayleave_hub_frames_published_total", {
  description: "Frames from runners that were admitted and published",
  incremental: true
})
/** Frames from runners that were refused, by reason. */
export const framesRefused = Metric.counter("wayleave_hub_frames_refused_total", {
  description: "Frames from runners that were refused, by reason",
  incremental: true
})
/** Frames that were held until a gateway had said whose route theirs is. */
export const framesHeld = Metric.counter("wayleave_hub_rivet_frames_held_total", {
  description:
    "Frames of Rivet's runners for WebSockets that the hub did not know, held while their gateways were asked; those it denied are refused as well",
  incremental: true
})
/** Routes that were opened again because their terminal frame could not be published. */
export const routesReopened = Metric.counter("wayleave_hub_routes_reopened_total", {
  description: "Routes opened again because their last frame could not be published",
  incremental: true
})
/** Publishes that failed after all attempts. */
export const publishesFailed = Metric.counter("wayleave_hub_publishes_failed_total", {
  description: "Publishes to a gateway that failed after all attempts",
  incremental: true
})
/** Messages from runners that did not decode. */
export const messagesUndecodable = Metric.counter("wayleave_hub_messages_undecodable_total", {
  description: "Messages from runners that did not decode or came out of turn",
  incremental: true
})
/** Routes of sessions that moved here, by what became of them. */
export const routesVerified = Metric.counter("wayleave_hub_routes_verified_total", {
  description: "Routes of moved sessions that gateways were asked about, and those granted and denied, by outcome",
  incremental: true
})
/** Connections that ended, by reason. */
export const connectionsClosed = Metric.counter("wayleave_hub_connections_closed_total", {
  description: "Runner connections that ended, by reason",
  incremental: true
})

/** Sets all gauges of a hub. */
export const gauge = (
  now: { readonly routes: RouteCounts; readonly sessions: number; readonly openStreams: number },
  context: Context.Context<never>
): void => {
  routesBy.Open.updateUnsafe(now.routes.Open, context)
  routesBy.Closing.updateUnsafe(now.routes.Closing, context)
  routesBy.HalfClosed.updateUnsafe(now.routes.HalfClosed, context)
  routesBy.Closed.updateUnsafe(now.routes.Closed, context)
  sessions.updateUnsafe(now.sessions, context)
  openStreams.updateUnsafe(now.openStreams, context)
}

const closedBy = new Map<string, typeof connectionsClosed>()

/** The same counter, for one reason: a close reason of the protocol, or `gone` where the runner left or broke off. */
export const connectionsClosedBy = (reason: CloseReason | "gone"): typeof connectionsClosed => {
  let counter = closedBy.get(reason)
  if (counter === undefined) {
    counter = Metric.withAttributes(connectionsClosed, { reason }) as typeof connectionsClosed
    closedBy.set(reason, counter)
  }
  return counter
}
