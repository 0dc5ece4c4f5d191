/**
 * Version 4 begins what Rivet calls mk2: each actor counts its own commands and events (`ActorCheckpoint`), so the global indexes go; the
 * server pings and the runner answers; `DeprecatedTunnelAck` and `ToClientClose` are gone, and every tag behind them moves down.
 */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { ActorConfig, ActorNames, Heartbeat, Id, Json } from "./Actor.ts"
import * as Kv from "./Kv.ts"
import * as Tunnel from "./Tunnel.ts"
import * as V1 from "./V1.ts"
import * as V3 from "./V3.ts"

export { Event, KvRequestData, ProtocolMetadata, ToServerKvRequest } from "./V1.ts"

/** As version 3; `createTs` is called `updateTs`. */
export const KvResponseData = Kv.kvResponseData(Kv.KvMetadataUpdated)
/** As version 3, with the renamed field. */
export const ToClientKvResponse = Schema.Struct({ requestId: Wire.u32, data: KvResponseData })

/** The generation is still said by events and commands themselves. */
export const ActorCheckpoint = Schema.Struct({ actorId: Id, index: Wire.i64 })

/** An event with its actor and its number among that actor's events. */
export const EventWrapper = Schema.Struct({ checkpoint: ActorCheckpoint, inner: V1.Event })
/** A batch of events, in order for each actor. */
export const ToServerEvents = Wire.list(EventWrapper)

/** As version 3, without the actor's id: the checkpoint has it. */
export const CommandStartActor = Schema.Struct({
  generation: Wire.u32,
  config: ActorConfig,
  hibernatingRequests: Wire.list(Tunnel.HibernatingRequest)
})
/** As version 3, without the actor's id. */
export const CommandStopActor = Schema.Struct({ generation: Wire.u32 })
/** As version 3, with the shorter members. */
export const Command = Schema.Union([
  Wire.variant(0, "CommandStartActor", CommandStartActor),
  Wire.variant(1, "CommandStopActor", CommandStopActor)
])
/** A command with its actor and its number among that actor's commands. */
export const CommandWrapper = Schema.Struct({ checkpoint: ActorCheckpoint, inner: Command })
/** A batch of commands, in order for each actor. */
export const ToClientCommands = Wire.list(CommandWrapper)
/** A command as it is stored until acknowledged. */
export const ActorCommandKeyData = Command

/** As version 3, without the last command's number. */
export const ToServerInit = Schema.Struct({
  name: Wire.str,
  version: Wire.u32,
  totalSlots: Wire.u32,
  prepopulateActorNames: Wire.optional(ActorNames),
  metadata: Wire.optional(Json)
})
/** Commands are done up to these checkpoints. */
export const ToServerAckCommands = Schema.Struct({ lastCommandCheckpoints: Wire.list(ActorCheckpoint) })
/** As version 3, without the last event's number. */
export const ToClientInit = Schema.Struct({ runnerId: Id, metadata: V1.ProtocolMetadata })
/** Events have arrived up to these checkpoints. */
export const ToClientAckEvents = Schema.Struct({ lastEventCheckpoints: Wire.list(ActorCheckpoint) })

