/** How many figures become few: medians, ratios by round, tables, and a page that keeps its other text. */
import { assert, describe, it } from "@effect/vitest"
import type { Measured } from "./Measurement.ts"
import * as Report from "./Report.ts"
import { resultOf } from "./Result.ts"
import type { Row } from "./Row.ts"
import { median, medianRatio, percentile } from "./Statistics.ts"

const row: Row = {
  name: "small GET",
  unit: "req/s",
  kind: "rate",
  operation: "request",
  measure: () => Promise.reject(new Error("not measured here"))
}

const measured = (value: number, tunnel: number, app: number): Measured => ({
  value,
  cost: { tunnel, app, load: 1 },
  more: { "p99 ms": value / 1000 }
})

const cells = [
  { way: "direct", rounds: [measured(1000, 0, 10), measured(2000, 0, 12), measured(4000, 0, 11)] },
  { way: "slow", rounds: [measured(500, 100, 20), measured(500, 90, 20), measured(1000, 80, 20)] },
  { way: "broken", rounds: [measured(1, 1, 1), undefined, undefined], failure: "3 of 9 answers were wrong" }
]

const report: Report.Report = {
  date: "2026-01-02",
  rounds: 3,
  cores: "2 × some processor",
  system: "Linux 6",
  versions: { node: "24.0.0" },
  missing: { nginx: "not installed (apt-get install nginx-light)" },
  rows: [resultOf(row, cells)]
}

describe("statistics", () => {
  it("the median is the middle, or lies between the middle two", () => {
    assert.strictEqual(median([30, 1, 2]), 2)
    assert.strictEqual(median([4, 1, 2, 30]), 3)
    assert.isNaN(median([]))
  })
  it("a percentile is a figure that was seen", () => {
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i)
    assert.deepStrictEqual(
      [50, 99, 100].map((percent) => percentile(hundred, percent)),
      [50, 99, 100]
    )
    assert.strictEqual(percentile([7], 99), 7)
  })
  it("a ratio is taken within each round, so that a slow round does not count against one of the two", () => {
    assert.strictEqual(medianRatio([10, 1, 100], [20, 2, 200]), 0.5)
  })
  it("rounds that lack one of the two do not count, and none at all make no ratio", () => {
    assert.strictEqual(medianRatio([undefined, 1], [5, 4]), 0.25)
    assert.isUndefined(medianRatio([undefined], [5]))
  })
})

describe("a row", () => {
  const [direct, slow, broken] = resultOf(row, cells).cells
  it("has the median of each figure, and the ratio to the direct run of the same round", () => {
    assert.strictEqual(slow?.value, 500)
    assert.strictEqual(slow?.ratio, 0.25)
    assert.deepStrictEqual(slow?.cost, { tunnel: 90, app: 20, load: 1 })
    assert.deepStrictEqual(slow?.more, { "p99 ms": 0.5 })
  })
  it("is no ratio to itself", () => assert.isUndefined(direct?.ratio))
  it("keeps what failed", () => assert.strictEqual(broken?.failure, "3 of 9 answers were wrong"))
})

describe("the report", () => {
  it("shows direct as it is, the others as ratios, what failed and what is not installed by these words", () => {
    const lines = Report.figures(report).split("\n")
    assert.deepStrictEqual(
      lines[0]?.split("|").map((cell) => cell.trim()),
      ["", "", "direct", "slow", "broken", "nginx", ""]
    )
    assert.deepStrictEqual(
      lines[2]?.split("|").map((cell) => cell.trim()),
      ["", "small GET", "2,000 req/s", "0.25", "fails", "not installed", ""]
    )
  })
  it("shows the processor time of tunnel and app, and their sum", () =>
    assert.include(Report.costs(report), "90.0 + 20.0 = 110"))
  it("says in full what failed, and names date and versions", () => {
    const text = Report.markdown(report)
    assert.include(text, "**Failed:** small GET, broken: 3 of 9 answers were wrong")
    assert.include(text, "2026-01-02")
    assert.include(text, "node 24.0.0")
    assert.include(text, "nginx: not installed (apt-get install nginx-light).")
  })
  it("takes the place of earlier results in the page, and of nothing else", () => {
    const page = "# Page\n\n<!-- results -->\nold $& results\n<!-- /results -->\n\nthe rest\n"
    const written = Report.withResults(page, "new $& results\n")
    assert.strictEqual(written, "# Page\n\n<!-- results -->\n\nnew $& results\n\n<!-- /results -->\n\nthe rest\n")
    assert.strictEqual(Report.withResults(written, "new $& results\n"), written)
  })
  it("does not write into a page that has no place for it", () =>
    assert.throws(() => Report.withResults("# Page\n", "results"), /no place for results/))
  it("gives three digits that mean something", () =>
    assert.deepStrictEqual([0.123, 12.34, 123.4, 12345].map(Report.figure), ["0.12", "12.3", "123", "12,345"]))
})
