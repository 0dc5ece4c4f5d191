import { randomBytes } from "node:crypto"
import type * as http from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Queue } from "effect"
import type { WebSocket } from "ws"
import { type HeaderList, isTerminal, type ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { type Accepted, bytes, route, text } from "./FakeHub.ts"
import { forward, serveWebSockets } from "./LocalServer.ts"

const open = (hub: Accepted, target = "/socket", headers: HeaderList = []) =>
  hub.down(route(1), { _tag: "WebSocketOpen", target, headers: [["host", "web.localhost"], ...headers] })

const say = (hub: Accepted, data: Uint8Array, over: { readonly binary?: boolean; readonly finish?: boolean } = {}) =>
  hub.down(route(1), { _tag: "WebSocketMessage", data, binary: true, finish: true, ...over })

/** The app's next message, put together; its bytes are granted again. */
const message = Effect.fnUntraced(function* (hub: Accepted) {
  const parts: Array<Uint8Array> = []
  while (true) {
    const frame: ResponseFrame = yield* hub.answer
    assert(frame._tag === "WebSocketMessage", `a ${frame._tag} instead of a message`)
    parts.push(frame.data)
    if (frame.data.length > 0) hub.down(route(1), { _tag: "Credit", bytes: frame.data.length })
    if (frame.finish) return { data: Buffer.concat(parts), binary: frame.binary, fragments: parts.length }
  }
})

interface Local {
  readonly ws: WebSocket
  readonly request: http.IncomingMessage
}

/** An app whose sockets the test holds. */
const socketApp = Effect.fnUntraced(function* (protocol?: string) {
  const sockets = yield* Queue.unbounded<Local>()
  const port = yield* serveWebSockets((wss) => {
    wss.options.handleProtocols = (offered) => (protocol !== undefined && offered.has(protocol) ? protocol : false)
    wss.on("headers", (headers) => headers.push("Set-Cookie: a=1", "Set-Cookie: b=2"))
    wss.on("connection", (ws, request) => {
      ws.on("error", () => {})
      Queue.offerUnsafe(sockets, { ws, request })
    })
  })
  const hub = yield* forward(port)
  return { hub, local: Queue.take(sockets) }
})

const closeOf = (ws: WebSocket) =>
  Effect.callback<readonly [number, string]>((resume) => {
    ws.on("close", (code, reason) => resume(Effect.succeed([code, reason.toString()] as const)))
  })

const nextMessage = (ws: WebSocket) =>
  Effect.callback<string>((resume) => {
    ws.once("message", (data) => resume(Effect.succeed(data.toString())))
  })

describe("forwarding WebSockets to a local port", () => {
  it.live("passes target, cookies, origin and subprotocols down, and the app's choice and cookies up", () =>
    Effect.gen(function* () {
      const { hub, local } = yield* socketApp("b.v2")
      open(hub, "/socket?x=1", [
        ["Cookie", "sid=1"],
        ["Origin", "http://web.localhost"],
        ["Sec-WebSocket-Protocol", "a.v1, b.v2"],
        ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
        ["Sec-WebSocket-Extensions", "permessage-deflate"]
      ])
      const { request } = yield* local
      assert.strictEqual(request.url, "/socket?x=1")
      assert.deepInclude(request.headers, {
        host: "web.localhost",
        cookie: "sid=1",
        origin: "http://web.localhost",
        "sec-websocket-protocol": "a.v1,b.v2"
      })
      assert.notStrictEqual(request.headers["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==")
      assert.isUndefined(request.headers["sec-websocket-extensions"])
      assert.deepStrictEqual(yield* hub.answer, {
        _tag: "WebSocketOpen",
        headers: [
          ["Set-Cookie", "a=1"],
          ["Set-Cookie", "b=2"],
          ["Sec-WebSocket-Protocol", "b.v2"]
        ],
        canHibernate: false
      })
    })
  )

  it.live("text, binary, empty and fragmented messages pass both ways", () =>
    Effect.gen(function* () {
      const { hub, local } = yield* socketApp()
      open(hub)
      const { ws } = yield* local
      ws.on("message", (data, binary) => ws.send(data as Buffer, { binary }))
      yield* hub.answer
      say(hub, bytes("grüß"), { binary: false })
      assert.deepInclude(yield* message(hub), { data: Buffer.from("grüß"), binary: false })
      say(hub, new Uint8Array(0))
      assert.deepInclude(yield* message(hub), { data: Buffer.alloc(0), binary: true })
      say(hub, bytes("one "), { finish: false })
      say(hub, bytes("two "), { finish: false })
      say(hub, bytes("three"))
      assert.strictEqual(text((yield* message(hub)).data), "one two three")
    })
  )

  it.live("a message of 1 MiB passes both ways, in fragments of at most 64 KiB", () =>
    Effect.gen(function* () {
      const { hub, local } = yield* socketApp()
      open(hub)
      const { ws } = yield* local
      ws.on("message", (data, binary) => ws.send(data as Buffer, { binary }))
      yield* hub.answer
      const data = randomBytes(1024 * 1024)
      let credit = limits.windowBytesInitial
      for (let offset = 0; offset < data.length; offset += limits.chunkBytesMax) {
        while (credit < limits.chunkBytesMax) {
          const { frame } = yield* hub.next
          assert(frame._tag === "Credit")
          credit += frame.bytes
        }
        credit -= limits.chunkBytesMax
        const end = offset + limits.chunkBytesMax
        say(hub, data.subarray(offset, end), { finish: end >= data.length })
      }
      const echoed = yield* message(hub)
      assert.isTrue(echoed.data.equals(data))
      assert.isAtLeast(echoed.fragments, 16)
    })
  )

  it.live("close codes and reasons pass both ways", () =>
    Effect.gen(function* () {
      const first = yield* socketApp()
      open(first.hub)
      const { ws } = yield* first.local
      const closed = yield* Effect.forkScoped(closeOf(ws))
      yield* first.hub.answer
      first.hub.down(route(1), { _tag: "WebSocketClose", code: 4001, reason: "enough" })
      assert.deepStrictEqual(yield* Fiber.join(closed), [4001, "enough"])

      const second = yield* socketApp()
      open(second.hub)
      yield* second.hub.answer
      ;(yield* second.local).ws.close(4002, "me too")
      assert.deepStrictEqual(yield* second.hub.answer, {
        _tag: "WebSocketClose",
        code: 4002,
        reason: "me too",
        hibernate: false
      })
    })
  )

  it.live("messages sent just before a close arrive before it, either way", () =>
    Effect.gen(function* () {
      const first = yield* socketApp()
      open(first.hub)
      const { ws } = yield* first.local
      const got: Array<string> = []
      ws.on("message", (data) => got.push(String(data)))
      const closed = yield* Effect.forkScoped(closeOf(ws))
      yield* first.hub.answer
      for (let i = 0; i < 50; i++) say(first.hub, bytes(`${i}`), { binary: false })
      first.hub.down(route(1), { _tag: "WebSocketClose", code: 1000, reason: "" })
      yield* Fiber.join(closed)
      assert.strictEqual(got.length, 50)

      const second = yield* socketApp()
      open(second.hub)
      const other = yield* second.local
      yield* second.hub.answer
      for (let i = 0; i < 50; i++) other.ws.send(`${i}`)
      other.ws.close(1000)
      for (let i = 0; i < 50; i++) assert.strictEqual(text((yield* message(second.hub)).data), `${i}`)
      assert.strictEqual((yield* second.hub.answer)._tag, "WebSocketClose")
    })
  )

  it.live("a visitor that is cut off cuts the app's socket, even where the app reads nothing of what came before", () =>
    Effect.gen(function* () {
      const { hub, local } = yield* socketApp()
      open(hub)
      const { ws } = yield* local
      ws.pause()
      const closed = yield* Effect.forkScoped(closeOf(ws), { startImmediately: true })
      yield* hub.answer
      // As long as credit comes back the app's socket takes more.
      const piece = Buffer.alloc(limits.chunkBytesMax)
      let credit = limits.windowBytesInitial
      for (;;) {
        for (; credit >= piece.length; credit -= piece.length) say(hub, piece)
        const next = yield* Effect.timeoutOption(hub.next, 300)
        if (next._tag === "None") break
        if (next.value.frame._tag === "Credit") credit += next.value.frame.bytes
      }
      hub.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
      // It is not read from, and so notices only when it is written to.
      yield* Effect.forkScoped(
        Effect.forever(
          Effect.delay(
            Effect.sync(() => ws.ping()),
            20
          )
        )
      )
      assert.strictEqual((yield* Fiber.join(closed))[0], 1006)
    })
  )

  it.live("an app that refuses answers with its own status, headers and page", () =>
    Effect.gen(function* () {
      const port = yield* serveWebSockets((wss) => {
        wss.options.verifyClient = (
          _info,
          done: (ok: boolean, code?: number, message?: string, headers?: http.OutgoingHttpHeaders) => void
        ) => done(false, 418, "a teapot", { "X-Why": "tea" })
      })
      const hub = yield* forward(port)
      open(hub)
      const frame = yield* hub.answer
      assert(frame._tag === "ResponseStart")
      assert.isTrue(isTerminal(frame))
      assert.strictEqual(frame.status, 418)
      assert.strictEqual(text(frame.body), "a teapot")
      assert.deepInclude(frame.headers as unknown as Array<unknown>, ["X-Why", "tea"])
      assert.deepInclude(frame.headers as unknown as Array<unknown>, ["Content-Length", "8"])
    })
  )

  it.live("says what to do where no app listens", () =>
    Effect.gen(function* () {
      const port = yield* Effect.scoped(serveWebSockets(() => {}))
      const hub = yield* forward(port)
      open(hub)
      const frame = yield* hub.answer
      assert(frame._tag === "ResponseAbort")
      assert.strictEqual(frame.code, "app_unreachable")
      assert.include(frame.message, "is the app running?")
    })
  )

  it.live("an app that answers the handshake against the rules is told as such, not as out of reach", () =>
    Effect.gen(function* () {
      // It takes the WebSocket, and none of the subprotocols that the visitor insists on.
      const { hub } = yield* socketApp()
      open(hub, "/socket", [["Sec-WebSocket-Protocol", "chat"]])
      const frame = yield* hub.answer
      assert.deepInclude(frame, { _tag: "ResponseAbort", code: "protocol_error" })
    })
  )

  it.live("a visitor that is cut off cuts the app's socket, and an app that breaks off aborts the visitor's", () =>
    Effect.gen(function* () {
      const first = yield* socketApp()
      open(first.hub)
      const closed = yield* Effect.forkScoped(closeOf((yield* first.local).ws))
      yield* first.hub.answer
      first.hub.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
      assert.strictEqual((yield* Fiber.join(closed))[0], 1006)

      const broken = yield* socketApp()
      open(broken.hub)
      const { ws } = yield* broken.local
      const got = yield* Effect.forkScoped(nextMessage(ws), { startImmediately: true })
      const cut = yield* Effect.forkScoped(closeOf(ws), { startImmediately: true })
      yield* broken.hub.answer
      say(broken.hub, bytes("last"), { binary: false })
      broken.hub.down(route(1), { _tag: "WebSocketClose", code: 1006, reason: "" })
      assert.strictEqual(yield* Fiber.join(got), "last")
      assert.strictEqual((yield* Fiber.join(cut))[0], 1006)

      const second = yield* socketApp()
      open(second.hub)
      yield* second.hub.answer
      ;(yield* second.local).ws.terminate()
      assert.deepInclude(yield* second.hub.answer, { _tag: "ResponseAbort", code: "app_failed" })
    })
  )

  it.live("a visitor that grants nothing stops the app after one window", () =>
    Effect.gen(function* () {
      const { hub, local } = yield* socketApp()
      open(hub)
      const { ws } = yield* local
      yield* hub.answer
      for (let i = 0; i < 512; i++) ws.send(Buffer.alloc(64 * 1024))
      let received = 0
      while (received < limits.windowBytesInitial) {
        const { frame } = yield* hub.next
        if (frame._tag === "WebSocketMessage") received += frame.data.length
      }
      // Everything that can move has moved once what the app's socket still holds stands still.
      let before = -1
      while (before !== ws.bufferedAmount) {
        before = ws.bufferedAmount
        yield* Effect.sleep(50)
      }
      assert.strictEqual(yield* Queue.size(hub.frames), 0)
      assert.isAbove(ws.bufferedAmount, 16 * 1024 * 1024)
    })
  )
})
