/**
 * From the bus to the runner: an opening frame gets a session and a route, in this order and before a byte is written; everything else follows
 * its stream. Nothing but an opening frame ever issues. Next: `protocol/Link.ts`, which writes.
 */
import { Effect } from "effect"
import type { BusError } from "../bus/MessageBus.ts"
import type { Downlink, Envelope, RouteAnswer, RouteKey, Wake } from "../tunnel/Envelope.ts"
import {
  type AbortCode,
  absurd,
  halfCloses,
  opensRoute,
  type RequestFrame,
  type ResponseFrame
} from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import type { RunnerDirectory } from "./RunnerDirectory.ts"
import { endStream, openStream, type Session } from "./Session.ts"

/** What a gateway may send beyond this opening frame, in bytes: no runner's first window is narrower. A request whose body is all there needs none. */
const initialCredit = (opening: RequestFrame): number => {
  switch (opening._tag) {
    case "RequestStart":
      return opening.streamed ? limits.windowBytesInitial : 0
    case "WebSocketOpen":
      return limits.windowBytesInitial
    case "RequestChunk":
    case "RequestTrailers":
    case "RequestAbort":
    case "WebSocketMessage":
    case "WebSocketClose":
    case "Credit":
      return 0
  }
  return absurd(opening)
}

/** Streams that are meant for an actor rather than for whoever bears a name. A hub that takes no Rivet runners has none. */
export interface ActorStreams {
  /** Finds or starts the actor and gives the stream to its runner, however long that takes: it returns at once. */
  readonly open: (downlink: Downlink) => Effect.Effect<void>
  /** Puts a WebSocket that hibernated back on its actor; returns at once. */
  readonly wake: (wake: Wake) => Effect.Effect<void>
  /** What a gateway answered of streams that a runner speaks on, and that are not with it. */
  readonly denied: (answer: RouteAnswer) => void
  /** The gateway's last word for a stream that is with no runner: it may be waiting for its actor, or asleep. */
  readonly giveUp: (route: RouteKey) => void
  /** A gateway lives, and with it its WebSockets whose actors are away. */
  readonly renew: (gatewayId: number) => void
}

/** What a hub does with the envelopes that its bus brings: for names it holds, and for streams it has opened. */
export interface DownlinkHandler {
  /** Gives a stream to a session, for whoever chose that session himself. */
  readonly openOn: (session: Session, downlink: Downlink) => Effect.Effect<void>
  /** Tells the gateway that nobody takes its stream. */
  readonly refuse: (asked: Downlink | Wake, code: AbortCode, message: string) => Effect.Effect<void>
  /** Handles what one turn of the bus brought, in order. */
  readonly handle: (batch: ReadonlyArray<Envelope>) => Effect.Effect<void>
}

