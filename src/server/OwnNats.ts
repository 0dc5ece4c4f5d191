/**
 * A `nats-server` of one's own, for the workers of one machine: on loopback, on a free port, with a secret that nobody else has. One that dies is started
 * again where it was, and its clients come back by themselves.
 *
 * It must not end before whoever uses it has drained, so it is in a process group of its own, which Ctrl-C does not reach. And it must not be left behind by
 * a keeper that was killed, so a shell stands between the two: it waits for the end of its standard input, which the system closes with the keeper, however
 * that ends, and kills the server, which has nothing to lose.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { accessSync, constants, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join, normalize } from "node:path"
import { Deferred, Effect, Redacted, Schema, type Scope } from "effect"
import type { NatsOptions } from "../bus/NatsOptions.ts"
import { limits } from "../tunnel/Limits.ts"
import { keepAlive } from "./KeptAlive.ts"

/** Workers need a bus, and none was given nor found. */
export class NatsServerMissing extends Schema.TaggedError<NatsServerMissing>()("NatsServerMissing", {}) {
  override get message() {
    return "--workers needs NATS between its processes: give --nats URL, or install nats-server, which is then started for them"
  }
}

/** It was found and does not run. */
export class NatsServerFailed extends Schema.TaggedError<NatsServerFailed>()("NatsServerFailed", {
  command: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.command} does not run: ${this.problem}`
  }
}

const isProgram = (file: string): boolean => {
  try {
    accessSync(file, constants.X_OK)
    return statSync(file).isFile()
  } catch {
    return false
  }
}

/** Where `nats-server` is: on the path, or in the `sbin` beside one of its folders, where Debian puts it and few have it on their path. */
export const findNatsServer = (path: string): string | undefined => {
  const folders = path.split(delimiter).filter((folder) => folder !== "")
  return [...folders, ...folders.map((folder) => normalize(join(folder, "..", "sbin")))]
    .map((folder) => join(folder, "nats-server"))
    .find(isProgram)
}

/** The file is read once, at the start: it is gone before anybody is told that the server is there. */
const withConfig = <A, E, R>(port: number, token: string, use: (file: string) => Effect.Effect<A, E, R>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-nats-"))),
    (folder) =>
      Effect.suspend(() => {
        const file = join(folder, "nats.conf")
        writeFileSync(file, `listen: "127.0.0.1:${port}"\nauthorization { token: "${token}" }\n`, { mode: 0o600 })
        return use(file)
      }),
    (folder) => Effect.sync(() => rmSync(folder, { recursive: true, force: true }))
  )

// What the server says ends with it, for the shell has let go of it.
const script = `trap "" INT TERM HUP
"$0" -c "$1" < /dev/null &
exec 2> /dev/null
read -r _
kill -9 $!
wait`

const closed = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.exitCode !== null || child.signalCode !== null) return resume(Effect.void)
    child.once("exit", () => resume(Effect.void))
    child.once("error", () => resume(Effect.void))
  })

const start = (command: string, file: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn("/bin/sh", ["-c", script, command, file], {
        detached: true,
        stdio: ["pipe", "ignore", "pipe"]
      })
      for (const one of [child, child.stdin, child.stderr]) one.on("error", () => {})
      return child
    }),
    (child) =>
      Effect.andThen(
        Effect.sync(() => child.stdin.end()),
        closed(child)
      )
  )

const lastLine = (text: string): string => text.trim().split("\n").at(-1) ?? ""

/** The port, once it listens. */
const listening = (command: string, child: ChildProcess) =>
  Effect.callback<number, NatsServerFailed>((resume) => {
    let said = ""
    child.stderr?.on("data", function look(data) {
      said += data
      const match = /Listening for client connections on 127\.0\.0\.1:(\d+)/.exec(said)
      if (match === null || !said.includes("Server is ready")) return
      child.stderr?.off("data", look)
      child.stderr?.resume()
      resume(Effect.succeed(Number(match[1])))
    })
    child.stderr?.once("end", () => resume(Effect.fail(new NatsServerFailed({ command, problem: lastLine(said) }))))
  }).pipe(
    Effect.timeoutOrElse({
      duration: limits.ownNatsStartMs,
      orElse: () => Effect.fail(new NatsServerFailed({ command, problem: "it does not say that it is ready" }))
    })
  )

/** Until it ends by itself. */
const lived = (child: ChildProcess) =>
  Effect.callback<void>((resume) => {
    if (child.stderr?.readableEnded !== false) return resume(Effect.void)
    child.stderr.once("end", () => resume(Effect.void))
  })

/** Runs one for as long as the scope is open; returns how to reach it, once it listens. */
export const make = Effect.fnUntraced(function* (
  path: string
): Effect.fn.Return<NatsOptions, NatsServerMissing | NatsServerFailed, Scope.Scope> {
  const command = findNatsServer(path)
  if (command === undefined) return yield* new NatsServerMissing()
  const token = randomBytes(24).toString("base64url")
  const begun = yield* Deferred.make<number, NatsServerFailed>()
  let port = -1
  const life = Effect.gen(function* () {
    const child = yield* withConfig(port, token, (file) =>
      Effect.tap(start(command, file), (child) =>
        Effect.map(listening(command, child), (at) => {
          port = at
        })
      )
    )
    yield* Deferred.succeed(begun, port)
    yield* lived(child)
    return "the workers are without it meanwhile"
  }).pipe(Effect.scoped)
  yield* keepAlive("nats-server", begun, life).pipe(
    Effect.catch((error) => Deferred.fail(begun, error)),
    Effect.forkScoped
  )
  const at = yield* Deferred.await(begun)
  return { servers: [`127.0.0.1:${at}`], auth: { _tag: "Token", token: Redacted.make(token) } }
})
