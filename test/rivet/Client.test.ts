/** The published client of npm, unmodified and in a process of its own, against a real hub: what a user of Rivet does in an ordinary week. */
import { createHash, randomBytes } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Scope } from "effect"
import { WebSocket } from "ws"
import * as Processes from "../journey/Processes.ts"
import {
  actorOf,
  ask,
  call,
  createActor,
  eventually,
  happenings,
  kv,
  openSocket,
  refusals,
  startApp,
  unacknowledged
} from "./RivetProcesses.ts"

const KiB = 1024
const MiB = 1024 * KiB

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-rivet-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** A hub that keeps its actors in a file, and a runner. */
const start = Effect.gen(function* () {
  const file = join(yield* temporary, "actors.sqlite")
  const hub = yield* Processes.serve(0, undefined, ["--actors-file", file])
  const app = yield* startApp(hub.port, "room")
  return { hub, app }
})

/** With one actor on it. */
const arrange = Effect.gen(function* () {
  const { app, hub } = yield* start
  return { hub, app, id: yield* createActor(hub.port, "room") }
})

/** The same, for those that end neither: a hub and a runner for all of them, an actor for each. */
const sharing = Scope.makeUnsafe()
let shared: Effect.Success<typeof start> | undefined
beforeAll(async () => {
  shared = await Effect.runPromise(Scope.provide(start, sharing))
}, 60_000)
afterAll(() => Effect.runPromise(Scope.close(sharing, Exit.void)))
const arrangeShared = Effect.gen(function* () {
  assert.isDefined(shared)
  return { ...shared, id: yield* createActor(shared.hub.port, "room") }
})

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")
const base64 = (text: string) => Buffer.from(text).toString("base64")

const wellBehaved = (adminPort: number) =>
  Effect.map(refusals(adminPort), (counts) => assert.deepStrictEqual(counts, { unknown: 0, foreign: 0 }))

const quietClient = (app: Parameters<typeof happenings>[0]) =>
  assert.deepStrictEqual(
    happenings(app).filter(({ event }) => event === "unhandled rejection" || event === "write failed"),
    []
  )

