/** What a bus over NATS counts. Names and meanings stand in `docs/metrics.md`. */
import { Metric } from "effect"

/** Whether the server is in reach. */
export const connected = Metric.gauge("wayleave_bus_connected", {
  description: "1 while the NATS server is in reach, 0 while it is not"
})
/** Connections that were lost. */
export const losses = Metric.counter("wayleave_bus_losses_total", {
  description: "Connections to a NATS server that were lost",
  incremental: true
})
/** Flushes asked of the server: each confirms all that waits. */
export const flushes = Metric.counter("wayleave_bus_flushes_total", {
  description: "Flushes asked of the NATS server, each shared by all publishes that waited",
  incremental: true
})
/** Messages handed to the server. */
export const messages = Metric.counter("wayleave_bus_messages_total", {
  description: "Messages handed to the NATS server, each with one or more envelopes",
  incremental: true
})
/** Envelopes that found their inbox full. */
export const dropped = Metric.counter("wayleave_bus_envelopes_dropped_total", {
  description: "Envelopes dropped because an inbox was full; the index shows it as a gap and resets that stream",
  incremental: true
})
/** Messages that did not decode. */
export const undecodable = Metric.counter("wayleave_bus_messages_undecodable_total", {
  description: "Messages on our subjects that did not decode, dropped",
  incremental: true
})
