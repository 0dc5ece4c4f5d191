/**
 * What actors and runners are to whoever asks the control plane: how they are ordered, shown, placed, and why one cannot be had. The control plane
 * itself is `ActorControl.ts`.
 */
import { Schema } from "effect"
import type { SessionId } from "../tunnel/Envelope.ts"
import type { NumberedCommand } from "./ActorMessage.ts"

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
    /** More actors than `actorsMax`, or more waiting than may. */
    "guard.overloaded"
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
  /**
   * Writes commands to the runner now. What they order has been stored. `hibernating` of a start is empty here: which WebSockets wait for the actor is
   * known to the hub, and has to be true when the command is written.
   */
  readonly command: (commands: ReadonlyArray<NumberedCommand>) => void
  /** This generation hosts nothing any more: its requests are answered for it, its WebSockets closed, or kept where `hibernates`. */
  readonly ended: (placement: Placement, hibernates: boolean) => void
  /**
   * Asks the runner whether it still hosts this generation: sends what a live actor answers without its code being run, and calls `aliveUnsafe` with the
   * answer. A request whose body its method forbids is such a thing: `docs/internals/actors.md`. Without it nobody is asked, and `suspect` has to tell.
   */
  readonly probe?: (placement: Placement) => void
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
