/**
 * `npm run scale:idle`: what something that does nothing costs. Opens idle WebSockets from one process over NATS to a hub in another, then idle
 * runners, and says how many KiB each needs where. `-- --sockets N --runners N`.
 */
import { createServer } from "node:http"
import { cpus } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Effect, Layer, Logger, type Scope } from "effect"
import { WebSocketServer } from "ws"
import * as Runner from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import { layerDialer } from "../../src/socket/WsSocket.ts"
import { startNatsServer } from "../bus/NatsServer.ts"
import * as Command from "../cli/CommandProcess.ts"
import { tableOf } from "../cluster/Table.ts"
import * as Processes from "../journey/Processes.ts"
import { listen } from "../socket/Loopback.ts"

const { values: args } = parseArgs({
  options: { sockets: { type: "string", default: "4000" }, runners: { type: "string", default: "500" } }
})
const socketsMax = Number(args.sockets)
const runnersMax = Number(args.runners)

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const say = (line: string) => process.stdout.write(`${line}\n`)

interface Gauge {
  readonly rss: number
  readonly held: number
  readonly cpuMs: number
}

/** `wayleave` with a gauge in it. */
const start = (argv: ReadonlyArray<string>) =>
  Command.launch(
    process.execPath,
    ["--expose-gc", "--import", at("gauge.ts"), at("../../src/cli/main.ts"), ...argv],
    {}
  )

const gaugeOf = Effect.fnUntraced(function* (program: Command.CommandProcess) {
  const count = program.output().split("\ngauge ").length
  program.child.kill("SIGUSR2")
  yield* program.said(new RegExp(`(?:\\ngauge [^\\n]*\\n[\\s\\S]*?){${count}}`))
  return JSON.parse(program.output().split("\ngauge ").at(-1)?.split("\n")[0] as string) as Gauge
})

const serve = Effect.fnUntraced(function* (nats: string) {
  const program = yield* start(["serve", "--port", "0", "--admin-port", "0", "--nats", nats])
  const [, port] = yield* program.said(/listening on http:\/\/127\.0\.0\.1:(\d+)/)
  return { program, port: Number(port) }
})

const idleApp = Effect.gen(function* () {
  const server = createServer((_, response) => void response.end("ok"))
  const sockets = new WebSocketServer({ server, perMessageDeflate: false })
  sockets.on("connection", (ws) => ws.on("error", () => {}))
  return yield* listen(server, () => {
    for (const ws of sockets.clients) ws.terminate()
  })
})

const openSockets = (port: number, count: number) =>
  Effect.forEach(Array.from({ length: count }), () => Processes.openWebSocket(port, "/idle"), { concurrency: 32 })

const kib = (bytes: number, count: number) => (bytes / count / 1024).toFixed(1)

/** What each process gained between two moments, for each of `count`. */
const measure = Effect.fnUntraced(function* <A, E>(
  programs: Readonly<Record<string, Command.CommandProcess>>,
  natsPid: number,
  count: number,
  open: Effect.Effect<A, E, Scope.Scope>
) {
  const gauges = Effect.all(Object.fromEntries(Object.entries(programs).map(([name, one]) => [name, gaugeOf(one)])))
  const before = yield* gauges
  const natsBefore = Processes.residentBytes(natsPid)
  yield* open
  yield* Effect.sleep("3 seconds")
  const after = yield* gauges
  const rows = Object.keys(programs).map((name) => {
    const [one, other] = [before[name] as Gauge, after[name] as Gauge]
    return [
      name,
      kib(other.held - one.held, count),
      kib(other.rss - one.rss, count),
      ((other.cpuMs - one.cpuMs) / count).toFixed(2)
    ]
  })
  return [...rows, ["nats-server", "–", kib(Processes.residentBytes(natsPid) - natsBefore, count), "–"]]
})

const headings = ["process", "KiB each held", "KiB each resident", "ms of CPU to open one"]

const program = Effect.gen(function* () {
  const nats = yield* startNatsServer()
  const [hub, gateway] = yield* Effect.all([serve(nats.url), serve(nats.url)], { concurrency: 2 })
  const app = yield* idleApp
  const runner = yield* start(["expose", String(app), "--name", "web", "--hub", `ws://127.0.0.1:${hub.port}`])
  yield* runner.said(/ -> http:/)
  const programs = { gateway: gateway.program, hub: hub.program, runner }
  say(`node ${process.version}, ${cpus()[0]?.model.trim()} × ${cpus().length}`)

  // What a process buys once, it has bought by then: the young generation of its heap above all, many times what an idle WebSocket needs. As many
  // stay open as are opened next, which so find no room that is left over.
  yield* openSockets(gateway.port, socketsMax)
  yield* Effect.sleep("2 seconds")
  const sockets = yield* measure(programs, nats.pid, socketsMax, openSockets(gateway.port, socketsMax))
  say(`\n${socketsMax} more idle WebSockets of visitors, the gateway in one process and the hub in another\n`)
  say(tableOf(headings, sockets))

  const silent = Layer.succeed(RunnerApp, { request: () => Effect.never, webSocket: () => Effect.never })
  const idleRunner = (name: string) =>
    Layer.build(
      Layer.fresh(
        Runner.layer({ hubUrl: `ws://127.0.0.1:${hub.port}`, name, drain: 0 }).pipe(
          Layer.provide([silent, layerDialer])
        )
      )
    )
  const runners = (prefix: string, count: number) =>
    Effect.forEach(
      Array.from({ length: count }, (_, i) => `${prefix}-${i}`),
      idleRunner,
      { concurrency: 32 }
    )
  yield* Effect.scoped(runners("first", Math.ceil(runnersMax / 4)))
  yield* Effect.sleep("7 seconds")
  const idle = yield* measure({ hub: hub.program }, nats.pid, runnersMax, runners("idle", runnersMax))
  say(`\n${runnersMax} idle runners, each with a name of its own\n`)
  say(tableOf(headings, idle))
})

void Effect.runPromise(Effect.provide(Effect.scoped(program), Logger.layer([]))).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.stack : error}\n`)
  process.exitCode = 1
})
