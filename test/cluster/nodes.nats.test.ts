/** NATS as a cluster of three: the loss of one of its servers, under load. JetStream is not needed. */
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect } from "effect"
import { type NatsServer, natsStartTimeoutMs, requireNatsServer, startNatsCluster } from "../bus/NatsServer.ts"
import * as Processes from "../journey/Processes.ts"
import { atRest, expose, ready } from "./Cluster.ts"
import { startNumberedApp } from "./NumberedApp.ts"
import { tally, Visitors } from "./Visitors.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const names = ["amber", "birch", "cedar"]

it.live(
  "a server of three that is killed costs no request that had not begun",
  () =>
    Effect.gen(function* () {
      const app = yield* startNumberedApp
      const nodes = yield* startNatsCluster
      // Each is told of one, and learns of the others from that.
      const serving = yield* Effect.forEach(nodes, ({ url }) => Processes.serve(0, url), { concurrency: 3 })
      const ports = serving.map(({ port }) => port)
      // One runner of each name, each at a hub of its own: whichever server goes, some name has nobody else.
      for (const [i, name] of names.entries()) yield* expose(app.port, [ports[i] as number], name)
      const visitors = new Visitors({ ports, names, everyMs: 20, deadlineMs: 15_000 })
      const stop = yield* visitors.start
      const settled = (ms: number) =>
        Processes.within(
          20_000,
          Effect.suspend(() =>
            visitors.underWaySince(ms) ? Effect.fail(new Error("visits are under way")) : Effect.void
          )
        )
      yield* Effect.sleep(2_000)

      const [first] = serving as [Processes.Serving]
      const killMs = performance.now()
      yield* (nodes[0] as NatsServer).kill
      yield* first.said(/lost the NATS server/)
      const noticedMs = performance.now()
      yield* first.said(/connected to the NATS server/)
      const backMs = performance.now()
      yield* Effect.sleep(4_000)
      yield* stop
      yield* settled(performance.now())

      const began = (fromMs: number, toMs: number) =>
        visitors.visits.filter(({ startedMs }) => startedMs >= fromMs && startedMs < toMs)
      const before = began(0, killMs)
      const unnoticed = began(killMs, noticedMs)
      const away = began(noticedMs, backMs)
      const after = began(backMs, Number.POSITIVE_INFINITY)
      const longest = Math.max(0, ...[...away, ...after].map(({ endedMs, startedMs }) => endedMs - startedMs))
      process.stdout.write(
        [
          `\nbegun before the kill: ${tally(before)}`,
          `in the ${(noticedMs - killMs).toFixed(0)} ms until it was noticed: ${tally(unnoticed)}`,
          `in the ${(backMs - noticedMs).toFixed(0)} ms until another server was reached: ${tally(away)}`,
          `after that: ${tally(after)}; the longest of both took ${longest.toFixed(0)} ms\n`
        ].join("\n")
      )
      assert.deepStrictEqual([...visitors.violations, ...app.faults], [])
      assert.deepStrictEqual(
        [...away, ...after].filter(({ result }) => result !== "ok"),
        []
      )
      assert.isAbove(after.length, 50)
      // And of those that had begun, what was over by then was whole.
      const over = before.filter(({ endedMs }) => endedMs < killMs)
      assert.isTrue(over.every(({ result }) => result === "ok"))
      for (const { adminPort } of serving) {
        yield* ready(adminPort)
        yield* Processes.within(10_000, atRest(adminPort))
      }
    }).pipe(Effect.scoped),
  120_000
)
