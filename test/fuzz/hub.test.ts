import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Logger } from "effect"
import { TestClock } from "effect/testing"
import { Hub } from "../../src/hub/Hub.ts"
import { toHub, type UpFrame } from "../../src/protocol/Wayleave1.ts"
import { connect, hello } from "../../src/testing/ScriptedRunner.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { gateway, gatewayId, get, hubAlone, settle } from "../hub/HubHarness.ts"
import { makeRandom, mutate } from "./Mutation.ts"

const seed = 20_260_806
const messages = 100_000
const body = new Uint8Array(40).fill(7)
const frames: ReadonlyArray<ResponseFrame> = [
  { _tag: "Informational", status: 103, headers: [["link", "</a>"]] },
  { _tag: "ResponseStart", status: 200, headers: [["a", "b"]], body, streamed: true },
  { _tag: "ResponseChunk", body, finish: false },
  { _tag: "ResponseTrailers", headers: [["t", "1"]] },
  { _tag: "ResponseAbort", code: "app_failed", message: "no" },
  { _tag: "WebSocketOpen", headers: [], canHibernate: false },
  { _tag: "WebSocketMessage", data: body, binary: true, finish: true },
  { _tag: "WebSocketMessageAck", index: 1 },
  { _tag: "WebSocketClose", code: 1000, reason: "bye", hibernate: false },
  { _tag: "Credit", bytes: 100 }
]
const up = (frame: ResponseFrame, requestId: number): UpFrame => ({ route: { gatewayId, requestId }, index: 0, frame })
const corpus = [
  ...frames.map((frame, i) => toHub.encode({ _tag: "Frames", received: i, frames: [up(frame, i)] })),
  toHub.encode({ _tag: "Frames", received: 3, frames: frames.map(up) }),
  toHub.encode(hello({ name: "web" })),
  toHub.encode({ _tag: "Ping", nonce: 1, received: 2 }),
  toHub.encode({ _tag: "Pong", nonce: 1, received: 2 }),
  toHub.encode({ _tag: "Ack", received: 2 }),
  toHub.encode({ _tag: "GoAway", reason: "bye" })
]

it.effect(
  `a runner that sends ${messages} broken messages disturbs nobody, and the log stays readable (seed ${seed})`,
  () => {
    const lines: Array<string> = []
    return Effect.gen(function* () {
      const random = makeRandom(seed)
      const visitor = yield* gateway
      const honest = yield* connect({ name: "honest", session: 200 })
      yield* visitor.open("honest", 1, get("/"))
      yield* visitor.next
      yield* honest.nextFrame
      const head: ResponseFrame = { _tag: "ResponseStart", status: 200, headers: [], body, streamed: true }
      yield* honest.frames([up(head, 1)])
      yield* visitor.next

      let connections = 0
      let sent = 0
      let echoed = 0
      while (sent < messages) {
        connections++
        const evil = yield* connect({ name: "evil", session: connections % 100 })
        while (sent < messages && evil.socket.closedUnsafe() === undefined) {
          for (let i = 0; i < 50; i++, sent++) yield* evil.sayBytes(mutate(random, corpus))
          yield* settle
          // The stream beside it goes on, chunk by chunk, in order.
          yield* honest.frames([
            { route: { gatewayId, requestId: 1 }, index: ++echoed, frame: frames[2] as ResponseFrame }
          ])
          const uplink = yield* visitor.next
          assert.deepStrictEqual([uplink.route.requestId, uplink.index], [1, echoed & 0xffff])
        }
        if (evil.socket.closedUnsafe() === undefined) evil.socket.closeUnsafe(1000, "")
        yield* Fiber.join(evil.accepted)
      }
      assert.isAbove(connections, 100)
      assert.isUndefined(honest.socket.closedUnsafe())
      // No time passed: one line per kind of fault is all there may be, whatever the flood.
      assert.isAtLeast(lines.length, 2)
      assert.isAtMost(lines.length, 8, lines.join("\n"))
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 1)
    }).pipe(
      Effect.provide(hubAlone({ heartbeatMs: 3_600_000, heartbeatDeadlineMs: 7_200_000 })),
      Effect.provide(Logger.layer([Logger.map(Logger.formatLogFmt, (line) => void lines.push(line))]))
    )
  },
  120_000
)
