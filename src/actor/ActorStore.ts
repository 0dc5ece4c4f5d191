/**
 * What the control plane must not forget: actors, how far each has come, and the runners whose identities it has given out. Written before
 * what it leads to leaves the process, so that no generation that was ordered is ever ordered again.
 *
 * `layerMemory` forgets with the process: a hub on it gives every runner a new identity when it starts, and so stops whatever the runner still
 * hosted. `ActorStoreSqlite.ts` remembers.
 */
import { Context, Effect, Layer, Schema } from "effect"
import type { SessionId } from "../tunnel/Envelope.ts"
import type { ActorRequest, RunnerIntroduction } from "./Actor.ts"
import type { Life } from "./ActorLife.ts"

/** The store itself failed: a full disk, a broken file. */
export class ActorStoreError extends Schema.TaggedError<ActorStoreError>()("ActorStoreError", {
  cause: Schema.Defect()
}) {}

/** An actor as it is kept. */
export interface StoredActor {
  readonly actorId: string
  readonly request: ActorRequest
  readonly createdAtMs: number
  readonly life: Life
}

/** A runner as it is kept. */
export interface StoredRunner {
  readonly session: SessionId
  readonly introduction: RunnerIntroduction
  readonly createdAtMs: number
  /** When its connection ended; while it lasts, when it began. */
  readonly lastSeenAtMs: number
  readonly connected: boolean
  readonly drainingSinceMs: number | null
  /** Since when its identity is nobody's any more. */
  readonly goneAtMs: number | null
  /** Its actors were dealt with. */
  readonly lost: boolean
  /** Generations it was left with that never said `stopped`. */
  readonly owedStops: ReadonlyArray<{ readonly actorId: string; readonly generation: number }>
}

/** Changes that last together or not at all. Runners are written whole, actors once, then only their lives. */
export interface StoreChanges {
  readonly created: ReadonlyArray<StoredActor>
  readonly lives: ReadonlyArray<{ readonly actorId: string; readonly life: Life }>
  readonly forgotten: ReadonlyArray<string>
  readonly runners: ReadonlyArray<StoredRunner>
  readonly forgottenRunners: ReadonlyArray<SessionId>
  /** Now: who is connected has been seen until then. */
  readonly aliveAtMs: number
}

/** Everything that is kept: actors in the order of their creation. */
export interface StoredWorld {
  readonly actors: ReadonlyArray<StoredActor>
  readonly runners: ReadonlyArray<StoredRunner>
  /** The time of the last write; null where there was none. */
  readonly aliveAtMs: number | null
}

/** Keeps what the control plane knows. One control plane at a time; `test/contract/ActorStoreContract.ts` says what every store owes. */
export class ActorStore extends Context.Service<
  ActorStore,
  {
    /** What an earlier process left. */
    readonly load: Effect.Effect<StoredWorld, ActorStoreError>
    /** Lasts, as far as the layer lasts at all, once it returns. Of an actor that is not kept the life is dropped. */
    readonly write: (changes: StoreChanges) => Effect.Effect<void, ActorStoreError>
    /** How long to gather changes after a write before the next: what a write costs, in a way. 0 where it costs nothing. */
    readonly gatherMs: number
  }
>()("wayleave/actor/ActorStore") {}

const makeMemory = Effect.sync(() => {
  const actors = new Map<string, StoredActor>()
  const runners = new Map<SessionId, StoredRunner>()
  let aliveAt: number | null = null
  return ActorStore.of({
    load: Effect.sync(() => ({ actors: [...actors.values()], runners: [...runners.values()], aliveAtMs: aliveAt })),
    write: ({ aliveAtMs, created, forgotten, forgottenRunners, lives, runners: written }) =>
      Effect.sync(() => {
        for (const actor of created) actors.set(actor.actorId, actor)
        for (const { actorId, life } of lives) {
          const actor = actors.get(actorId)
          if (actor !== undefined) actors.set(actorId, { ...actor, life })
        }
        for (const actorId of forgotten) actors.delete(actorId)
        for (const runner of written) runners.set(runner.session, runner)
        for (const session of forgottenRunners) runners.delete(session)
        aliveAt = aliveAtMs
      }),
    gatherMs: 0
  })
})

/** In this process's memory: complete, bounded by the control plane that writes to it, and gone with the process. */
export const layerMemory: Layer.Layer<ActorStore> = Layer.effect(ActorStore, makeMemory)
