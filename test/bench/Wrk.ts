/** `wrk` as the load of small requests: C, one thread, and a script that compares every answer with what it must be. */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { requireProgram } from "../Debian.ts"
import { endsWithUs } from "./Processes.ts"
import type { Place } from "./Ways.ts"

/** What a run counted. */
export interface WrkResult {
  readonly seconds: number
  /** Answers with the right status and the right bytes. */
  readonly good: number
  readonly p50Ms: number
  readonly p99Ms: number
}

/** What to send: `expected` must come back, and nothing else. */
export interface WrkOptions {
  readonly connections: number
  readonly seconds: number
  readonly method: "GET" | "POST"
  readonly path: string
  readonly body: string
  readonly expected: string
}

const script = fileURLToPath(new URL("./check.lua", import.meta.url))

let command: string | undefined

/** Where it is; installed where it is not, or it says what to do. */
export const requireWrk = (): string =>
  (command ??= requireProgram({ package: "wrk", candidates: ["wrk"], args: ["--version"] }))

/** Reads what the script has printed. Answers that were wrong, cut off or never came are a failure, however few. */
export const parseWrk = (output: string): WrkResult => {
  const line = output.split("\n").find((one) => one.startsWith("{"))
  if (line === undefined) throw new Error(`wrk says nothing of its run: ${output}`)
  const { bad, errors, good, p50Ms, p99Ms, seconds, timeouts } = JSON.parse(line) as WrkResult &
    Record<"bad" | "errors" | "timeouts", number>
  if (bad + errors + timeouts > 0) {
    throw new Error(`of ${good + bad} answers ${bad} were wrong, ${errors} connections broke, ${timeouts} timed out`)
  }
  if (good === 0) throw new Error("no answer came")
  return { seconds, good, p50Ms, p99Ms }
}

/** Runs it to its end. */
export const wrk = (place: Place, options: WrkOptions): Promise<WrkResult> =>
  new Promise((resolve, reject) => {
    const { body, connections, expected, method, path, seconds } = options
    const url = `http://127.0.0.1:${place.port}${path}`
    const flags = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "10s"]
    const args = [...flags, "-s", script, "-H", `Host: ${place.host}`, url, "--", method, body, expected]
    const child = spawn(requireWrk(), args, { stdio: ["ignore", "pipe", "pipe"] })
    endsWithUs(child)
    let output = ""
    child.stdout.on("data", (data) => {
      output += data
    })
    child.stderr.on("data", (data) => {
      output += data
    })
    child.once("error", reject)
    child.once("close", () => {
      try {
        resolve(parseWrk(output))
      } catch (error) {
        reject(error)
      }
    })
  })
