/**
 * The bus went out of reach. What was under way on it may be missing, and no later frame need show it: every stream of this hub ends, on both
 * sides. Runners and their sessions stay; only where the bus stays away, and other hubs may have it, they are sent there.
 */
import { Effect, Stream, SubscriptionRef } from "effect"
import { losses } from "../bus/MessageBus.ts"
import type { RouteKey, Uplink } from "../tunnel/Envelope.ts"
import { opensRoute } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import { endStream, type Session } from "./Session.ts"

const lost = { _tag: "ResponseAbort", code: "gap", message: "the bus lost what was under way" } as const

/** Ends all streams whenever the bus is lost; never returns. */
export const endStreamsAtLoss = ({ bus, routes, streams, tellGateway, uplink }: HubParts): Effect.Effect<void> => {
  const end = (route: RouteKey, { peer }: Session): Effect.Effect<void> => {
    const unsent = peer.withdraw(route)
    // A runner that never heard of the request has nothing to end, and will echo nothing.
    if (unsent.some(({ frame }) => opensRoute(frame))) return routes.close(route)
    peer.send({ route, index: 0, actor: "", frame: { _tag: "RequestAbort", code: "gap" } })
    return routes.halfClose(route)
  }

  const endAll = Effect.suspend(() => {
    const news = new Map<number, Array<Uplink>>()
    const ends: Array<Effect.Effect<void>> = []
    for (const route of streams.routes()) {
      const session = endStream(streams, route) as Session
      ends.push(end(route, session))
      const envelope = uplink(session, route, 0, lost)
      const others = news.get(route.gatewayId)
      if (others === undefined) news.set(route.gatewayId, [envelope])
      else others.push(envelope)
    }
    const telling = Array.from(news, ([gatewayId, envelopes]) => tellGateway(gatewayId, envelopes))
    return Effect.all([...ends, ...telling], { discard: true })
  })

  return Stream.runForEach(losses(bus), () => endAll)
}

/** Says so when the bus has been away for `cutOffMs`, and again when it is back; never returns. */
export const watchCutOff = (
  { bus }: HubParts,
  onChange: (cutOff: boolean) => Effect.Effect<void>
): Effect.Effect<void> =>
  SubscriptionRef.changes(bus.connected).pipe(
    Stream.switchMap((connected) =>
      connected ? Stream.succeed(false) : Stream.fromEffect(Effect.as(Effect.sleep(limits.cutOffMs), true))
    ),
    Stream.changes,
    Stream.runForEach(onChange)
  )
