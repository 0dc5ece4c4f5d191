/** Version 6 is version 5 with two more numbers in `ProtocolMetadata`. They are not optional: a version 5 runner refuses them. */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { Heartbeat, Id } from "./Actor.ts"
import * as V5 from "./V5.ts"

export {
  ActorCheckpoint,
  ActorCommandKeyData,
  Command,
  CommandWrapper,
  Event,
  EventWrapper,
  KvRequestData,
  KvResponseData,
  ToClientAckEvents,
  ToClientCommands,
  ToClientKvResponse,
  ToClientTunnelMessage,
  ToClientTunnelMessageKind,
  ToGateway,
  ToRunner,
  ToServer,
  ToServerAckCommands,
  ToServerEvents,
  ToServerInit,
  ToServerKvRequest,
  ToServerlessServer,
  ToServerTunnelMessage,
  ToServerTunnelMessageKind
} from "./V5.ts"

/** Milliseconds, all three. */
export const ProtocolMetadata = Schema.Struct({
  runnerLostThreshold: Wire.i64,
  actorStopThreshold: Wire.i64,
  serverlessDrainGracePeriod: Wire.optional(Wire.i64)
})
/** As version 5, with the longer metadata. */
export const ToClientInit = Schema.Struct({ runnerId: Id, metadata: ProtocolMetadata })

/** As version 5, with the longer answer to the introduction. */
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", ToClientInit),
  Wire.variant(1, "ToClientCommands", V5.ToClientCommands),
  Wire.variant(2, "ToClientAckEvents", V5.ToClientAckEvents),
  Wire.variant(3, "ToClientKvResponse", V5.ToClientKvResponse),
  Wire.variant(4, "ToClientTunnelMessage", V5.ToClientTunnelMessage),
  Wire.variant(5, "ToClientPing", Heartbeat)
])
export type ToClient = typeof ToClient.Type

/** Every type that travels by itself, by its published name. */
export const codecs = { ...V5.codecs, ToClient: Bare.make(ToClient, "ToClient") } as const
