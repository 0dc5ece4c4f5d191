import { assert, describe, it } from "@effect/vitest"
import { Context, Deferred, Effect, Exit, Fiber, Layer, Queue, Redacted, Scope, Stream, SubscriptionRef } from "effect"
import { TestClock } from "effect/testing"
import * as Reconnect from "../../src/runner/Reconnect.ts"
import * as Runner from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { Turn } from "../../src/tunnel/Turn.ts"
import { type Accepted, bytes, type FakeHub, get, HubSide, makeFakeHub, route, soon, unreachable } from "./FakeHub.ts"

const hello = bytes("hello")
const large = new Uint8Array(1024 * 1024)

/** Answers `/hello` and `/large` at once, waits for ever at anything else. */
const app = RunnerApp.of({
  request: (stream) => {
    if (stream.target === "/hello") return stream.respond(200, [], hello)
    return stream.target === "/large" ? stream.respond(200, [], large) : Effect.never
  },
  webSocket: () => Effect.never
})

const sessionIds = (): (() => Uint8Array) => {
  let drawn = 0
  return () => new Uint8Array(16).fill(++drawn)
}

/** Starts a runner in its own scope, so that a test can close it. */
const start = Effect.fnUntraced(function* (hub: FakeHub, given: Partial<Runner.RunnerOptions> = {}) {
  // A test that ends with a stream open must not wait for a drain: its clock stands still.
  const options = { drain: 0, ...given }
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const building = yield* Layer.build(
    Runner.layer({ hubUrl: "ws://hub.test:6420", name: "web", ...options }).pipe(
      Layer.provide(hub.layer),
      Layer.provide(Layer.succeed(RunnerApp, app)),
      Layer.provide(Layer.succeed(Turn, soon)),
      Layer.provide(Layer.succeed(Runner.NewSessionId, sessionIds()))
    )
  ).pipe(Effect.provideService(Scope.Scope, scope), Effect.forkScoped)
  const runner = Effect.map(Fiber.join(building), (context) => Context.get(context, Runner.Runner))
  return { runner, close: Scope.close(scope, Exit.void) }
})

const statusOf = (runner: Runner.Runner["Service"]) => SubscriptionRef.getUnsafe(runner.status)

