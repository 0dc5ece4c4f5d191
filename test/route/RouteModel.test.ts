/**
 * The store beside the model of the rule: random commands, time among them, and after each the same outcome and the same counts. Bounds are
 * so narrow that every sequence runs into them. A failure names its seed and the fewest of its commands that still fail.
 */
import { assert, it } from "@effect/vitest"
import { type Clock, Effect } from "effect"
import { fromTable, type RouteStore, type RouteTableOptions } from "../../src/route/RouteStore.ts"
import { RouteTable } from "../../src/route/RouteTable.ts"
import { type RouteKey, SessionId } from "../../src/tunnel/Envelope.ts"
import { isTerminal, type ResponseFrame } from "../../src/tunnel/Frame.ts"
import { makeRandom, type SeededRandom } from "../fuzz/Mutation.ts"
import { RouteModel } from "../simulation/RouteModel.ts"

const bounds = { routesMax: 5, tombstonesMax: 64, tombstoneMs: 300, halfClosedMs: 200, leaseMs: 1_000 }
// Which of those that were closed by one call is forgotten first is nobody's concern, so here no call closes several.
const fewTombstones = { ...bounds, tombstonesMax: 4, halfClosedMs: 1e9, leaseMs: 1e9 }
const sessions = ["a", "b", "c"].map((letter) => SessionId.make(letter.repeat(32)))
const body = new Uint8Array(1)
const frames: ReadonlyArray<ResponseFrame> = [
  { _tag: "ResponseStart", status: 200, headers: [], body, streamed: true },
  { _tag: "ResponseStart", status: 200, headers: [], body, streamed: false },
  { _tag: "ResponseChunk", body, finish: false },
  { _tag: "ResponseAbort", code: "app_failed", message: "" },
  { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false }
]

type Command =
  | { readonly _tag: "adopt"; readonly session: SessionId; readonly generation: number }
  | { readonly _tag: "issue"; readonly key: RouteKey; readonly session: SessionId }
  | {
      readonly _tag: "authorize"
      readonly session: SessionId
      readonly generation: number
      readonly batch: ReadonlyArray<{ readonly route: RouteKey; readonly frame: ResponseFrame }>
    }
  | { readonly _tag: "clear" | "reopen" | "halfClose" | "close"; readonly key: RouteKey }
  | { readonly _tag: "revoke"; readonly session: SessionId }
  | { readonly _tag: "renew"; readonly gatewayId: number }
  | { readonly _tag: "expire" }
  | { readonly _tag: "wait"; readonly ms: number }

const pick = <A>(random: SeededRandom, from: ReadonlyArray<A>): A => from[random.below(from.length)] as A
const anyKey = (random: SeededRandom): RouteKey => ({ gatewayId: random.below(2), requestId: random.below(5) })

const command = (random: SeededRandom): Command => {
  const session = pick(random, sessions)
  switch (random.below(16)) {
    case 0:
      return { _tag: "adopt", session, generation: 1 + random.below(3) }
    case 1:
      return { _tag: "revoke", session }
    case 2:
      return { _tag: "renew", gatewayId: random.below(2) }
    case 3:
    case 4:
      return { _tag: "expire" }
    case 5:
      return { _tag: "wait", ms: pick(random, [1, 50, 199, 200, 299, 300, 1_000]) }
    case 6:
    case 7:
      return { _tag: pick(random, ["clear", "reopen"]), key: anyKey(random) }
    case 8:
      return { _tag: pick(random, ["halfClose", "close"]), key: anyKey(random) }
    case 9:
    case 10:
    case 11:
    case 12: {
      const answer = () => ({ route: anyKey(random), frame: pick(random, frames) })
      return {
        _tag: "authorize",
        session,
        generation: 1 + random.below(3),
        batch: Array.from({ length: 1 + random.below(3) }, answer)
      }
    }
    default:
      return { _tag: "issue", key: anyKey(random), session }
  }
}

/** A clock that stands where it is put. */
const standing = (now: () => number): Clock.Clock => ({
  currentTimeMillisUnsafe: now,
  currentTimeMillis: Effect.sync(now),
  currentTimeNanosUnsafe: () => BigInt(now()) * 1_000_000n,
  currentTimeNanos: Effect.sync(() => BigInt(now()) * 1_000_000n),
  monotonicTimeNanosUnsafe: () => BigInt(now()) * 1_000_000n,
  monotonicTimeNanos: Effect.sync(() => BigInt(now()) * 1_000_000n),
  sleep: () => Effect.never
})

