/**
 * Runner configurations: pools of runners by name, as clients of Rivet set them up before they create actors. Here a pool needs no setting up,
 * for runners dial in under its name; what was put is remembered so that it can be read again, and forgotten with the process.
 */
import { Context, Effect, Layer } from "effect"
import { limits } from "../../tunnel/Limits.ts"
import { type ApiFailure, failure } from "./Failure.ts"

/** The names that were configured. All of them are `normal`: runners that connect by themselves. */
export class RunnerConfigs extends Context.Service<
  RunnerConfigs,
  {
    readonly put: (name: string) => Effect.Effect<void, ApiFailure>
    readonly remove: (name: string) => Effect.Effect<void>
    readonly names: Effect.Effect<ReadonlySet<string>>
  }
>()("wayleave/admin/RunnerConfigs") {}

/** In this process's memory, at most `runnerConfigsMax`. */
export const layerMemory: Layer.Layer<RunnerConfigs> = Layer.sync(RunnerConfigs, () => {
  const names = new Set<string>()
  return {
    put: (name) =>
      Effect.suspend(() => {
        if (!names.has(name) && names.size >= limits.runnerConfigsMax) {
          return Effect.fail(failure("guard.overloaded", `there are ${names.size} runner configurations already`))
        }
        names.add(name)
        return Effect.void
      }),
    remove: (name) => Effect.sync(() => void names.delete(name)),
    names: Effect.sync(() => new Set(names))
  }
})
