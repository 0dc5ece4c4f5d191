/** The instruments themselves: a scripted runner fails the test where a real one would end, and the scripted gateway where the hub breaks its word. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { MessageBus } from "../../../src/bus/MessageBus.ts"
import { pair } from "../../../src/socket/MessageSocket.ts"
import { onSocket } from "../../../src/testing/ScriptedRivetRunner.ts"
import type { ResponseFrame } from "../../../src/tunnel/Frame.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { ControlTwin } from "./ControlTwin.ts"
import { chunk, close, gatewaySubject, message, rivetGateway, rivetHub, route, settle } from "./RivetHarness.ts"

const bytesOf = (text: string) => Uint8Array.from(Buffer.from(text, "hex"))

describe("a scripted runner fails its test over", () => {
  const fails = (name: string, version: number, data: Uint8Array, binary: boolean, failing: boolean) =>
    it.effect(name, () =>
      Effect.gen(function* () {
        const [runner, hub] = pair({ protocol: "rivet" })
        const exit = yield* Effect.exit(
          Effect.scoped(
            Effect.gen(function* () {
              yield* onSocket(runner, version)
              hub.sendUnsafe(data, { binary, finish: true })
              yield* settle
            })
          )
        )
        assert.strictEqual(Exit.isFailure(exit), failing)
      })
    )
  const ping = bytesOf("050100000000000000")
  fails("text", 7, Buffer.from("hello"), false, true)
  fails("a tag that does not exist", 7, bytesOf("09"), true, true)
  fails("a byte too many", 7, Buffer.concat([ping, bytesOf("00")]), true, true)
  fails("a byte too few", 7, ping.subarray(1), true, true)
  fails("the welcome of another version", 5, bytesOf("000152983a00000000000040771b000000000000"), true, true)
  fails("nothing else: not over a ping", 7, ping, true, false)
})

describe("the scripted gateway fails its test over", () => {
  const fails = (name: string, frames: ReadonlyArray<readonly [ResponseFrame, number]>, failing: boolean) =>
    it.effect(name, () =>
      Effect.gen(function* () {
        const publishing = Effect.gen(function* () {
          yield* rivetGateway
          const bus = yield* MessageBus
          for (const [frame, index] of frames) {
            const envelope = {
              _tag: "Uplink",
              replyTo: "hub",
              session: "s",
              generation: 1,
              route: route(1),
              index,
              frame
            } as const
            yield* bus.publish(gatewaySubject, [envelope], "each")
          }
          yield* settle
        })
        assert.strictEqual(Exit.isFailure(yield* Effect.exit(Effect.scoped(publishing))), failing)
      }).pipe(Effect.provide(rivetHub(new ControlTwin())))
    )
  const credit: ResponseFrame = { _tag: "Credit", bytes: 1 }
  fails("a frame that is missing", [[message("a"), 1]], true)
  fails(
    "a frame that comes twice",
    [
      [message("a"), 0],
      [message("a"), 0]
    ],
    true
  )
  fails("bytes beyond its credit", [[chunk(new Uint8Array(limits.windowBytesInitial + 1)), 0]], true)
  fails(
    "data for a WebSocket that sleeps",
    [
      [close(null, "", true), 0],
      [message("a"), 1]
    ],
    true
  )
  fails(
    "none of what is right",
    [
      [chunk(new Uint8Array(limits.windowBytesInitial)), 0],
      [close(null, "", true), 1],
      [credit, 0],
      [message("a"), 0]
    ],
    false
  )
})
