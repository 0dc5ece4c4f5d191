/**
 * The end of a drain: streams that did not finish go on at another hub, and nothing of them is lost. Their gateways hold what goes down, and say when
 * all that they had sent has been sent; that is passed on; only then the connection is closed, and the runner takes its streams
 * elsewhere. What it says meanwhile still goes up from here. Next: `Verification.ts`, where they arrive.
 */
import { Deferred, Effect, Schedule } from "effect"
import * as Subject from "../bus/Subject.ts"
import type { RouteKey, SessionHeld, SessionId } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import type { Session } from "./Session.ts"

/** Hands over, and hears the gateways. */
export interface HandOver {
  /** Everything that was on its way to the session's runner has left when this returns, and no more comes, as far as its gateways answer in time. */
  readonly prepare: (session: Session) => Effect.Effect<void>
  /** A gateway holds what goes down to a session. */
  readonly held: (envelope: SessionHeld) => Effect.Effect<void>
}

const flushPollMs = 10

/** The streams of a session, by their gateways. */
const byGateway = (streams: HubParts["streams"], session: Session): ReadonlyMap<number, ReadonlyArray<RouteKey>> => {
  const routes = new Map<number, Array<RouteKey>>()
  for (const route of streams.routes()) {
    if (streams.get(route) !== session) continue
    const others = routes.get(route.gatewayId)
    if (others === undefined) routes.set(route.gatewayId, [route])
    else others.push(route)
  }
  return routes
}

/** The handing over of one hub. */
export const makeHandOver = ({
  bus,
  hubId,
  namespace,
  streams
}: Pick<HubParts, "bus" | "hubId" | "namespace" | "streams">): HandOver => {
  const replyTo = Subject.ofHub(namespace, hubId)
  const waiting = new Map<SessionId, { readonly gateways: Set<number>; readonly done: Deferred.Deferred<void> }>()

  const ask = (session: Session, gatewayId: number, routes: ReadonlyArray<RouteKey>) =>
    Effect.ignore(
      bus.publish(
        Subject.ofGateway(namespace, gatewayId),
        [{ _tag: "SessionLeaving", replyTo, session: session.id, routes }],
        "each"
      )
    )

  const flushed = ({ peer }: Session) =>
    Effect.sync(() => peer.flushed()).pipe(
      Effect.repeat({ until: (all) => all, schedule: Schedule.spaced(flushPollMs) }),
      Effect.timeoutOption(limits.heldMs)
    )

  return {
    prepare: Effect.fnUntraced(function* (session) {
      const gateways = byGateway(streams, session)
      if (gateways.size === 0) return
      const done = Deferred.makeUnsafe<void>()
      waiting.set(session.id, { gateways: new Set(gateways.keys()), done })
      yield* Effect.forEach(gateways, ([gatewayId, routes]) => ask(session, gatewayId, routes), { discard: true }).pipe(
        Effect.andThen(Deferred.await(done)),
        Effect.timeoutOption(limits.heldMs),
        Effect.ensuring(Effect.sync(() => waiting.delete(session.id)))
      )
      yield* flushed(session)
    }),
    held: ({ gatewayId, session }) =>
      Effect.suspend(() => {
        const asked = waiting.get(session as SessionId)
        if (!asked?.gateways.delete(gatewayId) || asked.gateways.size > 0) return Effect.void
        return Deferred.succeed(asked.done, undefined)
      })
  }
}
