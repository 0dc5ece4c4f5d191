import { assert, describe, it } from "@effect/vitest"
import { Clock, Deferred, Effect, Exit, Queue, References, Stream } from "effect"
import { TestClock } from "effect/testing"
import { toHub } from "../../src/protocol/Wayleave1.ts"
import type { RequestStream } from "../../src/runner/RequestStream.ts"
import { AppFailure, type RunnerApp } from "../../src/runner/RunnerApp.ts"
import { RunnerObserver } from "../../src/runner/RunnerObserver.ts"
import { RunnerSession } from "../../src/runner/RunnerSession.ts"
import type { WebSocketStream } from "../../src/runner/WebSocketStream.ts"
import { pair } from "../../src/socket/MessageSocket.ts"
import type { RouteKey } from "../../src/tunnel/Envelope.ts"
import { makeFork } from "../../src/tunnel/Fibers.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { bytes, get, route, soon, text } from "./FakeHub.ts"

type App = Partial<RunnerApp["Service"]>

/** A session by itself, its link written to memory; frames go in by `down`, with indices as a hub would count them. */
const start = Effect.fnUntraced(function* (app: App) {
  const fork = yield* makeFork
  const session = new RunnerSession({
    app: { request: () => Effect.never, webSocket: () => Effect.never, ...app },
    observer: yield* RunnerObserver,
    clock: yield* Clock.Clock,
    turn: soon,
    fork: (effect, ended) => fork(Effect.provideService(effect, References.MinimumLogLevel, "None"), ended),
    newId: () => new Uint8Array(16)
  })
  const [near, far] = pair({ protocol: "wayleave.1" })
  session.link.attach(near, 0)
  const indices = new Map<number, number>()
  const down = (to: RouteKey, frame: RequestFrame, index?: number) => {
    const sequenced = frame._tag !== "Credit" && frame._tag !== "RequestAbort"
    const next = indices.get(to.requestId) ?? 0
    if (sequenced) indices.set(to.requestId, next + 1)
    session.receive({ route: to, index: index ?? (sequenced ? next : 0), frame })
  }
  /** Everything sent since the last look. */
  const sent = Effect.gen(function* () {
    yield* settle
    const batch = yield* Effect.timeoutOption(far.pull, 0)
    if (batch._tag === "None") return [] as ReadonlyArray<ResponseFrame>
    return batch.value.flatMap(({ data }) => {
      const message = toHub.decode(data)
      return message._tag === "Frames" ? message.frames.map(({ frame }) => frame) : []
    })
  })
  return { session, down, sent }
})

const upload = get("/", { method: "POST", streamed: true })
const chunk = (size: number, finish = false): RequestFrame => ({
  _tag: "RequestChunk",
  body: new Uint8Array(size),
  finish
})

/** An app that hands its stream to the test and stays. */
const held = Effect.gen(function* () {
  const requests = yield* Queue.unbounded<RequestStream>()
  const sockets = yield* Queue.unbounded<WebSocketStream>()
  const exits = yield* Queue.unbounded<Exit.Exit<never>>()
  const stay = Effect.onExit(Effect.never, (exit) => Queue.offer(exits, exit))
  const app: App = {
    request: (stream) => Effect.andThen(Queue.offer(requests, stream), stay),
    webSocket: (stream) => Effect.andThen(Queue.offer(sockets, stream), stay)
  }
  return { app, request: Queue.take(requests), socket: Queue.take(sockets), exit: Queue.take(exits) }
})

