/**
 * The control plane of actors: which there are, which runner hosts which generation of each, and what is to become of them. It orders
 * (commands), hears (events) and remembers (`ActorStore.ts`); it knows no sockets and no frames.
 *
 * The hub brings runners and their events here and carries commands to them (`hub/rivet/ActorChannel.ts`); the actor API (`admin/ActorsApi.ts`) and
 * the gateway's `rvt-` queries create and find actors. The life of one actor is a pure table: `ActorLife.ts`.
 */
import { Context, type Effect, Schema, type Scope } from "effect"
import type { SessionId } from "../tunnel/Envelope.ts"
import type { Checkpoint, NumberedCommand, NumberedEvent } from "./ActorMessage.ts"

/** What becomes of an actor whose runner or code failed. */
export const CrashPolicy = Schema.Literals(["restart", "sleep", "destroy"])
export type CrashPolicy = typeof CrashPolicy.Type

/** Why an actor cannot be had. Each is one of Rivet's error codes, `group.code`; `gateway/` and `admin/` know the statuses. */
export class ActorError extends Schema.TaggedError<ActorError>()("ActorError", {
  reason: Schema.Literals([
    /** No such actor, or it was destroyed. */
    "actor.not_found",
    "actor.destroyed_while_waiting_for_ready",
    /** An actor with that name and key exists. */
    "actor.duplicate_key",
    "actor.invalid_request",
    /** No runner has room, or the start took too long. */
    "guard.actor_ready_timeout",
    "guard.actor_wake_retries_exceeded",
    "guard.actor_runner_failed",
    /** More actors than `actorsMax`, or more waiting than may. */
    "guard.overloaded",
    "actor.no_runner_config_configured"
  ]),
  message: Schema.String
}) {}

/** A runner as it introduced itself. */
export interface RunnerIntroduction {
  /** Its pool: what actors are placed by, and what visitors reach it by. */
  readonly name: string
  /** Tells runners of one name apart, and one process again when it reconnects. */
  readonly key: string
  readonly version: number
  readonly totalSlots: number
  readonly protocolVersion: number
  /** Names to list before any actor exists, with JSON metadata each. */
  readonly actorNames: ReadonlyMap<string, string>
  readonly metadata: string | null
}

/** One generation of an actor on the runner that hosts it. */
export interface Placement {
  readonly actorId: string
  readonly generation: number
  readonly runner: SessionId
}

/** What the hub of a runner has to do for the control plane. Called synchronously and in order, never from within a call to the service. */
export interface RunnerPort {
  /** Writes commands to the runner now. */
  readonly command: (commands: ReadonlyArray<NumberedCommand>) => void
  /** This generation hosts nothing any more: its requests are answered for it, its WebSockets closed, or kept where `hibernates`. */
  readonly ended: (placement: Placement, hibernates: boolean) => void
}

/** What is to be created. */
export interface ActorRequest {
  readonly name: string
  /** Unique with the name while the actor lives. */
  readonly key: string | null
  readonly runnerName: string
  readonly crashPolicy: CrashPolicy
  readonly input: Uint8Array | null
}

/** An actor as the API shows it. Times are milliseconds since 1970, null where it never happened. */
export interface ActorView {
  readonly actorId: string
  readonly name: string
  readonly key: string | null
  readonly runnerName: string
  readonly crashPolicy: CrashPolicy
  readonly createdAtMs: number
  readonly startedAtMs: number | null
  readonly connectableAtMs: number | null
  readonly sleptAtMs: number | null
  readonly pendingAllocationAtMs: number | null
  readonly rescheduleAtMs: number | null
  readonly destroyedAtMs: number | null
}

/** A runner as the API shows it. */
export interface RunnerView extends RunnerIntroduction {
  readonly session: SessionId
  readonly remainingSlots: number
  readonly createdAtMs: number
  readonly lastSeenAtMs: number
  readonly connected: boolean
  readonly drainingSinceMs: number | null
  readonly stoppedAtMs: number | null
}

/** Where actors are created, found, placed, woken and laid to rest. */
export class ActorControl extends Context.Service<
  ActorControl,
  {
    /** The identity of a runner by name and key: the same for as long as it was not lost, another afterwards. */
    readonly identify: (runner: RunnerIntroduction) => Effect.Effect<SessionId>
    /**
     * The runner is connected, over its connection of this generation: commands go to `port` until the scope closes or a newer connection attaches;
     * first those it is still owed. `commandsSeen`: what it is known to have received, where its dialect says.
     */
    readonly attach: (
      session: SessionId,
      runner: RunnerIntroduction,
      port: RunnerPort,
      commandsSeen: ReadonlyArray<Checkpoint>
    ) => Effect.Effect<void, never, Scope.Scope>
    /** Events as they arrived; those of another runner's actors, of older generations, and those already heard are ignored. Returns what may be acknowledged. */
    readonly heard: (
      session: SessionId,
      events: ReadonlyArray<NumberedEvent>
    ) => Effect.Effect<ReadonlyArray<Checkpoint>>
    /** The runner has these commands. */
    readonly acknowledged: (session: SessionId, upTo: ReadonlyArray<Checkpoint>) => Effect.Effect<void>
    /** The runner takes nothing new; its actors are told to stop. */
    readonly draining: (session: SessionId) => Effect.Effect<void>
    /** The runner is gone for good: its actors are lost, and dealt with by their crash policies. Its next identity is another. */
    readonly lost: (session: SessionId) => Effect.Effect<void>
    /** Whether this runner hosts the actor now: `null` where there is no such actor. Synchronous, for every KV request. */
    readonly hostsUnsafe: (session: SessionId, actorId: string) => boolean | null
    /** The generation that runs on the runner, for judging what it sends; undefined where none does. */
    readonly generationUnsafe: (session: SessionId, actorId: string) => number | undefined

    /** Waits until the actor can be reached, waking or starting it where needed; at most `actorReadyMs`. `wait: false`: placed is enough. */
    readonly place: (actorId: string, options: { readonly wait: boolean }) => Effect.Effect<Placement, ActorError>
    /** The one actor of a runner name that nobody created an actor for; null where somebody did, or autostart is off. Created on first use. */
    readonly autostart: (runnerName: string) => Effect.Effect<string | null, ActorError>

    readonly create: (request: ActorRequest) => Effect.Effect<ActorView, ActorError>
    /** `created` tells which. */
    readonly getOrCreate: (
      request: ActorRequest & { readonly key: string }
    ) => Effect.Effect<{ readonly actor: ActorView; readonly created: boolean }, ActorError>
    readonly find: (name: string, key: string) => Effect.Effect<ActorView, ActorError>
    readonly get: (actorId: string) => Effect.Effect<ActorView, ActorError>
    /** In the order of creation, at most `limit`, after `cursor` (an actor id). */
    readonly list: (query: {
      readonly name?: string
      readonly includeDestroyed?: boolean
      readonly limit: number
      readonly cursor?: string
    }) => Effect.Effect<ReadonlyArray<ActorView>>
    /** Every actor name there is or was announced by a runner, with its JSON metadata. */
    readonly names: Effect.Effect<ReadonlyMap<string, string>>
    readonly destroy: (actorId: string) => Effect.Effect<void, ActorError>
    readonly sleep: (actorId: string) => Effect.Effect<void, ActorError>
    /** Moves it: stops this generation and starts the next, elsewhere if there is elsewhere. */
    readonly reschedule: (actorId: string) => Effect.Effect<void, ActorError>
    readonly runners: Effect.Effect<ReadonlyArray<RunnerView>>
  }
>()("wayleave/actor/ActorControl") {}
