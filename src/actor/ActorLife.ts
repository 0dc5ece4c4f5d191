/**
 * The life of one actor as one table: what each input does in each state, and what is to be done about it. Pure: told the time, it changes nothing
 * and knows no runner but by its session. `ActorMachine.ts` moves actors by it and does what it says; `docs/internals/actors.md` shows it.
 *
 * A generation is one run of the actor on one runner: ordered when the actor is allocated, over when the runner said `stopped` or can be taken for
 * having lost it. Numbers are never used twice, since what an older generation still says is told from the present by nothing else.
 */
import { Schema } from "effect"
import { SessionId } from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { CrashPolicy } from "./Actor.ts"

/**
 * Why a generation is being stopped, which decides what follows when it has: `sleep` and `finish` are its own wishes (or the API's), `destroy` and
 * `move` are the API's, `away`: its runner is leaving; `vanished`: its runner does not answer for it any more.
 */
export const StopReason = Schema.Literals(["sleep", "finish", "destroy", "away", "move", "vanished"])
export type StopReason = typeof StopReason.Type

const runner = SessionId
const sinceMs = Schema.Finite
const untilMs = Schema.Finite

/** Where an actor is in its life. Times are milliseconds since 1970. */
export const State = Schema.TaggedUnion({
  /** Waits for a runner with a free slot; not for `avoid`, where there is another. */
  Pending: { sinceMs, avoid: Schema.NullOr(SessionId) },
  /** Its start is owed or sent; until when `running` has to come. */
  Starting: { runner, untilMs },
  Running: { runner, sinceMs },
  /** Its stop is owed or sent; until when `stopped` has to come. `wake`: somebody wanted it meanwhile. */
  Stopping: { runner, why: StopReason, sinceMs, untilMs, wake: Schema.Boolean },
  Sleeping: { sinceMs },
  /** Crashed at `sinceMs`, and waits before the next try. */
  BackingOff: { sinceMs, untilMs },
  Destroyed: { sinceMs }
})
export type State = typeof State.Type

/** What is known of an actor's life: all of it is kept, and all that its next step depends on. */
export const Life = Schema.Struct({
  policy: CrashPolicy,
  /** The last one that was ordered; -1 before the first. */
  generation: Schema.Int,
  /** In a row, since it last slept in peace or ran long enough. */
  crashes: Schema.Int,
  /** When it wants to be woken. */
  alarmAtMs: Schema.NullOr(Schema.Finite),
  /** When a generation last said `running`. */
  startedAtMs: Schema.NullOr(Schema.Finite),
  state: State
})
export type Life = typeof Life.Type

/**
 * What happens to an actor. `Stopped.said` is the runner's code as far as it says anything: runners before version 7 call every stop OK, so theirs
 * says `nothing`. `Unanswered`: its runner is there, and does not answer for it. `Withdrawn`: its start never left.
 */
export type Input =
  | { readonly _tag: "Allocated"; readonly runner: SessionId }
  | { readonly _tag: "Withdrawn" }
  | { readonly _tag: "Running" }
  | { readonly _tag: "Stopped"; readonly said: "ok" | "error" | "nothing" }
  | { readonly _tag: "WantsSleep" }
  | { readonly _tag: "WantsStop" }
  | { readonly _tag: "SetAlarm"; readonly atMs: number | null }
  | { readonly _tag: "Due" }
  | { readonly _tag: "AlarmDue" }
  | { readonly _tag: "Wake" }
  | { readonly _tag: "Sleep" }
  | { readonly _tag: "Destroy" }
  | { readonly _tag: "Reschedule" }
  | { readonly _tag: "RunnerLost" }
  | { readonly _tag: "RunnerDraining" }
  | { readonly _tag: "Unanswered" }

/**
 * What follows beside the new state. `Start` and `Stop`: the command is owed. `Ended`: the generation is over, its slot free. `Abandoned`: without
 * having said so, so the runner is owed a stop for it. `Crashed`: for those who count.
 */
