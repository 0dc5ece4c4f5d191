/**
 * Rivet's versions 4 to 7 ↔ the model, whole messages. Each actor numbers its own commands and events, the server pings, and a message's id says
 * its route and index. Tunnel messages are the same bytes in all four; versions 5 to 7 differ in one struct each.
 *
 * What each version cannot say is listed in `docs/protocol/rivet.md`. Before: `RivetMk1.ts`, versions 1 to 3.
 */
import type { ActorDownlink, ActorUplink, Checkpoint, NumberedCommand, NumberedEvent } from "../actor/ActorMessage.ts"
import { absurd } from "../tunnel/Frame.ts"
import type { Codec } from "./Bare.ts"
import * as ActorForm from "./rivet/ActorForm.ts"
import type { Actor, Down, RivetVersion, TunnelDown, TunnelUp, Up } from "./rivet/Exchange.ts"
import { liftRequest, liftResponse, lowerRequest, lowerResponse, routeBytes, routeOf } from "./rivet/TunnelFrame.ts"
import * as V4 from "./rivet/V4.ts"
import * as V5 from "./rivet/V5.ts"
import * as V6 from "./rivet/V6.ts"
import * as V7 from "./rivet/V7.ts"

const actor = <Message>(message: Message): Actor<Message> => ({ _tag: "Actor", message })

const encoded = <Message>(codec: Codec<Message>, message: Message | null): Uint8Array | null =>
  message === null ? null : codec.encode(message)

const liftTunnelUp = ({ messageId, messageKind }: typeof V4.ToServerTunnelMessage.Type): TunnelUp => ({
  _tag: "TunnelUp",
  route: routeOf(messageId),
  index: messageId.messageIndex,
  frame: liftResponse(messageKind),
  acknowledgement: null
})

const liftTunnelDown = ({ messageId, messageKind }: typeof V4.ToClientTunnelMessage.Type): TunnelDown => ({
  _tag: "TunnelDown",
  route: routeOf(messageId),
  index: messageId.messageIndex,
  ...liftRequest(messageKind)
})

// The tunnel's own ack ended with version 3.
const lowerTunnelUp = (up: Exclude<Up, Actor<ActorUplink>>) => {
  const messageKind = up._tag === "TunnelAck" ? null : lowerResponse(up.frame)
  const messageId = { ...routeBytes(up.route), messageIndex: up.index ?? 0 }
  return messageKind === null ? null : ({ tag: "ToServerTunnelMessage", val: { messageId, messageKind } } as const)
}

const lowerTunnelDown = (down: Exclude<Down, Actor<ActorDownlink>>) => {
  const messageKind = down._tag === "TunnelAck" ? null : lowerRequest(down.frame, down.actorId)
  const messageId = { ...routeBytes(down.route), messageIndex: down.index ?? 0 }
  return messageKind === null ? null : ({ tag: "ToClientTunnelMessage", val: { messageId, messageKind } } as const)
}

/** What all four versions say upwards alike. Events and acks differ in where the generation is said. */
type CommonUp = Exclude<V7.ToServer, { readonly tag: "ToServerEvents" | "ToServerAckCommands" }>

const liftUp = (message: CommonUp): Up => {
  switch (message.tag) {
    case "ToServerInit": {
      const { name, version, totalSlots, prepopulateActorNames: actorNames, metadata } = message.val
      return actor({ _tag: "Introduction", name, version, totalSlots, lastCommandIndex: null, actorNames, metadata })
    }
    case "ToServerStopping":
      return actor({ _tag: "Stopping" })
    case "ToServerPong":
      return actor({ _tag: "Pong", atMs: message.val.ts })
    case "ToServerKvRequest": {
      const { actorId, requestId, data } = message.val
      return actor({ _tag: "KvAsked", actorId, requestId, request: ActorForm.liftKvRequest(data) })
    }
    case "ToServerTunnelMessage":
      return liftTunnelUp(message.val)
  }
  return absurd(message)
}

/** Version 4's event says the generation itself. It names its actor too; the checkpoint's word counts. */
const liftEvents4 = (events: typeof V4.ToServerEvents.Type): ActorUplink => ({
  _tag: "Events",
  events: events.map(({ checkpoint: { actorId, index }, inner }) => ({
    checkpoint: { actorId, generation: inner.val.generation, index },
    event: ActorForm.liftEvent(inner)
  }))
})

