/**
 * Rivet's runner protocol, version 1, whole. Versions 2 to 7 state only what they change and hand on the rest.
 *
 * Names and spelling are the published ones. Here ids are 16 bytes and mean nothing by themselves; `RivetMk1.ts` says how a route fits in.
 */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { ActorConfig, ActorIntent, ActorNames, ActorState, Heartbeat, Id, Json, Timestamp } from "./Actor.ts"
import * as Kv from "./Kv.ts"
import * as Tunnel from "./Tunnel.ts"

const actor = { actorId: Id, generation: Wire.u32 } as const

/** Requests to an actor's store. Version 7 adds one in their midst. */
export const KvRequestData = Schema.Union([
  Wire.variant(0, "KvGetRequest", Kv.KvGetRequest),
  Wire.variant(1, "KvListRequest", Kv.KvListRequest),
  Wire.variant(2, "KvPutRequest", Kv.KvPutRequest),
  Wire.variant(3, "KvDeleteRequest", Kv.KvDeleteRequest),
  Wire.variant(4, "KvDropRequest", Wire.empty)
])
/** Answers of an actor's store. */
export const KvResponseData = Kv.kvResponseData(Kv.KvMetadataCreated)
/** One request to an actor's store; `requestId` pairs it with its answer. */
export const ToServerKvRequest = Schema.Struct({ actorId: Id, requestId: Wire.u32, data: KvRequestData })
/** The answer to the request of that number. */
export const ToClientKvResponse = Schema.Struct({ requestId: Wire.u32, data: KvResponseData })

/** An actor wants to sleep or to stop. */
export const EventActorIntent = Schema.Struct({ ...actor, intent: ActorIntent })
/** An actor runs, or has stopped. */
export const EventActorStateUpdate = Schema.Struct({ ...actor, state: ActorState })
/** An actor wants to be woken at a time, or no longer. */
export const EventActorSetAlarm = Schema.Struct({ ...actor, alarmTs: Wire.optional(Timestamp) })
/** What a runner reports about an actor. */
export const Event = Schema.Union([
  Wire.variant(0, "EventActorIntent", EventActorIntent),
  Wire.variant(1, "EventActorStateUpdate", EventActorStateUpdate),
  Wire.variant(2, "EventActorSetAlarm", EventActorSetAlarm)
])
/** An event with its number among all events of the runner. */
export const EventWrapper = Schema.Struct({ index: Wire.i64, inner: Event })
/** A batch of events, in order. */
export const ToServerEvents = Wire.list(EventWrapper)

/** Start this generation of an actor. */
export const CommandStartActor = Schema.Struct({ ...actor, config: ActorConfig })
/** Stop this generation of an actor. */
export const CommandStopActor = Schema.Struct(actor)
/** What a runner is to do. */
export const Command = Schema.Union([
  Wire.variant(0, "CommandStartActor", CommandStartActor),
  Wire.variant(1, "CommandStopActor", CommandStopActor)
])
/** A command with its number among all commands to the runner. */
export const CommandWrapper = Schema.Struct({ index: Wire.i64, inner: Command })
/** A batch of commands, in order. */
export const ToClientCommands = Wire.list(CommandWrapper)

/** A runner introduces itself, and says which command it saw last. */
export const ToServerInit = Schema.Struct({
  name: Wire.str,
  version: Wire.u32,
  totalSlots: Wire.u32,
  lastCommandIdx: Wire.optional(Wire.i64),
  prepopulateActorNames: Wire.optional(ActorNames),
  metadata: Wire.optional(Json)
})
/** Commands are done up to this number. */
export const ToServerAckCommands = Schema.Struct({ lastCommandIdx: Wire.i64 })

/** Milliseconds without a connection after which a runner stops its actors. */
export const ProtocolMetadata = Schema.Struct({ runnerLostThreshold: Wire.i64 })
/** The answer to the introduction, with the last event known. */
export const ToClientInit = Schema.Struct({ runnerId: Id, lastEventIdx: Wire.i64, metadata: ProtocolMetadata })
/** Events have arrived up to this number. */
export const ToClientAckEvents = Schema.Struct({ lastEventIdx: Wire.i64 })

