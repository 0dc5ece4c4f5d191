/**
 * Faults of a cluster under load, in turn, and what its visitors see of them. `npm run test:faults` goes through the list three times with longer
 * outages; without it the list is gone through once.
 */
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect } from "effect"
import { natsStartTimeoutMs, requireNatsServer } from "../bus/NatsServer.ts"
import { headings, type Pace, recoveryMsMax, rowsOf, runFaults } from "./Faults.ts"
import { tableOf } from "./Table.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const short: Pace = { everyMs: 25, settledMs: 1_000, awayMs: 1_500, partitionMs: 11_000, stoppedMs: 10_000, rounds: 1 }
const long: Pace = { everyMs: 20, settledMs: 3_000, awayMs: 4_000, partitionMs: 20_000, stoppedMs: 10_000, rounds: 3 }
const pace = process.env.WAYLEAVE_FAULTS === "long" ? long : short

it.live(
  "every request ends in time, nobody gets another's bytes, no loss goes unnoticed, and all works again within 2 s",
  () =>
    Effect.gen(function* () {
      const { before, outcomes, restMs, violations } = yield* runFaults(pace)
      process.stdout.write(`\n${tableOf(headings, rowsOf(outcomes))}\n`)
      process.stdout.write(`\nall tables empty ${(restMs / 1000).toFixed(1)} s after the last visit\n`)
      assert.deepStrictEqual(violations, [])
      assert.isTrue(before.every(({ result }) => result === "ok"))
      const late = outcomes.flatMap(({ fault, overMs, visits }) =>
        visits
          .filter(({ result, startedMs }) => result !== "ok" && startedMs - overMs > recoveryMsMax)
          .map(
            ({ kind, place, result, startedMs }) => `${fault}: ${kind} at ${place}, ${startedMs - overMs} ms: ${result}`
          )
      )
      assert.deepStrictEqual(late, [])
    }).pipe(Effect.scoped),
  900_000
)
