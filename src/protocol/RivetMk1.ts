/**
 * Rivet's versions 1 to 3 ↔ the model, whole messages. What they say beside the tunnel is in `rivet/ControlMk1.ts`.
 *
 * Versions 1 and 2 carry the route inside a 16-byte id (`rivet/PackedId.ts`) and know no index upwards: the hub counts what arrives. What each
 * version cannot say is listed in `docs/protocol/rivet.md`. Next: `RivetMk2.ts`, versions 4 to 7.
 */
import type { ActorDownlink } from "../actor/ActorMessage.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
import type { Codec } from "./Bare.ts"
import * as Control from "./rivet/ControlMk1.ts"
import type { Actor, Down, RivetVersion, TunnelAck, TunnelDown, TunnelUp, Up } from "./rivet/Exchange.ts"
import { packMessageId, packRequestId, unpackIndex, unpackRoute } from "./rivet/PackedId.ts"
import { liftRequest, liftResponse, lowerRequest, lowerResponse, routeBytes, routeOf } from "./rivet/TunnelFrame.ts"
import * as V1 from "./rivet/V1.ts"
import * as V2 from "./rivet/V2.ts"
import * as V3 from "./rivet/V3.ts"

/** What identifies a tunnel message in versions 1 and 2. */
interface PackedIds {
  readonly requestId: Uint8Array
  readonly messageId: Uint8Array
}

const packedIds = (route: RouteKey, index: number | null): PackedIds => ({
  requestId: packRequestId(route),
  messageId: packMessageId(route, index ?? 0)
})

const ids = (route: RouteKey, index: number | null) => ({
  messageId: { ...routeBytes(route), messageIndex: index ?? 0 }
})

const tunnelUp = (
  route: RouteKey,
  index: number | null,
  frame: TunnelUp["frame"],
  acknowledgement: Uint8Array | null = null
): TunnelUp => ({ _tag: "TunnelUp", route, index, frame, acknowledgement })

const tunnelAck = (route: RouteKey, index: number | null, acknowledgement: Uint8Array | null = null): TunnelAck => ({
  _tag: "TunnelAck",
  route,
  index,
  acknowledgement
})

const tunnelDown = (
  route: RouteKey,
  index: number,
  { actorId, frame }: Pick<TunnelDown, "actorId" | "frame">
): TunnelDown => ({ _tag: "TunnelDown", route, index, actorId, frame })

/** Version 2 expects each of its tunnel messages back as an ack with the very ids it chose, read or not, admitted or not. */
const acknowledgement = ({ requestId, messageId }: PackedIds): Uint8Array =>
  V2.codecs.ToClient.encode({
    tag: "ToClientTunnelMessage",
    val: { requestId, messageId, messageKind: { tag: "TunnelAck", val: null }, gatewayReplyTo: null }
  })

const noHibernation = { canHibernate: false } as const

const liftUp1 = ({ requestId, messageKind: kind }: typeof V1.ToServerTunnelMessage.Type): Up => {
  const route = unpackRoute(requestId)
  switch (kind.tag) {
    case "TunnelAck":
      return tunnelAck(route, null)
    case "ToServerWebSocketOpen":
      return tunnelUp(route, null, liftResponse({ tag: kind.tag, val: noHibernation }))
    case "ToServerWebSocketClose":
      return tunnelUp(route, null, liftResponse({ tag: kind.tag, val: { ...kind.val, hibernate: false } }))
    case "ToServerResponseStart":
    case "ToServerResponseChunk":
    case "ToServerResponseAbort":
    case "ToServerWebSocketMessage":
      return tunnelUp(route, null, liftResponse(kind))
  }
  return absurd(kind)
}

const liftUp2 = (message: typeof V2.ToServerTunnelMessage.Type): Up => {
  const kind = message.messageKind
  const route = unpackRoute(message.requestId)
  const back = acknowledgement(message)
  switch (kind.tag) {
    case "TunnelAck":
      return tunnelAck(route, null, back)
    case "ToServerWebSocketOpen":
      return tunnelUp(route, null, liftResponse({ tag: kind.tag, val: { canHibernate: kind.val.canHibernate } }), back)
    case "ToServerWebSocketClose": {
      const { code, reason, retry: hibernate } = kind.val
      return tunnelUp(route, null, liftResponse({ tag: kind.tag, val: { code, reason, hibernate } }), back)
    }
    case "ToServerResponseStart":
    case "ToServerResponseChunk":
    case "ToServerResponseAbort":
    case "ToServerWebSocketMessage":
    case "ToServerWebSocketMessageAck":
      return tunnelUp(route, null, liftResponse(kind), back)
  }
  return absurd(kind)
}

