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
  actorClaimMs: {
    value: 2_000,
    unit: "ms",
    why: "how often the process that controls the actors of a cluster says so: two of them find each other within that",
    enforcedBy: "actor/ActorClaim.ts"
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
  },
  hibernationBytesMax: {
    value: 8 * MiB,
    unit: "bytes",
    why: "messages of one WebSocket that its app has not acknowledged, beyond which its visitor is not read from; acknowledgements make room again",
    enforcedBy: "gateway/VisitorMessages.ts"
  },
  hibernationMessagesMax: {
    value: 16_384,
    unit: "messages",
    why: "the same in number: a quarter of the index circle, so that old and new are never confused",
    enforcedBy: "gateway/VisitorMessages.ts"
  },
  hibernationBytesTotalMax: {
    value: 256 * MiB,
    unit: "bytes",
    why: "the same over all WebSockets of a gateway: beyond it none of them is read from until others were acknowledged",
    enforcedBy: "gateway/Gateway.ts"
  },
  hibernationAckMs: {
    value: 60_000,
    unit: "ms",
    why: "how long a WebSocket may stand without an acknowledgement where that is all it waits for: one at its bound, or one that was woken and has shown no life. An app may wait 45 s for its store to fail",
    enforcedBy: "gateway/Hibernation.ts"
  },
  hibernationWakeMs: {
    value: 60_000,
    unit: "ms",
    why: "from the first attempt to wake an actor for a WebSocket to the end of that WebSocket, where nobody takes it: two starts of an actor, or a hub's restart",
    enforcedBy: "gateway/Hibernation.ts"
  },
  hibernationWakesMax: {
    value: 20,
    unit: "count",
    why: "attempts to wake an actor for a WebSocket that stay without lasting success, also where it wakes and sleeps again at once",
    enforcedBy: "gateway/Hibernation.ts"
  },
  hibernationRetryFirstMs: {
    value: 250,
    unit: "ms",
    why: "the first wait before a refused wake is asked for again; doubles from there",
    enforcedBy: "gateway/Hibernation.ts"
  },
  hibernationRetryMaxMs: {
    value: 5_000,
    unit: "ms",
    why: "the longest wait between two wakes; an actor that stayed awake this long was awake",
    enforcedBy: "gateway/Hibernation.ts"
  },
  kvKeyBytesMax: {
    value: 2046,
    unit: "bytes",
    why: "a key in an actor's store, and a prefix or bound in a query: Rivet's 2 KiB less the two bytes it adds to each",
    enforcedBy: "actor/KvRules.ts"
  },
  kvValueBytesMax: {
    value: 128 * KiB,
    unit: "bytes",
    why: "a value in an actor's store, as Rivet has it",
    enforcedBy: "actor/KvRules.ts"
  },
  kvKeysMax: {
    value: 128,
    unit: "count",
    why: "keys of one get or delete, entries of one put, as Rivet has it; a get then stays below 17 MiB",
    enforcedBy: "actor/KvRules.ts"
  },
  kvPutBytesMax: {
    value: 976 * KiB,
    unit: "bytes",
    why: "keys and values of one put together, each key with two bytes more, as Rivet has it",
    enforcedBy: "actor/KvRules.ts"
  },
  kvStoreBytesMax: {
    value: 10 * 1024 * MiB,
    unit: "bytes",
    why: "all that one actor keeps, as Rivet has it; a put that would go beyond is refused whole",
    enforcedBy: "actor/KvRules.ts"
  },
  kvListEntriesDefault: {
    value: 16_384,
    unit: "count",
    why: "entries of a list that names no limit of its own, as Rivet has it",
    enforcedBy: "actor/KvRules.ts"
  },
  kvListEntriesMax: {
    value: 21_845,
    unit: "count",
    why: "entries of a list whatever limit it names: a message holds 65,536 elements at most, and an entry is three",
    enforcedBy: "actor/KvRules.ts"
  },
  kvListBytesMax: {
    value: 31 * MiB,
    unit: "bytes",
    why: "a list's answer on the wire: Rivet's clients cannot decode a message of 32 MiB. Who wants the rest asks again from behind the last key",
    enforcedBy: "actor/KvRules.ts"
  },
  kvMemoryBytesMax: {
    value: 256 * MiB,
    unit: "bytes",
    why: "all stores of actors that are kept in memory, with 256 bytes for each entry's objects",
    enforcedBy: "actor/ActorKv.ts"
  },
  apiBodyBytesMax: {
    value: 6 * MiB,
    unit: "bytes",
    why: "a request body of the actor API: an actor's input of 4 MiB as base64, and the rest of its fields",
    enforcedBy: "admin/ActorsApi.ts"
  },
  apiInFlightMax: {
    value: 32,
    unit: "count",
    why: "requests of the actor API at once, each with at most one body in memory; the next is answered overloaded",
    enforcedBy: "admin/ActorsApi.ts"
  },
  apiRequestMs: {
    value: 30_000,
    unit: "ms",
    why: "one request of the actor API with its body: a slower one would keep its place from others",
    enforcedBy: "admin/ActorsApi.ts"
  },
  apiPageDefault: {
    value: 100,
    unit: "count",
    why: "entries of a page of the actor API that names no limit",
    enforcedBy: "admin/actors/Page.ts"
  },
  apiPageMax: {
    value: 1_000,
    unit: "count",
    why: "entries of a page whatever limit it names, and ids of one question; the cursor leads to the rest",
    enforcedBy: "admin/actors/Page.ts"
  },
  runnerConfigsMax: {
    value: 1_024,
    unit: "count",
    why: "runner configurations, which are kept in memory and mean little: every pool of runners is a normal one",
    enforcedBy: "admin/actors/RunnerConfigs.ts"
  },
  actorBodyBytesMax: {
    value: 20 * MiB,
    unit: "bytes",
    why: "a request body towards an actor: Rivet's runners take it whole, and no more than this",
    enforcedBy: "gateway/Admission.ts"
  }
} as const satisfies Readonly<Record<string, Limit>>
