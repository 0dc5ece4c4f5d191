/**
 * `npm run bench`: the same work direct and through the tunnel, in turn in one run, as ratios; machines are noisy, ratios of the same minute are
 * not. `--json` for machines, `--rounds N` for patience, `--only PATTERN` for one row.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { codecBench, codecTable } from "./codec.ts"
import * as Load from "./Load.ts"
import { routeBytes, routesBench, routesTable } from "./routes.ts"

const { values: args } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" }
  }
})
const rounds = Number(args.rounds)
const MiB64 = 64 * 1024 * 1024
const clockTicks = 100

const say = (line: string) => process.stdout.write(`${line}\n`)

const started: Array<ChildProcess> = []

/** Starts a script and waits for what it says. */
const start = (script: string, argv: ReadonlyArray<string>, says: RegExp) =>
  new Promise<{ readonly match: RegExpExecArray; readonly pid: number }>((resolve, reject) => {
    const path = fileURLToPath(new URL(script, import.meta.url))
    const child = spawn(process.execPath, [path, ...argv], { stdio: ["ignore", "pipe", "inherit"] })
    started.push(child)
    let text = ""
    child.stdout.on("data", (data) => {
      text += data
      const match = says.exec(text)
      if (match !== null && child.pid !== undefined) resolve({ match, pid: child.pid })
    })
    child.once("exit", (code) => reject(new Error(`${script} ended with ${code}: ${text}`)))
  })

/** Seconds of processor time that these processes have used. */
const processorSeconds = (pids: ReadonlyArray<number>) =>
  pids.reduce((sum, pid) => {
    const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
      .replace(/^.*\) /, "")
      .split(" ")
    return sum + (Number(fields[11]) + Number(fields[12])) / clockTicks
  }, 0)

const median = (numbers: ReadonlyArray<number>) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1] as number

interface Row {
  readonly name: string
  readonly unit: string
  /** Operations per measurement, for processor time; 0 where that says nothing. */
  readonly operations: number
  readonly less?: boolean
  readonly measure: (place: Load.Place) => Promise<number>
}

const rows: ReadonlyArray<Row> = [
  {
    name: "small GET, 32 connections",
    unit: "req/s",
    operations: 8_000,
    measure: (place) => Load.requests(place, { connections: 32, total: 8_000 })
  },
  {
    name: "1 KiB POST echo, 32 connections",
    unit: "req/s",
    operations: 6_000,
    measure: (place) => Load.requests(place, { connections: 32, total: 6_000, body: Buffer.alloc(1024, "b") })
  },
  { name: "64 MiB down", unit: "MB/s", operations: 0, measure: (place) => Load.download(place, MiB64) },
  { name: "64 MiB up", unit: "MB/s", operations: 0, measure: (place) => Load.upload(place, MiB64) },
  {
    name: "WebSocket 128 B, 100 sockets",
    unit: "msg/s",
    operations: 20_000,
    measure: (place) => Load.webSockets(place, { sockets: 100, total: 20_000, bytes: 128 })
  },
  {
    name: "SSE event delay, p50",
    unit: "ms",
    operations: 0,
    less: true,
    measure: (place) => Load.eventDelay(place, 60)
  }
]

const measureRow = async (row: Row, direct: Load.Place, tunnel: Load.Place, pids: ReadonlyArray<number>) => {
  await row.measure(direct)
  await row.measure(tunnel)
  const directs: Array<number> = []
  const tunnels: Array<number> = []
  const ratios: Array<number> = []
  const before = processorSeconds(pids)
  for (let round = 0; round < rounds; round++) {
    const one = await row.measure(direct)
    const other = await row.measure(tunnel)
    directs.push(one)
    tunnels.push(other)
    ratios.push(other / one)
  }
  const seconds = processorSeconds(pids) - before
  return {
    name: row.name,
    unit: row.unit,
    direct: median(directs),
    tunnel: median(tunnels),
    ratio: median(ratios),
    tunnelMicrosPerOperation: row.operations === 0 ? null : (seconds * 1e6) / (row.operations * rounds)
  }
}

const figure = (value: number) => (value >= 100 ? value.toFixed(0) : value.toFixed(2))

const tunnelTable = async () => {
  const wanted = rows.filter(({ name }) => name.includes(args.only))
  if (wanted.length === 0) return []
  const app = await start("App.ts", [], /(\d+)\n/)
  const port = Number(app.match[1])
  const hub = await start("../../src/cli/main.ts", ["serve", "--port", "0", "--admin-port", "0"], /127\.0\.0\.1:(\d+)/)
  const hubPort = Number(hub.match[1])
  const runner = await start(
    "../../src/cli/main.ts",
    ["expose", String(port), "--name", "bench", "--hub", `ws://127.0.0.1:${hubPort}`],
    / -> /
  )
  const direct: Load.Place = { port, host: "app" }
  const tunnel: Load.Place = { port: hubPort, host: "bench.localhost" }
  const results = []
  for (const row of wanted) {
    const result = await measureRow(row, direct, tunnel, [hub.pid, runner.pid])
    results.push(result)
    if (args.json) continue
    const cpu = result.tunnelMicrosPerOperation
    say(
      `${result.name.padEnd(34)}${figure(result.direct).padStart(9)}${figure(result.tunnel).padStart(9)} ${result.unit.padEnd(6)}${result.ratio.toFixed(2).padStart(7)}${cpu === null ? "" : `${cpu.toFixed(0)} µs`.padStart(10)}`
    )
  }
  return results
}

try {
  if (!args.json) {
    say(`node ${process.version}, ${rounds} rounds, direct and tunnel in turn, medians; ratio is tunnel ÷ direct\n`)
    say(
      `${"".padEnd(34)}${"direct".padStart(9)}${"tunnel".padStart(9)} ${"".padEnd(6)}${"ratio".padStart(7)}${"tunnel CPU".padStart(12)}`
    )
  }
  const tunnel = await tunnelTable()
  for (const child of started.splice(0)) child.kill("SIGKILL")
  const codec = "codec".includes(args.only) ? await codecBench() : []
  if (!args.json && codec.length > 0)
    say(`\nCodec: Rivet version 7, the published package, and the model of wayleave.1\n\n${codecTable(codec)}`)
  const routes = "routes".includes(args.only) ? { rows: routesBench(), bytes: routeBytes() } : undefined
  if (!args.json && routes !== undefined)
    say(
      `\nRoutes: issue, authorize, clear, in batches of 16, by seconds of processor time\n\n${routesTable(routes.rows, routes.bytes)}`
    )
  if (args.json) say(JSON.stringify({ node: process.version, rounds, tunnel, codec, routes }, null, 2))
} finally {
  for (const child of started) child.kill("SIGKILL")
}
