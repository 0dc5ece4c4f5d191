/**
 * The fiber of one stream as far as the bus is concerned: it publishes what the link has to say, in order and with room to wait, and nothing else
 * ever waits for it.
 */
import { Effect } from "effect"
import type { BusError, Delivery, MessageBus } from "../bus/MessageBus.ts"
import type { Subject } from "../bus/Subject.ts"
import { type Envelope, isLastWord } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Refusal } from "./RivetError.ts"
import type { StreamLink } from "./StreamLink.ts"
import type { Admitted } from "./StreamRecord.ts"

/** How a stream speaks to its hub. */
export interface Speech {
  readonly bus: MessageBus["Service"]
  /** Says a last word again, until the bus takes it. Nobody waits for it. */
  readonly insist: (hub: Subject, envelopes: ReadonlyArray<Envelope>) => Effect.Effect<void>
}

/** What a stream needs of whoever begins it. */
interface Beginning {
  readonly refuse: (refusal: Refusal) => Effect.Effect<void>
  readonly attempt: (admitted: Admitted) => Effect.Effect<void>
}

/** Begins with whoever was found, or answers with the refusal; where nothing had to be looked up, at no cost of an effect. */
export const begin = (
  admitted: Admitted | Effect.Effect<Admitted, Refusal>,
  { attempt, refuse }: Beginning
): Effect.Effect<void> =>
  Effect.isEffect(admitted)
    ? Effect.matchEffect(admitted, { onFailure: refuse, onSuccess: attempt })
    : attempt(admitted)

/** The body of a stream's fiber from its opening frame to its end: publishes what is due, then waits. */
export const converse = Effect.fnUntraced(function* ({ bus, insist }: Speech, link: StreamLink) {
  while (true) {
    const wake = link.takeWake()
    if (wake !== undefined) {
      const failed = yield* publish(bus, link.actors, [wake], "one")
      if (failed !== undefined) link.sleeper?.onUnheard(failed)
      continue
    }
    const envelopes = link.outgoing()
    if (envelopes.length > 0) {
      const { attachments } = link
      const hub = link.hub as Subject
      const failed = yield* publish(bus, hub, envelopes, "each")
      // A gateway that goes on renewing its lease would keep a route alive that nobody waits for: the last word has to arrive.
      if (failed !== undefined && envelopes.some(isLastWord)) yield* insist(hub, envelopes)
      // The last word is noted by `break` and gets its own attempt. What was meant for an attachment that is over is sent again in the next.
      const current = !link.over && !link.asleep && link.attachments === attachments
      if (failed !== undefined && current) link.break("runner_lost", "publish_failed")
      continue
    }
    if (link.quiet) return
    yield* link.awaitWork
  }
})

const publish = (
  bus: MessageBus["Service"],
  subject: Subject,
  envelopes: ReadonlyArray<Envelope>,
  delivery: Delivery
): Effect.Effect<BusError["reason"] | undefined> =>
  Effect.match(bus.publish(subject, envelopes, delivery), {
    onFailure: (error) => error.reason,
    onSuccess: () => undefined
  })

/** A stream whose fiber is interrupted still says its last word, where there is a hub to hear it. */
export const lastWord = (bus: MessageBus["Service"], link: StreamLink): Effect.Effect<void> =>
  Effect.suspend(() => {
    const envelopes = link.outgoing()
    const { hub } = link
    link.finish()
    if (hub === undefined || envelopes.length === 0) return Effect.void
    return bus.publish(hub, envelopes, "each").pipe(Effect.timeoutOption(limits.publishTimeoutMs), Effect.ignore)
  })
