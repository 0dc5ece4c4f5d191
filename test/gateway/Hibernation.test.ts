import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Metric, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import * as RivetId from "../../src/actor/RivetId.ts"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { Gateway } from "../../src/gateway/Gateway.ts"
import * as GatewayMetrics from "../../src/gateway/GatewayMetrics.ts"
import type { MessageSocket } from "../../src/socket/MessageSocket.ts"
import { MemoryUpgrade } from "../../src/testing/MemoryVisitor.ts"
import type { Envelope, RouteKey, Uplink } from "../../src/tunnel/Envelope.ts"
import type { AbortCode, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { SendSequence } from "../../src/tunnel/Sequence.ts"
import { actorHub, bytes, type Conversation, fakeHub, gatewayAlone, settle, text } from "./FakeHub.ts"

const id = RivetId.make(new Uint8Array(16).fill(7))
const accept = (canHibernate = true): ResponseFrame => ({ _tag: "WebSocketOpen", headers: [], canHibernate })
const sleep: ResponseFrame = { _tag: "WebSocketClose", code: null, reason: "", hibernate: true }
const close = (code: number, reason = ""): ResponseFrame => ({ _tag: "WebSocketClose", code, reason, hibernate: false })
const message = (data: string, finish = true): ResponseFrame => ({
  _tag: "WebSocketMessage",
  data: text(data),
  binary: false,
  finish
})
const ack = (index: number): ResponseFrame => ({ _tag: "WebSocketMessageAck", index })
const credit = (amount: number = limits.windowBytesInitial): ResponseFrame => ({ _tag: "Credit", bytes: amount })

/** The other end of a socket after a wake: another session, counting anew. */
class Attachment {
  readonly session: string
  private readonly sequence = new SendSequence()
  private readonly app: Conversation
  private readonly hub: string

  constructor(app: Conversation, hub: string, session = "b".repeat(32)) {
    this.app = app
    this.hub = hub
    this.session = session
  }

  reply(...frames: ReadonlyArray<ResponseFrame>): Effect.Effect<void> {
    const uplinks = frames.map(
      (frame): Uplink => ({
        _tag: "Uplink",
        replyTo: this.hub,
        session: this.session,
        generation: 1,
        route: this.app.opening.route,
        index: this.sequence.indexOf(frame),
        frame
      })
    )
    return this.app.publish(...uplinks)
  }
}

/** The hub's own word on a route that has no session. */
const say = (app: Conversation, frame: ResponseFrame) =>
  app.publish(app.uplink(frame, { session: "", generation: 0, index: 0 }))
const refuse = (app: Conversation, code: AbortCode) => say(app, { _tag: "ResponseAbort", code, message: "" })

const send = (socket: MessageSocket, ...words: ReadonlyArray<string>) => {
  for (const word of words) socket.sendUnsafe(text(word), { binary: false, finish: true })
}

/** What a hub was told, in short: the wake's number, the words, the close. Credit is left out. */
const short = (envelopes: ReadonlyArray<Envelope>): ReadonlyArray<string> =>
  envelopes.flatMap((envelope) => {
    if (envelope._tag === "Wake") return [`wake ${envelope.index}`]
    if (envelope._tag !== "Downlink" || envelope.frame._tag === "Credit") return []
    const { frame } = envelope
    if (frame._tag === "WebSocketMessage") return [Buffer.from(frame.data).toString()]
    if (frame._tag === "WebSocketClose") return [`close ${frame.code}`]
    return [frame._tag === "RequestAbort" ? `abort ${frame.code}` : frame._tag]
  })

interface Opened {
  readonly target?: string
  readonly named?: boolean
  readonly canHibernate?: boolean
}

const open = Effect.fnUntraced(function* (options: Opened = {}) {
  const hub = yield* options.named === true ? fakeHub() : actorHub()
  const gateway = yield* Gateway
  const visitor = new MemoryUpgrade({
    target: options.target ?? `/gateway/${id}/chat`,
    headers: [["Host", options.named === true ? "web.localhost" : "localhost"]]
  })
  const fiber = yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
  const app = yield* hub.next
  yield* app.reply(accept(options.canHibernate ?? true))
  const answer = yield* visitor.answered
  if (answer._tag !== "Accepted") return assert.fail(answer._tag)
  yield* hub.told
  return { hub, app, visitor, fiber, socket: answer.socket, gateway }
})

/** A socket whose actor sleeps. */
const asleep = Effect.gen(function* () {
  const all = yield* open()
  yield* all.app.reply(sleep)
  yield* settle
  return all
})

const closeOf = (socket: MessageSocket) =>
  Effect.map(Effect.flip(Effect.forever(socket.pull)), ({ code, reason }) => [code, reason] as const)

const wordsOf = (socket: MessageSocket) =>
  Effect.map(socket.pull, (batch) => batch.map(({ data }) => Buffer.from(data).toString()))

const atRest = Effect.gen(function* () {
  const gateway = yield* Gateway
  yield* settle
  assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
})

const gauge = (metric: Metric.Metric<number, Metric.GaugeState<number>>) =>
  Effect.map(Metric.value(metric), ({ value }) => value)

/** Each test has a gateway and metrics of its own. */
const test = <E>(name: string, body: Effect.Effect<void, E, Gateway | MessageBus | Scope.Scope>) =>
  it.effect(name, () =>
    body.pipe(Effect.provide(gatewayAlone()), Effect.provideService(Metric.MetricRegistry, new Map() as never))
  )

describe("a WebSocket whose actor sleeps", () => {
  test(
    "stays open and silent, keeps its place in the table and its hub's lease, and is counted",
    Effect.gen(function* () {
      const { hub, gateway, socket } = yield* asleep
      assert.isUndefined(socket.closedUnsafe())
      assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [1, 1])
      assert.strictEqual(yield* gauge(GatewayMetrics.socketsAsleep), 1)
      yield* TestClock.adjust("10 minutes")
      yield* settle
      assert.isUndefined(socket.closedUnsafe())
      assert.isAbove(hub.leases.length, 50)
      assert.lengthOf(yield* hub.wakes, 0)
      assert.deepStrictEqual(short(yield* hub.told), [])
    })
  )

  test(
    "wakes it for a message, which is not lost, and asks for no second opening",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "one")
      const wake = yield* hub.wake
      assert.deepStrictEqual(wake, {
        _tag: "Wake",
        replyTo: app.opening.replyTo,
        name: "",
        actor: id,
        route: app.opening.route,
        index: 1
      })
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), [])
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit(), message("hello"))
      assert.deepStrictEqual(yield* wordsOf(socket), ["hello"])
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "one"])
      assert.strictEqual(yield* gauge(GatewayMetrics.socketsAsleep), 0)
      send(socket, "two")
      yield* settle
      const told = yield* hub.told
      assert.deepStrictEqual(short(told), ["two"])
      assert.deepInclude(told[0], { _tag: "Downlink", index: 1 })
    })
  )

  test(
    "sends again what was not acknowledged, in order and from its number, then goes on",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      send(socket, "1", "2", "3", "4")
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["1", "2", "3", "4"])
      yield* app.reply(ack(2), sleep)
      assert.strictEqual((yield* hub.wake).index, 3)
      send(socket, "5")
      yield* settle
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit())
      yield* settle
      const told = yield* hub.told
      assert.deepStrictEqual(short(told), ["wake 3", "3", "4", "5"])
      assert.deepStrictEqual(
        told.map((envelope) => (envelope._tag === "Downlink" ? envelope.index : "-")),
        ["-", 0, 1, 2]
      )
      yield* next.reply(ack(5))
      yield* settle
      assert.strictEqual(yield* gauge(GatewayMetrics.unacknowledgedBytes), 0)
      yield* next.reply(sleep)
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
    })
  )

  test(
    "keeps its numbers over 65,535 to 0, through a sleep on either side of it",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      yield* app.reply(credit(1_000_000_000))
      let sent = 0
      const sendUpTo = Effect.fnUntraced(function* (last: number) {
        while (sent < last) send(socket, `${++sent}`)
        yield* settle
      })
      while (sent < 65_500) {
        yield* sendUpTo(Math.min(sent + 2_000, 65_500))
        while ((yield* hub.told).length > 0) yield* settle
        yield* app.reply(ack(sent))
        yield* settle
      }
      yield* sendUpTo(65_534)
      yield* app.reply(ack(65_533), sleep)
      assert.strictEqual((yield* hub.wake).index, 65_534)
      yield* hub.told
      const first = new Attachment(app, hub.hub)
      yield* first.reply(credit())
      yield* sendUpTo(65_538)
      assert.deepStrictEqual(short(yield* hub.told), ["wake 65534", "65534", "65535", "65536", "65537", "65538"])
      // The numbers of those are 65,534, 65,535, 0, 1 and 2.
      yield* first.reply(ack(65_535), sleep)
      assert.strictEqual((yield* hub.wake).index, 0)
      const second = new Attachment(app, hub.hub)
      yield* second.reply(credit(), ack(65_535), ack(1))
      assert.deepStrictEqual(short(yield* hub.told), ["wake 0", "65536", "65537", "65538"])
      yield* second.reply(sleep)
      assert.strictEqual((yield* hub.wake).index, 2)
      yield* new Attachment(app, hub.hub).reply(credit())
      assert.deepStrictEqual(short(yield* hub.told), ["wake 2", "65538"])
    })
  )

  test(
    "sends again whole what had gone in part, and only as far as the new credit reaches",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      const large = limits.windowBytesInitial + 100
      socket.sendUnsafe(bytes(large), { binary: true, finish: true })
      yield* settle
      yield* hub.told
      yield* app.reply(sleep)
      yield* hub.wake
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit(1000))
      yield* settle
      const size = (envelopes: ReadonlyArray<Envelope>) =>
        envelopes.reduce((sum, envelope) => {
          const frame = envelope._tag === "Downlink" ? envelope.frame : undefined
          return sum + (frame?._tag === "WebSocketMessage" ? frame.data.length : 0)
        }, 0)
      assert.strictEqual(size(yield* hub.told), 1000)
      yield* next.reply(credit(limits.windowBytesInitial))
      yield* settle
      const rest = yield* hub.told
      assert.strictEqual(size(rest), large - 1000)
      assert.deepInclude(rest.at(-1), { _tag: "Downlink" })
      const last = rest.at(-1)
      assert.isTrue(last?._tag === "Downlink" && last.frame._tag === "WebSocketMessage" && last.frame.finish)
    })
  )

  test(
    "is attached without having asked, and says its number first all the same",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      send(socket, "1")
      yield* settle
      yield* app.reply(ack(1), sleep)
      yield* settle
      yield* hub.told
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit())
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 2"])
      assert.lengthOf(yield* hub.wakes, 0)
      send(socket, "2")
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["2"])
    })
  )

  test(
    "is attached by a credit that crosses its wake, once",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit())
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1"])
      // The answer to the wake itself is only more credit.
      yield* next.reply(credit(5))
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), [])
    })
  )

  test(
    "takes nothing from the session that had it before, nor from a stranger",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      yield* app.reply(message("late"), ack(7), sleep)
      const stranger = new Attachment(app, hub.hub, "c".repeat(32))
      yield* stranger.reply(message("forged"), close(4000))
      send(socket, "1")
      yield* hub.wake
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit())
      yield* app.reply(message("very late"), close(4001))
      yield* next.reply(message("good"))
      assert.deepStrictEqual(yield* wordsOf(socket), ["good"])
      assert.isUndefined(socket.closedUnsafe())
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1"])
    })
  )

  test(
    "may be the same session's again, which then counts from the start",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      yield* app.reply(message("a"), message("b"), sleep)
      send(socket, "1")
      yield* hub.wake
      const again = new Attachment(app, hub.hub, app.session)
      yield* again.reply(credit(), message("c"))
      yield* settle
      assert.deepStrictEqual(yield* wordsOf(socket), ["a", "b", "c"])
    })
  )

  test(
    "ends by the app's close after it was woken, as a restore that failed says it",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      yield* hub.wake
      yield* new Attachment(app, hub.hub).reply(credit(), close(1000, "ws.meta_not_found_during_restore"))
      assert.deepStrictEqual(yield* closeOf(socket), [1000, "ws.meta_not_found_during_restore"])
      yield* atRest
      // The end of it came first: nobody is told a number on a route that is over.
      assert.deepStrictEqual(short(yield* hub.told), [])
    })
  )

  test(
    "ends by its hub's word while it sleeps",
    Effect.gen(function* () {
      const { app, socket } = yield* asleep
      yield* app.reply(close(1000, "actor.destroyed"))
      assert.deepStrictEqual(yield* closeOf(socket), [1000, "actor.destroyed"])
      yield* atRest
      assert.strictEqual(yield* gauge(GatewayMetrics.socketsAsleep), 0)
    })
  )

  test(
    "ends where its actor is no more",
    Effect.gen(function* () {
      const { app, socket } = yield* asleep
      yield* refuse(app, "actor_not_found")
      const [code, reason] = yield* closeOf(socket)
      assert.strictEqual(code, 1011)
      assert.match(reason, /^actor\.not_found#/)
      yield* atRest
    })
  )

  test(
    "is woken at once where something is not acknowledged, and not where all is",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      send(socket, "1")
      yield* settle
      yield* app.reply(sleep)
      assert.strictEqual((yield* hub.wake).index, 1)
      const next = new Attachment(app, hub.hub)
      yield* next.reply(credit(), ack(1), sleep)
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
    })
  )

  test(
    "does not keep waking one that falls asleep again at once, and gives up in the end",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      send(socket, "1")
      yield* settle
      yield* app.reply(sleep)
      let wakes = 0
      while (socket.closedUnsafe() === undefined) {
        if ((yield* hub.wakes).length > 0) {
          wakes++
          yield* new Attachment(app, hub.hub).reply(credit(), message("x"), sleep)
          yield* settle
        }
        yield* TestClock.adjust(100)
        yield* settle
        if (wakes > 100) return assert.fail("woken in a circle")
      }
      assert.strictEqual(wakes, limits.hibernationWakesMax)
      assert.match(socket.closedUnsafe()?.reason ?? "", /^guard\.actor_wake_retries_exceeded#/)
      yield* atRest
    })
  )

  test(
    "with a message to the visitor half-way ends: its rest will never come",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      yield* app.reply(message("half", false), sleep)
      const [code, reason] = yield* closeOf(socket)
      assert.strictEqual(code, 1011)
      assert.match(reason, /^guard\.websocket_tunnel_ping_timeout#/)
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["abort gap"])
      yield* atRest
    })
  )

  test(
    "of a name sleeps and is woken by its route",
    Effect.gen(function* () {
      const hub = yield* actorHub("control")
      const { app, socket } = yield* open({ named: true })
      yield* app.reply(sleep)
      yield* settle
      send(socket, "1")
      assert.deepInclude(yield* hub.wake, { actor: "", name: "web", index: 1 })
    })
  )
})

