/** Runs an effect one step at a time, as a fiber whose budget is used up after each: what happens between any two steps is the test's to say. */
import { Context, Effect, type Fiber, Scheduler } from "effect"

/** A fiber and the hand that moves it. */
export interface Stepwise<A, E> {
  readonly fiber: Fiber.Fiber<A, E>
  /** Moves on by one step. `false`: it has ended, or waits for something. */
  readonly step: () => boolean
}

/** Starts `effect`; nothing of it runs before the first step. */
export const stepwise = <A, E>(effect: Effect.Effect<A, E>): Stepwise<A, E> => {
  const ready: Array<() => void> = []
  const scheduler: Scheduler.Scheduler = {
    executionMode: "async",
    // Of three operations the first ends the wait before, and the second is the step.
    shouldYield: ({ currentOpCount }) => currentOpCount >= 3,
    makeDispatcher: () => ({ scheduleTask: (task) => void ready.push(task), flush: () => {} })
  }
  const fiber = Effect.runForkWith(Context.make(Scheduler.Scheduler, scheduler))(
    Effect.andThen(Effect.yieldNow, effect)
  )
  return {
    fiber,
    step: () => {
      const task = ready.shift()
      task?.()
      return task !== undefined
    }
  }
}

/**
 * Runs `make` anew for every moment at which `happen` may come: before the first step, after the first, and so on until the effect waits for it.
 * Returns how each run ended, undefined where it still waits though nothing more will come.
 */
export const atEveryMoment = <A, E>(
  make: () => { readonly effect: Effect.Effect<A, E>; readonly happen: () => void }
): ReadonlyArray<ReturnType<Fiber.Fiber<A, E>["pollUnsafe"]>> => {
  const ends: Array<ReturnType<Fiber.Fiber<A, E>["pollUnsafe"]>> = []
  for (let moment = 0; ; moment++) {
    const { effect, happen } = make()
    const { fiber, step } = stepwise(effect)
    let taken = 0
    while (taken < moment && step()) taken++
    happen()
    while (step()) {}
    ends.push(fiber.pollUnsafe())
    if (taken < moment) return ends
  }
}
