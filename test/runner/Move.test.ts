/** What a runner says of its session to a hub that may not know it, and what it does when that hub goes on with it. */
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Exit, Fiber, Layer, Queue, Scope } from "effect"
import { TestClock } from "effect/testing"
import * as Reconnect from "../../src/runner/Reconnect.ts"
import * as Runner from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import type { RequestFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { Turn } from "../../src/tunnel/Turn.ts"
import { type Accepted, bytes, type FakeHub, get, makeFakeHub, route, soon, text } from "./FakeHub.ts"

const settle = Effect.replicateEffect(Effect.yieldNow, 30, { discard: true })
const chunk = (size: number, finish = false): RequestFrame => ({
  _tag: "RequestChunk",
  body: new Uint8Array(size),
  finish
})

/** `/say` writes what the test puts into a queue, `/read` reads what comes, one pull for each thing put there; `/now` answers at once. */
const start = Effect.fnUntraced(function* (hub: FakeHub) {
  const steps = yield* Queue.unbounded<string>()
  const app = RunnerApp.of({
    request: Effect.fnUntraced(function* (stream) {
      if (stream.target === "/now") return yield* stream.respond(200, [], bytes("now"))
      if (stream.target === "/never") return yield* Effect.never
      if (stream.target === "/say") yield* stream.start(200, [])
      for (;;) {
        const step = yield* Queue.take(steps)
        if (step === "end") return yield* stream.finish()
        if (stream.target === "/say") yield* stream.write(step === "much" ? new Uint8Array(200_000) : bytes(step))
        else yield* Effect.ignore(stream.pull)
      }
    }),
    webSocket: () => Effect.never
  })
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const building = yield* Layer.build(
    Runner.layer({ hubUrl: "ws://hub.test", name: "web", drain: 0 }).pipe(
      Layer.provide(hub.layer),
      Layer.provide(Layer.succeed(RunnerApp, app)),
      Layer.provide(Layer.succeed(Turn, soon))
    )
  ).pipe(Effect.provideService(Scope.Scope, scope), Effect.forkScoped)
  const first = yield* hub.accept()
  const runner = Context.get(yield* Fiber.join(building), Runner.Runner)
  const lose = (connection: Accepted) =>
    Effect.sync(() => connection.socket.terminateUnsafe()).pipe(
      Effect.andThen(settle),
      Effect.andThen(TestClock.adjust(limits.reconnectMaxMs * 1.2))
    )
  return { first, runner, lose, say: (...all: Array<string>) => Effect.andThen(Queue.offerAll(steps, all), settle) }
})

const adopted = { welcome: { outcome: "adopted", hub: "hub-2" } } as const

describe("a runner whose hub does not know its session", () => {
  it.effect("has said where its streams stand, and goes on with them in a numbering of its own", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { first, lose, runner, say } = yield* start(hub)
      assert.deepInclude(first.hello, { connection: 1, hub: "", received: 0, streams: [] })
      first.down(route(1), get("/say"))
      yield* settle
      // Says that the head was received as well.
      first.down(route(1), { _tag: "Credit", bytes: 500 })
      yield* settle
      yield* say("one", "two")
      yield* lose(first)
      yield* say("three")
      const second = yield* hub.accept(adopted)
      assert.deepInclude(second.hello, { connection: 2, hub: "hub-1", received: 2 })
      assert.deepStrictEqual(second.hello.streams, [
        { route: route(1), from: 1, open: { next: 1, credited: 500, granted: limits.windowBytesInitial } }
      ])
      const frames = [yield* second.next, yield* second.next, yield* second.next]
      assert.deepStrictEqual(
        frames.map(({ frame, index }) => [index, frame._tag === "ResponseChunk" && text(frame.body)]),
        [
          [1, "one"],
          [2, "two"],
          [3, "three"]
        ]
      )
      yield* say("end")
      assert.deepInclude((yield* second.next).frame, { _tag: "ResponseChunk", finish: true })
      assert.strictEqual(runner.countsUnsafe().openStreams, 0)
    })
  )

  it.effect("repeats no credit: what it granted stands in Hello, and only what came after that is said", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { first, lose, say } = yield* start(hub)
      first.down(route(1), get("/read", { streamed: true }))
      const piece = limits.chunkBytesMax
      for (let i = 0; i < 4; i++) first.down(route(1), chunk(piece))
      yield* say("pull")
      const granted = yield* first.next
      assert.strictEqual(granted.frame._tag, "Credit")
      first.down(route(1), chunk(piece))
      yield* settle
      yield* lose(first)
      const second = yield* hub.receive(first.side)
      const bytesGranted = granted.frame._tag === "Credit" ? granted.frame.bytes : 0
      assert.deepStrictEqual(second.hello.streams, [
        {
          route: route(1),
          from: 0,
          open: { next: 6, credited: 0, granted: limits.windowBytesInitial + bytesGranted }
        }
      ])
      // Read between Hello and Welcome.
      yield* say("pull")
      second.say({
        _tag: "Welcome",
        version: 1,
        outcome: "adopted",
        received: 0,
        heartbeatMs: 10_000,
        heartbeatDeadlineMs: 25_000,
        graceMs: 5_000,
        windowBytes: limits.windowBytesInitial,
        domain: "localhost",
        hub: "hub-2",
        capabilities: []
      })
      assert.deepInclude((yield* second.next).frame, { _tag: "Credit", bytes: 4 * piece })
      yield* settle
      assert.deepStrictEqual(yield* Queue.clear(second.frames), [])
    })
  )

  it.effect("names streams that are over for it, while their end may not have been heard", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { first, lose } = yield* start(hub)
      first.down(route(1), get("/now"))
      yield* settle
      first.say({ _tag: "Ack", received: 1 })
      first.down(route(2), get("/now"))
      yield* settle
      yield* lose(first)
      const second = yield* hub.accept(adopted)
      assert.deepStrictEqual(second.hello.streams, [{ route: route(2), from: 0, open: null }])
      assert.deepInclude(yield* second.next, { route: route(2), index: 0 })
    })
  )

  it.effect("names none that it lost before they were over: nothing more would ever come of them", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { first, lose, runner, say } = yield* start(hub)
      first.down(route(1), get("/say"))
      yield* say("begun")
      first.say({ _tag: "Reset", route: route(1), code: "unknown_route" })
      yield* settle
      assert.strictEqual(runner.countsUnsafe().openStreams, 0)
      yield* lose(first)
      const second = yield* hub.accept({ welcome: { hub: "hub-2" } })
      assert.deepStrictEqual(second.hello.streams, [])
      yield* settle
      assert.deepStrictEqual(yield* Queue.clear(second.frames), [])
    })
  )

  it.effect("names none where it has forgotten what the old hub may not have heard, and they end", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { first, lose, runner, say } = yield* start(hub)
      first.down(route(1), get("/say"))
      yield* settle
      first.down(route(1), { _tag: "Credit", bytes: 16 * 1024 * 1024 })
      yield* settle
      // It reads on, and acknowledges nothing.
      first.side.link.detach(first.socket)
      const much = Math.ceil(limits.linkReplayBytesMax / 200_000) + 1
      yield* say(...Array.from({ length: much }, () => "much"))
      assert.strictEqual(runner.countsUnsafe().openStreams, 1)
      yield* lose(first)
      const second = yield* hub.accept({ welcome: { hub: "hub-2" } })
      assert.deepStrictEqual(second.hello.streams, [])
      yield* settle
      assert.strictEqual(runner.countsUnsafe().openStreams, 0)
    })
  )

  it.effect("loses a stream that the hub's Reset names, and no other", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const { first, lose, runner } = yield* start(hub)
      first.down(route(1), get("/never"))
      first.down(route(2), get("/never"))
      yield* settle
      yield* lose(first)
      const second = yield* hub.accept(adopted)
      second.say({ _tag: "Reset", route: route(1), code: "unknown_route" })
      yield* settle
      assert.strictEqual(runner.countsUnsafe().openStreams, 1)
    })
  )
})

it.effect("a runner finishes with so many hubs that go away, and ends the oldest session beyond", () =>
  Effect.gen(function* () {
    const hub = yield* makeFakeHub()
    const { first, runner } = yield* start(hub)
    const connections = [first]
    for (let i = 0; i <= limits.sessionsLeavingMax; i++) {
      const connection = connections.at(-1) as Accepted
      connection.down(route(i), get("/never"))
      yield* settle
      yield* TestClock.adjust(Reconnect.lastedMs)
      assert.strictEqual(runner.countsUnsafe().openStreams, i + 1)
      connection.say({ _tag: "GoAway", reason: "draining" })
      connections.push(yield* hub.accept())
      yield* settle
    }
    assert.strictEqual(runner.countsUnsafe().openStreams, limits.sessionsLeavingMax)
    assert.strictEqual((yield* first.closed).code, 1000)
    for (const connection of connections.slice(1)) assert.isUndefined(connection.socket.closedUnsafe())
  })
)
