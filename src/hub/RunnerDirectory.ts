/**
 * The sessions of this hub by name. Joins a name's subject on the bus while it holds a session by that name, and picks who takes a request.
 */
import { Effect, Exit, Scope, Stream } from "effect"
import { MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import type { Envelope } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Session } from "./Session.ts"

interface NameEntry {
  readonly sessions: Set<Session>
  readonly scope: Scope.Closeable
}

/** The sessions of this hub by name. A name with none here is not listened for on the bus. */
export interface RunnerDirectory {
  /** Makes the session reachable by its name; listening when the effect returns. */
  readonly join: (session: Session) => Effect.Effect<void>
  /** Takes it out; the last one of a name stops listening. Idempotent. */
  readonly leave: (session: Session) => Effect.Effect<void>
  /** The session with the fewest open streams. One that waits for its runner to return is taken only where nobody else is there. */
  readonly pick: (name: string) => Session | undefined
  readonly sessions: () => Iterable<Session>
  readonly size: () => number
}

const mayTake = (session: Session) => !session.leaving && session.openStreams < limits.streamsPerSessionMax

/** `deliver` takes the opening frames that arrive for names this directory holds. */
export const makeRunnerDirectory = Effect.fnUntraced(function* (
  namespace: string,
  deliver: (batch: ReadonlyArray<Envelope>) => Effect.Effect<void>
) {
  const bus = yield* MessageBus
  const hubScope = yield* Effect.scope
  const names = new Map<string, NameEntry>()
  let size = 0

  const listen = Effect.fnUntraced(function* (name: string, scope: Scope.Closeable) {
    const requests = yield* bus.subscribe(Subject.ofName(namespace, name), ["one"]).pipe(Scope.provide(scope))
    // Not in the name's own scope: what still stands in the inbox when the last session leaves is to be answered, not lost.
    yield* Effect.forkIn(Stream.runForEachArray(requests, deliver), hubScope)
  })

  const directory: RunnerDirectory = {
    join: Effect.fnUntraced(function* (session) {
      const entry = names.get(session.name)
      if (entry !== undefined) {
        if (!entry.sessions.has(session)) size++
        entry.sessions.add(session)
        return
      }
      const scope = yield* Scope.fork(hubScope)
      // Entered before the first wait: a second session of the name must find it.
      names.set(session.name, { sessions: new Set([session]), scope })
      size++
      yield* listen(session.name, scope)
    }, Effect.uninterruptible),
    leave: Effect.fnUntraced(function* (session) {
      const entry = names.get(session.name)
      if (entry === undefined || !entry.sessions.delete(session)) return
      size--
      if (entry.sessions.size > 0) return
      names.delete(session.name)
      yield* Scope.close(entry.scope, Exit.void)
    }, Effect.uninterruptible),
    pick: (name) => {
      const entry = names.get(name)
      if (entry === undefined) return undefined
      let best: Session | undefined
      for (const session of entry.sessions) {
        if (!mayTake(session)) continue
        if (best === undefined) best = session
        else if ((session.socket === undefined) === (best.socket === undefined)) {
          if (session.openStreams < best.openStreams) best = session
        } else if (best.socket === undefined) best = session
      }
      if (best !== undefined && entry.sessions.size > 1) {
        // To the end of the line: among equals the one that waited longest is next.
        entry.sessions.delete(best)
        entry.sessions.add(best)
      }
      return best
    },
    sessions: function* () {
      for (const entry of names.values()) yield* entry.sessions
    },
    size: () => size
  }
  return directory
})
