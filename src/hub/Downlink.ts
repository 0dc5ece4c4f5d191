/**
 * From the bus to the runner: an opening frame gets a session and a route, in this order and before a byte is written; everything else follows
 * its stream. Nothing but an opening frame ever issues. Next: `protocol/Link.ts`, which writes.
 */
import { Effect } from "effect"
import { type BusError, MessageBus } from "../bus/MessageBus.ts"
import { RouteStore } from "../route/RouteStore.ts"
import type { Downlink, Envelope, RouteKey, Uplink } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, halfCloses, opensRoute, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { RunnerDirectory } from "./RunnerDirectory.ts"
import { endStream, openStream, type Session, type Streams } from "./Session.ts"

/** An envelope from this hub to a gateway; `session` is null where no runner was chosen. */
export type MakeUplink = (session: Session | null, route: RouteKey, index: number, frame: ResponseFrame) => Uplink

/** The credit a gateway starts with: a request whose body is all there needs none. */
const initialCredit = (downlink: Downlink): number => {
  switch (downlink.frame._tag) {
    case "RequestStart":
      return downlink.frame.streamed ? limits.windowBytesInitial : 0
    case "WebSocketOpen":
      return limits.windowBytesInitial
    case "RequestChunk":
    case "RequestTrailers":
    case "RequestAbort":
    case "WebSocketMessage":
    case "WebSocketClose":
    case "Credit":
      return 0
    default:
      return absurd(downlink.frame)
  }
}

/** What a hub does with the envelopes that its bus brings: for names it holds, and for streams it has opened. */
export interface DownlinkHandler {
  /** Handles what one turn of the bus brought, in order. */
  readonly handle: (batch: ReadonlyArray<Envelope>) => Effect.Effect<void>
}

/** Issues a route for every opening frame before it is written, and leads all others to the session that has their stream. */
export const makeDownlink = Effect.fnUntraced(function* (options: {
  readonly streams: Streams
  readonly directory: () => RunnerDirectory
  readonly uplink: MakeUplink
  /** Says an end in the hub's own name, and again while the bus cannot. */
  readonly tellGateway: (gatewayId: number, envelopes: ReadonlyArray<Uplink>) => Effect.Effect<void>
  readonly isDraining: () => boolean
}) {
  const routes = yield* RouteStore
  const bus = yield* MessageBus
  const { streams, uplink } = options

  const tell = (downlink: Downlink, session: Session, frame: ResponseFrame): Effect.Effect<void, BusError> =>
    bus.publish(downlink.replyTo, [uplink(session, downlink.route, 0, frame)], "each")

  /** Not waited for: the bus confirms an end, and the other streams' frames stand behind this one. */
  const refuse = ({ route }: Downlink, code: AbortCode, message: string) =>
    options.tellGateway(route.gatewayId, [uplink(null, route, 0, { _tag: "ResponseAbort", code, message })])

  const open = (downlink: Downlink): Effect.Effect<void> => {
    if (options.isDraining()) return refuse(downlink, "draining", "the hub is going away")
    const session = options.directory().pick(downlink.name)
    if (session === undefined) return refuse(downlink, "no_runner", `no runner serves ${downlink.name} here`)
    return routes.issue(downlink.route, session.id).pipe(
      Effect.andThen(
        Effect.suspend(() => {
          openStream(streams, downlink.route, session)
          return send(session, downlink)
        })
      ),
      // Only now does the gateway learn where we are: told before the frame was queued, its abort could overtake the request itself.
      Effect.andThen(Effect.suspend(() => tell(downlink, session, { _tag: "Credit", bytes: initialCredit(downlink) }))),
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
  }

  const send = (session: Session, { route, index, frame }: Downlink): Effect.Effect<void> => {
    if (session.link.send({ route, index, frame })) return Effect.void
    // The link's last wall. Credit should have held the gateway back long before: this stream pays, no other.
    session.link.withdraw(route)
    session.link.send({ route, index: 0, frame: { _tag: "RequestAbort", code: "overflow" } })
    endStream(streams, route)
    const abort: ResponseFrame = { _tag: "ResponseAbort", code: "overflow", message: "the runner's queue is full" }
    return Effect.andThen(publishUp(session, route, abort), routes.halfClose(route))
  }

  const publishUp = (session: Session, route: RouteKey, frame: ResponseFrame) =>
    options.tellGateway(route.gatewayId, [uplink(session, route, 0, frame)])

  const lastWord = (session: Session, downlink: Downlink): Effect.Effect<void> => {
    const { route, index, frame } = downlink
    endStream(streams, route)
    if (frame._tag === "RequestAbort") {
      const withdrawn = session.link.withdraw(route)
      // The runner never heard of it: there is nothing to abort, and nobody will echo.
      if (withdrawn.some((unsent) => opensRoute(unsent.frame))) return routes.close(route)
    }
    session.link.send({ route, index, frame })
    return routes.halfClose(route)
  }

  const one = (envelope: Envelope): Effect.Effect<void> => {
    switch (envelope._tag) {
      case "Downlink": {
        if (opensRoute(envelope.frame)) return open(envelope)
        const session = streams.get(envelope.route)
        // Late: the answer ended, or the session did, while this was on its way.
        if (session === undefined) return Effect.void
        return halfCloses(envelope.frame) ? lastWord(session, envelope) : send(session, envelope)
      }
      case "LeaseRenewal":
        return routes.renew(envelope.gatewayId)
      case "Uplink":
        // Answers go to gateways; one that strays here has no reader.
        return Effect.void
      default:
        return absurd(envelope)
    }
  }

  const handler: DownlinkHandler = {
    handle: (batch) => (batch.length === 1 ? one(batch[0] as Envelope) : Effect.forEach(batch, one, { discard: true }))
  }
  return handler
})
