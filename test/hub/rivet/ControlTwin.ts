/** A control plane that says what the test tells it, and remembers what it was told. */
import { Deferred, Effect, Layer } from "effect"
import {
  ActorControl,
  ActorError,
  type Placement,
  type RunnerIntroduction,
  type RunnerPort
} from "../../../src/actor/ActorControl.ts"
import type { Checkpoint, NumberedCommand, NumberedEvent } from "../../../src/actor/ActorMessage.ts"
import * as RivetId from "../../../src/actor/RivetId.ts"
import { SessionId } from "../../../src/tunnel/Envelope.ts"

/** Actors of the tests, by a number. */
export const actorOf = (number: number): string => RivetId.make(new Uint8Array(16).fill(number))

const config = { name: "actor", key: null, createdAtMs: 1n, input: null }

/** The command that starts a generation. */
export const startOf = (actorId: string, generation = 0): NumberedCommand => ({
  checkpoint: { actorId, generation, index: 0n },
  command: { _tag: "StartActor", config, hibernating: [] }
})

/** The command that stops one. */
export const stopOf = (actorId: string, generation = 0): NumberedCommand => ({
  checkpoint: { actorId, generation, index: 1n },
  command: { _tag: "StopActor" }
})

export class ControlTwin {
  readonly ports = new Map<SessionId, RunnerPort>()
  readonly introductions: Array<RunnerIntroduction> = []
  readonly attached: Array<{ readonly session: SessionId; readonly seen: ReadonlyArray<Checkpoint> }> = []
  readonly events: Array<NumberedEvent> = []
  readonly acknowledged: Array<Checkpoint> = []
  readonly draining: Array<SessionId> = []
  readonly lost: Array<SessionId> = []
  /** Actors that were heard of, and those that were not. */
  readonly alive: Array<string> = []
  readonly suspected: Array<string> = []
  /** Commands that a runner is owed when it attaches. */
  owed: ReadonlyArray<NumberedCommand> = []
  /** What a runner name leads to. */
  readonly autostarts = new Map<string, string | null>()
  /** Effects in front of `place`, by actor. */
  readonly delays = new Map<string, Effect.Effect<void, ActorError>>()
  private readonly placements = new Map<string, Placement>()
  private readonly known = new Map<string, SessionId>()
  private count = 0

  /** This runner hosts the actor from now on. */
  host(actorId: string, runner: SessionId, generation = 0): Placement {
    const placement = { actorId, generation, runner }
    this.placements.set(actorId, placement)
    return placement
  }

  /** Whether somebody does. */
  isHosted(actorId: string): boolean {
    return this.placements.has(actorId)
  }

  /** Nobody does. */
  vacate(actorId: string): void {
    this.placements.delete(actorId)
  }

  /** Until the Deferred is done, the actor is being started. */
  hold(actorId: string): Deferred.Deferred<void, ActorError> {
    const started = Deferred.makeUnsafe<void, ActorError>()
    this.delays.set(actorId, Deferred.await(started))
    return started
  }

  port(session: SessionId): RunnerPort {
    const port = this.ports.get(session)
    if (port === undefined) throw new Error("that runner is not attached")
    return port
  }

  /** Has the runner told to start the actor, which then lives there. */
  start(actorId: string, runner: SessionId, generation = 0): void {
    this.host(actorId, runner, generation)
    this.port(runner).command([startOf(actorId, generation)])
  }

  /** The generation hosts nothing any more. */
  end(actorId: string, hibernates: boolean): void {
    const placement = this.placements.get(actorId)
    if (placement === undefined) throw new Error("nobody hosts it")
    this.vacate(actorId)
    this.ports.get(placement.runner)?.ended(placement, hibernates)
  }

  /** Whoever comes with this name and key is that runner. */
  identifyAs(name: string, key: string, session: SessionId): void {
    this.known.set(`${name}/${key}`, session)
  }

  /** The id of a runner by its key. */
  sessionOf(name = "pool", key = "key"): SessionId {
    const session = this.known.get(`${name}/${key}`)
    if (session === undefined) throw new Error("no such runner")
    return session
  }

  readonly layer: Layer.Layer<ActorControl> = Layer.mock(ActorControl)({
    identify: (runner) =>
      Effect.sync(() => {
        this.introductions.push(runner)
        const id = `${runner.name}/${runner.key}`
        const known = this.known.get(id)
        if (known !== undefined) return known
        this.count++
        const session = SessionId.make(this.count.toString(16).padStart(32, "0"))
        this.known.set(id, session)
        return session
      }),
    attach: (session, _runner, port, seen) =>
      Effect.acquireRelease(
        Effect.sync(() => {
          this.ports.set(session, port)
          this.attached.push({ session, seen })
          const { owed } = this
          if (owed.length > 0) port.command(owed)
        }),
        () =>
          Effect.sync(() => {
            if (this.ports.get(session) === port) this.ports.delete(session)
          })
      ).pipe(Effect.asVoid),
    heard: (_session, events) =>
      Effect.sync(() => {
        this.events.push(...events)
        const last = new Map(events.map(({ checkpoint }) => [checkpoint.actorId, checkpoint]))
        return [...last.values()]
      }),
    acknowledged: (_session, upTo) => Effect.sync(() => void this.acknowledged.push(...upTo)),
    draining: (session) => Effect.sync(() => void this.draining.push(session)),
    lost: (session) =>
      Effect.sync(() => {
        this.lost.push(session)
        for (const [id, known] of this.known) if (known === session) this.known.delete(id)
        for (const [actorId, { runner }] of this.placements) if (runner === session) this.placements.delete(actorId)
      }),
    hostsUnsafe: (session, actorId) => {
      const placement = this.placements.get(actorId)
      return placement === undefined ? null : placement.runner === session
    },
    generationUnsafe: (session, actorId) => {
      const placement = this.placements.get(actorId)
      return placement?.runner === session ? placement.generation : undefined
    },
    aliveUnsafe: (_session, actorId) => {
      this.alive.push(actorId)
    },
    suspect: (_session, actorId) => Effect.sync(() => void this.suspected.push(actorId)),
    place: (actorId, { wait }) =>
      ((wait || !this.isHosted(actorId) ? this.delays.get(actorId) : undefined) ?? Effect.void).pipe(
        Effect.andThen(
          Effect.suspend(() => {
            const placement = this.placements.get(actorId)
            if (placement !== undefined) return Effect.succeed(placement)
            return Effect.fail(new ActorError({ reason: "actor.not_found", message: "there is no such actor" }))
          })
        )
      ),
    autostart: (name) => Effect.sync(() => this.autostarts.get(name) ?? null)
  })
}
