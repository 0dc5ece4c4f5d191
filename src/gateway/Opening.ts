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

/** Publishes a stream's opening frame. Fails where no hub is known to have it; one that has it all the same, and has not spoken yet, is told when it does. */
export const publishOpening = (
  { bus, gatewayId, lately, namespace, nowMs }: OpeningParts,
  { name, subject }: Admitted,
  link: StreamLink,
  frame: RequestFrame
): Effect.Effect<void, BusError> => {
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

  /** What is reported as lost has arrived where a hub has spoken for the stream meanwhile: it goes on there, or ends there with a last word. */
  const unlessTaken = (error: BusError) => (link.pin.hub === undefined ? Effect.fail(error) : Effect.void)

  return Effect.catch(anywhere, (error) => {
    const failed = nobody(error) ? again(nowMs() + limits.askAgainMs, error) : Effect.fail(error)
    return Effect.catch(failed, unlessTaken)
  })
}
