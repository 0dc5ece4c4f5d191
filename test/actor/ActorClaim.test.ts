import { assert, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import * as ActorClaim from "../../src/actor/ActorClaim.ts"
import { BusError, layerMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const claim = (holder: string, namespace = "default") =>
  Effect.map(Layer.build(Layer.fresh(ActorClaim.layer({ holder, namespace }))), (built) =>
    Context.get(built, ActorClaim.ActorClaim)
  )

const settle = Effect.replicateEffect(Effect.yieldNow, 20, { discard: true })

it.effect("the first has the actors, and the next is told who has them", () =>
  Effect.gen(function* () {
    yield* claim("one")
    const error = yield* Effect.flip(claim("two"))
    assert.match(error.message, /controlled by one \([0-9a-f]{8}\) already\. Give --actors-file to one process/)
    yield* claim("three", "elsewhere")
  }).pipe(Effect.scoped, Effect.provide(layerMemory))
)

it.effect("whoever lets go of them leaves them to the next", () =>
  Effect.gen(function* () {
    yield* Effect.scoped(claim("one"))
    yield* Effect.scoped(claim("two"))
  }).pipe(Effect.provide(layerMemory))
)

it.effect("a holder that does not answer is a holder", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    yield* bus.respond("wayleave.default.claim", () => Effect.never)
    const waiting = yield* Effect.forkChild(Effect.flip(claim("two")), { startImmediately: true })
    yield* TestClock.adjust(limits.answerMs)
    assert.strictEqual((yield* Fiber.join(waiting)).holder, "")
  }).pipe(Effect.scoped, Effect.provide(layerMemory))
)

/** Nobody hears a question, as when two begin in the same moment, or on two sides of a broken network. */
const deaf = Layer.effect(
  MessageBus,
  Effect.map(MessageBus, (bus) => ({
    ...bus,
    request: (subject: string) => Effect.fail(new BusError({ subject, reason: "NoResponders" }))
  }))
).pipe(Layer.provideMerge(layerMemory))

it.effect("of two that did not hear of each other the younger gives way as soon as they do", () =>
  Effect.gen(function* () {
    const elder = yield* claim("elder")
    yield* TestClock.adjust(1)
    const younger = yield* claim("younger")
    const keeps = yield* Effect.forkChild(elder.lost, { startImmediately: true })
    const gives = yield* Effect.forkChild(Effect.flip(younger.lost), { startImmediately: true })
    yield* TestClock.adjust(limits.actorClaimMs)
    yield* settle
    assert.match((yield* Fiber.join(gives)).holder, /^elder /)
    yield* TestClock.adjust(10 * limits.actorClaimMs)
    assert.isUndefined(keeps.pollUnsafe())
  }).pipe(Effect.scoped, Effect.provide(deaf))
)

it.effect("of two that began in the same moment one gives way and one stays", () =>
  Effect.gen(function* () {
    const [one, other] = yield* Effect.all([claim("alike"), claim("alike")])
    const ends = yield* Effect.forEach([one, other], ({ lost }) =>
      Effect.forkChild(Effect.flip(lost), { startImmediately: true })
    )
    yield* TestClock.adjust(10 * limits.actorClaimMs)
    yield* settle
    assert.strictEqual(ends.filter((fiber) => fiber.pollUnsafe() !== undefined).length, 1)
  }).pipe(Effect.scoped, Effect.provide(deaf))
)
