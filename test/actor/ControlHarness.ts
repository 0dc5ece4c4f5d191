/** A control plane alone, and runners played by the test: each hears its commands in order and says what it is told to. */
import { Effect, Exit, Layer, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as ActorControl from "../../src/actor/ActorControl.ts"
import type { Event, NumberedCommand, NumberedEvent } from "../../src/actor/ActorMessage.ts"
import * as ActorStore from "../../src/actor/ActorStore.ts"
import type { SessionId } from "../../src/tunnel/Envelope.ts"
import { Turn } from "../../src/tunnel/Turn.ts"
import { soon } from "../runner/FakeHub.ts"

/** Everything in one turn of microtasks, so that `settle` is enough to let it happen. */
export const atOnce = Layer.succeed(Turn, soon)

/** The control plane in memory. */
export const controlOn = (options: ActorControl.ActorControlOptions = {}) =>
  ActorControl.layer(options).pipe(Layer.provide(ActorStore.layerMemory), Layer.provide(atOnce))

/** The control plane in memory, on turns that the test ends: nothing is stored or leaves before. */
export const controlOnHeldTurns = () => {
  const turns: Array<() => void> = []
  const hold: Turn = (f) => {
    turns.push(f)
  }
  return {
    layer: ActorControl.layer().pipe(Layer.provide(ActorStore.layerMemory), Layer.provide(Layer.succeed(Turn, hold))),
    endTurn: Effect.suspend(() => {
      for (const f of turns.splice(0)) f()
      return settle
    })
  }
}

/** Lets every fiber in the process do what it can do without time passing. */
export const settle = Effect.replicateEffect(Effect.yieldNow, 30, { discard: true })

/** Lets time pass, and what comes of it happen. */
export const pass = (ms: number) => Effect.andThen(TestClock.adjust(ms), settle)

export const introduction = (
  changes: Partial<ActorControl.RunnerIntroduction> = {}
): ActorControl.RunnerIntroduction => ({
  name: "pool",
  key: "one",
  version: 1,
  totalSlots: 10,
  protocolVersion: 7,
  actorNames: new Map(),
  metadata: null,
  ...changes
})

export const request = (changes: Partial<ActorControl.ActorRequest> = {}): ActorControl.ActorRequest => ({
  name: "counter",
  key: null,
  runnerName: "pool",
  crashPolicy: "restart",
  input: null,
  ...changes
})

/** What a command is, in short: `start 0`, `stop 0`. */
export const briefly = ({ checkpoint, command }: NumberedCommand): string =>
  `${command._tag === "StartActor" ? "start" : "stop"} ${checkpoint.generation}`

/** One runner over one connection at a time. Actors count their own events, from 0 at each start. */
export class TestRunner {
  readonly introduction: ActorControl.RunnerIntroduction
  readonly probes: boolean
  session: SessionId | undefined
  /** Since the last `take`. */
  private inbox: Array<NumberedCommand> = []
  readonly endings: Array<{ readonly generation: number; readonly hibernates: boolean }> = []
  probed: Array<string> = []
  private readonly indexes = new Map<string, bigint>()
  private scope: Scope.Closeable | undefined

  constructor(changes: Partial<ActorControl.RunnerIntroduction> = {}, options: { readonly probes?: boolean } = {}) {
    this.introduction = introduction(changes)
    this.probes = options.probes ?? false
  }

  /** Introduces itself and connects. Returns the identity it was given. */
  readonly connect = (seen: ReadonlyArray<{ actorId: string; generation: number; index: bigint }> = []) =>
    Effect.gen({ self: this }, function* () {
      const control = yield* ActorControl.ActorControl
      const scope = yield* Scope.make()
      this.scope = scope
      const session = yield* control.identify(this.introduction)
      this.session = session
      const port: ActorControl.RunnerPort = {
        command: (commands) => {
          this.inbox.push(...commands)
          for (const { checkpoint, command } of commands) {
            if (command._tag === "StartActor") this.indexes.set(checkpoint.actorId, -1n)
          }
        },
        ended: ({ generation }, hibernates) => this.endings.push({ generation, hibernates }),
        ...(this.probes ? { probe: ({ actorId }: { actorId: string }) => void this.probed.push(actorId) } : {})
      }
      yield* control.attach(session, this.introduction, port, seen).pipe(Scope.provide(scope))
      yield* settle
      return session
    })

  /** Its connection breaks. */
  readonly disconnect = Effect.suspend(() =>
    this.scope === undefined ? Effect.void : Effect.andThen(Scope.close(this.scope, Exit.void), settle)
  )

  /** The commands that came since the last time, in short. */
  take(): ReadonlyArray<string> {
    return this.takeCommands().map(briefly)
  }

  takeCommands(): ReadonlyArray<NumberedCommand> {
    const commands = this.inbox
    this.inbox = []
    return commands
  }

  /** Events of one generation of an actor, numbered. */
  events(actorId: string, generation: number, ...events: ReadonlyArray<Event>): ReadonlyArray<NumberedEvent> {
    return events.map((event) => {
      const index = (this.indexes.get(actorId) ?? -1n) + 1n
      this.indexes.set(actorId, index)
      return { checkpoint: { actorId, generation, index }, event }
    })
  }

  /** Says them, and lets them take effect. Returns what was acknowledged. */
  readonly say = (actorId: string, generation: number, ...events: ReadonlyArray<Event>) =>
    this.sayAgain(this.events(actorId, generation, ...events))

  /** Says events that were numbered before. */
  readonly sayAgain = (events: ReadonlyArray<NumberedEvent>) =>
    Effect.gen({ self: this }, function* () {
      const control = yield* ActorControl.ActorControl
      const acknowledged = yield* control.heard(this.session as SessionId, events)
      yield* settle
      return acknowledged
    })
}

export const running: Event = { _tag: "Running" }
export const wantsSleep: Event = { _tag: "WantsSleep" }
export const wantsStop: Event = { _tag: "WantsStop" }
/** As the runner of version 2.2.1 says it of every stop that its app did not ask for by name. */
export const stopped: Event = { _tag: "Stopped", failed: true, message: null }
export const stoppedWell: Event = { _tag: "Stopped", failed: false, message: null }
export const setAlarm = (atMs: number | null): Event => ({
  _tag: "SetAlarm",
  atMs: atMs === null ? null : BigInt(atMs)
})
