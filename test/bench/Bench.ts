/** Runs rows on ways: in one round each way in turn, so that what the machine does meanwhile hits all alike. */
import { Effect, Exit, Option, Scope } from "effect"
import type { Measured, Subject } from "./Measurement.ts"
import { NotInstalled } from "./Peers.ts"
import * as Processes from "./Processes.ts"
import { type Cell, type RowResult, resultOf } from "./Result.ts"
import type { Row } from "./Row.ts"
import type { Way } from "./Ways.ts"

/** What is to be run. */
export interface BenchOptions {
  readonly rows: ReadonlyArray<Row>
  readonly ways: ReadonlyArray<Way>
  readonly rounds: number
  /** Told how it goes. */
  readonly progress: (line: string) => void
}

/** What came of it. */
export interface BenchResult {
  readonly rows: ReadonlyArray<RowResult>
  /** Ways that need what is not installed. */
  readonly missing: Readonly<Record<string, string>>
}

/** The app, and one way to it. */
export const startSubject = Effect.fnUntraced(function* (way: Way, options: Processes.NodeOptions = {}) {
  const { match, ...app } = yield* Processes.startNode("app", "App.ts", [], /listening on (\d+)/)
  const standing = yield* way.start(Number(match[1]), options)
  return { ...standing, app } satisfies Subject
})

/** Ways that stand, each started when it is first needed and there until the scope ends. */
const makeSubjects = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const standing = new Map<Way, Exit.Exit<Subject, Error>>()
  return Effect.fnUntraced(function* (way: Way) {
    const exit = standing.get(way) ?? (yield* Effect.exit(Scope.provide(startSubject(way), scope)))
    standing.set(way, exit)
    return yield* exit
  })
})

const measureOn = (row: Row, subject: Subject): Effect.Effect<Measured, Error> =>
  Effect.tryPromise({
    try: () => row.measure(subject),
    catch: (error) => (error instanceof Error ? error : new Error(String(error)))
  })

interface OpenCell {
  readonly way: Way
  readonly rounds: Array<Measured | undefined>
  failure: string | undefined
}

const closeCell = ({ failure, rounds, way }: OpenCell): Cell => ({
  way: way.name,
  rounds,
  ...(failure === undefined ? {} : { failure })
})

/** Runs them. A row that fails on a way says why and is not tried there again. */
export const run = Effect.fnUntraced(function* ({ progress, rounds, rows, ways }: BenchOptions) {
  const subjectOf = yield* makeSubjects
  const missing: Record<string, string> = {}

  const attempt = Effect.fnUntraced(function* (row: Row, { failure, way }: OpenCell, round: number) {
    if (failure !== undefined) return yield* Effect.fail(new Error(failure))
    const subject = yield* row.fresh === true ? startSubject(way) : subjectOf(way)
    const measured = yield* measureOn(row, subject)
    progress(`${row.name}, round ${round}, ${way.name}: ${measured.value.toPrecision(4)} ${row.unit}`)
    return measured
  }, Effect.scoped)

  const measureCell = Effect.fnUntraced(function* (row: Row, cell: OpenCell, round: number) {
    const exit = yield* Effect.exit(attempt(row, cell, round))
    // A defect is a fault of this program: it ends the run.
    const error = Exit.isSuccess(exit) ? undefined : Option.getOrUndefined(Exit.findErrorOption(exit))
    if (Exit.isFailure(exit) && error === undefined) return yield* exit
    if (error instanceof NotInstalled) {
      missing[cell.way.name] = error.message
      return progress(`${cell.way.name}: ${error.message}`)
    }
    if (error !== undefined && cell.failure === undefined) {
      cell.failure = error.message
      progress(`${row.name}, ${cell.way.name}: FAILED: ${cell.failure}`)
    }
    if (round > 0) cell.rounds.push(Exit.isSuccess(exit) ? exit.value : undefined)
  })

  const there = ({ way }: OpenCell) => !(way.name in missing)
  const results: Array<RowResult> = []
  for (const row of rows) {
    const cells = ways
      .filter((way) => row.on?.(way) ?? true)
      .map((way): OpenCell => ({ way, rounds: [], failure: undefined }))
    // Round 0 warms up; where each round has processes of its own there is nothing to warm.
    for (let round = row.fresh === true ? 1 : 0; round <= rounds; round++)
      for (const cell of cells) if (there(cell)) yield* measureCell(row, cell, round)
    results.push(resultOf(row, cells.filter(there).map(closeCell)))
  }
  const result: BenchResult = { rows: results, missing }
  return result
}, Effect.scoped)
