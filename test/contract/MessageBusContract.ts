/** What every bus owes gateways and hubs. Run it on a live clock: a real bus has one. */
import { assert, it } from "@effect/vitest"
import { Effect, Fiber, type Layer, Queue, type Scope, Stream } from "effect"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import type { Envelope } from "../../src/tunnel/Envelope.ts"

/** An envelope that can be told apart. */
export const numbered = (n: number): Envelope => ({ _tag: "LeaseRenewal", gatewayId: n })

const take = (stream: Stream.Stream<Envelope>, n: number) =>
  Effect.map(Stream.runCollect(Stream.take(stream, n)), (all) =>
    all.map((envelope) => (envelope._tag === "LeaseRenewal" ? envelope.gatewayId : -1))
  )

export const messageBusContract = (name: string, layer: Layer.Layer<MessageBus>): void => {
  const test = (title: string, body: Effect.Effect<void, unknown, MessageBus | Scope.Scope>) =>
    it.live(`${name}: ${title}`, () => body.pipe(Effect.scoped, Effect.provide(layer)))

  test(
    "delivers a batch together and in order to a subscriber",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const inbox = yield* bus.subscribe("s.one")
      yield* bus.publish("s.one", [numbered(1), numbered(2)], "each")
      yield* bus.publish("s.one", [numbered(3)], "each")
      assert.deepStrictEqual(yield* take(inbox, 3), [1, 2, 3])
    })
  )
  test(
    "delivers to each subscriber of a subject, and to none of another",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const first = yield* bus.subscribe("s.all")
      const second = yield* bus.subscribe("s.all")
      const other = yield* bus.subscribe("s.other")
      yield* bus.publish("s.all", [numbered(1)], "each")
      yield* bus.publish("s.other", [numbered(2)], "each")
      assert.deepStrictEqual(yield* take(first, 1), [1])
      assert.deepStrictEqual(yield* take(second, 1), [1])
      assert.deepStrictEqual(yield* take(other, 1), [2])
    })
  )
  test(
    "delivers to one of a group, and shares the work",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const first = yield* bus.subscribe("s.group")
      const second = yield* bus.subscribe("s.group")
      const taken = yield* Queue.unbounded<"first" | "second">()
      const note = (stream: Stream.Stream<Envelope>, who: "first" | "second") =>
        Effect.forkScoped(Stream.runForEach(stream, () => Queue.offer(taken, who)))
      yield* note(first, "first")
      yield* note(second, "second")
      for (let i = 0; i < 100; i++) yield* bus.publish("s.group", [numbered(i)], "one")
      const who = yield* Effect.replicateEffect(Queue.take(taken), 100)
      assert.includeMembers([...who], ["first", "second"])
      assert.strictEqual(yield* Queue.size(taken), 0)
    })
  )
  test(
    "says at once when there is nobody to take what one must take, and does not mind otherwise",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const error = yield* Effect.flip(bus.publish("s.nobody", [numbered(1)], "one"))
      assert.deepInclude(error, { _tag: "BusError", reason: "NoResponders", subject: "s.nobody" })
      yield* bus.publish("s.nobody", [numbered(1)], "each")
    })
  )
  test(
    "hands out what came before a subscription ended, then ends its stream",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const inbox = yield* Effect.scoped(
        Effect.gen(function* () {
          const stream = yield* bus.subscribe("s.ends")
          yield* bus.publish("s.ends", [numbered(1), numbered(2)], "each")
          return stream
        })
      )
      const all = yield* Stream.runCollect(inbox)
      assert.strictEqual(all.length, 2)
      assert.strictEqual((yield* Effect.flip(bus.publish("s.ends", [numbered(3)], "one"))).reason, "NoResponders")
    })
  )
  test(
    "wakes a subscriber that waits",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const inbox = yield* bus.subscribe("s.wait")
      const fiber = yield* Effect.forkScoped(take(inbox, 1))
      yield* Effect.yieldNow
      yield* bus.publish("s.wait", [numbered(5)], "each")
      assert.deepStrictEqual(yield* Fiber.join(fiber), [5])
    })
  )
}
