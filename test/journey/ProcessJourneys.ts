/** What a developer does in the first hour, over real sockets and real processes: `serve`, `expose`, and an app on a local port. Run on each topology. */
import { createHash, randomBytes } from "node:crypto"
import { Agent, request } from "node:http"
import { assert, describe, layer } from "@effect/vitest"
import { Context, Effect, Fiber, Layer } from "effect"
import { type LocalApp, patternHash, startLocalApp } from "./LocalApp.ts"
import * as Processes from "./Processes.ts"
import type { Place, Topology } from "./Topology.ts"

const MiB = 1024 * 1024

class Tunnel extends Context.Service<
  Tunnel,
  Place & {
    readonly app: LocalApp
    readonly runner: { readonly child: { readonly pid?: number | undefined } }
  }
>()("test/Tunnel") {}

const tunnelLayer = (topology: Topology) =>
  Layer.effect(
    Tunnel,
    Effect.gen(function* () {
      const app = yield* startLocalApp
      const place = yield* topology.start
      return { ...place, app, runner: yield* Processes.expose(app.port, place.hub.port) }
    })
  )

/** Waits until the app has seen another close than those counted. */
const closeSeen = (app: LocalApp, count: number) =>
  Processes.within(
    2_000,
    Effect.suspend(() => (app.closes.length > count ? Effect.void : Effect.fail(new Error("not told"))))
  )

const median = (values: ReadonlyArray<number>) => [...values].sort((a, b) => a - b)[values.length >> 1] as number

