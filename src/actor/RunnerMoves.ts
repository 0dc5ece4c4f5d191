/**
 * What runners do, as moves of `ActorMachine.ts`: they introduce themselves, connect, say what became of their actors, leave, or are not heard of
 * any more. Synchronous and told the time, like the machine.
 */
import type { SessionId } from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { RunnerIntroduction, RunnerPort } from "./Actor.ts"
import { hostOf, type Input } from "./ActorLife.ts"
import type { ActorMachine } from "./ActorMachine.ts"
import type { Checkpoint, Event, NumberedEvent } from "./ActorMessage.ts"
import type { StoredWorld } from "./ActorStore.ts"
import { Actor, Runner } from "./ControlState.ts"

/** From this version on a runner's acknowledgement of commands names every actor that lives there, and its stop code means something at 7. */
const listsItsActors = 4
const tellsHowItStopped = 7
/** Version 4 acknowledges without the generation. */
const namesNoGeneration = 4

/** The event as an input of the table. */
const inputOf = (event: Event, protocolVersion: number): Input => {
  switch (event._tag) {
    case "WantsSleep":
    case "WantsStop":
    case "Running":
      return event
    case "Stopped":
      if (event.failed) return { _tag: "Stopped", said: "error" }
      return { _tag: "Stopped", said: protocolVersion < tellsHowItStopped ? "nothing" : "ok" }
    case "SetAlarm":
      return { _tag: "SetAlarm", atMs: event.atMs === null ? null : Number(event.atMs) }
  }
  return absurd(event)
}

/** The moves of runners on one machine. `newSession` draws an identity. */
export class RunnerMoves {
  private readonly machine: ActorMachine
  private readonly newSession: () => SessionId
  /** How many runners are connected. */
  connected = 0

  constructor(machine: ActorMachine, newSession: () => SessionId) {
    this.machine = machine
    this.newSession = newSession
  }

  /** Who comes with this name and key. Who is known by them is given its time once more, so that it is not lost while it connects. */
  identify(introduction: RunnerIntroduction, now: number): SessionId {
    const { deadlines, options, runners } = this.machine
    const known = runners.known(introduction)
    if (known !== undefined) {
      if (known.port === undefined) deadlines.set(known.timer, now + options.runnerLostMs)
      return known.session
    }
    const session = this.newSession()
    this.enter(session, introduction, now)
    return session
  }

  /** It is connected, over a connection newer than any before. Returns the runner; undefined where it cannot be remembered. */
  attach(
    session: SessionId,
    introduction: RunnerIntroduction,
    port: RunnerPort,
    commandsSeen: ReadonlyArray<Checkpoint>,
    now: number
  ): Runner | undefined {
    const { actors, deadlines, outbox, runners } = this.machine
    const runner = runners.get(session) ?? this.enter(session, introduction, now)
    if (runner === undefined) return undefined
    if (runner.port === undefined) this.connected++
    else this.noteTakeover(runner, now)
    deadlines.clear(runner.timer)
    runner.introduction = { ...introduction, name: runner.introduction.name, key: runner.introduction.key }
    runner.port = port
    runner.met = true
    runner.connection++
    runner.lastSeenAtMs = now
    // It was given its identity before it was taken for lost, and believes in it: what it still hosts is found out like all else.
    runner.goneAtMs = null
    runner.lost = false
    runners.admit(runner)
    actors.announce(introduction.actorNames)
    outbox.runnerChanged(runner)
    outbox.owe(runner)
    const seen = new Set(commandsSeen.map(({ actorId, generation }) => `${generation}/${actorId}`))
    for (const actor of runner.actors) this.resume(actor, seen.has(`${actor.life.generation}/${actor.id}`), now)
    this.machine.slotFreed(runners.pool(runner.introduction.name))
    return runner
  }

  /** This connection is over. A newer one is not touched by that. */
  detach(runner: Runner, port: RunnerPort, now: number): void {
    if (runner.port !== port) return
    const { deadlines, options, outbox } = this.machine
    runner.port = undefined
    this.connected--
    runner.lastSeenAtMs = now
    outbox.runnerChanged(runner)
    if (runner.timer.place === -1) deadlines.set(runner.timer, now + options.runnerLostMs)
  }

  /** Events as they came; what may be acknowledged. */
  heard(session: SessionId, events: ReadonlyArray<NumberedEvent>, now: number): ReadonlyArray<Checkpoint> {
    const runner = this.machine.runners.get(session)
    if (runner === undefined) return []
    const acknowledged = new Map<string, Checkpoint>()
    for (const { checkpoint, event } of events) {
      const { actorId, generation } = checkpoint
      const actor = this.machine.actors.get(actorId)
      if (actor === undefined || actor.host !== runner || actor.life.generation !== generation) {
        this.heardOfStale(runner, actor, checkpoint, event)
        // The runner compares no generations: an acknowledgement of an older one would take events from the present one that nobody heard.
        if (actor?.host !== runner) acknowledged.set(actorId, checkpoint)
        continue
      }
      acknowledged.set(actorId, checkpoint)
      this.machine.confirm(actor)
      if (this.isNew(runner, actor, checkpoint, event))
        this.machine.apply(actor, inputOf(event, runner.introduction.protocolVersion), now)
    }
    return [...acknowledged.values()]
  }

