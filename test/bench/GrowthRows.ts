/** What a small request costs as something else grows: connections, runners, open requests. Flat is what it should be. */
import { Effect } from "effect"
import * as Load from "./Load.ts"
import type { Measured, Subject } from "./Measurement.ts"
import * as Processes from "./Processes.ts"
import type { Row } from "./Row.ts"
import { requests, smallGet } from "./SpeedRows.ts"

const get = requests({ connections: 32 })

const besideRunners =
  (count: number) =>
  (subject: Subject): Promise<Measured> => {
    const runners = Processes.startNode(
      "idle runners",
      "IdleRunners.ts",
      [`ws://127.0.0.1:${subject.hubPort}`, String(count)],
      /connected/
    )
    const measure = Effect.tryPromise({
      try: async () => {
        await get(subject)
        return get(subject)
      },
      catch: (error) => error as Error
    })
    return Effect.runPromise(Effect.scoped(Effect.andThen(runners, measure)))
  }

const besideHeld =
  (count: number) =>
  async (subject: Subject): Promise<Measured> => {
    const held = await Load.hold(subject.place, count)
    try {
      await get(subject)
      return await get(subject)
    } finally {
      held.close()
    }
  }

const named = (what: string, measure: Row["measure"]): Row => ({
  name: `small GET, 32 connections, ${what}`,
  unit: "req/s",
  kind: "rate",
  operation: "request",
  fresh: true,
  on: ({ name }) => name === "local port" || name === "in process",
  measure
})

const counted = (count: number) => count.toLocaleString("en-US")

/** In the order of the table. */
export const growthRows: ReadonlyArray<Row> = [
  ...[1, 256, 1_024].map(smallGet),
  ...[1, 100, 1_000].map((count) =>
    named(`${counted(count)} more runner${count === 1 ? "" : "s"}`, besideRunners(count))
  ),
  ...[1, 1_000, 4_000].map((count) =>
    named(`${counted(count)} open request${count === 1 ? "" : "s"}`, besideHeld(count))
  )
]
