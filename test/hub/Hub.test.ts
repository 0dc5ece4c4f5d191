import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { layerOpen, layerTokens } from "../../src/auth/Authenticator.ts"
import { BusError, layerMemory as busMemory } from "../../src/bus/MessageBus.ts"
import { Hub, layer as hubLayer } from "../../src/hub/Hub.ts"
import { closeCodes } from "../../src/protocol/Wayleave1.ts"
import { RouteStore, layerMemory as routesMemory } from "../../src/route/RouteStore.ts"
import { connect, dial, hello } from "../../src/testing/ScriptedRunner.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { gateway, gatewayId, get, hubAlone, settle } from "./HubHarness.ts"

const answer: ResponseFrame = {
  _tag: "ResponseStart",
  status: 200,
  headers: [["x", "1"]],
  body: new Uint8Array([42]),
  streamed: false
}
const chunk = (byte: number, finish = false): ResponseFrame => ({
  _tag: "ResponseChunk",
  body: new Uint8Array([byte]),
  finish
})
const route = (requestId: number) => ({ gatewayId, requestId })
const atRest = { Open: 0, Closing: 0, HalfClosed: 0 }

describe("a request through the hub", () => {
  it.effect("is given to the runner by its name, answered, and leaves no route open", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      assert.deepInclude(runner.welcome, { outcome: "begun", received: 0, version: 1, domain: "localhost" })
      yield* visitor.open("web", 1, get("/hello"))
      const credit = yield* visitor.next
      assert.deepInclude(credit.frame, { _tag: "Credit", bytes: 0 })
      const frame = yield* runner.nextFrame
      assert.deepStrictEqual(frame.route, route(1))
      assert.deepInclude(frame.frame, { _tag: "RequestStart", target: "/hello" })
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).openStreams, 1)
      yield* runner.frames([{ route: route(1), index: 0, frame: answer }])
      const uplink = yield* visitor.next
      assert.strictEqual(uplink.replyTo, credit.replyTo)
      assert.strictEqual(uplink.session, "01".repeat(16))
      assert.deepInclude(uplink.frame, { _tag: "ResponseStart", status: 200 })
      yield* settle
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { ...atRest, Closed: 1 })
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).openStreams, 0)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("is refused at once where nobody serves the name", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      yield* connect({ name: "web" })
      const error = yield* Effect.flip(visitor.open("other", 1, get("/")))
      assert.strictEqual(error.reason, "NoResponders")
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("goes to the session of the name that has the fewest open streams", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const first = yield* connect({ name: "web", session: 1 })
      const second = yield* connect({ name: "web", session: 2 })
      for (let i = 0; i < 4; i++) yield* visitor.open("web", i, get(`/${i}`))
      const taken = [yield* first.nextFrame, yield* first.nextFrame, yield* second.nextFrame, yield* second.nextFrame]
      assert.strictEqual(new Set(taken.map((frame) => frame.route.requestId)).size, 4)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("goes to the session that waited longest where all have as few", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runners = yield* Effect.forEach([1, 2, 3], (session) => connect({ name: "web", session }))
      const order: Array<string> = []
      for (let i = 0; i < 6; i++) {
        yield* visitor.open("web", i, get("/"))
        const { session } = yield* visitor.next
        order.push(session.slice(0, 2))
        yield* (runners[Number(session.slice(0, 2)) - 1] as (typeof runners)[number]).frames([
          { route: route(i), index: 0, frame: answer }
        ])
        yield* visitor.next
        yield* settle
      }
      assert.deepStrictEqual(order, ["01", "02", "03", "01", "02", "03"])
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("of which the opening frame comes twice is run once", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/once"))
      yield* visitor.open("web", 1, get("/once"))
      yield* visitor.open("web", 2, get("/next"))
      assert.strictEqual((yield* runner.nextFrame).route.requestId, 1)
      assert.strictEqual((yield* runner.nextFrame).route.requestId, 2)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("is granted a first window where a body follows", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      yield* connect({ name: "web" })
      yield* visitor.open("web", 1, { ...get("/up"), streamed: true } as never)
      assert.deepInclude((yield* visitor.next).frame, { _tag: "Credit", bytes: limits.windowBytesInitial })
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("that the visitor gave up before it was written never reaches the runner", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* visitor.open("web", 1, get("/never"))
      const { replyTo } = yield* visitor.next
      yield* visitor.follow(replyTo, 1, { _tag: "RequestAbort", code: "cancelled" })
      yield* visitor.open("web", 2, get("/kept"))
      const back = yield* connect({ name: "web" })
      assert.strictEqual(back.welcome.outcome, "resumed")
      assert.strictEqual((yield* back.nextFrame).route.requestId, 2)
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Open: 1, HalfClosed: 0, Closed: 1 })
    }).pipe(Effect.provide(hubAlone()))
  )
})

