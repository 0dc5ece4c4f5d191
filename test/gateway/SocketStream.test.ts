import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Gateway } from "../../src/gateway/Gateway.ts"
import type { MessageSocket } from "../../src/socket/MessageSocket.ts"
import { MemoryUpgrade, type VisitorOptions } from "../../src/testing/MemoryVisitor.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { bytes, type Conversation, chunk, type Ends, fakeHub, gatewayAlone, head, settle, text } from "./FakeHub.ts"

const accept = (headers: ReadonlyArray<readonly [string, string]> = []): ResponseFrame => ({
  _tag: "WebSocketOpen",
  headers,
  canHibernate: false
})
const message = (data: Uint8Array, binary = true, finish = true): ResponseFrame => ({
  _tag: "WebSocketMessage",
  data,
  binary,
  finish
})

const visit = Effect.fnUntraced(function* (options: VisitorOptions = {}) {
  const gateway = yield* Gateway
  const visitor = new MemoryUpgrade(options)
  const fiber = yield* Effect.forkChild(gateway.upgrade(visitor.upgrade))
  return { visitor, fiber }
})

const accepted = Effect.fnUntraced(function* (visitor: MemoryUpgrade) {
  const answer = yield* visitor.answered
  return answer._tag === "Accepted" ? answer : assert.fail(`refused with ${answer.status}`)
})

/** A WebSocket that the app has accepted. */
const connected = Effect.gen(function* () {
  const hub = yield* fakeHub()
  const { visitor, fiber } = yield* visit()
  const app = yield* hub.next
  yield* app.reply(accept())
  const { socket } = yield* accepted(visitor)
  return { app, socket, fiber }
})

/** A visitor of whom the test itself keeps no more than how its handshake went. */
const visitUnkept = Effect.gen(function* () {
  const { visitor } = yield* visit()
  return { answered: visitor.answered, head: new WeakRef(visitor.upgrade.head), upgrade: new WeakRef(visitor.upgrade) }
})

const collectGarbage = Effect.sync(() => {
  setFlagsFromString("--expose-gc")
  runInNewContext("gc")()
})

const closeOf = (socket: MessageSocket) =>
  Effect.map(Effect.flip(Effect.forever(socket.pull)), ({ code, reason }) => [code, reason] as const)

const atRest = Effect.gen(function* () {
  const gateway = yield* Gateway
  yield* settle
  assert.strictEqual(yield* gateway.inFlight, 0)
  assert.strictEqual(yield* gateway.streams, 0)
})

/** Gathers whole messages from the frames that go down. */
const gather = Effect.fnUntraced(function* (app: Conversation) {
  const parts: Array<Uint8Array> = []
  for (;;) {
    const frame: RequestFrame = yield* app.next
    if (frame._tag !== "WebSocketMessage") return assert.fail(frame._tag)
    assert.isAtMost(frame.data.length, limits.chunkBytesMax)
    parts.push(frame.data)
    if (frame.finish) return { data: Buffer.concat(parts), binary: frame.binary }
  }
})

