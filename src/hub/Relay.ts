/**
 * Authorize, publish, clear: the heart of the house. Every frame of an answer passes here, and a route ends only after the frame that ends it
 * was published. Next: `route/RouteStore.ts` below, `gateway/InFlight.ts` above.
 */
import { Effect, Exit, Metric, Schedule } from "effect"
import { type BusError, MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import { type Claimant, RouteStore, type Verdict } from "../route/RouteStore.ts"
import type { RouteKey, Uplink } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import { bind } from "../tunnel/Series.ts"
import * as HubMetrics from "./HubMetrics.ts"

/** What became of a batch, for whoever has to act on it: the store and the bus have been told already. */
export interface Relayed {
  readonly refused: Verdict<Uplink>["refused"]
  /** Routes whose last frame was published. */
  readonly ended: ReadonlyArray<RouteKey>
  /** Routes of frames that were admitted and could not be published: still open, their streams broken. */
  readonly broken: ReadonlyArray<RouteKey>
}

/** The frames of a batch by gateway, in order. Nearly always there is one, and its frames are the batch itself. */
const byGateway = (batch: ReadonlyArray<Uplink>): ReadonlyArray<ReadonlyArray<Uplink>> => {
  const first = (batch[0] as Uplink).route.gatewayId
  if (batch.every((envelope) => envelope.route.gatewayId === first)) return [batch]
  const groups = new Map<number, Array<Uplink>>()
  for (const envelope of batch) {
    const group = groups.get(envelope.route.gatewayId)
    if (group === undefined) groups.set(envelope.route.gatewayId, [envelope])
    else group.push(envelope)
  }
  return [...groups.values()]
}

/** The frames of a batch by route, in order. */
const byRoute = (batch: ReadonlyArray<Uplink>): ReadonlyArray<ReadonlyArray<Uplink>> => {
  const groups = new Map<number, Array<Uplink>>()
  for (const envelope of batch) {
    const group = groups.get(envelope.route.requestId)
    if (group === undefined) groups.set(envelope.route.requestId, [envelope])
    else group.push(envelope)
  }
  return [...groups.values()]
}

const together = (parts: ReadonlyArray<Relayed>): Relayed => ({
  refused: parts.flatMap((part) => part.refused),
  ended: parts.flatMap((part) => part.ended),
  broken: parts.flatMap((part) => part.broken)
})

const retry = {
  schedule: Schedule.exponential("20 millis"),
  times: limits.publishAttempts - 1,
  while: (error: BusError) => error.reason !== "Unsendable"
}

const refusedBy = {
  Unknown: Metric.withAttributes(HubMetrics.framesRefused, { reason: "unknown" }),
  Foreign: Metric.withAttributes(HubMetrics.framesRefused, { reason: "foreign" }),
  Late: Metric.withAttributes(HubMetrics.framesRefused, { reason: "late" })
} as const

/** Each is on its way before the next is begun, and waits for none: what the runner sends next must not overtake a group that stood behind a last word. */
const allAtOnce = { concurrency: "unbounded" } as const

/**
 * Never fails: a batch that cannot be published is reported as broken. `keep` is offered each frame of a route that nobody holds, in order: one that it
 * keeps is neither published nor refused now.
 */
export type Relay = (
  claimant: Claimant,
  batch: ReadonlyArray<Uplink>,
  keep?: (stray: Uplink) => boolean
) => Effect.Effect<Relayed>

/** The relay of one hub: authorize, publish, then clear or reopen, per gateway in a batch. */
export const makeRelay = Effect.fnUntraced(function* (namespace: string) {
  const routes = yield* RouteStore
  const bus = yield* MessageBus
  const context = yield* Effect.context<never>()
  const subjectOf = Subject.ofGateways(namespace)
  const framesPublished = bind(HubMetrics.framesPublished, context)

  const authorize = (claimant: Claimant, batch: ReadonlyArray<Uplink>, keep?: (stray: Uplink) => boolean) => {
    const verdict = routes.authorize(claimant, batch)
    if (keep === undefined) return verdict
    return Effect.map(verdict, (judged) => ({
      ...judged,
      refused: judged.refused.filter(({ answer, reason }) => reason !== "Unknown" || !keep(answer))
    }))
  }

  const publish = (admitted: ReadonlyArray<Uplink>) =>
    admitted.length === 0
      ? Effect.void
      : bus
          .publish(subjectOf((admitted[0] as Uplink).route.gatewayId), admitted, "each")
          .pipe(Effect.retry(retry), Effect.asVoid)

  // Acquire cannot be interrupted and release always runs, so no route stays in Closing whatever happens between.
  const relayOne = (
    claimant: Claimant,
    batch: ReadonlyArray<Uplink>,
    keep?: (stray: Uplink) => boolean
  ): Effect.Effect<Relayed> => {
    let verdict: Verdict<Uplink> | undefined
    return Effect.acquireUseRelease(
      authorize(claimant, batch, keep),
      (judged) => {
        verdict = judged
        return publish(judged.admitted)
      },
      ({ ending }, exit) => {
        if (ending.length === 0) return Effect.void
        if (Exit.isSuccess(exit)) return routes.clear(ending)
        HubMetrics.routesReopened.updateUnsafe(ending.length, context)
        return routes.reopen(ending)
      }
    ).pipe(
      Effect.matchEffect({
        onSuccess: () => Effect.succeed(settle(verdict as Verdict<Uplink>, true)),
        onFailure: ({ reason }) => {
          const judged = verdict as Verdict<Uplink>
          const apart = reason === "Unsendable" ? byRoute(judged.admitted) : []
          if (apart.length < 2) return Effect.succeed(settle(judged, false))
          // A frame that the bus has no form for costs its stream, not those it came with.
          const refused = settle({ ...judged, admitted: [], ending: [] }, true)
          return Effect.map(
            Effect.forEach(apart, (group) => relayOne(claimant, group), allAtOnce),
            (parts) => together([refused, ...parts])
          )
        }
      })
    )
  }

  const settle = ({ admitted, ending, refused }: Verdict<Uplink>, published: boolean): Relayed => {
    for (const { reason } of refused) refusedBy[reason].updateUnsafe(1, context)
    if (published) {
      framesPublished.update(admitted.length, context)
      return { refused, ended: ending, broken: [] }
    }
    HubMetrics.publishesFailed.updateUnsafe(1, context)
    return { refused, ended: [], broken: [...new Set(admitted.map(({ route }) => route))] }
  }

  const relay: Relay = (claimant, batch, keep) => {
    if (batch.length === 0) return Effect.succeed({ refused: [], ended: [], broken: [] })
    const groups = byGateway(batch)
    if (groups.length === 1) return relayOne(claimant, groups[0] as ReadonlyArray<Uplink>, keep)
    return Effect.map(
      Effect.forEach(groups, (group) => relayOne(claimant, group, keep), allAtOnce),
      together
    )
  }
  return relay
})
