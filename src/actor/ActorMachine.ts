/**
 * The control plane as plain data and synchronous moves: every actor by `ActorLife.ts`, every runner by what its connection and its events say. Told
 * the time; it neither writes nor sends, but fills an `Outbox.ts`, which `ActorControl.ts` stores and then delivers.
 *
 * One rule carries what runners do not say: only a broken connection can lose a word. A generation that was heard of over its runner's present
 * connection is where it should be; one that was not is asked about when somebody wants it, and replaced where the runner does not answer.
 */
import { Effect } from "effect"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { ActorError, type ActorRequest, type Placement } from "./Actor.ts"
import { alarmDueAtMs, born, dueAtMs, type Input, type State, transition } from "./ActorLife.ts"
import { ActorRoster, type ActorRosterOptions } from "./ActorRoster.ts"
import { Actor, type Runner, type Timer, Waiter } from "./ControlState.ts"
import { DueQueue } from "./DueQueue.ts"
import { type Letters, Outbox } from "./Outbox.ts"
import { type Pool, pick, RunnerRoster } from "./RunnerRoster.ts"

/** The bounds of one control plane and the spans that may be chosen. */
export interface ActorMachineOptions extends ActorRosterOptions {
  readonly runnersMax: number
  readonly actorWaitersMax: number
  readonly actorReadyMs: number
  readonly runnerLostMs: number
}

/** The key of the actor that is made for visitors of a runner name. */
export const autostartKey = "autostart"

const isAutostart = ({ key, name, runnerName }: ActorRequest): boolean => key === autostartKey && name === runnerName

const refused = (reason: ActorError["reason"], message: string) => Effect.fail(new ActorError({ reason, message }))

/** All actors of one hub and every move of theirs. */
export class ActorMachine {
  readonly options: ActorMachineOptions
  readonly actors: ActorRoster
  readonly runners: RunnerRoster
  readonly outbox = new Outbox()
  /** By a clock that is never put forward. */
  readonly deadlines = new DueQueue<Timer>()
  /** By the wall's clock, as actors set them. */
  readonly alarms = new DueQueue<Timer>()
  readonly counts: { [Tag in State["_tag"]]: number } = {
    Pending: 0,
    Starting: 0,
    Running: 0,
    Stopping: 0,
    Sleeping: 0,
    BackingOff: 0,
    Destroyed: 0
  }
  starts = 0
  crashes = 0
  waiting = 0
  /** What waiters are told, after the present move. */
  outcomes: Array<() => void> = []
  private readonly touched = new Set<Actor>()
  private readonly toServe = new Set<Pool>()

  constructor(options: ActorMachineOptions) {
    this.options = options
    this.actors = new ActorRoster(options)
    this.runners = new RunnerRoster(options)
  }

  /** Moves one actor by the table and sees to what follows. Whoever calls this ends with `settle`. */
  apply(actor: Actor, input: Input, now: number): void {
    const before = actor.life
    const { life, outputs } = transition(before, input, now)
    if (life === before) return
    const placement = actor.placement
    actor.life = life
    this.outbox.actorChanged(actor)
    for (const output of outputs) {
      switch (output) {
        case "Start":
          this.begin(actor)
          continue
        case "Stop":
          actor.stopConnection = 0
          continue
        case "Ended":
          if (placement !== undefined) this.end(actor, placement, outputs.includes("Abandoned"))
          continue
        case "Abandoned":
          continue
        case "Crashed":
          this.crashes++
          continue
      }
      absurd(output)
    }
    if (life.state === before.state) return
    this.counts[before.state._tag]--
    this.counts[life.state._tag]++
    this.enter(actor, before.state._tag)
  }

  /** The same for what comes from outside of the generation: one whose start never left is taken back first, and was never anywhere. */
  interrupt(actor: Actor, input: Input, now: number): void {
    if (actor.life.state._tag === "Starting" && !actor.startWritten) this.apply(actor, { _tag: "Withdrawn" }, now)
    this.apply(actor, input, now)
  }

  /** Places who waits for a slot and answers who waits for an actor, until there is nothing left of either. */
  settle(now: number): void {
    while (this.toServe.size > 0 || this.touched.size > 0) {
      for (const pool of this.toServe) {
        this.toServe.delete(pool)
        this.serve(pool, now)
      }
      for (const actor of this.touched) {
        this.touched.delete(actor)
        this.answer(actor, now)
      }
    }
  }

  /** A slot may be free for somebody of this pool. */
  slotFreed(pool: Pool): void {
    if (pool.waiting.size > 0) this.toServe.add(pool)
  }

  /** What its waiters wait for may have come. */
  touch(actor: Actor): void {
    if (actor.waiters !== undefined) this.touched.add(actor)
  }

