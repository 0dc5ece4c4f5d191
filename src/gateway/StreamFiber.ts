/**
 * The fiber of one stream as far as the bus is concerned: it publishes what the link has to say, in order and with room to wait, and nothing else
 * ever waits for it.
 */
import { Effect } from "effect"
import type { BusError, Delivery, MessageBus } from "../bus/MessageBus.ts"
import type { Subject } from "../bus/Subject.ts"
import { type Envelope, isLastWord, type Wake } from "../tunnel/Envelope.ts"
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

/** What follows once the tunnel has no more to say on a stream. */
interface Afterwards {
  readonly conversed: () => Effect.Effect<void>
}

/**
 * The body of a stream's fiber from its opening frame to its end, and what follows: publishes what is due, then waits. Each step has the next one made
 * only when it is over: a stream that rests, as most WebSockets do nearly always, keeps no more than that.
 */
export const converse = (speech: Speech, link: StreamLink, stream: Afterwards): Effect.Effect<void> =>
  link.quiet ? stream.conversed() : Effect.flatMap(step(speech, link), () => converse(speech, link, stream))

const step = (speech: Speech, link: StreamLink): Effect.Effect<void> => {
  const wake = link.takeWake()
  if (wake !== undefined) return sayWake(speech, link, wake)
  const envelopes = link.outgoing()
  if (envelopes.length > 0) return say(speech, link, envelopes)
  return link.awaitWork()
}

const sayWake = ({ bus }: Speech, link: StreamLink, wake: Wake): Effect.Effect<void> =>
  Effect.map(publish(bus, link.actors, [wake], "one"), (failed) => {
    if (failed !== undefined) link.sleeper?.onUnheard(failed)
  })

const say = ({ bus, insist }: Speech, link: StreamLink, envelopes: ReadonlyArray<Envelope>): Effect.Effect<void> => {
  const { attachments } = link
  const hub = link.hub as Subject
  return Effect.flatMap(publish(bus, hub, envelopes, "each"), (failed) => {
    if (failed === undefined) return Effect.void
    // The last word is noted by `break` and gets its own attempt. What was meant for an attachment that is over is sent again in the next.
    const settle = () => {
      const current = !link.over && !link.asleep && link.attachments === attachments
      if (current) link.break("runner_lost", "publish_failed")
    }
    // A gateway that goes on renewing its lease would keep a route alive that nobody waits for: the last word has to arrive.
    return envelopes.some(isLastWord) ? Effect.map(insist(hub, envelopes), settle) : Effect.sync(settle)
  })
}

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
