/**
 * One session, several hubs: each that holds it hears of newer connections elsewhere, and says so of its own. Not what safety rests on, since a
 * gateway refuses the older connection's answers by itself: but whoever was left behind learns it at once. Next: `SessionTable.ts`, what follows.
 */
import { Effect, Exit, Schedule, Scope, Stream } from "effect"
import * as Subject from "../bus/Subject.ts"
import type { Envelope } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import type { Session } from "./Session.ts"

/** What a hub hears and says of its sessions. */
export interface Fencing {
  /** Hears of the session until `leave`; listening when the effect returns. */
  readonly join: (session: Session) => Effect.Effect<void>
  /** Tells the other hubs of the connection that the session has now; waits for nothing. */
  readonly announce: (session: Session) => void
  readonly leave: (session: Session) => Effect.Effect<void>
}

const retry = Schedule.exponential("20 millis").pipe(Schedule.upTo({ times: limits.publishAttempts - 1 }))

/** `onNewer` is told that a session went on elsewhere, over a connection of that generation. */
export const makeFencing = Effect.fnUntraced(function* (
  parts: HubParts,
  onNewer: (session: Session, generation: number) => Effect.Effect<void>
) {
  const { bus, hubId, namespace } = parts
  const hubScope = yield* Effect.scope
  const listening = new Map<Session, Scope.Closeable>()

  const announce: Fencing["announce"] = ({ generation, id }) =>
    parts.runFork(
      bus
        .publish(
          Subject.ofSession(namespace, id),
          [{ _tag: "SessionTaken", session: id, generation, hub: hubId }],
          "each"
        )
        .pipe(Effect.retry(retry), Effect.ignore)
    )

  const hear = (session: Session, envelope: Envelope): Effect.Effect<void> => {
    if (envelope._tag !== "SessionTaken" || envelope.hub === hubId) return Effect.void
    if (envelope.generation > session.generation) return onNewer(session, envelope.generation)
    // Whoever says so does not know of ours: its own announcement came before it listened, or ours did.
    if (envelope.generation < session.generation) announce(session)
    return Effect.void
  }

  return {
    join: Effect.fnUntraced(function* (session) {
      const scope = yield* Scope.fork(hubScope)
      listening.set(session, scope)
      const news = yield* bus.subscribe(Subject.ofSession(namespace, session.id), ["each"]).pipe(Scope.provide(scope))
      // Not in the session's own scope, which what is heard here may close.
      yield* Effect.forkIn(
        Stream.runForEach(news, (envelope) => hear(session, envelope)),
        hubScope
      )
    }, Effect.uninterruptible),
    announce,
    leave: Effect.fnUntraced(function* (session) {
      const scope = listening.get(session)
      if (scope === undefined) return
      listening.delete(session)
      yield* Scope.close(scope, Exit.void)
    }, Effect.uninterruptible)
  } satisfies Fencing
})