  /** It was heard of over its runner's present connection. */
  confirm(actor: Actor): void {
    if (actor.host === undefined || actor.connection === actor.host.connection) return
    actor.connection = actor.host.connection
    this.deadlines.clear(actor.check)
    this.touch(actor)
  }

  /** Has its runner asked whether it is there, once. Without a way to ask, `orElse` says whether it is taken for gone. */
  ask(actor: Actor, now: number, orElse: "gone" | "trust"): void {
    const port = actor.host?.port
    if (port === undefined || actor.confirmed || actor.check.place !== -1) return
    if (port.probe !== undefined) {
      this.outbox.probe(actor)
      this.deadlines.set(actor.check, now + limits.actorProbeMs)
    } else if (orElse === "gone") this.apply(actor, { _tag: "Unanswered" }, now)
  }

  /**
   * The runner may host a generation that it should not: it is told to stop it, once over each of its connections, until it says that it has.
   * `toldOver`: the connection over which it was told already; 0 for none.
   */
  owe(runner: Runner, actorId: string, generation: number, toldOver: number): void {
    const { owedStops } = runner
    if (runner.lost && runner.port === undefined) return
    if (owedStops.get(actorId)?.generation === generation) return
    if (owedStops.size >= limits.runnerOwedStopsMax) owedStops.delete(owedStops.keys().next().value as string)
    owedStops.set(actorId, { generation, connection: toldOver })
    this.outbox.runnerChanged(runner)
    this.outbox.owe(runner)
  }

  /** Where the actor can be reached now. */
  reachable(actor: Actor, placedIsEnough: boolean): Placement | undefined {
    const port = actor.host?.port
    if (port === undefined) return undefined
    switch (actor.life.state._tag) {
      case "Running":
        return actor.confirmed || port.probe === undefined ? actor.placement : undefined
      case "Starting":
        return placedIsEnough && actor.confirmed ? actor.placement : undefined
      case "Pending":
      case "Stopping":
      case "Sleeping":
      case "BackingOff":
      case "Destroyed":
        return undefined
    }
    return absurd(actor.life.state)
  }

  /** Waits until it can be reached; undefined where too many wait already. */
  wait(actor: Actor, placedIsEnough: boolean, resume: Waiter["resume"], now: number): Waiter | undefined {
    if (this.waiting >= this.options.actorWaitersMax) return undefined
    const waiter = new Waiter(actor, placedIsEnough, resume)
    actor.waiters ??= new Set()
    actor.waiters.add(waiter)
    this.waiting++
    this.deadlines.set(waiter.timer, now + this.options.actorReadyMs)
    this.touch(actor)
    return waiter
  }

  /** Waits no longer, whatever comes. */
  leave(waiter: Waiter): void {
    const { actor } = waiter
    if (actor.waiters === undefined || !actor.waiters.delete(waiter)) return
    if (actor.waiters.size === 0) actor.waiters = undefined
    this.waiting--
    this.deadlines.clear(waiter.timer)
  }

  /** A new actor, which waits for a runner. */
  create(actorId: string, request: ActorRequest, now: number): Actor {
    const life = born(request.crashPolicy, now)
    const actor = new Actor({ actorId, request, createdAtMs: now, life })
    this.adopt(actor)
    this.outbox.actorCreated(actor)
    this.enter(actor, undefined)
    return actor
  }

  /** Takes an actor in as it is, new or from the store; it enters its state then. */
  adopt(actor: Actor): void {
    this.actors.add(actor)
    this.counts[actor.life.state._tag]++
    const pool = this.runners.pool(actor.request.runnerName)
    if (!isAutostart(actor.request)) pool.created++
    else if (actor.life.state._tag !== "Destroyed") pool.autostarted = actor
  }

  /** Forgets what was destroyed, to be within the bounds; `wanted`: and to make room for one more. */
  makeRoom(wanted: boolean): void {
    for (;;) {
      const actor = this.actors.surplus(wanted)
      if (actor === undefined) return
      this.forget(actor)
    }
  }

  /** What is due by now, on the clock that is never put forward and on the wall's. */
  due(now: number, wallNow: number): Timer | undefined {
    return this.deadlines.take(now) ?? this.alarms.take(wallNow)
  }

  /** An actor's time is up, or a waiter's. */
  fireActor(timer: Exclude<Timer, { readonly what: "Runner" }>, now: number): void {
    switch (timer.what) {
      case "Deadline":
        if (timer.of.life.state._tag === "Destroyed") this.forget(timer.of)
        else this.interrupt(timer.of, { _tag: "Due" }, now)
        return
      case "Check":
        // Without a connection nothing can have been answered, and the next one begins anew.
        if (timer.of.host?.port !== undefined && !timer.of.confirmed) this.apply(timer.of, { _tag: "Unanswered" }, now)
        return
      case "Alarm":
        this.apply(timer.of, { _tag: "AlarmDue" }, now)
        return
      case "Waiter":
        this.tell(timer.of, refused("guard.actor_ready_timeout", "the actor did not become ready in time"))
        return
    }
    absurd(timer)
  }

