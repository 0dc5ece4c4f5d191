/** Version 7 is version 6 with `KvDeleteRangeRequest` at tag 4 of the KV requests; `KvDropRequest` moves to 5. Nothing else changes. */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { Heartbeat, Id } from "./Actor.ts"
import * as Kv from "./Kv.ts"
import * as V6 from "./V6.ts"

export {
  ActorCheckpoint,
  ActorCommandKeyData,
  Command,
  CommandWrapper,
  Event,
  EventWrapper,
  KvResponseData,
  ProtocolMetadata,
  ToClient,
  ToClientAckEvents,
  ToClientCommands,
  ToClientInit,
  ToClientKvResponse,
  ToClientTunnelMessage,
  ToClientTunnelMessageKind,
  ToGateway,
  ToRunner,
  ToServerAckCommands,
  ToServerEvents,
  ToServerInit,
  ToServerlessServer,
  ToServerTunnelMessage,
  ToServerTunnelMessageKind
} from "./V6.ts"

/** As version 6, with `KvDeleteRangeRequest` at 4 and `KvDropRequest` behind it. */
export const KvRequestData = Schema.Union([
  Wire.variant(0, "KvGetRequest", Kv.KvGetRequest),
  Wire.variant(1, "KvListRequest", Kv.KvListRequest),
  Wire.variant(2, "KvPutRequest", Kv.KvPutRequest),
  Wire.variant(3, "KvDeleteRequest", Kv.KvDeleteRequest),
  Wire.variant(4, "KvDeleteRangeRequest", Kv.KvDeleteRangeRequest),
  Wire.variant(5, "KvDropRequest", Wire.empty)
])
/** As version 6, with one more request. */
export const ToServerKvRequest = Schema.Struct({ actorId: Id, requestId: Wire.u32, data: KvRequestData })

/** As version 6, with one more KV request. */
export const ToServer = Schema.Union([
  Wire.variant(0, "ToServerInit", V6.ToServerInit),
  Wire.variant(1, "ToServerEvents", V6.ToServerEvents),
  Wire.variant(2, "ToServerAckCommands", V6.ToServerAckCommands),
  Wire.variant(3, "ToServerStopping", Wire.empty),
  Wire.variant(4, "ToServerPong", Heartbeat),
  Wire.variant(5, "ToServerKvRequest", ToServerKvRequest),
  Wire.variant(6, "ToServerTunnelMessage", V6.ToServerTunnelMessage)
])
export type ToServer = typeof ToServer.Type

/** Every type that travels by itself, by its published name. */
export const codecs = {
  ...V6.codecs,
  ToServer: Bare.make(ToServer, "ToServer"),
  KvRequestData: Bare.make(KvRequestData, "KvRequestData")
} as const
