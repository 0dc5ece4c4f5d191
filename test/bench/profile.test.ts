/** Where the time of a profile went, and whether what a soak saw is growth. */
import { assert, describe, it } from "@effect/vitest"
import { aggregate, type CpuProfile } from "./CpuProfile.ts"
import { type Line, linesOf, verdictOf } from "./Growth.ts"

const frame = (id: number, functionName: string, url = "", lineNumber = 0) => ({
  id,
  callFrame: { functionName, url, lineNumber }
})

/** Six samples, 100 µs apart, the first at 1,100. */
const profile: CpuProfile = {
  nodes: [
    frame(1, "(idle)"),
    frame(2, "relay", "file:///somewhere/src/hub/Relay.ts", 41),
    frame(3, "runLoop", "file:///somewhere/node_modules/effect/dist/internal/core.js", 9),
    frame(4, "connect", "file:///somewhere/node_modules/@nats-io/transport-node/lib/node.js"),
    frame(5, "onread", "node:internal/stream_base_commons"),
    frame(6, "writev")
  ],
  startTime: 1_000,
  samples: [2, 2, 1, 3, 5, 6],
  timeDeltas: [100, 100, 100, 100, 100, 100]
}

describe("a profile", () => {
  it("adds up by our file, by package, and by what Node and the machine do themselves", () => {
    const { busyMicros, functions, groups, idleMicros } = aggregate(profile)
    assert.strictEqual(idleMicros, 100)
    assert.strictEqual(busyMicros, 400)
    assert.deepStrictEqual(groups[0], { name: "src/hub/Relay.ts", micros: 200 })
    assert.deepStrictEqual(
      groups.map(({ name }) => name),
      ["src/hub/Relay.ts", "effect", "node", "native"]
    )
    assert.strictEqual(functions[0]?.name, "relay src/hub/Relay.ts:42")
  })
  it("counts only what was between two moments", () =>
    assert.deepStrictEqual(aggregate(profile, { fromMicros: 1_150, toMicros: 1_450 }).groups, [
      { name: "src/hub/Relay.ts", micros: 100 },
      { name: "effect", micros: 100 }
    ]))
  it("says what places cost with all that they called, however they were reached", () => {
    const nodes = profile.nodes.map((node) => (node.id === 2 ? { ...node, children: [3, 6] } : node))
    const within = (pattern: RegExp) => aggregate({ ...profile, nodes }, { within: pattern }).withinMicros
    assert.strictEqual(within(/src\/hub\//), 300)
    assert.strictEqual(within(/runLoop|writev/), 100)
    assert.strictEqual(within(/src\/gateway\//), 0)
  })
  it("names a scoped package whole", () =>
    assert.deepStrictEqual(
      aggregate({ ...profile, samples: [4, 1], timeDeltas: [100, 100] }).groups.map(({ name }) => name),
      ["@nats-io/transport-node"]
    ))
})

const line = (unit: Line["unit"], ...values: ReadonlyArray<number>): Line => ({
  process: "hub",
  what: "heap",
  unit,
  slack: unit === "MB" ? 2 : 8,
  values
})

describe("what was seen minute by minute", () => {
  it("grows where it goes up to the end", () => {
    assert.strictEqual(verdictOf(line("MB", 40, 44, 48, 52, 56, 60, 64, 68, 72)), "grows")
    assert.strictEqual(verdictOf(line("count", 10, 20, 30, 40, 50, 60)), "grows")
  })
  it("stays where it fills to a bound, sways or falls", () => {
    assert.strictEqual(verdictOf(line("MB", 20, 40, 60, 60, 60, 61, 60, 61, 60)), "stays")
    assert.strictEqual(verdictOf(line("count", 10, 14, 9, 12, 10, 13)), "stays")
    assert.strictEqual(verdictOf(line("MB", 90, 80, 70, 60, 60, 60)), "stays")
  })
  it("says nothing of two minutes", () => assert.strictEqual(verdictOf(line("MB", 1, 100)), "too short"))
  it("has the resident memory of every process, the rest of those of Node", () => {
    const gauge = { rss: 9e6, held: 5e6, heapUsed: 4e6, arrayBuffers: 1e6, resources: { TCPSocketWrap: 3, Timeout: 2 } }
    const lines = linesOf([{ hub: gauge, "nats-server": { rss: 7e6 } }])
    assert.deepStrictEqual(
      lines.map(({ process, values, what }) => [process, what, ...values]),
      [
        ["hub", "heap after collection", 4],
        ["hub", "buffers", 1],
        ["hub", "resident memory", 9],
        ["hub", "handles", 3],
        ["hub", "timers", 2],
        ["nats-server", "resident memory", 7]
      ]
    )
  })
})
