/** What a run has found: every round of every row on every way, and the medians that the tables show. */
import type { Cost, Measured } from "./Measurement.ts"
import type { Row } from "./Row.ts"
import { median, medianRatio } from "./Statistics.ts"

/** A row on a way: one entry for each round, undefined where it failed. */
export interface Cell {
  readonly way: string
  readonly rounds: ReadonlyArray<Measured | undefined>
  /** The first thing that went wrong. */
  readonly failure?: string
}

/** Medians of a cell. */
export interface Summary {
  readonly way: string
  readonly value?: number
  /** To the direct run of the same round. */
  readonly ratio?: number
  readonly cost?: Cost
  readonly more?: Readonly<Record<string, number>>
  readonly failure?: string
  readonly rounds: ReadonlyArray<number | undefined>
}

/** A row of the report. */
export interface RowResult extends Pick<Row, "name" | "unit" | "kind" | "operation"> {
  readonly cells: ReadonlyArray<Summary>
}

const medianOf = (rounds: ReadonlyArray<Measured>, get: (one: Measured) => number | undefined): number =>
  median(rounds.map(get).filter((value) => value !== undefined))

const summarize = (cell: Cell, direct: Cell | undefined): Summary => {
  const { failure, rounds, way } = cell
  const there = rounds.filter((round) => round !== undefined)
  const values = rounds.map((round) => round?.value)
  const summary = { way, rounds: values, ...(failure === undefined ? {} : { failure }) }
  const [first] = there
  if (first === undefined) return summary
  const ratio =
    direct === undefined || direct === cell
      ? undefined
      : medianRatio(
          values,
          direct.rounds.map((round) => round?.value)
        )
  const cost = (who: keyof Cost) => medianOf(there, (one) => one.cost?.[who])
  return {
    ...summary,
    value: medianOf(there, ({ value }) => value),
    ...(ratio === undefined ? {} : { ratio }),
    ...(first.cost === undefined ? {} : { cost: { tunnel: cost("tunnel"), app: cost("app"), load: cost("load") } }),
    ...(first.more === undefined
      ? {}
      : {
          more: Object.fromEntries(
            Object.keys(first.more).map((name) => [name, medianOf(there, ({ more }) => more?.[name])])
          )
        })
  }
}

/** The medians of a row. */
export const resultOf = (row: Row, cells: ReadonlyArray<Cell>): RowResult => {
  const direct = cells.find(({ way }) => way === "direct")
  const { kind, name, operation, unit } = row
  return {
    name,
    unit,
    kind,
    ...(operation === undefined ? {} : { operation }),
    cells: cells.map((cell) => summarize(cell, direct))
  }
}