describe("a visitor that leaves while its actor sleeps", () => {
  for (const [what, leave, told] of [
    ["in order", (socket: MessageSocket) => socket.closeUnsafe(4321, "bye"), "close 4321"],
    ["without a code", (socket: MessageSocket) => socket.closeUnsafe(1005, ""), "close null"],
    ["with a broken connection", (socket: MessageSocket) => socket.terminateUnsafe(), "close 1006"]
  ] as const) {
    test(
      `${what} has it woken for the news, behind its messages`,
      Effect.gen(function* () {
        const { app, fiber, hub, socket } = yield* asleep
        send(socket, "last")
        leave(socket)
        assert.strictEqual((yield* hub.wake).index, 1)
        yield* settle
        assert.lengthOf(yield* hub.wakes, 0)
        yield* new Attachment(app, hub.hub).reply(credit())
        yield* Fiber.join(fiber)
        assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "last", told])
        yield* atRest
        assert.strictEqual(yield* gauge(GatewayMetrics.socketsAsleep), 0)
      })
    )
  }

  test(
    "and sent nothing has it woken too",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      socket.closeUnsafe(1000, "")
      yield* hub.wake
      yield* new Attachment(app, hub.hub).reply(credit(0))
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "close 1000"])
      yield* atRest
    })
  )

  test(
    "does not wait for credit for ever",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "never")
      socket.closeUnsafe(1000, "")
      yield* hub.wake
      yield* new Attachment(app, hub.hub).reply(credit(0))
      yield* settle
      yield* TestClock.adjust(limits.closeLingerMs)
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "close 1000"])
      yield* atRest
    })
  )

  test(
    "with its connection broken at the bound of what is kept is still brought to its end",
    Effect.gen(function* () {
      const { app, fiber, hub, socket } = yield* asleep
      while (socket.sendUnsafe(bytes(200_000), { binary: true, finish: true })) yield* settle
      yield* hub.wake
      socket.terminateUnsafe()
      yield* new Attachment(app, hub.hub).reply(credit(1_000_000_000))
      yield* Fiber.join(fiber)
      assert.strictEqual(short(yield* hub.told).at(-1), "close 1006")
      yield* atRest
    })
  )

  test(
    "is forgotten where nobody can be woken, and the hub hears that it may forget too",
    Effect.gen(function* () {
      const { hub, socket } = yield* asleep
      socket.closeUnsafe(1000, "")
      yield* hub.wake
      for (let i = 0; i < 70; i++) yield* TestClock.adjust(1_000)
      yield* atRest
      assert.deepStrictEqual(short(yield* hub.told), ["abort deadline"])
    })
  )
})

