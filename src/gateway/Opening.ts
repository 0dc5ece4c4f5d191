/**
 * The first frame of a stream, to whichever hub takes it. Where none listens for the name, `no_runner` is the answer at once, but for two cases: a hub
 * keeps the place of a runner whose connection broke a moment ago; or the hub that served the name lately is gone itself, and what it had
 * is on its way to another. Actors know the second only.
 */
import { Effect } from "effect"
import type { BusError, MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import type { Envelope } from "../tunnel/Envelope.ts"
import type { RequestFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { LatelyServed } from "./LatelyServed.ts"
import type { StreamLink } from "./StreamLink.ts"
import type { Admitted } from "./StreamRecord.ts"

/** What an opening needs of its gateway. */
export interface OpeningParts {
  readonly bus: MessageBus["Service"]
  readonly namespace: string
  readonly gatewayId: number
  readonly lately: LatelyServed
  /** Milliseconds of a clock that never jumps. */
  readonly nowMs: () => number
}

const nobody = (error: BusError) => error.reason === "NoResponders"

/** What follows the opening of a stream. */
interface Opened {
  /** A hub has it. */
  readonly taken: () => Effect.Effect<void>
  /** No hub is known to have it, and the link is over. One that has it all the same, and has not spoken yet, is told when it does. */
  readonly lost: (reason: BusError["reason"]) => Effect.Effect<void>
}

/** Publishes a stream's opening frame, and goes on. */
export const openStream = (
  { bus, gatewayId, lately, namespace, nowMs }: OpeningParts,
  { name, subject }: Admitted,
  link: StreamLink,
  frame: RequestFrame,
  { lost, taken }: Opened
): Effect.Effect<void> => {
  const envelopes: ReadonlyArray<Envelope> = [link.opening(frame)]
  const renewal: ReadonlyArray<Envelope> = [{ _tag: "LeaseRenewal", gatewayId }]
  const connected = bus.publish(subject, envelopes, "one")

  /** Asked only where nobody was found: those who wait for a runner's return are not in line with those who have one. */
  const anywhere =
    name === ""
      ? connected
      : Effect.catchIf(connected, nobody, () => bus.publish(Subject.ofAway(namespace, name), envelopes, "one"))

  /** Whether the hub that served it last is gone. One that is there and does not listen means what it says. */
  const hubIsLost = (hub: Subject.Subject) =>
    Effect.match(bus.publish(hub, renewal, "one"), { onFailure: nobody, onSuccess: () => false })

  const again = (untilMs: number, error: BusError): Effect.Effect<void, BusError> =>
    Effect.suspend(() => {
      const hub = lately.hubOf(subject, nowMs())
      if (hub === undefined || link.over || nowMs() >= untilMs) return Effect.fail(error)
      return Effect.flatMap(hubIsLost(hub), (lost) => {
        // It may have come back, and its runner with it, since the name was asked for.
        if (!lost) return Effect.tapError(anywhere, () => Effect.sync(() => lately.forget(subject, hub)))
        return Effect.sleep(limits.askAgainEveryMs).pipe(
          Effect.andThen(anywhere),
          Effect.catchIf(nobody, (next) => again(untilMs, next))
        )
      })
    })

  const opened = Effect.catchIf(anywhere, nobody, (error) => again(nowMs() + limits.askAgainMs, error))
  return Effect.matchEffect(opened, {
    onSuccess: taken,
    onFailure: ({ reason }) => {
      // What is reported as lost has arrived where a hub has spoken for the stream: it goes on there, or ends there with a last word. Looked at in the same
      // step that ends the link: a word between the two would be heard by nobody.
      if (link.pin.hub !== undefined) return taken()
      link.finish()
      return lost(reason)
    }
  })
}
