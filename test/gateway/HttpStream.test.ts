import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { BusError } from "../../src/bus/MessageBus.ts"
import { Gateway, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { MemoryVisitor, type VisitorOptions } from "../../src/testing/MemoryVisitor.ts"
import type { AbortCode, RequestFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { bytes, chunk, type Ends, fakeHub, gatewayAlone, head, settle, text } from "./FakeHub.ts"

const abort = (code: AbortCode) => ({ _tag: "ResponseAbort", code, message: "" }) as const
const tags = (frames: ReadonlyArray<RequestFrame>) => frames.map((frame) => frame._tag)

/** A visitor whose request the gateway serves in a fiber of its own. */
const visit = Effect.fnUntraced(function* (
  options: VisitorOptions = {},
  prepare: (v: MemoryVisitor) => void = () => {}
) {
  const gateway = yield* Gateway
  const visitor = new MemoryVisitor(options)
  prepare(visitor)
  const fiber = yield* Effect.forkChild(gateway.request(visitor.exchange))
  return { visitor, fiber }
})

/** Served and forgotten: nothing of the stream is left. */
const atRest = Effect.gen(function* () {
  const gateway = yield* Gateway
  yield* settle
  assert.strictEqual(yield* gateway.inFlight, 0)
  assert.strictEqual(yield* gateway.streams, 0)
})

describe("an HTTP request", () => {
  it.effect("without a body is one frame, and its answer reaches the visitor", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor, fiber } = yield* visit({ target: "/a?b=1" })
      const app = yield* hub.next
      assert.deepInclude(app.opening.frame, { _tag: "RequestStart", method: "GET", target: "/a?b=1", streamed: false })
      assert.strictEqual(app.opening.index, 0)
      yield* app.reply(head(false, "hello", [["X-A", "1"]]))
      const answer = yield* visitor.received
      yield* Fiber.join(fiber)
      assert.strictEqual(answer.state, "complete")
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual(answer.headers, [
        ["X-A", "1"],
        ["content-length", "5"]
      ])
      assert.strictEqual(visitor.text, "hello")
      assert.deepStrictEqual(yield* app.pending, [])
      assert.deepInclude(ends.list[0], { outcome: "ok", status: 200, bytesDown: 5, name: "web", kind: "http" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })

  it.effect("a small body that is at hand travels inside the opening frame", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      yield* visit({ method: "POST", hasBody: true }, (visitor) => {
        visitor.send(text("ab"))
        visitor.send(text("cd"))
        visitor.endBody()
      })
      const { frame } = (yield* hub.next).opening
      assert.isTrue(frame._tag === "RequestStart" && !frame.streamed)
      assert.strictEqual(frame._tag === "RequestStart" && Buffer.from(frame.body).toString(), "abcd")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("nothing beyond the opening frame leaves before the hub's first Credit, and then only what it grants", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true }, (v) => v.send(bytes(200_000)))
      const app = yield* hub.opened
      assert.strictEqual(visitor.untakenBytes, 200_000 - limits.chunkBytesMax)
      yield* settle
      assert.deepStrictEqual(yield* app.pending, [])
      yield* app.greet(100_000)
      const sizes = [yield* app.next, yield* app.next].map((f) => (f._tag === "RequestChunk" ? f.body.length : -1))
      assert.deepStrictEqual(sizes, [limits.chunkBytesMax, 100_000 - limits.chunkBytesMax])
      yield* settle
      assert.deepStrictEqual(yield* app.pending, [])
      visitor.endBody()
      yield* app.reply({ _tag: "Credit", bytes: 100_000 })
      assert.deepInclude(yield* app.next, { finish: true })
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("chunks are at most 64 KiB, numbered in order, and add up to the body", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "PUT", hasBody: true })
      const app = yield* hub.next
      visitor.send(bytes(250_000))
      visitor.endBody()
      let total = 0
      for (;;) {
        const frame = yield* app.next
        if (frame._tag !== "RequestChunk") return assert.fail(frame._tag)
        assert.isAtMost(frame.body.length, limits.chunkBytesMax)
        total += frame.body.length
        if (frame.finish) break
      }
      assert.strictEqual(total, 250_000)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("trailers go both ways, without what may not stand there", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true }, (v) => {
        v.send(text("x"))
        v.endBody([
          ["x-sum", "7"],
          ["content-length", "9"]
        ])
      })
      const app = yield* hub.next
      assert.deepInclude(app.opening.frame, { streamed: true })
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestTrailers", headers: [["x-sum", "7"]] })
      yield* app.reply(head(true, "y"), {
        _tag: "ResponseTrailers",
        headers: [
          ["x-md", "1"],
          ["Host", "evil"]
        ]
      })
      const answer = yield* visitor.received
      assert.deepStrictEqual(answer.trailers, [["x-md", "1"]])
      assert.strictEqual(answer.state, "complete")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a streamed head leaves before its body, each chunk as it comes, and 1xx before the head", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply({
        _tag: "Informational",
        status: 103,
        headers: [
          ["link", "</a>"],
          ["connection", "x"]
        ]
      })
      yield* app.reply(head(true))
      yield* settle
      assert.deepStrictEqual(visitor.answer.informational, [{ status: 103, headers: [["link", "</a>"]] }])
      assert.isTrue(visitor.answer.headFlushed)
      assert.strictEqual(visitor.answer.chunks.length, 0)
      yield* app.reply(chunk("a"))
      yield* settle
      assert.strictEqual(visitor.text, "a")
      yield* app.reply(chunk("b", true))
      assert.strictEqual((yield* visitor.received).state, "complete")
      assert.strictEqual(visitor.text, "ab")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  for (const [what, method, status] of [
    ["HEAD", "HEAD", 200],
    ["204", "GET", 204],
    ["304", "GET", 304]
  ] as const) {
    it.effect(`${what} has no body, whatever the app sends`, () =>
      Effect.gen(function* () {
        const hub = yield* fakeHub()
        const { visitor } = yield* visit({ method })
        const app = yield* hub.next
        yield* app.reply({ ...head(true, "abc", [["content-length", "10"]]), status }, chunk("def", true))
        const answer = yield* visitor.received
        assert.strictEqual(answer.state, "complete")
        assert.deepStrictEqual(answer.chunks, [])
        assert.strictEqual(answer.headers.length, status === 204 ? 0 : 1)
      }).pipe(Effect.provide(gatewayAlone()))
    )
  }
})

