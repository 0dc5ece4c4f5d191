/**
 * A bus that goes wrong by chance: publishes fail before or after they arrived, or half way; envelopes come late, twice, out of order, or never.
 * It stands in front of a real one, and its waits are on Effect time. Give it a seeded chance, and a seed repeats what happened.
 */
import { Effect, type Scope } from "effect"
import { BusError, type MessageBus } from "../bus/MessageBus.ts"
import type { Subject } from "../bus/Subject.ts"

/** A number from 0 to below 1. */
export type Chance = () => number

/** How often each fault befalls a publish, from 0 for never to 1 for always. They are tried in this order, and the first that hits is it. */
export interface BusFaults {
  /** Fails, and nothing has arrived. */
  readonly fail: number
  /** Fails, and the first half has arrived. */
  readonly failHalfWay: number
  /** Fails, and everything has arrived. */
  readonly failAfter: number
  /** Succeeds, and nothing ever arrives. Whoever loses envelopes like that loses the ends of streams too: see `docs/internals/simulation.md`. */
  readonly drop: number
  /** Arrives twice. */
  readonly repeat: number
  /** Succeeds at once and arrives up to `delayMsMax` later, behind what is published meanwhile. */
  readonly late: number
  /** Takes up to `delayMsMax` and arrives then. */
  readonly slow: number
  readonly delayMsMax: number
}

/** What may befall a publish. */
export type BusFault = Exclude<keyof BusFaults, "delayMsMax">

/** No fault at all. */
export const faultless: BusFaults = {
  fail: 0,
  failHalfWay: 0,
  failAfter: 0,
  drop: 0,
  repeat: 0,
  late: 0,
  slow: 0,
  delayMsMax: 0
}

const kinds: ReadonlyArray<BusFault> = ["fail", "failHalfWay", "failAfter", "drop", "repeat", "late", "slow"]

/** The bus with faults in front. `faults` is asked at every publish, so that they may begin and end; `onFault` is told of each. What arrives late is the scope's. */
export const make = Effect.fnUntraced(function* (
  inner: MessageBus["Service"],
  faults: () => BusFaults,
  chance: Chance,
  onFault: (kind: BusFault, subject: Subject) => void = () => {}
): Effect.fn.Return<MessageBus["Service"], never, Scope.Scope> {
  const scope = yield* Effect.scope
  const draw = (): BusFault | undefined => {
    const present = faults()
    let left = chance()
    for (const kind of kinds) {
      left -= present[kind]
      if (left < 0) return kind
    }
    return undefined
  }
  return {
    ...inner,
    publish: (subject, envelopes, delivery) =>
      Effect.suspend(() => {
        const whole = inner.publish(subject, envelopes, delivery)
        const failure = Effect.fail(new BusError({ subject, reason: "Disconnected" }))
        const delay = () => Math.floor(chance() * faults().delayMsMax)
        const kind = draw()
        if (kind !== undefined) onFault(kind, subject)
        switch (kind) {
          case undefined:
            return whole
          case "fail":
            return failure
          case "failHalfWay":
            return Effect.andThen(
              inner.publish(subject, envelopes.slice(0, Math.ceil(envelopes.length / 2)), delivery),
              failure
            )
          case "failAfter":
            return Effect.andThen(whole, failure)
          case "drop":
            return Effect.void
          case "repeat":
            return Effect.andThen(whole, Effect.ignore(whole))
          case "late":
            return Effect.asVoid(Effect.forkIn(Effect.delay(Effect.ignore(whole), delay()), scope))
          case "slow":
            return Effect.delay(whole, delay())
        }
      })
  }
})