export type Output = "Start" | "Stop" | "Ended" | "Abandoned" | "Crashed"

/** The life after an input: the same object where nothing changed. */
export interface Step {
  readonly life: Life
  readonly outputs: ReadonlyArray<Output>
}

type StateOf<Tag extends State["_tag"]> = Extract<State, { readonly _tag: Tag }>
type InputOf<Tag extends Input["_tag"]> = Extract<Input, { readonly _tag: Tag }>
type Cell<S, I> = (life: Life, state: S, input: I, now: number) => Step
type Hosted = StateOf<"Starting" | "Running">

const none: ReadonlyArray<Output> = []
const starts: ReadonlyArray<Output> = ["Start"]
const stops: ReadonlyArray<Output> = ["Stop"]
const ended: ReadonlyArray<Output> = ["Ended"]
const abandoned: ReadonlyArray<Output> = ["Ended", "Abandoned"]

const to = (life: Life, state: State, outputs: ReadonlyArray<Output> = none): Step => ({
  life: { ...life, state },
  outputs
})
const stay = (life: Life): Step => ({ life, outputs: none })

const pending = (life: Life, now: number, avoid: SessionId | null = null): Life => ({
  ...life,
  state: { _tag: "Pending", sinceMs: now, avoid }
})
const sleeping = (life: Life, now: number): Life => ({ ...life, state: { _tag: "Sleeping", sinceMs: now } })
const destroyed = (life: Life, now: number): Life => ({
  ...life,
  alarmAtMs: null,
  state: { _tag: "Destroyed", sinceMs: now }
})

/** How long to wait before the next try after this many crashes in a row: the first follows at once. */
export const backoffMs = (crashes: number): number =>
  crashes === 0 ? 0 : limits.actorBackoffFirstMs * 2 ** Math.min(crashes - 1, limits.actorBackoffExponentMax)

/** How many crashes in a row this one ends. One that ran long enough starts over. */
const crashesBefore = (life: Life, now: number): number =>
  life.state._tag !== "Starting" &&
  life.startedAtMs !== null &&
  now - life.startedAtMs >= limits.actorCrashesForgottenMs
    ? 0
    : life.crashes

/** A generation ended that was meant to run: by policy. `wanted` wakes what would have slept. */
const crashed = (life: Life, now: number, wanted: boolean, avoid: SessionId | null): Life => {
  const crashes = crashesBefore(life, now)
  const after = { ...life, crashes: crashes + 1 }
  switch (life.policy) {
    case "restart": {
      const waitMs = backoffMs(crashes)
      if (waitMs === 0) return pending(after, now, avoid)
      return { ...after, state: { _tag: "BackingOff", sinceMs: now, untilMs: now + waitMs } }
    }
    case "sleep":
      return wanted ? pending(after, now, avoid) : sleeping(after, now)
    case "destroy":
      return destroyed(after, now)
  }
  return absurd(life.policy)
}

const crash = (
  life: Life,
  now: number,
  outputs: ReadonlyArray<Output>,
  wanted = false,
  avoid: SessionId | null = null
): Step => ({ life: crashed(life, now, wanted, avoid), outputs: [...outputs, "Crashed"] })

/** Its runner left, which is nobody's fault: no crash and no waiting. What is not to outlive its runner does not. */
const displaced = (life: Life, now: number, wanted: boolean): Life => {
  switch (life.policy) {
    case "restart":
      return pending(life, now)
    case "sleep":
      return wanted ? pending(life, now) : sleeping(life, now)
    case "destroy":
      return destroyed(life, now)
  }
  return absurd(life.policy)
}

/**
 * It sleeps as it wished. An alarm that came due well before that was while it ran, and its own affair; one that came due at about that time it may
 * have missed, so it stays and wakes it.
 */
const laidToRest = (life: Life, state: StateOf<"Stopping">, now: number): Life => {
  const missed = life.alarmAtMs !== null && life.alarmAtMs > state.sinceMs - limits.actorAlarmGraceMs
  const rested = { ...life, crashes: 0, alarmAtMs: missed ? life.alarmAtMs : null }
  return state.wake ? pending(rested, now) : sleeping(rested, now)
}

