/** What the control plane of actors counts. Names and meanings stand in `docs/metrics.md`, which a test compares with this file. */
import { Metric } from "effect"
import type { State } from "./ActorLife.ts"

/** Actors by where they are in their lives. */
export const actors = Metric.gauge("wayleave_actors", {
  description: "Actors by state, the destroyed that are remembered among them"
})
/** The same gauge, by state. */
export const actorsBy = {
  Pending: Metric.withAttributes(actors, { state: "pending" }),
  Starting: Metric.withAttributes(actors, { state: "starting" }),
  Running: Metric.withAttributes(actors, { state: "running" }),
  Stopping: Metric.withAttributes(actors, { state: "stopping" }),
  Sleeping: Metric.withAttributes(actors, { state: "sleeping" }),
  BackingOff: Metric.withAttributes(actors, { state: "backing_off" }),
  Destroyed: Metric.withAttributes(actors, { state: "destroyed" })
} as const satisfies Readonly<Record<State["_tag"], unknown>>
/** Requests that wait until an actor can be reached. */
export const waiters = Metric.gauge("wayleave_actor_waiters", {
  description: "Requests that wait until an actor can be reached"
})
/** Generations that were ordered. */
export const starts = Metric.counter("wayleave_actor_starts_total", {
  description: "Generations of actors that runners were ordered to start",
  incremental: true
})
/** Generations that ended without being meant to. */
export const crashes = Metric.counter("wayleave_actor_crashes_total", {
  description: "Generations of actors that failed, did not start or were lost with their runner",
  incremental: true
})
/** Writes to the store that failed. */
export const storeFailures = Metric.counter("wayleave_actor_store_failures_total", {
  description: "Writes to the store of the control plane that failed, each attempt counted",
  incremental: true
})