describe("a stream at the runner", () => {
  it.effect("a repeated frame changes nothing", () =>
    Effect.gen(function* () {
      const { app, request } = yield* held
      const { down, sent } = yield* start(app)
      down(route(1), upload)
      down(route(1), upload, 0)
      down(route(1), { _tag: "RequestChunk", body: bytes("a"), finish: false }, 1)
      down(route(1), { _tag: "RequestChunk", body: bytes("a"), finish: false }, 1)
      down(route(1), { _tag: "RequestChunk", body: bytes("b"), finish: true }, 2)
      const body = yield* Stream.runCollect((yield* request).body)
      assert.strictEqual(body.map(text).join(""), "ab")
      assert.deepStrictEqual(yield* sent, [])
    })
  )

  it.effect("a missing frame resets that stream and no other", () =>
    Effect.gen(function* () {
      const { app, exit } = yield* held
      const { down, sent, session } = yield* start(app)
      down(route(1), upload)
      down(route(2), upload)
      down(route(1), chunk(10), 2)
      assert.deepInclude((yield* sent)[0], { _tag: "ResponseAbort", code: "gap" })
      assert.strictEqual(session.openStreams, 1)
      down(route(2), { _tag: "RequestAbort", code: "cancelled" })
      assert.isTrue(Exit.hasInterrupts(yield* exit))
    })
  )

  it.effect("more than was granted ends the stream with overflow", () =>
    Effect.gen(function* () {
      const { app } = yield* held
      const { down, sent } = yield* start(app)
      down(route(1), upload)
      for (let i = 0; i < 4; i++) down(route(1), chunk(64 * 1024))
      assert.deepStrictEqual(yield* sent, [])
      down(route(1), chunk(1))
      assert.deepInclude((yield* sent)[0], { _tag: "ResponseAbort", code: "overflow" })
    })
  )

  it.effect("a frame out of place ends the stream, and its app's fiber with it", () =>
    Effect.gen(function* () {
      const { app, exit } = yield* held
      const { down, sent } = yield* start(app)
      down(route(1), get("/"))
      down(route(1), { _tag: "WebSocketMessage", data: bytes("x"), binary: true, finish: true })
      assert.deepInclude((yield* sent)[0], { _tag: "ResponseAbort", code: "protocol_error" })
      assert.isTrue(Exit.hasInterrupts(yield* exit))
    })
  )

  it.effect("what comes inside the head returns no credit; what comes after it does, a quarter window at a time", () =>
    Effect.gen(function* () {
      const { app, request } = yield* held
      const { down, sent } = yield* start(app)
      const quarter = limits.windowBytesInitial / 4
      down(route(1), get("/", { method: "POST", streamed: true, body: new Uint8Array(quarter) }))
      const stream = yield* request
      yield* stream.pull
      assert.deepStrictEqual(yield* sent, [])
      down(route(1), chunk(quarter - 1))
      yield* stream.pull
      assert.deepStrictEqual(yield* sent, [])
      down(route(1), chunk(1))
      yield* stream.pull
      assert.deepStrictEqual(yield* sent, [{ _tag: "Credit", bytes: quarter }])
    })
  )

  it.effect("a body that is read as it comes widens its window, one that piles up does not", () =>
    Effect.gen(function* () {
      const { app, request } = yield* held
      const { down, sent } = yield* start(app)
      const quarter = limits.windowBytesInitial / 4
      const granted = Effect.map(sent, (frames) =>
        frames.reduce((sum, frame) => sum + (frame._tag === "Credit" ? frame.bytes : 0), 0)
      )
      down(route(1), upload)
      const quick = yield* request
      for (let i = 0; i < 4; i++) {
        down(route(1), chunk(quarter))
        yield* quick.pull
      }
      assert.strictEqual(yield* granted, 2 * limits.windowBytesInitial)
      down(route(2), upload)
      const slow = yield* request
      for (let i = 0; i < 4; i++) down(route(2), chunk(quarter))
      yield* slow.pull
      assert.strictEqual(yield* granted, limits.windowBytesInitial)
    })
  )

  it.effect("a body that trickles in costs no object a byte", () =>
    Effect.gen(function* () {
      const { app, request } = yield* held
      const { down } = yield* start(app)
      down(route(1), upload)
      for (let i = 0; i < 2_000; i++) down(route(1), chunk(1))
      const chunks = yield* (yield* request).pull
      assert.isBelow(chunks.length, 300)
      assert.strictEqual(
        chunks.reduce((sum, one) => sum + one.length, 0),
        2_000
      )
    })
  )

  it.effect("an answer beyond a chunk is cut, and waits for credit where it must", () =>
    Effect.gen(function* () {
      const done = yield* Deferred.make<void>()
      const size = limits.windowBytesInitial + 10
      const { down, sent } = yield* start({
        request: (stream) =>
          Effect.tap(stream.respond(200, [], new Uint8Array(size)), () => Deferred.succeed(done, undefined))
      })
      down(route(1), get("/"))
      const first = yield* sent
      assert.deepStrictEqual(
        first.map((frame) => (frame._tag === "ResponseChunk" ? frame.body.length : frame._tag)),
        ["ResponseStart", ...Array(4).fill(limits.chunkBytesMax)]
      )
      down(route(1), { _tag: "Credit", bytes: 1_000 })
      const rest = yield* sent
      assert.deepStrictEqual(
        rest.map((frame) => (frame._tag === "ResponseChunk" ? [frame.body.length, frame.finish] : frame._tag)),
        [
          [10, false],
          [0, true]
        ]
      )
      yield* Deferred.await(done)
    })
  )

  it.effect("an app that fails, returns too early, or throws is answered for", () =>
    Effect.gen(function* () {
      const { down, sent } = yield* start({
        request: (stream) => {
          switch (stream.target) {
            case "/fails":
              return Effect.fail(new AppFailure({ code: "app_unreachable", message: "gone" }))
            case "/returns":
              return Effect.void
            case "/half":
              return stream.start(200, [])
            case "/dies":
              return Effect.die("bug")
            default:
              throw new Error("bug")
          }
        }
      })
      const codes: Array<unknown> = []
      for (const [id, target] of ["/fails", "/returns", "/half", "/dies", "/throws"].entries()) {
        down(route(id), get(target))
        const last = (yield* sent).at(-1)
        codes.push(last?._tag === "ResponseAbort" ? last.code : last)
      }
      assert.deepStrictEqual(codes, ["app_unreachable", "app_failed", "app_failed", "app_failed", "app_failed"])
    })
  )

  it.effect("what an app may not say ends its stream instead of the connection", () =>
    Effect.gen(function* () {
      const say: Record<string, (stream: RequestStream) => void> = {
        "/status": (stream) => stream.startUnsafe(12.5, []),
        "/surrogate": (stream) => stream.startUnsafe(200, [["x", "\ud800"]]),
        "/large": (stream) => stream.startUnsafe(200, [["x", "a".repeat(limits.headBytesMax)]]),
        "/twice": (stream) => {
          stream.startUnsafe(200, [])
          stream.startUnsafe(200, [])
        },
        "/early": (stream) => stream.endUnsafe()
      }
      const { down, sent } = yield* start({
        request: (stream) => Effect.sync(() => say[stream.target]?.(stream))
      })
      for (const [id, target] of Object.keys(say).entries()) {
        down(route(id), get(target))
        assert.deepInclude((yield* sent).at(-1), { _tag: "ResponseAbort", code: "app_failed" }, target)
      }
    })
  )

  it.effect("after the visitor left nothing is sent, and what had not left is taken back", () =>
    Effect.gen(function* () {
      const { app, request } = yield* held
      const { down, sent, session } = yield* start(app)
      down(route(1), get("/"))
      const stream = yield* request
      stream.startUnsafe(200, [])
      stream.writeUnsafe(bytes("never read"))
      down(route(1), { _tag: "RequestAbort", code: "cancelled" })
      stream.writeUnsafe(bytes("nor this"))
      stream.endUnsafe()
      assert.deepStrictEqual(yield* sent, [])
      assert.strictEqual(session.openStreams, 0)
      assert.deepInclude(yield* Effect.flip(stream.pull), { _tag: "StreamAborted", code: "cancelled" })
    })
  )

  it.effect("a reset of the hub interrupts the app, and frames of unknown streams are counted and no more", () =>
    Effect.gen(function* () {
      const { app, exit } = yield* held
      const { down, sent, session } = yield* start(app)
      down(route(1), upload)
      session.reset(route(1), "unknown_route")
      assert.isTrue(Exit.hasInterrupts(yield* exit))
      down(route(1), chunk(10))
      down(route(1), { _tag: "Credit", bytes: 10 })
      session.reset(route(9), "cancelled")
      assert.strictEqual(session.unknownFrames, 2)
      assert.deepStrictEqual(yield* sent, [])
    })
  )

  it.effect("streams beyond the maximum are refused, and those before it live on", () =>
    Effect.gen(function* () {
      const { down, sent, session } = yield* start({})
      for (let id = 0; id < limits.streamsPerSessionMax; id++) down(route(id), get("/"))
      assert.deepStrictEqual(yield* sent, [])
      down(route(999_999), get("/"))
      assert.deepInclude((yield* sent)[0], { _tag: "ResponseAbort", code: "overloaded" })
      assert.strictEqual(session.openStreams, limits.streamsPerSessionMax)
    })
  )
})