const byKey = (one: RouteKey, other: RouteKey) => one.gatewayId - other.gatewayId || one.requestId - other.requestId

const onStore = (store: RouteStore["Service"], step: Command): unknown => {
  const run = <A, E>(effect: Effect.Effect<A, E>): A | E => Effect.runSync(Effect.catch(effect, Effect.succeed))
  switch (step._tag) {
    case "adopt":
      return run(store.adopt(step))
    case "issue": {
      const error = run(store.issue(step.key, step.session))
      return error === undefined ? "Issued" : error._tag === "RouteTableFull" ? "Full" : "Taken"
    }
    case "authorize": {
      const { admitted, ending, refused } = run(store.authorize(step, step.batch))
      return { admitted, ending, refused }
    }
    case "clear":
    case "reopen":
      return run(store[step._tag]([step.key]))
    case "halfClose":
    case "close":
      return run(store[step._tag](step.key))
    case "revoke":
      return [...run(store.revoke(step.session))].sort(byKey)
    case "renew":
      return run(store.renew(step.gatewayId))
    case "expire":
      return [...run(store.expire)].sort((one, other) => byKey(one.route, other.route))
    case "wait":
      return undefined
  }
}

const onModel = (model: RouteModel, step: Command, now: number): unknown => {
  switch (step._tag) {
    case "adopt":
      return model.adopt(step)
    case "issue":
      return model.issue(step.key, step.session, now)
    case "authorize": {
      const judged = step.batch.map((answer) => ({
        answer,
        verdict: model.authorize(step, answer.route, isTerminal(answer.frame), now)
      }))
      const passed = judged.filter(({ verdict }) => verdict === "Admitted" || verdict === "Ending")
      return {
        admitted: passed.map(({ answer }) => answer),
        ending: judged.filter(({ verdict }) => verdict === "Ending").map(({ answer }) => answer.route),
        refused: judged
          .filter((one) => !passed.includes(one))
          .map(({ answer, verdict }) => ({ answer, reason: verdict }))
      }
    }
    case "clear":
    case "reopen":
    case "halfClose":
    case "close":
      return model[step._tag](step.key, now)
    case "revoke":
      return [...model.revoke(step.session, now)].sort(byKey)
    case "renew":
      return model.renew(step.gatewayId, now)
    case "expire":
      return [...model.expire(now)].sort((one, other) => byKey(one.route, other.route))
    case "wait":
      return undefined
  }
}

/** Where the two part; undefined where they never do. */
const parting = (commands: ReadonlyArray<Command>, bounds: RouteTableOptions): string | undefined => {
  let now = 10_000
  const store = fromTable(
    new RouteTable(bounds),
    bounds.routesMax,
    standing(() => now)
  )
  const model = new RouteModel(bounds)
  for (const [i, step] of commands.entries()) {
    if (step._tag === "wait") now += step.ms
    const got = [onStore(store, step), Effect.runSync(store.counts)]
    const wanted = [onModel(model, step, now), model.counts]
    const show = JSON.stringify
    if (show(got) !== show(wanted)) return `command ${i} ${show(step)}: ${show(got)}, the model says ${show(wanted)}`
  }
  return undefined
}

/** The fewest commands that still part, leaving out one after the other. */
const shrink = (commands: ReadonlyArray<Command>, bounds: RouteTableOptions): ReadonlyArray<Command> => {
  for (let i = 0; i < commands.length; i++) {
    const fewer = commands.filter((_, at) => at !== i)
    if (parting(fewer, bounds) !== undefined) return shrink(fewer, bounds)
  }
  return commands
}

const sequences = 4_000
const commandsEach = 80

const compare = (bounds: RouteTableOptions, mayCome: (step: Command) => boolean) => {
  for (let seed = 1; seed <= sequences; seed++) {
    const random = makeRandom(seed)
    const commands = Array.from({ length: commandsEach }, () => command(random)).filter(mayCome)
    if (parting(commands, bounds) === undefined) continue
    const fewest = shrink(commands, bounds)
    assert.fail(`seed ${seed}: ${parting(fewest, bounds)}\n${fewest.map((step) => JSON.stringify(step)).join("\n")}`)
  }
}

it(`does what the model says, in ${sequences} sequences of ${commandsEach} commands`, () => compare(bounds, () => true))
it("forgets the oldest tombstone first, where there is no room for all", () =>
  compare(fewTombstones, ({ _tag }) => _tag !== "revoke"))
