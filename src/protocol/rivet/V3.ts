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

/** As version 1, and which WebSockets wait for the actor. */
export const CommandStartActor = Schema.Struct({
  ...V1.CommandStartActor.fields,
  hibernatingRequests: Wire.list(Tunnel.HibernatingRequest)
})
/** As version 1, with the longer start. */
export const Command = Schema.Union([
  Wire.variant(0, "CommandStartActor", CommandStartActor),
  Wire.variant(1, "CommandStopActor", V1.CommandStopActor)
])
/** As version 1, with the longer start. */
export const CommandWrapper = Schema.Struct({ index: Wire.i64, inner: Command })
/** A batch of commands, in order. */
export const ToClientCommands = Wire.list(CommandWrapper)

/** The actor accepts; `canHibernate` lets the visitor's socket outlive it. */
export const ToServerWebSocketOpen = Schema.Struct({ canHibernate: Wire.bool })
/** The actor closes; with `hibernate` the visitor's socket stays. */
export const ToServerWebSocketClose = Schema.Struct({
  ...Tunnel.ToClientWebSocketClose.fields,
  hibernate: Wire.bool
})

/** As version 2, but for the two structs above. */
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
/** Answers now say their route and their place in it. */
export const ToServerTunnelMessage = Schema.Struct({
  messageId: Tunnel.MessageId,
  messageKind: ToServerTunnelMessageKind
})
/** As version 1 again: the index has moved into the message's id. */
export const ToClientTunnelMessageKind = Schema.Union([
  Wire.variant(0, "DeprecatedTunnelAck", Wire.empty),
  Wire.variant(1, "ToClientRequestStart", Tunnel.ToClientRequestStart),
  Wire.variant(2, "ToClientRequestChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToClientRequestAbort", Wire.empty),
  Wire.variant(4, "ToClientWebSocketOpen", Tunnel.ToClientWebSocketOpen),
  Wire.variant(5, "ToClientWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToClientWebSocketClose", Tunnel.ToClientWebSocketClose)
])
/** Requests now say their route and their place in it. */
export const ToClientTunnelMessage = Schema.Struct({
  messageId: Tunnel.MessageId,
  messageKind: ToClientTunnelMessageKind
})

/** As version 2, with its own tunnel messages. */
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
/** As version 2, with its own commands and tunnel messages. */
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", V1.ToClientInit),
  Wire.variant(1, "ToClientClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", V1.ToClientAckEvents),
  Wire.variant(4, "ToClientKvResponse", V1.ToClientKvResponse),
  Wire.variant(5, "ToClientTunnelMessage", ToClientTunnelMessage)
])
export type ToClient = typeof ToClient.Type

/** Between engine parts: what is to reach a runner, wherever it is connected. */
export const ToRunner = Schema.Union([
  Wire.variant(0, "ToRunnerPing", Tunnel.ToRunnerPing),
  Wire.variant(1, "ToClientInit", V1.ToClientInit),
  Wire.variant(2, "ToClientClose", Wire.empty),
  Wire.variant(3, "ToClientCommands", ToClientCommands),
  Wire.variant(4, "ToClientAckEvents", V1.ToClientAckEvents),
  Wire.variant(5, "ToClientKvResponse", V1.ToClientKvResponse),
  Wire.variant(6, "ToClientTunnelMessage", ToClientTunnelMessage)
])
/** Between engine parts: what is to reach a gateway. */
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
