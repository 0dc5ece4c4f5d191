/**
 * What a Rivet connection carries once its version is forgotten: frames of the model with their route, actor messages, and the tunnel's own ack.
 * `RivetMk1.ts` and `RivetMk2.ts` turn messages of each version into this and back; a hub's dialect knows nothing else of Rivet.
 *
 * Conversion is pure and total. It takes whole WebSocket messages: fragments are the dialect's to join, and the types here insist on it.
 */
import type { ActorDownlink, ActorUplink } from "../../actor/ActorMessage.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import type { RequestFrame, ResponseFrame } from "../../tunnel/Frame.ts"

/** A union whose WebSocket messages are whole. */
type Whole<Frame extends { readonly _tag: string }> =
  | Exclude<Frame, { readonly _tag: "WebSocketMessage" }>
  | (Extract<Frame, { readonly _tag: "WebSocketMessage" }> & { readonly finish: true })

/** A frame down that Rivet's runners can be told, or that is dropped for them knowingly. */
export type WholeRequestFrame = Whole<RequestFrame>
/** The same upwards. */
export type WholeResponseFrame = Whole<ResponseFrame>

/**
 * A frame from a runner. `index` is null where the version has none, and the hub counts. `acknowledgement`, in version 2, is the message to send
 * back before anything else is done, whatever becomes of the frame.
 */
export interface TunnelUp {
  readonly _tag: "TunnelUp"
  readonly route: RouteKey
  readonly index: number | null
  readonly frame: WholeResponseFrame
  readonly acknowledgement: Uint8Array | null
}

/** A frame to a runner. `actorId` is who is meant; only frames that open a stream say it on the wire. */
export interface TunnelDown {
  readonly _tag: "TunnelDown"
  readonly route: RouteKey
  readonly index: number
  readonly actorId: string
  readonly frame: WholeRequestFrame
}

/** The tunnel's own ack of versions 1 to 3, either way. No route is looked up for it and nothing comes of it. */
export interface TunnelAck {
  readonly _tag: "TunnelAck"
  readonly route: RouteKey
  readonly index: number | null
  readonly acknowledgement: Uint8Array | null
}

/** An actor message, in either direction. */
export interface Actor<Message> {
  readonly _tag: "Actor"
  readonly message: Message
}

/** Runner to hub. */
export type Up = TunnelUp | TunnelAck | Actor<ActorUplink>
/** Hub to runner. */
export type Down = TunnelDown | TunnelAck | Actor<ActorDownlink>

/**
 * One version, both ways. Decoding throws `BareError`, and so does encoding a value out of its range. `null` means that this version has no
 * words for it, and that silence is right: credit, informational responses, pings in the direction that does not ping.
 */
export interface RivetVersion {
  readonly version: number
  /** 1: commands and events are numbered for the whole runner, and the runner pings. 2: for each actor, and the hub pings. */
  readonly mark: 1 | 2
  readonly decodeUp: (bytes: Uint8Array) => Up
  readonly encodeDown: (down: Down) => Uint8Array | null
  /** For tests and for a runner that speaks Rivet. */
  readonly encodeUp: (up: Up) => Uint8Array | null
  /** For tests and for a runner that speaks Rivet. */
  readonly decodeDown: (bytes: Uint8Array) => Down
}