describe("a runner", () => {
  it.effect("dials the hub's path with its subprotocol and token, and introduces itself", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner } = yield* start(hub, {
        hubUrl: "http://hub.test:6420",
        token: Redacted.make("a-secret-token"),
        agent: "test/1"
      })
      const connection = yield* hub.accept()
      assert.deepStrictEqual(hub.state.dialled, ["ws://hub.test:6420/runners/connect"])
      assert.deepStrictEqual(connection.options.protocols, ["wayleave.1"])
      assert.deepStrictEqual(connection.options.headers, [["authorization", "Bearer a-secret-token"]])
      assert.deepInclude(connection.hello, { versions: [1], name: "web", received: 0, agent: "test/1" })
      assert.deepStrictEqual([...connection.hello.session], Array(16).fill(1))
      const status = yield* Effect.flatMap(runner, (runner) => runner.connected)
      assert.deepInclude(status, { publicUrl: "http://web.localhost:6420", hub: "hub-1", resumed: false })
    })
  )

  it.effect("answers a request of the hub", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      yield* start(hub)
      const connection = yield* hub.accept()
      connection.down(route(1), get("/hello"))
      assert.deepStrictEqual(yield* connection.next, {
        route: route(1),
        index: 0,
        frame: { _tag: "ResponseStart", status: 200, headers: [], body: Buffer.from(hello), streamed: false }
      })
    })
  )

  it.effect("pings, measures the round trip, and leaves a hub that falls silent", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const connection = yield* hub.accept()
      const runner = yield* starting
      const ping = yield* Queue.take(connection.controls)
      assert.strictEqual(ping._tag, "Ping")
      yield* TestClock.adjust(30)
      connection.say({ _tag: "Pong", nonce: ping._tag === "Ping" ? ping.nonce : 0, received: 0 })
      yield* settle
      assert.deepInclude(statusOf(runner), { _tag: "Connected", roundTripMs: 30 })
      yield* TestClock.adjust(25_001)
      assert.strictEqual((yield* connection.closed).code, 4408)
      assert.strictEqual(statusOf(runner)._tag, "Waiting")
      yield* TestClock.adjust(limits.reconnectMaxMs)
      yield* hub.accept()
    })
  )

  it.effect("answers a ping, and a flood of them once per read", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      yield* start(hub)
      const connection = yield* hub.accept()
      yield* Queue.take(connection.controls)
      for (let nonce = 1; nonce <= 100; nonce++) connection.say({ _tag: "Ping", nonce, received: 0 })
      yield* settle
      assert.deepStrictEqual(yield* Queue.takeAll(connection.controls), [{ _tag: "Pong", nonce: 100, received: 0 }])
    })
  )

  it.effect("gives up on a hub that takes the socket and says nothing, and dials again", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      yield* hub.receive(new HubSide())
      yield* TestClock.adjust(limits.helloTimeoutMs)
      const runner = yield* starting
      assert.deepInclude(statusOf(runner), { _tag: "Waiting", cause: "the hub did not answer in time" })
      yield* TestClock.adjust(limits.reconnectMaxMs)
      yield* hub.accept()
      yield* runner.connected
    })
  )

  it.effect("gives up on a dial that hangs", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      hub.state.hanging = true
      const { runner: starting } = yield* start(hub)
      yield* TestClock.adjust(limits.helloTimeoutMs)
      assert.deepInclude(statusOf(yield* starting), { _tag: "Waiting", cause: "the dial timed out" })
    })
  )

  it.effect("dials again for ever: at first after 200 ms, then doubling, at most 3 s, with 20 % of jitter", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      hub.state.refusing = unreachable
      const { runner: starting } = yield* start(hub)
      const runner = yield* starting
      const waits: Array<number> = []
      for (let i = 0; i < 20; i++) {
        const status = statusOf(runner)
        assert(status._tag === "Waiting")
        waits.push(status.retryInMs)
        yield* TestClock.adjust(status.retryInMs)
      }
      assert.strictEqual(hub.state.dialled.length, 21)
      const ideal = waits.map((_, i) => Math.min(200 * 2 ** i, 3_000))
      for (let i = 0; i < waits.length; i++) {
        assert.isAtLeast(waits[i] as number, (ideal[i] as number) * 0.8)
        assert.isAtMost(waits[i] as number, (ideal[i] as number) * 1.2)
      }
      assert.isAbove(new Set(waits.slice(5)).size, 10)
    })
  )

  it.effect("begins the waits anew after a connection that lasted, not after one that broke at once", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      let connection = yield* hub.accept()
      const runner = yield* starting
      const lose = Effect.gen(function* () {
        connection.socket.terminateUnsafe()
        yield* settle
        const status = statusOf(runner)
        assert(status._tag === "Waiting")
        yield* TestClock.adjust(status.retryInMs)
        connection = yield* hub.accept()
        yield* settle
        return status.retryInMs
      })
      for (let i = 0; i < 4; i++) yield* lose
      assert.isAbove(yield* lose, 2_000)
      yield* TestClock.adjust(10_000)
      assert.isBelow(yield* lose, 250)
    })
  )

  it.effect("fails for good where the hub will never have it", () =>
    Effect.gen(function* () {
      for (const reason of ["unauthorized", "forbidden", "bad_name", "unsupported_version"] as const) {
        const hub = yield* makeFakeHub()
        const { runner } = yield* start(hub)
        const connection = yield* hub.receive(new HubSide())
        connection.socket.closeUnsafe(
          { unauthorized: 4401, forbidden: 4403, bad_name: 4404, unsupported_version: 4426 }[reason],
          "no"
        )
        const error = yield* Effect.flip(runner)
        assert.deepInclude(error, { _tag: "RunnerRefused", reason })
      }
    })
  )

  it.effect("a refusal by HTTP status is a refusal too, and a hub URL that is none is told at once", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      hub.state.refusing = new (unreachable.constructor as new (props: object) => typeof unreachable)({
        url: "ws://hub",
        reason: "Refused",
        status: 401,
        message: "the server answered HTTP 401"
      })
      assert.deepInclude(yield* Effect.flip((yield* start(hub)).runner), { reason: "unauthorized" })
      assert.deepInclude(yield* Effect.flip((yield* start(hub, { hubUrl: "ws://hub.test,hub.test" })).runner), {
        reason: "bad_hub_url"
      })
    })
  )

  it.effect("keeps trying after it was welcome once, unless a newer runner took its session", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      first.socket.closeUnsafe(4401, "the token file is being written")
      yield* settle
      assert.strictEqual(statusOf(runner)._tag, "Waiting")
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const second = yield* hub.accept()
      yield* settle
      second.socket.closeUnsafe(4409, "fenced")
      assert.deepInclude(yield* Effect.flip(runner.refused), { reason: "fenced" })
      assert.strictEqual(statusOf(runner)._tag, "Refused")
      yield* TestClock.adjust(60_000)
      assert.strictEqual(hub.state.dialled.length, 2)
    })
  )

  it.effect("resumes: what the hub lacks is repeated once, and open streams go on", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      first.down(route(1), get("/wait"))
      yield* settle
      assert.strictEqual(runner.countsUnsafe().openStreams, 1)
      first.socket.terminateUnsafe()
      yield* settle
      yield* TestClock.adjust(limits.reconnectMaxMs)
      // The hub lost this answer with its socket: it was sent, and never read.
      first.side.down(route(2), get("/hello"))
      const second = yield* hub.accept({ side: first.side })
      assert.strictEqual(second.hello.received, 1)
      assert.deepStrictEqual([...second.hello.session], [...first.hello.session])
      assert.deepInclude((yield* second.next).route, route(2))
      assert.deepInclude(statusOf(runner), { _tag: "Connected", resumed: true })
      assert.strictEqual(runner.countsUnsafe().openStreams, 1)
    })
  )

  it.effect("what was queued when the socket broke is still there after the reconnect, however much it is", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      yield* start(hub)
      const first = yield* hub.accept()
      first.stall()
      const streams = 40
      for (let id = 1; id <= streams; id++) first.down(route(id), get("/large"))
      // 10 MiB wait for a hub that does not read, more than is kept of what was sent.
      yield* settle
      first.socket.terminateUnsafe()
      yield* settle
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const second = yield* hub.accept({ side: first.side })
      let received = 0
      while (received < streams * limits.windowBytesInitial) {
        const { frame } = yield* second.next
        assert.notStrictEqual(frame._tag, "ResponseAbort")
        if (frame._tag === "ResponseChunk") received += frame.body.length
      }
    })
  )

  it.effect("sends no more before the first credit than the hub's window allows", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      yield* start(hub)
      const connection = yield* hub.accept({ welcome: { windowBytes: 1_000 } })
      connection.down(route(1), get("/large"))
      yield* settle
      const sizes = (yield* Queue.takeAll(connection.frames)).map(({ frame }) =>
        frame._tag === "ResponseChunk" ? frame.body.length : frame._tag
      )
      assert.deepStrictEqual(sizes, ["ResponseStart", 1_000])
    })
  )

  it.effect("a hub that does not know the session costs the open streams, and a fresh numbering begins", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      first.down(route(1), get("/wait"))
      yield* settle
      first.socket.terminateUnsafe()
      yield* settle
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const second = yield* hub.accept()
      yield* settle
      assert.strictEqual(runner.countsUnsafe().openStreams, 0)
      second.down(route(1), get("/hello"))
      assert.deepInclude((yield* second.next).frame, { _tag: "ResponseStart", status: 200 })
    })
  )

  it.effect("a hub that would go on where the runner no longer can is left, and met again as a stranger", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      yield* start(hub)
      const first = yield* hub.accept({ welcome: { outcome: "resumed", received: 9 } })
      yield* first.closed
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const second = yield* hub.accept()
      assert.notDeepEqual([...second.hello.session], [...first.hello.session])
    })
  )

  it.effect("a hub from before does not go on with a session that began anew at another meanwhile", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept({ welcome: { hub: "hub-1" } })
      const runner = yield* starting
      const lose = (connection: Accepted) =>
        Effect.andThen(
          Effect.sync(() => connection.socket.terminateUnsafe()),
          Effect.andThen(settle, TestClock.adjust(limits.reconnectMaxMs))
        )
      yield* lose(first)
      const second = yield* hub.accept({ welcome: { hub: "hub-2" } })
      second.down(route(1), get("/wait"))
      yield* settle
      yield* lose(second)
      // The same numbers on both sides, by chance: nothing else shows that they are of two conversations.
      const third = yield* hub.accept({ side: first.side, welcome: { hub: "hub-1" } })
      yield* third.closed
      yield* settle
      assert.strictEqual(runner.countsUnsafe().openStreams, 0)
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const fourth = yield* hub.accept({ welcome: { hub: "hub-1" } })
      assert.deepStrictEqual([...third.hello.session], [...first.hello.session])
      assert.notDeepEqual([...fourth.hello.session], [...first.hello.session])
      fourth.down(route(2), get("/hello"))
      assert.deepInclude((yield* fourth.next).frame, { _tag: "ResponseStart", status: 200 })
    })
  )

  it.effect("a message that does not decode ends the connection and the session, and is counted", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      first.down(route(1), get("/wait"))
      yield* settle
      first.socket.sendUnsafe(new Uint8Array([99, 1, 2]), { binary: true, finish: true })
      assert.strictEqual((yield* first.closed).code, 4400)
      yield* settle
      assert.deepInclude(runner.countsUnsafe(), { nonsense: 1, openStreams: 0 })
      yield* TestClock.adjust(limits.reconnectMaxMs)
      const second = yield* hub.accept()
      assert.notDeepEqual([...second.hello.session], [...first.hello.session])
      assert.strictEqual(second.hello.received, 0)
    })
  )

  it.effect("a session that the hub must have forgotten meanwhile is given up here too", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      first.down(route(1), get("/wait"))
      yield* settle
      hub.state.refusing = unreachable
      first.socket.terminateUnsafe()
      yield* settle
      yield* TestClock.adjust(25_000)
      assert.strictEqual(runner.countsUnsafe().openStreams, 1)
      yield* TestClock.adjust(10_000)
      assert.strictEqual(runner.countsUnsafe().openStreams, 0)
    })
  )

  it.effect("is at another hub at once when its own goes away, and finishes there what is open", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      first.down(route(1), get("/wait"))
      yield* settle
      yield* TestClock.adjust(Reconnect.lastedMs)
      yield* Queue.takeAll(first.controls)
      first.say({ _tag: "GoAway", reason: "draining" })
      const second = yield* hub.accept({ welcome: { hub: "hub-2" } })
      assert.notDeepEqual([...second.hello.session], [...first.hello.session])
      yield* settle
      assert.deepInclude(statusOf(runner), { _tag: "Connected", hub: "hub-2" })
      // Only now is the old hub told to send nothing more; what it sent before is served.
      assert.deepStrictEqual(yield* Queue.take(first.controls), { _tag: "GoAway", reason: "leaving" })
      first.down(route(2), get("/hello"))
      assert.deepInclude(yield* first.answer, { _tag: "ResponseStart", status: 200 })
      second.down(route(3), get("/hello"))
      assert.deepInclude(yield* second.answer, { _tag: "ResponseStart", status: 200 })
      yield* TestClock.adjust(limits.leavingLingerMs)
      assert.strictEqual(runner.countsUnsafe().openStreams, 1)
      first.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
      assert.strictEqual((yield* first.closed).code, 1000)
      assert.isUndefined(second.socket.closedUnsafe())
      yield* settle
      assert.deepInclude(runner.countsUnsafe(), { openStreams: 0, connections: 2 })
    })
  )

  it.effect("dials a hub that goes away again and again no faster than one that is gone", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      let connection = yield* hub.accept()
      const runner = yield* starting
      const waits: Array<number> = []
      for (let i = 0; i < 8; i++) {
        connection.say({ _tag: "GoAway", reason: "draining" })
        connection.socket.closeUnsafe(1012, "the hub is going away")
        yield* settle
        const status = statusOf(runner)
        assert(status._tag === "Waiting")
        assert.strictEqual(status.cause, "the hub is going away")
        waits.push(status.retryInMs)
        yield* TestClock.adjust(status.retryInMs)
        connection = yield* hub.accept()
        yield* settle
      }
      assert.strictEqual(hub.state.dialled.length, 9)
      assert.isAtLeast(Math.min(...waits), 160)
      assert.isAbove(waits.at(-1) as number, 2_000)
    })
  )

  it.effect("tries several hubs in turn, and stays with the one that has it", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      hub.state.refusing = unreachable
      const { runner: starting } = yield* start(hub, { hubUrl: "ws://a.test, https://b.test,ws://c.test:1/x" })
      const runner = yield* starting
      for (let i = 0; i < 5; i++) yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      const urls = ["ws://a.test/runners/connect", "wss://b.test/runners/connect", "ws://c.test:1/x/runners/connect"]
      const start0 = urls.indexOf(hub.state.dialled[0] as string)
      assert.deepStrictEqual(
        hub.state.dialled,
        hub.state.dialled.map((_, i) => urls[(start0 + i) % 3])
      )
      hub.state.refusing = undefined
      const status = statusOf(runner)
      yield* TestClock.adjust(status._tag === "Waiting" ? status.retryInMs : 0)
      const connection = yield* hub.accept()
      const reached = hub.state.dialled.at(-1)
      connection.socket.terminateUnsafe()
      yield* settle
      yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      yield* hub.accept()
      assert.strictEqual(hub.state.dialled.at(-1), reached)
    })
  )

  it.effect(
    "drains when its scope closes: says so, takes nothing new, lets open streams finish, closes with 1000",
    () =>
      Effect.gen(function* () {
        const hub = yield* makeFakeHub()
        const { close, runner: starting } = yield* start(hub, { drain: "20 seconds" })
        const connection = yield* hub.accept()
        const runner = yield* starting
        yield* Queue.take(connection.controls)
        connection.down(route(1), get("/wait"))
        yield* settle
        const closing = yield* Effect.forkChild(close)
        assert.deepStrictEqual(yield* Queue.take(connection.controls), { _tag: "GoAway", reason: "leaving" })
        connection.down(route(2), get("/hello"))
        assert.deepInclude(yield* connection.next, {
          route: route(2),
          frame: { _tag: "ResponseAbort", code: "draining", message: "the runner is leaving" }
        })
        assert.strictEqual(runner.countsUnsafe().openStreams, 1)
        assert.isUndefined(closing.pollUnsafe())
        connection.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
        yield* Fiber.join(closing)
        assert.strictEqual((yield* connection.closed).code, 1000)
      })
  )

  it.effect("what has not finished when the time to drain is over is aborted, and the hub hears of it", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { close, runner } = yield* start(hub, { drain: "3 seconds" })
      const connection = yield* hub.accept()
      yield* runner
      connection.down(route(1), get("/wait"))
      yield* settle
      const closing = yield* Effect.forkChild(close)
      yield* TestClock.adjust(2_999)
      assert.isUndefined(closing.pollUnsafe())
      yield* TestClock.adjust(10)
      assert.deepInclude((yield* connection.next).frame, { _tag: "ResponseAbort", code: "session_lost" })
      yield* Fiber.join(closing)
    })
  )

  it.effect("a runner that is waiting to dial closes at once", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      hub.state.refusing = unreachable
      const { close, runner } = yield* start(hub)
      yield* runner
      yield* close
    })
  )

  it.effect("tells each change of its status", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { runner: starting } = yield* start(hub)
      const first = yield* hub.accept()
      const runner = yield* starting
      const seen = yield* Deferred.make<void>()
      yield* SubscriptionRef.changes(runner.status).pipe(
        (changes) => Effect.forkScoped(streamUntil(changes, "Waiting", seen)),
        Effect.andThen(settle)
      )
      first.socket.terminateUnsafe()
      yield* Deferred.await(seen)
    })
  )
})

const streamUntil = (
  changes: Stream.Stream<Runner.RunnerStatus>,
  tag: Runner.RunnerStatus["_tag"],
  seen: Deferred.Deferred<void>
) => Stream.runForEach(changes, (status) => (status._tag === tag ? Deferred.succeed(seen, undefined) : Effect.void))

/** Lets every fiber that can run do so: nothing here waits for a real socket. */
const settle = Effect.replicateEffect(Effect.yieldNow, 10, { discard: true })
