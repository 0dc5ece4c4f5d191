/** Results as tables in Markdown, for a terminal and for `docs/benchmarks.md`. */
import { tableOf } from "../cluster/Table.ts"
import { type CodecRow, codecTable } from "./codec.ts"
import type { RowResult, Summary } from "./Result.ts"
import { type RoutesResult, routesTable } from "./routes.ts"

/** Where and on what it was measured. */
export interface Circumstances {
  readonly date: string
  readonly rounds: number
  readonly cores: string
  readonly system: string
  /** Programs and their versions. */
  readonly versions: Readonly<Record<string, string>>
}

/** All that a run has found. */
export interface Report extends Circumstances {
  /** Ways that were asked for and do not stand, and why. */
  readonly missing: Readonly<Record<string, string>>
  readonly rows: ReadonlyArray<RowResult>
  /** Absent where they were not asked for. */
  readonly codec?: ReadonlyArray<CodecRow>
  readonly routes?: RoutesResult
}

const none = "–"

/** Three digits that mean something. */
export const figure = (value: number): string => {
  if (Math.abs(value) >= 100) return Math.round(value).toLocaleString("en-US")
  return value.toFixed(Math.abs(value) >= 10 ? 1 : 2)
}

const cellOf = ({ kind, unit }: RowResult, { failure, ratio, value }: Summary): string => {
  if (failure !== undefined) return "fails"
  if (value === undefined) return none
  return kind === "rate" && ratio !== undefined ? ratio.toFixed(2) : `${figure(value)} ${unit}`
}

const costOf = ({ cost, failure }: Summary): string => {
  if (failure !== undefined) return "fails"
  if (cost === undefined) return none
  return `${figure(cost.tunnel)} + ${figure(cost.app)} = ${figure(cost.tunnel + cost.app)}`
}

const columns = (report: Report): ReadonlyArray<string> => {
  const names = report.rows.flatMap(({ cells }) => cells.map(({ way }) => way))
  return [...new Set([...names, ...Object.keys(report.missing)])]
}

const line = (report: Report, row: RowResult, cell: (summary: Summary) => string) =>
  columns(report).map((way) => {
    const summary = row.cells.find((one) => one.way === way)
    if (summary !== undefined) return cell(summary)
    return way in report.missing ? "not installed" : none
  })

/** Figures of each way: ratios to direct for what is the better the more there is of it, the rest as it is. */
export const figures = (report: Report): string =>
  tableOf(
    ["", ...columns(report)],
    report.rows.map((row) => [row.name, ...line(report, row, (summary) => cellOf(row, summary))])
  )

/** Processor time of one operation in microseconds. */
export const costs = (report: Report): string => {
  const rows = report.rows.filter(({ cells }) => cells.some(({ cost }) => cost !== undefined))
  return tableOf(
    ["", "of a", ...columns(report)],
    rows.map((row) => [row.name, row.operation ?? "", ...line(report, row, costOf)])
  )
}

/** What else was seen, named as the row names it. */
export const details = (report: Report): string => {
  const lines = report.rows.flatMap((row) => {
    const names = [...new Set(row.cells.flatMap(({ more }) => Object.keys(more ?? {})))]
    return names.map((name) => [
      `${row.name}: ${name}`,
      ...line(report, row, ({ more }) => (more?.[name] === undefined ? none : figure(more[name])))
    ])
  })
  return tableOf(["", ...columns(report)], lines)
}

/** What failed, in the words of whatever failed. */
export const failures = (report: Report): ReadonlyArray<string> =>
  report.rows.flatMap(({ cells, name }) =>
    cells.flatMap(({ failure, way }) => (failure === undefined ? [] : [`${name}, ${way}: ${failure}`]))
  )

const costsTitle =
  "Processor time in microseconds, tunnel + app = both; where the app is in the runner's process it is part of the tunnel:"

/** The whole of it. */
export const markdown = (report: Report): string => {
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`)
  const circumstances = `${report.date}; ${report.cores}; ${report.system}; ${versions.join(", ")}; medians of ${report.rounds} rounds.`
  const cells = report.rows.flatMap((row) => row.cells)
  const costed = cells.some(({ cost }) => cost !== undefined)
  const detailed = cells.some(({ more }) => more !== undefined)
  const rows = [
    figures(report),
    ...(costed ? [costsTitle, costs(report)] : []),
    ...(detailed ? ["Further figures of the same rows:", details(report)] : [])
  ]
  const parts = [
    circumstances,
    ...(report.rows.length === 0 ? [] : rows),
    ...(report.codec === undefined ? [] : ["Codecs:", codecTable(report.codec)]),
    ...(report.routes === undefined ? [] : ["Routes, in batches of 16:", routesTable(report.routes)]),
    ...Object.entries(report.missing).map(([way, why]) => `${way}: ${why}.`),
    ...failures(report).map((failure) => `**Failed:** ${failure}`)
  ]
  return `${parts.join("\n\n")}\n`
}

const marked = /(<!-- results -->\n)[\s\S]*?(<!-- \/results -->)/

/** The page with these results in the place of earlier ones. */
export const withResults = (page: string, results: string): string => {
  if (!marked.test(page)) throw new Error("the page has no place for results: <!-- results --> … <!-- /results -->")
  return page.replace(marked, (_, open: string, close: string) => `${open}\n${results.trimEnd()}\n\n${close}`)
}
