/**
 * What versions 1 to 3 say beside the tunnel ↔ actor messages: introduction, commands, events, acks, the store. They number commands and events
 * for the whole runner, and the runner pings. `RivetMk1.ts` puts this together with the tunnel.
 */
import type { ActorDownlink, ActorUplink, Command, NumberedCommand } from "../../actor/ActorMessage.ts"
import { absurd } from "../../tunnel/Frame.ts"
import * as ActorForm from "./ActorForm.ts"
import type * as V1 from "./V1.ts"
import type * as V3 from "./V3.ts"

/** What all three versions say upwards beside the tunnel. */
export type ControlUp = Exclude<V1.ToServer, { readonly tag: "ToServerTunnelMessage" }>
/** What all three versions say downwards beside the tunnel and the commands, which version 3 widens. */
export type ControlDown = Exclude<V1.ToClient, { readonly tag: "ToClientTunnelMessage" | "ToClientCommands" }>

/** What a runner says, as an actor message. */
export const liftControlUp = (message: ControlUp): ActorUplink => {
  switch (message.tag) {
    case "ToServerInit": {
      const { name, version, totalSlots, lastCommandIdx, prepopulateActorNames, metadata } = message.val
      return {
        _tag: "Introduction",
        name,
        version,
        totalSlots,
        lastCommandIndex: lastCommandIdx,
        actorNames: prepopulateActorNames,
        metadata
      }
    }
    case "ToServerEvents":
      return {
        _tag: "Events",
        events: message.val.map(({ index, inner }) => ({
          checkpoint: { actorId: inner.val.actorId, generation: inner.val.generation, index },
          event: ActorForm.liftEvent(inner)
        }))
      }
    case "ToServerAckCommands":
      return { _tag: "CommandsDoneUpTo", index: message.val.lastCommandIdx }
    case "ToServerStopping":
      return { _tag: "Stopping" }
    case "ToServerPing":
      return { _tag: "RunnerPing", atMs: message.val.ts }
    case "ToServerKvRequest": {
      const { actorId, requestId, data } = message.val
      return { _tag: "KvAsked", actorId, requestId, request: ActorForm.liftKvRequest(data) }
    }
  }
  return absurd(message)
}

/** The same the other way; null where these versions have no words. */
export const lowerControlUp = (message: ActorUplink): ControlUp | null => {
  switch (message._tag) {
    case "Introduction": {
      const { name, version, totalSlots, lastCommandIndex, actorNames, metadata } = message
      return {
        tag: "ToServerInit",
        val: {
          name,
          version,
          totalSlots,
          lastCommandIdx: lastCommandIndex,
          prepopulateActorNames: actorNames,
          metadata
        }
      }
    }
    case "Events":
      return {
        tag: "ToServerEvents",
        val: message.events.map((numbered) => ({
          index: numbered.checkpoint.index,
          inner: ActorForm.lowerOwnedEvent(numbered)
        }))
      }
    case "CommandsDone": {
      const index = highest(message.upTo)
      return index === null ? null : { tag: "ToServerAckCommands", val: { lastCommandIdx: index } }
    }
    case "CommandsDoneUpTo":
      return { tag: "ToServerAckCommands", val: { lastCommandIdx: message.index } }
    case "KvAsked": {
      const { actorId, requestId } = message
      const data = ActorForm.lowerEarlierKvRequest(message.request)
      return data === null ? null : { tag: "ToServerKvRequest", val: { actorId, requestId, data } }
    }
    case "Stopping":
      return { tag: "ToServerStopping", val: null }
    case "RunnerPing":
      return { tag: "ToServerPing", val: { ts: message.atMs } }
    // The server of these versions does not ping, so there is nothing to answer.
    case "Pong":
      return null
  }
  return absurd(message)
}

/** With one order for the whole runner, the highest of several checkpoints covers them all. */
const highest = (checkpoints: ReadonlyArray<{ readonly index: bigint }>): bigint | null =>
  checkpoints.reduce<bigint | null>((most, { index }) => (most === null || index > most ? index : most), null)

/** What a runner is told, as an actor message. */
export const liftControlDown = (message: ControlDown): ActorDownlink => {
  switch (message.tag) {
    case "ToClientInit": {
      const { runnerId, lastEventIdx: lastEventIndex, metadata } = message.val
      return {
        _tag: "Welcome",
        runnerId,
        lastEventIndex,
        runnerLostMs: metadata.runnerLostThreshold,
        actorStopMs: 0n,
        serverlessDrainMs: null
      }
    }
    case "ToClientClose":
      return { _tag: "Close" }
    case "ToClientAckEvents":
      return { _tag: "EventsSeenUpTo", index: message.val.lastEventIdx }
    case "ToClientKvResponse": {
      const { requestId, data } = message.val
      return { _tag: "KvAnswered", requestId, response: ActorForm.liftKvResponse(renamed(data)) }
    }
  }
  return absurd(message)
}

