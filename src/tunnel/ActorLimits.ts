/** The maxima of actors and their runners: the part of `Limits.ts` that a hub without actors never reaches. */
import type { Limit } from "./Limits.ts"

const KiB = 1024
const MiB = 1024 * KiB

/** The entries of the table in `Limits.ts` that are about actors. */
export const actorLimits = {
  actorsMax: {
    value: 65_536,
    unit: "count",
    why: "actors of one hub, the destroyed that are remembered among them; these make room first, a further one is refused",
    enforcedBy: "actor/ActorRoster.ts"
  },
  actorsDestroyedMax: {
    value: 10_000,
    unit: "count",
    why: "destroyed actors remembered, so that whoever asks learns what became of them; the oldest go first",
    enforcedBy: "actor/ActorRoster.ts"
  },
  actorDestroyedMs: {
    value: 3_600_000,
    unit: "ms",
    why: "how long a destroyed actor is remembered; its store is dropped with it",
    enforcedBy: "actor/ActorMachine.ts"
  },
  actorNamesMax: {
    value: 4_096,
    unit: "count",
    why: "actor names that runners announced; further ones are not listed before an actor has them",
    enforcedBy: "actor/ActorRoster.ts"
  },
  actorNameBytesMax: {
    value: 256,
    unit: "bytes",
    why: "the name of an actor or of the runners it is placed by",
    enforcedBy: "actor/ActorControl.ts"
  },
  actorKeyBytesMax: {
    value: 1 * KiB,
    unit: "bytes",
    why: "what tells actors of one name apart",
    enforcedBy: "actor/ActorControl.ts"
  },
  actorInputBytesMax: {
    value: 1 * MiB,
    unit: "bytes",
    why: "what an actor is started with: held in memory for as long as the actor is, and sent with every start",
    enforcedBy: "actor/ActorControl.ts"
  },
  actorWaitersMax: {
    value: 8_192,
    unit: "count",
    why: "requests that wait until an actor can be reached, of all actors; a further one is answered overloaded",
    enforcedBy: "actor/ActorMachine.ts"
  },
  actorReadyMs: {
    value: 30_000,
    unit: "ms",
    why: "how long a request waits until its actor can be reached, as in Rivet",
    enforcedBy: "actor/ActorMachine.ts"
  },
  actorWakesMax: {
    value: 8,
    unit: "count",
    why: "how often an actor may stop while a request waits for it, as in Rivet: then it will not get better",
    enforcedBy: "actor/ActorMachine.ts"
  },
  actorStartMs: {
    value: 30_000,
    unit: "ms",
    why: "from an actor's allocation to its first word, as in Rivet; then its runner is taken not to start it",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorStopMs: {
    value: 1_800_000,
    unit: "ms",
    why: "how long an actor may take to stop, as in Rivet; runners are told so when they connect",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorVanishedMs: {
    value: 3_000,
    unit: "ms",
    why: "how long an actor that its runner does not answer for may take to stop, should it be there after all",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorBackoffFirstMs: {
    value: 2_000,
    unit: "ms",
    why: "the wait after the second crash in a row, as in Rivet; doubles with each, and while a request waits it stays this",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorBackoffExponentMax: {
    value: 8,
    unit: "count",
    why: "how often that wait doubles, as in Rivet: up to 512 s",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorCrashesForgottenMs: {
    value: 600_000,
    unit: "ms",
    why: "an actor that ran this long starts over with its crashes, as in Rivet",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorAlarmGraceMs: {
    value: 5_000,
    unit: "ms",
    why: "an alarm that came due at most this long before its actor went to sleep may have been missed, and wakes it",
    enforcedBy: "actor/ActorLife.ts"
  },
  actorResendMs: {
    value: 3_000,
    unit: "ms",
    why: "how long after a reconnect a runner may take to repeat what it was not acknowledged: it does so at once",
    enforcedBy: "actor/RunnerMoves.ts"
  },
  actorProbeMs: {
    value: 5_000,
    unit: "ms",
    why: "how long a runner may take to answer for an actor that was not heard of since it reconnected",
    enforcedBy: "actor/ActorMachine.ts"
  },
  actorBeatMs: {
    value: 5_000,
    unit: "ms",
    why: "how often it is stored that the hub lives while runners are connected: after a restart it tells for how long they were alone",
    enforcedBy: "actor/ControlLoop.ts"
  },
  actorCommitMs: {
    value: 5_000,
    unit: "ms",
    why: "how long a call waits until what it changed is stored; then nothing is acknowledged, or it fails as overloaded",
    enforcedBy: "actor/ControlLoop.ts"
  },
  actorStoreRetryMs: {
    value: 1_000,
    unit: "ms",
    why: "how often a write that failed is tried again; until it succeeds no command leaves",
    enforcedBy: "actor/ControlLoop.ts"
  },
  runnersMax: {
    value: 65_536,
    unit: "count",
    why: "runners known by their identity, those gone among them; these make room first, a further one is given no actors",
    enforcedBy: "actor/RunnerRoster.ts"
  },
  runnerLostMs: {
    value: 15_000,
    unit: "ms",
    why: "how long a runner may be without a connection, as in Rivet: it stops its actors itself after this long",
    enforcedBy: "actor/RunnerMoves.ts"
  },
  runnerGoneMs: {
    value: 3_600_000,
    unit: "ms",
    why: "how long a runner that is gone is still listed",
    enforcedBy: "actor/RunnerMoves.ts"
  },
  runnerOwedStopsMax: {
    value: 4_096,
    unit: "count",
    why: "generations a runner was left with that never said they stopped; the oldest are no longer told to",
    enforcedBy: "actor/ActorMachine.ts"
  },
  runnerTakeoverWindowMs: {
    value: 60_000,
    unit: "ms",
    why: "connections that take over from a living one within this time add up: two processes with one key fight for it",
    enforcedBy: "actor/RunnerMoves.ts"
  }
} as const satisfies Readonly<Record<string, Limit>>
