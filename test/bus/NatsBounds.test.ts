/** The bus over a server that the test plays itself, on the test's clock: what waits for what, and for how long. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Metric, Queue, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as BusMetrics from "../../src/bus/BusMetrics.ts"
import * as EnvelopeCodec from "../../src/bus/EnvelopeCodec.ts"
import type { NatsAway, NatsConnection, NatsMessage, NatsQuestion } from "../../src/bus/NatsConnection.ts"
import { make } from "../../src/bus/NatsMessageBus.ts"
import type { Envelope } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { ending, numbered, numberOf } from "../contract/MessageBusContract.ts"

const atOnce = { startImmediately: true } as const
const settle = Effect.replicateEffect(Effect.yieldNow, 20, { discard: true })

/** A server that confirms when it is told to. */
class PlayedServer implements NatsConnection {
  readonly inbox = "_INBOX.test"
  readonly published: Array<{ readonly subject: string; readonly data: Uint8Array; readonly reply?: string }> = []
  readonly flushes: Array<Deferred.Deferred<void, NatsAway>> = []
  readonly listeners = new Map<string, (message: NatsMessage) => void>()
  abandoned = 0
  losses = 0
  /** What was published most recently has left for the server; where it has not, a loss tells. */
  left = true
  private readonly unsent: Array<() => void> = []
  connected = true
  private readonly turns = Effect.runSync(Queue.unbounded<boolean>())
  readonly changes = Stream.fromQueue(this.turns)
  readonly flush = Effect.suspend(() => {
    const flush = Deferred.makeUnsafe<void, NatsAway>()
    this.flushes.push(flush)
    return Deferred.await(flush)
  })
  readonly isConnectedUnsafe = () => this.connected
  readonly lossesUnsafe = () => this.losses
  readonly payloadBytesMaxUnsafe = () => 1024 * 1024
  readonly abandonUnsafe = () => void this.abandoned++
  /** Where the next question is to be answered, if not by itself. */
  joinedTo: string | undefined
  readonly publishUnsafe = (subject: string, data: Uint8Array, question?: NatsQuestion) => {
    if (!this.left && question !== undefined) this.unsent.push(question.onUnsent)
    else this.published.push({ subject, data, ...(question === undefined ? {} : { reply: question.reply }) })
    if (this.joinedTo !== undefined) question?.onJoined?.(this.joinedTo)
  }
  readonly subscribeUnsafe = (subject: string, _group: string | undefined, listener: (m: NatsMessage) => void) => {
    this.listeners.set(subject, listener)
    return Effect.sync(() => this.listeners.delete(subject))
  }

  /** Answers the oldest flush that is under way. */
  readonly confirm = Effect.suspend(() => {
    const flush = this.flushes.shift()
    return flush === undefined ? Effect.die(new Error("no flush is under way")) : Deferred.succeed(flush, undefined)
  })
  change(connected: boolean) {
    return Effect.suspend(() => {
      if (!connected) this.losses++
      this.connected = connected
      for (const tell of this.unsent.splice(0)) tell()
      Queue.offerUnsafe(this.turns, connected)
      return settle
    })
  }
  /** Numbers of what was published on our own subjects. */
  get numbers(): ReadonlyArray<number> {
    return this.published.flatMap(({ data }) => EnvelopeCodec.decode(data) ?? []).map(numberOf)
  }
}

const bounds = { ...limits, inboxEnvelopesMax: 4 }
const played = Effect.gen(function* () {
  const server = new PlayedServer()
  const bus = yield* make(server, bounds)
  return { bus, server }
})

const large = (n: number): Envelope => ({
  _tag: "Uplink",
  replyTo: "",
  session: "",
  generation: 0,
  route: { gatewayId: 0, requestId: 0 },
  index: n,
  frame: { _tag: "ResponseChunk", body: new Uint8Array(1024 * 1024 - 200), finish: false }
})
const largeMax = limits.natsUnconfirmedBytesMax / (1024 * 1024)

