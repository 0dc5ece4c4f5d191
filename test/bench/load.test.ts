/** That the load checks what it gets: each of these would pass for an answer if only its length were counted. */
import { createServer } from "node:http"
import { createServer as createTcpServer } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocketServer } from "ws"
import { listen } from "../socket/Loopback.ts"
import * as Content from "./Content.ts"
import { echoes, framed, openSockets } from "./SocketLoad.ts"
import * as Transfer from "./Transfer.ts"
import { parseWrk } from "./Wrk.ts"

const counted = (change: Record<string, number> = {}) =>
  JSON.stringify({ seconds: 2, good: 1000, bad: 0, errors: 0, timeouts: 0, p50Ms: 0.5, p99Ms: 2.5, ...change })

describe("wrk's output", () => {
  it("is found among what wrk prints itself", () => {
    const output = `Running 2s test\n  1000 requests in 2.00s\nRequests/sec: 500\n${counted()}\n`
    assert.deepStrictEqual(parseWrk(output), { seconds: 2, good: 1000, p50Ms: 0.5, p99Ms: 2.5 })
  })
  it("is a failure where one answer was wrong, one connection broke or one timed out", () => {
    for (const name of ["bad", "errors", "timeouts"])
      assert.throws(() => parseWrk(counted({ [name]: 1 })), /of 100[01]/)
  })
  it("is a failure where nothing came, or wrk could not run", () => {
    assert.throws(() => parseWrk(counted({ good: 0 })), /no answer came/)
    assert.throws(() => parseWrk("unable to connect"), /unable to connect/)
  })
})

describe("a long body", () => {
  const whole = Buffer.concat(
    Array.from({ length: 5 }, (_, i) => Content.pieceAt(i * 64 * 1024, Number.POSITIVE_INFINITY))
  )
  const verdict = (body: Buffer, cut: number) => {
    const check = Content.checker()
    for (let at = 0; at < body.length; at += cut) check.add(body.subarray(at, at + cut))
    return check.verdict()
  }
  it("is right however it is cut", () => {
    for (const cut of [1000, 65_521, 65_536, 100_000]) assert.strictEqual(verdict(whole, cut), String(whole.length))
  })
  it("is wrong where a byte is changed, lost or repeated", () => {
    const changed = Buffer.from(whole)
    changed[200_000] = (changed[200_000] as number) ^ 1
    const lost = Buffer.concat([whole.subarray(0, 100_000), whole.subarray(100_001)])
    const repeated = Buffer.concat([whole.subarray(0, 65_536), whole.subarray(0, 65_536)])
    for (const body of [changed, lost, repeated]) assert.match(verdict(body, 4096), /^wrong from byte/)
  })
  it("begins where the head ends, wherever the head was cut", () => {
    const take = Transfer.takeHead()
    assert.isUndefined(take(Buffer.from("HTTP/1.1 200 OK\r\nContent-Len")))
    assert.strictEqual(String(take(Buffer.from("gth: 9\r\n\r\nfirst"))), "first")
    assert.strictEqual(String(take(Buffer.from("next"))), "next")
  })
  it("is refused with another status, or where its length is not known", () => {
    assert.throws(() => Transfer.takeHead()(Buffer.from("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 1\r\n\r\n")))
    assert.throws(() => Transfer.takeHead()(Buffer.from("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")))
  })
  it.live("that is cut off is an error", () =>
    Effect.gen(function* () {
      const server = createTcpServer((socket) => {
        socket.resume().end("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nfew")
      })
      const port = yield* listen(server)
      const error = yield* Effect.flip(
        Effect.tryPromise({
          try: () => Transfer.download({ port, host: "app" }, 100),
          catch: (error) => error as Error
        })
      )
      assert.strictEqual(error.message, "the connection was closed")
    })
  )
})

describe("a visitor's WebSocket", () => {
  const echo = (change: (data: Buffer) => Buffer) =>
    Effect.gen(function* () {
      const server = createServer()
      const sockets = new WebSocketServer({ server, perMessageDeflate: false })
      sockets.on("connection", (ws) => ws.on("message", (data: Buffer) => ws.send(change(data), { binary: true })))
      const port = yield* listen(server, () => {
        for (const ws of sockets.clients) ws.terminate()
      })
      return yield* Effect.tryPromise({
        try: async () => {
          const open = await openSockets({ port, host: "app" }, 3)
          try {
            return await echoes(open, 128, 0.05)
          } finally {
            for (const socket of open) socket.destroy()
          }
        },
        catch: (error) => error as Error
      })
    })
  it.live("counts each echo that is what was sent", () =>
    Effect.map(
      echo((data) => data),
      (count) => assert.isAtLeast(count, 3)
    )
  )
  it.live("takes no other bytes for an echo", () =>
    Effect.map(Effect.flip(echo((data) => Buffer.from(data.map((byte) => byte + 1)))), ({ message }) =>
      assert.match(message, /^not the echo/)
    )
  )
  it("writes lengths of both forms", () => {
    assert.deepStrictEqual([...framed(Buffer.alloc(5)).fromServer.subarray(0, 2)], [0x82, 5])
    assert.deepStrictEqual([...framed(Buffer.alloc(300)).fromServer.subarray(0, 4)], [0x82, 126, 1, 44])
  })
})
