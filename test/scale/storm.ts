/**
 * `npm run scale:storm`: what a million runners do to the hubs that are left, on paper. Each follows the schedule of `runner/Reconnect.ts` and
 * nothing else; a hub takes so many handshakes a second and lets so many wait, the rest are refused and come again. Virtual time, seeded chance:
 * the same table each time.
 */
import { parseArgs } from "node:util"
import { waitMs } from "../../src/runner/Reconnect.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { tableOf } from "../cluster/Table.ts"
import { makeRandom } from "../fuzz/Mutation.ts"

const { values: args } = parseArgs({
  options: {
    hubs: { type: "string", default: "1000" },
    runners: { type: "string", default: "1000000" },
    /** What one hub takes in a second: `idle.ts` measures it. */
    handshakes: { type: "string", default: "500" }
  }
})
const hubs = Number(args.hubs)
const runners = Number(args.runners)
const perSecond = Number(args.handshakes)

/** From a dial to its refusal. */
const roundTripMs = 20
const spanMs = 30_000
const seconds = spanMs / 1000

interface Loss {
  readonly title: string
  /** How many hubs are lost, and for how long. */
  readonly lost: number
  readonly awayMs: number
  /** Whether dials go through something that leaves out hubs which are not there. */
  readonly balanced: boolean
}

const forGood = Number.POSITIVE_INFINITY
const losses: ReadonlyArray<Loss> = [
  { title: "one hub is lost for good", lost: 1, awayMs: forGood, balanced: false },
  { title: "half of all hubs are lost for good", lost: hubs / 2, awayMs: forGood, balanced: false },
  { title: "the same behind a balancer that leaves out what is gone", lost: hubs / 2, awayMs: forGood, balanced: true },
  { title: "all hubs are lost and back after 10 s", lost: hubs, awayMs: 10_000, balanced: false }
]

/** Plays one loss: runners dial hubs by chance, as many addresses as there are behind one name. */
const play = ({ awayMs, balanced, lost }: Loss) => {
  const random = makeRandom(1)
  const chance = () => random.next() / 2 ** 32
  const affected = Math.round((runners / hubs) * lost)
  const failures = new Uint8Array(affected)
  const freeAtMs = new Float64Array(hubs)
  const dialsAt = new Uint32Array(hubs)
  const due: Array<Array<number> | undefined> = []
  const dials = new Float64Array(seconds)
  const refused = new Float64Array(seconds)
  const connected = new Float64Array(seconds)
  const busiest = new Float64Array(seconds)
  let peakPerMs = 0
  const add = (counts: Float64Array, ms: number) => {
    const second = Math.floor(ms / 1000)
    if (second < seconds) counts[second] = (counts[second] as number) + 1
  }
  const dialAfter = (runner: number, nowMs: number) => {
    const failed = Math.min(255, (failures[runner] as number) + 1)
    failures[runner] = failed
    const ms = Math.floor(nowMs + waitMs(failed, chance()))
    if (ms < spanMs) (due[ms] ??= []).push(runner)
  }
  /** Hubs 0 to lost − 1 are away. */
  const choose = (nowMs: number) => {
    const living = balanced && nowMs < awayMs ? hubs - lost : hubs
    return hubs - 1 - random.below(living)
  }
  for (let runner = 0; runner < affected; runner++) dialAfter(runner, 0)
  for (let nowMs = 0; nowMs < spanMs; nowMs++) {
    if (nowMs % 1000 === 0) dialsAt.fill(0)
    const dialling = due[nowMs] ?? []
    due[nowMs] = undefined
    peakPerMs = Math.max(peakPerMs, dialling.length)
    for (const runner of dialling) {
      const hub = choose(nowMs)
      add(dials, nowMs)
      const there = hub >= lost || nowMs >= awayMs
      const startMs = Math.max(nowMs, freeAtMs[hub] as number)
      const waitingMs = startMs - nowMs
      const room = (waitingMs * perSecond) / 1000 < limits.handshakesMax && waitingMs < limits.helloTimeoutMs
      if (there) {
        dialsAt[hub] = (dialsAt[hub] as number) + 1
        const second = Math.floor(nowMs / 1000)
        busiest[second] = Math.max(busiest[second] as number, dialsAt[hub] as number)
      }
      if (!there || !room) {
        add(refused, nowMs)
        dialAfter(runner, nowMs + roundTripMs)
        continue
      }
      freeAtMs[hub] = startMs + 1000 / perSecond
      add(connected, freeAtMs[hub] as number)
    }
  }
  return { affected, peakPerMs, dials, refused, connected, busiest }
}

const say = (text: string) => process.stdout.write(`${text}\n`)
const shown = (value: number) => Math.round(value).toLocaleString("en-US")

say(`${shown(runners)} runners on ${shown(hubs)} hubs; a hub takes ${perSecond} handshakes a second`)
for (const loss of losses) {
  const { affected, busiest, connected, dials, peakPerMs, refused } = play(loss)
  const rows: Array<ReadonlyArray<string>> = []
  let sum = 0
  for (let second = 0; second < seconds; second++) {
    const before = sum
    sum += connected[second] as number
    const within = loss.awayMs < spanMs ? second < 2 || (second > 8 && second < 18) : second < 10
    if (!within || before === affected) continue
    rows.push([
      `${second} to ${second + 1} s`,
      ...[dials, refused, busiest, connected].map((counts) => shown(counts[second] as number)),
      `${((100 * sum) / affected).toFixed(1)} %`
    ])
  }
  say(`\n${loss.title}: ${shown(affected)} runners dial, at most ${shown(peakPerMs)} in one millisecond\n`)
  say(tableOf(["time", "dials", "in vain", "at the busiest hub", "connected", "so far"], rows))
}
