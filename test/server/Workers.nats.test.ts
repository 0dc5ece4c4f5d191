/** `wayleave serve --workers N`: real processes, signals and a real `nats-server`. */

import { readFileSync } from "node:fs"
import { createServer, type Server, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { withDescendants } from "../bench/ProcessTree.ts"
import { natsStartTimeoutMs, requireNatsServer, startNatsServer } from "../bus/NatsServer.ts"
import * as Command from "../cli/CommandProcess.ts"
import * as Processes from "../journey/Processes.ts"
import { listen } from "../socket/Loopback.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const timeout = 60_000
const args = ["serve", "--workers", "2", "--port", "0", "--admin-port", "0"]

/** What is told once all workers are up, and who they are. */
const listening = Effect.fnUntraced(function* (keeper: Command.CommandProcess) {
  const [, port] = yield* keeper.said(/wayleave listening on http:\/\/127\.0\.0\.1:(\d+)/)
  const [, ...admin] = yield* keeper.said(
    /metrics on http:\/\/127\.0\.0\.1:(\d+)\nhealth and metrics on http:\/\/127\.0\.0\.1:(\d+)\n/
  )
  return { ...keeper, port: Number(port), adminPorts: admin.map(Number), pid: keeper.child.pid ?? 0 }
})
const serve = (...more: ReadonlyArray<string>) => Effect.flatMap(Command.start([...args, ...more]), listening)

const commandOf = (pid: number): string => {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")
  } catch {
    return ""
  }
}
const below = (pid: number) => withDescendants([pid]).filter((one) => one !== pid)
const workersOf = (pid: number) => below(pid).filter((one) => commandOf(one).includes("main.ts serve"))
const natsOf = (pid: number) => below(pid).filter((one) => /^\S*nats-server /.test(commandOf(one)))

/** An app that answers `/held` in part, and ends it when it is told to. */
const heldApp = Effect.gen(function* () {
  const held: Array<ServerResponse> = []
  const port = yield* listen(
    createServer((request, response) => {
      if (request.url !== "/held") return void response.end("hello")
      response.write("first ")
      held.push(response)
    })
  )
  return {
    port,
    release: Effect.sync(() => {
      for (const response of held) response.end("last")
    })
  }
})

/** With the app behind it. */
const exposed = Effect.fnUntraced(function* (starting: ReturnType<typeof serve>) {
  const server = yield* starting
  const app = yield* heldApp
  yield* Processes.expose(app.port, server.port)
  return { app, server }
})

const requests = (adminPort: number) => Processes.metric(adminPort, "wayleave_gateway_requests_total", '{outcome="ok"}')

const check = (holds: boolean, what: string) => (holds ? Effect.void : Effect.fail(new Error(what)))

/** Visits until each worker has served somebody. */
const visitAll = (port: number, adminPorts: ReadonlyArray<number>) =>
  Effect.gen(function* () {
    const { text } = yield* Processes.fetch(port)
    yield* check(text === "hello", text)
    const counts = yield* Effect.forEach(adminPorts, requests)
    yield* check(
      counts.every((count) => count > 0),
      `visits ${counts}`
    )
  })

/** A visitor whose answer has begun. */
const visitHeld = (port: number) =>
  Effect.gen(function* () {
    let begun = () => {}
    const first = new Promise<void>((resolve) => {
      begun = resolve
    })
    const answer = yield* Effect.forkScoped(
      Processes.fetch(port, {
        path: "/held",
        onChunk: () => {
          begun()
          return undefined
        }
      })
    )
    yield* Effect.promise(() => first)
    return answer
  })

const gone = (pids: ReadonlyArray<number>) =>
  Processes.within(
    10_000,
    Effect.suspend(() => {
      const left = pids.filter(Command.alive)
      return check(left.length === 0, `left: ${left.map(commandOf)}`)
    })
  )

