/** The maxima of what a hub does for Rivet's runners and the streams of their actors: a part of the table in `Limits.ts`. */
import type { Limit } from "./Limits.ts"

const MiB = 1024 * 1024

/** The entries that are about Rivet's runners. */
export const rivetLimits = {
  rivetPayloadBytesMax: {
    value: 20 * MiB,
    unit: "bytes",
    why: "the body of one request, answer or message of a Rivet runner, as its published client has it",
    enforcedBy: "hub/rivet/RivetStream.ts"
  },
  rivetStreamBytesMax: {
    value: 40 * MiB,
    unit: "bytes",
    why: "what a Rivet runner may have answered on one stream and its visitor not yet taken: its wire knows no credit, so beyond this the stream ends with overflow",
    enforcedBy: "hub/rivet/RivetStream.ts"
  },
  rivetSessionBytesMax: {
    value: 256 * MiB,
    unit: "bytes",
    why: "the same for all streams of one Rivet runner together, with what it said on WebSockets that are not woken yet; and once more for requests that are not whole",
    enforcedBy: "hub/rivet/RivetStream.ts"
  },
  rivetMessageBytesMax: {
    value: 32 * MiB,
    unit: "bytes",
    why: "one WebSocket message of a Rivet runner: what its codec takes",
    enforcedBy: "server/NodeServer.ts"
  },
  rivetPingMs: {
    value: 3_000,
    unit: "ms",
    why: "a Rivet runner is pinged this often, and a little later",
    enforcedBy: "hub/rivet/RivetConnection.ts"
  },
  rivetPongMs: {
    value: 15_000,
    unit: "ms",
    why: "a Rivet runner that said nothing for this long, not even in answer to a ping, is gone",
    enforcedBy: "hub/rivet/RivetConnection.ts"
  },
  rivetPingJitterMs: {
    value: 127,
    unit: "ms",
    why: "by how much more at most, so that a hub's runners are not all pinged at once",
    enforcedBy: "hub/rivet/RivetConnection.ts"
  },
  rivetStallMs: {
    value: 60_000,
    unit: "ms",
    why: "how long a Rivet runner may be busy taking what was written to it, with pings behind that: 20 MiB at 3 Mbit/s",
    enforcedBy: "hub/rivet/RivetConnection.ts"
  },
  rivetPingsOut: {
    value: 32,
    unit: "count",
    why: "pings that a runner has not answered and may still answer; older ones prove nothing any more",
    enforcedBy: "hub/rivet/RivetWire.ts"
  },
  rivetProbesOut: {
    value: 4_096,
    unit: "count",
    why: "actors of one connection that were asked after and have not answered; the oldest question is forgotten",
    enforcedBy: "hub/rivet/Probes.ts"
  },
  rivetAnswersBytesMax: {
    value: 1 * MiB,
    unit: "bytes",
    why: "what a Rivet runner was told in answer and has not taken, before its socket is not read from any more",
    enforcedBy: "hub/rivet/RivetWire.ts"
  },
  rivetLingerMs: {
    value: 120_000,
    unit: "ms",
    why: "how long visitors may take what a Rivet runner had answered before it left; then it is cut off",
    enforcedBy: "hub/rivet/RivetPeer.ts"
  },
  rivetRefusalMs: {
    value: 2_000,
    unit: "ms",
    why: "how long the refusal of a Rivet runner takes: its client dials again a second after whatever answer it gets, for ever",
    enforcedBy: "hub/rivet/RivetHandshake.ts"
  },
  commandNumbersMax: {
    value: 65_536,
    unit: "count",
    why: "commands of a runner of versions 1 to 3 whose number may still be acknowledged",
    enforcedBy: "hub/rivet/CommandNumbers.ts"
  },
  kvRequestsMax: {
    value: 1_024,
    unit: "count",
    why: "requests to actors' stores of one runner that wait for their answer; the next is answered with an error",
    enforcedBy: "hub/rivet/StoreRequests.ts"
  },
  actorOpensMax: {
    value: 8_192,
    unit: "streams",
    why: "requests and WebSockets of one hub that wait for their actor; the next is answered overloaded",
    enforcedBy: "hub/rivet/ActorStreams.ts"
  },
  firstWordMs: {
    value: 1_000,
    unit: "ms",
    why: "after this long without an actor a gateway hears that somebody has its stream; well below hubAnswerMs",
    enforcedBy: "hub/rivet/ActorStreams.ts"
  },
  lastingSocketsMax: {
    value: 65_536,
    unit: "streams",
    why: "WebSockets of one hub that may outlive their actor's sleep; the next one may not",
    enforcedBy: "hub/rivet/LastingSockets.ts"
  },
  lastingSocketAttempts: {
    value: 3,
    unit: "count",
    why: "how often the actor of a WebSocket that wakes is looked for, where it has ended again by the time it was found; then its gateway asks again",
    enforcedBy: "hub/rivet/ActorStreams.ts"
  },
  lastingSocketMs: {
    value: 1_000,
    unit: "ms",
    why: "how long an actor's start waits for its WebSockets to be asleep; a visitor who does not take a message in that time loses its own",
    enforcedBy: "hub/rivet/ActorCommands.ts"
  }
} as const satisfies Readonly<Record<string, Limit>>