type LaterResponse = Parameters<typeof ActorForm.liftKvResponse>[0]
type EarlierResponse = typeof V1.KvResponseData.Type

/** The same answer in version 4's words: `createTs` was renamed to what it always meant. */
const renamed = (response: EarlierResponse): LaterResponse => {
  switch (response.tag) {
    case "KvGetResponse":
    case "KvListResponse": {
      const { keys, values, metadata } = response.val
      return {
        tag: response.tag,
        val: { keys, values, metadata: metadata.map(({ version, createTs }) => ({ version, updateTs: createTs })) }
      }
    }
    case "KvErrorResponse":
    case "KvPutResponse":
    case "KvDeleteResponse":
    case "KvDropResponse":
      return response
  }
  return absurd(response)
}

const unrenamed = (response: LaterResponse): EarlierResponse => {
  switch (response.tag) {
    case "KvGetResponse":
    case "KvListResponse": {
      const { keys, values, metadata } = response.val
      return {
        tag: response.tag,
        val: { keys, values, metadata: metadata.map(({ version, updateTs }) => ({ version, createTs: updateTs })) }
      }
    }
    case "KvErrorResponse":
    case "KvPutResponse":
    case "KvDeleteResponse":
    case "KvDropResponse":
      return response
  }
  return absurd(response)
}

/** The same the other way; null where these versions have no words. */
export const lowerControlDown = (
  message: Exclude<ActorDownlink, { readonly _tag: "Commands" }>
): ControlDown | null => {
  switch (message._tag) {
    case "Welcome": {
      const { runnerId, lastEventIndex: lastEventIdx, runnerLostMs } = message
      return {
        tag: "ToClientInit",
        val: { runnerId, lastEventIdx, metadata: { runnerLostThreshold: runnerLostMs } }
      }
    }
    case "EventsSeen": {
      const index = highest(message.upTo)
      return index === null ? null : { tag: "ToClientAckEvents", val: { lastEventIdx: index } }
    }
    case "EventsSeenUpTo":
      return { tag: "ToClientAckEvents", val: { lastEventIdx: message.index } }
    case "KvAnswered":
      return {
        tag: "ToClientKvResponse",
        val: { requestId: message.requestId, data: unrenamed(ActorForm.lowerKvResponse(message.response)) }
      }
    case "Close":
      return { tag: "ToClientClose", val: null }
    // These versions answer no ping; the runner pings by itself.
    case "Ping":
      return null
  }
  return absurd(message)
}

type LaterCommand = typeof V3.CommandWrapper.Type

/** Version 3's commands; those of versions 1 and 2 lack the waiting WebSockets, which nobody has there. */
export const liftCommand = ({ index, inner }: LaterCommand): NumberedCommand => {
  const { actorId, generation } = inner.val
  return { checkpoint: { actorId, generation, index }, command: liftOrder(inner) }
}

const liftOrder = (inner: LaterCommand["inner"]): Command => {
  switch (inner.tag) {
    case "CommandStartActor":
      return {
        _tag: "StartActor",
        config: ActorForm.liftConfig(inner.val.config),
        hibernating: ActorForm.liftHibernating(inner.val.hibernatingRequests)
      }
    case "CommandStopActor":
      return { _tag: "StopActor" }
  }
  return absurd(inner)
}

/** A command in version 3's words. */
export const lowerCommand = ({ checkpoint, command }: NumberedCommand): LaterCommand => {
  const { actorId, generation, index } = checkpoint
  switch (command._tag) {
    case "StartActor": {
      const config = ActorForm.lowerConfig(command.config)
      const hibernatingRequests = ActorForm.lowerHibernating(command.hibernating)
      return {
        index,
        inner: { tag: "CommandStartActor", val: { actorId, generation, config, hibernatingRequests } }
      }
    }
    case "StopActor":
      return { index, inner: { tag: "CommandStopActor", val: { actorId, generation } } }
  }
  return absurd(command)
}

type EarlierCommand = typeof V1.CommandWrapper.Type

/** A command of versions 1 and 2 in version 3's words. */
export const widened = ({ index, inner }: EarlierCommand): LaterCommand => ({
  index,
  inner: inner.tag === "CommandStopActor" ? inner : { tag: inner.tag, val: { ...inner.val, hibernatingRequests: [] } }
})

/** A command of version 3 in the words of versions 1 and 2, which cannot say who waits. */
export const narrowed = ({ index, inner }: LaterCommand): EarlierCommand => {
  if (inner.tag === "CommandStopActor") return { index, inner }
  const { actorId, generation, config } = inner.val
  return { index, inner: { tag: inner.tag, val: { actorId, generation, config } } }
}
