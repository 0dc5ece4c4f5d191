import type * as http from "node:http"
import * as net from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Option, Queue, Redacted, type Scope } from "effect"
import { WebSocket } from "ws"
import { Gateway, type GatewayOptions } from "../../src/gateway/Gateway.ts"
import { Hub, type RunnerPeer } from "../../src/hub/Hub.ts"
import { NodeServer, layer as nodeServer } from "../../src/server/NodeServer.ts"
import type { MessageSocket } from "../../src/socket/MessageSocket.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { bytes, type Conversation, chunk, type Ends, fakeHub, gatewayAlone, head, text } from "../gateway/FakeHub.ts"

/** Runners that reached the hub. */
interface Arrival {
  readonly socket: MessageSocket
  readonly peer: RunnerPeer
}

const arrivals: Array<Arrival> = []
const hubStub = Layer.mock(Hub)({
  accept: (socket, peer) =>
    Effect.suspend(() => {
      arrivals.push({ socket, peer })
      return Effect.ignore(Effect.forever(socket.pull))
    })
})

const served = (ends?: Ends, options: GatewayOptions = {}, more: { readonly requestHeadMs?: number } = {}) =>
  nodeServer({ host: "127.0.0.1", port: 0, ...more }).pipe(
    Layer.provideMerge(gatewayAlone(options, ends)),
    Layer.provide(hubStub)
  )

const start = Effect.gen(function* () {
  const hub = yield* fakeHub()
  const { port } = yield* NodeServer
  return { hub, port }
})

/** A raw connection that gathers what it reads. */
class Raw {
  readonly socket: net.Socket
  private got = Buffer.alloc(0)
  private listeners: Array<() => void> = []
  closed = false

  constructor(port: number) {
    this.socket = net.connect(port, "127.0.0.1")
    this.socket.on("error", () => {})
    this.socket.on("data", (data) => {
      this.got = Buffer.concat([this.got, data])
      this.changed()
    })
    this.socket.on("close", () => {
      this.closed = true
      this.changed()
    })
  }

  private changed() {
    for (const f of [...this.listeners]) f()
  }

  get text() {
    return this.got.toString("latin1")
  }

  write(...lines: ReadonlyArray<string>) {
    this.socket.write(lines.join("\r\n"))
  }

  /** Waits until what was read fulfils `done`, or the connection has closed. */
  until(done: (text: string) => boolean): Effect.Effect<string> {
    return Effect.callback<string>((resume) => {
      const check = () => {
        if (!done(this.text) && !this.closed) return
        this.listeners = this.listeners.filter((f) => f !== check)
        resume(Effect.succeed(this.text))
      }
      this.listeners.push(check)
      check()
    })
  }

  get ended() {
    return this.until(() => false)
  }
}

const raw = (port: number): Effect.Effect<Raw, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => new Raw(port)),
    (connection) => Effect.sync(() => connection.socket.destroy())
  )

const getHead = (path: string, ...more: ReadonlyArray<string>) =>
  [`GET ${path} HTTP/1.1`, "Host: web.localhost", ...more, "", ""].join("\r\n")

const app = (reply: (conversation: Conversation) => Effect.Effect<unknown>, next: Effect.Effect<Conversation>) =>
  Effect.forkScoped(Effect.forever(Effect.flatMap(next, reply)))

