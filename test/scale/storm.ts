/**
 * `node test/scale/storm.ts`: what a million runners do to the hubs that are left, on paper. Each follows the schedule of `runner/Reconnect.ts` and
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
    /** What one hub takes in a second: measured by `idle.ts`. */
    handshakes: { type: "string", default: "500" },
    /** Hubs that a runner knows. */
    known: { type: "string", default: "3" }
  }
})
const hubs = Number(args.hubs)
const runners = Number(args.runners)
const perSecond = Number(args.handshakes)
const known = Number(args.known)

/** Between dial and refusal. */
const roundTripMs = 20
const spanMs = 30_000

interface Loss {
  readonly title: string
  /** How many hubs are lost, and for how long. */
  readonly lost: number
  readonly awayMs: number
}

const losses: ReadonlyArray<Loss> = [
  { title: "one hub is lost for good", lost: 1, awayMs: Number.POSITIVE_INFINITY },
  { title: "half of all hubs are lost for good", lost: hubs / 2, awayMs: Number.POSITIVE_INFINITY },
  { title: "all hubs are lost and back after 10 s", lost: hubs, awayMs: 10_000 }
]

interface Seconds {
  readonly dials: Float64Array
  readonly connected: Float64Array
  readonly busiestHub: Float64Array
}

/** Plays one loss. */
const play = ({ awayMs, lost }: Loss): Seconds & { readonly affected: number; readonly peakPerMs: number } => {
  const random = makeRandom(1)
  const chance = () => random.next() / 2 ** 32
  const affected = Math.round((runners / hubs) * lost)
  // Hubs 0 to lost - 1 are away. Each runner knows one of those, and others by chance.
  const lists = new Uint16Array(affected * known)
  for (let runner = 0; runner < affected; runner++) {
    lists[runner * known] = runner % lost
    for (let i = 1; i < known; i++) lists[runner * known + i] = random.below(hubs)
  }
  const turns = new Uint8Array(affected)
  const failures = new Uint8Array(affected)
  const freeAtMs = new Float64Array(hubs)
  const dialsAt = new Float64Array(hubs)
  const due: Array<Array<number> | undefined> = []
  const dialAt = (runner: number, ms: number) => {
    if (ms < spanMs) (due[Math.floor(ms)] ??= []).push(runner)
  }
  const seconds: Seconds = {
    dials: new Float64Array(spanMs / 1000),
    connected: new Float64Array(spanMs / 1000),
    busiestHub: new Float64Array(spanMs / 1000)
  }
  let peakPerMs = 0
  const again = (runner: number, nowMs: number) => {
    turns[runner] = ((turns[runner] as number) + 1) % known
    // A round through all hubs counts as one failure.
    const failed = Math.min(255, (failures[runner] as number) + 1)
    failures[runner] = failed
    dialAt(runner, nowMs + waitMs(Math.ceil(failed / known), chance()))
  }
  // The loss itself is the first failure: nobody dials at once.
  for (let runner = 0; runner < affected; runner++) dialAt(runner, waitMs(1, chance()))
  for (let nowMs = 0; nowMs < spanMs; nowMs++) {
    const second = Math.floor(nowMs / 1000)
    if (nowMs % 1000 === 0) dialsAt.fill(0)
    const dialling = due[nowMs] ?? []
    due[nowMs] = undefined
    peakPerMs = Math.max(peakPerMs, dialling.length)
    for (const runner of dialling) {
      const hub = lists[runner * known + (turns[runner] as number)] as number
      seconds.dials[second] = (seconds.dials[second] as number) + 1
      dialsAt[hub] = (dialsAt[hub] as number) + 1
      if (hub < lost && nowMs < awayMs) {
        again(runner, nowMs + roundTripMs)
        continue
      }
      const startMs = Math.max(nowMs, freeAtMs[hub] as number)
      const waiting = ((startMs - nowMs) * perSecond) / 1000
      if (waiting >= limits.handshakesMax || startMs - nowMs >= limits.helloTimeoutMs) {
        again(runner, nowMs + roundTripMs)
        continue
      }
      const doneMs = startMs + 1000 / perSecond
      freeAtMs[hub] = doneMs
      const at = Math.floor(doneMs / 1000)
      if (at < seconds.connected.length) seconds.connected[at] = (seconds.connected[at] as number) + 1
    }
    seconds.busiestHub[second] = Math.max(seconds.busiestHub[second] as number, ...[Math.max(...dialsAt)])
  }
  return { ...seconds, affected, peakPerMs }
}

const say = (text: string) => process.stdout.write(`${text}\n`)
const number = (value: number) => Math.round(value).toLocaleString("en-US")

say(
  `${number(runners)} runners on ${number(hubs)} hubs; each knows ${known}; a hub takes ${perSecond} handshakes a second`
)
for (const loss of losses) {
  const { affected, busiestHub, connected, dials, peakPerMs } = play(loss)
  const rows: Array<ReadonlyArray<string>> = []
  let sum = 0
  for (let second = 0; second < dials.length; second++) {
    sum += connected[second] as number
    const shown = second < 6 || second === 10 || second === 11 || (second < 16 && loss.awayMs < spanMs)
    if (shown && ((dials[second] as number) > 0 || (connected[second] as number) > 0)) {
      rows.push([
        `${second}–${second + 1} s`,
        number(dials[second] as number),
        number(busiestHub[second] as number),
        number(connected[second] as number),
        `${((100 * sum) / affected).toFixed(1)} %`
      ])
    }
  }
  say(`\n${loss.title}: ${number(affected)} runners dial, at most ${number(peakPerMs)} in one millisecond\n`)
  say(tableOf(["time", "dials", "busiest hub", "connected", "connected so far"], rows))
}