describe("flow control", () => {
  it.effect("a visitor that does not read stops the app after one window, and is granted what it has read", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ unreadBytesMax: 1 })
      const app = yield* hub.next
      const one = limits.windowBytesInitial / 4
      yield* app.reply(head(true), chunk(bytes(one)), chunk(bytes(one)), chunk(bytes(one)), chunk(bytes(one)))
      yield* settle
      assert.deepStrictEqual(yield* app.pending, [])
      assert.strictEqual(visitor.unreadBytes, limits.windowBytesInitial)
      visitor.read(limits.windowBytesInitial)
      assert.deepStrictEqual(yield* app.next, { _tag: "Credit", bytes: limits.windowBytesInitial })
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a visitor that keeps up earns a larger window", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true))
      let granted = 0
      for (let i = 0; i < 40; i++) {
        yield* app.reply(chunk(bytes(limits.chunkBytesMax)))
        yield* settle
        for (const frame of yield* app.pending) granted += frame._tag === "Credit" ? frame.bytes : 0
      }
      assert.isAbove(granted, 40 * limits.chunkBytesMax)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("an app that sends more than it was granted breaks its own stream and no other", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const greedy = yield* visit({ unreadBytesMax: 1 })
      const greedyApp = yield* hub.next
      const other = yield* visit()
      const otherApp = yield* hub.next
      yield* greedyApp.reply(head(true), chunk(bytes(limits.windowBytesInitial)), chunk(bytes(1)))
      assert.strictEqual((yield* greedy.visitor.received).state, "broken")
      assert.deepStrictEqual(yield* greedyApp.next, { _tag: "RequestAbort", code: "overflow" })
      yield* otherApp.reply(head(false, "fine"))
      assert.strictEqual((yield* other.visitor.received).state, "complete")
      yield* settle
      assert.deepStrictEqual(ends.list.map((end) => end.outcome).sort(), ["bad_response", "ok"])
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })
})