  /** The runner has these commands; and, where its version lists every actor that lives there, no other actor that was not heard of since. */
  acknowledged(session: SessionId, upTo: ReadonlyArray<Checkpoint>, now: number): void {
    const runner = this.machine.runners.get(session)
    if (runner === undefined || runner.port === undefined) return
    const { protocolVersion } = runner.introduction
    const lists = protocolVersion >= listsItsActors
    for (const { actorId, generation } of upTo) {
      const actor = this.machine.actors.get(actorId)
      const hosted = actor?.host === runner
      if (hosted && (actor.life.generation === generation || protocolVersion === namesNoGeneration)) {
        // An older version names what it was told once, which may be gone. Of a start it says that it arrived, and so `running` will come.
        if (lists || actor.life.state._tag === "Starting") this.machine.confirm(actor)
      } else if (lists && protocolVersion !== namesNoGeneration && actor?.saidStopped !== generation) {
        this.machine.owe(runner, actorId, generation, 0)
      }
    }
    if (!lists) return
    for (const actor of [...runner.actors]) {
      if (actor.life.state._tag !== "Starting") this.machine.ask(actor, now, "gone")
    }
  }

  /** It takes nothing new; its actors are told to stop. Who comes with its name and key from now on is another. */
  draining(session: SessionId, now: number): void {
    const { outbox, runners } = this.machine
    const runner = runners.get(session)
    if (runner === undefined || runner.drainingSinceMs !== null) return
    runner.drainingSinceMs = now
    runners.disown(runner)
    if (runner.met) outbox.runnerChanged(runner)
    for (const actor of [...runner.actors]) this.machine.interrupt(actor, { _tag: "RunnerDraining" }, now)
  }

  /**
   * It will not come back under its identity. Where it had said that it leaves, it has stopped what it could, and its actors are dealt with now;
   * else they may live on for as long as it takes a runner to notice that it is alone.
   */
  leave(session: SessionId, now: number): void {
    const { deadlines, options, outbox, runners } = this.machine
    const runner = runners.get(session)
    if (runner === undefined || runner.goneAtMs !== null) return
    runner.goneAtMs = now
    runners.dismiss(runner)
    if (runner.met) outbox.runnerChanged(runner)
    const aloneSince = runner.port === undefined ? runner.lastSeenAtMs : now
    const until = aloneSince + options.runnerLostMs
    if (runner.drainingSinceMs !== null || runner.actors.size === 0 || until <= now) this.lose(runner, now)
    else deadlines.set(runner.timer, until)
  }

  /** Its time is up: it is lost, or, lost long enough, forgotten. */
  fire(runner: Runner, now: number): void {
    if (!runner.lost) this.lose(runner, now)
    else if (runner.port === undefined) this.forget(runner)
  }

  /** Whoever uses the actor had no answer from its runner. Only where a broken connection may have lost a word is that believed. */
  suspect(session: SessionId, actorId: string, now: number): void {
    const actor = this.machine.actors.get(actorId)
    if (actor === undefined || actor.host?.session !== session) return
    if (actor.life.state._tag !== "Starting") this.machine.ask(actor, now, "gone")
  }

  /** Whether this runner hosts the actor, and it was not heard of over the present connection. */
  isUnheard(session: SessionId, actorId: string): boolean {
    const actor = this.machine.actors.get(actorId)
    return actor?.host?.session === session && actor.host.port !== undefined && !actor.confirmed
  }

  /** The actor said something. */
  alive(session: SessionId, actorId: string): void {
    const actor = this.machine.actors.get(actorId)
    if (actor !== undefined && this.isUnheard(session, actorId)) this.machine.confirm(actor)
  }

  /**
   * What an earlier process left. Each runner has its time to come back; one that was not seen for longer than that anyway has stopped its actors
   * by itself. The process may have ended up to a beat after it last wrote that it lived.
   */
  load({ actors, aliveAtMs, runners }: StoredWorld, now: number): void {
    const { deadlines, options } = this.machine
    for (const stored of runners) {
      const runner = new Runner(stored)
      runner.met = true
      if (!this.machine.runners.add(runner)) continue
      this.machine.actors.announce(runner.introduction.actorNames)
      if (runner.lost) deadlines.set(runner.timer, now + limits.runnerGoneMs)
      else {
        const seen = stored.connected ? (aliveAtMs ?? stored.lastSeenAtMs) + limits.actorBeatMs : stored.lastSeenAtMs
        const isLost = now - seen > options.runnerLostMs
        deadlines.set(runner.timer, isLost ? now : now + options.runnerLostMs)
      }
    }
    const loaded = actors.map((stored) => new Actor(stored))
    for (const actor of loaded) {
      const session = hostOf(actor.life)
      actor.host = session === null ? undefined : this.machine.runners.get(session)
      actor.host?.actors.add(actor)
      this.machine.adopt(actor)
    }
    for (const actor of loaded.sort((a, b) => orderOf(a.life.state) - orderOf(b.life.state))) {
      this.machine.enter(actor, undefined)
      // A clock that was put back since must not make anybody wait for longer than anybody ever waits.
      const latest = now + limits.actorStopMs
      if (actor.deadline.place !== -1 && actor.deadline.atMs > latest) deadlines.set(actor.deadline, latest)
      if (actor.placement !== undefined && (actor.host === undefined || actor.host.lost)) {
        this.machine.apply(actor, { _tag: "RunnerLost" }, now)
      }
    }
  }

