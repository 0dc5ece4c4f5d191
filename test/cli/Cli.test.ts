/** The command as a person meets it: processes, real sockets, exit codes. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { run, start, startByNpx } from "./CommandProcess.ts"

const timeout = 60_000
const anyPort = ["--port", "0", "--admin-port", "0"]
const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))

const serve = (...args: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    const server = yield* start(["serve", ...anyPort, ...args])
    const [, port] = yield* server.said(/wayleave listening on http:\/\/127\.0\.0\.1:([0-9]+)/)
    return { ...server, port: Number(port), hub: `ws://127.0.0.1:${port}` }
  })

const app = (answer: (request: IncomingMessage, response: ServerResponse) => void) =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<ReturnType<typeof createServer>>((resume) => {
        const server = createServer(answer)
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
      }),
      (server) =>
        Effect.sync(() => {
          server.closeAllConnections()
          server.close()
        })
    ),
    (server) => (server.address() as AddressInfo).port
  )

const get = (port: number, host: string, path = "/") =>
  Effect.callback<{ readonly status: number; readonly body: string }, Error>((resume) => {
    const call = request({ port, host: "127.0.0.1", path, headers: { host } }, (response) => {
      let body = ""
      response.on("data", (data) => {
        body += data
      })
      response.on("end", () => resume(Effect.succeed({ status: response.statusCode ?? 0, body })))
      response.on("error", (error) => resume(Effect.fail(error)))
    })
    call.on("error", (error) => resume(Effect.fail(error)))
    call.end()
    return Effect.sync(() => call.destroy())
  })

const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-cli-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

describe.concurrent("wayleave", () => {
  it.live(
    "says its version and its help, and completes itself in a shell",
    () =>
      Effect.gen(function* () {
        const [told, help, completions] = yield* Effect.all(
          [run(["--version"]), run(["--help"]), run(["--completions", "bash"])],
          { concurrency: 3 }
        )
        assert.strictEqual(told.code, 0)
        assert.include(told.stdout, version)
        assert.strictEqual(help.code, 0)
        for (const word of ["serve", "expose"]) assert.include(help.stdout, word)
        assert.strictEqual(completions.code, 0)
        assert.include(completions.stdout, "wayleave")
      }),
    timeout
  )

  const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp, Record<string, string>?]> = [
    [["sevre"], /serve/],
    [["serve", "--prot", "1"], /--prot/],
    [["serve", "--port", "http"], /port/],
    [["serve", "--port", "99999"], /--port: expected a port from 0 to 65535, got 99999/],
    [["serve"], /WAYLEAVE_PORT: expected a port/, { WAYLEAVE_PORT: "http" }],
    [["serve", "--nats", "http://127.0.0.1"], /--nats: expected NATS servers such as nats:/],
    [["serve", "--nats", "nats://u:p@127.0.0.1"], /--nats: a user and password do not belong on a command line/],
    [["serve"], /WAYLEAVE_NATS: expected NATS servers/, { WAYLEAVE_NATS: "127.0.0.1:4222,," }],
    [["serve", "--workers", "0"], /--workers: expected a number from 1 to 64, got 0/],
    [
      ["serve", "--workers", "2", "--actors-file", "actors.db"],
      /--workers: actors are controlled by one process, so 2 workers cannot share actors\.db/
    ],
    [
      ["serve", "--workers", "2", ...anyPort],
      /--workers needs NATS between its processes: give --nats URL, or install nats-server/,
      { PATH: "/nonexistent/bin" }
    ],
    [["serve", "--host", "0.0.0.0", ...anyPort], /refusing to listen on 0\.0\.0\.0 without a token file/],
    [
      ["serve", "--token-file", "/nonexistent/tokens", ...anyPort],
      /\/nonexistent\/tokens: the token file cannot be read/
    ],
    [["serve", "--token-file", "/dev/null", ...anyPort], /\/dev\/null: the file holds no token/],
    [["expose", "3000", "--name", "web", "--token-file", "/dev/null"], /\/dev\/null holds no token/],
    [["serve", "--config", "/nonexistent/config"], /\/nonexistent\/config: the configuration file cannot be read/],
    [["expose", "3000"], /name/],
    [["expose", "--name", "web"], /TARGET/],
    [["expose", "web", "--name", "web"], /TARGET: expected a port/],
    [["expose", "3000", "--name", "web_1"], /--name: a name is/],
    [["expose", "3000", "--name", "web", "--hub", "tcp://x"], /--hub: expected a URL/]
  ]
  for (const [args, message, env] of wrong) {
    const shown = [...Object.entries(env ?? {}).map(([name, value]) => `${name}=${value}`), "wayleave", ...args].join(
      " "
    )
    it.live(
      `refuses \`${shown}\` in words, with exit code 1`,
      () =>
        Effect.gen(function* () {
          const ended = yield* run(args, env)
          assert.match(ended.stderr, message)
          assert.strictEqual(ended.code, 1)
          assert.notMatch(ended.stderr, /\n {4}at /, "no stack trace")
        }),
      timeout
    )
  }
})

describe("wayleave serve", () => {
  it.live(
    "says when it is ready, answers on both ports, and ends with 0 after SIGTERM",
    () =>
      Effect.gen(function* () {
        const server = yield* serve()
        const nobody = yield* get(server.port, `web.localhost:${server.port}`)
        assert.strictEqual(nobody.status, 503)
        assert.include(nobody.body, "no_runner")
        yield* server.signal("SIGTERM")
        const ended = yield* server.ended
        assert.strictEqual(ended.code, 0)
        assert.strictEqual(ended.stderr, "")
      }),
    timeout
  )

  it.live(
    "ends with the npx that started it",
    () =>
      Effect.gen(function* () {
        const server = yield* startByNpx(["serve", ...anyPort])
        yield* server.said(/wayleave listening/)
        yield* server.signal("SIGTERM")
        // Told once nobody holds its output any more: the server itself has ended, not only the shell.
        assert.include((yield* server.ended).stdout, "draining")
      }),
    timeout
  )

  it.live(
    "says which port is in use, and ends with 1",
    () =>
      Effect.gen(function* () {
        const taken = yield* app((_, response) => response.end())
        const visitors = yield* run(["serve", "--port", String(taken), "--admin-port", "0"])
        assert.include(visitors.stderr, `127.0.0.1:${taken} is in use by another process`)
        assert.strictEqual(visitors.code, 1)
        const operators = yield* run(["serve", "--port", "0", "--admin-port", String(taken)])
        assert.include(operators.stderr, `127.0.0.1:${taken} is in use by another process`)
        assert.strictEqual(operators.code, 1)
      }),
    timeout
  )

  it.live(
    "with --json every line is JSON, and the ready line is among them",
    () =>
      Effect.gen(function* () {
        const server = yield* serve("--json")
        yield* get(server.port, `web.localhost:${server.port}`)
        yield* server.said(/no_runner/)
        yield* server.signal("SIGINT")
        const { code, stdout } = yield* server.ended
        assert.strictEqual(code, 0)
        const lines = stdout
          .trim()
          .split("\n")
          .map((line) => JSON.parse(line))
        assert.match(lines[0].message, /^wayleave listening on http:\/\/127\.0\.0\.1:[0-9]+$/)
        assert.deepInclude(lines[1].annotations, { name: "web", status: 503, outcome: "no_runner" })
      }),
    timeout
  )
})

describe("wayleave expose", () => {
  it.live(
    "says where the app is, forwards to it, tells each request, and leaves with 0",
    () =>
      Effect.gen(function* () {
        const server = yield* serve()
        const port = yield* app((request, response) => response.end(`app says ${request.url}`))
        const exposed = yield* start(["expose", String(port), "--name", "web", "--hub", server.hub])
        yield* exposed.said(new RegExp(`^http://web\\.localhost:${server.port} -> http://127\\.0\\.0\\.1:${port}\n`))
        const answer = yield* get(server.port, `web.localhost:${server.port}`, "/hello?x=1")
        assert.deepStrictEqual(answer, { status: 200, body: "app says /hello?x=1" })
        yield* exposed.said(/^GET \/hello\?x=1 200 /m)
        yield* server.said(/ web GET \/hello\?… 200 ok /)
        yield* exposed.signal("SIGTERM")
        assert.strictEqual((yield* exposed.ended).code, 0)
        assert.strictEqual((yield* get(server.port, `web.localhost:${server.port}`)).status, 503)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "takes everything from the environment, and tells programs in JSON",
    () =>
      Effect.gen(function* () {
        const server = yield* serve()
        const port = yield* app((_, response) => {
          response.statusCode = 418
          response.end()
        })
        const exposed = yield* start(["expose", `localhost:${port}`], {
          WAYLEAVE_NAME: "web",
          WAYLEAVE_HUB: server.hub,
          WAYLEAVE_JSON: "true"
        })
        const [line] = yield* exposed.said(/^\{.*\}$/m)
        const url = `http://web.localhost:${server.port}`
        assert.deepStrictEqual(JSON.parse(line), { event: "connected", url, target: `http://localhost:${port}` })
        yield* get(server.port, `web.localhost:${server.port}`)
        const [told] = yield* exposed.said(/^\{"event":"request".*\}$/m)
        assert.deepInclude(JSON.parse(told), { method: "GET", target: "/", status: 418, failed: false })
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "shows the token that the hub knows; another is refused in words, with exit code 1, and never printed",
    () =>
      Effect.gen(function* () {
        const path = yield* folder
        const [good, bad] = [join(path, "good"), join(path, "bad")]
        writeFileSync(good, "# who may\ngood-token-0123456789 web web-*\n")
        writeFileSync(bad, "bad-token-0123456789\n")
        const server = yield* serve("--token-file", good)
        const expose = (name: string, ...args: ReadonlyArray<string>) =>
          ["expose", "3000", "--name", name, "--hub", server.hub, ...args] as const
        const none = yield* run(expose("web"))
        assert.match(none.stderr, /refused: the hub wants a token it knows: give --token-file/)
        assert.strictEqual(none.code, 1)
        const unknown = yield* run(expose("web", "--token-file", bad))
        assert.match(unknown.stderr, /refused: the hub wants a token it knows/)
        assert.notInclude(unknown.stderr + unknown.stdout, "bad-token")
        assert.strictEqual(unknown.code, 1)
        const elsewhere = yield* run(expose("api", "--token-file", good))
        assert.match(
          elsewhere.stderr,
          /refused: the token does not cover this name \(the token does not cover the name api\)/
        )
        assert.strictEqual(elsewhere.code, 1)
        const told = yield* run(expose("api", "--token-file", good, "--json"))
        assert.deepStrictEqual(JSON.parse(told.stdout), {
          event: "refused",
          cause: "the token does not cover the name api"
        })
        const welcome = yield* start(expose("web-1", "--token-file", good))
        yield* welcome.said(/^http:\/\/web-1\.localhost/)
      }).pipe(Effect.scoped),
    timeout
  )

  it.live(
    "waits for a hub that is not there yet, and says so",
    () =>
      Effect.gen(function* () {
        const free = yield* Effect.scoped(app((_, response) => response.end()))
        const exposed = yield* start(["expose", "3000", "--name", "web", "--hub", `ws://127.0.0.1:${free}`])
        yield* exposed.said(/^not connected: .*; next try in [0-9]+ ms$/m)
        const server = yield* start(["serve", "--port", String(free), "--admin-port", "0"])
        yield* server.said(/wayleave listening/)
        yield* exposed.said(new RegExp(`^http://web\\.localhost:${free} -> http://127\\.0\\.0\\.1:3000$`, "m"))
      }).pipe(Effect.scoped),
    timeout
  )
})

describe("a second signal", () => {
  it.live(
    "ends at once what the first left to finish",
    () =>
      Effect.gen(function* () {
        const server = yield* serve()
        const port = yield* app((request, response) => {
          // One begins and never ends; the others, which ask whether the drain has begun, are over at once.
          if (request.url === "/forever") response.write("first")
          else response.end()
        })
        const exposed = yield* start(["expose", String(port), "--name", "web", "--hub", server.hub])
        yield* exposed.said(/ -> /)
        const visitor = request({
          port: server.port,
          host: "127.0.0.1",
          path: "/forever",
          headers: { host: "web.localhost" }
        })
        yield* Effect.callback<void>((resume) => {
          visitor.on("error", () => {})
          visitor.on("response", (response) => {
            response.on("error", () => {})
            response.once("data", () => resume(Effect.void))
          })
          visitor.end()
        })
        yield* server.signal("SIGTERM")
        // The drain has begun once new visitors are turned away.
        const refused = yield* get(server.port, `web.localhost:${server.port}`).pipe(
          Effect.repeat({ while: ({ status }) => status === 200 })
        )
        assert.include(refused.body, "draining")
        yield* exposed.signal("SIGTERM")
        yield* exposed.said(/^leaving: 1 open may finish; a second signal ends at once$/m)
        assert.isNull(exposed.child.exitCode)
        assert.isNull(server.child.exitCode)
        yield* server.signal("SIGTERM")
        assert.strictEqual((yield* server.ended).code, 143)
        yield* exposed.signal("SIGTERM")
        assert.strictEqual((yield* exposed.ended).code, 143)
      }).pipe(Effect.scoped),
    timeout
  )
})
