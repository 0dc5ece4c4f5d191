/** Actors in a cluster: one process controls them, the others say so and send whoever needs them there. */

import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { natsStartTimeoutMs, requireNatsServer, startNatsServer } from "../bus/NatsServer.ts"
import * as Command from "../cli/CommandProcess.ts"
import { ask, createActor, openSocket, startApp } from "../rivet/RivetProcesses.ts"
import * as Processes from "./Processes.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-actors-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const closeOfRivetRunner = (port: number) =>
  Effect.callback<readonly [number, string]>((resume) => {
    const query = "protocol_version=4&namespace=default&runner_key=k"
    const ws = new WebSocket(`ws://127.0.0.1:${port}/runners/connect?${query}`, ["rivet"])
    ws.on("error", () => {})
    ws.on("close", (code, reason) => resume(Effect.succeed([code, String(reason)] as const)))
    return Effect.sync(() => ws.terminate())
  })

it.live(
  "a process without the file controls no actors and says so, to its log, to Rivet's runners and to the actor API",
  () =>
    Effect.gen(function* () {
      const { url } = yield* startNatsServer()
      const process = yield* Processes.serve(0, url)
      yield* process.said(/actors are controlled by the one process of this cluster that has --actors-file/)
      const [code, reason] = yield* closeOfRivetRunner(process.port)
      assert.strictEqual(code, 1011)
      assert.match(reason, /^guard\.service_unavailable#[0-9a-z]{30}$/)
      const answer = yield* Processes.fetch(process.port, { path: "/actors?namespace=default", host: "127.0.0.1" })
      assert.strictEqual(answer.status, 503)
      assert.deepInclude(JSON.parse(answer.text), { group: "guard", code: "service_unavailable" })
      assert.isDefined(answer.headers["x-rivet-ray-id"])
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "a second process with a file refuses to start, and may once the first has ended",
  () =>
    Effect.gen(function* () {
      const { url } = yield* startNatsServer()
      const path = yield* directory
      const file = (name: string) => ["--actors-file", join(path, name)]
      const first = yield* Processes.serve(0, url, file("one.sqlite"))
      const refused = yield* Command.run(["serve", "--port", "0", "--admin-port", "0", "--nats", url, ...file("two")])
      assert.strictEqual(refused.code, 1)
      assert.match(
        refused.stderr,
        /actors of namespace default are controlled by process \d+ on .+ already\. Give --actors-file to one process/
      )
      first.child.kill("SIGTERM")
      yield* first.ended
      const next = yield* Processes.serve(0, url, file("two.sqlite"))
      const answer = yield* Processes.fetch(next.port, { path: "/actors?namespace=default&name=x", host: "127.0.0.1" })
      assert.strictEqual(answer.status, 200)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "visitors of actors come in at any process, by id, by name and key, and by a WebSocket",
  () =>
    Effect.gen(function* () {
      const { url } = yield* startNatsServer()
      const path = yield* directory
      const [control, other] = yield* Effect.all(
        [Processes.serve(0, url, ["--actors-file", join(path, "actors.sqlite")]), Processes.serve(0, url)],
        { concurrency: 2 }
      )
      yield* startApp(control.port, "room")
      const id = yield* createActor(control.port, "room", { key: "a" })
      const info = yield* ask(other.port, `/gateway/${id}/info`)
      assert.strictEqual(JSON.parse(info.text).actorId, id)
      const query = "rvt-namespace=default&rvt-method"
      const found = yield* ask(other.port, `/gateway/room/info?${query}=get&rvt-key=a`)
      assert.strictEqual(JSON.parse(found.text).actorId, id)
      const made = yield* ask(other.port, `/gateway/room/info?${query}=getOrCreate&rvt-key=b&rvt-runner=room`)
      assert.notStrictEqual(JSON.parse(made.text).actorId, id)
      const none = yield* ask(other.port, `/gateway/room/info?${query}=get&rvt-key=c`)
      assert.deepInclude(JSON.parse(none.text), { group: "actor", code: "not_found" })
      const socket = yield* openSocket(other.port, id, "/ws")
      yield* socket.send("hello")
      yield* socket.count(1)
    }).pipe(Effect.scoped),
  60_000
)
