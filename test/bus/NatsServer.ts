/**
 * A real `nats-server` for tests: the one on PATH, else Debian's package, which is installed. Never skipped: without a server these tests fail
 * and say what to do. Each has a free port and a directory of its own, and is ended by its process id.
 */
import { spawn } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Context, Effect, Layer } from "effect"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import * as NatsMessageBus from "../../src/bus/NatsMessageBus.ts"
import { requireProgram } from "../Debian.ts"

/** The command of a server, installed by apt-get where there is none. */
export const requireNatsServer = (): string =>
  requireProgram({
    package: "nats-server",
    candidates: ["nats-server", "/usr/sbin/nats-server"],
    args: ["--version"]
  })

/** How long the first start may take, an installation included. */
export const natsStartTimeoutMs = 320_000

/** A server that runs. */
export interface NatsServer {
  readonly port: number
  /** For `--nats`. */
  readonly url: string
  readonly pid: number
  /** Where other servers of its cluster connect; 0 where it is in none. */
  readonly routePort: number
  /** A kill that nothing can delay; returns when the process is gone. */
  readonly kill: Effect.Effect<void>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

/** How a server is set; `config` is the text of its configuration file, `files` stand beside it. */
export interface NatsServerOptions {
  readonly port?: number
  readonly config?: string
  readonly files?: Readonly<Record<string, string>>
}

/** A stop takes each thread when it comes to it, and what one of them had in hand until then is still answered. */
const untilStopped = (pid: number) =>
  Effect.callback<void>((resume) => {
    const states = () =>
      readdirSync(`/proc/${pid}/task`).map((thread) => readFileSync(`/proc/${pid}/task/${thread}/stat`, "latin1"))
    const look = () => {
      if (states().every((stat) => stat.slice(stat.lastIndexOf(")") + 2).startsWith("T"))) resume(Effect.void)
      else setImmediate(look)
    }
    look()
  })

/** Starts a server and waits until it listens. In `config`, `$DIR` is its own directory. */
export const startNatsServer = (options: NatsServerOptions = {}) =>
  Effect.gen(function* () {
    const command = requireNatsServer()
    const directory = yield* Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-nats-"))),
      (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
    )
    for (const [name, text] of Object.entries(options.files ?? {})) writeFileSync(join(directory, name), text)
    const config = join(directory, "nats.conf")
    writeFileSync(config, (options.config ?? "").replaceAll("$DIR", directory))
    const clustered = /^cluster/m.test(options.config ?? "")
    const args = ["--addr", "127.0.0.1", "--port", String(options.port ?? -1), "--config", config]
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => spawn(command, args, { stdio: ["ignore", "ignore", "pipe"], cwd: directory })),
      (child) => Effect.sync(() => void child.kill("SIGKILL"))
    )
    const ended = Effect.callback<void>((resume) => {
      if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
      child.once("exit", () => resume(Effect.void))
    })
    const [port, routePort] = yield* Effect.callback<readonly [number, number], Error>((resume) => {
      let said = ""
      child.stderr.on("data", (data) => {
        said += data
        const listening = /Listening for client connections on 127\.0\.0\.1:(\d+)/.exec(said)
        const routes = /Listening for route connections on 127\.0\.0\.1:(\d+)/.exec(said)
        // It says where it listens for its cluster after it has said that it is ready.
        if (listening === null || !/Server is ready/.test(said) || (clustered && routes === null)) return
        resume(Effect.succeed([Number(listening[1]), Number(routes?.[1] ?? 0)]))
      })
      child.once("error", (error) => resume(Effect.fail(error)))
      child.once("exit", () => resume(Effect.fail(new Error(`nats-server ended:\n${said}`))))
    })
    const server: NatsServer = {
      port,
      url: `nats://127.0.0.1:${port}`,
      pid: child.pid ?? 0,
      routePort,
      kill: Effect.andThen(
        Effect.sync(() => void child.kill("SIGKILL")),
        ended
      ),
      signal: (signal) =>
        Effect.andThen(
          Effect.sync(() => void child.kill(signal)),
          signal === "SIGSTOP" ? untilStopped(child.pid ?? 0) : Effect.void
        )
    }
    return server
  })

/** What a process of a cluster has: it publishes over its own connection what others hear over theirs. Here one server is between the two. */
export const layerBetweenTwo: Layer.Layer<MessageBus> = Layer.unwrap(
  Effect.map(startNatsServer(), ({ port }) => {
    const connection = Layer.fresh(NatsMessageBus.layer({ servers: [`127.0.0.1:${port}`] }))
    return Layer.effect(
      MessageBus,
      Effect.gen(function* () {
        const near = Context.get(yield* Layer.build(connection), MessageBus)
        const far = Context.get(yield* Layer.build(connection), MessageBus)
        return MessageBus.of({ ...near, subscribe: far.subscribe, respond: far.respond })
      })
    )
  })
).pipe(Layer.orDie)

/** Three servers that are one cluster; each client is told of all of them. */
export const startNatsCluster = Effect.gen(function* () {
  const config = (routes: ReadonlyArray<number>) =>
    `cluster {\n name: wayleave\n listen: "127.0.0.1:-1"\n routes: [${routes.map((port) => `"nats://127.0.0.1:${port}"`)}]\n}\n`
  const first = yield* startNatsServer({ config: config([]) })
  const others = yield* Effect.forEach([1, 2], () => startNatsServer({ config: config([first.routePort]) }))
  return [first, ...others]
})

/** A bus on a server of its own. */
export const layerOnServer: Layer.Layer<MessageBus> = Layer.unwrap(
  Effect.map(startNatsServer(), ({ port }) => NatsMessageBus.layer({ servers: [`127.0.0.1:${port}`] }))
).pipe(Layer.orDie)