describe("a publish", () => {
  it.effect("that is no last word has succeeded once it is on its way", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      yield* bus.publish("s", [numbered(1)], "each")
      assert.deepStrictEqual(server.numbers, [1])
      assert.deepStrictEqual(server.flushes, [])
    })
  )
  it.effect("of a last word leaves at once and has succeeded when the server confirmed it", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const fiber = yield* Effect.forkChild(bus.publish("s", [numbered(1), ending(2)], "each"), atOnce)
      assert.deepStrictEqual(server.numbers, [1, 2])
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      yield* server.confirm
      yield* Fiber.join(fiber)
    })
  )
  it.effect("shares its flush with all that wait, and those that come meanwhile share the next, at a distance", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const before = (yield* Metric.value(BusMetrics.flushes)).count
      const send = (n: number) => Effect.forkChild(bus.publish("s", [ending(n)], "each"), atOnce)
      const first = yield* Effect.forEach([1, 2, 3, 4, 5], send)
      yield* settle
      const second = yield* Effect.forEach([6, 7, 8], send)
      assert.deepStrictEqual(server.numbers, [1, 2, 3, 4, 5, 6, 7, 8])
      yield* settle
      assert.strictEqual(server.flushes.length, 1)
      yield* server.confirm
      yield* settle
      assert.isTrue(first.every((fiber) => fiber.pollUnsafe() !== undefined))
      assert.isTrue(second.every((fiber) => fiber.pollUnsafe() === undefined))
      assert.strictEqual(server.flushes.length, 0)
      yield* TestClock.adjust(limits.natsFlushSpacingMs)
      assert.strictEqual(server.flushes.length, 1)
      yield* server.confirm
      yield* Fiber.joinAll(second)
      assert.strictEqual((yield* Metric.value(BusMetrics.flushes)).count - before, 2)
    })
  )
  it.effect("waits where too much is unconfirmed, in line, and goes when the server has caught up", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      for (let i = 0; i < largeMax; i++) yield* bus.publish("s", [large(i)], "each")
      yield* bus.publish("s", [large(largeMax)], "each")
      const waiting = yield* Effect.forEach([largeMax + 1, largeMax + 2], (i) =>
        Effect.forkChild(bus.publish("s", [large(i)], "each"), atOnce)
      )
      yield* settle
      assert.strictEqual(server.numbers.length, largeMax + 1)
      yield* server.confirm
      yield* Fiber.joinAll(waiting)
      assert.deepStrictEqual(
        server.numbers,
        Array.from({ length: largeMax + 3 }, (_, i) => i)
      )
    })
  )
  it.effect("is Full when the server has not caught up in time, and is not sent afterwards", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      for (let i = 0; i <= largeMax; i++) yield* bus.publish("s", [large(i)], "each")
      const late = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(99)], "each")), atOnce)
      yield* TestClock.adjust(limits.publishTimeoutMs)
      assert.strictEqual((yield* Fiber.join(late)).reason, "Full")
      assert.strictEqual(server.abandoned, 1)
      assert.notInclude(server.numbers, 99)
    })
  )
  it.effect("is Disconnected where the server does not answer a flush, and another is looked for", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const fiber = yield* Effect.forkChild(Effect.flip(bus.publish("s", [ending(1)], "each")), atOnce)
      yield* TestClock.adjust(limits.publishTimeoutMs)
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "Disconnected")
      assert.strictEqual(server.abandoned, 1)
    })
  )
  it.effect("to each is Disconnected at once while the server is away, and nothing is kept for later", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      yield* server.change(false)
      for (const envelope of [numbered(1), ending(2)]) {
        assert.strictEqual((yield* Effect.flip(bus.publish("s", [envelope], "each"))).reason, "Disconnected")
      }
      yield* server.change(true)
      yield* bus.publish("s", [numbered(3)], "each")
      assert.deepStrictEqual(server.numbers, [3])
    })
  )
  it.effect("is not confirmed by a server that we have returned to", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const fiber = yield* Effect.forkChild(Effect.flip(bus.publish("s", [ending(1)], "each")), atOnce)
      yield* settle
      yield* server.change(false)
      yield* server.change(true)
      yield* server.confirm
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "Disconnected")
    })
  )
  it.effect("that was in line at a loss is Disconnected, and what comes after begins anew", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      for (let i = 0; i <= largeMax; i++) yield* bus.publish("s", [large(i)], "each")
      const late = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(99)], "each")), atOnce)
      yield* settle
      yield* server.change(false)
      assert.strictEqual((yield* Fiber.join(late)).reason, "Disconnected")
      yield* server.change(true)
      yield* bus.publish("s", [numbered(100)], "each")
      assert.notInclude(server.numbers, 99)
      assert.include(server.numbers, 100)
    })
  )
  it.effect("with an envelope too long for the server is Unsendable, and nothing of it is sent", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const tooLong = {
        ...large(1),
        frame: { _tag: "ResponseChunk", body: new Uint8Array(1024 * 1024), finish: false }
      }
      const batch = [numbered(0), tooLong as Envelope]
      assert.strictEqual((yield* Effect.flip(bus.publish("s", batch, "each"))).reason, "Unsendable")
      assert.strictEqual((yield* Effect.flip(bus.publish("s", [large(1), large(2)], "one"))).reason, "Unsendable")
      assert.deepStrictEqual(server.published, [])
    })
  )
})

