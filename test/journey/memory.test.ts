/** The whole tunnel in memory, gateway to app and back, on the test's clock: what a visitor meets, whatever breaks between. */
import { createHash } from "node:crypto"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { Hub } from "../../src/hub/Hub.ts"
import { RouteStore } from "../../src/route/RouteStore.ts"
import { Runner } from "../../src/runner/Runner.ts"
import * as TestTunnel from "../../src/testing/TestTunnel.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { makeRandom } from "../fuzz/Mutation.ts"
import { settle } from "../hub/HubHarness.ts"
import { JourneyApp } from "./JourneyApp.ts"

const nothing = { inFlight: 0, streams: 0, openStreams: 0, open: 0, closing: 0 }
const sha256 = (chunks: ReadonlyArray<Uint8Array>) => {
  const hash = createHash("sha256")
  for (const chunk of chunks) hash.update(chunk)
  return hash.digest("hex")
}

/** Every fiber of the process, counted. */
const fibers = { active: 0 }
const countFibers: Metric.FiberRuntimeMetricsService = {
  recordFiberStart: () => void fibers.active++,
  recordFiberEnd: () => void fibers.active--
}

/** Runs a journey through a tunnel of its own; at the end every table must be empty and the app idle. */
const journey = <E>(
  title: string,
  body: (
    app: JourneyApp
  ) => Effect.Effect<void, E, Effect.Services<typeof TestTunnel.atRest> | Runner | TestTunnel.TunnelWire | Scope.Scope>,
  options: TestTunnel.TestTunnelOptions = {},
  timeoutMs = 20_000
) =>
  it.effect(
    title,
    () => {
      const app = new JourneyApp()
      return Effect.gen(function* () {
        const scope = yield* Scope.make()
        const context = yield* Layer.buildWithScope(TestTunnel.layer(options).pipe(Layer.provide(app.layer)), scope)
        const outcome = yield* Effect.exit(
          Effect.gen(function* () {
            yield* body(app)
            yield* settle
            assert.deepStrictEqual(yield* TestTunnel.atRest, nothing)
            assert.strictEqual(app.open, 0)
          }).pipe(Effect.provideContext(context))
        )
        // What a failed journey left open is drained in the test's time, or the failure would never be seen.
        const closing = yield* Effect.forkChild(Scope.close(scope, Exit.void))
        while (closing.pollUnsafe() === undefined) {
          yield* TestClock.adjust("1 second")
          yield* settle
        }
        return yield* outcome
      }).pipe(Effect.provideService(Metric.FiberRuntimeMetrics, countFibers))
    },
    timeoutMs
  )

describe("a request", () => {
  journey(
    "is answered by the app",
    Effect.fnUntraced(function* () {
      const { visitor } = yield* TestTunnel.visit({ target: "/hello?a=b" })
      const answer = yield* visitor.received
      assert.deepInclude(answer, { status: 200, state: "complete" })
      assert.strictEqual(visitor.text, "GET /hello?a=b")
    })
  )
  journey(
    "of which the body goes up and comes back keeps every byte and its trailers",
    Effect.fnUntraced(function* () {
      const { visitor } = yield* TestTunnel.visit({ method: "POST", target: "/echo", hasBody: true })
      const pieces = Array.from({ length: 200 }, (_, i) => new Uint8Array(20_000 + i).fill(i))
      for (const piece of pieces) visitor.send(piece)
      visitor.endBody([["x-sum", "42"]])
      const answer = yield* visitor.received
      assert.strictEqual(sha256(answer.chunks), sha256(pieces))
      assert.deepStrictEqual(answer.trailers, [["x-sum", "42"]])
    })
  )
  journey(
    "from a visitor that does not read costs one window and no more",
    Effect.fnUntraced(function* () {
      const { visitor, served } = yield* TestTunnel.visit({ target: "/down?bytes=50000000", unreadBytesMax: 1 })
      yield* settle
      yield* settle
      assert.isAtLeast(visitor.unreadBytes, 64 * 1024)
      assert.isAtMost(visitor.unreadBytes, limits.windowBytesInitial)
      // It comes all the same once it is read.
      while (visitor.answer.state === "open") {
        visitor.read(visitor.unreadBytes)
        yield* settle
      }
      yield* Fiber.join(served)
      assert.strictEqual(
        visitor.answer.chunks.reduce((sum, chunk) => sum + chunk.length, 0),
        50_000_000
      )
    })
  )
  journey(
    "that its visitor gives up interrupts the app in the same moment",
    Effect.fnUntraced(function* (app) {
      const { visitor, served } = yield* TestTunnel.visit({ target: "/hang" })
      yield* settle
      assert.strictEqual(app.open, 1)
      visitor.leave()
      yield* settle
      assert.strictEqual(app.open, 0)
      yield* Fiber.join(served)
    })
  )
  for (const [target, status] of [
    ["/fail", 502],
    ["/nothing", 502]
  ] as const) {
    journey(
      `that the app does not answer (${target}) becomes ${status}`,
      Effect.fnUntraced(function* () {
        const { visitor } = yield* TestTunnel.visit({ target })
        assert.strictEqual((yield* visitor.received).status, status)
      })
    )
  }
  journey(
    "that takes too long becomes 504, and the app is interrupted",
    Effect.fnUntraced(function* (app) {
      const { visitor } = yield* TestTunnel.visit({ target: "/hang" })
      yield* settle
      yield* TestClock.adjust("9 seconds")
      assert.strictEqual(visitor.answer.status, 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* visitor.received).status, 504)
      yield* settle
      assert.strictEqual(app.open, 0)
    }),
    { gateway: { responseStartMs: 10_000 } }
  )
  journey(
    "for a name nobody serves becomes 503 at once",
    Effect.fnUntraced(function* () {
      const { visitor } = yield* TestTunnel.visit({ headers: [["Host", "other.localhost"]] })
      assert.strictEqual((yield* visitor.received).status, 503)
    })
  )
})