describe("a WebSocket at the runner", () => {
  const open: RequestFrame = { _tag: "WebSocketOpen", target: "/", headers: [] }
  const message = (data: Uint8Array, finish = true): RequestFrame => ({
    _tag: "WebSocketMessage",
    data,
    binary: true,
    finish
  })

  it.effect("an app that goes on after the visitor closed has a while, not for ever", () =>
    Effect.gen(function* () {
      const { app, exit, socket } = yield* held
      const { down } = yield* start(app)
      down(route(1), open)
      const stream = yield* socket
      stream.acceptUnsafe([])
      down(route(1), message(bytes("last words")))
      down(route(1), { _tag: "WebSocketClose", code: 1001, reason: "gone" })
      assert.strictEqual(text((yield* stream.pull).data), "last words")
      assert.deepInclude(yield* Effect.flip(stream.pull), { _tag: "WebSocketClosed", code: 1001, reason: "gone" })
      const waiting = yield* Effect.forkChild(exit)
      yield* TestClock.adjust(limits.halfClosedMs - 1)
      assert.isUndefined(waiting.pollUnsafe())
      yield* TestClock.adjust(1)
      yield* settle
      assert.isDefined(waiting.pollUnsafe())
    })
  )

  it.effect("a message larger than any may be is answered by 1009", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* held
      const { down, sent } = yield* start(app)
      down(route(1), open)
      const stream = yield* socket
      stream.acceptUnsafe([])
      const part = new Uint8Array(limits.chunkBytesMax)
      for (let held = 0; held <= limits.messageBytesMax; held += part.length) {
        down(route(1), message(part, false))
        stream.takeMessageUnsafe()
      }
      assert.deepInclude((yield* sent).at(-1), { _tag: "WebSocketClose", code: 1009 })
    })
  )

  it.effect("messages without bytes cannot pile up without end", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* held
      const { down, sent } = yield* start(app)
      down(route(1), open)
      ;(yield* socket).acceptUnsafe([])
      for (let i = 0; i <= limits.framesHeldMax; i++) down(route(1), message(new Uint8Array(0)))
      assert.deepInclude((yield* sent).at(-1), { _tag: "ResponseAbort", code: "overflow" })
    })
  )

  it.effect("a message given up half-way ends the stream: nobody could make a message of the rest", () =>
    Effect.gen(function* () {
      const { app, socket } = yield* held
      const { down, sent } = yield* start(app)
      down(route(1), open)
      const stream = yield* socket
      stream.acceptUnsafe([])
      const sending = yield* Effect.forkChild(
        Effect.timeoutOption(stream.send(new Uint8Array(limits.windowBytesInitial + 1)), "1 second")
      )
      yield* settle
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.isDefined(sending.pollUnsafe())
      // What was sent fills the socket; the abort follows once that was read.
      yield* sent
      assert.deepInclude((yield* sent).at(-1), { _tag: "ResponseAbort", code: "app_failed" })
    })
  )

  it.effect("that was handed over stays open when its app's effect ends, and is told when its time is up", () =>
    Effect.gen(function* () {
      let upMs = -1
      const { down, sent } = yield* start({
        webSocket: (stream) =>
          Effect.clockWith((clock) =>
            Effect.sync(() => {
              stream.acceptUnsafe([])
              stream.handOverUnsafe()
              stream.whenReadableUnsafe(() => {
                stream.giveTimeUnsafe(() => {
                  upMs = clock.currentTimeMillisUnsafe()
                })
              })
            })
          )
      })
      down(route(1), open)
      assert.deepStrictEqual(
        (yield* sent).map(({ _tag }) => _tag),
        ["WebSocketOpen"]
      )
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(yield* sent, [])
      down(route(1), { _tag: "WebSocketClose", code: 1000, reason: "" })
      const closedMs = yield* Clock.currentTimeMillis
      yield* TestClock.adjust(limits.halfClosedMs)
      assert.strictEqual(upMs, closedMs + limits.halfClosedMs)
    })
  )

  it.effect("an app that returns without having accepted has failed", () =>
    Effect.gen(function* () {
      const { down, sent } = yield* start({ webSocket: () => Effect.void })
      down(route(1), open)
      assert.deepInclude((yield* sent)[0], { _tag: "ResponseAbort", code: "app_failed" })
    })
  )
})

/** Lets every fiber that can run do so. */
const settle = Effect.replicateEffect(Effect.yieldNow, 10, { discard: true })