describe("a wake that is refused", () => {
  test(
    "is asked again, each time later, and the message waits for it",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      const waits: Array<number> = []
      let waitedMs = 0
      while (waits.length < 8) {
        for (const _ of yield* hub.wakes) {
          waits.push(waitedMs)
          waitedMs = 0
          yield* refuse(app, "overloaded")
          yield* settle
        }
        yield* TestClock.adjust(50)
        waitedMs += 50
      }
      waits.shift()
      assert.deepStrictEqual(
        waits,
        waits.toSorted((one, other) => one - other)
      )
      assert.isBelow(waits[0] as number, limits.hibernationRetryFirstMs + 50)
      assert.isAtMost(waits.at(-1) as number, limits.hibernationRetryMaxMs)
      assert.isAbove(waits.at(-1) as number, limits.hibernationRetryMaxMs / 2)
      assert.isUndefined(socket.closedUnsafe())
    })
  )

  test(
    "succeeds later, with everything the visitor sent meanwhile",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      yield* hub.wake
      yield* refuse(app, "draining")
      yield* settle
      send(socket, "2")
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
      yield* TestClock.adjust(limits.hibernationRetryFirstMs)
      yield* hub.wake
      yield* new Attachment(app, hub.hub).reply(credit())
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1", "2"])
    })
  )

  test(
    "ends the socket after its time, with the last reason",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      yield* settle
      let passedMs = 0
      while (socket.closedUnsafe() === undefined) {
        for (const _ of yield* hub.wakes) yield* refuse(app, "actor_not_ready")
        yield* settle
        yield* TestClock.adjust(250)
        yield* settle
        passedMs += 250
        if (passedMs > 2 * limits.hibernationWakeMs) return assert.fail("never given up")
      }
      assert.closeTo(passedMs, limits.hibernationWakeMs, 250)
      const [code, reason] = yield* closeOf(socket)
      assert.strictEqual(code, 1011)
      assert.match(reason, /^guard\.actor_ready_timeout#[0-9a-z]{30}$/)
      assert.deepStrictEqual(short(yield* hub.told), ["abort deadline"])
      yield* atRest
    })
  )

  for (const [why, code, reason] of [
    ["for want of the actor", "actor_not_found", /^actor\.not_found#/],
    ["that comes too late for the actor's present generation", "actor_stopped", /^guard\.actor_stopped/]
  ] as const) {
    test(
      `${why} ends the socket at once`,
      Effect.gen(function* () {
        const { app, hub, socket } = yield* asleep
        send(socket, "1")
        yield* hub.wake
        yield* refuse(app, code)
        assert.match((yield* closeOf(socket))[1], reason)
        yield* atRest
      })
    )
  }

  test(
    "by nobody who controls actors is asked again until somebody does",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { app, socket } = yield* Scope.provide(asleep, scope)
      yield* Scope.close(scope, Exit.void)
      yield* settle
      send(socket, "1")
      yield* settle
      const hub = yield* actorHub("h2")
      yield* TestClock.adjust(limits.hibernationRetryFirstMs)
      yield* hub.wake
      yield* new Attachment(app, hub.hub).reply(credit())
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1"])
    })
  )

  test(
    "that nobody answers is asked again, and one that a hub has is waited for",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      yield* hub.wake
      yield* settle
      yield* TestClock.adjust(limits.hubAnswerMs)
      yield* TestClock.adjust(limits.hibernationRetryFirstMs)
      yield* hub.wake
      yield* say(app, credit(0))
      yield* settle
      yield* TestClock.adjust(40_000)
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
      assert.isUndefined(socket.closedUnsafe())
      yield* new Attachment(app, hub.hub).reply(credit())
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1"])
    })
  )
})