  /** Sends what was stored. A start whose runner has gone meanwhile is taken back. */
  deliver(letters: Letters, now: number): void {
    const unsent = this.outbox.deliver(letters, (actor) => this.touch(actor))
    for (const actor of unsent) this.apply(actor, { _tag: "Withdrawn" }, now)
  }

  /** A generation begins on the runner that its state names. */
  private begin(actor: Actor): void {
    const { state } = actor.life
    const host = state._tag === "Starting" ? this.runners.get(state.runner) : undefined
    actor.host = host
    host?.actors.add(actor)
    actor.heardIndex = -1n
    actor.connection = 0
    actor.startWritten = false
    actor.stopConnection = 0
    this.starts++
  }

  /** The generation is over: its slot is free, and nobody is to wait for it. */
  private end(actor: Actor, placement: Placement, abandoned: boolean): void {
    const { host } = actor
    this.deadlines.clear(actor.check)
    if (host !== undefined) {
      host.actors.delete(actor)
      actor.host = undefined
      const pool = this.runners.poolIfAny(host.introduction.name)
      if (pool !== undefined) this.slotFreed(pool)
      if (actor.startWritten) this.outbox.ended(actor, placement, host)
      if (abandoned) this.owe(host, actor.id, placement.generation, actor.stopConnection)
    }
    // One whose start never left was never anywhere.
    if (!actor.startWritten) return
    for (const waiter of [...(actor.waiters ?? [])]) {
      if (++waiter.stops > limits.actorWakesMax) {
        this.tell(waiter, refused("guard.actor_wake_retries_exceeded", "the actor stopped each time it was started"))
      }
    }
  }

  /** Queues, timers and indexes for the state it is in now. `from` is undefined for one that was taken in. */
  enter(actor: Actor, from: State["_tag"] | undefined): void {
    const { life, request } = actor
    const pool = this.runners.pool(request.runnerName)
    if (from === "Pending") pool.waiting.delete(actor)
    if (life.state._tag === "Pending") {
      pool.waiting.add(actor)
      this.toServe.add(pool)
    }
    if (life.state._tag === "Destroyed") {
      if (from !== undefined) this.actors.end(actor)
      if (pool.autostarted === actor) pool.autostarted = undefined
      this.deadlines.set(actor.deadline, life.state.sinceMs + limits.actorDestroyedMs)
      this.actors.bury(actor)
      this.makeRoom(false)
    } else {
      const dueAt = dueAtMs(life)
      if (dueAt === null) this.deadlines.clear(actor.deadline)
      else this.deadlines.set(actor.deadline, dueAt)
    }
    const alarmAt = alarmDueAtMs(life)
    if (alarmAt === null) this.alarms.clear(actor.alarm)
    else this.alarms.set(actor.alarm, alarmAt)
    this.outbox.order(actor)
    this.touch(actor)
  }

  private serve(pool: Pool, now: number): void {
    for (const actor of pool.waiting) {
      const { state } = actor.life
      const runner = pick(pool, state._tag === "Pending" ? state.avoid : null)
      if (runner === undefined) return
      this.apply(actor, { _tag: "Allocated", runner: runner.session }, now)
    }
  }

  private answer(actor: Actor, now: number): void {
    const { state } = actor.life
    for (const waiter of [...(actor.waiters ?? [])]) {
      const placement = this.reachable(actor, waiter.placedIsEnough)
      if (placement !== undefined) this.tell(waiter, Effect.succeed(placement))
      else if (state._tag === "Destroyed") {
        this.tell(waiter, refused("actor.destroyed_while_waiting_for_ready", "the actor was destroyed"))
      }
    }
    if (actor.waiters === undefined) return
    if (state._tag === "Running") this.ask(actor, now, "trust")
    else this.apply(actor, { _tag: "Wake" }, now)
  }

  private tell(waiter: Waiter, outcome: Effect.Effect<Placement, ActorError>): void {
    this.leave(waiter)
    this.outcomes.push(() => waiter.resume(outcome))
  }

  private forget(actor: Actor): void {
    this.actors.forget(actor)
    this.deadlines.clear(actor.deadline)
    this.counts.Destroyed--
    this.outbox.actorForgotten(actor)
    const pool = this.runners.poolIfAny(actor.request.runnerName)
    if (pool === undefined) return
    if (!isAutostart(actor.request)) pool.created--
    this.runners.dropIfEmpty(pool)
  }
}