it.effect("an abort that answers the hub's first word never overtakes the request itself", () => {
  // The bus hands a publish over at once and confirms it late, as a server between machines does.
  const lateConfirm = changedBus(
    (real) => (subject, envelopes, delivery) =>
      Effect.tap(real(subject, envelopes, delivery), () => (delivery === "each" ? settle : Effect.void))
  )
  return Effect.gen(function* () {
    const visitor = yield* gateway
    const runner = yield* connect({ name: "web" })
    const opened = yield* Effect.forkChild(visitor.open("web", 1, get("/")))
    const { replyTo } = yield* visitor.next
    yield* visitor.follow(replyTo, 1, { _tag: "RequestAbort", code: "cancelled" })
    yield* Fiber.join(opened)
    yield* settle
    yield* visitor.open("web", 2, get("/next"))
    const seen: Array<string> = []
    while (seen.at(-1) !== "2 RequestStart") {
      const { frame, route } = yield* runner.nextFrame
      seen.push(`${route.requestId} ${frame._tag}`)
    }
    assert.notInclude(seen.slice(seen.indexOf("1 RequestAbort") + 1), "1 RequestStart")
    assert.strictEqual(seen.includes("1 RequestStart"), seen.includes("1 RequestAbort"))
  }).pipe(Effect.provide(hubLayer().pipe(Layer.provideMerge(Layer.mergeAll(lateConfirm, routesMemory, layerOpen)))))
})