describe("a hub that is lost", () => {
  const lose = Effect.fnUntraced(function* (scope: Scope.Closeable) {
    yield* Scope.close(scope, Exit.void)
    yield* settle
    yield* TestClock.adjust(limits.leaseRenewalMs)
    yield* settle
  })

  test(
    "puts a WebSocket that may hibernate to sleep, and it is woken by the next hub with what was not acknowledged",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { app, socket } = yield* Scope.provide(open(), scope)
      send(socket, "1", "2", "3")
      yield* settle
      yield* app.reply(ack(1))
      yield* settle
      yield* lose(scope)
      assert.isUndefined(socket.closedUnsafe())
      const hub = yield* actorHub("h2")
      send(socket, "4")
      for (let i = 0; i < 20; i++) yield* TestClock.adjust(limits.hibernationRetryFirstMs)
      assert.strictEqual((yield* hub.wake).index, 2)
      yield* new Attachment(app, hub.hub).reply(credit())
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 2", "2", "3", "4"])
    })
  )

  test(
    "has one that was awake woken even where there is nothing to say: its app may have",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { app, socket } = yield* Scope.provide(open(), scope)
      yield* lose(scope)
      const hub = yield* actorHub("h2")
      for (let i = 0; i < 20; i++) yield* TestClock.adjust(limits.hibernationRetryFirstMs)
      assert.strictEqual((yield* hub.wake).index, 1)
      yield* new Attachment(app, hub.hub, app.session).reply(credit(), message("still here"))
      yield* settle
      assert.deepStrictEqual(yield* wordsOf(socket), ["still here"])
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1"])
    })
  )

  test(
    "leaves one that was asleep so, without waking anybody",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { socket } = yield* Scope.provide(asleep, scope)
      yield* lose(scope)
      const hub = yield* actorHub("h2")
      yield* TestClock.adjust("1 minute")
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
      assert.isUndefined(socket.closedUnsafe())
    })
  )

  test(
    "fails every other WebSocket that no other hub asks for in time",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const hub = yield* Scope.provide(actorHub(), scope)
      const gateway = yield* Gateway
      const visitor = new MemoryUpgrade({ target: `/gateway/${id}/x`, headers: [["Host", "localhost"]] })
      yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
      const app = yield* hub.next
      yield* app.reply(accept(false))
      const answer = yield* visitor.answered
      if (answer._tag !== "Accepted") return assert.fail(answer._tag)
      yield* lose(scope)
      yield* TestClock.adjust(limits.sessionGraceMs)
      assert.match((yield* closeOf(answer.socket))[1], /^guard\.websocket_tunnel_ping_timeout#/)
      yield* atRest
    })
  )
})

