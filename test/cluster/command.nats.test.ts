/** `npm run cluster` does what it prints, and leaves nothing behind. */
import { execFileSync } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect } from "effect"
import { natsStartTimeoutMs, requireNatsServer } from "../bus/NatsServer.ts"
import * as Command from "../cli/CommandProcess.ts"
import * as Processes from "../journey/Processes.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const main = fileURLToPath(new URL("main.ts", import.meta.url))

const printed = (text: string, pattern: RegExp): ReadonlyArray<string> =>
  [...text.matchAll(pattern)].map((match) => match[1] as string)

it.live(
  "starts a cluster whose printed lines work, says when a part of it has gone, and ends all of it",
  () =>
    Effect.gen(function* () {
      const cluster = yield* Command.launch(process.execPath, [main], {})
      yield* cluster.said(/Ctrl-C ends all of it/)
      const text = cluster.output()
      const pids = [...new Set(printed(text, /process (\d+)/g))].map(Number)
      // A NATS server, three processes, two runners.
      assert.strictEqual(pids.length, 6)
      assert.isTrue(pids.every(Command.alive))
      const curls = printed(text, /^ {2}(curl -H .*)$/gm)
      assert.strictEqual(curls.length, 3)
      for (const curl of curls) {
        const port = Number(/127\.0\.0\.1:(\d+)/.exec(curl)?.[1])
        const host = /Host: ([^']+)'/.exec(curl)?.[1] as string
        const answer = yield* Processes.fetch(port, { host })
        assert.match(answer.text, /^hello from app [12]$/m)
      }
      const kill = /^ {2}(kill -9 (\d+)) .*runner 1/m.exec(text)
      execFileSync("sh", ["-c", kill?.[1] as string])
      yield* cluster.said(new RegExp(`process ${kill?.[2]}, runner 1, has ended`))
      const port = Number(/127\.0\.0\.1:(\d+)/.exec(curls[2] as string)?.[1])
      yield* Processes.within(
        10_000,
        Effect.flatMap(Processes.fetch(port), (answer) =>
          answer.text === "hello from app 2\n" ? Effect.void : Effect.fail(new Error(answer.text))
        )
      )
      yield* cluster.signal("SIGINT")
      assert.strictEqual((yield* cluster.ended).code, 0)
      assert.deepStrictEqual(pids.filter(Command.alive), [])
    }).pipe(Effect.scoped),
  60_000
)
