/**
 * One question to the server, "have you got all that?", shared by everybody who waits for its answer. Flushes follow each other at a distance,
 * and whoever comes while one is under way shares the next: however many wait, their number is bounded by time.
 */
import { Clock, Effect, type Scope } from "effect"
import { makeFork } from "../tunnel/Fibers.ts"

/** The flushes of one connection. */
export interface SharedFlush<E> {
  /** Waits until the server has confirmed everything that was handed over before this. */
  readonly confirmed: Effect.Effect<void, E>
  /** Has a flush made soon though nobody waits for it. */
  readonly soonUnsafe: () => void
}

/** Flushes by `flush`, no two beginning within `spacingMs`. Interrupted with the scope. */
export const make = Effect.fnUntraced(function* <E>(
  flush: Effect.Effect<void, E>,
  spacingMs: number
): Effect.fn.Return<SharedFlush<E>, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  const runFork = yield* makeFork
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let waiting: Array<(outcome: Effect.Effect<void, E>) => void> = []
  let wanted = false
  let running = false
  let begunMs = Number.NEGATIVE_INFINITY

  const round = Effect.suspend(() => {
    const due = waiting
    waiting = []
    wanted = false
    begunMs = nowMs()
    return Effect.map(Effect.exit(flush), (exit) => {
      for (const resume of due) resume(exit)
    })
  })

  const pause = Effect.suspend(() => {
    const leftMs = begunMs + spacingMs - nowMs()
    // Whoever comes in the same turn shares the first flush too.
    return leftMs > 0 ? Effect.sleep(leftMs) : Effect.yieldNow
  })

  const rounds = Effect.andThen(pause, round).pipe(
    Effect.repeat({ while: () => wanted }),
    Effect.ensuring(
      Effect.sync(() => {
        running = false
      })
    )
  )

  const soonUnsafe = () => {
    wanted = true
    if (running) return
    running = true
    runFork(rounds)
  }

  return {
    soonUnsafe,
    confirmed: Effect.callback((resume) => {
      waiting.push(resume)
      soonUnsafe()
      return Effect.sync(() => {
        waiting = waiting.filter((other) => other !== resume)
      })
    })
  }
})
