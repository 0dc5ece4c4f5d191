/** A hub that goes away under load and comes back, with the published client: it recovers alone, and what a hibernating WebSocket said is there once. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import * as Processes from "../journey/Processes.ts"
import { ask, createActor, eventually, happenings, kv, openSocket, refusals, startApp } from "./RivetProcesses.ts"

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-rivet-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const base64 = (text: string) => Buffer.from(text).toString("base64")

/** Requests without end, eight at a time, until told to stop; counts the statuses. */
const load = Effect.fnUntraced(function* (port: number, id: string) {
  const statuses = new Map<string, number>()
  const count = (status: string) => statuses.set(status, (statuses.get(status) ?? 0) + 1)
  const one = Effect.matchEffect(ask(port, `/gateway/${id}/info`), {
    onSuccess: ({ status }) => Effect.sync(() => count(String(status))),
    onFailure: () =>
      Effect.andThen(
        Effect.sync(() => count("broken")),
        Effect.sleep(50)
      )
  })
  const fiber = yield* Effect.forkChild(
    Effect.forEach(Array.from({ length: 8 }), () => Effect.forever(one), { concurrency: 8 })
  )
  return { statuses, stop: Fiber.interrupt(fiber) }
})

// Side by side: most of it is waiting.
describe.concurrent.each(["SIGTERM", "SIGKILL"] as const)(
  "a hub ended by %s under load and started again",
  (signal) => {
    it.live(
      "has its client back, whose actor lives on with all that its store acknowledged",
      () =>
        Effect.gen(function* () {
          const directory = yield* temporary
          const args = ["--actors-file", join(directory, "actors.sqlite")]
          const hub = yield* Processes.serve(0, undefined, args)
          const app = yield* startApp(hub.port, "room")
          const id = yield* createActor(hub.port, "room")
          const first = JSON.parse((yield* ask(hub.port, `/gateway/${id}/info`)).text)
          yield* kv(hub.port, id, { op: "put", entries: [[base64("k"), base64("v")]] })
          const traffic = yield* load(hub.port, id)
          yield* Effect.sleep(500)
          yield* hub.signal(signal)
          yield* hub.ended
          const again = yield* Processes.serve(hub.port, undefined, args)
          yield* eventually(ask(again.port, `/gateway/${id}/info`), ({ status }) => status === 200, 20_000)
          const [answered] = [traffic.statuses.get("200") ?? 0]
          yield* Effect.sleep(500)
          yield* traffic.stop
          assert.isAbove(traffic.statuses.get("200") ?? 0, answered)
          const later = JSON.parse((yield* ask(again.port, `/gateway/${id}/info`)).text)
          // The same process, the same actor, not started again.
          assert.deepStrictEqual(later, first)
          const got = yield* kv(again.port, id, { op: "get", keys: [base64("k")] })
          assert.deepStrictEqual(got.value, [base64("v")])
          assert.deepStrictEqual(yield* refusals(again.adminPort), { unknown: 0, foreign: 0 })
          assert.deepStrictEqual(
            happenings(app).filter(({ event }) => event === "unhandled rejection"),
            []
          )
        }).pipe(Effect.scoped),
      60_000
    )
  }
)

it.live(
  "numbered messages of a WebSocket whose actor sleeps and wakes are neither lost nor doubled",
  () =>
    Effect.gen(function* () {
      const hub = yield* Processes.serve()
      const app = yield* startApp(hub.port, "room")
      const id = yield* createActor(hub.port, "room")
      const socket = yield* openSocket(hub.port, id, "/hibernate")
      const wanted: Array<string> = []
      let next = 0
      const sendSome = (count: number) =>
        Effect.sync(() => {
          for (let i = 0; i < count; i++) {
            const text = String(next++)
            wanted.push(text)
            socket.ws.send(text)
          }
        })
      for (let round = 0; round < 4; round++) {
        yield* sendSome(20)
        yield* ask(hub.port, `/gateway/${id}/sleep`)
        // Some while it falls asleep, some while it sleeps, some while it wakes.
        yield* sendSome(20)
        yield* app.said(new RegExp(`"event":"stopped","actorId":"${id}","generation":${round}`))
        yield* sendSome(20)
      }
      yield* socket.count(wanted.length, 30_000)
      const seen = JSON.parse((yield* ask(hub.port, `/gateway/${id}/seen`)).text) as ReadonlyArray<string>
      assert.deepStrictEqual(seen, wanted)
      assert.isUndefined(socket.closed())
      assert.deepStrictEqual(yield* refusals(hub.adminPort), { unknown: 0, foreign: 0 })
    }).pipe(Effect.scoped),
  60_000
)