describe("the route check", () => {
  it.effect("drops a frame for a route nobody was issued, tells the runner, and lets the rest pass", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* runner.nextFrame
      yield* runner.frames([
        { route: route(99), index: 0, frame: answer },
        { route: route(1), index: 0, frame: answer }
      ])
      assert.strictEqual((yield* visitor.next).route.requestId, 1)
      assert.deepStrictEqual(yield* runner.next, { _tag: "Reset", route: route(99), code: "unknown_route" })
      assert.isUndefined(runner.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("keeps a runner from answering another runner's request", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const honest = yield* connect({ name: "web", session: 1 })
      const forger = yield* connect({ name: "evil", session: 2 })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* honest.nextFrame
      yield* forger.frames([{ route: route(1), index: 0, frame: answer }])
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* honest.frames([{ route: route(1), index: 0, frame: chunk(7, true) }])
      assert.deepInclude((yield* visitor.next).frame, { _tag: "ResponseChunk", finish: true })
      assert.isUndefined(forger.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("swallows what comes after the end, and what crosses an abort", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.open("web", 2, get("/"))
      const { replyTo } = yield* visitor.next
      yield* visitor.next
      yield* runner.frames([
        { route: route(1), index: 0, frame: answer },
        { route: route(1), index: 1, frame: chunk(1, true) }
      ])
      yield* visitor.follow(replyTo, 2, { _tag: "RequestAbort", code: "cancelled" })
      yield* settle
      yield* runner.frames([{ route: route(2), index: 0, frame: answer }])
      assert.strictEqual((yield* visitor.next).route.requestId, 1)
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Open: 0, HalfClosed: 1, Closed: 1 })
      assert.isUndefined(runner.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("ends a connection that keeps guessing routes, and no other", () =>
    Effect.gen(function* () {
      const bystander = yield* connect({ name: "web", session: 1 })
      const guesser = yield* connect({ name: "evil", session: 2 })
      for (let i = 0; i <= limits.abuseRefusalsMax; i++) {
        yield* guesser.frames([{ route: route(i), index: 0, frame: answer }])
      }
      yield* Fiber.join(guesser.accepted)
      assert.strictEqual(guesser.socket.closedUnsafe()?.code, closeCodes.abuse.code)
      assert.isUndefined(bystander.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("closes the routes of a gateway that fell silent, and tells the runner", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* runner.nextFrame
      const beat = runner.say({ _tag: "Ping", nonce: 1, received: 0 })
      for (let i = 0; i < limits.leaseMs + 2_000; i += 2_000) yield* Effect.andThen(beat, TestClock.adjust(2_000))
      const abort = yield* runner.nextFrame
      assert.deepStrictEqual(abort.frame, { _tag: "RequestAbort", code: "deadline" })
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).openStreams, 0)
    }).pipe(Effect.provide(hubAlone()))
  )
})

describe("a session", () => {
  it.effect("goes on over a new socket: frames of both directions neither lost nor doubled", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      const { replyTo } = yield* visitor.next
      yield* runner.nextFrame
      yield* runner.frames([{ route: route(1), index: 0, frame: { ...answer, streamed: true } as ResponseFrame }])
      yield* visitor.next
      // The hub writes this one to a socket that breaks before the runner has read it.
      yield* visitor.follow(replyTo, 1, { _tag: "Credit", bytes: 5 })
      yield* settle
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* visitor.follow(replyTo, 1, { _tag: "Credit", bytes: 6 })
      const back = yield* connect({ name: "web", received: 1 })
      assert.deepInclude(back.welcome, { outcome: "resumed", received: 1 })
      assert.deepStrictEqual((yield* back.nextFrame).frame, { _tag: "Credit", bytes: 5 })
      assert.deepStrictEqual((yield* back.nextFrame).frame, { _tag: "Credit", bytes: 6 })
      yield* back.frames([{ route: route(1), index: 1, frame: chunk(9, true) }])
      assert.strictEqual((yield* visitor.next).generation, 2)
      yield* settle
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { ...atRest, Closed: 1 })
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("ends with its grace period, and whoever waits for an answer is told", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* runner.nextFrame
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* visitor.open("web", 2, get("/waits"))
      yield* visitor.next
      yield* TestClock.adjust(limits.sessionGraceMs - 1)
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* TestClock.adjust(1)
      const told = [yield* visitor.next, yield* visitor.next]
      assert.deepStrictEqual(
        told.map((uplink) => [uplink.route.requestId, uplink.frame._tag === "ResponseAbort" && uplink.frame.code]),
        [
          [1, "session_lost"],
          // The runner never saw this one, so another may still be asked.
          [2, "no_runner"]
        ]
      )
      assert.strictEqual((yield* Effect.flip(visitor.open("web", 3, get("/")))).reason, "NoResponders")
      const late = yield* connect({ name: "web", received: 1 })
      assert.strictEqual(late.welcome.outcome, "begun")
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("is fenced by its own newer connection at once", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const older = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* older.nextFrame
      const newer = yield* connect({ name: "web", received: 1 })
      assert.strictEqual(older.socket.closedUnsafe()?.code, closeCodes.fenced.code)
      assert.strictEqual(newer.welcome.outcome, "resumed")
      yield* older.frames([{ route: route(1), index: 0, frame: answer }])
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* newer.frames([{ route: route(1), index: 0, frame: answer }])
      assert.strictEqual((yield* visitor.next).generation, 2)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("survives three connections that come at once: one of them speaks in the end", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const all = yield* Effect.forEach([1, 2, 3], () => connect({ name: "web" }), { concurrency: "unbounded" })
      yield* settle
      const [alive, ...others] = all.filter((runner) => runner.socket.closedUnsafe() === undefined)
      assert.isDefined(alive)
      assert.strictEqual(others.length, 0)
      yield* visitor.open("web", 1, get("/"))
      assert.strictEqual((yield* alive.nextFrame).route.requestId, 1)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("of which the runner says GoAway finishes what is open and gets nothing new", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const leaving = yield* connect({ name: "web", session: 1 })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* leaving.nextFrame
      yield* leaving.say({ _tag: "GoAway", reason: "restart" })
      const staying = yield* connect({ name: "web", session: 2 })
      yield* visitor.open("web", 2, get("/"))
      assert.strictEqual((yield* staying.nextFrame).route.requestId, 2)
      yield* visitor.next
      yield* leaving.frames([{ route: route(1), index: 0, frame: answer }])
      assert.strictEqual((yield* visitor.next).route.requestId, 1)
      leaving.socket.closeUnsafe(1000, "")
      yield* Fiber.join(leaving.accepted)
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 1)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("that was leaving and broke off may come back to finish, and still gets nothing new", () =>
    Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* runner.nextFrame
      yield* runner.say({ _tag: "GoAway", reason: "restart" })
      yield* settle
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      const back = yield* connect({ name: "web", received: 1 })
      assert.strictEqual(back.welcome.outcome, "resumed")
      assert.strictEqual((yield* Effect.flip(visitor.open("web", 2, get("/")))).reason, "NoResponders")
      yield* back.frames([{ route: route(1), index: 0, frame: answer }])
      assert.strictEqual((yield* visitor.next).route.requestId, 1)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("is ended on both sides where the bus took the first Credit and said that it had not", () => {
    let failing = true
    const bus = changedBus(
      (real) => (subject, envelopes, delivery) =>
        Effect.tap(real(subject, envelopes, delivery), () =>
          failing && delivery === "each" ? Effect.fail(new BusError({ subject, reason: "Disconnected" })) : Effect.void
        )
    )
    return Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      // The gateway heard of the hub, and would wait for more.
      assert.strictEqual((yield* visitor.next).frame._tag, "Credit")
      failing = false
      yield* TestClock.adjust("1 second")
      assert.deepInclude((yield* visitor.next).frame, { _tag: "ResponseAbort", code: "publish_failed" })
      // The runner was spared the request, and gets the next one.
      yield* visitor.open("web", 2, get("/"))
      assert.strictEqual((yield* runner.nextFrame).route.requestId, 2)
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { ...atRest, Open: 1, Closed: 1 })
    }).pipe(Effect.provide(hubLayer().pipe(Layer.provideMerge(Layer.mergeAll(bus, routesMemory, layerOpen)))))
  })

  it.effect("is told of its end to a gateway whose inbox was full, once there is room", () => {
    let full = false
    const bus = changedBus(
      (real) => (subject, envelopes, delivery) =>
        Effect.suspend(() =>
          full ? Effect.fail(new BusError({ subject, reason: "Full" })) : real(subject, envelopes, delivery)
        )
    )
    return Effect.gen(function* () {
      const visitor = yield* gateway
      const runner = yield* connect({ name: "web" })
      yield* visitor.open("web", 1, get("/"))
      yield* visitor.next
      yield* runner.nextFrame
      full = true
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* TestClock.adjust(limits.sessionGraceMs + 3_000)
      assert.deepStrictEqual(yield* visitor.pending, [])
      full = false
      yield* TestClock.adjust("1 second")
      assert.deepInclude((yield* visitor.next).frame, { _tag: "ResponseAbort", code: "session_lost" })
    }).pipe(Effect.provide(hubLayer().pipe(Layer.provideMerge(Layer.mergeAll(bus, routesMemory, layerOpen)))))
  })

  it.effect("that pings without end is answered once a read", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ name: "web" })
      for (let nonce = 1; nonce <= 1_000; nonce++) yield* runner.say({ _tag: "Ping", nonce, received: 0 })
      const pongs: Array<number> = []
      while (pongs.at(-1) !== 1_000) {
        const message = yield* runner.next
        if (message._tag === "Pong") pongs.push(message.nonce)
      }
      assert.isAtMost(pongs.length, 10)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("loses its connection when nothing is heard for the heartbeat deadline", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ name: "web" })
      yield* TestClock.adjust(limits.heartbeatDeadlineMs - 1)
      assert.isUndefined(runner.socket.closedUnsafe())
      yield* TestClock.adjust(10)
      yield* Fiber.join(runner.accepted)
      assert.strictEqual(runner.socket.closedUnsafe()?.code, closeCodes.heartbeat_timeout.code)
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("belongs to the identity that began it", () =>
    Effect.gen(function* () {
      yield* connect({ name: "web", token: Redacted.make("first-token-of-many") })
      const thief = yield* dial(Redacted.make("other-token-of-many"))
      yield* thief.say(hello({ name: "web" }))
      yield* Fiber.join(thief.accepted)
      assert.strictEqual(thief.socket.closedUnsafe()?.code, closeCodes.forbidden.code)
    }).pipe(
      Effect.provide(
        hubLayer().pipe(
          Layer.provideMerge(
            Layer.mergeAll(
              busMemory,
              routesMemory,
              layerTokens([
                { token: Redacted.make("first-token-of-many"), names: ["*"] },
                { token: Redacted.make("other-token-of-many"), names: ["*"] }
              ])
            )
          )
        )
      )
    )
  )
})

describe("the handshake", () => {
  const refused = (
    title: string,
    say: (runner: Effect.Success<ReturnType<typeof dial>>) => Effect.Effect<void>,
    code: number
  ) =>
    it.effect(title, () =>
      Effect.gen(function* () {
        const runner = yield* dial()
        yield* say(runner)
        yield* Fiber.join(runner.accepted)
        assert.strictEqual(runner.socket.closedUnsafe()?.code, code)
        assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
      }).pipe(Effect.provide(hubAlone()))
    )
  refused(
    "ends a connection that says nothing in time",
    () => TestClock.adjust(limits.helloTimeoutMs),
    closeCodes.hello_timeout.code
  )
  refused(
    "refuses a protocol version nobody speaks",
    (runner) => runner.say(hello({ name: "web", versions: [9] })),
    closeCodes.unsupported_version.code
  )
  for (const name of ["", "Web", "a b", "-a", "a..b", "*", "x".repeat(300), "ä"]) {
    refused(
      `refuses ${JSON.stringify(name.slice(0, 8))} as a name`,
      (runner) => runner.say(hello({ name })),
      closeCodes.bad_name.code
    )
  }
  refused(
    "refuses bytes that are no Hello",
    (runner) => runner.sayBytes(new Uint8Array([250, 1, 2])),
    closeCodes.protocol_error.code
  )
  refused(
    "refuses another message in Hello's place",
    (runner) => runner.say({ _tag: "Ack", received: 1 }),
    closeCodes.protocol_error.code
  )

  const moved = (count: number) =>
    Array.from({ length: count }, (_, i) => ({ route: route(i), from: null, open: null }))
  refused(
    "refuses more streams than a session can have",
    (runner) => runner.say(hello({ name: "web", streams: moved(limits.streamsPerSessionMax + 1) })),
    closeCodes.protocol_error.code
  )
  refused(
    "refuses a count of connections that leaves a hub nothing to count on",
    (runner) => runner.say(hello({ name: "web", connection: 2 ** 31 + 1 })),
    closeCodes.protocol_error.code
  )
  it.effect("takes as many streams as a session can have, and asks about each", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ name: "web", connection: 2 ** 31, streams: moved(limits.streamsPerSessionMax) })
      assert.strictEqual(runner.welcome.outcome, "adopted")
      for (let i = 0; i < limits.streamsPerSessionMax; i++) {
        assert.deepStrictEqual(yield* runner.next, { _tag: "Reset", route: route(i), code: "unknown_route" })
      }
      // What was under way for them meanwhile is no offence, and is told no second time.
      yield* runner.frames(moved(1_000).map(({ route }) => ({ route, index: 0, frame: answer })))
      yield* runner.say({ _tag: "Ping", nonce: 1, received: 0 })
      assert.strictEqual((yield* runner.next)._tag, "Pong")
      assert.isUndefined(runner.socket.closedUnsafe())
    }).pipe(Effect.provide(hubAlone()))
  )

  it.effect("asks for a token that covers the name", () =>
    Effect.gen(function* () {
      const code = Effect.fnUntraced(function* (name: string, token?: string) {
        const runner = yield* dial(token === undefined ? undefined : Redacted.make(token))
        yield* runner.say(hello({ name }))
        yield* Fiber.join(runner.accepted)
        return runner.socket.closedUnsafe()?.code
      })
      assert.strictEqual(yield* code("web"), closeCodes.unauthorized.code)
      assert.strictEqual(yield* code("web", "guessed-token-guessed"), closeCodes.unauthorized.code)
      assert.strictEqual(yield* code("other", "a-token-for-web-only"), closeCodes.forbidden.code)
      const runner = yield* connect({ name: "web-1", token: Redacted.make("a-token-for-web-only") })
      assert.strictEqual(runner.welcome.outcome, "begun")
    }).pipe(
      Effect.provide(
        hubLayer().pipe(
          Layer.provideMerge(
            Layer.mergeAll(
              busMemory,
              routesMemory,
              layerTokens([{ token: Redacted.make("a-token-for-web-only"), names: ["web", "web-*"] }])
            )
          )
        )
      )
    )
  )
})

