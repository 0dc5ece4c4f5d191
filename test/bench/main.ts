/**
 * `npm run bench`: the same work direct, through Wayleave and through others, in turn in one run, as ratios; machines are noisy, ratios of the same
 * round are not. What each row means and how it is measured is written in `docs/benchmarks.md`.
 *
 * `--rounds N`, `--only PATTERN` for some rows (a regular expression; `codec` and `routes` are tables of their own), `--ways A,B` for some columns,
 * `--json` for machines, `--write` to put the tables into the docs.
 */
import { execFileSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { cpus, release, type } from "node:os"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { Data, Effect } from "effect"
import { runProcess, saying } from "../../src/cli/runProcess.ts"
import * as Bench from "./Bench.ts"
import { codecBench } from "./codec.ts"
import * as Report from "./Report.ts"
import { rows } from "./Rows.ts"
import { routes } from "./routes.ts"
import { ways } from "./Ways.ts"
import { requireWrk } from "./Wrk.ts"

class BenchFailed extends Data.TaggedError("BenchFailed")<{ readonly message: string }> {}

const at = (path: string) => fileURLToPath(new URL(path, import.meta.url))

const { values: args } = parseArgs({
  options: {
    json: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    ways: { type: "string", default: "" }
  }
})

const say = (text: string) => process.stdout.write(`${text}\n`)
const progress = (line: string) => process.stderr.write(`${line}\n`)

/** The version that a program prints of itself, wherever it prints it. */
const versionOf = (command: string, flag: string): string | undefined => {
  try {
    const output = execFileSync("sh", ["-c", '"$0" "$1" 2>&1 || true', command, flag], { encoding: "utf8" })
    return /\d+\.\d+[\w.]*/.exec(output)?.[0]
  } catch {
    return undefined
  }
}

const wayleaveVersion = () =>
  (JSON.parse(readFileSync(at("../../package.json"), "utf8")) as { version: string }).version

const circumstances = (rounds: number): Report.Circumstances => {
  const versions = {
    wayleave: wayleaveVersion(),
    node: process.versions.node,
    nginx: versionOf("/usr/sbin/nginx", "-v"),
    OpenSSH: versionOf("ssh", "-V"),
    "nats-server": versionOf("/usr/sbin/nats-server", "--version"),
    wrk: versionOf("wrk", "--version")
  }
  return {
    date: new Date().toISOString().slice(0, 10),
    rounds,
    cores: `${cpus().length} × ${cpus()[0]?.model.trim()}`,
    system: `${type()} ${release()}`,
    versions: Object.fromEntries(
      Object.entries(versions).filter((entry): entry is [string, string] => entry[1] !== undefined)
    )
  }
}

const chosen = <A extends { readonly name: string }>(what: string, all: ReadonlyArray<A>, wanted: string) => {
  const names = wanted.split(",").filter((name) => name !== "")
  const unknown = names.find((name) => !all.some((one) => one.name === name))
  return unknown === undefined
    ? Effect.succeed(names.length === 0 ? all : all.filter(({ name }) => names.includes(name)))
    : new BenchFailed({ message: `there is no ${what} “${unknown}”, only ${all.map(({ name }) => name).join(", ")}` })
}

const program = Effect.gen(function* () {
  const rounds = Number(args.rounds)
  if (!Number.isInteger(rounds) || rounds < 1) return yield* new BenchFailed({ message: "--rounds takes a count" })
  const columns = yield* chosen("way", ways, args.ways)
  const only = new RegExp(args.only)
  yield* Effect.try({
    try: requireWrk,
    catch: (error) => new BenchFailed({ message: (error as Error).message })
  })
  const found = yield* Bench.run({ rows: rows.filter(({ name }) => only.test(name)), ways: columns, rounds, progress })
  const report: Report.Report = {
    ...circumstances(rounds),
    ...found,
    ...(only.test("codec") ? { codec: yield* Effect.promise(() => codecBench()) } : {}),
    ...(only.test("routes") ? { routes: routes() } : {})
  }
  say(args.json ? JSON.stringify(report, null, 2) : Report.markdown(report))
  if (args.write) {
    const page = at("../../docs/benchmarks.md")
    writeFileSync(page, Report.withResults(readFileSync(page, "utf8"), Report.markdown(report)))
  }
  const failed = Report.failures(report)
  if (failed.length > 0) return yield* new BenchFailed({ message: `${failed.length} failed:\n${failed.join("\n")}` })
})

runProcess(saying(program))
