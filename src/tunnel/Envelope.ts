/**
 * What travels between roles: a frame, the route it belongs to, its place in that route's order, and who speaks.
 *
 * Down goes a `Downlink` to a name's subject (the opening frame) or to the hub that took it; up comes an `Uplink` to the gateway's subject.
 * `replyTo` always names the sender's own subject. Envelopes pass the memory bus by reference: never mutate one.
 */
import { Schema } from "effect"
import { absurd, halfCloses, isTerminal, RequestFrame, ResponseFrame } from "./Frame.ts"
import * as Wire from "./Wire.ts"

/** One stream of one gateway: as in Rivet's protocol, 4 bytes each, held as unsigned integers. */
export const RouteKey = Schema.Struct({ gatewayId: Wire.u32, requestId: Wire.u32 })
export type RouteKey = typeof RouteKey.Type

/** What outlives a runner's socket: 16 random bytes, as 32 hexadecimal digits. */
export const SessionId = Schema.String.check(Schema.isPattern(/^[0-9a-f]{32}$/)).pipe(Schema.brand("SessionId"))
export type SessionId = typeof SessionId.Type
/**
 * Gateway to hub. An opening frame is meant for a runner's `name` or for one `actor`; the other is empty. `skipReadyWait`: an actor that was told to start
 * is enough, it need not have said that it runs. `traceparent` is W3C trace context, empty where the visitor's request is not traced.
 */
export const Downlink = Wire.tagged(0, "Downlink", {
  replyTo: Wire.str,
  name: Wire.str,
  actor: Wire.str,
  skipReadyWait: Wire.bool,
  traceparent: Wire.str,
  route: RouteKey,
  index: Wire.u16,
  frame: RequestFrame
})
export type Downlink = typeof Downlink.Type

/** Hub to gateway: from this session, over its connection of this generation. */
export const Uplink = Wire.tagged(1, "Uplink", {
  replyTo: Wire.str,
  session: Wire.str,
  generation: Wire.u32,
  route: RouteKey,
  index: Wire.u16,
  frame: ResponseFrame
})
export type Uplink = typeof Uplink.Type

/** Gateway to each hub it has streams on: it lives, so its routes there keep their lease. */
export const LeaseRenewal = Wire.tagged(2, "LeaseRenewal", { gatewayId: Wire.u32 })
export type LeaseRenewal = typeof LeaseRenewal.Type

/**
 * Gateway to hub: a visitor's WebSocket outlived its actor's sleep and is to be put back on it, waking it where need be. Issues the route again, as an
 * opening frame does, but nothing is said to the runner: a `Credit` tells the gateway that it may go on. `index` is the place of the next message;
 * `name` and `actor` are as in the opening frame.
 */
export const Wake = Wire.tagged(3, "Wake", {
  replyTo: Wire.str,
  name: Wire.str,
  actor: Wire.str,
  route: RouteKey,
  index: Wire.u16
})
export type Wake = typeof Wake.Type

/**
 * One stream of a session that moves to a hub that does not know it, as the runner has it. `from` is the index of the first frame it is about to
 * repeat, or of its next one where it repeats none; null where it has nothing with a place in the order left to say. `open` is null where the stream
 * is over for the runner and only its last frames may have been lost; else `next` is the index it waits for, `credited` what every Credit it
 * received came to, `granted` its first window with every Credit it sent.
 *
 * With neither `from` nor `open` it is no stream that moves: a runner whose wire knows no Hello speaks on a WebSocket that the hub does not know.
 */
export const MovedStream = Schema.Struct({
  route: RouteKey,
  from: Wire.optional(Wire.u16),
  open: Wire.optional(Schema.Struct({ next: Wire.u16, credited: Wire.uint, granted: Wire.uint }))
})
export type MovedStream = typeof MovedStream.Type

/** Hub to gateway: a session moved here and says that these streams are its own. Are they? */
export const RouteQuestion = Wire.tagged(4, "RouteQuestion", {
  replyTo: Wire.str,
  name: Wire.str,
  session: Wire.str,
  generation: Wire.u32,
  streams: Wire.list(MovedStream)
})
export type RouteQuestion = typeof RouteQuestion.Type

/**
 * Gateway to hub: what it knows better than anybody. What it has to say on a granted stream goes to that hub from now on. A WebSocket that can be woken
 * is neither granted nor denied: a `Wake` follows.
 */
