/** `wayleave` as a process of its own, for tests: what it says, how it ends. Killed with the scope that started it. */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { Effect } from "effect"

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url))

/** How it ended: an exit code, or the signal that killed it. */
export interface Ended {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
}

/** A started process. */
export interface CommandProcess {
  readonly child: ChildProcess
  /** What was said on standard output so far. */
  readonly output: () => string
  /** Waits until standard output matches; fails with all that was said where the process ends first. */
  readonly said: (pattern: RegExp) => Effect.Effect<RegExpExecArray, Error>
  readonly ended: Effect.Effect<Ended>
  readonly signal: (signal: NodeJS.Signals) => Effect.Effect<void>
}

/** The environment without anything that would configure it, plus what is given. */
export const environment = (env: Readonly<Record<string, string>>): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("WAYLEAVE_"))),
  NO_COLOR: "1",
  ...env
})

/** Starts `wayleave` with these arguments. */
export const start = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  launch(process.execPath, [main, ...args], env)

/** Starts it as npx does: under a shell, which is what a signal to npx ends. */
export const startByNpx = (args: ReadonlyArray<string>) =>
  launch("sh", ["-c", '"$0" "$@"; :', process.execPath, main, ...args], { npm_command: "exec" })

/** Starts it as a terminal does: with a process group of its own, which Ctrl-C reaches as a whole. */
export const startAsGroup = (args: ReadonlyArray<string>) => launch(process.execPath, [main, ...args], {}, true)

/** Whether a process runs. One that has ended counts for no more, even where nobody has asked how. */
export const alive = (pid: number): boolean => {
  try {
    process.kill(pid, 0)
  } catch {
    return false
  }
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))
  } catch {
    return false
  }
}

/** Starts any program. */
export const launch = (
  command: string,
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  detached = false
) =>
  Effect.acquireRelease(
    Effect.sync((): CommandProcess => {
      const child = spawn(command, args, {
        env: environment(env),
        detached,
        stdio: ["ignore", "pipe", "pipe"]
      })
      let stdout = ""
      let stderr = ""
      let ended: Ended | undefined
      let listeners: Array<() => void> = []
      const changed = () => {
        const woken = listeners
        listeners = []
        for (const f of woken) f()
      }
      child.stdout.on("data", (data) => {
        stdout += data
        changed()
      })
      child.stderr.on("data", (data) => {
        stderr += data
      })
      child.on("close", (code, signal) => {
        ended = { code, signal, stdout, stderr }
        changed()
      })
      const until = <A, E>(look: () => Effect.Effect<A, E> | undefined): Effect.Effect<A, E> =>
        Effect.callback<A, E>((resume) => {
          const check = () => {
            const found = look()
            if (found === undefined) listeners.push(check)
            else resume(found)
          }
          check()
        })
      return {
        child,
        output: () => stdout,
        said: (pattern) =>
          until(() => {
            const match = pattern.exec(stdout)
            if (match !== null) return Effect.succeed(match)
            return ended === undefined
              ? undefined
              : Effect.fail(
                  new Error(`ended with ${ended.code ?? ended.signal} before ${pattern}:\n${stdout}\n${stderr}`)
                )
          }),
        ended: until(() => (ended === undefined ? undefined : Effect.succeed(ended))),
        signal: (signal) => Effect.sync(() => void child.kill(signal))
      }
    }),
    ({ child }) => Effect.sync(() => void child.kill("SIGKILL"))
  )

/** Runs `wayleave` to its end. */
export const run = (args: ReadonlyArray<string>, env: Readonly<Record<string, string>> = {}) =>
  Effect.scoped(Effect.flatMap(start(args, env), ({ ended }) => ended))
