/**
 * Version 3 is version 2 with ids that say something: gateway, request and index in ten bytes, so the reply subject and the separate message
 * numbers go. A start command lists the WebSockets that wait for its actor, and the engine's parts speak `ToRunner` among themselves.
 */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { Heartbeat } from "./Actor.ts"
import * as Tunnel from "./Tunnel.ts"
import * as V1 from "./V1.ts"

export {
  Event,
  EventWrapper,
  KvRequestData,
  KvResponseData,
  ToClientAckEvents,
  ToClientInit,
  ToClientKvResponse,
  ToServerAckCommands,
  ToServerEvents,
  ToServerInit,
  ToServerKvRequest,
  ToServerlessServer
} from "./V1.ts"

export const CommandStartActor = Schema.Struct({
  ...V1.CommandStartActor.fields,
  hibernatingRequests: Wire.list(Tunnel.HibernatingRequest)
})
export const Command = Schema.Union([
  Wire.variant(0, "CommandStartActor", CommandStartActor),
  Wire.variant(1, "CommandStopActor", V1.CommandStopActor)
])
export const CommandWrapper = Schema.Struct({ index: Wire.i64, inner: Command })
export const ToClientCommands = Wire.list(CommandWrapper)

export const ToServerWebSocketOpen = Schema.Struct({ canHibernate: Wire.bool })
export const ToServerWebSocketClose = Schema.Struct({
  ...Tunnel.ToClientWebSocketClose.fields,
  hibernate: Wire.bool
})

export const ToServerTunnelMessageKind = Schema.Union([
  Wire.variant(0, "DeprecatedTunnelAck", Wire.empty),
  Wire.variant(1, "ToServerResponseStart", Tunnel.ToServerResponseStart),
  Wire.variant(2, "ToServerResponseChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToServerResponseAbort", Wire.empty),
  Wire.variant(4, "ToServerWebSocketOpen", ToServerWebSocketOpen),
  Wire.variant(5, "ToServerWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToServerWebSocketMessageAck", Tunnel.WebSocketMessageAck),
  Wire.variant(7, "ToServerWebSocketClose", ToServerWebSocketClose)
])
export const ToServerTunnelMessage = Schema.Struct({
  messageId: Tunnel.MessageId,
  messageKind: ToServerTunnelMessageKind
})
export const ToClientTunnelMessageKind = Schema.Union([
  Wire.variant(0, "DeprecatedTunnelAck", Wire.empty),
  Wire.variant(1, "ToClientRequestStart", Tunnel.ToClientRequestStart),
  Wire.variant(2, "ToClientRequestChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToClientRequestAbort", Wire.empty),
  Wire.variant(4, "ToClientWebSocketOpen", Tunnel.ToClientWebSocketOpen),
  Wire.variant(5, "ToClientWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToClientWebSocketClose", Tunnel.ToClientWebSocketClose)
])
export const ToClientTunnelMessage = Schema.Struct({
  messageId: Tunnel.MessageId,
  messageKind: ToClientTunnelMessageKind
})

export const ToServer = Schema.Union([
  Wire.variant(0, "ToServerInit", V1.ToServerInit),
  Wire.variant(1, "ToServerEvents", V1.ToServerEvents),
  Wire.variant(2, "ToServerAckCommands", V1.ToServerAckCommands),
  Wire.variant(3, "ToServerStopping", Wire.empty),
  Wire.variant(4, "ToServerPing", Heartbeat),
  Wire.variant(5, "ToServerKvRequest", V1.ToServerKvRequest),
  Wire.variant(6, "ToServerTunnelMessage", ToServerTunnelMessage)
])
export type ToServer = typeof ToServer.Type
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", V1.ToClientInit),
  Wire.variant(1, "ToClientClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", V1.ToClientAckEvents),
  Wire.variant(4, "ToClientKvResponse", V1.ToClientKvResponse),
  Wire.variant(5, "ToClientTunnelMessage", ToClientTunnelMessage)
])
export type ToClient = typeof ToClient.Type

export const ToRunner = Schema.Union([
  Wire.variant(0, "ToRunnerPing", Tunnel.ToRunnerPing),
  Wire.variant(1, "ToClientInit", V1.ToClientInit),
  Wire.variant(2, "ToClientClose", Wire.empty),
  Wire.variant(3, "ToClientCommands", ToClientCommands),
  Wire.variant(4, "ToClientAckEvents", V1.ToClientAckEvents),
  Wire.variant(5, "ToClientKvResponse", V1.ToClientKvResponse),
  Wire.variant(6, "ToClientTunnelMessage", ToClientTunnelMessage)
])
export const ToGateway = Schema.Union([
  Wire.variant(0, "ToGatewayPong", Tunnel.ToGatewayPong),
  Wire.variant(1, "ToServerTunnelMessage", ToServerTunnelMessage)
])

/** Every type that travels by itself, by its published name. */
export const codecs = {
  ...V1.codecs,
  ToServer: Bare.make(ToServer, "ToServer"),
  ToClient: Bare.make(ToClient, "ToClient"),
  ToRunner: Bare.make(ToRunner, "ToRunner"),
  ToGateway: Bare.make(ToGateway, "ToGateway"),
  ToServerTunnelMessageKind: Bare.make(ToServerTunnelMessageKind, "ToServerTunnelMessageKind"),
  ToClientTunnelMessageKind: Bare.make(ToClientTunnelMessageKind, "ToClientTunnelMessageKind")
} as const