describe("a publish to one", () => {
  /** Answers what was published last. */
  const answer = (server: PlayedServer, message: Partial<NatsMessage>) =>
    Effect.sync(() => {
      const { reply = "" } = server.published.at(-1) ?? {}
      server.listeners.get(`${server.inbox}.*`)?.({ subject: reply, data: new Uint8Array(0), ...message })
    })

  it.effect("has succeeded when it was taken, and not before", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const fiber = yield* Effect.forkChild(bus.publish("s", [numbered(1)], "one"), atOnce)
      yield* settle
      assert.isUndefined(fiber.pollUnsafe())
      assert.deepStrictEqual(server.flushes, [])
      yield* answer(server, {})
      yield* Fiber.join(fiber)
    })
  )
  for (const [title, message, reason] of [
    ["is NoResponders as soon as the server says so", { headers: { code: 503 } }, "NoResponders"],
    ["is Full where the inbox it came to was", { data: new Uint8Array([1]) }, "Full"]
  ] as const) {
    it.effect(title, () =>
      Effect.gen(function* () {
        const { bus, server } = yield* played
        const fiber = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(1)], "one")), atOnce)
        yield* answer(server, message)
        assert.strictEqual((yield* Fiber.join(fiber)).reason, reason)
      })
    )
  }
  it.effect("that left in one message with another shares its answer, also where the other is given up", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const ask = (n: number) => Effect.forkChild(Effect.exit(bus.publish("s", [numbered(n)], "one")), atOnce)
      const first = yield* ask(1)
      const { reply = "" } = server.published.at(-1) ?? {}
      server.joinedTo = reply
      const [second, third] = [yield* ask(2), yield* ask(3)]
      yield* Fiber.interrupt(first)
      yield* Fiber.interrupt(third)
      assert.isUndefined(second.pollUnsafe())
      server.listeners.get(`${server.inbox}.*`)?.({ subject: reply, data: new Uint8Array(0) })
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(second)))
      server.listeners.get(`${server.inbox}.*`)?.({ subject: reply, data: new Uint8Array([1]) })
    })
  )
  it.effect("that left in one message with another has its answer where that one was given up before they left", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const ask = (n: number) => Effect.forkChild(Effect.exit(bus.publish("s", [numbered(n)], "one")), atOnce)
      yield* Effect.flatMap(ask(1), Fiber.interrupt)
      const { reply = "" } = server.published.at(-1) ?? {}
      server.joinedTo = reply
      const both = [yield* ask(2), yield* ask(3)]
      yield* Fiber.interrupt(both[0] as (typeof both)[number])
      server.listeners.get(`${server.inbox}.*`)?.({ subject: reply, data: new Uint8Array(0) })
      assert.isTrue(Exit.isSuccess(yield* Fiber.join(both[1] as (typeof both)[number])))
    })
  )
  it.effect("that shares an answer is Timeout in its own time where none comes", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const first = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(1)], "one")), atOnce)
      yield* TestClock.adjust(1)
      server.joinedTo = server.published.at(-1)?.reply
      const second = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(2)], "one")), atOnce)
      yield* TestClock.adjust(limits.publishTimeoutMs - 1)
      assert.strictEqual((yield* Fiber.join(first)).reason, "Timeout")
      assert.isUndefined(second.pollUnsafe())
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* Fiber.join(second)).reason, "Timeout")
    })
  )
  it.effect("is Timeout where nobody acknowledges it, and a late acknowledgement is nobody's", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const fiber = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(1)], "one")), atOnce)
      yield* TestClock.adjust(limits.publishTimeoutMs)
      assert.strictEqual((yield* Fiber.join(fiber)).reason, "Timeout")
      yield* answer(server, {})
    })
  )
  it.effect("that was sent before a loss is Disconnected; one that was not waits for the server's return", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const sent = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(1)], "one")), atOnce)
      yield* server.change(false)
      assert.strictEqual((yield* Fiber.join(sent)).reason, "Disconnected")
      const waiting = yield* Effect.forkChild(bus.publish("s", [numbered(2)], "one"), atOnce)
      const asking = yield* Effect.forkChild(Effect.exit(bus.request("s", numbered(3))), atOnce)
      yield* TestClock.adjust(limits.answerMs)
      assert.isTrue(Exit.isFailure(yield* Fiber.join(asking)))
      assert.deepStrictEqual(server.numbers, [1])
      yield* server.change(true)
      assert.deepStrictEqual(server.numbers, [1, 2])
      yield* answer(server, {})
      yield* Fiber.join(waiting)
    })
  )
  it.effect("that had not left when the server went is asked again when it is back, and only then has been sent", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      server.left = false
      const gathered = yield* Effect.forkChild(bus.publish("s", [numbered(1)], "one"), atOnce)
      server.left = true
      yield* server.change(false)
      assert.isUndefined(gathered.pollUnsafe())
      yield* server.change(true)
      yield* TestClock.adjust(limits.natsRedialMs)
      assert.deepStrictEqual(server.numbers, [1])
      yield* answer(server, {})
      yield* Fiber.join(gathered)
    })
  )
  it.effect("that stood in line when the server went is asked again too", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      for (let i = 0; i <= largeMax; i++) yield* bus.publish("s", [large(i)], "each")
      const inLine = yield* Effect.forkChild(bus.publish("s", [numbered(99)], "one"), atOnce)
      yield* settle
      yield* server.change(false)
      yield* server.change(true)
      assert.notInclude(server.numbers, 99)
      yield* TestClock.adjust(limits.natsRedialMs)
      assert.include(server.numbers, 99)
      yield* answer(server, {})
      yield* Fiber.join(inLine)
    })
  )
  it.effect("to nobody is asked again for a moment after a return, and not at any other time", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      const nobody = answer(server, { headers: { code: 503 } })
      yield* server.change(false)
      yield* server.change(true)
      const early = yield* Effect.forkChild(bus.publish("s", [numbered(1)], "one"), atOnce)
      yield* nobody
      yield* TestClock.adjust(limits.natsRedialMs)
      assert.deepStrictEqual(server.numbers, [1, 1])
      yield* answer(server, {})
      yield* Fiber.join(early)
      yield* TestClock.adjust(limits.natsReturnMs)
      const late = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(2)], "one")), atOnce)
      yield* nobody
      assert.strictEqual((yield* Fiber.join(late)).reason, "NoResponders")
    })
  )
  it.effect("waits for the server's return no longer than for anything else", () =>
    Effect.gen(function* () {
      const { bus, server } = yield* played
      yield* server.change(false)
      const waiting = yield* Effect.forkChild(Effect.flip(bus.publish("s", [numbered(1)], "one")), atOnce)
      yield* TestClock.adjust(limits.publishTimeoutMs)
      assert.strictEqual((yield* Fiber.join(waiting)).reason, "Disconnected")
    })
  )
})