/** Sixteen bytes that look like a UUID; the runner only repeats them. */
export const RequestId = Wire.fixed(16)
/** Sixteen bytes that look like a UUID; a runner makes its own at random. */
export const MessageId = Wire.fixed(16)

/** What an actor answers a visitor. */
export const ToServerTunnelMessageKind = Schema.Union([
  Wire.variant(0, "TunnelAck", Wire.empty),
  Wire.variant(1, "ToServerResponseStart", Tunnel.ToServerResponseStart),
  Wire.variant(2, "ToServerResponseChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToServerResponseAbort", Wire.empty),
  Wire.variant(4, "ToServerWebSocketOpen", Wire.empty),
  Wire.variant(5, "ToServerWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToServerWebSocketClose", Tunnel.ToClientWebSocketClose)
])
/** An answer, or a part of one, for a request. */
export const ToServerTunnelMessage = Schema.Struct({
  requestId: RequestId,
  messageId: MessageId,
  messageKind: ToServerTunnelMessageKind
})
/** What a visitor asks of an actor. */
export const ToClientTunnelMessageKind = Schema.Union([
  Wire.variant(0, "TunnelAck", Wire.empty),
  Wire.variant(1, "ToClientRequestStart", Tunnel.ToClientRequestStart),
  Wire.variant(2, "ToClientRequestChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToClientRequestAbort", Wire.empty),
  Wire.variant(4, "ToClientWebSocketOpen", Tunnel.ToClientWebSocketOpen),
  Wire.variant(5, "ToClientWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToClientWebSocketClose", Tunnel.ToClientWebSocketClose)
])
/** A request, or a part of one, and where its answers are to go. */
export const ToClientTunnelMessage = Schema.Struct({
  requestId: RequestId,
  messageId: MessageId,
  messageKind: ToClientTunnelMessageKind,
  gatewayReplyTo: Wire.optional(Wire.str)
})

/** All a runner may send. */
export const ToServer = Schema.Union([
  Wire.variant(0, "ToServerInit", ToServerInit),
  Wire.variant(1, "ToServerEvents", ToServerEvents),
  Wire.variant(2, "ToServerAckCommands", ToServerAckCommands),
  Wire.variant(3, "ToServerStopping", Wire.empty),
  Wire.variant(4, "ToServerPing", Heartbeat),
  Wire.variant(5, "ToServerKvRequest", ToServerKvRequest),
  Wire.variant(6, "ToServerTunnelMessage", ToServerTunnelMessage)
])
export type ToServer = typeof ToServer.Type
/** All a runner may be sent. */
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", ToClientInit),
  Wire.variant(1, "ToClientClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", ToClientAckEvents),
  Wire.variant(4, "ToClientKvResponse", ToClientKvResponse),
  Wire.variant(5, "ToClientTunnelMessage", ToClientTunnelMessage)
])
export type ToClient = typeof ToClient.Type

/** Between engine parts: an answer on its way to its gateway. */
export const ToGateway = Schema.Struct({ message: ToServerTunnelMessage })
/** What a serverless endpoint is started with. */
export const ToServerlessServer = Schema.Union([
  Wire.variant(0, "ToServerlessServerInit", Schema.Struct({ runnerId: Id }))
])

/** Every type that travels by itself, by its published name. */
export const codecs = {
  ToServer: Bare.make(ToServer, "ToServer"),
  ToClient: Bare.make(ToClient, "ToClient"),
  ToGateway: Bare.make(ToGateway, "ToGateway"),
  ToServerlessServer: Bare.make(ToServerlessServer, "ToServerlessServer"),
  ToServerTunnelMessageKind: Bare.make(ToServerTunnelMessageKind, "ToServerTunnelMessageKind"),
  ToClientTunnelMessageKind: Bare.make(ToClientTunnelMessageKind, "ToClientTunnelMessageKind"),
  KvRequestData: Bare.make(KvRequestData, "KvRequestData"),
  KvResponseData: Bare.make(KvResponseData, "KvResponseData")
} as const
