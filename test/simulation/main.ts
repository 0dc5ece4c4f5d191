/**
 * `npm run simulate -- --seeds N [--from N]`: runs that many seeds, one after the other, and says what they found. A seed that fails is printed
 * with the command that repeats it; `--trace` with one seed prints what happened in it, `--keep` adds what failed to `seeds.txt`, `--first` stops there.
 * `--requests N`: so many requests to one cluster instead, and whether any of its tables grows with them.
 */
import { appendFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { simulate } from "./Simulation.ts"
import { growthOf, type Sample, soak } from "./Soak.ts"

const { values: args } = parseArgs({
  options: {
    seeds: { type: "string", default: "2000" },
    from: { type: "string", default: "1" },
    requests: { type: "string" },
    trace: { type: "boolean", default: false },
    first: { type: "boolean", default: false },
    keep: { type: "boolean", default: false }
  }
})
const keptPath = fileURLToPath(new URL("seeds.txt", import.meta.url))
const say = (line: string) => process.stdout.write(`${line}\n`)
const begun = performance.now()
const secondsSoFar = () => ((performance.now() - begun) / 1000).toFixed(0)
const from = Number(args.from)

const runSeeds = (seeds: number): number => {
  let done = 0
  let steps = 0
  let violations = 0
  let requests = 0
  let complete = 0
  for (let seed = from; seed < from + seeds; seed++) {
    const outcome = simulate(seed)
    done++
    steps += outcome.steps
    requests += outcome.requests
    complete += outcome.complete
    violations += outcome.violations.length
    if (args.trace) for (const note of outcome.notes) say(note)
    for (const violation of outcome.violations) say(`seed ${seed} ${violation}`)
    if (outcome.violations.length > 0) {
      say(`repeat: npm run simulate -- --seeds 1 --from ${seed} --trace`)
      if (args.keep) appendFileSync(keptPath, `${seed} ${outcome.violations[0]}\n`)
      if (args.first) break
    }
    if (seeds === 1) say(`trace ${outcome.hash.toString(16).padStart(8, "0")}`)
    if (done % 500 === 0) {
      say(
        `${done} of ${seeds} seeds, ${requests} requests, ${complete} complete, ${violations} violations, ${secondsSoFar()} s`
      )
    }
  }
  say(`seeds ${done}, steps ${steps}, violations ${violations}`)
  return violations
}

const runRequests = (requests: number): number => {
  const samples: Array<Sample> = []
  const outcome = soak(from, requests, (sample) => {
    samples.push(sample)
    if (samples.length % 5 !== 0) return
    const sizes = Object.entries(sample.sizes).map(([name, size]) => `${name} ${size}`)
    say(`${sample.requests} requests, ${sample.simulatedHours.toFixed(1)} h, ${secondsSoFar()} s: ${sizes.join(", ")}`)
  })
  for (const violation of outcome.violations) say(violation)
  const growth = growthOf(samples)
  say(`${"".padEnd(18)}${["second quarter", "last quarter", "most"].map((head) => head.padStart(16)).join("")}`)
  for (const { early, flat, late, most, name } of growth) {
    const figures = [early, late, most].map((figure) => figure.toFixed(1).padStart(16)).join("")
    say(`${name.padEnd(18)}${figures}  ${flat ? "flat" : "GROWS"}`)
  }
  const violations = outcome.violations.length + growth.filter(({ flat }) => !flat).length
  const { complete, steps } = outcome
  say(`requests ${requests}, complete ${complete}, steps ${steps}, violations ${violations}, ${secondsSoFar()} s`)
  return violations
}

const violations = args.requests === undefined ? runSeeds(Number(args.seeds)) : runRequests(Number(args.requests))
process.exitCode = violations === 0 ? 0 : 1
