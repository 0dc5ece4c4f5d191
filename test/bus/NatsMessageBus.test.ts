import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Context, Effect, Fiber, Layer, Metric, Option, Stream, SubscriptionRef } from "effect"
import * as BusMetrics from "../../src/bus/BusMetrics.ts"
import * as EnvelopeCodec from "../../src/bus/EnvelopeCodec.ts"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import { connect } from "../../src/bus/NatsConnection.ts"
import * as NatsMessageBus from "../../src/bus/NatsMessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { visit } from "../../src/testing/TestTunnel.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { ending, messageBusContract, numbered, numberOf, take } from "../contract/MessageBusContract.ts"
import { makeRandom } from "../fuzz/Mutation.ts"
import { chunk, fakeHub, head } from "../gateway/FakeHub.ts"
import * as Processes from "../journey/Processes.ts"
import { layerBetweenTwo, layerOnServer, natsStartTimeoutMs, requireNatsServer, startNatsServer } from "./NatsServer.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

messageBusContract("NatsMessageBus", layerOnServer)
messageBusContract("NatsMessageBus between two processes", layerBetweenTwo)

const busOn = (port: number) =>
  Effect.map(Layer.build(Layer.fresh(NatsMessageBus.layer({ servers: [`127.0.0.1:${port}`] }))), (built) =>
    Context.get(built, MessageBus)
  )
const untilConnected = (bus: MessageBus["Service"], wanted: boolean) =>
  Stream.runDrain(Stream.takeUntil(SubscriptionRef.changes(bus.connected), (connected) => connected === wanted))

it.live("a server that is killed and started again has all its subscribers and responders back", () =>
  Effect.gen(function* () {
    const server = yield* startNatsServer()
    const near = yield* busOn(server.port)
    const far = yield* busOn(server.port)
    const inbox = yield* near.subscribe("s")
    yield* near.respond("q", Effect.succeed)
    yield* far.publish("s", [numbered(1)], "one")
    yield* server.kill
    yield* Effect.all([untilConnected(near, false), untilConnected(far, false)])
    assert.strictEqual((yield* Effect.flip(far.publish("s", [numbered(2)], "each"))).reason, "Disconnected")
    const meanwhile = yield* near.subscribe("late")
    // What cannot have left yet waits for the server's return.
    const waiting = yield* Effect.forkChild(near.publish("s", [numbered(3)], "one"), { startImmediately: true })
    yield* startNatsServer({ port: server.port })
    yield* Effect.all([untilConnected(near, true), untilConnected(far, true)])
    yield* Fiber.join(waiting)
    yield* far.publish("s", [numbered(4), ending(5)], "each")
    yield* far.publish("s", [numbered(6)], "one")
    yield* far.publish("late", [numbered(7)], "one")
    assert.deepStrictEqual(yield* take(inbox, 5), [1, 3, 4, 5, 6])
    assert.deepStrictEqual(yield* take(meanwhile, 1), [7])
    assert.deepStrictEqual(yield* far.request("q", numbered(8)), numbered(8))
  }).pipe(Effect.scoped)
)

it.live("a server that stops answering is given up, and taken back when it answers again", () =>
  Effect.gen(function* () {
    const server = yield* startNatsServer()
    const bus = yield* busOn(server.port)
    const inbox = yield* bus.subscribe("s")
    yield* server.signal("SIGSTOP")
    const started = performance.now()
    const reason = Effect.map(Effect.flip(bus.publish("s", [ending(1)], "each")), (error) => error.reason)
    assert.strictEqual(yield* reason, "Disconnected")
    yield* untilConnected(bus, false)
    assert.isBelow(performance.now() - started, limits.publishTimeoutMs + 2 * limits.natsPingMs)
    yield* server.signal("SIGCONT")
    yield* untilConnected(bus, true)
    yield* bus.publish("s", [ending(2)], "each")
    // What the server held all the time may come now as well.
    const last = Stream.runLast(Stream.takeUntil(inbox, (envelope) => numberOf(envelope) === 2))
    assert.strictEqual(Option.getOrThrow(yield* last)._tag, "Uplink")
  }).pipe(Effect.scoped)
)