describe("when the visitor leaves", () => {
  it.effect("the runner is told at once", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true), chunk("half"))
      yield* settle
      visitor.leave()
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "cancelled" })
      assert.strictEqual(ends.list[0]?.outcome, "cancelled")
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })

  it.effect("before the hub has spoken, the abort goes as soon as the first Credit names it", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.opened
      visitor.leave()
      yield* settle
      assert.deepStrictEqual(yield* app.pending, [])
      yield* app.greet(0)
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "cancelled" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("and the hub never speaks, the stream is forgotten at the deadline", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      yield* hub.opened
      visitor.leave()
      yield* TestClock.adjust(limits.hubAnswerMs)
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("on the answer's last stretch, it counts as cancelled and the runner, done already, hears nothing", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ unreadBytesMax: 1 })
      const app = yield* hub.next
      yield* app.reply(head(false, "whole"))
      yield* settle
      visitor.leave()
      yield* atRest
      assert.deepStrictEqual(yield* app.pending, [])
      assert.strictEqual(ends.list[0]?.outcome, "cancelled")
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })
})

describe("failures", () => {
  /** What the visitor gets when the app's side does this. */
  const answered = Effect.fnUntraced(function* (
    reply: ReadonlyArray<Parameters<typeof Object>[0]>,
    options: VisitorOptions = {}
  ) {
    const hub = yield* fakeHub()
    const { visitor } = yield* visit(options)
    const app = yield* hub.next
    yield* app.reply(...(reply as ReadonlyArray<never>))
    const answer = yield* visitor.received
    yield* atRest
    const body = visitor.text
    return { answer, body, code: body.startsWith("{") ? (JSON.parse(body) as { code: string }).code : "" }
  })

  for (const [abortCode, status, code] of [
    ["cancelled", 502, "response_aborted"],
    ["deadline", 504, "response_start_timeout"],
    ["app_unreachable", 502, "app_unreachable"],
    ["session_lost", 502, "runner_lost"],
    ["protocol_error", 502, "bad_response"]
  ] as const) {
    it.effect(`an abort with ${abortCode} before the head is ${code}`, () =>
      Effect.gen(function* () {
        const { answer, code: got } = yield* answered([abort(abortCode)])
        assert.deepStrictEqual([answer.status, got, answer.state], [status, code, "complete"])
      }).pipe(Effect.provide(gatewayAlone()))
    )
  }

  it.effect("an abort after the head breaks the transfer, never ends it", () =>
    Effect.gen(function* () {
      const { answer } = yield* answered([head(true), chunk("half"), abort("app_failed")])
      assert.deepStrictEqual([answer.status, answer.state], [200, "broken"])
    }).pipe(Effect.provide(gatewayAlone()))
  )

  for (const [what, reply] of [
    ["status 600", [{ ...head(false), status: 600 }]],
    ["status 101", [{ _tag: "Informational", status: 101, headers: [] }]],
    ["a line break in a header", [head(false, "", [["x", "a\r\nset-cookie: b"]])]],
    [
      "two lengths",
      [
        head(true, "", [
          ["content-length", "5"],
          ["Content-Length", "6"]
        ])
      ]
    ],
    ["a length that is no number", [head(true, "", [["content-length", "+5"]])]],
    ["a whole body that does not fit its length", [head(false, "abc", [["content-length", "2"]])]],
    ["a body before its head", [chunk("x")]],
    ["a WebSocket frame", [{ _tag: "WebSocketOpen", headers: [], canHibernate: false }]]
  ] as const) {
    it.effect(`${what} is bad_response`, () =>
      Effect.gen(function* () {
        const { answer, code } = yield* answered(reply)
        assert.deepStrictEqual([answer.status, code], [502, "bad_response"])
      }).pipe(Effect.provide(gatewayAlone()))
    )
  }

  it.effect("a body longer than its content-length is a broken transfer, and the app is told", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true, "", [["content-length", "3"]]), chunk("ab"), chunk("cd"))
      assert.strictEqual((yield* visitor.received).state, "broken")
      assert.strictEqual(visitor.text, "ab")
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "protocol_error" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a body shorter than its content-length is a broken transfer", () =>
    Effect.gen(function* () {
      const short = yield* answered([head(true, "", [["content-length", "3"]]), chunk("ab", true)])
      assert.strictEqual(short.answer.state, "broken")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a missing frame resets the stream, a repeated one is ignored", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const first = yield* visit()
      const app = yield* hub.next
      const start = app.uplink(head(true))
      const a = app.uplink(chunk("a"))
      yield* app.publish(start, start, a, a, start)
      yield* settle
      assert.strictEqual(first.visitor.text, "a")
      app.uplink(chunk("lost"))
      yield* app.reply(chunk("c", true))
      assert.strictEqual((yield* first.visitor.received).state, "broken")
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "gap" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a second end changes nothing", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(false, "one"), head(false, "two"), abort("app_failed"))
      assert.deepStrictEqual([(yield* visitor.received).state, visitor.text], ["complete", "one"])
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("an answer from another session, or an older connection of the same, is dropped", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.opened
      yield* app.publish(app.uplink({ _tag: "Credit", bytes: 0 }, { generation: 4 }))
      const forged = { ...app.uplink(head(false, "forged")), index: 0 }
      yield* app.publish({ ...forged, session: "b".repeat(32) }, { ...forged, generation: 3 })
      yield* settle
      assert.strictEqual(visitor.answer.status, 0)
      yield* app.publish({ ...forged, frame: head(false, "mine"), generation: 5 })
      yield* visitor.received
      assert.strictEqual(visitor.text, "mine")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("sends on the credit that a slow bus brings after its runner has reconnected", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.opened
      yield* app.publish(app.uplink({ _tag: "Informational", status: 103, headers: [] }, { generation: 2 }))
      yield* app.publish(app.uplink({ _tag: "Credit", bytes: 1_000 }, { generation: 1 }))
      visitor.send(Buffer.from("up"))
      visitor.endBody()
      assert.deepInclude(yield* app.next, { _tag: "RequestChunk", finish: true })
      // The older connection is fenced all the same: what it says is not heard.
      yield* app.publish(app.uplink(head(false, "old"), { generation: 1, index: 1 }))
      yield* app.publish(app.uplink(head(false, "new"), { generation: 2, index: 1 }))
      yield* visitor.received
      assert.strictEqual(visitor.text, "new")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("no runner is 503 at once, with advice when to come back", () =>
    Effect.gen(function* () {
      const { visitor } = yield* visit()
      const answer = yield* visitor.received
      assert.strictEqual(answer.status, 503)
      assert.deepInclude(answer.headers, ["retry-after", "2"])
      assert.include(visitor.text, '"code":"no_runner"')
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("an app that does not begin its answer in time is 504, and told so", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* settle
      yield* TestClock.adjust(limits.responseStartMs - 1)
      assert.strictEqual(visitor.answer.status, 0)
      yield* TestClock.adjust(2)
      assert.strictEqual((yield* visitor.received).status, 504)
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "deadline" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("the time for a head runs from the end of the upload, and ends with the head", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      yield* TestClock.adjust(2 * limits.responseStartMs)
      visitor.send(text("late"))
      visitor.endBody()
      assert.deepInclude(yield* app.next, { finish: true })
      yield* TestClock.adjust(limits.responseStartMs / 2)
      assert.strictEqual(visitor.answer.status, 0)
      yield* app.reply(head(true))
      yield* TestClock.adjust(10 * limits.responseStartMs)
      yield* app.reply(chunk("slow", true))
      assert.strictEqual((yield* visitor.received).state, "complete")
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("an app that has the whole upload and says nothing is 504 as well", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      visitor.send(text("all"))
      visitor.endBody()
      assert.deepInclude(yield* app.next, { finish: true })
      yield* settle
      yield* TestClock.adjust(limits.responseStartMs)
      assert.strictEqual((yield* visitor.received).status, 504)
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a hub that took the request and never spoke is runner_lost", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      yield* hub.opened
      yield* settle
      yield* TestClock.adjust(limits.hubAnswerMs)
      assert.strictEqual((yield* visitor.received).status, 502)
      assert.include(visitor.text, "runner_lost")
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a hub that the bus cannot reach is runner_lost, and is told of it as soon as it can be", () => {
    let reachable = true
    const failing = changedBus(
      (real) => (subject, envelopes, delivery) =>
        Effect.suspend(() =>
          reachable || !subject.includes(".hub.")
            ? real(subject, envelopes, delivery)
            : Effect.fail(new BusError({ subject, reason: "Disconnected" }))
        )
    )
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      yield* settle
      reachable = false
      visitor.send(text("x"))
      assert.strictEqual((yield* visitor.received).status, 502)
      assert.include(visitor.text, "runner_lost")
      yield* TestClock.adjust(3 * limits.lastWordMs)
      reachable = true
      yield* TestClock.adjust(limits.lastWordMs)
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "publish_failed" })
      yield* atRest
    }).pipe(Effect.provide(gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(failing))))
  })

  it.effect("a request body beyond the maximum is 413 and told to the app", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      visitor.send(bytes(11))
      assert.strictEqual((yield* visitor.received).status, 413)
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "cancelled" })
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone({ requestBodyBytesMax: 10 })))
  )
})