describe("a runner that speaks on a WebSocket which its hub does not know", () => {
  /** The hub asks its gateway; what the gateway denies. */
  const recall = Effect.fnUntraced(function* (app: Conversation, session = app.session, hubId = "h2") {
    const bus = yield* MessageBus
    const replyTo = Subject.ofHub("default", hubId)
    const inbox = yield* bus.subscribe(replyTo)
    const { route } = app.opening
    yield* bus.publish(
      app.opening.replyTo,
      [
        {
          _tag: "RouteQuestion",
          replyTo,
          name: "room",
          session,
          generation: 1,
          streams: [{ route, from: null, open: null }]
        }
      ],
      "one"
    )
    const [answer] = yield* Stream.runCollect(Stream.take(inbox, 1))
    assert(answer?._tag === "RouteAnswer")
    assert.deepStrictEqual(answer.granted, [])
    return answer.denied
  }, Effect.scoped)

  test(
    "has it woken, though its gateway has not noticed that the hub before was lost",
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const { app, socket } = yield* Scope.provide(open(), scope)
      send(socket, "1", "2")
      yield* settle
      yield* Scope.close(scope, Exit.void)
      const hub = yield* actorHub("h3")
      assert.deepStrictEqual(yield* recall(app), [])
      assert.strictEqual((yield* hub.wake).index, 1)
      yield* new Attachment(app, hub.hub, app.session).reply(credit(), ack(1), message("kept"))
      yield* settle
      assert.deepStrictEqual(yield* wordsOf(socket), ["kept"])
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1", "2"])
    })
  )

  test(
    "has it woken where it sleeps and its visitor says nothing, once",
    Effect.gen(function* () {
      const { app, hub } = yield* asleep
      assert.deepStrictEqual(yield* recall(app), [])
      assert.deepStrictEqual(yield* recall(app), [])
      assert.lengthOf(yield* hub.wakes, 1)
    })
  )

  test(
    "does not let it wait for its next attempt",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      yield* hub.wake
      yield* refuse(app, "no_runner")
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
      yield* recall(app)
      assert.lengthOf(yield* hub.wakes, 1)
    })
  )

  test(
    "is denied it where it never had it",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      assert.deepStrictEqual(yield* recall(app, "c".repeat(32)), [app.opening.route])
      assert.lengthOf(yield* hub.wakes, 0)
      assert.isUndefined(socket.closedUnsafe())
    })
  )

  test(
    "changes nothing where that hub has it after all",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      assert.deepStrictEqual(yield* recall(app, app.session, "h9"), [])
      yield* hub.wake
      const again = new Attachment(app, Subject.ofHub("default", "h9"), app.session)
      yield* again.reply(credit(), message("one"))
      assert.deepStrictEqual(yield* recall(app, app.session, "h9"), [])
      yield* again.reply(message("two"))
      yield* settle
      assert.deepStrictEqual(yield* wordsOf(socket), ["one", "two"])
      assert.lengthOf(yield* hub.wakes, 0)
    })
  )

  test(
    "is denied one that cannot hibernate, and one that is over",
    Effect.gen(function* () {
      const { app, socket } = yield* open({ canHibernate: false })
      assert.deepStrictEqual(yield* recall(app), [app.opening.route])
      yield* app.reply(close(1000))
      yield* settle
      assert.deepStrictEqual(yield* recall(app), [app.opening.route])
      assert.deepStrictEqual(yield* closeOf(socket), [1000, ""])
    })
  )
})