/** As version 3 without the tunnel's ack, so every tag is one lower. */
export const ToServerTunnelMessageKind = Schema.Union([
  Wire.variant(0, "ToServerResponseStart", Tunnel.ToServerResponseStart),
  Wire.variant(1, "ToServerResponseChunk", Tunnel.BodyChunk),
  Wire.variant(2, "ToServerResponseAbort", Wire.empty),
  Wire.variant(3, "ToServerWebSocketOpen", V3.ToServerWebSocketOpen),
  Wire.variant(4, "ToServerWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(5, "ToServerWebSocketMessageAck", Tunnel.WebSocketMessageAck),
  Wire.variant(6, "ToServerWebSocketClose", V3.ToServerWebSocketClose)
])
/** As version 3, of the kinds above. */
export const ToServerTunnelMessage = Schema.Struct({
  messageId: Tunnel.MessageId,
  messageKind: ToServerTunnelMessageKind
})
/** As version 3 without the tunnel's ack, so every tag is one lower. */
export const ToClientTunnelMessageKind = Schema.Union([
  Wire.variant(0, "ToClientRequestStart", Tunnel.ToClientRequestStart),
  Wire.variant(1, "ToClientRequestChunk", Tunnel.BodyChunk),
  Wire.variant(2, "ToClientRequestAbort", Wire.empty),
  Wire.variant(3, "ToClientWebSocketOpen", Tunnel.ToClientWebSocketOpen),
  Wire.variant(4, "ToClientWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(5, "ToClientWebSocketClose", Tunnel.ToClientWebSocketClose)
])
/** As version 3, of the kinds above. */
export const ToClientTunnelMessage = Schema.Struct({
  messageId: Tunnel.MessageId,
  messageKind: ToClientTunnelMessageKind
})

/** All a runner may send: 4 is a pong now, no longer a ping. */
export const ToServer = Schema.Union([
  Wire.variant(0, "ToServerInit", ToServerInit),
  Wire.variant(1, "ToServerEvents", ToServerEvents),
  Wire.variant(2, "ToServerAckCommands", ToServerAckCommands),
  Wire.variant(3, "ToServerStopping", Wire.empty),
  Wire.variant(4, "ToServerPong", Heartbeat),
  Wire.variant(5, "ToServerKvRequest", V1.ToServerKvRequest),
  Wire.variant(6, "ToServerTunnelMessage", ToServerTunnelMessage)
])
export type ToServer = typeof ToServer.Type
/** All a runner may be sent: the close is gone, a ping is new. */
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", ToClientInit),
  Wire.variant(1, "ToClientCommands", ToClientCommands),
  Wire.variant(2, "ToClientAckEvents", ToClientAckEvents),
  Wire.variant(3, "ToClientKvResponse", ToClientKvResponse),
  Wire.variant(4, "ToClientTunnelMessage", ToClientTunnelMessage),
  Wire.variant(5, "ToClientPing", Heartbeat)
])
export type ToClient = typeof ToClient.Type

/** Between engine parts: what is to reach a runner, wherever it is connected. */
export const ToRunner = Schema.Union([
  Wire.variant(0, "ToRunnerPing", Tunnel.ToRunnerPing),
  Wire.variant(1, "ToRunnerClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", ToClientAckEvents),
  Wire.variant(4, "ToClientTunnelMessage", ToClientTunnelMessage)
])
/** Between engine parts: what is to reach a gateway. */
export const ToGateway = Schema.Union([
  Wire.variant(0, "ToGatewayPong", Tunnel.ToGatewayPong),
  Wire.variant(1, "ToServerTunnelMessage", ToServerTunnelMessage)
])
/** What a serverless endpoint is started with, now with the version to speak. */
export const ToServerlessServer = Schema.Union([
  Wire.variant(0, "ToServerlessServerInit", Schema.Struct({ runnerId: Id, runnerProtocolVersion: Wire.u16 }))
])

/** Every type that travels by itself, by its published name. */
export const codecs = {
  ToServer: Bare.make(ToServer, "ToServer"),
  ToClient: Bare.make(ToClient, "ToClient"),
  ToRunner: Bare.make(ToRunner, "ToRunner"),
  ToGateway: Bare.make(ToGateway, "ToGateway"),
  ToServerlessServer: Bare.make(ToServerlessServer, "ToServerlessServer"),
  ToServerTunnelMessageKind: Bare.make(ToServerTunnelMessageKind, "ToServerTunnelMessageKind"),
  ToClientTunnelMessageKind: Bare.make(ToClientTunnelMessageKind, "ToClientTunnelMessageKind"),
  KvRequestData: V1.codecs.KvRequestData,
  KvResponseData: Bare.make(KvResponseData, "KvResponseData"),
  ActorCommandKeyData: Bare.make(ActorCommandKeyData, "ActorCommandKeyData")
} as const