it.effect("a hub takes no more than its bound of connections that have not said who they are", () =>
  Effect.gen(function* () {
    const waiting = yield* Effect.replicateEffect(dial(), limits.handshakesMax)
    yield* settle
    const beyond = yield* dial()
    yield* Fiber.join(beyond.accepted)
    assert.strictEqual(beyond.socket.closedUnsafe()?.code, closeCodes.overloaded.code)
    for (const { socket } of waiting) socket.terminateUnsafe()
    yield* settle
    assert.strictEqual((yield* connect({ name: "web" })).welcome.outcome, "begun")
  }).pipe(Effect.provide(hubAlone()))
)

it.effect("a hub that drains takes requests for a runner until that is elsewhere, or has had its time", () =>
  Effect.gen(function* () {
    const visitor = yield* gateway
    const hub = yield* Hub
    const quick = yield* connect({ name: "quick", session: 1 })
    const slow = yield* connect({ name: "slow", session: 2 })
    yield* Effect.forkScoped(hub.drain)
    assert.strictEqual((yield* quick.next)._tag, "GoAway")
    yield* visitor.open("quick", 1, get("/"))
    assert.strictEqual((yield* quick.nextFrame).route.requestId, 1)
    yield* quick.say({ _tag: "GoAway", reason: "leaving" })
    yield* settle
    assert.strictEqual((yield* Effect.flip(visitor.open("quick", 2, get("/")))).reason, "NoResponders")
    yield* TestClock.adjust(limits.drainNoticeMs - 1)
    yield* visitor.open("slow", 3, get("/"))
    assert.strictEqual((yield* slow.nextFrame).route.requestId, 3)
    yield* TestClock.adjust(1)
    assert.strictEqual((yield* Effect.flip(visitor.open("slow", 4, get("/")))).reason, "NoResponders")
  }).pipe(Effect.provide(hubAlone()))
)

