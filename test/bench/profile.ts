/**
 * `npm run profile`: one row on one way with `node --cpu-prof` on the tunnel's processes, and where their time went: by file or package and by function,
 * each without what it called. The profiles stay, for a flame graph.
 *
 * `--row PATTERN`, `--way NAME`, `--top N`, `--times N` to go on longer, `--within PATTERN` for the share of some places with all that they called.
 */
import { mkdtempSync, readdirSync, readFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { Data, Effect } from "effect"
import { runProcess, saying } from "../../src/cli/runProcess.ts"
import { tableOf } from "../cluster/Table.ts"
import { startSubject } from "./Bench.ts"
import { aggregate, type CpuProfile, type Profile, type Share } from "./CpuProfile.ts"
import { figure } from "./Report.ts"
import { rows } from "./Rows.ts"
import { ways } from "./Ways.ts"

class ProfileFailed extends Data.TaggedError("ProfileFailed")<{ readonly message: string }> {}

const { values: args } = parseArgs({
  options: {
    row: { type: "string", default: "small GET" },
    way: { type: "string", default: "local port" },
    top: { type: "string", default: "30" },
    times: { type: "string", default: "3" },
    within: { type: "string" }
  }
})
const top = Number(args.top)

const say = (text: string) => process.stdout.write(`${text}\n`)
const nowMicros = () => Number(process.hrtime.bigint() / 1000n)

const shares = (profile: Profile, what: string, list: ReadonlyArray<Share>) =>
  tableOf(
    ["of busy time", what],
    list.slice(0, top).map(({ micros, name }) => [`${((100 * micros) / profile.busyMicros).toFixed(1)} %`, name])
  )

const program = Effect.gen(function* () {
  const row = rows.find(({ name }) => name.includes(args.row))
  if (row === undefined) return yield* new ProfileFailed({ message: `there is no row with “${args.row}” in its name` })
  const way = ways.find(({ name }) => name === args.way)
  if (way === undefined) return yield* new ProfileFailed({ message: `there is no way “${args.way}”` })
  const directory = mkdtempSync(join(tmpdir(), "wayleave-profile-"))
  const nodeArgs = ["--cpu-prof", "--cpu-prof-interval", "500", "--cpu-prof-dir", directory]
  const subject = yield* startSubject(way, { nodeArgs })
  const measure = Effect.tryPromise({
    try: () => row.measure(subject),
    catch: (error) => new ProfileFailed({ message: String(error) })
  })
  yield* measure
  const from = nowMicros()
  for (let i = 0; i < Number(args.times); i++) {
    const { cost, value } = yield* measure
    const spent =
      cost === undefined ? "" : `, ${figure(cost.tunnel)} µs of the tunnel's, ${figure(cost.app)} of the app's`
    say(`${row.name}, ${way.name}, profiled: ${figure(value)} ${row.unit}${spent}`)
  }
  const to = nowMicros()
  for (const { gauge, label, pid, stop } of subject.tunnel) {
    if (gauge === undefined) continue
    yield* Effect.promise(stop)
    const file = readdirSync(directory).find((name) => name.split(".").includes(String(pid)))
    if (file === undefined) return yield* new ProfileFailed({ message: `the ${label} has left no profile` })
    const profile = aggregate(JSON.parse(readFileSync(join(directory, file), "utf8")) as CpuProfile, {
      fromMicros: from,
      toMicros: to,
      ...(args.within === undefined ? {} : { within: new RegExp(args.within) })
    })
    const busy = (100 * profile.busyMicros) / (profile.busyMicros + profile.idleMicros)
    say(`\n${label}: ${busy.toFixed(0)} % busy; ${join(directory, file)}\n`)
    if (args.within !== undefined) {
      say(`${((100 * profile.withinMicros) / profile.busyMicros).toFixed(1)} % of busy time within ${args.within}\n`)
    }
    say(shares(profile, "file or package", profile.groups))
    say(`\n${shares(profile, "function", profile.functions)}`)
  }
}).pipe(
  Effect.scoped,
  Effect.mapError(({ message }) => new ProfileFailed({ message }))
)

runProcess(saying(program))