/** The generation that was being stopped is over: its runner said so, or is taken to have `lost` it. */
const stopped = (
  life: Life,
  state: StateOf<"Stopping">,
  said: InputOf<"Stopped">["said"] | "lost",
  now: number,
  outputs: ReadonlyArray<Output>
): Step => {
  switch (state.why) {
    case "sleep":
      return { life: laidToRest(life, state, now), outputs }
    case "finish":
      // A wish to stop is a wish to be destroyed, unless the runner, asked and able to tell, calls it a failure.
      if (said === "error") return crash(life, now, outputs, state.wake)
      return { life: destroyed(life, now), outputs }
    case "destroy":
      return { life: destroyed(life, now), outputs }
    case "away":
      return { life: displaced(life, now, state.wake), outputs }
    case "move":
      return { life: pending(life, now, state.runner), outputs }
    case "vanished":
      // It was there after all, and was interrupted for nothing: it goes on whatever its policy.
      if (said !== "lost") return { life: pending(life, now), outputs }
      return crash(life, now, outputs, state.wake)
  }
  return absurd(state.why)
}

const stopping = (life: Life, host: SessionId, why: StopReason, now: number): Step =>
  to(
    life,
    {
      _tag: "Stopping",
      runner: host,
      why,
      sinceMs: now,
      untilMs: now + (why === "vanished" ? limits.actorVanishedMs : limits.actorStopMs),
      wake: false
    },
    stops
  )

const ordered =
  (why: StopReason): Cell<Hosted, Input> =>
  (life, state, _, now) =>
    stopping(life, state.runner, why, now)

const setAlarm: Cell<State, InputOf<"SetAlarm">> = (life, _, { atMs }) =>
  life.alarmAtMs === atMs ? stay(life) : { life: { ...life, alarmAtMs: atMs }, outputs: none }

/** Nobody asked it to stop. Where the runner can tell, OK means that it is done; anything else is a crash, a start that failed among them. */
const stoppedByItself: Cell<Hosted, InputOf<"Stopped">> = (life, _, { said }, now) =>
  said === "ok" ? { life: destroyed(life, now), outputs: ended } : crash(life, now, ended)

const lostWhileHosted: Cell<Hosted, Input> = (life, _, __, now) => crash(life, now, ended)

/** The reason changes, the stop was ordered already. */
const rather =
  (why: StopReason, over: ReadonlyArray<StopReason>): Cell<StateOf<"Stopping">, Input> =>
  (life, state) =>
    over.includes(state.why) ? to(life, { ...state, why }) : stay(life)

const lostWhileStopping: Cell<StateOf<"Stopping">, Input> = (life, state, _, now) =>
  stopped(life, state, "lost", now, abandoned)

const becomesPending: Cell<State, Input> = (life, _, __, now) => ({ life: pending(life, now), outputs: none })
const becomesDestroyed: Cell<State, Input> = (life, _, __, now) => ({ life: destroyed(life, now), outputs: none })
const becomesSleeping: Cell<State, Input> = (life, _, __, now) => ({ life: sleeping(life, now), outputs: none })

/** A row in which nothing happens: what a runner says of an actor it does not host, above all. */
const nothing = {
  Allocated: stay,
  Withdrawn: stay,
  Running: stay,
  Stopped: stay,
  WantsSleep: stay,
  WantsStop: stay,
  SetAlarm: stay,
  Due: stay,
  AlarmDue: stay,
  Wake: stay,
  Sleep: stay,
  Destroy: stay,
  Reschedule: stay,
  RunnerLost: stay,
  RunnerDraining: stay,
  Unanswered: stay
} as const

const hosted = {
  ...nothing,
  Stopped: stoppedByItself,
  WantsSleep: ordered("sleep"),
  WantsStop: ordered("finish"),
  SetAlarm: setAlarm,
  Sleep: ordered("sleep"),
  Destroy: ordered("destroy"),
  Reschedule: ordered("move"),
  RunnerLost: lostWhileHosted,
  RunnerDraining: ordered("away")
} as const

