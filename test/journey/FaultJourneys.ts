/** What breaks in an ordinary week, on purpose: a killed runner, a restarted hub, a network that goes away for a second, visitors who leave. Run on each topology. */
import { request } from "node:http"
import { assert, it } from "@effect/vitest"
import { Effect, type Scope } from "effect"
import { WebSocket } from "ws"
import { limits } from "../../src/tunnel/Limits.ts"
import { makeRandom } from "../fuzz/Mutation.ts"
import { startLocalApp } from "./LocalApp.ts"
import * as Processes from "./Processes.ts"
import type { Topology } from "./Topology.ts"

const MiB = 1024 * 1024

const until = (ms: number, what: string, holds: () => boolean) =>
  Processes.within(
    ms,
    Effect.suspend(() => (holds() ? Effect.void : Effect.fail(new Error(what))))
  )

const status = (port: number, wanted: number) =>
  Effect.flatMap(Processes.fetch(port), (answer) =>
    answer.status === wanted ? Effect.succeed(answer) : Effect.fail(new Error(`status ${answer.status}`))
  )

const seed = 31_337

/** All of them, each through a tunnel of its own. */
export const faultJourneys = (topology: Topology): void => {
  const live = (title: string, body: () => Effect.Effect<unknown, unknown, Scope.Scope>, timeoutMs: number) =>
    it.live(`${topology.name}: ${title}`, () => Effect.scoped(body()), timeoutMs)

  live(
    "a runner that is killed during a download: the transfer breaks in time, nobody is there, and it works again after",
    () =>
      Effect.gen(function* () {
        const app = yield* startLocalApp
        const { gateway, hub } = yield* topology.start
        const runner = yield* Processes.expose(app.port, hub.port)
        let killedAt = 0
        const broken = yield* Effect.flip(
          Processes.fetch(gateway.port, {
            path: `/big?bytes=${1024 * MiB}`,
            onChunk: (bytes) => {
              if (killedAt === 0 && bytes > 2 * MiB) {
                killedAt = performance.now()
                runner.child.kill("SIGKILL")
              }
              return undefined
            }
          })
        )
        assert.match(broken.message, /aborted|reset|hang up/)
        assert.isBelow(performance.now() - killedAt, limits.sessionGraceMs + 1_000)
        const none = yield* Processes.fetch(gateway.port)
        assert.strictEqual(none.status, 503)
        assert.match(none.text, /no_runner/)
        assert.isDefined(none.headers["retry-after"])
        yield* Processes.expose(app.port, hub.port)
        const [ms] = yield* Processes.within(2_000, status(gateway.port, 200))
        assert.isBelow(ms, 2_000)
      }),
    60_000
  )

  live(
    "a hub that is restarted has its runner back within 5 s",
    () =>
      Effect.gen(function* () {
        const app = yield* startLocalApp
        const { gateway, hub, restartHub } = yield* topology.start
        yield* Processes.expose(app.port, hub.port)
        hub.child.kill("SIGKILL")
        yield* hub.ended
        yield* Effect.sleep(2_000)
        yield* restartHub
        const [ms] = yield* Processes.within(5_000, status(gateway.port, 200))
        assert.isBelow(ms, 5_000)
      }),
    60_000
  )

  live(
    "a network that goes away for a second in the middle of a conversation and a download is noticed by neither",
    () =>
      Effect.gen(function* () {
        const app = yield* startLocalApp
        const { gateway, hub } = yield* topology.start
        const wire = yield* Processes.relay(hub.port)
        yield* Processes.expose(app.port, wire.port)
        const counting = yield* Processes.openWebSocket(gateway.port, "/count")
        const numbers: Array<string> = []
        counting.on("message", (data) => numbers.push(String(data)))
        const echoing = yield* Processes.openWebSocket(gateway.port, "/ws")
        const echoes: Array<string> = []
        echoing.on("message", (data) => echoes.push(String(data)))
        yield* until(5_000, "no numbers", () => numbers.length > 10)
        yield* wire.setDown(true)
        for (let i = 0; i < 10; i++) echoing.send(`while down ${i}`)
        yield* Effect.sleep(1_000)
        yield* wire.setDown(false)
        yield* until(5_000, "not all echoes", () => echoes.length === 10)
        yield* until(5_000, "no more numbers", () => numbers.length > 100)
        assert.deepStrictEqual(
          numbers,
          numbers.map((_, i) => String(i))
        )
        assert.deepStrictEqual(
          echoes,
          echoes.map((_, i) => `while down ${i}`)
        )
        assert.strictEqual(counting.readyState, WebSocket.OPEN)
        for (const reason of ["unknown", "foreign", "late"]) {
          assert.strictEqual(
            yield* Processes.metric(hub.adminPort, "wayleave_hub_frames_refused_total", `{reason="${reason}"}`),
            0
          )
        }
      }),
    60_000
  )

  live(
    `${topology.aborted} requests and a tenth as many WebSockets aborted at random points leave no route, stream or socket behind (seed ${seed})`,
    () =>
      Effect.gen(function* () {
        const random = makeRandom(seed)
        const app = yield* startLocalApp
        const { gateway, hub } = yield* topology.start
        const runner = yield* Processes.expose(app.port, hub.port)
        const paths = ["/", "/echo", `/big?bytes=${4 * MiB}`, "/hang", "/reset", "/sse", "/upload"]
        const places = [...new Set([gateway, hub])]
        const sockets = () => ({
          visitors: places.reduce((sum, { child }) => sum + Processes.openSockets(child.pid), 0),
          runner: Processes.openSockets(runner.child.pid)
        })
        yield* Processes.fetch(gateway.port)
        const before = sockets()

        const abortedRequest = Effect.callback<void>((resume) => {
          const method = random.below(2) === 0 ? "GET" : "POST"
          const outgoing = request({
            host: "127.0.0.1",
            port: gateway.port,
            method,
            path: paths[random.below(paths.length)],
            headers: { host: Processes.host },
            agent: false
          })
          outgoing.on("error", () => {})
          outgoing.on("response", (response) => {
            response.on("error", () => {})
            response.on("data", () => {
              if (random.below(4) === 0) outgoing.destroy()
            })
          })
          outgoing.on("close", () => resume(Effect.void))
          if (method === "POST") outgoing.write(Buffer.alloc(random.below(100_000)))
          if (random.below(2) === 0) outgoing.end()
          setTimeout(() => outgoing.destroy(), random.below(12))
        })
        const abortedSocket = Effect.callback<void>((resume) => {
          const path = ["/ws", "/close?code=1000", "/drop", "/count"][random.below(4)]
          const ws = new WebSocket(`ws://127.0.0.1:${gateway.port}${path}`, {
            headers: { host: Processes.host },
            perMessageDeflate: false
          })
          ws.on("error", () => {})
          ws.on("open", () => ws.send(Buffer.alloc(random.below(10_000))))
          ws.on("close", () => resume(Effect.void))
          setTimeout(() => (random.below(2) === 0 ? ws.terminate() : ws.close()), random.below(20))
        })
        yield* Effect.all(
          [
            Effect.replicateEffect(abortedRequest, topology.aborted, { concurrency: 24, discard: true }),
            Effect.replicateEffect(abortedSocket, topology.aborted / 10, { concurrency: 6, discard: true })
          ],
          { concurrency: 2, discard: true }
        )
        const gauges = Effect.all(
          places.flatMap(({ adminPort }) => [
            Processes.metric(adminPort, "wayleave_hub_open_streams"),
            Processes.metric(adminPort, "wayleave_hub_routes", '{state="open"}'),
            Processes.metric(adminPort, "wayleave_hub_routes", '{state="closing"}'),
            Processes.metric(adminPort, "wayleave_gateway_in_flight")
          ])
        )
        yield* Processes.within(
          15_000,
          Effect.flatMap(gauges, (values) =>
            values.every((value) => value === 0) ? Effect.void : Effect.fail(new Error(values.join(" ")))
          )
        )
        yield* Processes.within(
          15_000,
          Effect.suspend(() => (app.open().length === 0 ? Effect.void : Effect.fail(new Error(app.open().join(", ")))))
        )
        // Idle keep-alive connections between runner and app may stay, a handful; visitors' must all be gone.
        yield* Processes.within(
          30_000,
          Effect.suspend(() => {
            const now = sockets()
            return now.visitors <= before.visitors + 2 && now.runner <= before.runner + 40
              ? Effect.void
              : Effect.fail(new Error(`sockets ${JSON.stringify(before)} → ${JSON.stringify(now)}`))
          })
        )
        assert.strictEqual((yield* Processes.fetch(gateway.port)).status, 200)
        assert.strictEqual(
          yield* Processes.metric(hub.adminPort, "wayleave_hub_frames_refused_total", '{reason="foreign"}'),
          0
        )
      }),
    120_000
  )
}