export const RouteAnswer = Wire.tagged(5, "RouteAnswer", {
  session: Wire.str,
  generation: Wire.u32,
  granted: Wire.list(RouteKey),
  denied: Wire.list(RouteKey)
})
export type RouteAnswer = typeof RouteAnswer.Type

/** Hub to every hub that holds this session: here is a connection of it. Whoever has an older one lets go of it. */
export const SessionTaken = Wire.tagged(6, "SessionTaken", {
  session: Wire.str,
  generation: Wire.u32,
  hub: Wire.str
})
export type SessionTaken = typeof SessionTaken.Type

/** Hub to gateway: these streams were here, and their session went on elsewhere over a connection of this generation. */
export const SessionMoved = Wire.tagged(7, "SessionMoved", {
  session: Wire.str,
  generation: Wire.u32,
  routes: Wire.list(RouteKey)
})
export type SessionMoved = typeof SessionMoved.Type

/**
 * Hub to gateway: this hub is going away, and the session with these streams is about to go on elsewhere. What goes down to them waits until it does;
 * what was sent before is still passed on, once the gateway has answered.
 */
export const SessionLeaving = Wire.tagged(9, "SessionLeaving", {
  replyTo: Wire.str,
  session: Wire.str,
  routes: Wire.list(RouteKey)
})
export type SessionLeaving = typeof SessionLeaving.Type

/** Gateway to hub: what it had to say to streams of this session has been said before this. */
export const SessionHeld = Wire.tagged(10, "SessionHeld", { session: Wire.str, gatewayId: Wire.u32 })
export type SessionHeld = typeof SessionHeld.Type

/** Of the process that controls the actors of a namespace: who it is, in words, and since when by its clock. A question and its answer are alike. */
export const ActorClaim = Wire.tagged(8, "ActorClaim", { holder: Wire.str, sinceMs: Wire.u64 })
export type ActorClaim = typeof ActorClaim.Type

/** Gateway to whoever controls actors: which one is called so? `create` is null where none is to be made. */
export const ActorQuestion = Wire.tagged(11, "ActorQuestion", {
  name: Wire.str,
  key: Wire.str,
  create: Wire.optional(
    Schema.Struct({
      runnerName: Wire.str,
      crashPolicy: Wire.enumeration({ restart: 0, sleep: 1, destroy: 2 }),
      input: Wire.optional(Wire.data)
    })
  )
})
export type ActorQuestion = typeof ActorQuestion.Type

/** This one; or none, and `refused` says why in the words of `actor/Actor.ts`. */
export const ActorAnswer = Wire.tagged(12, "ActorAnswer", { actorId: Wire.str, refused: Wire.str, message: Wire.str })
export type ActorAnswer = typeof ActorAnswer.Type

/** All that the bus carries. */
export const Envelope = Schema.Union([
  Downlink,
  Uplink,
  LeaseRenewal,
  Wake,
  RouteQuestion,
  RouteAnswer,
  SessionTaken,
  SessionMoved,
  SessionLeaving,
  SessionHeld,
  ActorClaim,
  ActorQuestion,
  ActorAnswer
])
export type Envelope = typeof Envelope.Type

/**
 * Whether its sender forgets the stream once this was published. Nobody would notice its loss then, so a bus confirms it before it says that
 * the publish succeeded; everything else may be lost after that, for an index, a deadline or the bus's own loss tells.
 */
export const isLastWord = (envelope: Envelope): boolean => {
  switch (envelope._tag) {
    case "Uplink":
      return isTerminal(envelope.frame)
    case "Downlink":
      return halfCloses(envelope.frame)
    case "LeaseRenewal":
    case "Wake":
    case "RouteQuestion":
    case "RouteAnswer":
    case "SessionTaken":
    case "SessionMoved":
    case "SessionLeaving":
    case "SessionHeld":
    case "ActorClaim":
    case "ActorQuestion":
    case "ActorAnswer":
      return false
  }
  return absurd(envelope)
}

/** Eight hexadecimal digits each: for logs and spans, never a key on the hot path. */
export const showRoute = (route: RouteKey): string =>
  `${route.gatewayId.toString(16).padStart(8, "0")}/${route.requestId.toString(16).padStart(8, "0")}`