describe("a lost connection", () => {
  journey(
    "is not noticed by a download that goes on after it",
    Effect.fnUntraced(function* (app) {
      const wire = yield* TestTunnel.TunnelWire
      const { visitor } = yield* TestTunnel.visit({ target: "/gate" })
      yield* settle
      assert.strictEqual(visitor.text, "before ")
      yield* wire.cut
      yield* Deferred.succeed(app.gate, undefined)
      yield* settle
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* visitor.received).state, "complete")
      assert.strictEqual(visitor.text, "before after")
      assert.strictEqual(yield* wire.dialled, 2)
    })
  )
  journey(
    "is not noticed by a WebSocket conversation: nothing lost, nothing doubled, nothing refused",
    Effect.fnUntraced(function* () {
      const wire = yield* TestTunnel.TunnelWire
      const { visitor, served } = yield* TestTunnel.visitUpgrade({ target: "/ws" })
      const answered = yield* visitor.answered
      if (answered._tag !== "Accepted") return yield* Effect.die(new Error("not accepted"))
      const { socket } = answered
      const got: Array<string> = []
      yield* Effect.forkChild(
        Effect.forever(Effect.map(socket.pull, (batch) => got.push(...batch.map(({ data }) => String(data[0])))))
      )
      for (let i = 0; i < 60; i++) {
        socket.sendUnsafe(new Uint8Array([i]), { binary: true, finish: true })
        if (i % 10 === 5) yield* wire.cut
        yield* settle
        if (i % 10 === 7) yield* TestClock.adjust("1 second")
      }
      while (got.length < 60) {
        yield* TestClock.adjust("1 second")
        yield* settle
      }
      assert.deepStrictEqual(
        got,
        Array.from({ length: 60 }, (_, i) => String(i))
      )
      assert.isAtLeast(yield* wire.dialled, 6)
      assert.isUndefined(socket.closedUnsafe())
      socket.closeUnsafe(1000, "")
      yield* Fiber.join(served)
    })
  )
  journey(
    "that lasts breaks the download within the grace period, and the next visitor learns that nobody is there",
    Effect.fnUntraced(function* () {
      const wire = yield* TestTunnel.TunnelWire
      const { visitor } = yield* TestTunnel.visit({ target: "/gate" })
      yield* settle
      yield* wire.setDown(true)
      yield* settle
      yield* TestClock.adjust(limits.sessionGraceMs - 1)
      assert.strictEqual(visitor.answer.state, "open")
      yield* TestClock.adjust(1)
      assert.strictEqual((yield* visitor.received).state, "broken")
      assert.strictEqual((yield* (yield* TestTunnel.visit()).visitor.received).status, 503)
      yield* wire.setDown(false)
      yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      assert.strictEqual((yield* (yield* TestTunnel.visit()).visitor.received).status, 200)
    })
  )
  journey(
    "makes a new request wait for the runner rather than fail",
    Effect.fnUntraced(function* () {
      const wire = yield* TestTunnel.TunnelWire
      yield* wire.setDown(true)
      yield* settle
      const { visitor } = yield* TestTunnel.visit()
      yield* settle
      assert.strictEqual(visitor.answer.status, 0)
      yield* wire.setDown(false)
      yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* visitor.received).status, 200)
    })
  )
})