const liftEvents5 = (events: typeof V5.ToServerEvents.Type): ActorUplink => ({
  _tag: "Events",
  events: events.map(({ checkpoint, inner }) => ({ checkpoint, event: ActorForm.liftEvent(inner) }))
})

const lowerEvent4 = (numbered: NumberedEvent) => ({
  checkpoint: withoutGeneration(numbered.checkpoint),
  inner: ActorForm.lowerOwnedEvent(numbered)
})

const lowerEvent5 = ({ checkpoint, event }: NumberedEvent) => ({ checkpoint, inner: ActorForm.lowerEvent(event) })

const withoutGeneration = ({ actorId, index }: Checkpoint): typeof V4.ActorCheckpoint.Type => ({ actorId, index })
/** Nobody said it: 0, as upstream has it. An ack of a later generation is then without effect. */
const withGeneration = ({ actorId, index }: typeof V4.ActorCheckpoint.Type): Checkpoint => ({
  actorId,
  generation: 0,
  index
})

type ControlUp = Exclude<ActorUplink, { readonly _tag: "Events" | "CommandsDone" }>

/** Null where none of the four versions has words. `KvAsked` is in version 7's. */
const lowerUp = (message: ControlUp): Exclude<CommonUp, { readonly tag: "ToServerTunnelMessage" }> | null => {
  switch (message._tag) {
    case "Introduction": {
      const { name, version, totalSlots, actorNames: prepopulateActorNames, metadata } = message
      return { tag: "ToServerInit", val: { name, version, totalSlots, prepopulateActorNames, metadata } }
    }
    case "KvAsked": {
      const { actorId, requestId } = message
      return {
        tag: "ToServerKvRequest",
        val: { actorId, requestId, data: ActorForm.lowerKvRequest(message.request) }
      }
    }
    case "Stopping":
      return { tag: "ToServerStopping", val: null }
    case "Pong":
      return { tag: "ToServerPong", val: { ts: message.atMs } }
    // One number for the whole runner says nothing about any actor, and in these versions the runner does not ping.
    case "CommandsDoneUpTo":
    case "RunnerPing":
      return null
  }
  return absurd(message)
}

/** The same without the one KV request that versions 4 to 6 lack. */
const lowerEarlierUp = (message: ControlUp) => {
  const lowered = lowerUp(message)
  if (lowered?.tag !== "ToServerKvRequest") return lowered
  const { actorId, requestId, data } = lowered.val
  return data.tag === "KvDeleteRangeRequest" ? null : { tag: lowered.tag, val: { actorId, requestId, data } }
}

const lowerUp4 = (up: Up): V4.ToServer | null => {
  if (up._tag !== "Actor") return lowerTunnelUp(up)
  const { message } = up
  if (message._tag === "Events") return { tag: "ToServerEvents", val: message.events.map(lowerEvent4) }
  if (message._tag === "CommandsDone")
    return { tag: "ToServerAckCommands", val: { lastCommandCheckpoints: message.upTo.map(withoutGeneration) } }
  return lowerEarlierUp(message)
}

const lowerUp5 = (up: Up): V5.ToServer | null => {
  if (up._tag !== "Actor") return lowerTunnelUp(up)
  const { message } = up
  if (message._tag === "Events") return { tag: "ToServerEvents", val: message.events.map(lowerEvent5) }
  if (message._tag === "CommandsDone")
    return { tag: "ToServerAckCommands", val: { lastCommandCheckpoints: message.upTo } }
  return lowerEarlierUp(message)
}

const lowerUp7 = (up: Up): V7.ToServer | null => {
  if (up._tag !== "Actor") return lowerTunnelUp(up)
  const { message } = up
  return message._tag === "Events" || message._tag === "CommandsDone" ? lowerUp5(up) : lowerUp(message)
}

const liftUp4 = (message: V4.ToServer): Up => {
  if (message.tag === "ToServerEvents") return actor(liftEvents4(message.val))
  if (message.tag === "ToServerAckCommands")
    return actor({ _tag: "CommandsDone", upTo: message.val.lastCommandCheckpoints.map(withGeneration) })
  return liftUp(message)
}

/** Version 7's words include those of 5 and 6. */
const liftUp7 = (message: V7.ToServer): Up => {
  if (message.tag === "ToServerEvents") return actor(liftEvents5(message.val))
  if (message.tag === "ToServerAckCommands")
    return actor({ _tag: "CommandsDone", upTo: message.val.lastCommandCheckpoints })
  return liftUp(message)
}