/** All of them, through one tunnel. */
export const processJourneys = (topology: Topology): void =>
  layer(tunnelLayer(topology), { excludeTestServices: true, timeout: 60_000 })(
    `through serve and expose, ${topology.name}`,
    (it) => {
      describe("a request", () => {
        it.effect("is answered by the app, which sees the visitor's host", () =>
          Effect.gen(function* () {
            const { gateway } = yield* Tunnel
            const answer = yield* Processes.fetch(gateway.port, { path: "/hello?a=b" })
            assert.strictEqual(answer.text, "GET /hello?a=b web.localhost")
            assert.strictEqual(answer.headers["x-app"], "local")
          })
        )

        it.effect(
          "of 64 MiB arrives whole, and comes back whole",
          () =>
            Effect.gen(function* () {
              const { app, gateway } = yield* Tunnel
              const piece = randomBytes(MiB)
              const body = function* () {
                for (let i = 0; i < 64; i++) yield piece
              }
              const hash = createHash("sha256")
              for (const one of body()) hash.update(one)
              const sha256 = hash.digest("hex")
              const uploaded = yield* Processes.fetch(gateway.port, { method: "POST", path: "/upload", body: body() })
              assert.strictEqual(uploaded.text, sha256)
              assert.strictEqual(app.uploads.at(-1), sha256)
              const echoed = yield* Processes.fetch(gateway.port, { method: "POST", path: "/echo", body: body() })
              assert.deepInclude(echoed, { bytes: 64 * MiB, sha256 })
            }),
          60_000
        )

        it.effect("is one of a hundred at once, and each gets its own answer", () =>
          Effect.gen(function* () {
            const { gateway } = yield* Tunnel
            const agent = new Agent({ keepAlive: true, maxSockets: 100 })
            const answers = yield* Effect.forEach(
              Array.from({ length: 100 }, (_, i) => i),
              (i) => Processes.fetch(gateway.port, { path: `/n/${i}`, agent }),
              { concurrency: "unbounded" }
            )
            agent.destroy()
            assert.deepStrictEqual(
              answers.map(({ text }) => text),
              answers.map((_, i) => `GET /n/${i} web.localhost`)
            )
          })
        )

        it.effect("that the app breaks off in the middle does not look complete", () =>
          Effect.gen(function* () {
            const { gateway } = yield* Tunnel
            const error = yield* Effect.flip(Processes.fetch(gateway.port, { path: "/reset" }))
            assert.match(error.message, /aborted|reset|hang up/)
          })
        )

        it.effect("that the visitor gives up is given up at the app within 100 ms", () =>
          Effect.gen(function* () {
            const { app, gateway } = yield* Tunnel
            yield* Processes.within(
              2_000,
              Effect.suspend(() => (app.open().length === 0 ? Effect.void : Effect.fail(new Error("busy"))))
            )
            const outgoing = request({
              host: "127.0.0.1",
              port: gateway.port,
              path: "/hang",
              headers: { host: Processes.host }
            })
            outgoing.on("error", () => {})
            outgoing.end()
            yield* Processes.within(
              2_000,
              Effect.suspend(() => (app.open().length > 0 ? Effect.void : Effect.fail(new Error("not there"))))
            )
            outgoing.destroy()
            const [ms] = yield* Processes.within(
              2_000,
              Effect.suspend(() => (app.open().length === 0 ? Effect.void : Effect.fail(new Error("still open"))))
            )
            assert.isBelow(ms, 100)
          })
        )
      })

      describe(`a download of ${topology.downloadMiB} MiB`, () => {
        it.effect(
          "to a visitor who reads 1 MiB/s costs no process 32 MiB, and every byte arrives in the end",
          () =>
            Effect.gen(function* () {
              const { gateway, hub, runner } = yield* Tunnel
              const total = topology.downloadMiB * MiB
              // Once at full speed, so that what a busy process keeps anyway is not taken for growth.
              yield* Processes.fetch(gateway.port, { path: `/big?bytes=${Math.min(256 * MiB, total)}` })
              const pids = [gateway.child.pid, hub.child.pid, runner.child.pid]
              const before = pids.map(Processes.residentBytes)
              const growth = [0, 0, 0]
              const slowBytes = Number(process.env.WAYLEAVE_SLOW_MIB ?? 8) * MiB
              const started = performance.now()
              const answer = yield* Processes.fetch(gateway.port, {
                path: `/big?bytes=${total}`,
                onChunk: (bytes) => {
                  if (bytes > slowBytes) return undefined
                  const ahead = (bytes / MiB) * 1000 - (performance.now() - started)
                  pids.forEach((pid, i) => {
                    growth[i] = Math.max(growth[i] as number, Processes.residentBytes(pid) - (before[i] as number))
                  })
                  return ahead > 0 ? new Promise((resolve) => setTimeout(resolve, ahead)) : undefined
                }
              })
              assert.isAtLeast(performance.now() - started, (slowBytes / MiB) * 900)
              assert.deepInclude(answer, { bytes: total, sha256: patternHash(total) })
              assert.isBelow(growth[0] as number, 32 * MiB, "gateway")
              assert.isBelow(growth[1] as number, 32 * MiB, "hub")
              assert.isBelow(growth[2] as number, 32 * MiB, "runner")
            }),
          1_200_000
        )
      })

      it.effect("an event of a stream arrives within 5 ms of a direct one", () =>
        Effect.gen(function* () {
          const { app, gateway } = yield* Tunnel
          const listen = (port: number, delays: Array<number>) =>
            Effect.acquireRelease(
              Effect.callback<() => void, Error>((resume) => {
                const outgoing = request(
                  { host: "127.0.0.1", port, path: "/sse", headers: { host: Processes.host } },
                  (response) => {
                    response.on("data", (chunk) =>
                      delays.push(performance.now() - Number(/data: ([\d.]+)/.exec(String(chunk))?.[1]))
                    )
                    response.on("error", () => {})
                    resume(Effect.succeed(() => void outgoing.destroy()))
                  }
                )
                outgoing.on("error", (error) => resume(Effect.fail(error)))
                outgoing.end()
              }),
              (stop) => Effect.sync(stop)
            )
          const direct: Array<number> = []
          const tunnelled: Array<number> = []
          yield* listen(app.port, direct)
          yield* listen(gateway.port, tunnelled)
          for (let i = 1; i <= 50; i++) {
            app.emit()
            yield* Processes.within(
              2_000,
              Effect.suspend(() =>
                tunnelled.length >= i && direct.length >= i ? Effect.void : Effect.fail(new Error("lost"))
              )
            )
          }
          assert.isBelow(median(tunnelled) - median(direct), 5)
        }).pipe(Effect.scoped)
      )

      describe("a WebSocket", () => {
        it.effect("carries text, bytes, and a message of 1 MiB both ways", () =>
          Effect.gen(function* () {
            const { gateway } = yield* Tunnel
            const ws = yield* Processes.openWebSocket(gateway.port, "/ws", ["chat", "other"])
            assert.strictEqual(ws.protocol, "chat")
            for (const message of ["hällo", "", Buffer.from([0, 255, 1]), randomBytes(MiB), "x".repeat(MiB)]) {
              const answer = Processes.nextMessage(ws)
              const next = yield* Effect.forkChild(answer, { startImmediately: true })
              ws.send(message)
              const { binary, data } = yield* Fiber.join(next)
              assert.strictEqual(binary, typeof message !== "string")
              assert.isTrue(data.equals(Buffer.from(message)))
            }
          }).pipe(Effect.scoped)
        )
        for (const code of [1000, 1008, 1011, 3000, 4321]) {
          it.effect(
            `closed by the app with ${code} is closed for the visitor with ${code}, and the other way round`,
            () =>
              Effect.gen(function* () {
                const { app, gateway } = yield* Tunnel
                const ours = yield* Processes.openWebSocket(gateway.port, `/close?code=${code}`)
                assert.deepStrictEqual(yield* Processes.closed(ours), [code, "the app is done"])
                const count = app.closes.length
                const theirs = yield* Processes.openWebSocket(gateway.port, "/ws")
                theirs.close(code, "bye now")
                yield* closeSeen(app, count)
                assert.deepStrictEqual(app.closes.at(-1), [code, "bye now"])
              }).pipe(Effect.scoped)
          )
        }
        it.effect("closed without a code is closed without one at the other end, both ways", () =>
          Effect.gen(function* () {
            const { app, gateway } = yield* Tunnel
            const ours = yield* Processes.openWebSocket(gateway.port, "/close")
            assert.deepStrictEqual(yield* Processes.closed(ours), [1005, ""])
            const count = app.closes.length
            const theirs = yield* Processes.openWebSocket(gateway.port, "/ws")
            theirs.close()
            yield* closeSeen(app, count)
            assert.deepStrictEqual(app.closes.at(-1), [1005, ""])
          }).pipe(Effect.scoped)
        )

        it.effect("whose visitor is gone without a close is no orderly close for the app", () =>
          Effect.gen(function* () {
            const { app, gateway } = yield* Tunnel
            const count = app.closes.length
            const theirs = yield* Processes.openWebSocket(gateway.port, "/ws")
            theirs.terminate()
            yield* closeSeen(app, count)
            assert.deepStrictEqual(app.closes.at(-1), [1006, ""])
          }).pipe(Effect.scoped)
        )

        it.effect("that the app drops is not closed in order", () =>
          Effect.gen(function* () {
            const { gateway } = yield* Tunnel
            const ws = yield* Processes.openWebSocket(gateway.port, "/drop")
            const [code] = yield* Processes.closed(ws)
            assert.notStrictEqual(code, 1000)
          }).pipe(Effect.scoped)
        )
      })
    }
  )