describe("leaving", () => {
  journey(
    "of the runner: open requests finish, new ones find nobody",
    Effect.fnUntraced(function* (app) {
      const runner = yield* Runner
      const { visitor } = yield* TestTunnel.visit({ target: "/gate" })
      yield* settle
      const drained = yield* Effect.forkChild(runner.drain)
      yield* settle
      assert.strictEqual((yield* (yield* TestTunnel.visit()).visitor.received).status, 503)
      yield* Deferred.succeed(app.gate, undefined)
      assert.strictEqual((yield* visitor.received).state, "complete")
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(drained)
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
    })
  )
})

const seed = 4_711
journey(
  `ten thousand requests and a thousand WebSockets, given up at random points by either side, leave nothing behind (seed ${seed})`,
  Effect.fnUntraced(function* (app) {
    const random = makeRandom(seed)
    const wire = yield* TestTunnel.TunnelWire
    yield* settle
    const fibersAtRest = fibers.active
    const targets = ["/hello", "/echo", "/down?bytes=300000", "/hang", "/fail", "/nothing", "/gate"]
    const pause = Effect.suspend(() => Effect.replicateEffect(Effect.yieldNow, random.below(12), { discard: true }))
    const oneRequest = Effect.gen(function* () {
      const target = targets[random.below(targets.length)] as string
      const hasBody = target === "/echo" || random.below(4) === 0
      const options = { method: hasBody ? "POST" : "GET", target, hasBody }
      const slow = random.below(3) === 0 ? { unreadBytesMax: 1000 } : {}
      const { visitor, served } = yield* TestTunnel.visit({ ...options, ...slow })
      if (hasBody) visitor.send(new Uint8Array(random.below(100_000)))
      yield* pause
      if (hasBody && random.below(2) === 0) visitor.endBody()
      yield* pause
      visitor.read(random.below(100_000))
      yield* pause
      visitor.leave()
      yield* Fiber.join(served)
    })
    const oneSocket = Effect.gen(function* () {
      const { visitor, served } = yield* TestTunnel.visitUpgrade({
        target: random.below(5) === 0 ? "/refuse" : "/ws"
      })
      yield* pause
      if (random.below(4) === 0) visitor.leave()
      else {
        const answered = yield* visitor.answered
        if (answered._tag === "Accepted") {
          answered.socket.sendUnsafe(new Uint8Array(random.below(5_000)), { binary: true, finish: true })
          yield* pause
          if (random.below(2) === 0) answered.socket.terminateUnsafe()
          else answered.socket.closeUnsafe(4000, "enough")
        }
      }
      yield* Fiber.join(served)
    })
    for (let round = 0; round < 100; round++) {
      yield* Effect.all(
        [
          Effect.replicateEffect(oneRequest, 100, { concurrency: 20 }),
          Effect.replicateEffect(oneSocket, 10, { concurrency: 5 })
        ],
        {
          concurrency: 2,
          discard: true
        }
      )
      // The other side gives up too: everything the runner had is gone with its session.
      if (round % 25 === 24) {
        const stuck = yield* TestTunnel.visit({ target: "/hang" })
        yield* settle
        yield* wire.setDown(true)
        yield* TestClock.adjust(limits.sessionGraceMs + 1_000)
        yield* Fiber.join(stuck.served)
        yield* wire.setDown(false)
        yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      }
    }
    yield* settle
    assert.strictEqual(app.open, 0)
    assert.strictEqual((yield* Runner).countsUnsafe().openStreams, 0)
    // The gateway's alarm rings once more for deadlines that nobody has any longer.
    yield* TestClock.adjust(limits.responseStartMs)
    assert.isAtMost(fibers.active, fibersAtRest)
    // Tombstones go with time, and then there is nothing at all.
    yield* TestClock.adjust(limits.halfClosedMs)
    yield* TestClock.adjust(limits.tombstoneMs + 1_000)
    assert.deepStrictEqual(yield* RouteStore.use((routes) => routes.counts), {
      Open: 0,
      Closing: 0,
      HalfClosed: 0,
      Closed: 0
    })
  }),
  {},
  120_000
)
