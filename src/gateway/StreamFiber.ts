/**
 * The fiber of one stream as far as the bus is concerned: it publishes what the link has to say, in order and with room to wait, and nothing else
 * ever waits for it.
 */
import { Effect, Schedule } from "effect"
import type { BusError, Delivery, MessageBus } from "../bus/MessageBus.ts"
import type { Subject } from "../bus/Subject.ts"
import { type Envelope, isLastWord } from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { StreamLink } from "./StreamLink.ts"

/** The body of a stream's fiber from its opening frame to its end: publishes what is due, then waits. */
export const converse = Effect.fnUntraced(function* (bus: MessageBus["Service"], link: StreamLink) {
  while (true) {
    const wake = link.takeWake()
    if (wake !== undefined) {
      const failed = yield* publish(bus, link.actors, [wake], "one")
      if (failed !== undefined) link.unheard(failed)
      continue
    }
    const envelopes = link.outgoing()
    if (envelopes.length > 0) {
      const { attachments } = link
      const failed = yield* publish(bus, link.hub as Subject, envelopes, "each")
      // The last word is noted by `break` and gets its own attempts. What was meant for an attachment that is over is sent again in the next.
      const current = !link.over && !link.asleep && link.attachments === attachments
      if (failed !== undefined && current) link.break("runner_lost", "publish_failed")
      continue
    }
    if (link.quiet) return
    yield* link.awaitWork
  }
})

/** A hub that never hears the last word keeps the route: it is said again while the bus cannot. A hub that is silent for a lease is gone itself. */
const persistently = {
  schedule: Schedule.spaced(limits.lastWordMs),
  times: Math.ceil(limits.leaseMs / limits.lastWordMs),
  while: (error: BusError) => error.reason !== "Unsendable"
}

const publish = (
  bus: MessageBus["Service"],
  subject: Subject,
  envelopes: ReadonlyArray<Envelope>,
  delivery: Delivery
): Effect.Effect<BusError["reason"] | undefined> => {
  const published = bus.publish(subject, envelopes, delivery)
  return Effect.match(envelopes.some(isLastWord) ? Effect.retry(published, persistently) : published, {
    onFailure: (error) => error.reason,
    onSuccess: () => undefined
  })
}

/** The opening frame was not acknowledged. A hub may have it all the same: should its first word come, it is told that nobody waits. */
export const unacknowledged = (
  bus: MessageBus["Service"],
  link: StreamLink,
  reason: BusError["reason"]
): Effect.Effect<void> => {
  switch (reason) {
    case "NoResponders":
    case "Full":
    case "Unsendable":
      link.finish()
      return Effect.void
    case "Timeout":
    case "Disconnected":
      link.close({ _tag: "RequestAbort", code: "cancelled" })
      return converse(bus, link)
    default:
      return absurd(reason)
  }
}

/** A stream whose fiber is interrupted still says its last word, where there is a hub to hear it. */
export const lastWord = (bus: MessageBus["Service"], link: StreamLink): Effect.Effect<void> =>
  Effect.suspend(() => {
    const envelopes = link.outgoing()
    const { hub } = link
    link.finish()
    if (hub === undefined || envelopes.length === 0) return Effect.void
    return bus.publish(hub, envelopes, "each").pipe(Effect.timeoutOption(limits.publishTimeoutMs), Effect.ignore)
  })