it.live(
  "connects, is given its actor, and answers requests whatever their size",
  () =>
    Effect.gen(function* () {
      const { app, hub, id } = yield* arrangeShared
      const info = yield* ask(hub.port, `/gateway/${id}/info`)
      assert.strictEqual(JSON.parse(info.text).actorId, id)
      assert.match(String(info.headers["x-rivet-ray-id"]), /^[0-9a-z]{30}$/)
      for (const size of [0, 1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 16 * MiB]) {
        const body = randomBytes(size)
        const echoed = yield* ask(hub.port, `/gateway/${id}/echo`, { method: "POST", body: [body] })
        assert.strictEqual(echoed.status, 200)
        assert.strictEqual(echoed.headers["x-sha256"], sha256(body), `${size} bytes up`)
        assert.strictEqual(echoed.sha256, sha256(body), `${size} bytes down`)
      }
      const thrown = yield* ask(hub.port, `/gateway/${id}/throw`)
      assert.strictEqual(thrown.status, 500)
      const seen = yield* actorOf(hub.port, id)
      assert.isNumber(seen.connectable_ts)
      // The calls of the actor API stand in the access log with the visits, and a page of another name gets nothing from it.
      yield* hub.said(/ - POST \/actors\?… 200 ok [\d.]+ms up=\d+ down=\d+ [0-9a-z]{30}\n/)
      const rebound = yield* Processes.fetch(hub.port, { path: "/actors?namespace=default", host: "evil.example" })
      assert.strictEqual(rebound.status, 403, rebound.text)
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "a thousand requests, fifty at a time, each get their own answer",
  () =>
    Effect.gen(function* () {
      const { app, hub, id } = yield* arrangeShared
      const answers = yield* Effect.forEach(
        Array.from({ length: 1_000 }, (_, n) => n),
        (n) => {
          const body = Buffer.from(`request ${n} ${"x".repeat(n)}`)
          return Effect.map(ask(hub.port, `/gateway/${id}/echo`, { method: "POST", body: [body] }), (answer) =>
            answer.sha256 === sha256(body) ? 1 : 0
          )
        },
        { concurrency: 50 }
      )
      assert.strictEqual(
        answers.reduce<number>((sum, one) => sum + one, 0),
        1_000
      )
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "every operation of its store does what it says, and an error is an error of the client's",
  () =>
    Effect.gen(function* () {
      const { app, hub, id } = yield* arrangeShared
      const put = (...keys: ReadonlyArray<string>) =>
        kv(hub.port, id, { op: "put", entries: keys.map((key) => [base64(key), base64(`value of ${key}`)]) })
      const keysOf = ({ value }: { readonly value?: unknown }) =>
        (value as ReadonlyArray<readonly [string, string]>).map(([key]) => Buffer.from(key, "base64").toString())
      yield* put("a", "b", "ba", "bb", "c")
      const got = yield* kv(hub.port, id, { op: "get", keys: [base64("b"), base64("missing"), base64("a")] })
      assert.deepStrictEqual(got.value, [base64("value of b"), null, base64("value of a")])
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, { op: "all" })), ["a", "b", "ba", "bb", "c"])
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, { op: "all", reverse: true, limit: 2 })), ["c", "bb"])
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, { op: "prefix", prefix: base64("b") })), ["b", "ba", "bb"])
      const range = { op: "range", start: base64("b"), end: base64("c") }
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, range)), ["b", "ba", "bb", "c"])
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, { ...range, exclusive: true })), ["b", "ba", "bb"])
      yield* kv(hub.port, id, { op: "delete", keys: [base64("a"), base64("missing")] })
      yield* kv(hub.port, id, { op: "deleteRange", start: base64("ba"), end: base64("c") })
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, { op: "all" })), ["b", "c"])
      const tooLong = yield* kv(hub.port, id, { op: "put", entries: [["A".repeat(2732), base64("x")]] })
      assert.match(String(tooLong.error), /key is too long \(max 2048 bytes\)/)
      yield* kv(hub.port, id, { op: "drop" })
      assert.deepStrictEqual(keysOf(yield* kv(hub.port, id, { op: "all" })), [])
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "WebSockets carry text and bytes both ways, and close from either side with code and reason",
  () =>
    Effect.gen(function* () {
      const { app, hub, id } = yield* arrangeShared
      const socket = yield* openSocket(hub.port, id, "/chat")
      assert.strictEqual(socket.ws.protocol, "rivet")
      yield* socket.send("hello")
      yield* socket.count(1)
      assert.deepStrictEqual(socket.received, ["echo:hello"])
      const big = randomBytes(4 * MiB)
      socket.ws.send(big)
      const back = yield* Processes.nextMessage(socket.ws)
      assert.deepStrictEqual([back.binary, sha256(back.data)], [true, sha256(big)])
      socket.ws.close(4001, "enough")
      yield* app.said(/"event":"closed".*"code":4001,"reason":"enough"/)
      const other = yield* openSocket(hub.port, id, "/chat")
      yield* other.send("close:4002:bye")
      yield* eventually(Effect.sync(other.closed), (closed) => closed !== undefined)
      assert.deepStrictEqual(other.closed(), [4002, "bye"])
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "WebSockets that can hibernate are acknowledged message by message, and close from either side with code and reason",
  () =>
    Effect.gen(function* () {
      const { app, hub, id } = yield* arrangeShared
      const socket = yield* openSocket(hub.port, id, "/hibernate/a")
      for (const text of ["1", "2", "3"]) yield* socket.send(text)
      yield* socket.count(3)
      assert.deepStrictEqual(socket.received, ["kept:1", "kept:2", "kept:3"])
      // Nothing is kept for a repetition any more.
      yield* eventually(unacknowledged(hub.adminPort), (bytes) => bytes === 0)
      socket.ws.close(4001, "enough")
      yield* app.said(/"event":"closed".*"path":"\/hibernate\/a","code":4001,"reason":"enough"/)
      const other = yield* openSocket(hub.port, id, "/hibernate/b")
      yield* other.send("close:4002:bye")
      yield* eventually(Effect.sync(other.closed), (closed) => closed !== undefined)
      assert.deepStrictEqual(other.closed(), [4002, "bye"])
      yield* eventually(unacknowledged(hub.adminPort), (bytes) => bytes === 0)
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "an actor that asks to be destroyed is no more, and one that stops is dealt with by its policy",
  () =>
    Effect.gen(function* () {
      const { app, hub, id } = yield* arrangeShared
      yield* ask(hub.port, `/gateway/${id}/destroy`)
      const gone = yield* eventually(ask(hub.port, `/gateway/${id}/info`), ({ status }) => status === 404)
      assert.deepInclude(JSON.parse(gone.text), { group: "actor", code: "not_found" })
      // One that stops by itself ends by its policy: the client calls that an error unless the app asked to be destroyed.
      const stopped = Effect.fnUntraced(function* (crash_policy: "sleep" | "restart" | "destroy") {
        const stopping = yield* createActor(hub.port, "room", { key: crash_policy, crash_policy })
        assert.strictEqual((yield* ask(hub.port, `/gateway/${stopping}/info`)).status, 200)
        yield* ask(hub.port, `/gateway/${stopping}/stop`)
        yield* app.said(new RegExp(`"event":"stopped","actorId":"${stopping}","generation":0`))
        return stopping
      })
      const asleep = yield* stopped("sleep")
      yield* eventually(actorOf(hub.port, asleep), (actor) => typeof actor.sleep_ts === "number")
      const again = yield* stopped("restart")
      yield* app.said(new RegExp(`"event":"ready","actorId":"${again}","generation":1`))
      const over = yield* stopped("destroy")
      yield* eventually(ask(hub.port, `/gateway/${over}/info`), ({ status }) => status === 404)
      const deleted = yield* createActor(hub.port, "room", { key: "deleted", crash_policy: "restart" })
      yield* ask(hub.port, `/gateway/${deleted}/info`)
      assert.strictEqual((yield* call(hub.port, "DELETE", `/actors/${deleted}?namespace=default`)).status, 200)
      yield* eventually(ask(hub.port, `/gateway/${deleted}/info`), ({ status }) => status === 404)
      yield* app.said(new RegExp(`"event":"stopped","actorId":"${deleted}","generation":0`))
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "a runner that nobody made an actor for is reached by its name, like any other",
  () =>
    Effect.gen(function* () {
      const hub = yield* Processes.serve()
      yield* startApp(hub.port, "lobby")
      const answer = yield* Processes.fetch(hub.port, { path: "/info", host: "lobby.localhost" })
      assert.strictEqual(answer.status, 200, answer.text)
      const again = yield* Processes.fetch(hub.port, { path: "/info", host: "lobby.localhost" })
      assert.strictEqual(JSON.parse(again.text).actorId, JSON.parse(answer.text).actorId)
      yield* wellBehaved(hub.adminPort)
    }).pipe(Effect.scoped),
  60_000
)

it.live(
  "a runner whose key another process takes is told so, and goes for good",
  () =>
    Effect.gen(function* () {
      const { app, hub } = yield* arrange
      // Evicted in the middle of its actor's start, the client rejects what that was waiting for, and nobody is there to hear it.
      yield* app.said(/"event":"ready"/)
      const { json } = yield* call(hub.port, "GET", "/runners?namespace=default")
      const query = new URLSearchParams({
        protocol_version: "7",
        namespace: "default",
        runner_key: json.runners[0].key
      })
      const taker = yield* Effect.acquireRelease(
        Effect.sync(() => new WebSocket(`ws://127.0.0.1:${hub.port}/runners/connect?${query}`, ["rivet"])),
        (ws) => Effect.sync(() => ws.terminate())
      )
      // Init of a runner "room", version 1, with room for two actors.
      taker.once("open", () => taker.send(Buffer.from("0004726f6f6d01000000020000000000", "hex")))
      yield* app.said(/"event":"disconnected","code":1000,"reason":"ws\.eviction#/)
      yield* app.said(/"event":"shutdown"/)
      yield* wellBehaved(hub.adminPort)
      quietClient(app)
    }).pipe(Effect.scoped),
  60_000
)

// Side by side: most of it is waiting.
describe.concurrent("in its time", () => {
  it.live(
    "an actor sleeps when it asks to, an alarm wakes it, and so does a visitor",
    () =>
      Effect.gen(function* () {
        const { app, hub, id } = yield* arrange
        const asleep = eventually(actorOf(hub.port, id), (actor) => typeof actor.sleep_ts === "number")
        yield* ask(hub.port, `/gateway/${id}/alarm?ms=2500`)
        yield* ask(hub.port, `/gateway/${id}/sleep`)
        yield* asleep
        yield* app.said(/"event":"stopped".*"generation":0/)
        yield* app.said(/"event":"ready".*"generation":1/)
        yield* ask(hub.port, `/gateway/${id}/sleep`)
        yield* asleep
        const woken = yield* ask(hub.port, `/gateway/${id}/info`)
        assert.strictEqual(JSON.parse(woken.text).generation, 2)
        yield* wellBehaved(hub.adminPort)
        quietClient(app)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "a runner that is killed loses its actors to the next one within its time",
    () =>
      Effect.gen(function* () {
        const { app, hub, id } = yield* arrange
        assert.strictEqual((yield* ask(hub.port, `/gateway/${id}/info`)).status, 200)
        app.child.kill("SIGKILL")
        yield* app.ended
        yield* startApp(hub.port, "room")
        const answer = yield* eventually(ask(hub.port, `/gateway/${id}/info`), ({ status }) => status === 200, 25_000)
        assert.isAbove(JSON.parse(answer.text).generation, 0)
        yield* wellBehaved(hub.adminPort)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "a network that goes away for a second breaks neither a request nor a conversation",
    () =>
      Effect.gen(function* () {
        const hub = yield* Processes.serve()
        const wire = yield* Processes.relay(hub.port)
        const app = yield* startApp(wire.port, "room")
        const id = yield* createActor(hub.port, "room")
        const plain = yield* openSocket(hub.port, id, "/chat")
        const kept = yield* openSocket(hub.port, id, "/hibernate")
        yield* plain.send("one")
        yield* kept.send("1")
        yield* plain.count(1)
        yield* kept.count(1)
        const slow = yield* Effect.forkChild(ask(hub.port, `/gateway/${id}/slow?ms=6000`))
        // Until a ping that proves the first words to have arrived was answered.
        yield* Effect.sleep(3_500)
        yield* wire.setDown(true)
        yield* app.said(/"event":"disconnected"/)
        yield* kept.send("2")
        yield* wire.setDown(false)
        yield* kept.count(2)
        yield* plain.send("two")
        yield* plain.count(2)
        const answer = yield* Fiber.join(slow)
        assert.strictEqual(answer.status, 200)
        assert.deepStrictEqual(plain.received, ["echo:one", "echo:two"])
        assert.deepStrictEqual(kept.received, ["kept:1", "kept:2"])
        yield* wellBehaved(hub.adminPort)
        quietClient(app)
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "a runner told to end stops its actors in order and leaves, and a new one takes them on",
    () =>
      Effect.gen(function* () {
        const { app, hub, id } = yield* arrange
        yield* kv(hub.port, id, { op: "put", entries: [[base64("kept"), base64("yes")]] })
        yield* app.signal("SIGTERM")
        yield* app.said(/"event":"stopped"/)
        yield* app.said(/"event":"shutdown"/)
        yield* app.ended
        yield* startApp(hub.port, "room")
        const got = yield* kv(hub.port, id, { op: "get", keys: [base64("kept")] })
        assert.deepStrictEqual(got.value, [base64("yes")])
        yield* wellBehaved(hub.adminPort)
        quietClient(app)
      }).pipe(Effect.scoped),
    60_000
  )
})