describe("what is kept for an acknowledgement", () => {
  const flood = Effect.fnUntraced(function* (socket: MessageSocket, size: number) {
    let sent = 0
    while (socket.sendUnsafe(bytes(size), { binary: true, finish: true })) {
      sent++
      yield* settle
      if (sent > 1000) return assert.fail("never stopped")
    }
    return sent + 1
  })

  test(
    "is bounded: beyond it the visitor is not read from, and goes on with an acknowledgement",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      yield* app.reply(credit(1_000_000_000))
      const size = 200_000
      const sent = yield* flood(socket, size)
      const kept = yield* gauge(GatewayMetrics.unacknowledgedBytes)
      assert.isAtLeast(kept, limits.hibernationBytesMax)
      assert.isAtMost(kept, limits.hibernationBytesMax + 2 * limits.socketHighWaterBytes)
      assert.isAtLeast(sent * size, kept)
      yield* hub.told
      yield* app.reply(ack(40))
      yield* settle
      const more = (yield* hub.told).filter((envelope) => envelope._tag === "Downlink")
      assert.isNotEmpty(more)
      assert.isUndefined(socket.closedUnsafe())
    })
  )

  test(
    "for an app that acknowledges nothing ends a WebSocket at that bound, after its time",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      yield* app.reply(credit(1_000_000_000))
      yield* flood(socket, 200_000)
      yield* settle
      yield* TestClock.adjust(limits.hibernationAckMs - 1)
      yield* settle
      assert.isUndefined(socket.closedUnsafe())
      yield* TestClock.adjust(1)
      yield* settle
      const closed = yield* closeOf(socket)
      assert.strictEqual(closed[0], 1011)
      assert.match(closed[1], /^guard\.websocket_pending_limit_reached#/)
      assert.strictEqual(short(yield* hub.told).at(-1), "abort deadline")
      yield* atRest
      assert.strictEqual(yield* gauge(GatewayMetrics.unacknowledgedBytes), 0)
    })
  )

  test(
    "for an app that is alive and slow to acknowledge costs nobody a socket",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      for (let n = 1; n <= 20; n++) {
        send(socket, `${n}`)
        yield* TestClock.adjust("2 minutes")
        yield* settle
      }
      assert.isUndefined(socket.closedUnsafe())
      assert.lengthOf(short(yield* hub.told), 20)
      yield* app.reply(ack(20), sleep)
      yield* settle
      assert.lengthOf(yield* hub.wakes, 0)
    })
  )

  test(
    "ends a WebSocket whose app was woken and shows no sign of knowing it",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      send(socket, "1")
      yield* hub.wake
      yield* new Attachment(app, hub.hub).reply(credit())
      yield* settle
      yield* TestClock.adjust(limits.hibernationAckMs - 1)
      yield* settle
      assert.isUndefined(socket.closedUnsafe())
      yield* TestClock.adjust(1)
      const [code, reason] = yield* closeOf(socket)
      assert.strictEqual(code, 1011)
      assert.match(reason, /^guard\.websocket_garbage_collected#/)
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["wake 1", "1", "abort deadline"])
      yield* atRest
    })
  )

  for (const [what, life] of [
    ["a message", message("hello")],
    ["an acknowledgement", ack(1)]
  ] as const) {
    test(
      `does not end one whose app sent ${what}`,
      Effect.gen(function* () {
        const { app, hub, socket } = yield* asleep
        send(socket, "1", "2")
        yield* hub.wake
        const next = new Attachment(app, hub.hub)
        yield* next.reply(credit())
        yield* settle
        yield* TestClock.adjust(limits.hibernationAckMs - 1)
        yield* next.reply(life)
        yield* settle
        yield* TestClock.adjust("10 minutes")
        yield* settle
        assert.isUndefined(socket.closedUnsafe())
      })
    )
  }

  test(
    "does not end one that was woken and has nothing to say",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* asleep
      yield* new Attachment(app, hub.hub).reply(credit())
      yield* settle
      yield* TestClock.adjust("10 minutes")
      yield* settle
      assert.isUndefined(socket.closedUnsafe())
    })
  )

  test(
    "does not grow over sleeps for a visitor that reads nothing",
    Effect.gen(function* () {
      const { app, hub, socket } = yield* open()
      const window = limits.windowBytesInitial
      const data: ResponseFrame = { _tag: "WebSocketMessage", data: bytes(window), binary: true, finish: true }
      yield* app.reply(data, sleep)
      yield* settle
      let attachments = 0
      while (socket.closedUnsafe() === undefined) {
        yield* new Attachment(app, hub.hub).reply(credit(), data, sleep)
        yield* settle
        if (++attachments > 10) return assert.fail("still held")
      }
      assert.isAtMost(attachments, limits.staleBytesMax / window + 1)
    })
  )
})

