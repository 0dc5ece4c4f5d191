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

export const KvRequestData = Schema.Union([
  Wire.variant(0, "KvGetRequest", Kv.KvGetRequest),
  Wire.variant(1, "KvListRequest", Kv.KvListRequest),
  Wire.variant(2, "KvPutRequest", Kv.KvPutRequest),
  Wire.variant(3, "KvDeleteRequest", Kv.KvDeleteRequest),
  Wire.variant(4, "KvDropRequest", Wire.empty)
])
export const KvResponseData = Kv.kvResponseData(Kv.KvMetadataCreated)
export const ToServerKvRequest = Schema.Struct({ actorId: Id, requestId: Wire.u32, data: KvRequestData })
export const ToClientKvResponse = Schema.Struct({ requestId: Wire.u32, data: KvResponseData })

export const EventActorIntent = Schema.Struct({ ...actor, intent: ActorIntent })
export const EventActorStateUpdate = Schema.Struct({ ...actor, state: ActorState })
export const EventActorSetAlarm = Schema.Struct({ ...actor, alarmTs: Wire.optional(Timestamp) })
export const Event = Schema.Union([
  Wire.variant(0, "EventActorIntent", EventActorIntent),
  Wire.variant(1, "EventActorStateUpdate", EventActorStateUpdate),
  Wire.variant(2, "EventActorSetAlarm", EventActorSetAlarm)
])
export const EventWrapper = Schema.Struct({ index: Wire.i64, inner: Event })
export const ToServerEvents = Wire.list(EventWrapper)

export const CommandStartActor = Schema.Struct({ ...actor, config: ActorConfig })
export const CommandStopActor = Schema.Struct(actor)
export const Command = Schema.Union([
  Wire.variant(0, "CommandStartActor", CommandStartActor),
  Wire.variant(1, "CommandStopActor", CommandStopActor)
])
export const CommandWrapper = Schema.Struct({ index: Wire.i64, inner: Command })
export const ToClientCommands = Wire.list(CommandWrapper)

export const ToServerInit = Schema.Struct({
  name: Wire.str,
  version: Wire.u32,
  totalSlots: Wire.u32,
  lastCommandIdx: Wire.optional(Wire.i64),
  prepopulateActorNames: Wire.optional(ActorNames),
  metadata: Wire.optional(Json)
})
export const ToServerAckCommands = Schema.Struct({ lastCommandIdx: Wire.i64 })

export const ProtocolMetadata = Schema.Struct({ runnerLostThreshold: Wire.i64 })
export const ToClientInit = Schema.Struct({ runnerId: Id, lastEventIdx: Wire.i64, metadata: ProtocolMetadata })
export const ToClientAckEvents = Schema.Struct({ lastEventIdx: Wire.i64 })

export const RequestId = Wire.fixed(16)
export const MessageId = Wire.fixed(16)

export const ToServerTunnelMessageKind = Schema.Union([
  Wire.variant(0, "TunnelAck", Wire.empty),
  Wire.variant(1, "ToServerResponseStart", Tunnel.ToServerResponseStart),
  Wire.variant(2, "ToServerResponseChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToServerResponseAbort", Wire.empty),
  Wire.variant(4, "ToServerWebSocketOpen", Wire.empty),
  Wire.variant(5, "ToServerWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToServerWebSocketClose", Tunnel.ToClientWebSocketClose)
])
export const ToServerTunnelMessage = Schema.Struct({
  requestId: RequestId,
  messageId: MessageId,
  messageKind: ToServerTunnelMessageKind
})
export const ToClientTunnelMessageKind = Schema.Union([
  Wire.variant(0, "TunnelAck", Wire.empty),
  Wire.variant(1, "ToClientRequestStart", Tunnel.ToClientRequestStart),
  Wire.variant(2, "ToClientRequestChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToClientRequestAbort", Wire.empty),
  Wire.variant(4, "ToClientWebSocketOpen", Tunnel.ToClientWebSocketOpen),
  Wire.variant(5, "ToClientWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToClientWebSocketClose", Tunnel.ToClientWebSocketClose)
])
export const ToClientTunnelMessage = Schema.Struct({
  requestId: RequestId,
  messageId: MessageId,
  messageKind: ToClientTunnelMessageKind,
  gatewayReplyTo: Wire.optional(Wire.str)
})

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
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", ToClientInit),
  Wire.variant(1, "ToClientClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", ToClientAckEvents),
  Wire.variant(4, "ToClientKvResponse", ToClientKvResponse),
  Wire.variant(5, "ToClientTunnelMessage", ToClientTunnelMessage)
])
export type ToClient = typeof ToClient.Type

export const ToGateway = Schema.Struct({ message: ToServerTunnelMessage })
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
