/** A hub that goes away and comes back while the visitors of another process keep their hibernating WebSockets, with the published client. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { natsStartTimeoutMs, requireNatsServer, startNatsServer } from "../bus/NatsServer.ts"
import * as Processes from "../journey/Processes.ts"
import { ask, createActor, eventually, happenings, openSocket, refusals, startApp } from "./RivetProcesses.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-rivet-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

// Side by side: most of it is waiting.
describe.concurrent.each(["SIGTERM", "SIGKILL"] as const)("a hub that is ended by %s and started again", (signal) => {
  it.live(
    "numbered messages of a hibernating WebSocket are neither lost nor doubled",
    () =>
      Effect.gen(function* () {
        const { url } = yield* startNatsServer()
        const args = ["--actors-file", join(yield* temporary, "actors.sqlite")]
        const gateway = yield* Processes.serve(0, url)
        const hub = yield* Processes.serve(0, url, args)
        const app = yield* startApp(hub.port, "room")
        const id = yield* createActor(hub.port, "room")
        const socket = yield* openSocket(gateway.port, id, "/hibernate")
        const wanted: Array<string> = []
        const sendSome = (count: number) =>
          Effect.sync(() => {
            for (let i = 0; i < count; i++) {
              const text = String(wanted.length)
              wanted.push(text)
              socket.ws.send(text)
            }
          })
        yield* sendSome(20)
        yield* socket.count(5)
        // Some before it ends, some while it does, some while it is away, some while it comes back, some once it is there.
        yield* sendSome(20)
        yield* hub.signal(signal)
        yield* sendSome(20)
        yield* hub.ended
        yield* sendSome(20)
        const again = yield* Processes.serve(hub.port, url, args)
        yield* sendSome(20)
        // Rivet's protocol numbers what visitors say, and nothing that actors do: where a hub is killed, what it had not passed on is lost.
        // One that ends in order hears its runners out.
        const seen = Effect.map(ask(gateway.port, `/gateway/${id}/seen`), ({ text }) => text)
        yield* eventually(seen, (text) => text === JSON.stringify(wanted), 30_000)
        if (signal === "SIGTERM") {
          yield* socket.count(wanted.length)
          assert.deepStrictEqual(
            socket.received,
            wanted.map((text) => `kept:${text}`)
          )
        }
        assert.strictEqual(new Set(socket.received).size, socket.received.length)
        assert.isUndefined(socket.closed())
        // What the actor says before its WebSocket is woken at the new hub is held there until it is.
        assert.deepStrictEqual(yield* refusals(again.adminPort), { unknown: 0, foreign: 0 })
        assert.deepStrictEqual(
          happenings(app).filter(({ event }) => event === "unhandled rejection"),
          []
        )
      }).pipe(Effect.scoped),
    90_000
  )
})
