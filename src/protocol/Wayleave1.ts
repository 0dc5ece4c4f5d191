/**
 * `wayleave.1`: what runner and hub say to each other, one BARE value per binary WebSocket message. `docs/protocol/wayleave-1.md` describes
 * it for whoever writes a runner in another language; the schemas here are its only definition in code.
 *
 * `Frames` messages are numbered by counting them, in each direction, from the start of the session; everything else is not. Each side says
 * how many it has received, so after a reconnect the other repeats exactly what was lost. Next: `Link.ts`, which does the counting.
 */
import { Schema } from "effect"
import { MovedStream, RouteKey } from "../tunnel/Envelope.ts"
import { AbortCode, RequestFrame, ResponseFrame } from "../tunnel/Frame.ts"
import * as Wire from "../tunnel/Wire.ts"
import * as Bare from "./Bare.ts"

/** The WebSocket subprotocol (RFC 6455, 1.9) that both sides must agree on. */
export const subprotocol = "wayleave.1"

/** What may be said beyond the bare minimum; unknown ones are ignored, so both sides may grow. */
export const capabilities = ["resume", "trailers", "informational", "websocket"] as const

/** How many numbered messages the sender of this has received in the session so far. */
const received = Wire.uint

/**
 * Opens the conversation. `session` is chosen by the runner, 16 random bytes, and is the only key to resuming: keep it secret. `connection` counts
 * the session's dials, so that of two hubs the one with the newer connection is known. `hub` is the one whose numbering `received` speaks of, empty
 * before the first Welcome. `streams` are those that are to go on should this hub not know the session.
 */
export const Hello = Wire.tagged(0, "Hello", {
  versions: Wire.list(Wire.u16),
  session: Wire.fixed(16),
  connection: Wire.u32,
  name: Wire.str,
  hub: Wire.str,
  received,
  streams: Wire.list(MovedStream),
  capabilities: Wire.list(Wire.str),
  agent: Wire.str
})
export type Hello = typeof Hello.Type

/** What becomes of a session, and of the streams that were open on it. */
export const Outcome = Wire.enumeration({
  /** The hub knows nothing of the session: numbering begins, and every stream that was open is gone. */
  begun: 0,
  /** The hub knows the session: both sides repeat what the other lacks. */
  resumed: 1,
  /** The hub did not know the session, and the gateways do: numbering begins, and the streams in Hello go on, but for those that get a Reset. */
  adopted: 2
})
export type Outcome = typeof Outcome.Type

/** Accepts the runner. */
export const Welcome = Wire.tagged(0, "Welcome", {
  version: Wire.u16,
  outcome: Outcome,
  received,
  heartbeatMs: Wire.u32,
  heartbeatDeadlineMs: Wire.u32,
  graceMs: Wire.u32,
  windowBytes: Wire.u32,
  domain: Wire.str,
  hub: Wire.str,
  capabilities: Wire.list(Wire.str)
})
export type Welcome = typeof Welcome.Type

const upFrame = Schema.Struct({ route: RouteKey, index: Wire.u16, frame: ResponseFrame })
const downFrame = Schema.Struct({ route: RouteKey, index: Wire.u16, frame: RequestFrame })

/** A frame with its route and its place in the stream's order, as it stands in a `Frames` message. */
export interface LinkFrame<F> {
  readonly route: RouteKey
  readonly index: number
  readonly frame: F
}
/** From runner to hub. */
export type UpFrame = LinkFrame<ResponseFrame>
/** From hub to runner. */
export type DownFrame = LinkFrame<RequestFrame>

/** Proof of life, answered by a `Pong` with the same nonce. */
const heartbeat = { nonce: Wire.u32, received } as const
/** Asks for a sign of life. */
export const Ping = Wire.tagged(2, "Ping", heartbeat)
/** Gives it, with the nonce of the Ping. */
export const Pong = Wire.tagged(3, "Pong", heartbeat)
/** Says what was received where nothing else is due to be said. */
export const Ack = Wire.tagged(4, "Ack", { received })
/** Nothing new, please; what is open may finish. From a runner: it is leaving. From a hub: connect again, elsewhere if you can. */
export const GoAway = Wire.tagged(5, "GoAway", { reason: Wire.str })
/** From the hub: it holds no route for this stream, or had to give it up. Stop sending on it. */
export const Reset = Wire.tagged(6, "Reset", { route: RouteKey, code: AbortCode })

/** Everything a runner may say. */
export const ToHub = Schema.Union([
  Hello,
  Wire.tagged(1, "Frames", { received, frames: Wire.list(upFrame) }),
  Ping,
  Pong,
  Ack,
  GoAway
])
export type ToHub = typeof ToHub.Type

/** Everything a hub may say. */
export const ToRunner = Schema.Union([
  Welcome,
  Wire.tagged(1, "Frames", { received, frames: Wire.list(downFrame) }),
  Ping,
  Pong,
  Ack,
  GoAway,
  Reset
])
export type ToRunner = typeof ToRunner.Type

/** Compiled once, at module load. */
export const toHub: Bare.Codec<ToHub> = Bare.make(ToHub)
/** Compiled once, at module load. */
export const toRunner: Bare.Codec<ToRunner> = Bare.make(ToRunner)

/**
 * Why a hub closes a runner's WebSocket. `retry` says whether dialling again can help: a runner that was refused must change something first.
 */
export const closeCodes = {
  protocol_error: { code: 4400, retry: true, means: "a message that does not decode, or comes out of turn" },
  unauthorized: { code: 4401, retry: false, means: "no token, or an unknown one" },
  forbidden: { code: 4403, retry: false, means: "the token does not cover the name" },
  heartbeat_timeout: { code: 4408, retry: true, means: "nothing was heard for the heartbeat deadline" },
  fenced: { code: 4409, retry: false, means: "a newer connection of the same session took over" },
  hello_timeout: { code: 4410, retry: true, means: "no Hello in time" },
  unsupported_version: { code: 4426, retry: false, means: "no protocol version in common" },
  abuse: {
    code: 4429,
    retry: true,
    means: "too many frames on routes the runner does not hold, or undecodable messages"
  },
  bad_name: { code: 4404, retry: false, means: "the name cannot be a host label" },
  overloaded: { code: 4503, retry: true, means: "the hub takes no more sessions" },
  draining: { code: 1012, retry: true, means: "the hub is going away" }
} as const satisfies Readonly<
  Record<string, { readonly code: number; readonly retry: boolean; readonly means: string }>
>
/** The names of the reasons above. */
export type CloseReason = keyof typeof closeCodes
