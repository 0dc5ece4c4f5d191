/**
 * Every maximum there is. Each entry says why this number and which file enforces it; `docs/limits.md` is compared with this table by a test.
 *
 * A queue, table, buffer, retry or wait without an entry here is a fault. Durations are in milliseconds. Those of actors stand in `ActorLimits.ts`, those of the bus in `ClusterLimits.ts`.
 */

import { actorLimits } from "./ActorLimits.ts"
import { clusterLimits } from "./ClusterLimits.ts"
import { rivetLimits } from "./RivetLimits.ts"

/** One limit: the number, its unit, the reason for it, and the file under `src/` that enforces it. */
export interface Limit {
  readonly value: number
  readonly unit: "bytes" | "frames" | "envelopes" | "streams" | "routes" | "sessions" | "messages" | "ms" | "count"
  readonly why: string
  readonly enforcedBy: string
}

const KiB = 1024
const MiB = 1024 * KiB

/** The table itself, for documentation and tests; code uses the plain numbers below. */
export const table = {
  windowBytesInitial: {
    value: 256 * KiB,
    unit: "bytes",
    why: "what a stream may send before its first Credit: a tenth slower than 1 MiB on loopback, a quarter of its memory",
    enforcedBy: "tunnel/Credit.ts"
  },
  windowBytesMax: {
    value: 8 * MiB,
    unit: "bytes",
    why: "what one stream may have in flight at most: 250 Mbit/s over a round trip of 200 ms; the window grows to it only while credit is what limits the stream",
    enforcedBy: "tunnel/Credit.ts"
  },
  windowGrowthBytesMax: {
    value: 32 * MiB,
    unit: "bytes",
    why: "what all windows of one gateway, or of one runner's session, may grow by together beyond windowBytesNear: half of linkQueueBytesMax, and of what a NATS server holds for a gateway",
    enforcedBy: "tunnel/Credit.ts"
  },
  windowBytesNear: {
    value: 1 * MiB,
    unit: "bytes",
    why: "a window grows to this for any reader that keeps up, whatever others do: enough for every short link; beyond it by round trips only",
    enforcedBy: "tunnel/Credit.ts"
  },
  windowFarMs: {
    value: 5,
    unit: "ms",
    why: "the shortest round trip for which a window grows beyond windowBytesNear, which carries 200 MB/s over it: more than a process passes on",
    enforcedBy: "tunnel/Credit.ts"
  },
  windowSlackMs: {
    value: 1_000,
    unit: "ms",
    why: "a stream that takes longer over a quarter of its window gives that quarter back, if it is of the shared growth: even a round trip of 1 s needs no window of 4 s",
    enforcedBy: "tunnel/Credit.ts"
  },
  staleBytesMax: {
    value: 1 * MiB,
    unit: "bytes",
    why: "what a visitor's WebSocket may have unread of earlier stays of its app, each of which began with a window of its own",
    enforcedBy: "gateway/SocketOutflow.ts"
  },
  chunkBytesMax: {
    value: 64 * KiB,
    unit: "bytes",
    why: "one body chunk or message fragment: small enough to fit any bus and to let others in between",
    enforcedBy: "tunnel/Credit.ts"
  },
  headBytesMax: {
    value: 64 * KiB,
    unit: "bytes",
    why: "a request or response head with its trailers; Node's own parser stops at 16 KiB unless told otherwise",
    enforcedBy: "gateway/Admission.ts"
  },
  messageBytesMax: {
    value: 16 * MiB,
    unit: "bytes",
    why: "one WebSocket message of a visitor or an app, put together from fragments",
    enforcedBy: "socket/WsSocket.ts"
  },
  linkMessageBytesMax: {
    value: 1 * MiB,
    unit: "bytes",
    why: "one WebSocket message between runner and hub: a turn's frames, a chunk always fits",
    enforcedBy: "server/NodeServer.ts"
  },
  linkReplayBytesMax: {
    value: 16 * MiB,
    unit: "bytes",
    why: "sent but unacknowledged link messages kept for a reconnect; older ones are forgotten and their streams fail cleanly",
    enforcedBy: "protocol/Link.ts"
  },
  youngBufferBytesMax: {
    value: 8 * MiB,
    unit: "bytes",
    why: "buffers that came since the last small collection and lie outside of V8's heap, seen at the next look 10 ms later at the most; left alone it would do a full collection for each 64 MiB",
    enforcedBy: "socket/YoungBuffers.ts"
  },
  linkQueueBytesMax: {
    value: 64 * MiB,
    unit: "bytes",
    why: "frames waiting for a runner's socket: the sum of its streams' windows, and the last wall should credit fail",
    enforcedBy: "protocol/Link.ts"
  },
  linkFramesWaitingMax: {
    value: 12,
    unit: "count",
    why: "frames that wait for the end of the turn; with so many the peer begins while the rest is made",
    enforcedBy: "protocol/Link.ts"
  },
  linkAckBytes: {
    value: 256 * KiB,
    unit: "bytes",
    why: "an acknowledgement is owed after this much was received with nothing going the other way",
    enforcedBy: "protocol/Link.ts"
  },
  framesHeldMax: {
    value: 65_536,
    unit: "frames",
    why: "unread WebSocket fragments of one stream, at a runner, a gateway and, of Rivet's, a hub: credit counts bytes, and empty messages have none",
    enforcedBy: "runner/WebSocketStream.ts"
  },
  socketHighWaterBytes: {
    value: 256 * KiB,
    unit: "bytes",
    why: "unsent bytes in a socket above which its writer waits, so that control frames overtake in our queue and not behind the kernel's",
    enforcedBy: "socket/MessageSocket.ts"
  },
  lastWordMs: {
    value: 1_000,
    unit: "ms",
    why: "how often the end of a stream is told again while the bus cannot; for a lease, then whoever does not hear it is gone",
    enforcedBy: "gateway/Gateway.ts"
  },
  routesMax: {
    value: 131_072,
    unit: "routes",
    why: "open routes of one hub; a new request beyond them is answered overloaded, a live route is never evicted",
    enforcedBy: "route/RouteStore.ts"
  },
  tombstonesMax: {
    value: 131_072,
    unit: "routes",
    why: "closed routes remembered so that a late frame is not taken for a forged one; the oldest go first",
    enforcedBy: "route/RouteTable.ts"
  },
  tombstoneMs: {
    value: 30_000,
    unit: "ms",
    why: "as long as a frame may reasonably be under way after its stream ended",
    enforcedBy: "route/RouteTable.ts"
  },
  halfClosedMs: {
    value: 30_000,
    unit: "ms",
    why: "how long a runner may still echo a close the gateway sent first",
    enforcedBy: "route/RouteTable.ts"
  },
  leaseMs: {
    value: 30_000,
    unit: "ms",
    why: "a gateway that was not heard of for this long is gone, and its routes with it; three renewals may be lost",
    enforcedBy: "route/RouteTable.ts"
  },
  leaseRenewalMs: {
    value: 8_000,
    unit: "ms",
    why: "a gateway with open streams tells their hubs so this often",
    enforcedBy: "gateway/Gateway.ts"
  },
  streamsPerSessionMax: {
    value: 8192,
    unit: "streams",
    why: "open streams of one runner session; another runner of that name, or overloaded, takes the next",
    enforcedBy: "hub/RunnerDirectory.ts"
  },
  sessionsMax: {
    value: 65_536,
    unit: "sessions",
    why: "runner sessions of one hub, those in their grace period among them",
    enforcedBy: "hub/SessionTable.ts"
  },
  sessionGraceMs: {
    value: 5_000,
    unit: "ms",
    why: "how long a session outlives its socket, and a stream its hub: a network hiccup passes, a visitor does not wait for the dead",
    enforcedBy: "gateway/StreamLink.ts"
  },
  abuseRefusalsMax: {
    value: 100,
    unit: "frames",
    why: "Unknown or Foreign frames of one connection within abuseWindowMs before it is closed; late ones do not count",
    enforcedBy: "hub/Hub.ts"
  },
  abuseWindowMs: {
    value: 10_000,
    unit: "ms",
    why: "the span over which refused or undecodable messages add up to abuse",
    enforcedBy: "hub/Hub.ts"
  },
  handshakesMax: {
    value: 4_096,
    unit: "count",
    why: "connections that have not said who they are; each has helloTimeoutMs to do so",
    enforcedBy: "hub/Hub.ts"
  },
  helloTimeoutMs: {
    value: 5_000,
    unit: "ms",
    why: "a runner that connected introduces itself within this time, and a hub answers within it",
    enforcedBy: "hub/Handshake.ts"
  },
  heartbeatMs: {
    value: 10_000,
    unit: "ms",
    why: "each side pings this often; keeps NAT bindings warm as well",
    enforcedBy: "protocol/Heartbeat.ts"
  },
  heartbeatDeadlineMs: {
    value: 25_000,
    unit: "ms",
    why: "nothing received for this long: the connection is dead. Two pings may be lost",
    enforcedBy: "protocol/Heartbeat.ts"
  },
  ...rivetLimits,
  reconnectFirstMs: {
    value: 200,
    unit: "ms",
    why: "the first wait before a runner dials again; doubles from there, with 20 % jitter",
    enforcedBy: "runner/Reconnect.ts"
  },
  reconnectMaxMs: {
    value: 3_000,
    unit: "ms",
    why: "the longest wait between two dials: a hub that came back has its runners within 5 s",
    enforcedBy: "runner/Reconnect.ts"
  },
  leavingLingerMs: {
    value: 1_000,
    unit: "ms",
    why: "how long a session that said GoAway stays with its hub all the same: what was sent to it before the hub knew still comes",
    enforcedBy: "runner/Runner.ts"
  },
  sessionsLeavingMax: {
    value: 8,
    unit: "sessions",
    why: "sessions of one runner that finish with hubs that go away; one more ends the oldest, with what is open on it",
    enforcedBy: "runner/Runner.ts"
  },
  responseStartMs: {
    value: 120_000,
    unit: "ms",
    why: "from the whole request sent to the head of its answer",
    enforcedBy: "gateway/HttpStream.ts"
  },
  webSocketOpenMs: {
    value: 30_000,
    unit: "ms",
    why: "from the visitor's upgrade to the app's yes or no",
    enforcedBy: "gateway/SocketStream.ts"
  },
  hubAnswerMs: {
    value: 10_000,
    unit: "ms",
    why: "from an opening frame to the hub's first word, which it says at once: silence means that hub is gone",
    enforcedBy: "gateway/StreamLink.ts"
  },
  placementMs: {
    value: 60_000,
    unit: "ms",
    why: "from the hub's word that it has a stream for an actor to the word which runner hosts it: the hub itself gives up earlier, this is for one that went silent",
    enforcedBy: "gateway/StreamLink.ts"
  },
  queryMs: {
    value: 15_000,
    unit: "ms",
    why: "how long finding or creating the actor that a request asks for by name and key may take",
    enforcedBy: "gateway/ActorQuery.ts"
  },
  closeLingerMs: {
    value: 5_000,
    unit: "ms",
    why: "how long messages a visitor sent before its close may wait for credit; then the close goes without them",
    enforcedBy: "gateway/SocketStream.ts"
  },
  inFlightMax: {
    value: 65_536,
    unit: "streams",
    why: "requests and WebSockets of one gateway at once; the next is answered overloaded",
    enforcedBy: "gateway/Gateway.ts"
  },
  requestBodyBytesMax: {
    value: 0,
    unit: "bytes",
    why: "0 is no limit: bodies stream and cost one window; operators set theirs",
    enforcedBy: "gateway/Gateway.ts"
  },
  accessLogLinesMax: {
    value: 4096,
    unit: "count",
    why: "access lines waiting for a slow log; further ones are dropped and counted rather than holding up visitors",
    enforcedBy: "telemetry/AccessLog.ts"
  },
  logGatherMs: {
    value: 20,
    unit: "ms",
    why: "how long an access line waits for others, and a written line for further ones: too short to be seen",
    enforcedBy: "telemetry/Lines.ts"
  },
  pausedProbeMs: {
    value: 40,
    unit: "ms",
    why: "how often a socket that is not read from is asked whether it still stands: its reset would go unnoticed, and the other side is to hear within 100 ms",
    enforcedBy: "socket/WsSocket.ts"
  },
  requestHeadMs: {
    value: 15_000,
    unit: "ms",
    why: "from a visitor's first byte to the end of its request head; a slower one is cut, it holds a socket and sends nothing",
    enforcedBy: "server/NodeServer.ts"
  },
  keepAliveMs: {
    value: 65_000,
    unit: "ms",
    why: "an idle visitor connection is kept this long: longer than the 60 s of common load balancers, so that they close first",
    enforcedBy: "server/NodeServer.ts"
  },
  unwantedBodyMs: {
    value: 2_000,
    unit: "ms",
    why: "how long the rest of an upload is read and thrown away once its answer is out: a visitor that still sends would miss the answer",
    enforcedBy: "server/NodeExchange.ts"
  },
  serverCloseMs: {
    value: 2_000,
    unit: "ms",
    why: "how long a closing server waits for sockets to end by themselves before it cuts them",
    enforcedBy: "server/NodeServer.ts"
  },
  drainMs: {
    value: 20_000,
    unit: "ms",
    why: "how long open streams may finish after the first SIGTERM",
    enforcedBy: "server/Server.ts"
  },
  ...actorLimits,
  ...clusterLimits
} as const satisfies Readonly<Record<string, Limit>>

/** The names of all limits. */
export type LimitName = keyof typeof table

const plain = Object.fromEntries(Object.entries(table).map(([name, limit]) => [name, limit.value])) as {
  readonly [Name in LimitName]: number
}

/** The same limits as plain numbers, in the unit their name ends with. */
export const limits: { readonly [Name in LimitName]: number } = plain
