import { spawn } from "node:child_process"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import { ActorKv } from "../../src/actor/ActorKv.ts"
import * as ActorKvSqlite from "../../src/actor/ActorKvSqlite.ts"
import { kvOptions } from "../../src/actor/KvRules.ts"
import { everything, list } from "../contract/ActorKvContract.ts"

const writer = fileURLToPath(new URL("KvWriter.ts", import.meta.url))

/** Lets it put until it said so often enough, kills it, and returns the last number that it said. */
const killedAfter = (file: string, said: number) =>
  Effect.callback<number>((resume) => {
    const child = spawn(process.execPath, [writer, file], { stdio: ["ignore", "pipe", "inherit"] })
    let output = ""
    child.stdout.on("data", (data) => {
      output += data
      if (output.split("\n").length > said) child.kill("SIGKILL")
    })
    child.once("close", (code, signal) => {
      assert.deepStrictEqual([code, signal], [null, "SIGKILL"])
      const numbers = [...output.matchAll(/^put (\d+)$/gm)].map(([, number]) => Number(number))
      resume(Effect.succeed(numbers.at(-1) as number))
    })
    return Effect.sync(() => void child.kill("SIGKILL"))
  })

it.live(
  "a put that was acknowledged is found after the process was killed, and one that was not is there whole or not at all",
  () =>
    Effect.gen(function* () {
      const folder = yield* Effect.acquireRelease(
        Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-killed-"))),
        (path) => Effect.sync(() => rmSync(path, { recursive: true }))
      )
      const file = join(folder, "actors.sqlite")
      const last = yield* killedAfter(file, 50)
      const store = Layer.provide(ActorKvSqlite.layer(kvOptions("1")), ActorDatabase.layer({ file }))
      const found = yield* ActorKv.use((kv) => kv.ask("a", list(everything))).pipe(Effect.provide(store))
      const keys = found._tag === "Listed" ? found.keys.map((key) => Buffer.from(key).toString()) : []
      const firsts = keys.filter((key) => key.startsWith("first "))
      assert.strictEqual(keys.length, firsts.length * 2)
      assert.isAtLeast(last, 49)
      for (let at = 0; at <= last; at++) assert.includeMembers(keys, [`first ${at}`, `second ${at}`])
      // At most one put was made whose acknowledgement was not read any more.
      assert.isAtMost(firsts.length, last + 2)
    }),
  30_000
)
