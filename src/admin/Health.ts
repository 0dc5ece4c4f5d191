/**
 * Whether this process should be sent work. Orchestrators ask over the admin port; whoever starts and drains the server answers here.
 */
import { Context, Effect, Layer } from "effect"

/** All but `ready` are healthy and not ready: new work belongs elsewhere. `disconnected`: the bus is out of reach, and others may have it. */
export type Readiness = "starting" | "ready" | "disconnected" | "draining"

/** The readiness of this process: one value, set by the server, read by the admin port. */
export class Health extends Context.Service<
  Health,
  {
    readonly readiness: Effect.Effect<Readiness>
    /** A drain is for good: nothing makes a draining process ready again. */
    readonly become: (readiness: Readiness) => Effect.Effect<void>
  }
>()("wayleave/admin/Health") {}

/** Begins as `starting`. */
export const layer: Layer.Layer<Health> = Layer.sync(Health, () => {
  let current: Readiness = "starting"
  return {
    readiness: Effect.sync(() => current),
    become: (readiness) =>
      Effect.sync(() => {
        if (current !== "draining") current = readiness
      })
  }
})
