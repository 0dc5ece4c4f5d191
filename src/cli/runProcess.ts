/**
 * How a process of ours ends: 0 for success, also after a signal that was obeyed in full; 1 for what failed, said on standard error in one
 * sentence; 128 plus the signal's number where a second signal cut the end short.
 */
import { constants } from "node:os"
import { NodeRuntime, NodeServices } from "@effect/platform-node"
import { Cause, Console, Effect, Exit, Layer, Option, Runtime } from "effect"
import * as YoungBuffers from "../socket/YoungBuffers.ts"
import { asUserError } from "./asUserError.ts"

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

/** Says what failed, once and in its own words: for a program without a command line, which would do the same. */
export const saying = <A, E extends { readonly message: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.catchCause(effect, (cause) => {
    const failure = Cause.findErrorOption(cause)
    if (Option.isNone(failure)) return Effect.failCause(cause as Cause.Cause<never>)
    const error = Object.assign(asUserError(failure.value), { [Runtime.errorReported]: false })
    return Effect.andThen(Console.error(error.userMessage), Effect.fail(error))
  })

/** A killed npm or npx leaves what it started behind, which would hold the ports until somebody wonders: the shell between them keeps the signal. */
const orphaned = Effect.suspend(() => {
  const parent = process.ppid
  return Effect.sleep("1 second").pipe(Effect.repeat({ while: () => process.ppid === parent }), Effect.asVoid)
})

/** Runs an effect as this process: signals, exit code, the platform's services. The demo ends the same way. */
export const runProcess = <E>(effect: Effect.Effect<void, E, NodeServices.NodeServices>): void => {
  exitOnSecondSignal()
  const whole = process.env.npm_command === undefined ? effect : Effect.raceFirst(effect, orphaned)
  NodeRuntime.runMain(Effect.provide(whole, Layer.merge(NodeServices.layer, YoungBuffers.layer)), { teardown })
}
