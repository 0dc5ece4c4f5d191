/**
 * `npm run bench:soak`: requests, uploads and WebSockets at once for ten minutes, as many as go, and whether anything grows. Each minute the load
 * pauses; what each process of the tunnel then holds after collecting its garbage is written down. Fails where a line of it goes up.
 *
 * `--seconds N` in all, `--every N` seconds between two looks, `--way NAME`.
 */
import { setTimeout } from "node:timers/promises"
import { parseArgs } from "node:util"
import { Data, Effect } from "effect"
import { runProcess, saying } from "../../src/cli/runProcess.ts"
import { tableOf } from "../cluster/Table.ts"
import { startSubject } from "./Bench.ts"
import * as Content from "./Content.ts"
import { type Holding, type Line, type Look, linesOf, verdictOf } from "./Growth.ts"
import type { Subject } from "./Measurement.ts"
import { residentBytes } from "./ProcessTree.ts"
import { figure } from "./Report.ts"
import * as SocketLoad from "./SocketLoad.ts"
import * as Transfer from "./Transfer.ts"
import { ways } from "./Ways.ts"
import { wrk } from "./Wrk.ts"

class SoakFailed extends Data.TaggedError("SoakFailed")<{ readonly message: string }> {}

const { values: args } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    every: { type: "string", default: "60" },
    way: { type: "string", default: "local port" }
  }
})

const say = (text: string) => process.stdout.write(`${text}\n`)
const MiB = 1024 * 1024
/** How long after the load the last connections may take to be gone. */
const settleMs = 2_000

/** Everything at once; returns how many operations there were. */
const load = async ({ place }: Subject, seconds: number): Promise<number> => {
  const small = Content.small.toString("latin1")
  const posted = Content.posted.toString("latin1")
  const common = { connections: 16, seconds }
  const until = performance.now() + seconds * 1000
  const sockets = async () => {
    const open = await SocketLoad.openSockets(place, 50)
    try {
      return await SocketLoad.echoes(open, 128, seconds)
    } finally {
      for (const socket of open) socket.destroy()
    }
  }
  const transfers = async () => {
    let count = 0
    while (performance.now() < until) {
      await Transfer.download(place, MiB)
      await Transfer.upload(place, MiB)
      count += 2
    }
    return count
  }
  const [gets, posts, messages, moved] = await Promise.all([
    wrk(place, { ...common, method: "GET", path: "/", body: "", expected: small }),
    wrk(place, { ...common, method: "POST", path: "/echo", body: posted, expected: posted }),
    sockets(),
    transfers()
  ])
  return gets.good + posts.good + messages + moved
}

const look = async (subject: Subject): Promise<Look> => {
  await setTimeout(settleMs)
  const holdings: Array<readonly [string, Holding]> = []
  for (const { gauge, label, pid } of subject.tunnel) {
    holdings.push([label, (await gauge?.()) ?? { rss: residentBytes([pid]) }])
  }
  return Object.fromEntries(holdings)
}

const shown = ({ unit, values }: Line) => values.map((value) => (unit === "MB" ? figure(value) : String(value)))

const program = Effect.gen(function* () {
  const way = ways.find(({ name }) => name === args.way)
  if (way === undefined) return yield* new SoakFailed({ message: `there is no way “${args.way}”` })
  const every = Number(args.every)
  const rounds = Math.ceil(Number(args.seconds) / every)
  const subject = yield* startSubject(way)
  const looks: Array<Look> = []
  for (let round = 1; round <= rounds; round++) {
    const [operations, seen] = yield* Effect.tryPromise({
      try: async () => [await load(subject, every), await look(subject)] as const,
      catch: (error) => new SoakFailed({ message: String(error) })
    })
    looks.push(seen)
    process.stderr.write(`${round} of ${rounds}: ${operations.toLocaleString("en-US")} operations\n`)
  }
  const lines = linesOf(looks)
  const verdicts = lines.map(verdictOf)
  say(
    tableOf(
      ["process", "what", ...looks.map((_, i) => `${(i + 1) * every} s`), ""],
      lines.map((line, i) => [line.process, `${line.what}, ${line.unit}`, ...shown(line), verdicts[i] ?? ""])
    )
  )
  const growing = lines.filter((_, i) => verdicts[i] === "grows")
  if (growing.length > 0) {
    const message = growing.map(({ process, what }) => `${what} of the ${process}`).join(", ")
    return yield* new SoakFailed({ message: `grows: ${message}` })
  }
}).pipe(
  Effect.scoped,
  Effect.mapError(({ message }) => new SoakFailed({ message }))
)

runProcess(saying(program))