type CommonDown = Exclude<V6.ToClient, { readonly tag: "ToClientInit" | "ToClientCommands" | "ToClientAckEvents" }>

const liftDown = (message: CommonDown): Down => {
  switch (message.tag) {
    case "ToClientKvResponse": {
      const { requestId, data } = message.val
      return actor({ _tag: "KvAnswered", requestId, response: ActorForm.liftKvResponse(data) })
    }
    case "ToClientTunnelMessage":
      return liftTunnelDown(message.val)
    case "ToClientPing":
      return actor({ _tag: "Ping", atMs: message.val.ts })
  }
  return absurd(message)
}

const lowerDown = (
  message: Exclude<ActorDownlink, { readonly _tag: "Welcome" | "Commands" | "EventsSeen" }>
): Exclude<CommonDown, { readonly tag: "ToClientTunnelMessage" }> | null => {
  switch (message._tag) {
    case "KvAnswered":
      return {
        tag: "ToClientKvResponse",
        val: { requestId: message.requestId, data: ActorForm.lowerKvResponse(message.response) }
      }
    case "Ping":
      return { tag: "ToClientPing", val: { ts: message.atMs } }
    // One number for the whole runner says nothing about any actor. Leave is taken by closing the socket.
    case "EventsSeenUpTo":
    case "Close":
      return null
  }
  return absurd(message)
}

const welcome = (
  runnerId: string,
  metadata: Partial<typeof V6.ProtocolMetadata.Type> & typeof V5.ProtocolMetadata.Type
): Actor<ActorDownlink> =>
  actor({
    _tag: "Welcome",
    runnerId,
    lastEventIndex: -1n,
    runnerLostMs: metadata.runnerLostThreshold,
    actorStopMs: metadata.actorStopThreshold ?? 0n,
    serverlessDrainMs: metadata.serverlessDrainGracePeriod ?? null
  })

const liftCommand4 = ({ checkpoint, inner }: typeof V4.CommandWrapper.Type): NumberedCommand => {
  const { actorId, index } = checkpoint
  const { generation } = inner.val
  return liftCommand5({
    checkpoint: { actorId, generation, index },
    inner: inner.tag === "CommandStopActor" ? { tag: inner.tag, val: null } : inner
  })
}

const liftCommand5 = ({ checkpoint, inner }: typeof V5.CommandWrapper.Type): NumberedCommand => {
  switch (inner.tag) {
    case "CommandStartActor": {
      const config = ActorForm.liftConfig(inner.val.config)
      const hibernating = ActorForm.liftHibernating(inner.val.hibernatingRequests)
      return { checkpoint, command: { _tag: "StartActor", config, hibernating } }
    }
    case "CommandStopActor":
      return { checkpoint, command: { _tag: "StopActor" } }
  }
  return absurd(inner)
}

const lowerCommand4 = (numbered: NumberedCommand): typeof V4.CommandWrapper.Type => {
  const { generation } = numbered.checkpoint
  const { inner } = lowerCommand5(numbered)
  return {
    checkpoint: withoutGeneration(numbered.checkpoint),
    inner:
      inner.tag === "CommandStopActor"
        ? { tag: inner.tag, val: { generation } }
        : { tag: inner.tag, val: { generation, ...inner.val } }
  }
}

const lowerCommand5 = ({ checkpoint, command }: NumberedCommand): typeof V5.CommandWrapper.Type => {
  switch (command._tag) {
    case "StartActor": {
      const config = ActorForm.lowerConfig(command.config)
      const hibernatingRequests = ActorForm.lowerHibernating(command.hibernating)
      return { checkpoint, inner: { tag: "CommandStartActor", val: { config, hibernatingRequests } } }
    }
    case "StopActor":
      return { checkpoint, inner: { tag: "CommandStopActor", val: null } }
  }
  return absurd(command)
}

const lowerDown4 = (down: Down): V4.ToClient | null => {
  if (down._tag !== "Actor") return lowerTunnelDown(down)
  const { message } = down
  if (message._tag === "Welcome") return shortWelcome(message)
  if (message._tag === "Commands") return { tag: "ToClientCommands", val: message.commands.map(lowerCommand4) }
  if (message._tag === "EventsSeen")
    return { tag: "ToClientAckEvents", val: { lastEventCheckpoints: message.upTo.map(withoutGeneration) } }
  return lowerDown(message)
}

