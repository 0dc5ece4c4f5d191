/**
 * What has changed and is not stored yet, and what has to leave once it is. Commands are not kept but read off the actors when they are due: a
 * start is owed while an actor is Starting and none was written, a stop while it is Stopping and none was written over this connection.
 */
import type { SessionId } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Placement, RunnerPort } from "./Actor.ts"
import type { NumberedCommand } from "./ActorMessage.ts"
import type { StoreChanges } from "./ActorStore.ts"
import type { Actor, Runner } from "./ControlState.ts"

interface Ending {
  readonly port: RunnerPort
  readonly placement: Placement
  readonly hibernates: boolean
}

/** What leaves together once it is stored. */
export interface Letters {
  readonly endings: ReadonlyArray<Ending>
  readonly orders: Iterable<Actor>
  readonly owed: Iterable<Runner>
  readonly probes: Iterable<Actor>
}

// As in Rivet: the start of a generation is its command 0, the stop its command 1.
const startIndex = 0n
const stopIndex = 1n

const start = ({ id, life, request }: Actor, allocatedAtMs: number): NumberedCommand => ({
  checkpoint: { actorId: id, generation: life.generation, index: startIndex },
  command: {
    _tag: "StartActor",
    config: {
      name: request.name,
      key: request.key,
      createdAtMs: BigInt(Math.trunc(allocatedAtMs)),
      input: request.input
    },
    hibernating: []
  }
})

const stop = (actorId: string, generation: number): NumberedCommand => ({
  checkpoint: { actorId, generation, index: stopIndex },
  command: { _tag: "StopActor" }
})

/** Bounded by what it points to: an actor or a runner is in each of its sets at most once. */
export class Outbox {
  private readonly created = new Set<Actor>()
  private readonly lives = new Set<Actor>()
  private readonly forgotten = new Set<string>()
  private readonly runners = new Set<Runner>()
  private readonly forgottenRunners = new Set<SessionId>()
  private endings: Array<Ending> = []
  private orders = new Set<Actor>()
  private owed = new Set<Runner>()
  private probes = new Set<Actor>()
  private alive = false

  actorCreated(actor: Actor): void {
    this.created.add(actor)
  }

  actorChanged(actor: Actor): void {
    if (!this.created.has(actor)) this.lives.add(actor)
  }

  actorForgotten(actor: Actor): void {
    this.created.delete(actor)
    this.lives.delete(actor)
    this.forgotten.add(actor.id)
  }

  runnerChanged(runner: Runner): void {
    this.runners.add(runner)
  }

  runnerForgotten(runner: Runner): void {
    this.runners.delete(runner)
    this.forgottenRunners.add(runner.session)
  }

  ended(actor: Actor, placement: Placement, host: Runner): void {
    // What a runner without a connection had open was dealt with when it lost that.
    if (host.port !== undefined) {
      this.endings.push({ port: host.port, placement, hibernates: actor.life.state._tag !== "Destroyed" })
    }
  }

  /** It is to be written down that this process lives. */
  beat(): void {
    this.alive = true
  }

  /** A command for it may be due. */
  order(actor: Actor): void {
    this.orders.add(actor)
  }

  /** Stops may be due for what this runner was left with. */
  owe(runner: Runner): void {
    this.owed.add(runner)
  }

  /** Its host is to be asked whether it is there. */
  probe(actor: Actor): void {
    this.probes.add(actor)
  }

  /** Whether anything is not stored. */
  get changed(): boolean {
    return (
      this.alive ||
      this.lives.size > 0 ||
      this.created.size > 0 ||
      this.runners.size > 0 ||
      this.forgotten.size > 0 ||
      this.forgottenRunners.size > 0
    )
  }

  /** Whether there is anything to do at all. */
  get pending(): boolean {
    return this.changed || this.orders.size > 0 || this.owed.size > 0 || this.endings.length > 0 || this.probes.size > 0
  }

  /** Everything up to now: what to store, and what may leave then. */
  take(aliveAtMs: number): { readonly changes: StoreChanges; readonly letters: Letters } {
    const changes: StoreChanges = {
      created: Array.from(this.created, (actor) => actor.stored),
      lives: Array.from(this.lives, ({ id, life }) => ({ actorId: id, life })),
      forgotten: [...this.forgotten],
      runners: Array.from(this.runners, (runner) => runner.stored),
      forgottenRunners: [...this.forgottenRunners],
      aliveAtMs
    }
    const letters = { endings: this.endings, orders: this.orders, owed: this.owed, probes: this.probes }
    this.created.clear()
    this.lives.clear()
    this.forgotten.clear()
    this.runners.clear()
    this.forgottenRunners.clear()
    this.alive = false
    this.endings = []
    this.orders = new Set()
    this.owed = new Set()
    this.probes = new Set()
    return { changes, letters }
  }

  /** Sends what was stored. Returns the actors whose start cannot leave because their runner is not there any more. */
  deliver({ endings, orders, owed, probes }: Letters, written: (actor: Actor) => void): ReadonlyArray<Actor> {
    for (const { hibernates, placement, port } of endings) port.ended(placement, hibernates)
    const commands = new Map<Runner, Array<NumberedCommand>>()
    const say = (runner: Runner, command: NumberedCommand) => {
      const before = commands.get(runner)
      if (before === undefined) commands.set(runner, [command])
      else before.push(command)
    }
    for (const runner of owed) {
      if (runner.port === undefined) continue
      for (const [actorId, left] of runner.owedStops) {
        if (left.connection === runner.connection) continue
        left.connection = runner.connection
        say(runner, stop(actorId, left.generation))
      }
    }
    const unsent: Array<Actor> = []
    for (const actor of orders) {
      const { host } = actor
      // What changed while the rest was stored waits for its own turn.
      if (host === undefined || this.lives.has(actor)) continue
      const { state } = actor.life
      if (state._tag === "Starting" && !actor.startWritten) {
        if (host.port === undefined) {
          unsent.push(actor)
          continue
        }
        actor.startWritten = true
        actor.connection = host.connection
        say(host, start(actor, state.untilMs - limits.actorStartMs))
        written(actor)
      } else if (state._tag === "Stopping" && host.port !== undefined && actor.stopConnection !== host.connection) {
        actor.stopConnection = host.connection
        say(host, stop(actor.id, actor.life.generation))
      }
    }
    for (const [runner, list] of commands) runner.port?.command(list)
    for (const actor of probes) {
      const { placement } = actor
      if (placement !== undefined && !actor.confirmed) actor.host?.port?.probe?.(placement)
    }
    return unsent
  }
}
