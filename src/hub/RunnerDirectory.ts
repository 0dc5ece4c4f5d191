/**
 * The sessions of this hub by name. Listens on the bus for a name while it holds a session by that name, and picks who takes a request. Where all
 * runners of a name are away for a moment it listens in the second rank: for requests that no hub with a runner at hand can take.
 */
import { Effect, Exit, Scope, Semaphore, Stream } from "effect"
import { MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import type { Envelope } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Session } from "./Session.ts"

/** What is listened for: requests for runners, or those that find none. */
type Rank = "here" | "away"

interface NameEntry {
  readonly sessions: Set<Session>
  /** One change at a time. */
  readonly lock: Semaphore.Semaphore
  listening: { readonly rank: Rank; readonly scope: Scope.Closeable } | undefined
}

const rankOf = ({ sessions }: NameEntry): Rank | undefined => {
  for (const { socket } of sessions) if (socket !== undefined) return "here"
  return sessions.size > 0 ? "away" : undefined
}

/** The sessions of this hub by name. A name with none here is not listened for on the bus. */
export interface RunnerDirectory {
  /** Makes the session reachable by its name; listening when the effect returns. */
  readonly join: (session: Session) => Effect.Effect<void>
  /** Its runner's connection is lost: whoever else has a runner of that name is asked first. */
  readonly stepBack: (session: Session) => Effect.Effect<void>
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

  const subjects = { here: Subject.ofName, away: Subject.ofAway }

  const listen = Effect.fnUntraced(function* (name: string, rank: Rank) {
    const scope = yield* Scope.fork(hubScope)
    const requests = yield* bus.subscribe(subjects[rank](namespace, name), ["one"]).pipe(Scope.provide(scope))
    // Not in the name's own scope: what still stands in the inbox when the last session leaves is to be answered, not lost.
    yield* Effect.forkIn(Stream.runForEachArray(requests, deliver), hubScope)
    return { rank, scope }
  })

  /** Listens for what the name's sessions are good for now. The new rank begins before the old one ends, so that nobody falls between them. */
  const settle = (name: string, entry: NameEntry) =>
    Effect.gen(function* () {
      for (let wanted = rankOf(entry); wanted !== entry.listening?.rank; wanted = rankOf(entry)) {
        const before = entry.listening
        entry.listening = wanted === undefined ? undefined : yield* listen(name, wanted)
        if (before !== undefined) yield* Scope.close(before.scope, Exit.void)
      }
      if (entry.sessions.size === 0 && names.get(name) === entry) names.delete(name)
    }).pipe(entry.lock.withPermits(1))

  const directory: RunnerDirectory = {
    join: Effect.fnUntraced(function* (session) {
      let entry = names.get(session.name)
      if (entry === undefined) {
        entry = { sessions: new Set(), lock: Semaphore.makeUnsafe(1), listening: undefined }
        // Entered before the first wait: a second session of the name must find it.
        names.set(session.name, entry)
      }
      if (!entry.sessions.has(session)) size++
      entry.sessions.add(session)
      yield* settle(session.name, entry)
    }, Effect.uninterruptible),
    stepBack: Effect.fnUntraced(function* (session) {
      const entry = names.get(session.name)
      if (entry?.sessions.has(session)) yield* settle(session.name, entry)
    }, Effect.uninterruptible),
    leave: Effect.fnUntraced(function* (session) {
      const entry = names.get(session.name)
      if (entry === undefined || !entry.sessions.delete(session)) return
      size--
      yield* settle(session.name, entry)
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