describe("a WebSocket", () => {
  it.effect("keeps nothing of the visitor's request once the app has accepted", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { answered, head, upgrade } = yield* visitUnkept
      const app = yield* hub.next
      yield* settle
      assert.isDefined(head.deref())
      yield* app.reply(accept())
      const answer = yield* answered
      assert.strictEqual(answer._tag, "Accepted")
      yield* settle
      yield* collectGarbage
      assert.deepStrictEqual([head.deref(), upgrade.deref()], [undefined, undefined])
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("opens with the app's headers and the subprotocol it chose", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({
        target: "/chat",
        headers: [
          ["Host", "web.localhost"],
          ["Upgrade", "websocket"],
          ["Connection", "upgrade"],
          ["Sec-WebSocket-Key", "abc"],
          ["Sec-WebSocket-Protocol", "a, b"]
        ]
      })
      const app = yield* hub.next
      const { frame } = app.opening
      if (frame._tag !== "WebSocketOpen") return assert.fail(frame._tag)
      assert.strictEqual(frame.target, "/chat")
      assert.deepStrictEqual(
        frame.headers.map(([name]) => name),
        ["Host", "Sec-WebSocket-Protocol", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "forwarded"]
      )
      yield* app.reply(
        accept([
          ["set-cookie", "a=1"],
          ["Sec-WebSocket-Protocol", "b"],
          ["sec-websocket-accept", "x"]
        ])
      )
      const answer = yield* accepted(visitor)
      assert.strictEqual(answer.socket.protocol, "b")
      assert.deepStrictEqual(answer.headers, [["set-cookie", "a=1"]])
    }).pipe(Effect.provide(gatewayAlone()))
  )

  for (const [offered, chosen, selected] of [
    ["chat, rivet", "", "rivet"],
    ["chat, rivet", "chat", "chat"],
    ["chat", "", ""]
  ] as const) {
    it.effect(`offered "${offered}" to an app that chose "${chosen}" selects "${selected}"`, () =>
      Effect.gen(function* () {
        const hub = yield* fakeHub()
        const { visitor } = yield* visit({
          headers: [
            ["Host", "web.localhost"],
            ["Sec-WebSocket-Protocol", offered]
          ]
        })
        yield* (yield* hub.next).reply(accept(chosen === "" ? [] : [["sec-websocket-protocol", chosen]]))
        assert.strictEqual((yield* accepted(visitor)).socket.protocol, selected)
      }).pipe(Effect.provide(gatewayAlone()))
    )
  }

  it.effect("carries text, binary, empty and fragmented messages both ways, in order", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      socket.sendUnsafe(text("hi"), { binary: false, finish: true })
      socket.sendUnsafe(bytes(0), { binary: true, finish: true })
      socket.sendUnsafe(bytes(150_000), { binary: true, finish: true })
      assert.deepStrictEqual(yield* gather(app), { data: Buffer.from("hi"), binary: false })
      assert.deepStrictEqual(yield* gather(app), { data: Buffer.alloc(0), binary: true })
      assert.strictEqual((yield* gather(app)).data.length, 150_000)
      yield* app.reply(message(text("a"), false, false), message(text("b"), false), message(bytes(0)))
      yield* settle
      const got = yield* socket.pull
      assert.deepStrictEqual(
        got.map(({ data, binary }) => [Buffer.from(data).toString(), binary]),
        [
          ["ab", false],
          ["", true]
        ]
      )
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("loses nothing that the app says between its yes and the open socket", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(accept(), message(text("early")), {
        _tag: "WebSocketClose",
        code: 4000,
        reason: "done",
        hibernate: false
      })
      const { socket } = yield* accepted(visitor)
      assert.strictEqual(Buffer.from((yield* socket.pull)[0].data).toString(), "early")
      assert.deepStrictEqual(yield* closeOf(socket), [4000, "done"])
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("the visitor's close code and reason reach the app behind its messages", () =>
    Effect.gen(function* () {
      const { app, socket, fiber } = yield* connected
      socket.sendUnsafe(text("last"), { binary: false, finish: true })
      socket.closeUnsafe(4321, "bye")
      assert.strictEqual((yield* gather(app)).data.toString(), "last")
      assert.deepStrictEqual(yield* app.next, { _tag: "WebSocketClose", code: 4321, reason: "bye" })
      yield* Fiber.join(fiber)
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  for (const [what, code, travels] of [
    ["no code", 1005, null],
    ["a broken socket", 1006, 1006]
  ] as const) {
    it.effect(`${what} travels as ${travels}`, () =>
      Effect.gen(function* () {
        const { app, socket } = yield* connected
        if (code === 1006) socket.terminateUnsafe()
        else socket.closeUnsafe(1005, "")
        assert.deepStrictEqual(yield* app.next, { _tag: "WebSocketClose", code: travels, reason: "" })
        yield* atRest
      }).pipe(Effect.provide(gatewayAlone()))
    )
  }

  it.effect("a broken socket does not wait behind messages that have no credit", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      socket.sendUnsafe(bytes(limits.windowBytesInitial + 1), { binary: true, finish: true })
      yield* settle
      socket.terminateUnsafe()
      yield* settle
      const frames = yield* app.pending
      assert.deepStrictEqual(frames.at(-1), { _tag: "WebSocketClose", code: 1006, reason: "" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("an orderly close waits for credit, but not for ever", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      socket.sendUnsafe(bytes(limits.windowBytesInitial + 1), { binary: true, finish: true })
      socket.sendUnsafe(text("never"), { binary: false, finish: true })
      socket.closeUnsafe(4001, "")
      yield* settle
      assert.isTrue((yield* app.pending).every((frame) => frame._tag === "WebSocketMessage"))
      yield* TestClock.adjust(limits.closeLingerMs)
      assert.deepStrictEqual(yield* app.next, { _tag: "WebSocketClose", code: 4001, reason: "" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("an orderly close leaves behind every message, where credit comes in time", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      socket.sendUnsafe(bytes(limits.windowBytesInitial + 1), { binary: true, finish: true })
      yield* settle
      socket.sendUnsafe(text("after"), { binary: false, finish: true })
      socket.closeUnsafe(4001, "in order")
      yield* settle
      yield* app.reply({ _tag: "Credit", bytes: 1000 })
      assert.strictEqual((yield* gather(app)).data.length, limits.windowBytesInitial + 1)
      assert.deepStrictEqual(yield* gather(app), { data: Buffer.from("after"), binary: false })
      assert.deepStrictEqual(yield* app.next, { _tag: "WebSocketClose", code: 4001, reason: "in order" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a visitor is stopped by the app's credit, and goes on with it", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      let sent = 0
      while (socket.sendUnsafe(bytes(60_000), { binary: true, finish: true })) {
        sent++
        yield* settle
        if (sent > 50) return assert.fail("never stopped")
      }
      const frames = yield* app.pending
      const down = frames.reduce((sum, frame) => sum + (frame._tag === "WebSocketMessage" ? frame.data.length : 0), 0)
      assert.strictEqual(down, limits.windowBytesInitial)
      yield* app.reply({ _tag: "Credit", bytes: 1_000_000 })
      yield* settle
      const more = (yield* app.pending).reduce(
        (sum, frame) => sum + (frame._tag === "WebSocketMessage" ? frame.data.length : 0),
        0
      )
      assert.strictEqual(down + more, (sent + 1) * 60_000)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a visitor that does not read is granted nothing until it does", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      const quarter = limits.windowBytesInitial / 4
      // The socket itself holds up to its mark; what it takes beyond that has to be read first.
      for (let i = 0; i < 4; i++) yield* app.reply(message(bytes(quarter)))
      yield* settle
      const granted = (yield* app.pending).reduce((sum, frame) => sum + (frame._tag === "Credit" ? frame.bytes : 0), 0)
      assert.strictEqual(granted, 3 * quarter)
      yield* socket.pull
      assert.deepStrictEqual(yield* app.next, { _tag: "Credit", bytes: quarter })
    }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("a WebSocket that fails", () => {
  it.effect("for want of a runner is accepted and closed with code and reason", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const { visitor } = yield* visit()
      const { socket } = yield* accepted(visitor)
      assert.deepStrictEqual(yield* closeOf(socket), [1013, "no_runner"])
      yield* atRest
      assert.deepInclude(ends.list[0], { outcome: "no_runner", kind: "websocket" })
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })

  it.effect("because the app refuses it gets the app's own answer", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply({ ...head(true, "no ", [["x-why", "1"]]), status: 401 }, chunk("entry", true))
      const answer = yield* visitor.answered
      if (answer._tag !== "Refused") return assert.fail(answer._tag)
      assert.deepStrictEqual([answer.status, Buffer.from(answer.body).toString()], [401, "no entry"])
      assert.deepInclude(answer.headers, ["x-why", "1"])
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("because the app closes it unaccepted gets the app's code, over the first subprotocol it offered", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({
        headers: [
          ["Host", "web.localhost"],
          ["Sec-WebSocket-Protocol", "one, two"]
        ]
      })
      yield* (yield* hub.next).reply({ _tag: "WebSocketClose", code: 4403, reason: "not you", hibernate: false })
      const { socket } = yield* accepted(visitor)
      assert.strictEqual(socket.protocol, "one")
      assert.deepStrictEqual(yield* closeOf(socket), [4403, "not you"])
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("because nobody answers is closed at the deadline, and the app told", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* settle
      yield* TestClock.adjust(limits.webSocketOpenMs)
      const { socket } = yield* accepted(visitor)
      assert.deepStrictEqual(yield* closeOf(socket), [1014, "response_start_timeout"])
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "deadline" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("after it was open is closed with the code of what happened", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* connected
      yield* app.reply(message(text("x")), { _tag: "ResponseAbort", code: "session_lost", message: "" })
      assert.strictEqual(Buffer.from((yield* socket.pull)[0].data).toString(), "x")
      assert.deepStrictEqual(yield* closeOf(socket), [1014, "runner_lost"])
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("to be refused by one hub is asked of another, once", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      yield* (yield* hub.opened).reply({ _tag: "ResponseAbort", code: "draining", message: "" })
      const app = yield* hub.next
      yield* app.reply(accept())
      yield* accepted(visitor)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("because its visitor left during the handshake is told to the app", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* settle
      visitor.leave()
      assert.deepStrictEqual(yield* app.next, { _tag: "WebSocketClose", code: 1006, reason: "" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )
})