it.effect("a hub that drains takes nothing new, lets open streams finish, and then sends its runners away", () =>
  Effect.gen(function* () {
    const visitor = yield* gateway
    const hub = yield* Hub
    const runner = yield* connect({ name: "web" })
    yield* visitor.open("web", 1, get("/"))
    yield* visitor.next
    yield* runner.nextFrame
    const drained = yield* Effect.forkScoped(hub.drain)
    assert.strictEqual((yield* runner.next)._tag, "GoAway")
    yield* TestClock.adjust(limits.drainNoticeMs)
    assert.strictEqual((yield* Effect.flip(visitor.open("web", 2, get("/")))).reason, "NoResponders")
    const newcomer = yield* dial()
    yield* Fiber.join(newcomer.accepted)
    assert.strictEqual(newcomer.socket.closedUnsafe()?.code, closeCodes.draining.code)
    assert.isUndefined(drained.pollUnsafe())
    yield* runner.frames([{ route: route(1), index: 0, frame: answer }])
    assert.strictEqual((yield* visitor.next).route.requestId, 1)
    yield* TestClock.adjust("1 second")
    yield* Fiber.join(drained)
    assert.strictEqual(runner.socket.closedUnsafe()?.code, closeCodes.draining.code)
  }).pipe(Effect.provide(hubAlone()))
)
