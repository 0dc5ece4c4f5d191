/** Runs rows on ways: in one round each way in turn, so that what the machine does meanwhile hits all alike. */
import { Effect, Exit, Scope } from "effect"
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

const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error))

/** The app, and one way to it. */
export const startSubject = Effect.fnUntraced(function* (way: Way, options: Processes.NodeOptions = {}) {
  const { match, ...app } = yield* Processes.startNode("app", "App.ts", [], /listening on (\d+)/)
  const standing = yield* way.start(Number(match[1]), options)
  return { ...standing, app } satisfies Subject
})

/** Ways that stand, each started when it is first needed and there until the scope ends. */
const makeSubjects = Effect.fnUntraced(function* () {
  const scope = yield* Effect.scope
  const standing = new Map<Way, Exit.Exit<Subject, Error>>()
  const kept = Effect.fnUntraced(function* (way: Way) {
    const exit = standing.get(way) ?? (yield* Effect.exit(Scope.provide(startSubject(way), scope)))
    standing.set(way, exit)
    return yield* exit
  })
  return { kept }
})

const measureOn = (row: Row, subject: Subject): Effect.Effect<Measured, Error> =>
  Effect.tryPromise({
    try: () => row.measure(subject),
    catch: (error) => (error instanceof Error ? error : new Error(String(error)))
  })

/** Runs them. A row that fails on a way says why and is not tried there again. */
export const run = Effect.fnUntraced(function* ({ progress, rounds, rows, ways }: BenchOptions) {
  const subjects = yield* makeSubjects()
  const missing: Record<string, string> = {}
  const results: Array<RowResult> = []
  for (const row of rows) {
    const cells = ways
      .filter((way) => row.on?.(way) ?? true)
      .map((way) => ({ way, rounds: [] as Array<Measured | undefined>, failure: undefined as string | undefined }))
    // Round 0 warms up; where each round has processes of its own there is nothing to warm.
    for (let round = row.fresh === true ? 1 : 0; round <= rounds; round++) {
      for (const cell of cells) {
        const { way } = cell
        if (way.name in missing) continue
        if (cell.failure !== undefined) {
          cell.rounds.push(undefined)
          continue
        }
        const subject = row.fresh === true ? startSubject(way) : subjects.kept(way)
        const exit = yield* Effect.exit(Effect.scoped(Effect.flatMap(subject, (subject) => measureOn(row, subject))))
        const error = Exit.findErrorOption(exit)
        if (Exit.isSuccess(exit)) {
          progress(`${row.name}, round ${round}, ${way.name}: ${exit.value.value.toPrecision(4)} ${row.unit}`)
          if (round > 0) cell.rounds.push(exit.value)
        } else if (error._tag === "Some" && error.value instanceof NotInstalled) {
          missing[way.name] = error.value.message
          progress(`${way.name}: ${error.value.message}`)
        } else {
          cell.failure = error._tag === "Some" ? messageOf(error.value) : String(exit.cause)
          progress(`${row.name}, ${way.name}: FAILED: ${cell.failure}`)
          if (round > 0) cell.rounds.push(undefined)
        }
      }
    }
    const known = cells.filter(({ way }) => !(way.name in missing))
    results.push(
      resultOf(
        row,
        known.map(
          ({ failure, rounds, way }): Cell => ({ way: way.name, rounds, ...(failure === undefined ? {} : { failure }) })
        )
      )
    )
  }
  const result: BenchResult = { rows: results, missing }
  return result
}, Effect.scoped)