describe("the end of everything", () => {
  test(
    "a gateway that is interrupted closes those asleep, and their hub hears it",
    Effect.gen(function* () {
      const { fiber, hub, socket } = yield* asleep
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(yield* closeOf(socket), [1001, "draining"])
      yield* settle
      assert.deepStrictEqual(short(yield* hub.told), ["close 1001"])
      yield* atRest
      assert.strictEqual(yield* gauge(GatewayMetrics.socketsAsleep), 0)
    })
  )

  test(
    "an app that cannot hibernate gets no numbers kept for it",
    Effect.gen(function* () {
      const hub = yield* actorHub()
      const gateway = yield* Gateway
      const visitor = new MemoryUpgrade({ target: `/gateway/${id}/x`, headers: [["Host", "localhost"]] })
      yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
      const app = yield* hub.next
      yield* app.reply(accept(false), ack(0))
      const answer = yield* visitor.answered
      if (answer._tag !== "Accepted") return assert.fail(answer._tag)
      send(answer.socket, "1")
      yield* settle
      assert.strictEqual(yield* gauge(GatewayMetrics.unacknowledgedBytes), 0)
      yield* app.reply(sleep)
      assert.deepStrictEqual(yield* closeOf(answer.socket), [1000, ""])
      yield* atRest
    })
  )

  test(
    "routes of sockets asleep are not given out again",
    Effect.gen(function* () {
      const { app, hub, gateway } = yield* asleep
      const routes: Array<RouteKey> = []
      for (let i = 0; i < 3; i++) {
        const visitor = new MemoryUpgrade({ target: `/gateway/${id}/x`, headers: [["Host", "localhost"]] })
        yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
        routes.push((yield* hub.next).opening.route)
      }
      assert.isTrue(routes.every((route) => route.requestId !== app.opening.route.requestId))
    })
  )
})
