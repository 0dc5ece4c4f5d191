import { assert, describe } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { RouteStore } from "../../../src/route/RouteStore.ts"
import { connect } from "../../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import {
  actor,
  all,
  answer,
  arrange,
  atRest,
  bytesOf,
  chunk,
  request,
  route,
  scenario,
  settle
} from "./RivetHarness.ts"

const KiB = 1024
const payloadMax = limits.rivetPayloadBytesMax
const abort = { _tag: "RequestAbort", code: "cancelled" } as const
const asBuffer = (bytes: Uint8Array) => Buffer.from(bytes)

describe.each(all)("version %i: a request to an actor", (version) => {
  for (const size of [0, 1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1]) {
    scenario(`goes down whole and its answer comes back, ${size} bytes each`, (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* arrange(twin, version)
        const body = bytesOf(size)
        yield* visitor.open(actor, 1, request("/up", { body }))
        const heard = yield* runner.nextFrame
        assert.deepInclude(heard, { route: route(1), index: 0, actorId: actor })
        assert.deepInclude(heard.frame, { _tag: "RequestStart", method: "POST", target: "/up", streamed: false })
        assert.deepStrictEqual(heard.frame._tag === "RequestStart" && asBuffer(heard.frame.body), asBuffer(body))
        yield* runner.frame(route(1), answer(body))
        const head = yield* visitor.frameOf(1)
        assert.deepInclude(head, { _tag: "ResponseStart", status: 200, headers: [["x", "1"]] })
        assert.deepStrictEqual(yield* visitor.body(1, head), asBuffer(body))
        yield* atRest
      })
    )
  }

  scenario("whose body comes in pieces is gathered, each piece granted as it comes, and goes down as one", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/up", { body: bytesOf(3), streamed: true }))
      assert.strictEqual(yield* visitor.creditOf(1), limits.windowBytesInitial)
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(5, 3), finish: false })
      assert.strictEqual(yield* visitor.creditOf(1), 5)
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(64 * KiB, 8), finish: false })
      assert.strictEqual(yield* visitor.creditOf(1), 64 * KiB)
      yield* settle
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(2, 9), finish: true })
      const { frame, index } = yield* runner.nextFrame
      assert.strictEqual(index, 0)
      if (frame._tag !== "RequestStart") throw new Error(frame._tag)
      assert.isFalse(frame.streamed)
      assert.deepStrictEqual(
        asBuffer(frame.body),
        Buffer.concat([bytesOf(3), bytesOf(5, 3), bytesOf(64 * KiB, 8), bytesOf(2, 9)])
      )
      // Nothing can follow the whole request.
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(1), finish: true })
      yield* runner.frame(route(1), answer())
      assert.strictEqual((yield* visitor.nextFrame)._tag, "ResponseStart")
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* atRest
    })
  )

  scenario("ends with its trailers, which are lost", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/up", { body: bytesOf(3), streamed: true }))
      yield* visitor.next
      yield* visitor.follow(1, { _tag: "RequestTrailers", headers: [["x-sum", "1"]] })
      const { frame } = yield* runner.nextFrame
      assert.deepStrictEqual(frame._tag === "RequestStart" && asBuffer(frame.body), asBuffer(bytesOf(3)))
    })
  )

  scenario("is answered piece by piece where the runner streams", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/sse"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(2), true), 0)
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseStart", streamed: true })
      for (const index of [1, 2]) {
        yield* runner.frame(route(1), chunk(bytesOf(100 * KiB, index)), index)
        const pieces = [yield* visitor.frameOf(1), yield* visitor.frameOf(1)]
        assert.deepStrictEqual(
          pieces.map((frame) => frame._tag === "ResponseChunk" && [frame.body.length, frame.finish]),
          [
            [64 * KiB, false],
            [36 * KiB, false]
          ]
        )
      }
      yield* runner.frame(route(1), chunk(new Uint8Array(0), true), 3)
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseChunk", finish: true })
      yield* atRest
    })
  )

  scenario("is answered on where the head of a streamed answer has more than its visitor takes", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(300 * KiB), true), 0)
      yield* runner.frame(route(1), chunk(bytesOf(5), true), 1)
      const head = yield* visitor.frameOf(1)
      assert.deepStrictEqual(yield* visitor.body(1, head), Buffer.concat([bytesOf(300 * KiB), bytesOf(5)]))
      yield* atRest
    })
  )

  scenario("is broken off where the runner gives its answer up", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(2), true))
      yield* runner.frame(route(1), { _tag: "ResponseAbort", code: "app_failed", message: "" })
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "app_failed" })
      yield* atRest
    })
  )

  scenario("that its visitor gives up is aborted at the runner, and the late answer goes nowhere", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/slow"))
      yield* runner.nextFrame
      yield* visitor.follow(1, abort)
      assert.deepInclude(yield* runner.nextFrame, { route: route(1), index: 1, frame: abort })
      yield* runner.frame(route(1), answer(bytesOf(10)))
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Open: 0, HalfClosed: 1 })
      assert.isUndefined(runner.socket.closedUnsafe())
    })
  )

  scenario("that is given up while its body still comes never reaches the runner", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/up", { streamed: true }))
      yield* visitor.next
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(5), finish: false })
      yield* visitor.follow(1, abort)
      yield* visitor.open(actor, 2, request("/next"))
      assert.deepInclude(yield* runner.nextFrame, { route: route(2) })
      assert.deepInclude(yield* RouteStore.use((routes) => routes.counts), { Open: 1, HalfClosed: 0, Closed: 1 })
    })
  )

  scenario("that is given up while the runner is away never reaches it, and the next one does", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* visitor.open(actor, 1, request("/never"))
      yield* visitor.next
      yield* visitor.follow(1, abort)
      yield* visitor.open(actor, 2, request("/kept"))
      yield* visitor.next
      const back = yield* connect({ version })
      assert.deepInclude(yield* back.nextFrame, { route: route(2) })
      assert.deepStrictEqual(yield* back.pending, [])
    })
  )

  scenario("waits for no other: a visitor that takes nothing holds up its own answer only", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/big"))
      yield* visitor.open(actor, 2, request("/small"))
      yield* runner.nextFrame
      yield* runner.nextFrame
      const big = bytesOf(1024 * KiB)
      yield* runner.frame(route(1), answer(big))
      yield* settle
      const stuck = yield* visitor.pendingFrames
      const bytes = stuck.reduce((sum, { frame }) => {
        if (frame._tag === "ResponseStart" || frame._tag === "ResponseChunk") return sum + frame.body.length
        return sum
      }, 0)
      assert.strictEqual(bytes, limits.windowBytesInitial)
      yield* runner.frame(route(2), answer(bytesOf(7)))
      assert.deepInclude(yield* visitor.frameOf(2), { _tag: "ResponseStart" })
      // Granted again it goes on, in pieces that a bus carries.
      yield* visitor.grant(1, big.length)
      let rest = 0
      for (let finish = false; !finish; ) {
        const frame = yield* visitor.frameOf(1)
        if (frame._tag !== "ResponseChunk") throw new Error(frame._tag)
        assert.isAtMost(frame.body.length, limits.chunkBytesMax)
        rest += frame.body.length
        finish = frame.finish
      }
      assert.strictEqual(rest, big.length - limits.windowBytesInitial)
      yield* atRest
    })
  )
})