/** Takes a port below those that the kernel hands out: the one beside it does not go to whoever else asks for any. */
const takeQuietPort = Effect.acquireRelease(
  Effect.callback<Server, Error>((resume) => {
    const server = createServer()
    server.once("error", (error) => resume(Effect.fail(error)))
    const port = 20_000 + Math.floor(Math.random() * 10_000)
    server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
).pipe(
  Effect.retry({ times: 9 }),
  Effect.map((server) => (server.address() as AddressInfo).port)
)

describe("wayleave serve --workers", () => {
  it.live(
    "is one tunnel behind one port, whoever of its workers takes the visitor and the runner",
    () =>
      Effect.gen(function* () {
        const { server } = yield* exposed(serve())
        yield* Processes.within(10_000, visitAll(server.port, server.adminPorts))
        assert.strictEqual(new Set(server.adminPorts).size, 2)
        // No secret where every process of the machine could read it, nor in a file that is left.
        const [nats] = natsOf(server.pid)
        const file = /-c (\S+)/.exec(commandOf(nats ?? 0))?.[1]
        assert.isDefined(file)
        assert.throws(() => readFileSync(file ?? ""), /ENOENT/)
        assert.strictEqual(server.output().match(/wayleave listening/g)?.length, 1)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "writes whole lines, however long they are, and goes on when nobody reads them any more",
    () =>
      Effect.gen(function* () {
        const { server } = yield* exposed(serve())
        const path = `/${"x".repeat(6_000)}`
        const visits = Array.from({ length: 100 }, () => Processes.fetch(server.port, { path }))
        yield* Effect.all(visits, { concurrency: 16 })
        const written = Effect.sync(() => server.output().trimEnd().split("\n").slice(-100))
        yield* Processes.within(
          10_000,
          Effect.flatMap(written, (lines) =>
            check(
              lines.every((line) => line.includes(" 200 ok ")),
              "not all yet"
            )
          )
        )
        const lines = yield* written
        for (const line of lines)
          assert.match(line, /^\S+ INFO 127\.0\.0\.1 web GET \/x{6000} 200 ok \S+ up=0 down=5 \S+$/)
        // Somebody who does not read for now holds up neither visitors nor the start of a worker.
        server.child.stdout?.pause()
        yield* Effect.all(visits, { concurrency: 16 })
        const [killed] = workersOf(server.pid)
        process.kill(killed ?? 0, "SIGKILL")
        yield* Processes.within(
          10_000,
          Effect.suspend(() => {
            const now = workersOf(server.pid)
            return check(now.length === 2 && !now.includes(killed ?? 0), `workers ${now}`)
          })
        )
        server.child.stdout?.destroy()
        yield* Processes.within(10_000, Processes.fetch(server.port))
        yield* Effect.all(visits, { concurrency: 16 })
        yield* Effect.all(visits, { concurrency: 16 })
        assert.strictEqual(workersOf(server.pid).length, 2)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "starts again what was killed, where it was, and touches nothing else: a worker, its nats-server, all of its workers",
    () =>
      Effect.gen(function* () {
        const { server } = yield* exposed(serve())
        yield* Processes.within(10_000, visitAll(server.port, server.adminPorts))
        const [first, second] = workersOf(server.pid)
        process.kill(first ?? 0, "SIGKILL")
        yield* server.said(/worker \d has ended: killed by SIGKILL; it is started again in \d+ ms/)
        // The other one takes visitors meanwhile.
        yield* Processes.within(10_000, Processes.fetch(server.port))
        yield* server.said(/worker \d is back/)
        yield* Processes.within(10_000, visitAll(server.port, server.adminPorts))
        const now = workersOf(server.pid)
        assert.strictEqual(now.length, 2)
        assert.include(now, second)
        assert.notInclude(now, first)
        const [nats] = natsOf(server.pid)
        process.kill(nats ?? 0, "SIGKILL")
        yield* server.said(/nats-server has ended/)
        yield* Processes.within(10_000, visitAll(server.port, server.adminPorts))
        assert.strictEqual(natsOf(server.pid).length, 1)
        assert.notInclude(natsOf(server.pid), nats)
        assert.deepStrictEqual(workersOf(server.pid), now)
        for (const pid of now) process.kill(pid, "SIGKILL")
        yield* server.said(/(worker \d is back[\s\S]*){3}/)
        yield* Processes.within(10_000, visitAll(server.port, server.adminPorts))
      }).pipe(Effect.scoped),
    timeout
  )

  const ends: ReadonlyArray<readonly [string, (pid: number) => void]> = [
    ["SIGTERM to the first process", (pid) => process.kill(pid, "SIGTERM")],
    ["Ctrl-C, which reaches every process of the group", (pid) => process.kill(-pid, "SIGINT")]
  ]
  for (const [what, end] of ends) {
    it.live(
      `drains after ${what}: an answer under way ends well, and nothing is left`,
      () =>
        Effect.gen(function* () {
          const { app, server } = yield* exposed(Effect.flatMap(Command.startAsGroup(args), listening))
          const pids = below(server.pid)
          // One more than there are workers.
          const answers = yield* Effect.forEach([1, 2, 3], () => visitHeld(server.port))
          end(server.pid)
          yield* server.said(/draining: open streams may finish/)
          yield* Processes.within(
            10_000,
            Effect.flatMap(Effect.exit(Processes.fetch(server.port)), (exit) =>
              check(exit._tag === "Failure" || exit.value.status === 503, "takes visitors")
            )
          )
          assert.strictEqual(natsOf(server.pid).length, 1)
          yield* app.release
          for (const answer of answers) {
            assert.strictEqual((yield* Fiber.join(answer)).text, "first last")
          }
          const ended = yield* server.ended
          assert.strictEqual(ended.code, 0)
          assert.strictEqual(ended.stderr, "")
          assert.strictEqual(ended.stdout.match(/draining: open/g)?.length, 1)
          assert.strictEqual(ended.stdout.match(/GET \/held 200 ok/g)?.length, 3)
          assert.notInclude(ended.stdout, "started again")
          yield* gone(pids)
        }).pipe(Effect.scoped),
      timeout
    )
  }

  it.live(
    "ends at once after a second signal, and leaves nothing",
    () =>
      Effect.gen(function* () {
        const { server } = yield* exposed(serve())
        const pids = below(server.pid)
        yield* visitHeld(server.port)
        yield* server.signal("SIGTERM")
        yield* server.said(/draining/)
        yield* server.signal("SIGTERM")
        assert.strictEqual((yield* server.ended).code, 143)
        yield* gone(pids)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "leaves neither worker nor nats-server behind where the first process is killed",
    () =>
      Effect.gen(function* () {
        const server = yield* serve()
        const pids = below(server.pid)
        // Two workers, the shell and the server.
        assert.strictEqual(pids.length, 4)
        yield* server.signal("SIGKILL")
        yield* gone(pids)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "says once what none of its workers can have, and ends with 1",
    () =>
      Effect.gen(function* () {
        const taken = yield* listen(createServer())
        const host = ["--host", "0.0.0.0"]
        const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
          [["--port", String(taken)], new RegExp(`127\\.0\\.0\\.1:${taken} is in use by another process`, "g")],
          [["--port", "0", ...host], /refusing to listen on 0\.0\.0\.0 without a token file/g]
        ]
        const run = ([more]: (typeof wrong)[number]) =>
          Command.run(["serve", "--workers", "2", "--admin-port", "0", ...more])
        const all = yield* Effect.forEach(wrong, run, { concurrency: "unbounded" })
        for (const [i, ended] of all.entries()) {
          const message = wrong[i]?.[1] ?? /never/
          assert.strictEqual(ended.code, 1)
          assert.strictEqual(ended.stderr.match(message)?.length, 1, ended.stderr)
          assert.notMatch(ended.stdout, /listening|started again/)
          assert.notMatch(ended.stderr, /\n {4}at /, "no stack trace")
        }
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "says so where the port for operators of a later worker is taken",
    () =>
      Effect.gen(function* () {
        const taken = yield* takeQuietPort
        const ended = yield* Command.run(["serve", "--workers", "2", "--port", "0", "--admin-port", String(taken - 1)])
        assert.strictEqual(ended.code, 1)
        assert.match(ended.stderr, new RegExp(`127\\.0\\.0\\.1:${taken} is in use by another process`))
        assert.notInclude(ended.stdout, "wayleave listening")
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "takes a given NATS, is one tunnel with others there, and starts no server of its own",
    () =>
      Effect.gen(function* () {
        const nats = yield* startNatsServer()
        const server = yield* Command.start([...args, "--nats", nats.url, "--json"])
        const [line] = yield* server.said(/^.*wayleave listening on .*$/m)
        const { annotations, message } = JSON.parse(line)
        assert.strictEqual(message, `wayleave listening on ${annotations.url}`)
        assert.strictEqual(new Set(annotations.adminUrls).size, 2)
        assert.deepStrictEqual(natsOf(server.child.pid ?? 0), [])
        const other = yield* Processes.serve(0, nats.url)
        const app = yield* heldApp
        yield* Processes.expose(app.port, other.port)
        const ports = annotations.adminUrls.map((url: string) => Number(new URL(url).port))
        yield* Processes.within(10_000, visitAll(Number(new URL(annotations.url).port), ports))
        yield* server.signal("SIGTERM")
        const ended = yield* server.ended
        assert.strictEqual(ended.code, 0)
        for (const one of ended.stdout.trim().split("\n")) JSON.parse(one)
      }).pipe(Effect.scoped),
    timeout
  )
})
