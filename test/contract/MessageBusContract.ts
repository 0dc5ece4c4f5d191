/** What every bus owes gateways and hubs. Run it on a live clock: a real bus has one. */
import { assert, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, type Layer, Queue, type Scope, Stream, SubscriptionRef } from "effect"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import type { Envelope } from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"

/** An envelope that can be told apart. */
export const numbered = (n: number): Envelope => ({ _tag: "LeaseRenewal", gatewayId: n })

const uplink = (frame: ResponseFrame, index: number): Envelope => ({
  _tag: "Uplink",
  replyTo: "s.hub",
  session: "",
  generation: 0,
  route: { gatewayId: 0, requestId: 0 },
  index,
  frame
})

/** The same as a last word, which a bus confirms. */
export const ending = (n: number): Envelope => uplink({ _tag: "ResponseAbort", code: "cancelled", message: "" }, n)

const chunk = (body: Uint8Array): Envelope => uplink({ _tag: "ResponseChunk", body, finish: false }, 0)

/** The number of a `numbered` or an `ending`. */
export const numberOf = (envelope: Envelope): number => {
  if (envelope._tag === "LeaseRenewal") return envelope.gatewayId
  assert(envelope._tag === "Uplink")
  return envelope.index
}

/** The numbers of the next `n` envelopes. */
export const take = (stream: Stream.Stream<Envelope>, n: number) =>
  Effect.map(Stream.runCollect(Stream.take(stream, n)), (all) => all.map(numberOf))

const atOnce = { startImmediately: true } as const

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
          // A last word: only what the bus has confirmed has come before what another process does next.
          yield* bus.publish("s.ends", [numbered(1), ending(2)], "each")
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
  test(
    "delivers to a subscriber only what it subscribed for",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const each = yield* bus.subscribe("s.kinds", ["each"])
      assert.strictEqual((yield* Effect.flip(bus.publish("s.kinds", [numbered(1)], "one"))).reason, "NoResponders")
      const one = yield* bus.subscribe("s.kinds", ["one"])
      yield* bus.publish("s.kinds", [numbered(2)], "each")
      yield* bus.publish("s.kinds", [numbered(3)], "one")
      assert.deepStrictEqual(yield* take(each, 1), [2])
      assert.deepStrictEqual(yield* take(one, 1), [3])
    })
  )
  test(
    "keeps the order of publishes that are under way at once",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const inbox = yield* bus.subscribe("s.order")
      const frames = Array.from({ length: 300 }, (_, i) => (i % 3 === 0 ? ending(i) : numbered(i)))
      yield* Effect.forkScoped(
        Effect.forEach(frames, (frame) => Effect.forkChild(bus.publish("s.order", [frame], "each"), atOnce), {
          discard: true
        })
      )
      assert.deepStrictEqual(
        yield* take(inbox, 300),
        frames.map((_, i) => i)
      )
    })
  )
  test(
    "carries every byte of a batch that is larger than one message of a server",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const inbox = yield* bus.subscribe("s.large")
      const bodies = Array.from({ length: 40 }, (_, i) => new Uint8Array(64 * 1024).fill(i))
      const arrived = yield* Effect.forkScoped(Stream.runCollect(Stream.take(inbox, bodies.length)))
      yield* bus.publish("s.large", bodies.map(chunk), "each")
      const got = (yield* Fiber.join(arrived)).map((envelope) =>
        envelope._tag === "Uplink" && envelope.frame._tag === "ResponseChunk" ? envelope.frame.body : undefined
      )
      assert.isTrue(got.every((body, i) => Buffer.compare(body as Uint8Array, bodies[i] as Uint8Array) === 0))
    })
  )
  test(
    "asks one of those that respond, and brings its answer back",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const next = (by: number) => (question: Envelope) => Effect.succeed(numbered(numberOf(question) + by))
      yield* bus.respond("q.group", next(100))
      yield* bus.respond("q.group", next(200))
      const answers = yield* Effect.forEach(
        Array.from({ length: 100 }, (_, i) => i),
        (i) => Effect.map(bus.request("q.group", numbered(i)), (answer) => numberOf(answer) - i),
        { concurrency: 10 }
      )
      assert.sameMembers([...new Set(answers)], [100, 200])
    })
  )
  test(
    "says at once when there is nobody to ask, also while somebody subscribes to that subject",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      yield* bus.subscribe("q.nobody")
      const error = yield* Effect.flip(bus.request("q.nobody", numbered(1)))
      assert.deepInclude(error, { _tag: "BusError", reason: "NoResponders", subject: "q.nobody" })
      yield* Effect.scoped(bus.respond("q.nobody", Effect.succeed))
      assert.strictEqual((yield* Effect.flip(bus.request("q.nobody", numbered(1)))).reason, "NoResponders")
    })
  )
  test(
    "waits its time for an answer and no longer",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      yield* bus.respond("q.silent", () => Effect.never)
      assert.strictEqual((yield* Effect.flip(bus.request("q.silent", numbered(1)))).reason, "Timeout")
    })
  )
  test(
    "refuses questions beyond what a responder takes at once, and takes the next when one is answered",
    Effect.gen(function* () {
      const bus = yield* MessageBus
      const gate = yield* Deferred.make<void>()
      const asked = yield* Queue.unbounded<void>()
      yield* bus.respond("q.busy", (question) =>
        Queue.offer(asked, undefined).pipe(Effect.andThen(Deferred.await(gate)), Effect.as(question))
      )
      const ask = bus.request("q.busy", numbered(1))
      const waiting = yield* Effect.forEach(Array.from({ length: limits.questionsMax }), () =>
        Effect.forkChild(ask, atOnce)
      )
      yield* Effect.replicateEffect(Queue.take(asked), limits.questionsMax, { discard: true })
      assert.strictEqual((yield* Effect.flip(ask)).reason, "Full")
      yield* Deferred.succeed(gate, undefined)
      for (const fiber of waiting) yield* Fiber.join(fiber)
      assert.strictEqual(numberOf(yield* ask), 1)
    })
  )
  test(
    "is in reach",
    Effect.gen(function* () {
      assert.isTrue(yield* SubscriptionRef.get((yield* MessageBus).connected))
    })
  )
}