const shortWelcome = ({ runnerId, runnerLostMs }: Extract<ActorDownlink, { readonly _tag: "Welcome" }>) =>
  ({ tag: "ToClientInit", val: { runnerId, metadata: { runnerLostThreshold: runnerLostMs } } }) as const

const lowerDown6 = (down: Down): V6.ToClient | null => {
  if (down._tag !== "Actor") return lowerTunnelDown(down)
  const { message } = down
  if (message._tag === "Welcome") {
    const { runnerId, runnerLostMs, actorStopMs, serverlessDrainMs } = message
    const metadata = {
      runnerLostThreshold: runnerLostMs,
      actorStopThreshold: actorStopMs,
      serverlessDrainGracePeriod: serverlessDrainMs
    }
    return { tag: "ToClientInit", val: { runnerId, metadata } }
  }
  return lowerNumbered(message)
}

/** What versions 5 to 7 say alike. */
const lowerNumbered = (message: Exclude<ActorDownlink, { readonly _tag: "Welcome" }>) => {
  if (message._tag === "Commands") return { tag: "ToClientCommands", val: message.commands.map(lowerCommand5) } as const
  if (message._tag === "EventsSeen")
    return { tag: "ToClientAckEvents", val: { lastEventCheckpoints: message.upTo } } as const
  return lowerDown(message)
}

const lowerDown5 = (down: Down): V5.ToClient | null => {
  if (down._tag !== "Actor") return lowerTunnelDown(down)
  return down.message._tag === "Welcome" ? shortWelcome(down.message) : lowerNumbered(down.message)
}

const liftDown4 = (message: V4.ToClient): Down => {
  if (message.tag === "ToClientInit") return welcome(message.val.runnerId, message.val.metadata)
  if (message.tag === "ToClientCommands") return actor({ _tag: "Commands", commands: message.val.map(liftCommand4) })
  if (message.tag === "ToClientAckEvents")
    return actor({ _tag: "EventsSeen", upTo: message.val.lastEventCheckpoints.map(withGeneration) })
  return liftDown(message)
}

/** Versions 5 to 7: the welcome of 5 lacks two fields, which are then undefined. */
const liftDown5 = (message: V5.ToClient | V6.ToClient): Down => {
  if (message.tag === "ToClientInit") return welcome(message.val.runnerId, message.val.metadata)
  if (message.tag === "ToClientCommands") return actor({ _tag: "Commands", commands: message.val.map(liftCommand5) })
  if (message.tag === "ToClientAckEvents") return actor({ _tag: "EventsSeen", upTo: message.val.lastEventCheckpoints })
  return liftDown(message)
}

/** Version 4. */
export const v4: RivetVersion = {
  version: 4,
  mark: 2,
  decodeUp: (bytes) => liftUp4(V4.codecs.ToServer.decode(bytes)),
  encodeUp: (up) => encoded(V4.codecs.ToServer, lowerUp4(up)),
  decodeDown: (bytes) => liftDown4(V4.codecs.ToClient.decode(bytes)),
  encodeDown: (down) => encoded(V4.codecs.ToClient, lowerDown4(down))
}

/** Version 5. */
export const v5: RivetVersion = {
  version: 5,
  mark: 2,
  decodeUp: (bytes) => liftUp7(V5.codecs.ToServer.decode(bytes)),
  encodeUp: (up) => encoded(V5.codecs.ToServer, lowerUp5(up)),
  decodeDown: (bytes) => liftDown5(V5.codecs.ToClient.decode(bytes)),
  encodeDown: (down) => encoded(V5.codecs.ToClient, lowerDown5(down))
}

/** Version 6. */
export const v6: RivetVersion = {
  version: 6,
  mark: 2,
  decodeUp: (bytes) => liftUp7(V6.codecs.ToServer.decode(bytes)),
  encodeUp: (up) => encoded(V6.codecs.ToServer, lowerUp5(up)),
  decodeDown: (bytes) => liftDown5(V6.codecs.ToClient.decode(bytes)),
  encodeDown: (down) => encoded(V6.codecs.ToClient, lowerDown6(down))
}

/** Version 7. */
export const v7: RivetVersion = {
  version: 7,
  mark: 2,
  decodeUp: (bytes) => liftUp7(V7.codecs.ToServer.decode(bytes)),
  encodeUp: (up) => encoded(V7.codecs.ToServer, lowerUp7(up)),
  decodeDown: (bytes) => liftDown5(V7.codecs.ToClient.decode(bytes)),
  encodeDown: (down) => encoded(V7.codecs.ToClient, lowerDown6(down))
}
