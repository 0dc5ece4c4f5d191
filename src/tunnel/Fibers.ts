/**
 * The fibers of a scope, one for each request: forked from a callback, interrupted and awaited when the scope closes. What `FiberSet.runtime` does, but
 * over a list in which each fiber knows its place: a `Set` keeps ended requests alive, for the reason that `IdMap.ts` gives.
 */
import { Effect, type Exit, Fiber, type Scope } from "effect"

/** Forks a fiber that ends with the scope at the latest. One that is forked after that is interrupted at once. `ended` is told how it ended. */
export type Fork = <A, E>(effect: Effect.Effect<A, E>, ended?: (exit: Exit.Exit<A, E>) => void) => Fiber.Fiber<A, E>

interface Entry {
  readonly fiber: Fiber.Fiber<unknown, unknown>
  place: number
}

/** The fork of the present scope. How many run at once is for whoever forks to bound. */
export const makeFork: Effect.Effect<Fork, never, Scope.Scope> = Effect.gen(function* () {
  const runFork = Effect.runForkWith(yield* Effect.context<never>())
  const running: Array<Entry> = []
  let closed = false
  yield* Effect.addFinalizer(() =>
    Effect.suspend(() => {
      closed = true
      return Fiber.interruptAll(running.map(({ fiber }) => fiber))
    })
  )
  const leave = (entry: Entry): void => {
    const last = running.pop() as Entry
    if (last === entry) return
    last.place = entry.place
    running[entry.place] = last
  }
  return <A, E>(effect: Effect.Effect<A, E>, ended?: (exit: Exit.Exit<A, E>) => void): Fiber.Fiber<A, E> => {
    const fiber: Fiber.Fiber<A, E> = runFork(closed ? Effect.interrupt : effect)
    const exit = fiber.pollUnsafe()
    if (exit !== undefined) {
      ended?.(exit)
      return fiber
    }
    const entry: Entry = { fiber, place: running.length }
    running.push(entry)
    fiber.addObserver((exit) => {
      leave(entry)
      ended?.(exit)
    })
    return fiber
  }
})
