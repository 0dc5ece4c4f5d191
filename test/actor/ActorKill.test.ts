/** A process is killed in the middle of its work, and the file says no less than what had left the process. */
import { spawn } from "node:child_process"
import { once } from "node:events"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as ActorDatabase from "../../src/actor/ActorDatabase.ts"
import { ActorStore } from "../../src/actor/ActorStore.ts"
import * as ActorStoreSqlite from "../../src/actor/ActorStoreSqlite.ts"

const script = fileURLToPath(new URL("ControlProcess.ts", import.meta.url))
const folder = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-kill-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true }))
)

/** Runs the process until it has said so many lines, and kills it at once. Returns all it said. */
const runAndKill = (file: string, linesMin: number) =>
  Effect.acquireUseRelease(
    Effect.sync(() =>
      spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script, file], {
        stdio: ["ignore", "pipe", "inherit"]
      })
    ),
    (child) =>
      Effect.promise(async () => {
        let said = ""
        child.stdout.setEncoding("utf8")
        child.stdout.on("data", (text: string) => {
          said += text
          if (said.split("\n").length > linesMin) child.kill("SIGKILL")
        })
        await once(child, "close")
        // The last line may be cut.
        return said.split("\n").slice(0, -1)
      }),
    (child) => Effect.sync(() => child.kill("SIGKILL"))
  )

it.live(
  "whatever left a process that was killed is in its file: actors that were created, generations that were ordered, and who the runner is",
  () =>
    Effect.gen(function* () {
      const file = join(yield* folder, "actors.sqlite")
      const sessions = new Set<string>()
      const generations = new Map<string, number>()
      const created = new Set<string>()
      for (const linesMin of [40, 150, 100]) {
        for (const line of yield* runAndKill(file, linesMin)) {
          const [what, id, generation] = line.split(" ") as [string, string, string]
          if (what === "session") sessions.add(id)
          if (what === "created") created.add(id)
          if (what === "start") {
            assert.isAbove(
              Number(generation),
              generations.get(id) ?? -1,
              "a generation is ordered once, by whichever process"
            )
            generations.set(id, Number(generation))
          }
        }
        const { actors } = yield* ActorStore.use((store) => store.load).pipe(
          Effect.provide(ActorStoreSqlite.layer.pipe(Layer.provide(ActorDatabase.layer({ file }))))
        )
        const stored = new Map(actors.map(({ actorId, life }) => [actorId, life.generation]))
        for (const id of created) assert.isTrue(stored.has(id), `${id} was created`)
        for (const [id, generation] of generations) assert.isAtLeast(stored.get(id) ?? -1, generation)
      }
      assert.strictEqual(sessions.size, 1, "the runner is who it was")
      assert.isAbove(generations.size, 20)
    }),
  60_000
)
