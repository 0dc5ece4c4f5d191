import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Queue } from "effect"
import { WebSocket } from "ws"
import * as RivetId from "../../src/actor/RivetId.ts"
import { Hub } from "../../src/hub/Hub.ts"
import { NodeServer, layer as nodeServer } from "../../src/server/NodeServer.ts"
import { actorHub, type Conversation, gatewayAlone, head, settle, text } from "../gateway/FakeHub.ts"

const id = RivetId.make(new Uint8Array(16).fill(7))

const served = nodeServer({ host: "127.0.0.1", port: 0 }).pipe(
  Layer.provideMerge(gatewayAlone()),
  Layer.provide(Layer.mock(Hub)({}))
)

const start = Effect.gen(function* () {
  const hub = yield* actorHub()
  const { port } = yield* NodeServer
  return { hub, port }
})

const dial = (port: number, path: string, protocols: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`, [...protocols], { perMessageDeflate: false })
      const messages = Effect.runSync(Queue.unbounded<string>())
      const opened = Deferred.makeUnsafe<string>()
      const closed = Deferred.makeUnsafe<readonly [number, string]>()
      ws.on("error", () => {})
      ws.on("open", () => Deferred.doneUnsafe(opened, Effect.succeed(ws.protocol)))
      ws.on("message", (data) => Queue.offerUnsafe(messages, data.toString()))
      ws.on("close", (code, reason) => Deferred.doneUnsafe(closed, Effect.succeed([code, reason.toString()] as const)))
      return { ws, opened: Deferred.await(opened), closed: Deferred.await(closed), next: Queue.take(messages) }
    }),
    ({ ws }) => Effect.sync(() => ws.terminate())
  )

const offer = ["rivet", "rivet_target.actor", `rivet_actor.${id}`, "rivet_token.y"]
const accept = { _tag: "WebSocketOpen", headers: [], canHibernate: true } as const
const word = (data: string) => ({ _tag: "WebSocketMessage", data: text(data), binary: false, finish: true }) as const
const sleep = { _tag: "WebSocketClose", code: null, reason: "", hibernate: true } as const

/** The next message that goes down, past any credit. */
const nextWord = Effect.fnUntraced(function* (app: Conversation) {
  for (;;) {
    const frame = yield* app.next
    if (frame._tag === "WebSocketMessage") return Buffer.from(frame.data).toString()
    if (frame._tag !== "Credit") return frame._tag
  }
})

describe("an actor behind a real port", () => {
  it.live("is asked by path, byte for byte, and its answer has a ray id", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const url = `http://127.0.0.1:${port}/gateway/${id}@t/a%20b/%7e?c=d+e&f=%2F&&`
      const asking = yield* Effect.forkChild(
        Effect.promise(() => fetch(url, { headers: { origin: "http://a.example", "x-rivet-token": "t" } }))
      )
      const app = yield* hub.next
      const { frame } = app.opening
      if (frame._tag !== "RequestStart") return assert.fail(frame._tag)
      assert.strictEqual(frame.target, "/a%20b/%7e?c=d+e&f=%2F&&")
      assert.isFalse(frame.headers.some(([name]) => name.startsWith("x-rivet-")))
      yield* app.reply(head(false, "hello"))
      const response = yield* Fiber.join(asking)
      assert.strictEqual(response.status, 200)
      assert.strictEqual(response.headers.get("x-rivet-ray-id")?.length, 30)
      assert.strictEqual(response.headers.get("access-control-allow-origin"), "http://a.example")
      assert.strictEqual(yield* Effect.promise(() => response.text()), "hello")
    }).pipe(Effect.provide(served))
  )

  it.live("that is not there is told in Rivet's shape, to a request and to a WebSocket", () =>
    Effect.gen(function* () {
      const { port } = yield* NodeServer
      const response = yield* Effect.promise(() => fetch(`http://127.0.0.1:${port}/gateway/none/`))
      assert.strictEqual(response.status, 404)
      const body = (yield* Effect.promise(() => response.json())) as Record<string, string>
      assert.deepInclude(body, { group: "actor", code: "not_found" })
      const visitor = yield* dial(port, "/any", offer)
      assert.strictEqual(yield* visitor.opened, "rivet")
      const [code, reason] = yield* visitor.closed
      assert.strictEqual(code, 1011)
      assert.match(reason, /^guard\.service_unavailable#[0-9a-z]{30}$/)
    }).pipe(Effect.provide(served))
  )

  it.live("sleeps under an open WebSocket, and is woken by a message that is not lost", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* dial(port, "/any?x", offer)
      const app = yield* hub.next
      yield* app.reply(accept, word("welcome"))
      assert.strictEqual(yield* visitor.opened, "rivet")
      assert.strictEqual(yield* visitor.next, "welcome")
      visitor.ws.send("one")
      assert.strictEqual(yield* nextWord(app), "one")
      yield* app.reply({ _tag: "WebSocketMessageAck", index: 1 }, sleep)
      yield* settle
      // The acknowledgement leaves nothing to wake for: only the next message does.
      visitor.ws.send("two")
      assert.deepInclude(yield* hub.wake, { actor: id, index: 2 })
      yield* app.publish(
        { ...app.uplink({ _tag: "Credit", bytes: 1000 }), session: "b".repeat(32) },
        { ...app.uplink(word("awake")), session: "b".repeat(32), index: 0 }
      )
      assert.strictEqual(yield* visitor.next, "awake")
      assert.strictEqual(yield* nextWord(app), "two")
      visitor.ws.close(4001, "bye")
      assert.strictEqual(yield* nextWord(app), "WebSocketClose")
      assert.deepStrictEqual(yield* visitor.closed, [4001, "bye"])
    }).pipe(Effect.provide(served))
  )
})
