/**
 * `npm run simulate -- --seeds N [--from N]`: runs that many seeds, one after the other, and says what they found. A seed that fails is printed
 * with the command that repeats it; `--trace` with one seed prints what happened in it.
 */
import { appendFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { parseArgs } from "node:util"
import { simulate } from "./Simulation.ts"

const { values: args } = parseArgs({
  options: {
    seeds: { type: "string", default: "2000" },
    from: { type: "string", default: "1" },
    trace: { type: "boolean", default: false },
    keep: { type: "boolean", default: false }
  }
})
const seeds = Number(args.seeds)
const from = Number(args.from)
const keptPath = fileURLToPath(new URL("seeds.txt", import.meta.url))
const say = (line: string) => process.stdout.write(`${line}\n`)

const begun = performance.now()
let steps = 0
let violations = 0
let requests = 0
let complete = 0
for (let seed = from; seed < from + seeds; seed++) {
  const outcome = simulate(seed)
  steps += outcome.steps
  requests += outcome.requests
  complete += outcome.complete
  violations += outcome.violations.length
  if (args.trace) for (const note of outcome.notes) say(note)
  for (const violation of outcome.violations) say(`seed ${seed} ${violation}`)
  if (outcome.violations.length > 0) {
    say(`repeat: npm run simulate -- --seeds 1 --from ${seed} --trace`)
    if (args.keep) appendFileSync(keptPath, `${seed} ${outcome.violations[0]}\n`)
  }
  if (seeds === 1) say(`trace ${outcome.hash.toString(16).padStart(8, "0")}`)
  const done = seed - from + 1
  if (done % 500 === 0) {
    const seconds = (performance.now() - begun) / 1000
    say(
      `${done} of ${seeds} seeds, ${requests} requests, ${complete} complete, ${violations} violations, ${seconds.toFixed(0)} s`
    )
  }
}
say(`seeds ${seeds}, steps ${steps}, violations ${violations}`)
process.exitCode = violations === 0 ? 0 : 1
