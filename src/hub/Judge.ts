/**
 * What follows from what a runner sent, whatever its dialect: streams that ended are taken out, refusals are answered and counted, broken ones are
 * told, and sustained abuse costs the connection. Late frames are no offence.
 */
import { Clock, Effect } from "effect"
import type { AbuseMeter } from "../protocol/Complaints.ts"
import type { CloseReason } from "../protocol/Wayleave1.ts"
import type { Refusal } from "../route/RouteTable.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
import * as HubMetrics from "./HubMetrics.ts"
import type { HubParts } from "./HubParts.ts"
import type { Relayed } from "./Relay.ts"
import { endStream, type Session } from "./Session.ts"

/** Why the connection is to be closed now, or undefined to go on. */
export type Judgement = CloseReason | undefined

/** Judges what one read brought: what became of its frames, and what was wrong with its messages. */
export type Judge = (relayed: Relayed, faults: ReadonlyArray<string>) => Effect.Effect<Judgement>

/** The judge of one connection. */
export const makeJudge = Effect.fnUntraced(function* (parts: HubParts, session: Session, abuse: AbuseMeter) {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock

  const complain = (kind: string, now: number) => {
    const times = parts.complaints.note(kind, now)
    return times === 0 ? Effect.void : Effect.logWarning(`runner sent ${kind}`, { runner: session.name, times })
  }

  /** Tells the runner of a refused answer where it has to know, and names the fault; undefined where there is none. */
  const faultOf = (route: RouteKey, reason: Refusal): string | undefined => {
    switch (reason) {
      case "Unknown":
        // Under way when its gateway denied it, of which the runner has been told where it can be.
        if (!session.peer.goesOnUntold && parts.verification.wasDenied(session.id, route)) return undefined
        session.peer.reset(route, "unknown_route")
        return "a frame for a route nobody holds"
      case "Foreign":
        return "a frame for a route of another session"
      case "Late":
        return undefined
    }
    return absurd(reason)
  }

  /** What was wrong, a word for each time, and how much of it counts as abuse. */
  const settle = ({
    broken,
    ended,
    refused
  }: Relayed): { readonly wrong: Array<string>; readonly offences: number } => {
    for (const route of ended) endStream(parts.streams, route)
    for (const route of broken) session.peer.reset(route, "publish_failed")
    const wrong: Array<string> = []
    let offences = 0
    for (const { answer, reason } of refused) {
      const kind = faultOf(answer.route, reason)
      if (kind === undefined) continue
      wrong.push(kind)
      if (reason === "Foreign" || !session.peer.goesOnUntold) offences++
    }
    return { wrong, offences }
  }

  const judge: Judge = (relayed, faults) => {
    const settled = settle(relayed)
    const wrong = settled.wrong.concat(faults)
    const offences = settled.offences + faults.length
    if (faults.length > 0) HubMetrics.messagesUndecodable.updateUnsafe(faults.length, context)
    const { broken } = relayed
    if (wrong.length === 0 && broken.length === 0) return Effect.succeed(undefined)
    const now = clock.currentTimeMillisUnsafe()
    const judgement = offences > 0 && abuse.note(offences, now) ? ("abuse" as const) : undefined
    return Effect.forEach(new Set(wrong), (kind) => complain(kind, now), { discard: true }).pipe(
      Effect.andThen(broken.length > 0 ? parts.onBroken(session, broken) : Effect.void),
      Effect.as(judgement)
    )
  }
  return judge
})
