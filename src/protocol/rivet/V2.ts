/**
 * Version 2 is version 1 with a first form of WebSocket hibernation: an open says whether it can hibernate, messages down are numbered and
 * acknowledged (tag 6, so the close moves to 7), and a close says whether to retry.
 */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { Heartbeat } from "./Actor.ts"
import * as Tunnel from "./Tunnel.ts"
import * as V1 from "./V1.ts"

export {
  Command,
  CommandWrapper,
  Event,
  EventWrapper,
  KvRequestData,
  KvResponseData,
  MessageId,
  RequestId,
  ToClientAckEvents,
  ToClientCommands,
  ToClientInit,
  ToClientKvResponse,
  ToServerAckCommands,
  ToServerEvents,
  ToServerInit,
  ToServerKvRequest,
  ToServerlessServer
} from "./V1.ts"

/** As version 1, with hibernation: 4 and 7 have new fields, 6 is new. */
export const ToServerTunnelMessageKind = Schema.Union([
  Wire.variant(0, "TunnelAck", Wire.empty),
  Wire.variant(1, "ToServerResponseStart", Tunnel.ToServerResponseStart),
  Wire.variant(2, "ToServerResponseChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToServerResponseAbort", Wire.empty),
  Wire.variant(4, "ToServerWebSocketOpen", Schema.Struct({ canHibernate: Wire.bool, lastMsgIndex: Wire.i64 })),
  Wire.variant(5, "ToServerWebSocketMessage", Tunnel.WebSocketMessage),
  Wire.variant(6, "ToServerWebSocketMessageAck", Tunnel.WebSocketMessageAck),
  Wire.variant(
    7,
    "ToServerWebSocketClose",
    Schema.Struct({ ...Tunnel.ToClientWebSocketClose.fields, retry: Wire.bool })
  )
])
/** As version 1, of the kinds above. */
export const ToServerTunnelMessage = Schema.Struct({
  requestId: V1.RequestId,
  messageId: V1.MessageId,
  messageKind: ToServerTunnelMessageKind
})
/** As version 1; WebSocket messages carry their index. */
export const ToClientTunnelMessageKind = Schema.Union([
  Wire.variant(0, "TunnelAck", Wire.empty),
  Wire.variant(1, "ToClientRequestStart", Tunnel.ToClientRequestStart),
  Wire.variant(2, "ToClientRequestChunk", Tunnel.BodyChunk),
  Wire.variant(3, "ToClientRequestAbort", Wire.empty),
  Wire.variant(4, "ToClientWebSocketOpen", Tunnel.ToClientWebSocketOpen),
  Wire.variant(5, "ToClientWebSocketMessage", Schema.Struct({ index: Wire.u16, ...Tunnel.WebSocketMessage.fields })),
  Wire.variant(6, "ToClientWebSocketClose", Tunnel.ToClientWebSocketClose)
])
/** As version 1, of the kinds above. */
export const ToClientTunnelMessage = Schema.Struct({
  requestId: V1.RequestId,
  messageId: V1.MessageId,
  messageKind: ToClientTunnelMessageKind,
  gatewayReplyTo: Wire.optional(Wire.str)
})

/** As version 1, with its own tunnel messages. */
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
/** As version 1, with its own tunnel messages. */
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", V1.ToClientInit),
  Wire.variant(1, "ToClientClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", V1.ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", V1.ToClientAckEvents),
  Wire.variant(4, "ToClientKvResponse", V1.ToClientKvResponse),
  Wire.variant(5, "ToClientTunnelMessage", ToClientTunnelMessage)
])
export type ToClient = typeof ToClient.Type

/** Between engine parts: an answer on its way to its gateway. */
export const ToGateway = Schema.Struct({ message: ToServerTunnelMessage })

/** Every type that travels by itself, by its published name. */
export const codecs = {
  ...V1.codecs,
  ToServer: Bare.make(ToServer, "ToServer"),
  ToClient: Bare.make(ToClient, "ToClient"),
  ToGateway: Bare.make(ToGateway, "ToGateway"),
  ToServerTunnelMessageKind: Bare.make(ToServerTunnelMessageKind, "ToServerTunnelMessageKind"),
  ToClientTunnelMessageKind: Bare.make(ToClientTunnelMessageKind, "ToClientTunnelMessageKind")
} as const
