/** Whether something grows under a load that does not: from what was seen after each minute of it. */
import type { Gauge } from "./Processes.ts"
import { median } from "./Statistics.ts"

/** What a process holds: of one that is not of Node the resident memory alone. */
export type Holding = Pick<Gauge, "rss"> & Partial<Gauge>

/** What each process held at one time. */
export type Look = Readonly<Record<string, Holding>>

/** One figure of one process over time. */
export interface Line {
  readonly process: string
  readonly what: string
  readonly unit: "MB" | "count"
  /** Growth that is none: caches and tables fill to their bounds, counts sway by what is just under way. */
  readonly slack: number
  readonly values: ReadonlyArray<number>
}

const isTimer = (kind: string) => kind === "Timeout" || kind === "Immediate"

const counts = ({ resources }: Holding, wanted: (kind: string) => boolean) =>
  resources === undefined
    ? undefined
    : Object.entries(resources).reduce((sum, [kind, count]) => (wanted(kind) ? sum + count : sum), 0)

type Figure = readonly [Line["unit"], slack: number, (holding: Holding) => number | undefined]

const figures: Readonly<Record<string, Figure>> = {
  "heap after collection": ["MB", 2, ({ heapUsed }) => heapUsed && heapUsed / 1e6],
  buffers: ["MB", 2, ({ arrayBuffers }) => arrayBuffers && arrayBuffers / 1e6],
  // V8's young generation grows to a bound that V8 keeps, in steps, now early and now late.
  "resident memory": ["MB", 64, ({ rss }) => rss / 1e6],
  handles: ["count", 8, (holding) => counts(holding, (kind) => !isTimer(kind))],
  timers: ["count", 8, (holding) => counts(holding, isTimer)]
}

/** All figures of all processes. */
export const linesOf = (looks: ReadonlyArray<Look>): ReadonlyArray<Line> =>
  Object.keys(looks[0] ?? {}).flatMap((process) =>
    Object.entries(figures).flatMap(([what, [unit, slack, of]]): ReadonlyArray<Line> => {
      const holdings = looks.map((look) => look[process]).filter((holding) => holding !== undefined)
      const values = holdings.map(of).filter((value) => value !== undefined)
      return values.length === 0 ? [] : [{ process, what, unit, slack, values }]
    })
  )

const slackShare = 0.05

/**
 * `grows` where the last third stands clearly above the third before it, which in turn is not below the first: what fills to a bound and stays
 * there does not.
 */
export const verdictOf = ({ slack, values }: Line): "grows" | "stays" | "too short" => {
  const third = Math.floor(values.length / 3)
  if (third === 0) return "too short"
  const first = median(values.slice(0, third))
  const middle = median(values.slice(third, values.length - third))
  const last = median(values.slice(-third))
  const most = middle + Math.max(slack, middle * slackShare)
  return last > most && middle >= first ? "grows" : "stays"
}
