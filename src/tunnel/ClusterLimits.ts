/** The maxima of the bus and of what happens between processes: a part of the table in `Limits.ts`, and read there. */
import type { Limit } from "./Limits.ts"

const KiB = 1024
const MiB = 1024 * KiB

/** Limits of the bus, of streams that change hubs, and of names whose hub is lost. */
export const clusterLimits = {
  inboxEnvelopesMax: {
    value: 8192,
    unit: "envelopes",
    why: "a subscriber's inbox on the memory bus; credit keeps it far below, a publisher waits when it is full",
    enforcedBy: "bus/MessageBus.ts"
  },
  questionsMax: {
    value: 1_024,
    unit: "count",
    why: "questions one responder on the bus answers at once; the next is refused, whoever asks goes on without",
    enforcedBy: "bus/MessageBus.ts"
  },
  answerMs: {
    value: 2_000,
    unit: "ms",
    why: "how long a question on the bus waits for its answer: somebody's frame waits with it",
    enforcedBy: "bus/MessageBus.ts"
  },
  publishTimeoutMs: {
    value: 5_000,
    unit: "ms",
    why: "how long a publish may wait for a full inbox or an unconfirmed server before it has failed",
    enforcedBy: "bus/MessageBus.ts"
  },
  natsPayloadBytesMin: {
    value: 192 * KiB,
    unit: "bytes",
    why: "the max_payload that a NATS server must allow: a request head, a chunk and what the envelope adds; checked at the start",
    enforcedBy: "bus/NatsConnection.ts"
  },
  natsJoinedBytesMax: {
    value: 16 * KiB,
    unit: "bytes",
    why: "a message made of what one turn says to one subject: beyond it the copy costs more than another message",
    enforcedBy: "bus/NatsConnection.ts"
  },
  natsQuestionsJoinedMax: {
    value: 16,
    unit: "count",
    why: "opening frames that share a message and its answer: all of them go to the same hub",
    enforcedBy: "bus/NatsConnection.ts"
  },
  natsMessageBytesMax: {
    value: 256 * KiB,
    unit: "bytes",
    why: "envelopes that leave together share a NATS message up to here; less where the server allows less",
    enforcedBy: "bus/NatsMessageBus.ts"
  },
  natsInboxEnvelopesMax: {
    value: 65_536,
    unit: "envelopes",
    why: "a subscriber's inbox on NATS, which pushes: more than twice what one turn of the event loop can bring of the smallest; beyond it envelopes are dropped and counted",
    enforcedBy: "bus/NatsMessageBus.ts"
  },
  natsUnconfirmedBytesMax: {
    value: 8 * MiB,
    unit: "bytes",
    why: "handed to the NATS client and not yet confirmed by its server; a publish beyond it waits for the next flush",
    enforcedBy: "bus/NatsMessageBus.ts"
  },
  natsFlushSpacingMs: {
    value: 10,
    unit: "ms",
    why: "between the beginnings of two flushes: all that waits shares one, and frames never wait for it",
    enforcedBy: "bus/NatsMessageBus.ts"
  },
  natsStartMs: {
    value: 10_000,
    unit: "ms",
    why: "how long a starting process tries to reach its NATS servers, and says so, before it gives up",
    enforcedBy: "bus/NatsConnection.ts"
  },
  natsDialMs: {
    value: 3_000,
    unit: "ms",
    why: "one attempt to reach one NATS server",
    enforcedBy: "bus/NatsConnection.ts"
  },
  natsRedialMs: {
    value: 250,
    unit: "ms",
    why: "between two attempts at the same NATS server after a loss, with as much jitter; for ever, since readiness tells",
    enforcedBy: "bus/NatsConnection.ts"
  },
  natsReturnMs: {
    value: 1_000,
    unit: "ms",
    why: "for so long after its own return to NATS a bus that finds nobody asks again, at the pace of natsRedialMs: hubs that were lost with it are back a moment later",
    enforcedBy: "bus/NatsMessageBus.ts"
  },
  natsPingMs: {
    value: 3_000,
    unit: "ms",
    why: "a NATS server is pinged this often, and given up when two answers are missing: 9 s at the latest",
    enforcedBy: "bus/NatsConnection.ts"
  },
  verifyMs: {
    value: 1_000,
    unit: "ms",
    why: "how long a runner that changed hubs waits for its Welcome while gateways are asked; a stream not confirmed by then ends",
    enforcedBy: "hub/Verification.ts"
  },
  questionRoutesMax: {
    value: 512,
    unit: "routes",
    why: "routes in one question to a gateway, so that question and answer fit any bus",
    enforcedBy: "hub/Verification.ts"
  },
  questionGatewaysMax: {
    value: 256,
    unit: "count",
    why: "gateways asked for one moved session; a runner that names more of them is guessing",
    enforcedBy: "hub/Verification.ts"
  },
  sessionRoutesAskedMax: {
    value: 16_384,
    unit: "routes",
    why: "routes asked for one session within abuseWindowMs: a full session may move twice in that time",
    enforcedBy: "hub/Verification.ts"
  },
  hubRoutesAskedMax: {
    value: 1_048_576,
    unit: "routes",
    why: "routes asked by one hub within abuseWindowMs: more than a hub that crashed leaves behind, and about 2 s of one gateway's time",
    enforcedBy: "hub/Verification.ts"
  },
  deniedRoutesMax: {
    value: 65_536,
    unit: "routes",
    why: "routes that gateways denied, remembered for tombstoneMs so that each is asked once; the oldest go first",
    enforcedBy: "hub/Verification.ts"
  },
  drainNoticeMs: {
    value: 2_000,
    unit: "ms",
    why: "how long a hub that drains still takes requests for runners that have not found another hub: a dial and a half",
    enforcedBy: "hub/Hub.ts"
  },
  drainFinishMs: {
    value: 5_000,
    unit: "ms",
    why: "how long streams may finish at a hub that drains before they go on at another, where their runner is already",
    enforcedBy: "hub/Hub.ts"
  },
  heldMs: {
    value: 1_000,
    unit: "ms",
    why: "how long a hub that hands streams over waits for their gateways to hold what goes down, and then for its runner to take what came",
    enforcedBy: "hub/HandOver.ts"
  },
  balancerNoticeMs: {
    value: 5_000,
    unit: "ms",
    why: "how long a process of a cluster that drains still takes visitors: load balancers ask for readiness every few seconds",
    enforcedBy: "server/Server.ts"
  },
  workersMax: {
    value: 64,
    unit: "count",
    why: "worker processes of one serve: each takes a core and some 200 MiB, and the first process hands every new connection to one of them",
    enforcedBy: "server/ServerConfig.ts"
  },
  workerEndMs: {
    value: 25_000,
    unit: "ms",
    why: "how long a worker that was told to drain has to end, drainMs and serverCloseMs and a little more; then it is killed",
    enforcedBy: "server/Workers.ts"
  },
  workerLineBytesMax: {
    value: 1 * MiB,
    unit: "bytes",
    why: "a line of a worker that has not ended, held until it does; a longer one may be torn. An access line is longer than a request head by little",
    enforcedBy: "telemetry/WholeLines.ts"
  },
  ownNatsStartMs: {
    value: 10_000,
    unit: "ms",
    why: "how long a nats-server that serve starts for its workers has to listen",
    enforcedBy: "server/OwnNats.ts"
  },
  namesRememberedMax: {
    value: 16_384,
    unit: "count",
    why: "names of which a gateway remembers the hub that served them last; the oldest goes first, and is then asked for once only",
    enforcedBy: "gateway/LatelyServed.ts"
  },
  servedLatelyMs: {
    value: 10_000,
    unit: "ms",
    why: "how long a name counts as lately served: a gateway hears from its hubs less often than that only where nothing is asked of them",
    enforcedBy: "gateway/LatelyServed.ts"
  },
  askAgainMs: {
    value: 2_000,
    unit: "ms",
    why: "how long a gateway asks again for a name whose hub was lost a moment ago: its runners are elsewhere, or it is back, within that",
    enforcedBy: "gateway/Opening.ts"
  },
  askAgainEveryMs: {
    value: 100,
    unit: "ms",
    why: "between two such questions",
    enforcedBy: "gateway/Opening.ts"
  },
  cutOffMs: {
    value: 3_000,
    unit: "ms",
    why: "a hub that has been without its bus for so long sends its runners elsewhere; a server that restarts, or another of its cluster, is back before that",
    enforcedBy: "hub/BusLoss.ts"
  },
  publishAttempts: {
    value: 3,
    unit: "count",
    why: "a relay tries a failed publish again before it reports the stream broken",
    enforcedBy: "hub/Relay.ts"
  },
  relaysUnconfirmedMax: {
    value: 64,
    unit: "count",
    why: "reads of one runner whose last frames wait for the bus to confirm them; beyond it nothing more is read from that runner",
    enforcedBy: "hub/Uplink.ts"
  }
} as const satisfies Readonly<Record<string, Limit>>
