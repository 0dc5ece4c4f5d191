import { createHash } from "node:crypto"
import * as http from "node:http"
import type { AddressInfo } from "node:net"
import { assert, it } from "@effect/vitest"
import { Effect, Queue } from "effect"
import { Dialer } from "../../src/socket/MessageSocket.ts"
import { inTheOpen, layerDialer } from "../../src/socket/WsSocket.ts"

it("frames are masked wherever somebody between the two ends could read them", () => {
  for (const url of ["ws://hub.example.org", "ws://10.0.0.1:6420/x", "ws://127.example.org", "ws://[::2]/"]) {
    assert.isTrue(inTheOpen(url), url)
  }
  for (const url of [
    "wss://hub.example.org",
    "ws://localhost:6420",
    "ws://127.0.0.1:1/x",
    "ws://127.8.9.1",
    "ws://[::1]/"
  ]) {
    assert.isFalse(inTheOpen(url), url)
  }
})

it.live("on this machine a frame keeps the mask bit that servers insist on, with a key that changes nothing", () =>
  Effect.gen(function* () {
    const received = yield* Queue.unbounded<Buffer>()
    const server = http.createServer()
    server.on("upgrade", (request, socket) => {
      const accept = createHash("sha1")
        .update(`${request.headers["sec-websocket-key"]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
        .digest("base64")
      socket.on("error", () => {})
      socket.on("data", (data: Buffer) => Queue.offerUnsafe(received, data))
      socket.write(
        `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`
      )
    })
    const port = yield* Effect.acquireRelease(
      Effect.callback<number>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as AddressInfo).port)))
      }),
      () => Effect.sync(() => server.close())
    )
    const socket = yield* Dialer.use((dialer) =>
      dialer.dial(`ws://127.0.0.1:${port}`, { protocols: [], headers: [] })
    ).pipe(Effect.provide(layerDialer))
    socket.sendUnsafe(Buffer.from("hello"), { binary: true, finish: true })
    assert.strictEqual((yield* Queue.take(received)).toString("latin1"), "\x82\x85\0\0\0\0hello")
    socket.terminateUnsafe()
  })
)
