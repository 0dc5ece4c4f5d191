/**
 * How a process of ours ends: 0 for success, also after a signal that was obeyed in full; 1 for what failed, said on standard error in one
 * sentence; 128 plus the signal's number where a second signal cut the end short.
 */
import { constants } from "node:os"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Effect, Exit, Runtime } from "effect"

/** Whoever asks twice does not want to wait any longer. */
const exitOnSecondSignal = (): void => {
  let signals = 0
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      signals++
      if (signals > 1) process.exit(128 + constants.signals[signal])
    })
  }
}

/** A signal that was obeyed is a success, and nothing was logged about it. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)

/** Runs an effect as this process: signals, exit code, the platform's services. The demo ends the same way. */
export const runProcess = <E>(effect: Effect.Effect<void, E, NodeServices.NodeServices>): void => {
  exitOnSecondSignal()
  NodeRuntime.runMain(Effect.provide(effect, NodeServices.layer), { teardown })
}
