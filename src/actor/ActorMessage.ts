/**
 * What hub and runner say to each other beside frames: who they are, which actors to run, what became of them, and the actors' stores. One
 * form for every dialect; `protocol/RivetMk1.ts` and `RivetMk2.ts` convert to and from it and say what a version cannot express.
 *
 * Pure schemas. Times are milliseconds since 1970, durations milliseconds, both as 64-bit integers because Rivet's wire has them so.
 */
import { Schema } from "effect"
import * as Wire from "../tunnel/Wire.ts"

/** Up to where one actor's commands, or its events, are dealt with. A version that cannot say the generation means 0. */
export const Checkpoint = Schema.Struct({ actorId: Wire.str, generation: Wire.u32, index: Wire.i64 })
export type Checkpoint = typeof Checkpoint.Type

/** What an actor is started with. */
export const ActorConfig = Schema.Struct({
  name: Wire.str,
  key: Wire.optional(Wire.str),
  createdAtMs: Wire.i64,
  input: Wire.optional(Wire.data)
})
export type ActorConfig = typeof ActorConfig.Type

/** What the hub orders. `hibernating` lists the routes of WebSockets that wait for the actor. */
export const Command = Schema.Union([
  Wire.tagged(0, "StartActor", {
    config: ActorConfig,
    hibernating: Wire.list(Schema.Struct({ gatewayId: Wire.u32, requestId: Wire.u32 }))
  }),
  Wire.tagged(1, "StopActor", {})
])
export type Command = typeof Command.Type

/** A command with the actor it is for and its place in that actor's order. */
export const NumberedCommand = Schema.Struct({ checkpoint: Checkpoint, command: Command })
export type NumberedCommand = typeof NumberedCommand.Type

/** What a runner reports. `message` of a stop is for people. */
export const Event = Schema.Union([
  Wire.tagged(0, "WantsSleep", {}),
  Wire.tagged(1, "WantsStop", {}),
  Wire.tagged(2, "Running", {}),
  Wire.tagged(3, "Stopped", { failed: Wire.bool, message: Wire.optional(Wire.str) }),
  Wire.tagged(4, "SetAlarm", { atMs: Wire.optional(Wire.i64) })
])
export type Event = typeof Event.Type

/** An event with the actor it is from and its place in that actor's order. */
export const NumberedEvent = Schema.Struct({ checkpoint: Checkpoint, event: Event })
export type NumberedEvent = typeof NumberedEvent.Type

/** Which keys to list. */
export const KvQuery = Schema.Union([
  Wire.tagged(0, "All", {}),
  Wire.tagged(1, "Range", { start: Wire.data, end: Wire.data, exclusive: Wire.bool }),
  Wire.tagged(2, "Prefix", { key: Wire.data })
])
export type KvQuery = typeof KvQuery.Type

/** A request to an actor's store. `Put` has two lists side by side, as they came: a store refuses lists of unequal length. */
export const KvRequest = Schema.Union([
  Wire.tagged(0, "Get", { keys: Wire.list(Wire.data) }),
  Wire.tagged(1, "List", { query: KvQuery, reverse: Wire.optional(Wire.bool), limit: Wire.optional(Wire.u64) }),
  Wire.tagged(2, "Put", { keys: Wire.list(Wire.data), values: Wire.list(Wire.data) }),
  Wire.tagged(3, "Delete", { keys: Wire.list(Wire.data) }),
  Wire.tagged(4, "DeleteRange", { start: Wire.data, end: Wire.data }),
  Wire.tagged(5, "Drop", {})
])
export type KvRequest = typeof KvRequest.Type

/** What is known about a stored value. */
export const KvMetadata = Schema.Struct({ version: Wire.data, updatedAtMs: Wire.i64 })

/** Entries as three lists side by side: position is what joins them. */
const entries = {
  keys: Wire.list(Wire.data),
  values: Wire.list(Wire.data),
  metadata: Wire.list(KvMetadata)
} as const

/** The answer of an actor's store. */
export const KvResponse = Schema.Union([
  Wire.tagged(0, "Failed", { message: Wire.str }),
  Wire.tagged(1, "Got", entries),
  Wire.tagged(2, "Listed", entries),
  Wire.tagged(3, "Stored", {}),
  Wire.tagged(4, "Deleted", {}),
  Wire.tagged(5, "Dropped", {})
])
export type KvResponse = typeof KvResponse.Type

/** Runner to hub. */
export const ActorUplink = Schema.Union([
  /** The runner's first word. `lastCommandIndex` is the last command it saw, where commands are numbered for the whole runner. */
  Wire.tagged(0, "Introduction", {
    name: Wire.str,
    version: Wire.u32,
    totalSlots: Wire.u32,
    lastCommandIndex: Wire.optional(Wire.i64),
    actorNames: Wire.optional(Wire.map(Wire.str, Schema.Struct({ metadata: Wire.str }))),
    metadata: Wire.optional(Wire.str)
  }),
  Wire.tagged(1, "Events", { events: Wire.list(NumberedEvent) }),
  Wire.tagged(2, "CommandsDone", { upTo: Wire.list(Checkpoint) }),
  /** The same from a runner that numbers commands across its actors. */
  Wire.tagged(3, "CommandsDoneUpTo", { index: Wire.i64 }),
  Wire.tagged(4, "KvAsked", { actorId: Wire.str, requestId: Wire.u32, request: KvRequest }),
  /** The runner takes nothing new and lets its actors finish. */
  Wire.tagged(5, "Stopping", {}),
  /** The runner's own ping; nobody answers it. */
  Wire.tagged(6, "RunnerPing", { atMs: Wire.i64 }),
  /** The answer to `Ping`, with its time. */
  Wire.tagged(7, "Pong", { atMs: Wire.i64 })
])
export type ActorUplink = typeof ActorUplink.Type

/** Hub to runner. */
export const ActorDownlink = Schema.Union([
  /** The answer to `Introduction`. `lastEventIndex` is -1 where none is known, or where events are numbered for each actor. */
  Wire.tagged(0, "Welcome", {
    runnerId: Wire.str,
    lastEventIndex: Wire.i64,
    runnerLostMs: Wire.i64,
    actorStopMs: Wire.i64,
    serverlessDrainMs: Wire.optional(Wire.i64)
  }),
  Wire.tagged(1, "Commands", { commands: Wire.list(NumberedCommand) }),
  Wire.tagged(2, "EventsSeen", { upTo: Wire.list(Checkpoint) }),
  /** The same to a runner that numbers events across its actors. */
  Wire.tagged(3, "EventsSeenUpTo", { index: Wire.i64 }),
  Wire.tagged(4, "KvAnswered", { requestId: Wire.u32, response: KvResponse }),
  Wire.tagged(5, "Ping", { atMs: Wire.i64 }),
  /** The hub takes its leave for good: the runner is not to come back. */
  Wire.tagged(6, "Close", {})
])
export type ActorDownlink = typeof ActorDownlink.Type
