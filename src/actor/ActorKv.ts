/**
 * The store of each actor: keys and values as bytes, kept apart by actor, ordered by key. What Rivet's clients expect of it, limits and error
 * texts among them, stands in `docs/guide/rivet.md`.
 *
 * `layerMemory` is for tests and for a hub that keeps nothing; `ActorKvSqlite.ts` survives the process. Who may ask is not decided here:
 * `hub/rivet/ActorChannel.ts` asks `ActorControl.ts` first.
 */
import { Context, type Effect, Schema } from "effect"
import type { KvRequest, KvResponse } from "./ActorMessage.ts"

/** The store itself failed: a full disk, a broken file. What a request did wrong is an answer (`Failed`), not this. */
export class ActorKvError extends Schema.TaggedError<ActorKvError>()("ActorKvError", {
  cause: Schema.Defect()
}) {}

/** Keys and values of actors. */
export class ActorKv extends Context.Service<
  ActorKv,
  {
    /** Answers one request to one actor's store. A change has lasted, as far as the layer lasts at all, when the effect returns. */
    readonly ask: (actorId: string, request: KvRequest) => Effect.Effect<KvResponse, ActorKvError>
  }
>()("wayleave/actor/ActorKv") {}