it.live("what one turn publishes to one subject is one message, in order also where a question stands between", () =>
  Effect.gen(function* () {
    const { port } = yield* startNatsServer()
    const near = yield* busOn(port)
    const far = yield* busOn(port)
    const inbox = yield* near.subscribe("s")
    const wire = yield* connect({ servers: [`127.0.0.1:${port}`] })
    const heard: Array<string> = []
    wire.subscribeUnsafe(`${Subject.onServer("s", "each", EnvelopeCodec.layout)}`, undefined, ({ subject }) => {
      heard.push(subject)
    })
    yield* wire.flush
    const each = (from: number, to: number) =>
      Effect.forEach(
        Array.from({ length: to - from }, (_, i) => numbered(from + i)),
        (envelope) => far.publish("s", [envelope], "each")
      )
    yield* each(0, 50)
    const question = yield* Effect.forkChild(far.publish("s", [numbered(50)], "one"), { startImmediately: true })
    yield* each(51, 100)
    yield* Fiber.join(question)
    assert.deepStrictEqual(
      yield* take(inbox, 100),
      Array.from({ length: 100 }, (_, i) => i)
    )
    yield* wire.flush
    assert.strictEqual(heard.length, 2)
  }).pipe(Effect.scoped)
)

it.live(
  "what one turn asks of one subject is few messages with one answer each, and questions of their own stay that",
  () =>
    Effect.gen(function* () {
      const { port } = yield* startNatsServer()
      const near = yield* busOn(port)
      const far = yield* busOn(port)
      const inbox = yield* near.subscribe("s")
      yield* near.respond("s", (question) => Effect.succeed(question))
      const wire = yield* connect({ servers: [`127.0.0.1:${port}`] })
      const heard = { one: 0, ask: 0 }
      for (const kind of ["one", "ask"] as const) {
        wire.subscribeUnsafe(
          `${Subject.onServer("s", kind, EnvelopeCodec.layout)}`,
          undefined,
          () => void heard[kind]++
        )
      }
      yield* wire.flush
      const ask = (n: number) => far.request("s", numbered(n))
      const [, answers] = yield* Effect.all(
        [
          Effect.forEach(
            Array.from({ length: 40 }, (_, i) => numbered(i)),
            (envelope) => far.publish("s", [envelope], "one"),
            { concurrency: "unbounded", discard: true }
          ),
          Effect.forEach([100, 101, 102], ask, { concurrency: "unbounded" })
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(answers.map(numberOf), [100, 101, 102])
      assert.deepStrictEqual(
        yield* take(inbox, 40),
        Array.from({ length: 40 }, (_, i) => i)
      )
      yield* wire.flush
      // 16, 16 and 8.
      assert.deepStrictEqual(heard, { one: 3, ask: 3 })
    }).pipe(Effect.scoped)
)

it.live("what one turn says to one subject is joined up to natsJoinedBytesMax", () =>
  Effect.gen(function* () {
    const { port } = yield* startNatsServer()
    const wire = yield* connect({ servers: [`127.0.0.1:${port}`] })
    const lengths: Array<number> = []
    wire.subscribeUnsafe("s", undefined, ({ data }) => void lengths.push(data.length))
    yield* wire.flush
    const piece = new Uint8Array(limits.natsJoinedBytesMax / 2)
    for (let i = 0; i < 5; i++) wire.publishUnsafe("s", piece, undefined)
    wire.publishUnsafe("s", new Uint8Array(piece.length + 1), undefined)
    yield* wire.flush
    assert.deepStrictEqual(lengths, [2 * piece.length, 2 * piece.length, piece.length, piece.length + 1])
  }).pipe(Effect.scoped)
)

it.live("last words of many streams share their flushes: fewer than one for ten", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    const before = (yield* Metric.value(BusMetrics.flushes)).count
    const stream = Effect.replicateEffect(bus.publish("s", [ending(1)], "each"), 25, { discard: true })
    yield* Effect.replicateEffect(stream, 32, { concurrency: "unbounded", discard: true })
    const flushes = (yield* Metric.value(BusMetrics.flushes)).count - before
    assert.isAtLeast(flushes, 1)
    assert.isBelow(flushes, (25 * 32) / 10)
  }).pipe(Effect.scoped, Effect.provide(layerOnServer))
)

