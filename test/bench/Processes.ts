/**
 * The processes that a way through a tunnel consists of: each is started in a scope and ended with it by its own id, and those of Node can say how
 * much memory they hold. What they print is read and dropped, as a service's log would be.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { once } from "node:events"
import { connect } from "node:net"
import { setTimeout } from "node:timers/promises"
import { fileURLToPath } from "node:url"
import { Data, Effect, type Scope } from "effect"
import { environment } from "../cli/CommandProcess.ts"
import { killTree } from "./ProcessTree.ts"

/** A process could not be started, or ended when nobody had asked it to. */
export class ProcessFailed extends Data.TaggedError("ProcessFailed")<{ readonly message: string }> {}

/** What a process of Node holds after its garbage was collected. */
export interface Gauge {
  readonly rss: number
  readonly held: number
  readonly heapUsed: number
  readonly arrayBuffers: number
  /** What keeps its event loop going, counted by kind. */
  readonly resources: Readonly<Record<string, number>>
}

/** A process that runs. */
export interface Running {
  readonly label: string
  readonly pid: number
  /** Absent where it is not of Node. */
  readonly gauge?: () => Promise<Gauge>
  /** How often it has had its NATS server confirm what it said; absent where it says nothing to one. */
  readonly flushes?: () => Promise<number>
  /** Asks it to end, and waits until it has. */
  readonly stop: () => Promise<void>
}

/** What to start. */
export interface StartOptions {
  readonly label: string
  readonly command: string
  readonly args: ReadonlyArray<string>
  /** Printed on either output once it is ready; `undefined` for one that says nothing. */
  readonly ready?: RegExp
  readonly gauged?: boolean
}

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))
const readyMs = 20_000
const gaugeMs = 30_000
const keptBytesMax = 64 * 1024

const alive = new Set<number>()
process.on("exit", () => {
  for (const pid of alive) killTree(pid)
})

/** Has a child end with this process, whichever way that ends. */
export const endsWithUs = (child: ChildProcess): void => {
  const { pid } = child
  if (pid === undefined) return
  alive.add(pid)
  child.once("exit", () => alive.delete(pid))
}

/** How long a program that has children of its own may take to end them itself. */
const gentlyMs = 2_000

const end = async (child: ChildProcess, patienceMs: number): Promise<void> => {
  const { pid } = child
  if (pid === undefined || !alive.has(pid)) return
  const ended = once(child, "exit")
  if (patienceMs > 0) {
    child.kill("SIGTERM")
    await Promise.race([ended, setTimeout(patienceMs)])
  }
  if (alive.has(pid)) killTree(pid)
  await ended
}

/** Starts a program and waits for what it says. */
export const start = (
  options: StartOptions
): Effect.Effect<Running & { readonly match: RegExpExecArray }, ProcessFailed, Scope.Scope> =>
  Effect.gen(function* () {
    const { args, command, label, ready = /^/ } = options
    const child = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(command, args, { env: environment({}), stdio: ["ignore", "pipe", "pipe"] })
        endsWithUs(child)
        return child
      }),
      (child) => Effect.promise(() => end(child, options.gauged === true ? 0 : gentlyMs))
    )
    const fail = (why: string) => new ProcessFailed({ message: `${label} (${command}) ${why}` })
    let said = ""
    let listener: (() => void) | undefined
    const hear = (data: Buffer) => {
      if (listener === undefined) return
      said = (said + data.toString("latin1")).slice(-keptBytesMax)
      listener()
    }
    child.stdout.on("data", hear)
    child.stderr.on("data", hear)
    const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()))
    const hears = (pattern: RegExp, ms: number, ask: () => void) =>
      new Promise<RegExpExecArray>((resolve, reject) => {
        const done = () => {
          listener = undefined
          said = ""
          clearTimeout(timer)
          child.off("exit", onExit)
          child.off("error", onError)
        }
        const onError = (error: Error) => {
          done()
          reject(fail(error.message))
        }
        const onExit = (code: number | null, signal: string | null) => {
          const text = said
          done()
          reject(fail(`ended with ${code ?? signal}:\n${text}`))
        }
        const timer = globalThis.setTimeout(
          () => onError(new Error(`did not say ${pattern} in ${ms} ms:\n${said}`)),
          ms
        )
        child.once("error", onError)
        if (child.exitCode === null && child.signalCode === null) child.once("exit", onExit)
        else return onExit(child.exitCode, child.signalCode)
        listener = () => {
          const match = pattern.exec(said)
          if (match === null) return
          done()
          resolve(match)
        }
        listener()
        ask()
      })
    const match = yield* Effect.tryPromise({
      try: () => hears(ready, readyMs, () => {}),
      catch: (error) => (error instanceof ProcessFailed ? error : fail(String(error)))
    })
    const gauge = async () =>
      JSON.parse((await hears(/\ngauge (\{.*\})\n/, gaugeMs, () => child.kill("SIGUSR2")))[1] as string) as Gauge
    return {
      label,
      pid: child.pid ?? 0,
      match,
      ...(options.gauged === true ? { gauge } : {}),
      stop: () => {
        child.kill("SIGTERM")
        return ended
      }
    }
  })

/** Flags for the processes of Node that are part of a tunnel, as `--cpu-prof`. */
export interface NodeOptions {
  readonly nodeArgs?: ReadonlyArray<string>
}

/** Starts a script of this repository with a gauge in it. */
export const startNode = (
  label: string,
  script: string,
  args: ReadonlyArray<string>,
  ready: RegExp,
  { nodeArgs = [] }: NodeOptions = {}
) =>
  start({
    label,
    command: process.execPath,
    args: [...nodeArgs, "--expose-gc", "--import", at("../scale/gauge.ts"), at(script), ...args],
    ready,
    gauged: true
  })

/** Hub and gateway. */
export const startServe = Effect.fnUntraced(function* (label: string, options: NodeOptions, nats?: string) {
  const shared = nats === undefined ? [] : ["--nats", nats]
  const args = ["serve", "--port", "0", "--admin-port", "0", ...shared]
  const ready = /listening on http:\/\/127\.0\.0\.1:(\d+)\n.* on (http:\S+)/
  const { match, ...process } = yield* startNode(label, "../../src/cli/main.ts", args, ready, options)
  const flushes = async () => {
    const page = await (await fetch(`${match[2]}/metrics`)).text()
    return Number(/^wayleave_bus_flushes_total\S* (\d+)/m.exec(page)?.[1] ?? 0)
  }
  return { ...process, port: Number(match[1]), ...(nats === undefined ? {} : { flushes }) }
})

/** The name that visitors reach the app by. */
export const runnerName = "bench"

/** A runner that forwards to a local port. */
export const startExpose = (appPort: number, hubPort: number, options: NodeOptions) =>
  startNode(
    "runner",
    "../../src/cli/main.ts",
    ["expose", String(appPort), "--name", runnerName, "--hub", `ws://127.0.0.1:${hubPort}`],
    / -> http:/,
    options
  )

/** A runner with the app in it. */
export const startEmbedded = (hubPort: number, options: NodeOptions) =>
  startNode("runner", "EmbeddedApp.ts", [`ws://127.0.0.1:${hubPort}`, runnerName], /connected/, options)

/** Succeeds where somebody accepts connections on this port. */
export const connects = (port: number): Promise<void> =>
  new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => {
      socket.destroy()
      resolve()
    })
    socket.once("error", reject)
  })