const liftUp3 = ({ messageId, messageKind: kind }: typeof V3.ToServerTunnelMessage.Type): Up =>
  kind.tag === "DeprecatedTunnelAck"
    ? tunnelAck(routeOf(messageId), messageId.messageIndex)
    : tunnelUp(routeOf(messageId), messageId.messageIndex, liftResponse(kind))

type TunnelUpward = TunnelUp | TunnelAck
type TunnelDownward = TunnelDown | TunnelAck

const lowerUp1 = (up: TunnelUpward): V1.ToServer | null => {
  const kind = lowerUpKind1(up)
  const tag = "ToServerTunnelMessage"
  return kind === null ? null : { tag, val: { ...packedIds(up.route, up.index), messageKind: kind } }
}

const lowerUpKind1 = (up: TunnelUpward): typeof V1.ToServerTunnelMessageKind.Type | null => {
  if (up._tag === "TunnelAck") return { tag: "TunnelAck", val: null }
  const kind = lowerResponse(up.frame)
  if (kind === null) return null
  switch (kind.tag) {
    case "ToServerWebSocketOpen":
      return { tag: kind.tag, val: null }
    case "ToServerWebSocketClose":
      return { tag: kind.tag, val: { code: kind.val.code, reason: kind.val.reason } }
    // Version 1 has no hibernation, so nobody waits for this.
    case "ToServerWebSocketMessageAck":
      return null
    case "ToServerResponseStart":
    case "ToServerResponseChunk":
    case "ToServerResponseAbort":
    case "ToServerWebSocketMessage":
      return kind
  }
  return absurd(kind)
}

const lowerUp2 = (up: TunnelUpward): V2.ToServer | null => {
  const kind = lowerUpKind2(up)
  const tag = "ToServerTunnelMessage"
  return kind === null ? null : { tag, val: { ...packedIds(up.route, up.index), messageKind: kind } }
}

const lowerUpKind2 = (up: TunnelUpward): typeof V2.ToServerTunnelMessageKind.Type | null => {
  if (up._tag === "TunnelAck") return { tag: "TunnelAck", val: null }
  const kind = lowerResponse(up.frame)
  if (kind === null) return null
  switch (kind.tag) {
    case "ToServerWebSocketOpen":
      return { tag: kind.tag, val: { canHibernate: kind.val.canHibernate, lastMsgIndex: -1n } }
    case "ToServerWebSocketClose": {
      const { code, reason, hibernate: retry } = kind.val
      return { tag: kind.tag, val: { code, reason, retry } }
    }
    case "ToServerResponseStart":
    case "ToServerResponseChunk":
    case "ToServerResponseAbort":
    case "ToServerWebSocketMessage":
    case "ToServerWebSocketMessageAck":
      return kind
  }
  return absurd(kind)
}

const lowerUp3 = (up: TunnelUpward): V3.ToServer | null => {
  const kind = up._tag === "TunnelAck" ? deprecatedAck : lowerResponse(up.frame)
  const tag = "ToServerTunnelMessage"
  return kind === null ? null : { tag, val: { ...ids(up.route, up.index), messageKind: kind } }
}

const deprecatedAck = { tag: "DeprecatedTunnelAck", val: null } as const

const liftDown1 = ({ requestId, messageId, messageKind: kind }: typeof V1.ToClientTunnelMessage.Type): Down =>
  kind.tag === "TunnelAck"
    ? tunnelAck(unpackRoute(requestId), unpackIndex(messageId))
    : tunnelDown(unpackRoute(requestId), unpackIndex(messageId), liftRequest(kind))

const liftDown2 = ({ requestId, messageId, messageKind: kind }: typeof V2.ToClientTunnelMessage.Type): Down => {
  const route = unpackRoute(requestId)
  if (kind.tag === "TunnelAck") return tunnelAck(route, unpackIndex(messageId))
  if (kind.tag !== "ToClientWebSocketMessage") return tunnelDown(route, unpackIndex(messageId), liftRequest(kind))
  const { index, data, binary } = kind.val
  return tunnelDown(route, index, liftRequest({ tag: kind.tag, val: { data, binary } }))
}

const liftDown3 = ({ messageId, messageKind: kind }: typeof V3.ToClientTunnelMessage.Type): Down =>
  kind.tag === "DeprecatedTunnelAck"
    ? tunnelAck(routeOf(messageId), messageId.messageIndex)
    : tunnelDown(routeOf(messageId), messageId.messageIndex, liftRequest(kind))

const lowerDown1 = (down: TunnelDownward): V1.ToClient | null => {
  const kind = down._tag === "TunnelAck" ? plainAck : lowerRequest(down.frame, down.actorId)
  return kind === null
    ? null
    : {
        tag: "ToClientTunnelMessage",
        val: { ...packedIds(down.route, down.index), messageKind: kind, gatewayReplyTo: null }
      }
}

const plainAck = { tag: "TunnelAck", val: null } as const