describe("a gateway whose inbox is flooded by one stream", () => {
  const inboxEnvelopesMax = 64
  const small = Layer.unwrap(
    Effect.map(startNatsServer(), ({ port }) =>
      NatsMessageBus.layer({ servers: [`127.0.0.1:${port}`] }, { inboxEnvelopesMax })
    )
  ).pipe(Layer.orDie)

  it.live("resets that stream over the gap, and the one beside it goes on", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const flooded = yield* visit({ target: "/flooded" })
      const noisy = yield* hub.next
      const beside = yield* visit({ target: "/beside" })
      const quiet = yield* hub.next
      yield* quiet.reply(head(true), chunk("one "))
      const before = (yield* Metric.value(BusMetrics.dropped)).count
      // One message of the server, so all of it arrives before anybody can take anything.
      yield* noisy.reply(head(true), ...Array.from({ length: 2 * inboxEnvelopesMax }, () => chunk("x")))
      yield* Processes.within(
        2_000,
        Effect.suspend(() => (flooded.visitor.text.length > 0 ? Effect.void : Effect.fail(new Error("nothing yet"))))
      )
      yield* noisy.reply(chunk("after the gap"))
      assert.deepInclude(yield* noisy.next, { _tag: "RequestAbort", code: "gap" })
      yield* Fiber.join(flooded.served)
      assert.strictEqual(flooded.visitor.answer.state, "broken")
      assert.isAtLeast((yield* Metric.value(BusMetrics.dropped)).count - before, inboxEnvelopesMax)
      yield* quiet.reply(chunk("two", true))
      yield* Fiber.join(beside.served)
      assert.strictEqual(beside.visitor.text, "one two")
      assert.strictEqual(beside.visitor.answer.state, "complete")
    }).pipe(Effect.scoped, Effect.provide(gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(small))))
  )
})

const seed = 2_718
it.live(
  `no name reaches what was meant for another, whatever it is made of (seed ${seed})`,
  () =>
    Effect.gen(function* () {
      const random = makeRandom(seed)
      const pieces = [
        ".",
        "*",
        ">",
        " ",
        "\t",
        "\r\n",
        "a",
        "A",
        "=",
        "==",
        "61",
        "ä",
        "€",
        "😀",
        "\u0000",
        "one",
        "each",
        "name",
        "$SYS"
      ]
      const name = (): string => {
        const length = random.below(4) === 0 ? 1024 : random.below(6)
        let text = ""
        while (text.length < length || text === "") text += pieces[random.below(pieces.length)]
        return text
      }
      const made = Array.from({ length: 60 }, name)
      const names = [...new Set([...made, "*", ">", "a.>", "x".repeat(1024), "x".repeat(1025)])]
      const bus = yield* MessageBus
      const subjects = names.map((one) => Subject.ofName("default", one))
      const inboxes = yield* Effect.forEach(subjects, (subject) => bus.subscribe(subject), { concurrency: "unbounded" })
      for (const [i, subject] of subjects.entries()) {
        yield* bus.publish(subject, [numbered(i)], "each")
        yield* bus.publish(subject, [numbered(i)], "one")
      }
      // What does not belong to anybody here reaches nobody.
      for (let i = 0; i < 40; i++) {
        const stranger = `${name()}!`
        const error = yield* Effect.flip(bus.publish(Subject.ofName("default", stranger), [numbered(9_999)], "one"))
        assert.strictEqual(error.reason, "NoResponders")
        yield* bus.publish(Subject.ofName("default", stranger), [numbered(9_999)], "each")
        yield* bus.publish(Subject.ofName(name(), names[i] as string), [numbered(9_999)], "each")
      }
      for (const subject of subjects) yield* bus.publish(subject, [ending(1_000)], "each")
      for (const [i, inbox] of inboxes.entries()) assert.deepStrictEqual(yield* take(inbox, 3), [i, i, 1_000], names[i])
    }).pipe(Effect.scoped, Effect.provide(layerOnServer)),
  30_000
)
