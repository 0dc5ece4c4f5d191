import { fileURLToPath } from "node:url"
import { assert, describe, expect, it } from "@effect/vitest"
import { Schema } from "effect"
import type { CrashPolicy } from "../../src/actor/Actor.ts"
import {
  alarmDueAtMs,
  backoffMs,
  born,
  dueAtMs,
  hostOf,
  type Input,
  type Life,
  type Output,
  type State,
  type StopReason,
  table,
  transition
} from "../../src/actor/ActorLife.ts"
import { SessionId } from "../../src/tunnel/Envelope.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const here = SessionId.make("a".repeat(32))
const elsewhere = SessionId.make("b".repeat(32))
const policies: ReadonlyArray<CrashPolicy> = ["restart", "sleep", "destroy"]
const reasons: ReadonlyArray<StopReason> = ["sleep", "finish", "destroy", "away", "move", "vanished"]

const now = 1_000_000_000
const stopping = (why: StopReason, wake = false): State => ({
  _tag: "Stopping",
  runner: here,
  why,
  sinceMs: now - 100,
  untilMs: now + 100,
  wake
})
const states: ReadonlyArray<State> = [
  { _tag: "Pending", sinceMs: now - 100, avoid: null },
  { _tag: "Starting", runner: here, untilMs: now + 100 },
  { _tag: "Running", runner: here, sinceMs: now - 100 },
  ...reasons.flatMap((why) => [stopping(why), stopping(why, true)]),
  { _tag: "Sleeping", sinceMs: now - 100 },
  { _tag: "BackingOff", sinceMs: now - 100, untilMs: now + 100_000 },
  { _tag: "Destroyed", sinceMs: now - 100 }
]
const inputs: ReadonlyArray<Input> = [
  { _tag: "Allocated", runner: elsewhere },
  { _tag: "Withdrawn" },
  { _tag: "Running" },
  { _tag: "Stopped", said: "ok" },
  { _tag: "Stopped", said: "error" },
  { _tag: "Stopped", said: "nothing" },
  { _tag: "WantsSleep" },
  { _tag: "WantsStop" },
  { _tag: "SetAlarm", atMs: now + 5 },
  { _tag: "Due" },
  { _tag: "AlarmDue" },
  { _tag: "Wake" },
  { _tag: "Sleep" },
  { _tag: "Destroy" },
  { _tag: "Reschedule" },
  { _tag: "RunnerLost" },
  { _tag: "RunnerDraining" },
  { _tag: "Unanswered" }
]

const life = (state: State, changes: Partial<Life> = {}): Life => ({
  policy: "restart",
  generation: 4,
  crashes: 0,
  alarmAtMs: null,
  startedAtMs: now - 100,
  state,
  ...changes
})

const nameOf = (state: State): string => {
  switch (state._tag) {
    case "Pending":
      return state.avoid === null ? "Pending" : `Pending, not ${state.avoid === here ? "there" : "elsewhere"}`
    case "Stopping":
      return `Stopping to ${state.why}${state.wake ? ", wanted" : ""}`
    case "BackingOff":
      return `BackingOff ${state.untilMs - state.sinceMs} ms`
    case "Starting":
    case "Running":
    case "Sleeping":
    case "Destroyed":
      return state._tag
  }
}
const inputName = (input: Input): string => (input._tag === "Stopped" ? `Stopped, ${input.said}` : input._tag)

const outcome = (before: Life, input: Input): string => {
  const { life: after, outputs } = transition(before, input, now)
  if (after === before) return "-"
  const alarm = after.alarmAtMs === before.alarmAtMs ? "" : " (alarm)"
  const generation = after.generation === before.generation ? "" : ` (generation ${after.generation})`
  const said = outputs.length === 0 ? "" : ` [${outputs.join(" ")}]`
  return `${nameOf(after.state)}${generation}${alarm}${said}`
}

/** Every state × every input, for each policy where they differ. */
const truthTable = (): string => {
  const lines: Array<string> = []
  for (const state of states) {
    lines.push(`${nameOf(state)}`)
    for (const input of inputs) {
      const all = policies.map((policy) => outcome(life(state, { policy }), input))
      if (all.every((one) => one === "-")) continue
      const same = all.every((one) => one === all[0])
      lines.push(
        `  ${inputName(input)}: ${same ? all[0] : policies.map((policy, at) => `${policy} ${all[at]}`).join("; ")}`
      )
    }
  }
  return `${lines.join("\n")}\n`
}