/** Issues a route for every opening frame before it is written, and leads all others to the session that has their stream. */
export const makeDownlink = (
  parts: HubParts,
  directory: () => RunnerDirectory,
  actors: () => ActorStreams | undefined
) => {
  const { bus, routes, streams, uplink } = parts

  const tell = (
    replyTo: string,
    session: Session,
    route: RouteKey,
    frame: ResponseFrame
  ): Effect.Effect<void, BusError> => bus.publish(replyTo, [uplink(session, route, 0, frame)], "each")

  /** Not waited for: the bus confirms an end, and the other streams' frames stand behind this one. */
  const refuse = ({ route }: Downlink | Wake, code: AbortCode, message: string) =>
    parts.tellGateway(route.gatewayId, [uplink(null, route, 0, { _tag: "ResponseAbort", code, message })])

  const open = (downlink: Downlink): Effect.Effect<void> => {
    if (parts.isDraining()) return refuse(downlink, "draining", "the hub is going away")
    const forActor = actors()
    if (downlink.actor !== "") {
      if (forActor === undefined) return refuse(downlink, "actor_not_found", "this hub has no actors")
      return forActor.open(downlink)
    }
    const session = directory().pick(downlink.name)
    if (session === undefined) return refuse(downlink, "no_runner", `no runner serves ${downlink.name} here`)
    if (session.peer.dialect === "rivet" && forActor !== undefined) return forActor.open(downlink)
    return openOn(session, downlink)
  }

  /** Gives a stream to a session: the route is issued, the frame queued, and the gateway told where the rest may go. */
  const openOn = (session: Session, downlink: Downlink): Effect.Effect<void> =>
    routes.issue(downlink.route, session.id).pipe(
      Effect.andThen(
        Effect.suspend(() => {
          openStream(streams, downlink.route, session)
          return send(session, downlink)
        })
      ),
      // Only now does the gateway learn where we are: told before the frame was queued, its abort could overtake the request itself.
      Effect.andThen(
        Effect.suspend(() =>
          tell(downlink.replyTo, session, downlink.route, {
            _tag: "Credit",
            bytes: initialCredit(downlink.frame)
          })
        )
      ),
      Effect.catchTags({
        RouteTableFull: () => refuse(downlink, "overloaded", "the hub's route table is full"),
        // The same opening frame again: the first is on its way, and a request must not be run twice.
        RouteTaken: () => Effect.void,
        // It may have arrived all the same: a gateway that heard of us waits for more, and is told that none will come.
        BusError: () =>
          Effect.andThen(
            lastWord(session, { ...downlink, index: 0, frame: { _tag: "RequestAbort", code: "publish_failed" } }),
            publishUp(session, downlink.route, {
              _tag: "ResponseAbort",
              code: "publish_failed",
              message: "the hub could not say that it took the request"
            })
          )
      })
    )

  const send = (session: Session, { actor, frame, index, route }: Downlink): Effect.Effect<void> => {
    if (session.peer.send({ route, index, frame, actor })) return Effect.void
    // The link's last wall. Credit should have held the gateway back long before: this stream pays, no other.
    session.peer.withdraw(route)
    session.peer.send({ route, index: 0, actor, frame: { _tag: "RequestAbort", code: "overflow" } })
    endStream(streams, route)
    const abort: ResponseFrame = { _tag: "ResponseAbort", code: "overflow", message: "the runner's queue is full" }
    return Effect.andThen(publishUp(session, route, abort), routes.halfClose(route))
  }

  const publishUp = (session: Session, route: RouteKey, frame: ResponseFrame) =>
    parts.tellGateway(route.gatewayId, [uplink(session, route, 0, frame)])

  const lastWord = (session: Session, downlink: Downlink): Effect.Effect<void> => {
    const { actor, frame, index, route } = downlink
    endStream(streams, route)
    if (frame._tag === "RequestAbort") {
      const withdrawn = session.peer.withdraw(route)
      // The runner never heard of it: there is nothing to abort, and nobody will echo.
      if (withdrawn.some((unsent) => opensRoute(unsent.frame))) return routes.close(route)
    }
    session.peer.send({ route, index, frame, actor })
    return routes.halfClose(route)
  }

  const one = (envelope: Envelope): Effect.Effect<void> => {
    switch (envelope._tag) {
      case "Downlink": {
        if (opensRoute(envelope.frame)) return open(envelope)
        const session = streams.get(envelope.route)
        if (session === undefined) {
          // Late: the answer ended, or the session did, while this was on its way. Or no runner has had the stream yet.
          if (halfCloses(envelope.frame)) actors()?.giveUp(envelope.route)
          return Effect.void
        }
        return halfCloses(envelope.frame) ? lastWord(session, envelope) : send(session, envelope)
      }
      case "LeaseRenewal":
        actors()?.renew(envelope.gatewayId)
        return routes.renew(envelope.gatewayId)
      case "Wake":
        return actors()?.wake(envelope) ?? refuse(envelope, "actor_not_found", "this hub has no actors")
      case "RouteAnswer":
        return Effect.tap(parts.verification.answered(envelope), () => Effect.sync(() => actors()?.denied(envelope)))
      case "SessionHeld":
        return parts.handOver.held(envelope)
      case "Uplink":
      case "RouteQuestion":
      case "SessionMoved":
      case "SessionTaken":
      case "SessionLeaving":
      case "ActorClaim":
      case "ActorQuestion":
      case "ActorAnswer":
        // For gateways, or for a subject of their own; one that strays here has no reader.
        return Effect.void
    }
    return absurd(envelope)
  }

  return {
    openOn,
    refuse,
    handle: (batch) => (batch.length === 1 ? one(batch[0] as Envelope) : Effect.forEach(batch, one, { discard: true }))
  } satisfies DownlinkHandler
}
