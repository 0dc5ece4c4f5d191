/**
 * What follows from what a runner sent, whatever its dialect: streams that ended are taken out, refusals are answered and counted, broken ones are
 * told, and sustained abuse costs the connection. Late frames are no offence.
 */
import { Clock, Effect } from "effect"
import type { AbuseMeter } from "../protocol/Complaints.ts"
import type { CloseReason } from "../protocol/Wayleave1.ts"
import { absurd } from "../tunnel/Frame.ts"
import * as HubMetrics from "./HubMetrics.ts"
import type { HubParts } from "./HubParts.ts"
import type { Relayed } from "./Relay.ts"
import { endStream, type Session } from "./Session.ts"

/** Why the connection is to be closed now, or undefined to go on. */
export type Judgement = CloseReason | undefined

/** Judges what one read brought: what became of its frames, and what was wrong with its messages. */
export type Judge = (relayed: Relayed, faults: ReadonlyArray<string>) => Effect.Effect<Judgement>

const kindOf = {
  Unknown: "a frame for a route nobody holds",
  Foreign: "a frame for a route of another session"
} as const

/** The judge of one connection. */
export const makeJudge = Effect.fnUntraced(function* (parts: HubParts, session: Session, abuse: AbuseMeter) {
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock

  const complain = (kind: string, now: number) => {
    const times = parts.complaints.note(kind, now)
    return times === 0 ? Effect.void : Effect.logWarning(`runner sent ${kind}`, { runner: session.name, times })
  }

  /** What was wrong, a word for each time. */
  const settle = ({ broken, ended, refused }: Relayed): Array<string> => {
    for (const route of ended) endStream(parts.streams, route)
    for (const route of broken) session.peer.reset(route, "publish_failed")
    const offences: Array<string> = []
    for (const { answer, reason } of refused) {
      switch (reason) {
        case "Unknown":
          // Under way when its gateway denied it, of which the runner has been told.
          if (parts.verification.wasDenied(session.id, answer.route)) break
          session.peer.reset(answer.route, "unknown_route")
          offences.push(kindOf.Unknown)
          break
        case "Foreign":
          offences.push(kindOf.Foreign)
          break
        case "Late":
          break
        default:
          absurd(reason)
      }
    }
    return offences
  }

  const judge: Judge = (relayed, faults) => {
    const offences = settle(relayed).concat(faults)
    if (faults.length > 0) HubMetrics.messagesUndecodable.updateUnsafe(faults.length, context)
    const { broken } = relayed
    if (offences.length === 0 && broken.length === 0) return Effect.succeed(undefined)
    const now = clock.currentTimeMillisUnsafe()
    const judgement = offences.length > 0 && abuse.note(offences.length, now) ? ("abuse" as const) : undefined
    return Effect.forEach(new Set(offences), (kind) => complain(kind, now), { discard: true }).pipe(
      Effect.andThen(broken.length > 0 ? parts.onBroken(session, broken) : Effect.void),
      Effect.as(judgement)
    )
  }
  return judge
})