/** Applies inputs in turn, `later` milliseconds apart. */
const run = (begin: Life, ...rest: ReadonlyArray<Input>) => {
  let current = begin
  let outputs: ReadonlyArray<Output> = []
  for (const input of rest) ({ life: current, outputs } = transition(current, input, now))
  return { life: current, outputs }
}
const allocated: Input = { _tag: "Allocated", runner: here }
const running: Input = { _tag: "Running" }
const failed: Input = { _tag: "Stopped", said: "error" }

describe("ActorLife", () => {
  it("is this table and no other", async () => {
    await expect(truthTable()).toMatchFileSnapshot(fileURLToPath(new URL("ActorLife.table.txt", import.meta.url)))
  })

  it("counts generations from 0, one for each allocation, and a wake is one", () => {
    const first = run(born("restart", now), allocated)
    assert.strictEqual(first.life.generation, 0)
    assert.deepStrictEqual(first.outputs, ["Start"])
    const asleep = run(first.life, running, { _tag: "WantsSleep" }, { _tag: "Stopped", said: "error" })
    assert.strictEqual(asleep.life.state._tag, "Sleeping")
    assert.strictEqual(run(asleep.life, { _tag: "Wake" }, allocated).life.generation, 1)
  })

  it("an actor that was asked to sleep sleeps, whatever its runner calls that", () => {
    for (const policy of policies) {
      for (const said of ["ok", "error", "nothing"] as const) {
        const { life: after } = run(life(stopping("sleep"), { policy }), { _tag: "Stopped", said })
        assert.strictEqual(after.state._tag, "Sleeping")
      }
    }
  })

  it("a wish comes true once for each generation: a second one, and the other one, order nothing", () => {
    for (const wish of ["WantsSleep", "WantsStop"] as const) {
      const once = run(born("restart", now), allocated, running, { _tag: wish })
      assert.deepStrictEqual(once.outputs, ["Stop"])
      assert.deepStrictEqual(run(once.life, { _tag: "WantsSleep" }), { life: once.life, outputs: [] })
      assert.deepStrictEqual(run(once.life, { _tag: "WantsStop" }), { life: once.life, outputs: [] })
    }
  })

  it("waits nothing after the first crash, then 2 s, twice as long each time up to 512 s", () => {
    let current = born("restart", now)
    const waits: Array<number> = []
    for (let i = 0; i < 12; i++) {
      current = run(current, allocated, running, failed).life
      waits.push(current.state._tag === "BackingOff" ? current.state.untilMs - now : 0)
      if (current.state._tag === "BackingOff") current = run(current, { _tag: "Due" }).life
    }
    assert.deepStrictEqual(
      waits,
      [0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 512, 512].map((seconds) => seconds * 1000)
    )
    assert.strictEqual(backoffMs(1000), 512_000)
  })

  it("forgets its crashes when it ran long enough, or slept as it wished", () => {
    const ran = (ms: number) =>
      run(life({ _tag: "Running", runner: here, sinceMs: now - ms }, { crashes: 5, startedAtMs: now - ms }), failed)
        .life
    assert.strictEqual(ran(limits.actorCrashesForgottenMs - 1).crashes, 6)
    assert.strictEqual(ran(limits.actorCrashesForgottenMs).crashes, 1)
    assert.strictEqual(ran(limits.actorCrashesForgottenMs).state._tag, "Pending")
    assert.strictEqual(run(life(stopping("sleep"), { crashes: 5 }), failed).life.crashes, 0)
    // An earlier generation ran long; this one has not begun.
    const starting = life({ _tag: "Starting", runner: here, untilMs: now }, { crashes: 5, startedAtMs: 0 })
    assert.strictEqual(run(starting, { _tag: "Due" }).life.crashes, 6)
  })

  it("while somebody waits a crashed actor is tried again after the shortest wait, not the longest", () => {
    const since = (ms: number) => life({ _tag: "BackingOff", sinceMs: now - ms, untilMs: now - ms + 512_000 })
    const early = run(since(500), { _tag: "Wake" })
    assert.deepInclude(early.life.state, { _tag: "BackingOff", untilMs: now - 500 + 2_000 })
    assert.deepStrictEqual(run(early.life, { _tag: "Wake" }).life, early.life)
    assert.strictEqual(run(since(2_000), { _tag: "Wake" }).life.state._tag, "Pending")
  })

  it("an alarm wakes a sleeping actor, once", () => {
    const asleep = run(
      born("restart", now),
      allocated,
      running,
      { _tag: "SetAlarm", atMs: now + 60_000 },
      { _tag: "WantsSleep" },
      failed
    )
    assert.strictEqual(alarmDueAtMs(asleep.life), now + 60_000)
    const woken = run(asleep.life, { _tag: "AlarmDue" })
    assert.strictEqual(woken.life.state._tag, "Pending")
    assert.isNull(woken.life.alarmAtMs)
  })

  it("an alarm does nothing to a running actor, not even afterwards, but one it may have missed on its way to sleep wakes it", () => {
    const slept = (alarmAtMs: number) => run(life(stopping("sleep"), { alarmAtMs }), failed).life
    const orderedAt = now - 100
    assert.isNull(alarmDueAtMs(run(life({ _tag: "Running", runner: here, sinceMs: now }, { alarmAtMs: now })).life))
    assert.isNull(alarmDueAtMs(slept(orderedAt - limits.actorAlarmGraceMs)))
    assert.strictEqual(alarmDueAtMs(slept(orderedAt - limits.actorAlarmGraceMs + 1)), orderedAt - 4_999)
    assert.strictEqual(alarmDueAtMs(slept(now + 1)), now + 1)
    assert.isNull(alarmDueAtMs(run(life(stopping("sleep"), { alarmAtMs: now }), { _tag: "SetAlarm", atMs: null }).life))
  })

  it("has a time by which its runner must have spoken, in each state that waits for one", () => {
    assert.strictEqual(dueAtMs(run(born("restart", now), allocated).life), now + limits.actorStartMs)
    assert.strictEqual(
      dueAtMs(run(born("restart", now), allocated, running, { _tag: "Destroy" }).life),
      now + limits.actorStopMs
    )
    assert.strictEqual(
      dueAtMs(run(born("restart", now), allocated, running, { _tag: "Unanswered" }).life),
      now + limits.actorVanishedMs
    )
    assert.isNull(dueAtMs(run(born("restart", now), allocated, running).life))
  })

  it.prop(
    "whatever happens in whatever order: no generation twice, one host at most, slots given back, and destroyed for ever",
    {
      policy: Schema.Literals(policies),
      moves: Schema.Array(
        Schema.Tuple([
          Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: inputs.length - 1 })),
          Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 2_000_000 }))
        ])
      )
    },
    ({ moves, policy }) => {
      let current = born(policy, now)
      let time = now
      let live: number | null = null
      let abandoned = 0
      for (const [at, later] of moves) {
        time += later
        const input = inputs[at] as Input
        const before = current
        const step = transition(before, input, time)
        current = step.life
        const count = (output: Output) => step.outputs.filter((one) => one === output).length
        if (before.state._tag === "Destroyed" && current !== before) return false
        if (current.generation < before.generation || current.generation > before.generation + 1) return false
        if (count("Start") !== current.generation - before.generation) return false
        if (count("Start") === 1) {
          if (live !== null) return false
          live = current.generation
        }
        if (count("Ended") === 1) {
          if (live !== before.generation) return false
          live = null
        } else if (count("Abandoned") > 0) return false
        abandoned += count("Abandoned")
        if ((hostOf(current) !== null) !== (live !== null)) return false
        if (count("Stop") === 1 && (current.state._tag !== "Stopping" || before.state._tag === "Stopping")) return false
        if (current.state._tag === "Stopping" && before.state._tag !== "Stopping" && count("Stop") !== 1) return false
        const due = dueAtMs(current)
        if (current !== before && due !== null && due < time && due !== dueAtMs(before)) return false
        if (current.state === before.state && step.outputs.length > 0) return false
      }
      return abandoned >= 0
    },
    { arbitrary: { runs: 2_000 } }
  )

  it("each state leads to Destroyed and to Running again, so that no actor is stuck", () => {
    for (const state of states) {
      const gone = run(life(state), { _tag: "Destroy" }, { _tag: "Stopped", said: "error" })
      assert.strictEqual(gone.life.state._tag, "Destroyed", nameOf(state))
      if (state._tag === "Destroyed" || (state._tag === "Stopping" && ["destroy", "finish"].includes(state.why)))
        continue
      const again = run(
        life(state),
        { _tag: "Reschedule" },
        { _tag: "Stopped", said: "ok" },
        allocated,
        running,
        allocated
      )
      assert.strictEqual(again.life.state._tag, "Running", nameOf(state))
    }
  })

  it("has a row for each state and a cell for each input", () => {
    for (const row of Object.values(table)) {
      assert.deepStrictEqual(new Set(Object.keys(row)), new Set(inputs.map(({ _tag }) => _tag)))
    }
  })
})
