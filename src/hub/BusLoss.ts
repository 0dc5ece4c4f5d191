/**
 * The bus went out of reach. What was under way on it may be missing, and no later frame need show it: every stream of this hub ends, on both
 * sides. Runners and their sessions stay.
 */
import { Effect, Stream } from "effect"
import { losses, MessageBus } from "../bus/MessageBus.ts"
import { RouteStore } from "../route/RouteStore.ts"
import type { RouteKey, Uplink } from "../tunnel/Envelope.ts"
import { opensRoute } from "../tunnel/Frame.ts"
import type { MakeUplink } from "./Downlink.ts"
import { endStream, type Session, type Streams } from "./Session.ts"

/** Ends all streams whenever the bus is lost; never returns. */
export const endStreamsAtLoss = Effect.fnUntraced(function* (options: {
  readonly streams: Streams
  readonly uplink: MakeUplink
  readonly tellGateway: (gatewayId: number, envelopes: ReadonlyArray<Uplink>) => Effect.Effect<void>
}) {
  const routes = yield* RouteStore
  const { streams } = options

  const end = (route: RouteKey, session: Session): Effect.Effect<void> => {
    const unsent = session.link.withdraw(route)
    // A runner that never heard of the request has nothing to end, and will echo nothing.
    if (unsent.some(({ frame }) => opensRoute(frame))) return routes.close(route)
    session.link.send({ route, index: 0, frame: { _tag: "RequestAbort", code: "gap" } })
    return routes.halfClose(route)
  }

  const endAll = Effect.suspend(() => {
    const news = new Map<number, Array<Uplink>>()
    const ends: Array<Effect.Effect<void>> = []
    for (const route of [...streams.routes()]) {
      const session = endStream(streams, route) as Session
      ends.push(end(route, session))
      const abort = { _tag: "ResponseAbort", code: "gap", message: "the bus lost what was under way" } as const
      const envelope = options.uplink(session, route, 0, abort)
      const others = news.get(route.gatewayId)
      if (others === undefined) news.set(route.gatewayId, [envelope])
      else others.push(envelope)
    }
    const telling = Array.from(news, ([gatewayId, envelopes]) => options.tellGateway(gatewayId, envelopes))
    return Effect.all([...ends, ...telling], { discard: true })
  })

  return yield* Stream.runForEach(losses(yield* MessageBus), () => endAll)
})
