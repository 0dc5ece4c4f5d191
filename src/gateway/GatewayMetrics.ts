/** What a gateway counts. Names and meanings stand in `docs/metrics.md`. Series are found once, so that counting costs no lookup. */
import { type Context, Metric } from "effect"
import { bind } from "../tunnel/Series.ts"
import { errors, type Outcome } from "./GatewayError.ts"

/** Streams that ended, by outcome: `ok`, `cancelled` (the visitor left), or an error code. */
export const requests = Metric.counter("wayleave_gateway_requests_total", {
  description: "Requests and WebSockets that ended, by outcome",
  incremental: true
})
/** Streams open now. */
export const inFlight = Metric.gauge("wayleave_gateway_in_flight", {
  description: "Requests and WebSockets open now"
})
/** WebSockets whose actor sleeps, or is being woken for them. */
export const socketsAsleep = Metric.gauge("wayleave_gateway_sockets_asleep", {
  description: "WebSockets whose actor sleeps, or is being woken for them"
})
/** Bytes of messages that hibernating WebSockets keep until their apps acknowledge them. */
export const unacknowledgedBytes = Metric.gauge("wayleave_gateway_unacknowledged_bytes", {
  description: "Messages that hibernating WebSockets keep until their apps acknowledge them, in bytes"
})
/** What the windows of answers take of the growth that all share, in bytes. */
export const windowGrowthBytes = Metric.gauge("wayleave_gateway_window_growth_bytes", {
  description: "What the windows of answers have grown by beyond 1 MiB each, in bytes: at 32 MiB no other grows further"
})
/** Body bytes by direction: `up` from visitors to apps, `down` from apps to visitors. */
export const bodyBytes = Metric.counter("wayleave_gateway_body_bytes_total", {
  description: "Body bytes, by direction: up from visitors, down to visitors",
  incremental: true
})
/** Replies that were dropped, by reason. */
export const uplinksRefused = Metric.counter("wayleave_gateway_uplinks_refused_total", {
  description: "Replies from hubs that were dropped, by reason",
  incremental: true
})
/** Of requests, whoever answers them. */
export const secondsBoundaries = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
/** From a request's arrival to its end. */
export const durations = Metric.histogram("wayleave_gateway_request_seconds", {
  description: "From the arrival of a request to its end, in seconds",
  boundaries: secondsBoundaries
})

/** Why a reply was dropped. `Unknown`: no stream of that id is in flight, most often because it has ended. */
export type UplinkRefusal = "Unknown" | "Foreign" | "Late" | "Duplicate"

/** The metrics of one gateway as plain calls. */
export interface GatewayMeter {
  readonly opened: () => void
  readonly closed: () => void
  readonly ended: (outcome: Outcome, bytesUp: number, bytesDown: number, durationMs: number) => void
  readonly refused: (reason: UplinkRefusal) => void
  /** One more WebSocket asleep, or one fewer. */
  readonly asleep: (change: 1 | -1) => void
  /** More bytes kept for an acknowledgement, or fewer. */
  readonly unacknowledged: (bytes: number) => void
  /** Windows grew by so many bytes beyond their own, or gave back. */
  readonly windowGrowth: (bytes: number) => void
}

const outcomes: ReadonlyArray<Outcome> = ["ok", "cancelled", ...(Object.keys(errors) as Array<keyof typeof errors>)]
const reasons: ReadonlyArray<UplinkRefusal> = ["Unknown", "Foreign", "Late", "Duplicate"]

/** Binds the metrics to the registry of `context`. */
export const meter = (context: Context.Context<never>): GatewayMeter => {
  type Count = (by: number) => void
  const count = (metric: Metric.Metric<number, unknown>): Count => {
    const { update } = bind(metric, context)
    return (by) => update(by, context)
  }
  const change = (metric: Metric.Gauge<number>): Count => {
    const { modify } = bind(metric, context)
    return (by) => modify(by, context)
  }
  const each = <Name extends string>(of: typeof requests, label: string, names: ReadonlyArray<Name>) =>
    Object.fromEntries(names.map((name) => [name, count(Metric.withAttributes(of, { [label]: name }))])) as Record<
      Name,
      Count
    >

  const byOutcome = each(requests, "outcome", outcomes)
  const byReason = each(uplinksRefused, "reason", reasons)
  const bytes = each(bodyBytes, "direction", ["up", "down"])
  const seconds = count(durations)
  const open = change(inFlight)
  return {
    opened: () => open(1),
    closed: () => open(-1),
    ended: (outcome, bytesUp, bytesDown, durationMs) => {
      byOutcome[outcome](1)
      bytes.up(bytesUp)
      bytes.down(bytesDown)
      seconds(durationMs / 1000)
    },
    refused: (reason) => byReason[reason](1),
    asleep: change(socketsAsleep),
    unacknowledged: change(unacknowledgedBytes),
    windowGrowth: change(windowGrowthBytes)
  }
}