/** The visitor's end of a WebSocket over `ws`. */
const dial = (
  port: number,
  path: string,
  options: { protocols?: Array<string>; headers?: Record<string, string> } = {}
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`, options.protocols ?? [], {
        headers: { host: "web.localhost", ...options.headers },
        perMessageDeflate: false
      })
      const messages = Effect.runSync(Queue.unbounded<readonly [string, boolean]>())
      const opened = Deferred.makeUnsafe<http.IncomingMessage | "open">()
      const closed = Deferred.makeUnsafe<readonly [number, string]>()
      ws.on("error", () => {})
      ws.on("open", () => Deferred.doneUnsafe(opened, Effect.succeed("open" as const)))
      ws.on("unexpected-response", (_, response) => Deferred.doneUnsafe(opened, Effect.succeed(response)))
      ws.on("message", (data, binary) => Queue.offerUnsafe(messages, [data.toString(), binary] as const))
      ws.on("close", (code, reason) => Deferred.doneUnsafe(closed, Effect.succeed([code, reason.toString()] as const)))
      return {
        ws,
        opened: Deferred.await(opened),
        closed: Deferred.await(closed),
        next: Queue.take(messages)
      }
    }),
    ({ ws }) => Effect.sync(() => ws.terminate())
  )

const bodyOf = (response: http.IncomingMessage) =>
  Effect.callback<string>((resume) => {
    let got = ""
    response.on("data", (data) => {
      got += data
    })
    response.on("end", () => resume(Effect.succeed(got)))
  })

describe("HTTP over real sockets", () => {
  it.live("a GET gets headers as the app wrote them, in order and with duplicates", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/a", "X-Twice: 1", "x-twice: 2"))
      const conversation = yield* hub.next
      const { frame } = conversation.opening
      if (frame._tag !== "RequestStart") return assert.fail(frame._tag)
      assert.deepStrictEqual(
        frame.headers.filter(([name]) => name.toLowerCase() === "x-twice"),
        [
          ["X-Twice", "1"],
          ["x-twice", "2"]
        ]
      )
      yield* conversation.reply(
        head(false, "hello", [
          ["Set-Cookie", "a=1"],
          ["X-Between", "y"],
          ["Set-Cookie", "b=2"]
        ])
      )
      const got = yield* visitor.until((t) => t.endsWith("hello"))
      assert.match(
        got,
        /^HTTP\/1\.1 200 OK\r\nSet-Cookie: a=1\r\nX-Between: y\r\nSet-Cookie: b=2\r\ncontent-length: 5\r\n/
      )
    }).pipe(Effect.provide(served()))
  )

  it.live("a small POST is one frame, also when its body came chunked", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write("POST / HTTP/1.1", "Host: web.localhost", "Content-Length: 4", "", "body")
      const fixed = (yield* hub.next).opening.frame
      assert.deepInclude(fixed, { body: Buffer.from("body"), streamed: false })
      const other = yield* raw(port)
      other.write("POST / HTTP/1.1", "Host: web.localhost", "Transfer-Encoding: chunked", "", "3", "abc", "0", "", "")
      const chunked = (yield* hub.next).opening.frame
      assert.deepInclude(chunked, { body: Buffer.from("abc"), streamed: false })
    }).pipe(Effect.provide(served()))
  )

  it.live("a large upload arrives whole, with its trailers, and the connection serves the next request", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write("POST / HTTP/1.1", "Host: web.localhost", "Transfer-Encoding: chunked", "", "")
      const size = 1_000_000
      visitor.socket.write(`${size.toString(16)}\r\n`)
      visitor.socket.write(bytes(size))
      visitor.write("", "0", "X-Sum: 9", "", "")
      const conversation = yield* hub.next
      let total = 0
      let last = conversation.opening.frame
      if (last._tag === "RequestStart") total += last.body.length
      while (last._tag !== "RequestTrailers") {
        last = yield* conversation.next
        if (last._tag !== "RequestChunk") continue
        total += last.body.length
        yield* conversation.reply({ _tag: "Credit", bytes: last.body.length })
      }
      assert.deepStrictEqual([total, last.headers], [size, [["X-Sum", "9"]]])
      yield* conversation.reply(head(false, "first"))
      yield* visitor.until((t) => t.endsWith("first"))
      visitor.write(getHead("/again"))
      yield* (yield* hub.next).reply(head(false, "second"))
      assert.match(yield* visitor.until((t) => t.endsWith("second")), /first.*second$/s)
    }).pipe(Effect.provide(served()))
  )

  it.live("103 and trailers reach the visitor", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/"))
      const conversation = yield* hub.next
      yield* conversation.reply({ _tag: "Informational", status: 103, headers: [["link", "</s.css>"]] })
      yield* visitor.until((t) => t.endsWith("\r\n\r\n"))
      yield* conversation.reply(head(true, "x"), { _tag: "ResponseTrailers", headers: [["x-md", "1"]] })
      const got = yield* visitor.until((t) => t.endsWith("x-md: 1\r\n\r\n"))
      assert.match(got, /^HTTP\/1\.1 103 Early Hints\r\nlink: <\/s\.css>\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
      assert.match(got, /\r\n\r\n1\r\nx\r\n0\r\nx-md: 1\r\n\r\n$/)
    }).pipe(Effect.provide(served()))
  )

  it.live("HEAD, 204 and 304 have no body, and the connection goes on", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write("HEAD / HTTP/1.1", "Host: web.localhost", "", "")
      yield* (yield* hub.next).reply(head(false, "", [["content-length", "12"]]))
      assert.include(yield* visitor.until((t) => t.endsWith("\r\n\r\n")), "content-length: 12")
      for (const status of [204, 304]) {
        visitor.write(getHead(`/${status}`))
        yield* (yield* hub.next).reply({ ...head(false), status })
        const got = yield* visitor.until((t) => t.includes(` ${status} `) && t.endsWith("\r\n\r\n"))
        const last = got.slice(got.lastIndexOf("HTTP/1.1"))
        assert.notMatch(last, /transfer-encoding|content-length/i)
      }
      visitor.write(getHead("/", "Connection: close"))
      yield* (yield* hub.next).reply(head(false, "end"))
      assert.match(yield* visitor.ended, /Connection: close\r\n(?:[^\r]+\r\n)*\r\nend$/i)
    }).pipe(Effect.provide(served()))
  )

  it.live("pipelined requests are answered in their order, whatever order the app answers in", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/1") + getHead("/2"))
      const first = yield* hub.next
      const second = yield* hub.next
      yield* second.reply(head(false, "two"))
      yield* first.reply(head(false, "one"))
      assert.match(yield* visitor.until((t) => t.endsWith("two")), /one.*two$/s)
    }).pipe(Effect.provide(served()))
  )

  it.live("a visitor that leaves, also with a pipelined request behind, is told to every app within 100 ms", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/1") + getHead("/2"))
      const first = yield* hub.next
      const second = yield* hub.next
      yield* first.reply(head(true, "half"))
      yield* second.reply(head(true, "other"))
      yield* visitor.until((t) => t.includes("half"))
      visitor.socket.resetAndDestroy()
      const abort = { _tag: "RequestAbort", code: "cancelled" } as const
      assert.deepStrictEqual(yield* Effect.timeout(first.next, 100), abort)
      assert.deepStrictEqual(yield* Effect.timeout(second.next, 100), abort)
      const gateway = yield* Gateway
      assert.strictEqual(yield* gateway.inFlight, 0)
      assert.deepStrictEqual(
        ends.list.map((end) => end.outcome),
        ["cancelled", "cancelled"]
      )
    }).pipe(Effect.provide(served(ends)))
  })

  it.live("a visitor that resets while its upload waits for credit is told to the app within 100 ms", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write("POST / HTTP/1.1", "Host: web.localhost", "Content-Length: 100000000", "", "")
      visitor.socket.write(bytes(32 * 1024 * 1024))
      const conversation = yield* hub.next
      yield* conversation.greet(limits.windowBytesInitial)
      yield* Effect.forever(Effect.timeout(conversation.next, 300)).pipe(Effect.ignore)
      visitor.socket.resetAndDestroy()
      const told = yield* Effect.timeout(conversation.next, 100)
      assert.deepStrictEqual(told, { _tag: "RequestAbort", code: "cancelled" })
    }).pipe(Effect.provide(served()))
  )

  it.live("an app's failure after the head breaks the transfer behind what was already sent", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/"))
      yield* (yield* hub.next).reply(head(true), chunk("all that there is"), {
        _tag: "ResponseAbort",
        code: "app_failed",
        message: ""
      })
      const got = yield* visitor.ended
      assert.include(got, "all that there is")
      assert.notMatch(got, /\r\n0\r\n\r\n$/)
    }).pipe(Effect.provide(served()))
  )

  it.live("to a visitor of HTTP/1.0 a broken transfer is a reset, because a close would be a clean end", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      const reset = Deferred.makeUnsafe<string | undefined>()
      visitor.socket.on("error", (error: NodeJS.ErrnoException) =>
        Deferred.doneUnsafe(reset, Effect.succeed(error.code))
      )
      visitor.write("GET / HTTP/1.0", "Host: web.localhost", "", "")
      const conversation = yield* hub.next
      yield* conversation.reply(head(true), chunk("part"))
      yield* visitor.until((t) => t.endsWith("part"))
      yield* conversation.reply({ _tag: "ResponseAbort", code: "app_failed", message: "" })
      assert.strictEqual(yield* Deferred.await(reset), "ECONNRESET")
    }).pipe(Effect.provide(served()))
  )

  it.live("a visitor that does not read stops the app at a window beyond what its socket takes", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.socket.pause()
      visitor.write(getHead("/big"))
      const conversation = yield* hub.next
      yield* conversation.reply(head(true))
      let credit = limits.windowBytesInitial
      let sent = 0
      // The kernel takes some megabytes for itself; after that the grants have to stop.
      for (;;) {
        while (credit >= limits.chunkBytesMax) {
          credit -= limits.chunkBytesMax
          sent += limits.chunkBytesMax
          yield* conversation.reply(chunk(bytes(limits.chunkBytesMax)))
        }
        const grant = yield* Effect.timeoutOption(conversation.next, 300)
        if (Option.isNone(grant)) break
        if (grant.value._tag === "Credit") credit += grant.value.bytes
        if (sent > 64 * 1024 * 1024) return assert.fail("never stopped")
      }
      visitor.socket.resume()
      const more = yield* conversation.next
      assert.strictEqual(more._tag, "Credit")
    }).pipe(Effect.provide(served()))
  )

  it.live("a visitor that keeps up earns a larger window, though whole windows arrive in one turn", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.socket.removeAllListeners("data").resume()
      visitor.write(getHead("/big"))
      const conversation = yield* hub.next
      yield* conversation.reply(head(true))
      let credit = limits.windowBytesInitial
      let sent = 0
      let granted = 0
      while (sent < 8 * 1024 * 1024) {
        const batch = Array.from({ length: Math.floor(credit / limits.chunkBytesMax) }, () =>
          chunk(bytes(limits.chunkBytesMax))
        )
        credit -= batch.length * limits.chunkBytesMax
        sent += batch.length * limits.chunkBytesMax
        if (batch.length > 0) yield* conversation.reply(...batch)
        const frame = yield* conversation.next
        if (frame._tag !== "Credit") return assert.fail(frame._tag)
        credit += frame.bytes
        granted += frame.bytes
      }
      assert.isAbove(granted - sent, 0)
    }).pipe(Effect.provide(served()))
  )

  it.live("a visitor that waits for 100 is asked for its body only once it is wanted", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write("PUT / HTTP/1.1", "Host: web.localhost", "Content-Length: 4", "Expect: 100-continue", "", "")
      const conversation = yield* hub.next
      yield* visitor.until((t) => t.startsWith("HTTP/1.1 100 Continue\r\n\r\n"))
      visitor.write("body")
      assert.deepInclude(yield* conversation.next, { finish: true })
      const unwanted = yield* raw(port)
      unwanted.write("PUT / HTTP/1.1", "Host: elsewhere", "Content-Length: 4", "Expect: 100-continue", "", "")
      assert.match(yield* unwanted.until((t) => t.includes("unknown_host")), /^HTTP\/1\.1 404/)
    }).pipe(Effect.provide(served()))
  )

  it.live("an upload that was answered early is read to its end, and the connection serves the next request", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      const size = 4_000_000
      visitor.write("PUT / HTTP/1.1", "Host: web.localhost", `Content-Length: ${size}`, "", "")
      visitor.socket.write(bytes(size))
      visitor.write(getHead("/next"))
      yield* (yield* hub.next).reply(head(false, "enough"))
      yield* (yield* hub.next).reply(head(false, "next"))
      assert.match(yield* visitor.until((t) => t.endsWith("next")), /enough.*next$/s)
    }).pipe(Effect.provide(served()))
  )

  it.live("an upload nobody reads to its end is cut a while after its answer", () =>
    Effect.gen(function* () {
      const { port } = yield* start
      const visitor = yield* raw(port)
      visitor.write("PUT / HTTP/1.1", "Host: elsewhere", "Content-Length: 1000000", "", "start")
      const got = yield* visitor.ended
      assert.match(got, /^HTTP\/1\.1 404/)
    }).pipe(Effect.provide(served()))
  )
})

describe("WebSockets over real sockets", () => {
  it.live("carry text, binary and fragments, and the subprotocol is the app's", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* dial(port, "/ws", { protocols: ["one", "two"] })
      const conversation = yield* hub.next
      yield* conversation.reply({
        _tag: "WebSocketOpen",
        headers: [
          ["sec-websocket-protocol", "two"],
          ["x-app", "1"]
        ],
        canHibernate: false
      })
      assert.strictEqual(yield* visitor.opened, "open")
      assert.strictEqual(visitor.ws.protocol, "two")
      visitor.ws.send("text")
      visitor.ws.send(Buffer.from("bin"))
      visitor.ws.send("fr", { fin: false })
      visitor.ws.send("ag", { fin: true })
      const down: Array<unknown> = []
      for (let i = 0; i < 3; i++) {
        const frame = yield* conversation.next
        if (frame._tag === "WebSocketMessage") down.push([Buffer.from(frame.data).toString(), frame.binary])
      }
      assert.deepStrictEqual(down, [
        ["text", false],
        ["bin", true],
        ["frag", false]
      ])
      const part = { _tag: "WebSocketMessage", binary: false } as const
      yield* conversation.reply(
        { ...part, data: text("to"), finish: false },
        { ...part, data: text("gether"), finish: true },
        { ...part, data: text("b"), binary: true, finish: true }
      )
      assert.deepStrictEqual(yield* visitor.next, ["together", false])
      assert.deepStrictEqual(yield* visitor.next, ["b", true])
    }).pipe(Effect.provide(served()))
  )

  it.live("keep close code and reason both ways", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const open = { _tag: "WebSocketOpen", headers: [], canHibernate: false } as const
      const leaving = yield* dial(port, "/1")
      const first = yield* hub.next
      yield* first.reply(open)
      yield* leaving.opened
      leaving.ws.close(4002, "enough")
      assert.deepStrictEqual(yield* first.next, { _tag: "WebSocketClose", code: 4002, reason: "enough" })
      const left = yield* dial(port, "/2")
      const second = yield* hub.next
      yield* second.reply(open, { _tag: "WebSocketClose", code: 4003, reason: "done", hibernate: false })
      assert.deepStrictEqual(yield* left.closed, [4003, "done"])
      const broken = yield* dial(port, "/3")
      const third = yield* hub.next
      yield* third.reply(open)
      yield* broken.opened
      broken.ws.terminate()
      assert.deepStrictEqual(yield* third.next, { _tag: "WebSocketClose", code: 1006, reason: "" })
    }).pipe(Effect.provide(served()))
  )

  for (const how of ["resetAndDestroy", "destroy"] as const) {
    it.live(
      `whose visitor is gone by ${how} while its messages wait for credit are told to the app within 100 ms`,
      () =>
        Effect.gen(function* () {
          const { hub, port } = yield* start
          const visitor = yield* raw(port)
          visitor.write(upgradeHead("/", "web.localhost"))
          const conversation = yield* hub.next
          yield* conversation.greet(limits.windowBytesInitial)
          yield* conversation.reply({ _tag: "WebSocketOpen", headers: [], canHibernate: false })
          yield* visitor.until((t) => t.endsWith("\r\n\r\n"))
          const message = Buffer.alloc(14 + 65_536)
          message.set([0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0])
          for (let i = 0; i < 300; i++) visitor.socket.write(message)
          yield* Effect.forever(Effect.timeout(conversation.next, 300)).pipe(Effect.ignore)
          visitor.socket[how]()
          const told = yield* Effect.timeout(conversation.next, 100)
          assert.deepStrictEqual(told, { _tag: "WebSocketClose", code: 1006, reason: "" })
        }).pipe(Effect.provide(served()))
    )
  }

  it.live("that the app refuses get the app's answer; that nobody serves, a close code", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const refused = yield* dial(port, "/private")
      yield* (yield* hub.next).reply({ ...head(false, "no entry", [["x-why", "1"]]), status: 401 })
      const response = yield* refused.opened
      if (response === "open") return assert.fail("opened")
      assert.deepStrictEqual([response.statusCode, response.headers["x-why"]], [401, "1"])
      assert.strictEqual(yield* bodyOf(response), "no entry")
      const nobody = yield* dial(port, "/", { headers: { host: "ghost.localhost" }, protocols: ["p"] })
      assert.deepStrictEqual(yield* nobody.closed, [1013, "no_runner"])
    }).pipe(Effect.provide(served()))
  )

  it.live("whose visitor leaves during the handshake are told to the app", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(upgradeHead("/", "web.localhost"))
      const conversation = yield* hub.next
      visitor.socket.end()
      assert.deepStrictEqual(yield* conversation.next, { _tag: "WebSocketClose", code: 1006, reason: "" })
    }).pipe(Effect.provide(served()))
  )

  it.live("with early data in the same packet as the handshake lose none of it", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      const frame = Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69])
      visitor.socket.write(Buffer.concat([Buffer.from(upgradeHead("/", "web.localhost")), frame]))
      const conversation = yield* hub.next
      visitor.socket.write(frame)
      yield* conversation.reply({ _tag: "WebSocketOpen", headers: [], canHibernate: false })
      for (let i = 0; i < 2; i++) {
        const message = yield* conversation.next
        assert.strictEqual(message._tag === "WebSocketMessage" && Buffer.from(message.data).toString(), "hi")
      }
    }).pipe(Effect.provide(served()))
  )
})

const upgradeHead = (path: string, host: string, ...more: ReadonlyArray<string>) =>
  [
    `GET ${path} HTTP/1.1`,
    `Host: ${host}`,
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ...more,
    "",
    ""
  ].join("\r\n")

describe("runners", () => {
  it.live("with the subprotocol reach the hub, with their token", () =>
    Effect.gen(function* () {
      const { port } = yield* start
      const before = arrivals.length
      const runner = yield* dial(port, "/runners/connect", {
        protocols: ["wayleave.1"],
        headers: { host: "127.0.0.1", authorization: "Bearer s3cret" }
      })
      assert.strictEqual(yield* runner.opened, "open")
      assert.strictEqual(runner.ws.protocol, "wayleave.1")
      const arrival = arrivals[before]
      assert.isDefined(arrival)
      if (arrival === undefined) return
      assert.strictEqual(Option.getOrThrow(Option.map(arrival.peer.token, Redacted.value)), "s3cret")
      assert.strictEqual(arrival.peer.remoteAddress, "127.0.0.1")
    }).pipe(Effect.provide(served()))
  )

  it.live("without it are told what is missing; a browser on that path, what it is", () =>
    Effect.gen(function* () {
      const { port } = yield* start
      const wrong = yield* raw(port)
      wrong.write(upgradeHead("/runners/connect", "127.0.0.1"))
      assert.match(yield* wrong.ended, /^HTTP\/1\.1 400 .*subprotocol wayleave\.1\n$/s)
      const browser = yield* raw(port)
      browser.write("GET /runners/connect HTTP/1.1", "Host: 127.0.0.1", "", "")
      assert.match(yield* browser.ended, /^HTTP\/1\.1 426 .*"code":"upgrade_required"/s)
    }).pipe(Effect.provide(served()))
  )

  it.live("and an app may have a path of the same name for itself", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/runners/connect"))
      yield* (yield* hub.next).reply(head(false, "mine"))
      assert.match(yield* visitor.until((t) => t.endsWith("mine")), /200 OK/)
    }).pipe(Effect.provide(served()))
  )
})

describe("what is not HTTP", () => {
  for (const [what, sent, expected] of [
    ["garbage", "\x00\x01\x02\xff not http\r\n\r\n", /^HTTP\/1\.1 400 .*"code":"bad_request"/s],
    ["a head that is too large", `GET / HTTP/1.1\r\nHost: a\r\nX: ${"y".repeat(80_000)}\r\n\r\n`, /^HTTP\/1\.1 431 /],
    [
      "two ways to frame a body",
      "POST / HTTP/1.1\r\nHost: web.localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
      /^HTTP\/1\.1 400 /
    ],
    [
      "two hosts",
      "GET / HTTP/1.1\r\nHost: web.localhost\r\nHost: b.localhost\r\nConnection: close\r\n\r\n",
      /^HTTP\/1\.1 400 /
    ],
    ["a request without a host", "GET / HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 .*"code":"bad_request"/s],
    [
      "a tunnel by CONNECT",
      "CONNECT web.localhost:80 HTTP/1.1\r\nHost: web.localhost\r\n\r\n",
      /^HTTP\/1\.1 400 .*"code":"bad_request"/s
    ],
    [
      "a transfer coding that nobody here can undo",
      "POST / HTTP/1.1\r\nHost: web.localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
      /^HTTP\/1\.1 400 .*"code":"bad_request"/s
    ],
    ...["ftp://web.localhost/", "/a#b", "*"].map(
      (target) =>
        [
          `the target ${target}`,
          `GET ${target} HTTP/1.1\r\nHost: web.localhost\r\nConnection: close\r\n\r\n`,
          /^HTTP\/1\.1 400 .*"code":"bad_request"/s
        ] as const
    ),
    [
      "a WebSocket over HTTP/1.0",
      upgradeHead("/", "web.localhost").replace("HTTP/1.1", "HTTP/1.0"),
      /^HTTP\/1\.1 400 /
    ],
    [
      "a WebSocket without a host",
      upgradeHead("/", "web.localhost").replace(/Host.*\r\n/, ""),
      /^HTTP\/1\.1 400 .*Host/s
    ],
    [
      "a WebSocket without a key",
      upgradeHead("/", "web.localhost").replace(/Sec-WebSocket-Key.*\r\n/, ""),
      /^HTTP\/1\.1 400 .*Sec-WebSocket-Key/s
    ]
  ] as const) {
    it.live(`${what} is refused, and the next visitor served`, () =>
      Effect.gen(function* () {
        const { hub, port } = yield* start
        const visitor = yield* raw(port)
        visitor.socket.write(sent, "latin1")
        assert.match(yield* visitor.ended, expected)
        const next = yield* raw(port)
        next.write(getHead("/"))
        yield* (yield* hub.next).reply(head(false, "fine"))
        assert.match(yield* next.until((t) => t.endsWith("fine")), /200 OK/)
      }).pipe(Effect.provide(served()))
    )
  }

  it.live("an upgrade to something else is served as the request it is", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(
        getHead("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP")
      )
      yield* (yield* hub.next).reply(head(false, "plain"))
      assert.match(yield* visitor.until((t) => t.endsWith("plain")), /^HTTP\/1\.1 200 OK/)
    }).pipe(Effect.provide(served()))
  )

  it.live("an expectation nobody here knows is no reason to refuse", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const visitor = yield* raw(port)
      visitor.write(getHead("/", "Expect: the-unexpected"))
      yield* (yield* hub.next).reply(head(false, "fine"))
      assert.match(yield* visitor.until((t) => t.endsWith("fine")), /^HTTP\/1\.1 200 OK/)
    }).pipe(Effect.provide(served()))
  )

  it.live("a head that does not end in time is told so, and cut", () =>
    Effect.gen(function* () {
      const { port } = yield* NodeServer
      const visitor = yield* raw(port)
      visitor.socket.write("GET / HTT")
      assert.match(yield* visitor.ended, /^HTTP\/1\.1 400 .*"code":"bad_request"/s)
    }).pipe(Effect.provide(served(undefined, {}, { requestHeadMs: 100 })), Effect.timeout(5_000))
  )

  it.live("connections that are reset at any point leave nothing behind", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      yield* app((conversation) => conversation.reply(head(true, "x")), hub.next)
      const gateway = yield* Gateway
      const whole = upgradeHead("/", "web.localhost")
      for (let i = 0; i < 60; i++) {
        const connection = yield* raw(port)
        const sent = i % 2 === 0 ? getHead("/") : whole
        connection.socket.write(sent.slice(0, Math.ceil((sent.length * (i + 1)) / 60)))
        if (i % 3 === 0) yield* Effect.yieldNow
        connection.socket.resetAndDestroy()
      }
      yield* Effect.timeout(gateway.drain, 3_000)
      assert.strictEqual(yield* gateway.inFlight, 0)
    }).pipe(Effect.provide(served()))
  )
})

describe("leaving", () => {
  it.live("makes each answer the last on its connection, and takes new ones until it is shut", () =>
    Effect.gen(function* () {
      const { hub, port } = yield* start
      const { leave, shut } = yield* NodeServer
      const kept = yield* raw(port)
      kept.write(getHead("/"))
      yield* (yield* hub.next).reply(head(false, "first"))
      assert.notMatch(yield* kept.until((t) => t.endsWith("first")), /connection: close/i)
      yield* leave
      kept.write(getHead("/"))
      yield* (yield* hub.next).reply(head(false, "second"))
      assert.match(yield* kept.ended, /connection: close.*second$/is)
      const late = yield* raw(port)
      late.write(getHead("/"))
      const slow = yield* hub.next
      yield* slow.reply(head(true, "begun"))
      yield* late.until((t) => t.includes("begun"))
      yield* shut
      const refused = yield* raw(port)
      assert.strictEqual(yield* refused.ended, "")
      yield* slow.reply(chunk(" and ended", true))
      assert.match(yield* late.ended, / and ended\r\n0\r\n\r\n$/)
    }).pipe(Effect.provide(served()))
  )
})

describe("closing", () => {
  it.live("ends idle and busy connections within its bound, and a busy one not cleanly", () =>
    Effect.gen(function* () {
      const connections = yield* Effect.scoped(
        Effect.gen(function* () {
          const context = yield* Layer.build(served())
          const { hub, port } = yield* Effect.provide(start, context)
          const idle = new Raw(port)
          const busy = new Raw(port)
          idle.write(getHead("/"))
          yield* (yield* hub.next).reply(head(false, "done"))
          yield* idle.until((t) => t.endsWith("done"))
          busy.write(getHead("/"))
          yield* (yield* hub.next).reply(head(true, "half"))
          yield* busy.until((t) => t.includes("half"))
          const visitor = yield* dial(port, "/")
          yield* (yield* hub.next).reply({ _tag: "WebSocketOpen", headers: [], canHibernate: false })
          yield* visitor.opened
          return { idle, busy, visitor }
        })
      )
      assert.notMatch(yield* connections.busy.ended, /\r\n0\r\n\r\n$/)
      yield* connections.idle.ended
      yield* connections.visitor.closed
    })
  )

  it.live("a port that is taken is an error with the system's word", () =>
    Effect.gen(function* () {
      const { port } = yield* NodeServer
      const layer = nodeServer({ host: "127.0.0.1", port }).pipe(Layer.provide([gatewayAlone(), hubStub]))
      const error = yield* Effect.flip(Effect.scoped(Layer.build(layer)))
      assert.deepInclude(error, { _tag: "ListenError", code: "EADDRINUSE", port })
    }).pipe(Effect.provide(served()))
  )
})
