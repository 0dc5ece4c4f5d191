/** Starts again what ends and is not to: for ever, after a wait that doubles up to a bound, and is short again after a life that lasted. */
import { Clock, Deferred, Effect } from "effect"
import { lastedMs, nextWaitMs } from "../runner/Reconnect.ts"

/**
 * `life` runs until it ends, and says how; `begun` is done once it has begun for the first time. A failure before that is the caller's: what cannot begin
 * would not the next time either. Later ones are said, as any end is.
 */
export const keepAlive = Effect.fnUntraced(function* <A, E extends { readonly message: string }, E2, R>(
  what: string,
  begun: Deferred.Deferred<A, E2>,
  life: Effect.Effect<string, E, R>
): Effect.fn.Return<never, E, R> {
  let failures = 0
  while (true) {
    const sinceMs = yield* Clock.currentTimeMillis
    const end = yield* Effect.catch(life, (error) =>
      Effect.flatMap(Deferred.isDone(begun), (isDone) => (isDone ? Effect.succeed(error.message) : Effect.fail(error)))
    )
    failures = (yield* Clock.currentTimeMillis) - sinceMs >= lastedMs ? 1 : failures + 1
    const waitMs = Math.round(yield* nextWaitMs(failures))
    yield* Effect.logWarning(`${what} has ended: ${end}; it is started again in ${waitMs} ms`)
    yield* Effect.sleep(waitMs)
  }
})

/** How a process ended, in words. */
export const endOf = (code: number | null, signal: string | null): string =>
  signal === null ? `exit code ${code}` : `killed by ${signal}`
