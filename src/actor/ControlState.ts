/**
 * What the control plane holds in memory: actors, runners, and those who wait for an actor, as plain records that point to each other. Changed in
 * place by `ActorMachine.ts` and by nobody else; what of it has to last is in `ActorStore.ts`.
 */
import type { Effect } from "effect"
import type { SessionId } from "../tunnel/Envelope.ts"
import type { ActorError, ActorRequest, Placement, RunnerIntroduction, RunnerPort } from "./Actor.ts"
import { hostOf, type Life } from "./ActorLife.ts"
import type { StoredActor, StoredRunner } from "./ActorStore.ts"
import type { Due } from "./DueQueue.ts"

class OwnTimer<What, Of> implements Due {
  atMs = 0
  place = -1
  readonly what: What
  readonly of: Of
  constructor(what: What, of: Of) {
    this.what = what
    this.of = of
  }
}

/** Something that happens at its time, and to whom. */
export type Timer =
  | OwnTimer<"Deadline" | "Check" | "Alarm", Actor>
  | OwnTimer<"Runner", Runner>
  | OwnTimer<"Waiter", Waiter>

/** An actor, and what is known of its present generation beyond what is stored. */
export class Actor {
  readonly id: string
  readonly request: ActorRequest
  readonly createdAtMs: number
  life: Life
  /** Hosts the present generation. */
  host: Runner | undefined = undefined
  /** The last event of the present generation that was heard; -1 before the first. */
  heardIndex = -1n
  /** The connection of its host over which the present generation was last heard of, or its start written; 0 for none. */
  connection = 0
  /** Whether the start has left, or may have: of what an earlier process wrote nothing is known. */
  startWritten = true
  /** The connection over which the stop was written; 0 for none. */
  stopConnection = 0
  /** The last generation that said `stopped`. */
  saidStopped = -1
  /** Who waits until it can be reached. */
  waiters: Set<Waiter> | undefined = undefined
  private known: Placement | undefined = undefined
  /** When its state's own time is up. */
  readonly deadline: Timer = new OwnTimer("Deadline", this)
  /** When its host is to have answered for it, after a reconnect. */
  readonly check: Timer = new OwnTimer("Check", this)
  /** On the wall's clock, unlike the other two. */
  readonly alarm: Timer = new OwnTimer("Alarm", this)

  constructor({ actorId, createdAtMs, life, request }: StoredActor) {
    this.id = actorId
    this.request = request
    this.createdAtMs = createdAtMs
    this.life = life
  }

  /** The present generation and where it is; undefined where it is nowhere. The same object for as long as it is the same. */
  get placement(): Placement | undefined {
    const runner = hostOf(this.life)
    if (runner === null) return undefined
    if (this.known === undefined || this.known.generation !== this.life.generation) {
      this.known = { actorId: this.id, generation: this.life.generation, runner }
    }
    return this.known
  }

  /** Whether its host, connected, has been heard of it over this very connection: only a broken one can lose a word. */
  get confirmed(): boolean {
    return this.host?.port !== undefined && this.connection === this.host.connection
  }

  get stored(): StoredActor {
    return { actorId: this.id, request: this.request, createdAtMs: this.createdAtMs, life: this.life }
  }
}

/** A runner by its identity. */
export class Runner {
  readonly session: SessionId
  introduction: RunnerIntroduction
  readonly createdAtMs: number
  lastSeenAtMs: number
  port: RunnerPort | undefined = undefined
  /** Whether it ever connected: one that only introduced itself is not worth remembering. */
  met = false
  /** Counts its connections. */
  connection = 0
  /** Those it hosts: each takes a slot. */
  readonly actors = new Set<Actor>()
  drainingSinceMs: number | null
  /** Since when its identity is nobody's any more. Its actors may outlive that by the lost threshold. */
  goneAtMs: number | null
  /** Its actors were dealt with. */
  lost: boolean
  /** Generations that never said `stopped`, by actor, and the connection over which each was told to stop. */
  readonly owedStops = new Map<string, { readonly generation: number; connection: number }>()
  /** Connections that took over from a living one, and since when they are counted. */
  takeovers = 0
  takeoversSinceMs = 0
  /** Until it is lost; then until it is forgotten. */
  readonly timer: Timer = new OwnTimer("Runner", this)

  constructor(stored: StoredRunner) {
    this.session = stored.session
    this.introduction = stored.introduction
    this.createdAtMs = stored.createdAtMs
    this.lastSeenAtMs = stored.lastSeenAtMs
    this.drainingSinceMs = stored.drainingSinceMs
    this.goneAtMs = stored.goneAtMs
    this.lost = stored.lost
    for (const { actorId, generation } of stored.owedStops) this.owedStops.set(actorId, { generation, connection: 0 })
  }

  /** Slots it has left. Wide arithmetic: there may be 2^32 - 1. */
  get slotsLeft(): number {
    return Math.max(0, this.introduction.totalSlots - this.actors.size)
  }

  get stored(): StoredRunner {
    return {
      session: this.session,
      introduction: this.introduction,
      createdAtMs: this.createdAtMs,
      lastSeenAtMs: this.lastSeenAtMs,
      connected: this.port !== undefined,
      drainingSinceMs: this.drainingSinceMs,
      goneAtMs: this.goneAtMs,
      lost: this.lost,
      owedStops: [...this.owedStops].map(([actorId, { generation }]) => ({ actorId, generation }))
    }
  }
}

/** Somebody who waits until an actor can be reached. */
export class Waiter {
  readonly actor: Actor
  /** Whether being placed is enough. */
  readonly placedIsEnough: boolean
  readonly resume: (outcome: Effect.Effect<Placement, ActorError>) => void
  /** How often the actor stopped meanwhile. */
  stops = 0
  readonly timer: Timer = new OwnTimer("Waiter", this)

  constructor(actor: Actor, placedIsEnough: boolean, resume: Waiter["resume"]) {
    this.actor = actor
    this.placedIsEnough = placedIsEnough
    this.resume = resume
  }
}
