import { createHash, randomBytes } from "node:crypto"
import * as http from "node:http"
import * as net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Queue } from "effect"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { listen } from "../socket/Loopback.ts"
import { bytes, get, route, text } from "./FakeHub.ts"
import { forward, readAnswer, serve } from "./LocalServer.ts"

const sha256 = (data: Uint8Array) => createHash("sha256").update(data).digest("hex")
const MiB = 1024 * 1024

const names = (headers: ReadonlyArray<readonly [string, string]>) => headers.map(([name]) => name.toLowerCase())

describe("forwarding to a local port", () => {
  it.live("passes method, target and headers as they came, in order and with duplicates", () =>
    Effect.gen(function* () {
      const seen = yield* Deferred.make<http.IncomingMessage>()
      const port = yield* serve((request, response) => {
        Deferred.doneUnsafe(seen, Effect.succeed(request))
        response.end()
      })
      const hub = yield* forward(port)
      const headers = [
        ["Host", "web.localhost:6420"],
        ["X-Dup", "1"],
        ["accept", "*/*"],
        ["X-Dup", "2"]
      ] as const
      hub.down(route(1), get("/a%20b?q=%2F&q=2", { method: "PURGE", headers: [...headers, ["Connection", "close"]] }))
      const request = yield* Deferred.await(seen)
      assert.strictEqual(request.method, "PURGE")
      assert.strictEqual(request.url, "/a%20b?q=%2F&q=2")
      assert.deepStrictEqual(request.rawHeaders, [
        ...headers.flat(),
        ...["Content-Length", "0", "Connection", "keep-alive"]
      ])
      yield* readAnswer(hub, route(1))
    })
  )

  it.live("sends the app's own host where it is told to", () =>
    Effect.gen(function* () {
      const port = yield* serve((request, response) => response.end(request.headers.host))
      const hub = yield* forward(port, { hostHeader: "local" })
      hub.down(route(1), get("/"))
      assert.strictEqual((yield* readAnswer(hub, route(1))).body.toString(), `127.0.0.1:${port}`)
    })
  )

  it.live("a small answer is one frame, its head as the app wrote it but for what concerned the local connection", () =>
    Effect.gen(function* () {
      const port = yield* serve((_request, response) => {
        response.sendDate = false
        response.writeHead(200, ["Set-Cookie", "a=1", "X-One", "1", "Set-Cookie", "b=2", "Content-Length", "5"])
        response.end("hello")
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/"))
      const answer = yield* readAnswer(hub, route(1))
      assert.strictEqual(answer.frames.length, 1)
      assert.deepStrictEqual(answer.headers, [
        ["Set-Cookie", "a=1"],
        ["X-One", "1"],
        ["Set-Cookie", "b=2"],
        ["Content-Length", "5"]
      ])
      assert.strictEqual(answer.body.toString(), "hello")
    })
  )

  it.live("answers without a body keep the length they tell of", () =>
    Effect.gen(function* () {
      const port = yield* serve((request, response) => {
        const status = Number(request.url?.slice(1))
        response.writeHead(status, status === 204 ? {} : { "content-length": "12345" })
        response.end()
      })
      const hub = yield* forward(port)
      for (const [id, method, status] of [
        [1, "HEAD", 200],
        [2, "GET", 204],
        [3, "GET", 304]
      ] as const) {
        hub.down(route(id), get(`/${status}`, { method }))
        const answer = yield* readAnswer(hub, route(id))
        assert.strictEqual(answer.frames.length, 1)
        assert.strictEqual(answer.status, status)
        assert.strictEqual(answer.body.length, 0)
        if (status !== 204) assert.include(names(answer.headers), "content-length")
      }
    })
  )

  it.live("passes 1xx responses and trailers, both ways", () =>
    Effect.gen(function* () {
      const port = yield* serve((request, response) => {
        response.writeEarlyHints({ link: "</s.css>; rel=preload" })
        request.resume().on("end", () => {
          response.writeHead(200, { trailer: "X-Sum" })
          response.write("body")
          response.addTrailers([["X-Sum", String(request.trailers["x-up"])]])
          response.end()
        })
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/", { method: "POST", streamed: true, headers: [["trailer", "X-Up"]] }))
      hub.down(route(1), { _tag: "RequestChunk", body: bytes("x"), finish: false })
      hub.down(route(1), { _tag: "RequestTrailers", headers: [["X-Up", "42"]] })
      const answer = yield* readAnswer(hub, route(1))
      assert.deepInclude(answer.frames[0], { _tag: "Informational", status: 103 })
      assert.deepStrictEqual(answer.end, { _tag: "ResponseTrailers", headers: [["X-Sum", "42"]] })
      assert.strictEqual(answer.body.toString(), "body")
    })
  )

  it.live("16 MiB come down unharmed, in chunks of at most 64 KiB", () =>
    Effect.gen(function* () {
      const data = randomBytes(16 * MiB)
      const port = yield* serve((_request, response) => response.end(data))
      const hub = yield* forward(port)
      hub.down(route(1), get("/"))
      const answer = yield* readAnswer(hub, route(1))
      assert.strictEqual(sha256(answer.body), sha256(data))
      const largest = Math.max(
        ...answer.frames.map((frame) => (frame._tag === "ResponseChunk" ? frame.body.length : 0))
      )
      assert.isAtMost(largest, limits.chunkBytesMax)
    })
  )

  it.live("16 MiB go up unharmed, on the credit the runner grants", () =>
    Effect.gen(function* () {
      const data = randomBytes(16 * MiB)
      const port = yield* serve((request, response) => {
        const hash = createHash("sha256")
        request.on("data", (chunk) => hash.update(chunk)).on("end", () => response.end(hash.digest("hex")))
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/", { method: "POST", streamed: true }))
      let offset = 0
      let credit = limits.windowBytesInitial
      let answer: ResponseFrame | undefined
      while (answer === undefined) {
        while (offset < data.length && credit > 0) {
          const piece = Math.min(credit, limits.chunkBytesMax, data.length - offset)
          const body = data.subarray(offset, offset + piece)
          offset += piece
          credit -= piece
          hub.down(route(1), { _tag: "RequestChunk", body, finish: offset === data.length })
        }
        const { frame } = yield* hub.next
        if (frame._tag === "Credit") credit += frame.bytes
        else answer = frame
      }
      assert(answer._tag === "ResponseStart")
      assert.strictEqual(text(answer.body), sha256(data))
    })
  )

  it.live("frames a body as it came: by length, in chunks, or not at all", () =>
    Effect.gen(function* () {
      const port = yield* serve((request, response) => {
        const chunks: Array<Buffer> = []
        request
          .on("data", (chunk) => chunks.push(chunk))
          .on("end", () => {
            const { "content-length": length, "transfer-encoding": encoding } = request.headers
            response.end(JSON.stringify([length ?? null, encoding ?? null, Buffer.concat(chunks).toString()]))
          })
      })
      const hub = yield* forward(port)
      const ask = Effect.fnUntraced(function* (id: number, over: Parameters<typeof get>[1], rest?: string) {
        hub.down(route(id), get("/", over))
        if (rest !== undefined) hub.down(route(id), { _tag: "RequestChunk", body: bytes(rest), finish: true })
        return JSON.parse((yield* readAnswer(hub, route(id))).body.toString())
      })
      assert.deepStrictEqual(yield* ask(1, {}), [null, null, ""])
      assert.deepStrictEqual(yield* ask(2, { method: "POST" }), ["0", null, ""])
      assert.deepStrictEqual(yield* ask(3, { method: "POST", body: bytes("abc") }), ["3", null, "abc"])
      assert.deepStrictEqual(yield* ask(4, { method: "DELETE", streamed: true }, "abc"), [null, "chunked", "abc"])
      const length = { method: "PUT", streamed: true, headers: [["content-length", "3"]] } as const
      assert.deepStrictEqual(yield* ask(5, length, "abc"), ["3", null, "abc"])
    })
  )

  it.live("a visitor that grants nothing stops the app after one window", () =>
    Effect.gen(function* () {
      let written = 0
      const port = yield* serve((_request, response) => {
        const chunk = Buffer.alloc(64 * 1024)
        const write = () => {
          while (written < 64 * MiB) {
            written += chunk.length
            if (!response.write(chunk)) return void response.once("drain", write)
          }
          response.end()
        }
        write()
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/"))
      let received = 0
      while (received < limits.windowBytesInitial) {
        const { frame } = yield* hub.next
        if (frame._tag === "ResponseChunk") received += frame.body.length
      }
      // Everything that can move has moved once the app's counter stands still.
      let before = -1
      while (before !== written) {
        before = written
        yield* Effect.sleep(50)
      }
      assert.strictEqual(received, limits.windowBytesInitial)
      assert.strictEqual(yield* Queue.size(hub.frames), 0)
      // The rest sits in the kernel's buffers of the loopback, which are not ours to bound.
      assert.isBelow(written, 16 * MiB)
      hub.down(route(1), { _tag: "Credit", bytes: 1000 })
      const { frame } = yield* hub.next
      assert(frame._tag === "ResponseChunk")
      assert.strictEqual(frame.body.length, 1000)
    })
  )

  it.live("an app that does not read stops the visitor after one window", () =>
    Effect.gen(function* () {
      const reading = yield* Deferred.make<http.IncomingMessage>()
      const port = yield* serve((request) => {
        Deferred.doneUnsafe(reading, Effect.succeed(request))
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/", { method: "POST", streamed: true }))
      let credit = limits.windowBytesInitial
      let sent = 0
      const push = () => {
        while (credit > 0) {
          const piece = Math.min(credit, limits.chunkBytesMax)
          hub.down(route(1), { _tag: "RequestChunk", body: new Uint8Array(piece), finish: false })
          credit -= piece
          sent += piece
        }
      }
      push()
      yield* Deferred.await(reading)
      while (true) {
        const granted = yield* Effect.timeoutOption(hub.next, 200)
        if (granted._tag === "None") break
        if (granted.value.frame._tag === "Credit") credit += granted.value.frame.bytes
        push()
      }
      const stuckAt = sent
      assert.isBelow(stuckAt, 16 * MiB)
      ;(yield* Deferred.await(reading)).resume()
      const { frame } = yield* hub.next
      assert.strictEqual(frame._tag, "Credit")
    })
  )

  it.live("the head and each event of a stream leave at once", () =>
    Effect.gen(function* () {
      const responses = yield* Queue.unbounded<http.ServerResponse>()
      const port = yield* serve((_request, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.flushHeaders()
        Queue.offerUnsafe(responses, response)
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/"))
      assert.deepInclude(yield* hub.answer, { _tag: "ResponseStart", status: 200, streamed: true })
      const response = yield* Queue.take(responses)
      response.write("data: 1\n\n")
      const first = yield* hub.answer
      assert.strictEqual(first._tag === "ResponseChunk" ? text(first.body) : "", "data: 1\n\n")
      response.end("data: 2\n\n")
      const second = yield* hub.answer
      assert.strictEqual(second._tag === "ResponseChunk" ? text(second.body) : "", "data: 2\n\n")
      assert.deepInclude(yield* hub.answer, { _tag: "ResponseChunk", finish: true })
    })
  )

  it.live("a visitor that leaves ends the app's request at once, and nothing more of it is sent", () =>
    Effect.gen(function* () {
      const closed = yield* Deferred.make<void>()
      const port = yield* serve((_request, response) => {
        response.write("x")
        response.on("close", () => Deferred.doneUnsafe(closed, Effect.void))
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/"))
      yield* hub.answer
      hub.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
      yield* Deferred.await(closed)
      hub.down(route(2), get("/", { method: "HEAD" }))
      const later = yield* Queue.takeAll(hub.frames)
      assert.isTrue(later.every(({ frame, route }) => route.requestId === 1 && frame._tag === "ResponseChunk"))
    })
  )

  it.live("a request given up on a kept connection is not sent again", () =>
    Effect.gen(function* () {
      const seen = yield* Queue.unbounded<string>()
      const closed = yield* Deferred.make<void>()
      const port = yield* serve((request, response) => {
        Queue.offerUnsafe(seen, request.url ?? "")
        if (request.url !== "/wait") return void response.end("ok")
        response.on("close", () => Deferred.doneUnsafe(closed, Effect.void))
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/first"))
      yield* readAnswer(hub, route(1))
      hub.down(route(2), get("/wait"))
      assert.deepStrictEqual([yield* Queue.take(seen), yield* Queue.take(seen)], ["/first", "/wait"])
      hub.down(route(2), { _tag: "RequestAbort", code: "cancelled" })
      yield* Deferred.await(closed)
      hub.down(route(3), get("/last"))
      yield* readAnswer(hub, route(3))
      assert.deepStrictEqual(yield* Queue.takeAll(seen), ["/last"])
    })
  )

  it.live("an app that breaks off in its answer aborts it, and one that hangs up before it does too", () =>
    Effect.gen(function* () {
      const port = yield* serve((request, response) => {
        if (request.url === "/before") return void request.socket.destroy()
        response.writeHead(200, { "content-length": "1000" })
        response.write("only this")
        setImmediate(() => request.socket.destroy())
      })
      const hub = yield* forward(port)
      hub.down(route(1), get("/during"))
      const during = yield* readAnswer(hub, route(1))
      assert.strictEqual(during.status, 200)
      assert.deepInclude(during.end, { _tag: "ResponseAbort", code: "app_failed" })
      hub.down(route(2), get("/before"))
      assert.deepInclude((yield* readAnswer(hub, route(2))).end, { _tag: "ResponseAbort", code: "app_failed" })
    })
  )

  for (const [what, answer] of [
    ["is not HTTP", "220 mail.example ESMTP\r\n\r\n"],
    ["has two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"],
    ["has a length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["is coded in a way nobody here can undo", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"],
    ["has a head beyond all bounds", `HTTP/1.1 200 OK\r\nX: ${"a".repeat(limits.headBytesMax)}\r\n\r\n`]
  ] as const) {
    it.live(`an answer that ${what} breaks the rules, and is told as such`, () =>
      Effect.gen(function* () {
        const server = net.createServer((socket) => {
          socket.on("error", () => {})
          socket.once("data", () => socket.end(answer))
        })
        const hub = yield* forward(yield* listen(server as http.Server))
        hub.down(route(1), get("/"))
        assert.deepInclude((yield* readAnswer(hub, route(1))).end, { _tag: "ResponseAbort", code: "protocol_error" })
      })
    )
  }

  it.live("a head of many small headers loses none of them", () =>
    Effect.gen(function* () {
      const count = 5_000
      const server = net.createServer((socket) => {
        socket.on("error", () => {})
        socket.once("data", () => socket.end(`HTTP/1.1 204 No Content\r\n${"X: y\r\n".repeat(count)}\r\n`))
      })
      const hub = yield* forward(yield* listen(server as http.Server))
      hub.down(route(1), get("/"))
      assert.strictEqual((yield* readAnswer(hub, route(1))).headers.length, count)
    })
  )

  it.live("says what to do where no app listens", () =>
    Effect.gen(function* () {
      const port = yield* Effect.scoped(listen(http.createServer()))
      const hub = yield* forward(port)
      hub.down(route(1), get("/"))
      const { end } = yield* readAnswer(hub, route(1))
      assert(end._tag === "ResponseAbort")
      assert.strictEqual(end.code, "app_unreachable")
      assert.match(
        end.message,
        new RegExp(`nothing answers at http://127.0.0.1:${port} \\(ECONNREFUSED\\); is the app running`)
      )
    })
  )

  it.live("a burst of requests finds the connections of the last one, however many they were", () =>
    Effect.gen(function* () {
      const together = 400
      let connections = 0
      let waiting: Array<http.ServerResponse> = []
      const server = http.createServer((_request, response) => {
        waiting.push(response)
        if (waiting.length < together) return
        for (const each of waiting) each.end("ok")
        waiting = []
      })
      server.on("connection", () => connections++)
      const hub = yield* forward(yield* listen(server))
      for (let burst = 0; burst < 3; burst++) {
        const ids = Array.from({ length: together }, (_, i) => burst * together + i + 1)
        for (const id of ids) hub.down(route(id), get("/"))
        for (const id of ids) assert.strictEqual((yield* readAnswer(hub, route(id))).body.toString(), "ok")
      }
      assert.strictEqual(connections, together)
    })
  )

  it.live("keeps connections to the app, and asks again on a fresh one where a kept one turns out dead", () =>
    Effect.gen(function* () {
      let connections = 0
      const server = net.createServer((socket) => {
        const first = ++connections === 1
        let requests = 0
        socket.on("error", () => {})
        socket.on("data", () => {
          if (first && ++requests === 3) return socket.resetAndDestroy()
          socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        })
      })
      const port = yield* listen(server as http.Server)
      const hub = yield* forward(port)
      for (let id = 1; id <= 3; id++) {
        hub.down(route(id), get("/"))
        assert.strictEqual((yield* readAnswer(hub, route(id))).body.toString(), "ok")
      }
      assert.strictEqual(connections, 2)
    })
  )
})