  /** One of its actors, now that it is back: what is owed to it, and whether it is there at all. */
  private resume(actor: Actor, startSeen: boolean, now: number): void {
    const { deadlines, outbox } = this.machine
    deadlines.clear(actor.check)
    switch (actor.life.state._tag) {
      case "Starting":
        if (!actor.startWritten) outbox.order(actor)
        else if (!startSeen) deadlines.set(actor.check, now + limits.actorResendMs)
        return
      case "Running":
        this.machine.touch(actor)
        return
      case "Stopping":
        outbox.order(actor)
        this.machine.ask(actor, now, "trust")
        return
      case "Pending":
      case "Sleeping":
      case "BackingOff":
      case "Destroyed":
        return
    }
    absurd(actor.life.state)
  }

  /** Counts an event, and says whether it was heard for the first time. */
  private isNew(runner: Runner, actor: Actor, { actorId, generation, index }: Checkpoint, event: Event): boolean {
    switch (event._tag) {
      case "Running":
        // Where the count begins. A runner that counts anew begins with this too, and all that follows may be heard twice. What it hosted of this
        // actor before, it has replaced.
        actor.heardIndex = index
        if (runner.owedStops.delete(actorId)) this.machine.outbox.runnerChanged(runner)
        return true
      case "Stopped":
        // The last word, whatever was counted.
        actor.saidStopped = generation
        return true
      case "WantsSleep":
      case "WantsStop":
      case "SetAlarm":
        if (index <= actor.heardIndex) return false
        actor.heardIndex = index
        return true
    }
    return absurd(event)
  }

  /** An event of a generation that this runner should not host. Whatever says something lives, unless it says that it does not. */
  private heardOfStale(
    runner: Runner,
    actor: Actor | undefined,
    { actorId, generation }: Checkpoint,
    event: Event
  ): void {
    switch (event._tag) {
      case "Stopped":
        if (runner.owedStops.get(actorId)?.generation === generation) {
          runner.owedStops.delete(actorId)
          this.machine.outbox.runnerChanged(runner)
        }
        return
      case "Running":
      case "WantsSleep":
      case "WantsStop":
      case "SetAlarm":
        if (actor?.saidStopped !== generation) this.machine.owe(runner, actorId, generation, 0)
        return
    }
    absurd(event)
  }

  private enter(session: SessionId, introduction: RunnerIntroduction, now: number): Runner | undefined {
    const { deadlines, options, runners } = this.machine
    const runner = new Runner({
      session,
      introduction,
      createdAtMs: now,
      lastSeenAtMs: now,
      connected: false,
      drainingSinceMs: null,
      goneAtMs: null,
      lost: false,
      owedStops: []
    })
    if (!runners.add(runner)) {
      const oldest = runners.oldestGone()
      if (oldest === undefined) return undefined
      this.forget(oldest)
      runners.add(runner)
    }
    deadlines.set(runner.timer, now + options.runnerLostMs)
    return runner
  }

  private lose(runner: Runner, now: number): void {
    const { deadlines, outbox, runners } = this.machine
    runners.dismiss(runner)
    runner.goneAtMs ??= now
    runner.lost = true
    runner.owedStops.clear()
    if (runner.met) outbox.runnerChanged(runner)
    deadlines.set(runner.timer, now + limits.runnerGoneMs)
    for (const actor of [...runner.actors]) this.machine.interrupt(actor, { _tag: "RunnerLost" }, now)
    if (!runner.met) this.forget(runner)
  }

  private forget(runner: Runner): void {
    this.machine.runners.forget(runner)
    this.machine.deadlines.clear(runner.timer)
    if (runner.met) this.machine.outbox.runnerForgotten(runner)
  }

  private noteTakeover(runner: Runner, now: number): void {
    if (now - runner.takeoversSinceMs > limits.runnerTakeoverWindowMs) {
      runner.takeovers = 0
      runner.takeoversSinceMs = now
    }
    runner.takeovers++
  }
}

/** Among those that are loaded, who waited longest is first to be placed, and who ended first is first to be forgotten. */
const orderOf = (state: Actor["life"]["state"]): number =>
  state._tag === "Pending" || state._tag === "Destroyed" ? state.sinceMs : 0