describe("what the published client cannot take of a request", () => {
  for (const method of ["GET", "HEAD"]) {
    scenario(`a body of ${method} is left out, with its length`, (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* arrange(twin, 7)
        yield* visitor.open(actor, 1, {
          _tag: "RequestStart",
          method,
          target: "/",
          headers: [
            ["Content-Length", "3"],
            ["x", "1"]
          ],
          body: bytesOf(3),
          streamed: false
        })
        yield* visitor.open(actor, 2, request("/", { method, body: bytesOf(1), streamed: true }))
        yield* visitor.follow(2, { _tag: "RequestChunk", body: bytesOf(2), finish: true })
        const first = (yield* runner.nextFrame).frame
        assert.deepStrictEqual(first._tag === "RequestStart" && [first.body.length, first.headers], [0, [["x", "1"]]])
        const second = (yield* runner.nextFrame).frame
        assert.strictEqual(second._tag === "RequestStart" && second.body.length, 0)
      })
    )
  }

  scenario("a target that is no path becomes the root", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      for (const [i, target] of ["", "*", "?a=1"].entries()) {
        yield* visitor.open(actor, i, request(target))
        assert.deepInclude((yield* runner.nextFrame).frame, { target: "/" })
      }
    })
  )
})

describe.each(all)("version %i: at the edge of 20 MiB", (version) => {
  scenario("a request of exactly that much is taken, in pieces", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      const body = bytesOf(payloadMax)
      yield* visitor.open(actor, 1, request("/up", { streamed: true }))
      for (let at = 0; at < payloadMax; at += 64 * KiB) {
        const piece = body.subarray(at, at + 64 * KiB)
        yield* visitor.follow(1, { _tag: "RequestChunk", body: piece, finish: at + 64 * KiB >= payloadMax })
      }
      const { frame } = yield* runner.nextFrame
      assert.isTrue(frame._tag === "RequestStart" && asBuffer(frame.body).equals(asBuffer(body)))
    })
  )

  scenario("one byte more ends the request alone, and the runner hears nothing of it", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/up", { streamed: true }))
      yield* visitor.open(actor, 2, request("/beside"))
      const piece = bytesOf(64 * KiB)
      for (let at = 0; at < payloadMax; at += piece.length) {
        yield* visitor.follow(1, { _tag: "RequestChunk", body: piece, finish: false })
      }
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(1), finish: true })
      yield* visitor.follow(1, { _tag: "RequestChunk", body: bytesOf(1), finish: true })
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "too_large" })
      assert.deepInclude(yield* runner.nextFrame, { route: route(2) })
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* runner.frame(route(2), answer())
      assert.strictEqual((yield* visitor.frameOf(2))._tag, "ResponseStart")
      yield* atRest
    })
  )

  scenario("an answer of exactly that much is taken", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      const body = bytesOf(payloadMax)
      yield* visitor.open(actor, 1, request("/down"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(body))
      const head = yield* visitor.frameOf(1)
      assert.isTrue((yield* visitor.body(1, head)).equals(asBuffer(body)))
      yield* atRest
    })
  )

  scenario("one byte more ends that stream alone, and the connection lives", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/down"))
      yield* visitor.open(actor, 2, request("/beside"))
      yield* runner.nextFrame
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(payloadMax + 1)))
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "overflow" })
      assert.deepInclude(yield* runner.nextFrame, { route: route(1), index: 1 })
      yield* runner.frame(route(2), answer())
      assert.strictEqual((yield* visitor.frameOf(2))._tag, "ResponseStart")
      assert.isUndefined(runner.socket.closedUnsafe())
      yield* atRest
    })
  )
})
