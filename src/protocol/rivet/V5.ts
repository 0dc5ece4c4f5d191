/**
 * Version 5 is version 4 with the generation moved into `ActorCheckpoint`: events and commands lose it, and the actor's id with it, so a stop
 * command is empty.
 */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"
import * as Bare from "../Bare.ts"
import { ActorConfig, ActorIntent, ActorState, Heartbeat, Id, Timestamp } from "./Actor.ts"
import * as Tunnel from "./Tunnel.ts"
import * as V1 from "./V1.ts"
import * as V4 from "./V4.ts"

export {
  KvRequestData,
  KvResponseData,
  ProtocolMetadata,
  ToClientInit,
  ToClientKvResponse,
  ToClientTunnelMessage,
  ToClientTunnelMessageKind,
  ToGateway,
  ToServerInit,
  ToServerKvRequest,
  ToServerlessServer,
  ToServerTunnelMessage,
  ToServerTunnelMessageKind
} from "./V4.ts"

/** As version 4, and the generation with it. */
export const ActorCheckpoint = Schema.Struct({ actorId: Id, generation: Wire.u32, index: Wire.i64 })

/** As version 4, without actor and generation. */
export const EventActorIntent = Schema.Struct({ intent: ActorIntent })
/** As version 4, without actor and generation. */
export const EventActorStateUpdate = Schema.Struct({ state: ActorState })
/** As version 4, without actor and generation. */
export const EventActorSetAlarm = Schema.Struct({ alarmTs: Wire.optional(Timestamp) })
/** As version 4, with the shorter members. */
export const Event = Schema.Union([
  Wire.variant(0, "EventActorIntent", EventActorIntent),
  Wire.variant(1, "EventActorStateUpdate", EventActorStateUpdate),
  Wire.variant(2, "EventActorSetAlarm", EventActorSetAlarm)
])
/** As version 4, with the wider checkpoint. */
export const EventWrapper = Schema.Struct({ checkpoint: ActorCheckpoint, inner: Event })
/** A batch of events, in order for each actor. */
export const ToServerEvents = Wire.list(EventWrapper)

/** As version 4, without the generation. */
export const CommandStartActor = Schema.Struct({
  config: ActorConfig,
  hibernatingRequests: Wire.list(Tunnel.HibernatingRequest)
})
/** As version 4, with shorter members: a stop says nothing more. */
export const Command = Schema.Union([
  Wire.variant(0, "CommandStartActor", CommandStartActor),
  Wire.variant(1, "CommandStopActor", Wire.empty)
])
/** As version 4, with the wider checkpoint. */
export const CommandWrapper = Schema.Struct({ checkpoint: ActorCheckpoint, inner: Command })
/** A batch of commands, in order for each actor. */
export const ToClientCommands = Wire.list(CommandWrapper)
/** A command as it is stored until acknowledged. */
export const ActorCommandKeyData = Command

/** As version 4, with wider checkpoints. */
export const ToServerAckCommands = Schema.Struct({ lastCommandCheckpoints: Wire.list(ActorCheckpoint) })
/** As version 4, with wider checkpoints. */
export const ToClientAckEvents = Schema.Struct({ lastEventCheckpoints: Wire.list(ActorCheckpoint) })

/** As version 4, with wider checkpoints. */
export const ToServer = Schema.Union([
  Wire.variant(0, "ToServerInit", V4.ToServerInit),
  Wire.variant(1, "ToServerEvents", ToServerEvents),
  Wire.variant(2, "ToServerAckCommands", ToServerAckCommands),
  Wire.variant(3, "ToServerStopping", Wire.empty),
  Wire.variant(4, "ToServerPong", Heartbeat),
  Wire.variant(5, "ToServerKvRequest", V1.ToServerKvRequest),
  Wire.variant(6, "ToServerTunnelMessage", V4.ToServerTunnelMessage)
])
export type ToServer = typeof ToServer.Type
/** As version 4, with wider checkpoints. */
export const ToClient = Schema.Union([
  Wire.variant(0, "ToClientInit", V4.ToClientInit),
  Wire.variant(1, "ToClientCommands", ToClientCommands),
  Wire.variant(2, "ToClientAckEvents", ToClientAckEvents),
  Wire.variant(3, "ToClientKvResponse", V4.ToClientKvResponse),
  Wire.variant(4, "ToClientTunnelMessage", V4.ToClientTunnelMessage),
  Wire.variant(5, "ToClientPing", Heartbeat)
])
export type ToClient = typeof ToClient.Type

/** As version 4, with wider checkpoints. */
export const ToRunner = Schema.Union([
  Wire.variant(0, "ToRunnerPing", Tunnel.ToRunnerPing),
  Wire.variant(1, "ToRunnerClose", Wire.empty),
  Wire.variant(2, "ToClientCommands", ToClientCommands),
  Wire.variant(3, "ToClientAckEvents", ToClientAckEvents),
  Wire.variant(4, "ToClientTunnelMessage", V4.ToClientTunnelMessage)
])

/** Every type that travels by itself, by its published name. */
export const codecs = {
  ...V4.codecs,
  ToServer: Bare.make(ToServer, "ToServer"),
  ToClient: Bare.make(ToClient, "ToClient"),
  ToRunner: Bare.make(ToRunner, "ToRunner"),
  ActorCommandKeyData: Bare.make(ActorCommandKeyData, "ActorCommandKeyData")
} as const