const lowerDown2 = (down: TunnelDownward): V2.ToClient | null => {
  const kind = down._tag === "TunnelAck" ? plainAck : lowerRequest(down.frame, down.actorId)
  if (kind === null) return null
  const messageKind =
    kind.tag === "ToClientWebSocketMessage" ? { tag: kind.tag, val: { index: down.index ?? 0, ...kind.val } } : kind
  return {
    tag: "ToClientTunnelMessage",
    val: { ...packedIds(down.route, down.index), messageKind, gatewayReplyTo: null }
  }
}

const lowerDown3 = (down: TunnelDownward): V3.ToClient | null => {
  const kind = down._tag === "TunnelAck" ? deprecatedAck : lowerRequest(down.frame, down.actorId)
  return kind === null
    ? null
    : { tag: "ToClientTunnelMessage", val: { ...ids(down.route, down.index), messageKind: kind } }
}

const actor = <Message>(message: Message): Actor<Message> => ({ _tag: "Actor", message })

const encoded = <Message>(codec: Codec<Message>, message: Message | null): Uint8Array | null =>
  message === null ? null : codec.encode(message)

/** Version 1. */
export const v1: RivetVersion = {
  version: 1,
  mark: 1,
  decodeUp: (bytes) => {
    const message = V1.codecs.ToServer.decode(bytes)
    if (message.tag === "ToServerTunnelMessage") return liftUp1(message.val)
    return actor(Control.liftControlUp(message))
  },
  encodeUp: (up) =>
    encoded(V1.codecs.ToServer, up._tag === "Actor" ? Control.lowerControlUp(up.message) : lowerUp1(up)),
  decodeDown: (bytes) => {
    const message = V1.codecs.ToClient.decode(bytes)
    if (message.tag === "ToClientTunnelMessage") return liftDown1(message.val)
    if (message.tag === "ToClientCommands") return actor(liftEarlierCommands(message.val))
    return actor(Control.liftControlDown(message))
  },
  encodeDown: (down) =>
    encoded(V1.codecs.ToClient, down._tag === "Actor" ? lowerEarlier(down.message) : lowerDown1(down))
}

/** Version 2. */
export const v2: RivetVersion = {
  version: 2,
  mark: 1,
  decodeUp: (bytes) => {
    const message = V2.codecs.ToServer.decode(bytes)
    if (message.tag === "ToServerTunnelMessage") return liftUp2(message.val)
    return actor(Control.liftControlUp(message))
  },
  encodeUp: (up) =>
    encoded(V2.codecs.ToServer, up._tag === "Actor" ? Control.lowerControlUp(up.message) : lowerUp2(up)),
  decodeDown: (bytes) => {
    const message = V2.codecs.ToClient.decode(bytes)
    if (message.tag === "ToClientTunnelMessage") return liftDown2(message.val)
    if (message.tag === "ToClientCommands") return actor(liftEarlierCommands(message.val))
    return actor(Control.liftControlDown(message))
  },
  encodeDown: (down) =>
    encoded(V2.codecs.ToClient, down._tag === "Actor" ? lowerEarlier(down.message) : lowerDown2(down))
}

/** Version 3. */
export const v3: RivetVersion = {
  version: 3,
  mark: 1,
  decodeUp: (bytes) => {
    const message = V3.codecs.ToServer.decode(bytes)
    if (message.tag === "ToServerTunnelMessage") return liftUp3(message.val)
    return actor(Control.liftControlUp(message))
  },
  encodeUp: (up) =>
    encoded(V3.codecs.ToServer, up._tag === "Actor" ? Control.lowerControlUp(up.message) : lowerUp3(up)),
  decodeDown: (bytes) => {
    const message = V3.codecs.ToClient.decode(bytes)
    if (message.tag === "ToClientTunnelMessage") return liftDown3(message.val)
    if (message.tag === "ToClientCommands")
      return actor({ _tag: "Commands", commands: message.val.map(Control.liftCommand) })
    return actor(Control.liftControlDown(message))
  },
  encodeDown: (down) => encoded(V3.codecs.ToClient, down._tag === "Actor" ? lowerLater(down.message) : lowerDown3(down))
}

const liftEarlierCommands = (commands: typeof V1.ToClientCommands.Type): ActorDownlink => ({
  _tag: "Commands",
  commands: commands.map((command) => Control.liftCommand(Control.widened(command)))
})

const lowerEarlier = (message: ActorDownlink) =>
  message._tag === "Commands"
    ? ({
        tag: "ToClientCommands",
        val: message.commands.map((command) => Control.narrowed(Control.lowerCommand(command)))
      } as const)
    : Control.lowerControlDown(message)

const lowerLater = (message: ActorDownlink) =>
  message._tag === "Commands"
    ? ({ tag: "ToClientCommands", val: message.commands.map(Control.lowerCommand) } as const)
    : Control.lowerControlDown(message)