describe("an inbox", () => {
  const subscribed = Effect.gen(function* () {
    const { bus, server } = yield* played
    const subscribing = yield* Effect.forkChild(
      Effect.scoped(Effect.flatMap(bus.subscribe("s"), () => Effect.never)),
      atOnce
    )
    yield* settle
    return { bus, server, subscribing }
  })
  const deliver = (server: PlayedServer, kind: "each" | "one", envelopes: ReadonlyArray<Envelope>, reply = "") => {
    const [data] = EnvelopeCodec.encode(envelopes, { fill: 1024, max: 1024 }) as [Uint8Array]
    server.listeners.get(`s.${kind}.${EnvelopeCodec.layout}`)?.({ subject: "", data, reply })
  }
  it.effect("that is full drops and counts what is for each, and says so to whoever needs one", () =>
    Effect.gen(function* () {
      const { server } = yield* subscribed
      const before = (yield* Metric.value(BusMetrics.dropped)).count
      deliver(server, "one", [1, 2, 3].map(numbered), "r.1")
      deliver(server, "one", [4, 5].map(numbered), "r.2")
      deliver(server, "each", [6, 7, 8].map(numbered))
      deliver(server, "one", [numbered(9)], "r.3")
      assert.deepStrictEqual(
        server.published.map(({ data, subject }) => [subject, data.length]),
        [
          ["r.1", 0],
          ["r.2", 1],
          ["r.3", 1]
        ]
      )
      assert.strictEqual((yield* Metric.value(BusMetrics.dropped)).count - before, 2)
    })
  )
  it.effect("counts what does not decode, and goes on", () =>
    Effect.gen(function* () {
      const { server } = yield* subscribed
      const before = (yield* Metric.value(BusMetrics.undecodable)).count
      for (const kind of ["each", "one"]) {
        server.listeners.get(`s.${kind}.${EnvelopeCodec.layout}`)?.({
          subject: "",
          data: new Uint8Array([77]),
          reply: "r"
        })
      }
      deliver(server, "one", [numbered(1)], "r.1")
      assert.strictEqual((yield* Metric.value(BusMetrics.undecodable)).count - before, 2)
      assert.deepStrictEqual(
        server.published.map(({ subject }) => subject),
        ["r.1"]
      )
    })
  )
})
