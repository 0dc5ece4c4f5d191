import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Stream } from "effect"
import { TestClock } from "effect/testing"
import { layerMemory, layerMemoryWith, MessageBus } from "../../src/bus/MessageBus.ts"
import { messageBusContract, numbered } from "../contract/MessageBusContract.ts"

messageBusContract("layerMemory", layerMemory)

const small = layerMemoryWith({ inboxEnvelopesMax: 2, publishTimeoutMs: 5_000 })

it.effect("a publish waits for a full inbox, and has succeeded once there was room", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    const inbox = yield* bus.subscribe("s")
    yield* bus.publish("s", [numbered(1), numbered(2)], "each")
    const third = yield* Effect.forkChild(bus.publish("s", [numbered(3)], "each"))
    yield* Effect.yieldNow
    assert.isUndefined(third.pollUnsafe())
    assert.strictEqual((yield* Stream.runCollect(Stream.take(inbox, 3))).length, 3)
    yield* Fiber.join(third)
  }).pipe(Effect.scoped, Effect.provide(small))
)

it.effect("a publish fails once an inbox stayed full for its deadline", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    yield* bus.subscribe("s")
    yield* bus.publish("s", [numbered(1), numbered(2)], "each")
    const third = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(3)], "each")))
    yield* TestClock.adjust("5 seconds")
    assert.strictEqual((yield* Fiber.join(third)).reason, "Full")
  }).pipe(Effect.scoped, Effect.provide(small))
)