describe("a second attempt", () => {
  it.effect("is made once where no runner saw the request, with the body still at hand", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true }, (v) => {
        v.send(text("payload"))
        v.endBody()
      })
      const first = yield* hub.opened
      yield* first.reply(abort("draining"))
      const second = yield* hub.next
      assert.notStrictEqual(second.opening.route.requestId, first.opening.route.requestId)
      assert.deepStrictEqual(second.opening.frame, first.opening.frame)
      yield* second.reply(head(false, "ok"))
      assert.strictEqual((yield* visitor.received).status, 200)
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is not followed by a third", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      yield* (yield* hub.opened).reply(abort("overloaded"))
      yield* (yield* hub.opened).reply(abort("overloaded"))
      assert.strictEqual((yield* visitor.received).status, 503)
      assert.include(visitor.text, "overloaded")
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is made after the hub's first word too, where the runner left without having seen the request", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      yield* (yield* hub.next).reply(abort("no_runner"))
      yield* (yield* hub.next).reply(head(false, "ok"))
      assert.strictEqual((yield* visitor.received).status, 200)
      yield* atRest
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is not made once more of the body has left than the opening frame holds", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit({ method: "POST", hasBody: true })
      const app = yield* hub.next
      visitor.send(bytes(10))
      assert.deepInclude(yield* app.next, { _tag: "RequestChunk" })
      yield* app.reply(abort("draining"))
      assert.strictEqual((yield* visitor.received).status, 503)
      assert.deepStrictEqual(tags(yield* app.pending), [])
    }).pipe(Effect.provide(gatewayAlone()))
  )
})