type Table = {
  readonly [S in State["_tag"]]: { readonly [I in Input["_tag"]]: Cell<StateOf<S>, InputOf<I>> }
}

/** The whole table. */
export const table: Table = {
  Pending: {
    ...nothing,
    Allocated: (life, _, input, now) =>
      to(
        { ...life, generation: life.generation + 1 },
        { _tag: "Starting", runner: input.runner, untilMs: now + limits.actorStartMs },
        starts
      ),
    Sleep: becomesSleeping,
    Destroy: becomesDestroyed
  },
  Starting: {
    ...hosted,
    Withdrawn: (life, _, __, now) => ({ life: pending(life, now), outputs: ended }),
    Running: (life, state, _, now) =>
      to({ ...life, startedAtMs: now }, { _tag: "Running", runner: state.runner, sinceMs: now }),
    Due: (life, state, _, now) => crash(life, now, abandoned, false, state.runner),
    // The runner would have told again right after it came back: the start never arrived. Nothing has failed.
    Unanswered: (life, _, __, now) => ({ life: pending(life, now), outputs: abandoned })
  },
  Running: {
    ...hosted,
    Unanswered: ordered("vanished")
  },
  Stopping: {
    ...nothing,
    Stopped: (life, state, { said }, now) => stopped(life, state, said, now, ended),
    SetAlarm: setAlarm,
    Due: lostWhileStopping,
    Wake: (life, state) => (state.wake ? stay(life) : to(life, { ...state, wake: true })),
    Sleep: rather("sleep", ["away", "move", "vanished"]),
    Destroy: rather("destroy", ["sleep", "finish", "away", "move", "vanished"]),
    Reschedule: rather("move", ["sleep", "away", "vanished"]),
    RunnerLost: (life, state, _, now) => stopped(life, state, "lost", now, ended),
    Unanswered: lostWhileStopping
  },
  Sleeping: {
    ...nothing,
    AlarmDue: (life, _, __, now) => ({ life: pending({ ...life, alarmAtMs: null }, now), outputs: none }),
    Wake: becomesPending,
    Destroy: becomesDestroyed,
    Reschedule: becomesPending
  },
  BackingOff: {
    ...nothing,
    Due: becomesPending,
    // Somebody waits: then it is tried as often as the shortest wait allows, and no oftener.
    Wake: (life, state, _, now) => {
      const soonest = state.sinceMs + limits.actorBackoffFirstMs
      if (soonest <= now) return { life: pending(life, now), outputs: none }
      return soonest < state.untilMs ? to(life, { ...state, untilMs: soonest }) : stay(life)
    },
    Sleep: becomesSleeping,
    Destroy: becomesDestroyed,
    Reschedule: becomesPending
  },
  Destroyed: nothing
}

/** What the table says. */
export const transition = (life: Life, input: Input, now: number): Step =>
  (table[life.state._tag][input._tag] as Cell<State, Input>)(life, life.state, input, now)

/** A life that begins now. */
export const born = (policy: CrashPolicy, now: number): Life => ({
  policy,
  generation: -1,
  crashes: 0,
  alarmAtMs: null,
  startedAtMs: null,
  state: { _tag: "Pending", sinceMs: now, avoid: null }
})

/** The runner that hosts its present generation, if any does. */
export const hostOf = ({ state }: Life): SessionId | null =>
  state._tag === "Starting" || state._tag === "Running" || state._tag === "Stopping" ? state.runner : null

/** When `Due` is to come; null in a state that waits for no time. */
export const dueAtMs = ({ state }: Life): number | null =>
  state._tag === "Starting" || state._tag === "Stopping" || state._tag === "BackingOff" ? state.untilMs : null

/** When `AlarmDue` is to come: only a sleeping actor is woken. */
export const alarmDueAtMs = ({ alarmAtMs, state }: Life): number | null =>
  state._tag === "Sleeping" ? alarmAtMs : null
