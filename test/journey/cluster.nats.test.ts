/** What only several processes can show: runners at each, a runner that leaves, a NATS server that goes and comes back. */
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { natsStartTimeoutMs, requireNatsServer, startNatsServer } from "../bus/NatsServer.ts"
import { startLocalApp } from "./LocalApp.ts"
import * as Processes from "./Processes.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const two = Effect.gen(function* () {
  const nats = yield* startNatsServer()
  const [one, other] = yield* Effect.all([Processes.serve(0, nats.url), Processes.serve(0, nats.url)], {
    concurrency: 2
  })
  return { nats, one, other }
})

const expect = (port: number, status: number, path = "/") =>
  Effect.flatMap(Processes.fetch(port, { path }), (answer) =>
    answer.status === status
      ? Effect.succeed(answer)
      : Effect.fail(new Error(`status ${answer.status}: ${answer.text}`))
  )

const ready = (adminPort: number, status: number) =>
  Effect.flatMap(Processes.fetch(adminPort, { path: "/health/ready", host: "127.0.0.1" }), (answer) =>
    answer.status === status ? Effect.succeed(answer.text) : Effect.fail(new Error(answer.text))
  )

const atRest = Effect.fnUntraced(function* (adminPort: number) {
  const values = yield* Effect.all([
    Processes.metric(adminPort, "wayleave_hub_open_streams"),
    Processes.metric(adminPort, "wayleave_hub_routes", '{state="open"}'),
    Processes.metric(adminPort, "wayleave_hub_routes", '{state="closing"}'),
    Processes.metric(adminPort, "wayleave_gateway_in_flight")
  ])
  if (values.some((value) => value !== 0)) return yield* Effect.fail(new Error(values.join(" ")))
})

it.live(
  "runners of one name at two hubs share its work, and what one leaves the other takes, at once",
  () =>
    Effect.gen(function* () {
      const { one, other } = yield* two
      const [near, far] = yield* Effect.all([startLocalApp, startLocalApp])
      const first = yield* Processes.expose(near.port, one.port)
      yield* Processes.expose(far.port, other.port)
      const seenBy = (port: number) => Processes.metric(port, "wayleave_hub_frames_published_total")
      const ask = (count: number) =>
        Effect.forEach(Array.from({ length: count }), () => expect(one.port, 200), { concurrency: 10 })
      yield* ask(60)
      for (const { adminPort } of [one, other]) assert.isAbove(yield* seenBy(adminPort), 5)
      first.child.kill("SIGTERM")
      yield* first.ended
      const before = yield* seenBy(one.adminPort)
      yield* ask(60)
      assert.strictEqual(yield* seenBy(one.adminPort), before)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "a runner that left is nobody at every process, and that is told at once",
  () =>
    Effect.gen(function* () {
      const { one, other } = yield* two
      const app = yield* startLocalApp
      const runner = yield* Processes.expose(app.port, one.port)
      yield* expect(other.port, 200)
      runner.child.kill("SIGTERM")
      yield* runner.ended
      for (const { port } of [one, other]) {
        const started = performance.now()
        assert.match((yield* expect(port, 503)).text, /no_runner/)
        assert.isBelow(performance.now() - started, 500)
      }
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "a NATS server that goes away ends what was open, is told by readiness, and is used again when it is back",
  () =>
    Effect.gen(function* () {
      const { nats, one, other } = yield* two
      const app = yield* startLocalApp
      yield* Processes.expose(app.port, one.port)
      const ws = yield* Processes.openWebSocket(other.port, "/ws")
      const hanging = yield* Effect.forkChild(Processes.fetch(other.port, { path: "/hang" }), {
        startImmediately: true
      })
      yield* Processes.within(
        5_000,
        Effect.suspend(() => (app.open().length === 2 ? Effect.void : Effect.fail(new Error(app.open().join(", ")))))
      )
      const closing = yield* Effect.forkChild(Processes.closed(ws), { startImmediately: true })
      yield* nats.kill
      const [code, reason] = yield* Fiber.join(closing)
      assert.deepStrictEqual([code, reason], [1014, "runner_lost"])
      const broken = yield* Fiber.join(hanging)
      assert.strictEqual(broken.status, 502)
      assert.match(broken.text, /runner_lost/)
      for (const { adminPort } of [one, other]) {
        const [, text] = yield* Processes.within(2_000, ready(adminPort, 503))
        assert.strictEqual(text, '{"status":"disconnected"}')
      }
      // The app hears of it while the server is still away.
      yield* Processes.within(
        2_000,
        Effect.suspend(() => (app.open().length === 0 ? Effect.void : Effect.fail(new Error(app.open().join(", ")))))
      )
      // Nothing of it has left yet, so it waits; three seconds later it would have failed.
      const early = yield* Effect.forkChild(expect(other.port, 200, "/early"), { startImmediately: true })
      yield* Effect.sleep(1_000)
      yield* startNatsServer({ port: nats.port })
      yield* Fiber.join(early)
      yield* Processes.within(2_000, expect(other.port, 200))
      for (const { adminPort } of [one, other]) {
        yield* Processes.within(2_000, ready(adminPort, 200))
        yield* Processes.within(5_000, atRest(adminPort))
        assert.strictEqual(yield* Processes.metric(adminPort, "wayleave_bus_losses_total"), 1)
      }
      const again = yield* Processes.openWebSocket(other.port, "/ws")
      const echo = yield* Effect.forkChild(Processes.nextMessage(again), { startImmediately: true })
      again.send("back")
      assert.strictEqual((yield* Fiber.join(echo)).data.toString(), "back")
    }).pipe(Effect.scoped),
  60_000
)
