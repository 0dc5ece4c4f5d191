import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { type DownFrame, toRunner } from "../../src/protocol/Wayleave1.ts"
import * as Runner from "../../src/runner/Runner.ts"
import { RunnerApp } from "../../src/runner/RunnerApp.ts"
import type { RequestFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { Turn } from "../../src/tunnel/Turn.ts"
import { makeRandom, mutate } from "../fuzz/Mutation.ts"
import { bytes, get, makeFakeHub, route, soon } from "./FakeHub.ts"

const seed = 20_261_124
const messages = 100_000
const body = new Uint8Array(40).fill(7)

const frames: ReadonlyArray<RequestFrame> = [
  get("/hello", { method: "POST", headers: [["a", "b"]], body, streamed: true }),
  get("/wait"),
  { _tag: "RequestChunk", body, finish: false },
  { _tag: "RequestTrailers", headers: [["t", "1"]] },
  { _tag: "RequestAbort", code: "cancelled" },
  { _tag: "WebSocketOpen", target: "/", headers: [] },
  { _tag: "WebSocketMessage", data: body, binary: true, finish: true },
  { _tag: "WebSocketClose", code: 1000, reason: "bye" },
  { _tag: "Credit", bytes: 100 }
]
const down = (frame: RequestFrame, requestId: number): DownFrame => ({ route: route(requestId), index: 0, frame })
const corpus = [
  ...frames.map((frame, i) => toRunner.encode({ _tag: "Frames", received: i, frames: [down(frame, i)] })),
  toRunner.encode({ _tag: "Frames", received: 0, frames: frames.map(down) }),
  toRunner.encode({ _tag: "Ping", nonce: 1, received: 0 }),
  toRunner.encode({ _tag: "Pong", nonce: 1, received: 0 }),
  toRunner.encode({ _tag: "Ack", received: 0 }),
  toRunner.encode({ _tag: "GoAway", reason: "bye" }),
  toRunner.encode({ _tag: "Reset", route: route(1), code: "gap" })
]

const app = RunnerApp.of({
  request: (stream) => (stream.target === "/hello" ? stream.respond(200, [], bytes("hello")) : Effect.never),
  webSocket: (stream) => Effect.andThen(stream.accept(), Effect.never)
})

it.effect(`a hub that sends ${messages} broken messages is survived, and the log stays readable (seed ${seed})`, () => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    const random = makeRandom(seed)
    const hub = yield* makeFakeHub()
    const context = yield* Effect.forkScoped(
      Layer.build(
        Runner.layer({ hubUrl: "ws://hub.test", name: "web", drain: 0 }).pipe(
          Layer.provide(hub.layer),
          Layer.provide(Layer.succeed(RunnerApp, app)),
          Layer.provide(Layer.succeed(Turn, soon)),
          Layer.provide(
            Logger.layer([
              Logger.map(Logger.formatSimple, (line) => {
                lines.push(line)
              })
            ])
          )
        )
      )
    )
    let connection = yield* hub.accept()
    let undecodable = 0
    for (let sent = 0; sent < messages; sent++) {
      const message = mutate(random, corpus)
      // Each of these costs the connection, and dialling takes its time: one in a hundred is sent, the others are only tried.
      if (toRunner.decodeResult(message)._tag === "Failure" && ++undecodable % 100 !== 0) continue
      connection.socket.sendUnsafe(message, { binary: true, finish: true })
      if (sent % 16 === 0) yield* settle
      if (connection.socket.closedUnsafe() === undefined) continue
      yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      connection = yield* hub.accept()
    }
    yield* settle
    if (connection.socket.closedUnsafe() !== undefined) {
      yield* TestClock.adjust(limits.reconnectMaxMs * 1.2)
      connection = yield* hub.accept()
    }
    assert.isAbove(hub.state.dialled.length, 50)
    connection.down(route(77_777), get("/hello"))
    while (true) {
      const { frame, route: answered } = yield* connection.next
      if (answered.requestId !== 77_777) continue
      assert.deepInclude(frame, { _tag: "ResponseStart", status: 200 })
      break
    }
    assert.isUndefined(context.pollUnsafe()?._tag === "Failure" ? "the runner failed" : undefined)
    // One line per kind and interval of complaints; what tells of connections comes once per connection.
    const complaints = lines.filter((line) => /understood|broke the rules/.test(line))
    assert.isAbove(complaints.length, 0)
    assert.isBelow(complaints.length, hub.state.dialled.length)
    assert.deepStrictEqual(
      lines.filter((line) => /connection to the hub failed/.test(line)),
      []
    )
  })
})

/** Lets every fiber that can run do so. */
const settle = Effect.replicateEffect(Effect.yieldNow, 10, { discard: true })
