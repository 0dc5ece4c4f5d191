/** What every socket owes its role, in memory and over TCP alike. */
import { createServer } from "node:http"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, type Scope } from "effect"
import { type WebSocket, WebSocketServer } from "ws"
import {
  Dialer,
  type MessageSocket,
  pair,
  type SocketMessage,
  sendableCloseCode,
  sendableCloseReason
} from "../../src/socket/MessageSocket.ts"
import { fromWebSocket, layerDialer, wsOptions } from "../../src/socket/WsSocket.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { listen } from "./Loopback.ts"

type Pair = Effect.Effect<readonly [MessageSocket, MessageSocket], unknown, Scope.Scope | Dialer>

const overTcp: Pair = Effect.gen(function* () {
  const sockets = new WebSocketServer({ noServer: true, ...wsOptions })
  const accepted: Array<(ws: WebSocket) => void> = []
  const server = createServer()
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => {})
    if (request.url === "/no") return void socket.end("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
    sockets.handleUpgrade(request, socket, head, (ws) => accepted.shift()?.(ws))
  })
  const port = yield* listen(server, () => {
    for (const ws of sockets.clients) ws.terminate()
  })
  const url = `ws://127.0.0.1:${port}`
  const right = new Promise<MessageSocket>((resolve) => accepted.push((ws) => resolve(fromWebSocket(ws))))
  const dialer = yield* Dialer
  const refusal = yield* Effect.flip(dialer.dial(`${url}/no`, { protocols: [], headers: [] }))
  assert.deepInclude(refusal, { reason: "Refused", status: 401 })
  const left = yield* dialer.dial(url, { protocols: ["wayleave.1"], headers: [["authorization", "Bearer x"]] })
  assert.strictEqual(left.protocol, "wayleave.1")
  return [left, yield* Effect.promise(() => right)] as const
})

const whole = { binary: true, finish: true } as const
const text = (message: SocketMessage) => new TextDecoder().decode(message.data)

for (const [name, make] of [
  ["in memory", Effect.sync(() => pair({ protocol: "wayleave.1" }))],
  ["over TCP", overTcp]
] as const satisfies ReadonlyArray<readonly [string, Pair]>) {
  const live = (title: string, body: (left: MessageSocket, right: MessageSocket) => Effect.Effect<void, unknown>) =>
    it.live(title, () =>
      Effect.gen(function* () {
        const [left, right] = yield* make
        yield* body(left, right)
      }).pipe(Effect.scoped, Effect.provide(layerDialer))
    )

  describe(`a message socket ${name}`, () => {
    live(
      "hands over messages whole and in order, text and binary",
      Effect.fnUntraced(function* (left, right) {
        for (let i = 0; i < 100; i++)
          left.sendUnsafe(new TextEncoder().encode(`m${i}`), { binary: i % 2 === 0, finish: true })
        const got: Array<SocketMessage> = []
        while (got.length < 100) got.push(...(yield* right.pull))
        assert.deepStrictEqual(
          got.map(text),
          Array.from({ length: 100 }, (_, i) => `m${i}`)
        )
        assert.strictEqual(got[1]?.binary, false)
      })
    )
    live(
      "puts fragments together",
      Effect.fnUntraced(function* (left, right) {
        left.sendUnsafe(new Uint8Array([1]), { binary: true, finish: false })
        left.sendUnsafe(new Uint8Array([2]), { binary: true, finish: false })
        left.sendUnsafe(new Uint8Array([3]), whole)
        const [message] = yield* right.pull
        assert.deepStrictEqual([...message.data], [1, 2, 3])
      })
    )
    live(
      "tells the peer the close code and the reason",
      Effect.fnUntraced(function* (left, right) {
        left.sendUnsafe(new Uint8Array([1]), whole)
        left.closeUnsafe(4001, "enough")
        yield* right.pull
        assert.deepInclude(yield* Effect.flip(right.pull), { code: 4001, reason: "enough" })
        assert.deepInclude(yield* Effect.flip(left.pull), { code: 4001 })
        assert.isFalse(left.sendUnsafe(new Uint8Array([1]), whole))
      })
    )
    live(
      "tells of a peer that vanished",
      Effect.fnUntraced(function* (left, right) {
        left.terminateUnsafe()
        const closed = yield* Effect.callback<number>((resume) =>
          right.whenClosedUnsafe(({ code }) => resume(Effect.succeed(code)))
        )
        assert.strictEqual(closed, 1006)
      })
    )
    live(
      "holds a sender back while the peer does not read, and lets it go on",
      Effect.fnUntraced(function* (left, right) {
        const piece = new Uint8Array(64 * 1024)
        let sent = 0
        while (left.sendUnsafe(piece, whole)) {
          sent++
          if (sent % 8 === 0) yield* Effect.yieldNow
          assert.isBelow(sent, 2_000)
        }
        sent++
        let got = 0
        const drained = yield* Effect.forkChild(left.writable)
        while (got < sent) got += (yield* right.pull).length
        yield* Fiber.join(drained)
        assert.isTrue(left.sendUnsafe(piece, whole))
      })
    )
    live(
      "loses a waiting pull to interruption, and no message",
      Effect.fnUntraced(function* (left, right) {
        yield* right.pull.pipe(Effect.timeoutOption("5 millis"))
        left.sendUnsafe(new Uint8Array([7]), whole)
        const [message] = yield* right.pull
        assert.deepStrictEqual([...message.data], [7])
      })
    )
  })
}

it("sends only close codes that RFC 6455 lets an endpoint send", () => {
  assert.deepStrictEqual(
    [null, 1005, 1000, 1001, 1004, 1006, 1014, 1015, 2999, 3000, 4999, 5000, 0].map(sendableCloseCode),
    [1000, 1000, 1000, 1001, 1011, 1011, 1014, 1011, 1011, 3000, 4999, 1011, 1011]
  )
})

it("cuts a close reason to 123 bytes without cutting a character", () => {
  for (const reason of ["", "bye", "é".repeat(200), "😀".repeat(60), `${"a".repeat(122)}😀`, "x".repeat(500)]) {
    const cut = sendableCloseReason(reason)
    assert.isAtMost(Buffer.byteLength(cut), 123)
    assert.isTrue(cut.isWellFormed())
    assert.isTrue(reason.startsWith(cut))
    if (Buffer.byteLength(reason) <= 123) assert.strictEqual(cut, reason)
  }
})

it.effect("stops reading above the mark and goes on once pulled", () =>
  Effect.gen(function* () {
    const [left, right] = pair({ protocol: "" })
    let writable = true
    for (let sent = 0; writable; sent += 1024) {
      assert.isAtMost(sent, limits.socketHighWaterBytes)
      writable = left.sendUnsafe(new Uint8Array(1024), whole)
    }
    yield* right.pull
    assert.isTrue(left.sendUnsafe(new Uint8Array(1), whole))
  })
)
