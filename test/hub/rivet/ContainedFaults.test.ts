import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, Metric } from "effect"
import { TestClock } from "effect/testing"
import * as HubMetrics from "../../../src/hub/HubMetrics.ts"
import { versionOf } from "../../../src/protocol/Rivet.ts"
import { connect, dial, init, type ScriptedRivetRunner } from "../../../src/testing/ScriptedRivetRunner.ts"
import type { ResponseFrame } from "../../../src/tunnel/Frame.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { codecOf } from "../../protocol/versions.ts"
import { actorOf } from "./ControlTwin.ts"
import {
  accept,
  ack,
  actor,
  all,
  answer,
  arrange,
  atRest,
  bytesOf,
  chunk,
  close,
  closeDown,
  key,
  message,
  mk1,
  request,
  route,
  scenario,
  settle,
  withSocket
} from "./RivetHarness.ts"

const KiB = 1024
const MiB = 1024 * KiB
const hex = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"))
const asHex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex")

const count = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
  Effect.map(Metric.value(metric), (state) => state.count)
const refusedAs = (reason: "unknown" | "foreign" | "late") =>
  count(Metric.withAttributes(HubMetrics.framesRefused, { reason }))

type Arranged = Effect.Success<ReturnType<typeof arrange>>

/** The connection lives, and a request beside whatever went wrong gets its answer. */
const goesOn = Effect.fnUntraced(function* ({ runner, visitor }: Arranged, requestId = 99) {
  yield* settle
  assert.isUndefined(runner.socket.closedUnsafe())
  yield* visitor.open(actor, requestId, request("/beside"))
  let heard = yield* runner.nextFrame
  while (heard.route.requestId !== requestId) heard = yield* runner.nextFrame
  yield* runner.frame(route(requestId), answer())
  assert.strictEqual((yield* visitor.frameOf(requestId))._tag, "ResponseStart")
})

const undecodable: ReadonlyArray<readonly [string, string]> = [
  ["a tag that does not exist", "09"],
  ["a tag in two bytes", "8300"],
  ["nothing at all", ""],
  ["a byte too many", "0300"],
  ["a count far beyond the message", "01ffffffff0f"],
  ["a length far beyond the message", "00ffffffff0f"],
  ["noise", "6e6f697365206e6f697365206e6f697365"]
]

describe.each(all)("version %i: a message that cannot be read", (version) => {
  for (const [what, bytes] of undecodable) {
    scenario(`for ${what} costs nobody else anything`, (twin) =>
      Effect.gen(function* () {
        const arranged = yield* arrange(twin, version)
        const before = yield* count(HubMetrics.messagesUndecodable)
        yield* arranged.runner.sayBytes(hex(bytes))
        yield* goesOn(arranged)
        assert.strictEqual((yield* count(HubMetrics.messagesUndecodable)) - before, 1)
        assert.deepStrictEqual(yield* arranged.runner.pending, [])
      })
    )
  }

  scenario("for being text is passed over, however many there are", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, version)
      for (let i = 0; i < 3 * limits.abuseRefusalsMax; i++) yield* arranged.runner.sayText("hello")
      yield* goesOn(arranged)
    })
  )

  scenario("more than a hundred times in ten seconds ends the connection, and the session with it", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, version)
      for (let i = 0; i < limits.abuseRefusalsMax; i++) yield* runner.sayBytes(hex("09"))
      yield* settle
      assert.isUndefined(runner.socket.closedUnsafe())
      yield* runner.sayBytes(hex("09"))
      const closed = yield* runner.closed
      assert.deepStrictEqual([closed.code, closed.reason.split("#")[0]], [1011, "ws.invalid_packet"])
      yield* Fiber.join(runner.accepted)
      yield* settle
      assert.deepStrictEqual(twin.lost, [session])
    })
  )

  scenario("now and then, for ever, ends nothing", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, version, { pongs: true })
      for (let i = 0; i < 5 * limits.abuseRefusalsMax; i++) {
        yield* arranged.runner.sayBytes(hex("09"))
        yield* TestClock.adjust(limits.abuseWindowMs / 50)
      }
      yield* goesOn(arranged)
    })
  )
})

const frames: ReadonlyArray<readonly [string, Parameters<ScriptedRivetRunner["frame"]>[1]]> = [
  ["a whole answer", answer()],
  ["the head of an answer", answer(bytesOf(1), true)],
  ["a piece of an answer", chunk(bytesOf(1))],
  ["the end of an answer", chunk(bytesOf(1), true)],
  ["an abort", { _tag: "ResponseAbort", code: "app_failed", message: "" }],
  ["a WebSocket's yes", accept()],
  ["a message", message("x")],
  ["an ack", ack(1)],
  ["a close", close(1000)],
  ["a close to hibernate", close(1000, "", true)]
]

describe.each(all)("version %i: a frame for a route", (version) => {
  for (const [what, frame] of frames) {
    const silent = versionOf(version)?.encodeUp({
      _tag: "TunnelUp",
      route: key,
      index: 0,
      frame,
      acknowledgement: null
    })
    if (silent === null) continue
    scenario(`that was never issued is dropped and counted, and the runner hears nothing: ${what}`, (twin) =>
      Effect.gen(function* () {
        const arranged = yield* arrange(twin, version)
        const before = yield* refusedAs("unknown")
        yield* arranged.runner.frame({ gatewayId: 5, requestId: 5 }, frame)
        yield* settle
        assert.strictEqual((yield* refusedAs("unknown")) - before, 1)
        assert.deepStrictEqual(yield* arranged.visitor.pending, [])
        yield* goesOn(arranged)
        assert.deepStrictEqual(yield* arranged.runner.pending, [])
      })
    )

    scenario(`that another runner holds is dropped and counted, and its owner's answer arrives: ${what}`, (twin) =>
      Effect.gen(function* () {
        const arranged = yield* arrange(twin, version)
        const { runner, visitor } = arranged
        const stranger = yield* connect({ version, key: "stranger" })
        yield* visitor.open(actor, 1, request("/"))
        yield* runner.nextFrame
        const before = yield* refusedAs("foreign")
        yield* stranger.frame(route(1), frame)
        yield* settle
        assert.strictEqual((yield* refusedAs("foreign")) - before, 1)
        assert.deepStrictEqual(yield* visitor.pendingFrames, [])
        assert.isUndefined(stranger.socket.closedUnsafe())
        yield* runner.frame(route(1), answer())
        assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      })
    )

    scenario(`that is over is dropped, however often: ${what}`, (twin) =>
      Effect.gen(function* () {
        const arranged = yield* arrange(twin, version)
        const { runner, visitor } = arranged
        yield* visitor.open(actor, 1, request("/"))
        yield* runner.nextFrame
        yield* runner.frame(route(1), answer())
        yield* visitor.frameOf(1)
        yield* settle
        const before = yield* refusedAs("late")
        for (let i = 0; i < 3 * limits.abuseRefusalsMax; i++) yield* runner.frame(route(1), frame)
        yield* settle
        assert.strictEqual((yield* refusedAs("late")) - before, 3 * limits.abuseRefusalsMax)
        assert.deepStrictEqual(yield* visitor.pending, [])
        yield* goesOn(arranged)
      })
    )
  }

  scenario(
    "that was never issued may come any number of times: a hub that restarted knows none of those of before",
    (twin) =>
      Effect.gen(function* () {
        const arranged = yield* arrange(twin, version)
        for (let i = 0; i < 20 * limits.abuseRefusalsMax; i++) {
          yield* arranged.runner.frame({ gatewayId: 9, requestId: i }, message("still there?"))
        }
        yield* goesOn(arranged)
        assert.deepStrictEqual(yield* arranged.runner.pending, [])
      })
  )

  scenario("that another runner holds, more than a hundred times, ends that connection and no other", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, version)
      const { runner, visitor } = arranged
      const forger = yield* connect({ version, key: "forger" })
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      for (let i = 0; i < limits.abuseRefusalsMax; i++) yield* forger.frame(route(1), close(1000))
      yield* settle
      assert.isUndefined(forger.socket.closedUnsafe())
      yield* forger.frame(route(1), close(1000))
      assert.strictEqual((yield* forger.closed).reason.split("#")[0], "ws.invalid_packet")
      yield* runner.frame(route(1), answer())
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      yield* goesOn(arranged)
    })
  )
})

const tunnelOf = (version: number, requestId: Uint8Array, messageId: Uint8Array, messageKind: unknown) =>
  codecOf(version, "ToServer").encode({ tag: "ToServerTunnelMessage", val: { requestId, messageId, messageKind } })

const kindsOf2: ReadonlyArray<{ readonly tag: string; readonly val: unknown }> = [
  { tag: "TunnelAck", val: null },
  { tag: "ToServerResponseStart", val: { status: 200, headers: new Map(), body: null, stream: false } },
  { tag: "ToServerResponseChunk", val: { body: bytesOf(1), finish: false } },
  { tag: "ToServerResponseAbort", val: null },
  { tag: "ToServerWebSocketOpen", val: { canHibernate: false, lastMsgIndex: -1n } },
  { tag: "ToServerWebSocketMessage", val: { data: bytesOf(1), binary: true } },
  { tag: "ToServerWebSocketMessageAck", val: { index: 1 } },
  { tag: "ToServerWebSocketClose", val: { code: 1000, reason: null, retry: false } }
]

/** What version 2 gets back: tag 5, the very ids, TunnelAck, no reply subject. */
const ackOf = (requestId: Uint8Array, messageId: Uint8Array) => `05${asHex(requestId)}${asHex(messageId)}0000`

describe("version 2: a tunnel message", () => {
  const messageId = bytesOf(16, 77)
  for (const kind of kindsOf2) {
    for (const [where, requestId] of [
      ["a route that nobody holds", bytesOf(16, 3)],
      ["an open route", hex("0a0b0c0d 0000 40 00 80 01 000000000000")]
    ] as const) {
      scenario(`${kind.tag} on ${where} is acknowledged with the ids it came with`, (twin) =>
        Effect.gen(function* () {
          const { runner, visitor } = yield* arrange(twin, 2)
          yield* visitor.open(actor, 1, request("/"))
          yield* runner.nextFrame
          const heard = runner.heard.length
          yield* runner.sayBytes(tunnelOf(2, requestId, messageId, kind))
          yield* settle
          assert.deepStrictEqual(
            runner.heard.slice(heard, heard + 1).map(({ bytes }) => asHex(bytes)),
            [ackOf(requestId, messageId)]
          )
        })
      )
    }
  }

  scenario("is acknowledged before anything else is said about it", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 2)
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      const heard = runner.heard.length
      const requestId = hex("0a0b0c0d 0000 40 00 80 01 000000000000")
      const tooLarge = {
        status: 200,
        headers: new Map(),
        body: bytesOf(limits.rivetPayloadBytesMax + 1),
        stream: false
      }
      yield* runner.sayBytes(tunnelOf(2, requestId, messageId, { tag: "ToServerResponseStart", val: tooLarge }))
      yield* settle
      const said = runner.heard.slice(heard)
      assert.strictEqual(said.length, 2)
      assert.strictEqual(asHex(said[0]?.bytes as Uint8Array), ackOf(requestId, messageId))
      assert.strictEqual(said[1]?.down._tag, "TunnelDown")
    })
  )

  for (const version of [1, 3]) {
    scenario(`in version ${version} is not acknowledged`, (twin) =>
      Effect.gen(function* () {
        const arranged = yield* arrange(twin, version)
        yield* arranged.runner.frame({ gatewayId: 5, requestId: 5 }, answer())
        yield* settle
        assert.strictEqual(arranged.runner.heard.length, 1)
      })
    )
  }
})

describe.each(mk1)("version %i: the tunnel's own ack", (version) => {
  scenario("is nothing to any route: not counted, not published, and it ends none", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, version)
      const { runner, visitor } = arranged
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* visitor.pending
      const before = [yield* refusedAs("unknown"), yield* refusedAs("foreign"), yield* refusedAs("late")]
      for (let i = 0; i < 3 * limits.abuseRefusalsMax; i++) {
        yield* runner.sayUp({ _tag: "TunnelAck", route: route(i), index: 0, acknowledgement: null })
      }
      yield* settle
      assert.deepStrictEqual(
        [yield* refusedAs("unknown"), yield* refusedAs("foreign"), yield* refusedAs("late")],
        before
      )
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* runner.frame(route(1), answer())
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      yield* goesOn(arranged)
    })
  )
})

describe.each([1, 2])("version %i: ids of sixteen bytes", (version) => {
  scenario("say the route in the request's id, whatever its two constant bytes and the message's id hold", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      const requestId = hex("0a0b0c0d 0000 ff 00 ff 01 010203040506")
      const val = { status: 204, headers: new Map(), body: null, stream: false }
      yield* runner.sayBytes(tunnelOf(version, requestId, bytesOf(16, 9), { tag: "ToServerResponseStart", val }))
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseStart", status: 204 })
    })
  )
})

describe("what all streams of one runner may hold", () => {
  const most = 20 * MiB

  scenario("is bounded in what they were answered: the one beyond ends, the others and later ones go on", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, 7, { pongs: true })
      const { runner, visitor } = arranged
      const body = bytesOf(most)
      // Each visitor has taken its first window.
      const fits = Math.floor(limits.rivetSessionBytesMax / (most - limits.windowBytesInitial))
      const answers = Array.from({ length: fits + 1 }, (_, n) => n + 1)
      for (const id of answers) {
        yield* visitor.open(actor, id, request("/big"))
        yield* runner.nextFrame
        yield* runner.frame(route(id), answer(body))
        yield* settle
      }
      const last = answers.pop() as number
      assert.deepInclude(yield* runner.nextFrame, {
        route: route(last),
        frame: { _tag: "RequestAbort", code: "cancelled" }
      })
      const frames = yield* visitor.pending
      const heads = new Map(frames.map(({ frame, route: at }) => [at.requestId, frame] as const))
      assert.deepInclude(heads.get(last), { _tag: "ResponseAbort", code: "overflow" })
      for (const id of answers) assert.include(["ResponseStart", "ResponseChunk"], heads.get(id)?._tag, `${id}`)
      yield* goesOn(arranged)
      // One whose visitor leaves makes room for another.
      yield* visitor.follow(1, { _tag: "RequestAbort", code: "cancelled" })
      yield* visitor.open(actor, last + 1, request("/big"))
      yield* runner.nextFrame
      yield* runner.frame(route(last + 1), answer(body))
      assert.strictEqual((yield* visitor.frameOf(last + 1))._tag, "ResponseStart")
      assert.deepStrictEqual(yield* runner.pending, [])
    })
  )

  scenario("is bounded in what they are asked: the one beyond is refused, and its runner never hears of it", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, 7, { pongs: true })
      const { runner, visitor } = arranged
      const fits = Math.floor(limits.rivetSessionBytesMax / most)
      const piece = bytesOf(4 * MiB)
      for (let id = 1; id <= fits; id++) {
        yield* visitor.open(actor, id, request("/upload", { streamed: true }))
        for (let sent = 0; sent < most; sent += piece.length) {
          yield* visitor.follow(id, { _tag: "RequestChunk", body: piece, finish: false })
        }
      }
      const beyond = fits + 1
      yield* visitor.open(actor, beyond, request("/upload", { streamed: true }))
      for (let sent = 0; sent < most; sent += piece.length) {
        yield* visitor.follow(beyond, { _tag: "RequestChunk", body: piece, finish: false })
      }
      yield* settle
      assert.deepInclude(yield* visitor.frameOf(beyond), { _tag: "ResponseAbort", code: "overloaded" })
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* visitor.follow(1, { _tag: "RequestChunk", body: new Uint8Array(0), finish: true })
      const whole = yield* runner.nextFrame
      assert.deepInclude(whole, { route: route(1) })
      assert(whole.frame._tag === "RequestStart")
      assert.strictEqual(whole.frame.body.length, most)
      yield* goesOn(arranged)
    })
  )
})

describe("what one stream may hold", () => {
  scenario("is bounded in bytes: beyond, it ends on both sides, and the one beside it goes on", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, 7)
      const { runner, visitor } = arranged
      yield* visitor.open(actor, 1, request("/flood"))
      yield* runner.nextFrame
      const piece = bytesOf(MiB)
      yield* runner.frame(route(1), answer(new Uint8Array(0), true), 0)
      const pieces = limits.rivetStreamBytesMax / MiB
      for (let i = 0; i < pieces; i++) yield* runner.frame(route(1), chunk(piece), i + 1)
      yield* settle
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* runner.frame(route(1), chunk(piece), pieces + 1)
      yield* settle
      assert.deepInclude(yield* runner.nextFrame, {
        route: route(1),
        frame: { _tag: "RequestAbort", code: "cancelled" }
      })
      let last = yield* visitor.frameOf(1)
      while (last._tag !== "ResponseAbort") last = yield* visitor.frameOf(1)
      assert.strictEqual(last.code, "overflow")
      yield* goesOn(arranged)
      yield* atRest
    })
  )

  scenario(
    "is bounded in frames: a flood of acks behind a visitor who takes nothing ends that WebSocket alone",
    (twin) =>
      Effect.gen(function* () {
        const arranged = yield* withSocket(twin, 7, true)
        const { runner, visitor } = arranged
        yield* runner.frame(key, message(bytesOf(512 * KiB)))
        for (let i = 0; i <= limits.framesHeldMax; i++) yield* runner.frame(key, ack(i & 0xffff))
        yield* settle
        assert.deepInclude(yield* runner.nextFrame, { route: key, frame: closeDown(1011, "ws.downstream_closed") })
        let last: ResponseFrame = yield* visitor.frameOf(1)
        while (last._tag !== "ResponseAbort") last = yield* visitor.frameOf(1)
        assert.strictEqual(last.code, "overflow")
        yield* goesOn(arranged)
      })
  )

  scenario("has no room for a head beyond 64 KiB", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, 7)
      const { runner, visitor } = arranged
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), { ...answer(), headers: [["x", "y".repeat(limits.headBytesMax)]] })
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "protocol_error" })
      yield* goesOn(arranged)
    })
  )

  scenario("ends with its last frame: what follows that is taken for nothing, even before it was published", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, 7)
      const { runner, visitor } = arranged
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(512 * KiB)))
      yield* runner.frame(route(1), answer(bytesOf(1)))
      yield* runner.frame(route(1), close(1000))
      const head = yield* visitor.frameOf(1)
      assert.strictEqual((yield* visitor.body(1, head)).length, 512 * KiB)
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      yield* goesOn(arranged)
    })
  )
})

describe("a runner that floods us and reads nothing", () => {
  for (const version of [2, 3, 7]) {
    scenario(`of version ${version} is not read from beyond a bound, and is once it reads`, (twin) =>
      Effect.gen(function* () {
        const { visitor } = yield* arrange(twin, version, { key: "beside" })
        const runner = yield* dial({ version, key: "deaf", reads: false })
        yield* runner.say(init())
        yield* settle
        const session = twin.sessionOf("pool", "deaf")
        twin.host(actorOf(2), session)
        yield* visitor.open(actorOf(2), 1, request("/"))
        const events = [
          { checkpoint: { actorId: actor, generation: 0, index: 0n }, event: { _tag: "Running" } }
        ] as const
        const floods = 60_000
        for (let i = 0; i < floods; i++) {
          if (version === 2) yield* runner.frame(route(1), message("x"))
          else yield* runner.say({ _tag: "Events", events })
          // As a socket would bring it: by and by.
          if (i % 500 === 0) yield* settle
        }
        yield* settle
        let told = 0
        let first = 0
        for (;;) {
          const batch = yield* runner.socket.pull
          for (const { data } of batch) told += data.length
          if (first === 0) first = told
          yield* settle
          if (told >= floods * (version === 3 ? 9 : 35)) break
        }
        assert.isAtMost(first, limits.rivetAnswersBytesMax + 2 * limits.socketHighWaterBytes)
        assert.isUndefined(runner.socket.closedUnsafe())
      })
    )
  }
})

describe("what cannot be said in a version", () => {
  scenario("costs the request that it belongs to", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* arrange(twin, 7)
      const { runner, visitor } = arranged
      yield* visitor.open(actor, 1, { ...request("/"), headers: [["x", "\ud800"]] } as never)
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "protocol_error" })
      yield* settle
      yield* runner.pending
      yield* goesOn(arranged)
    })
  )

  scenario("costs the command, and no other", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, 7)
      const start = { _tag: "StartActor", hibernating: [] } as const
      const config = { name: "\ud800", key: null, createdAtMs: 0n, input: null }
      const checkpoint = { actorId: actor, generation: 0, index: 0n }
      twin.port(session).command([
        { checkpoint, command: { ...start, config } },
        { checkpoint, command: { ...start, config: { ...config, name: "good" } } }
      ])
      const told = yield* runner.nextActor
      assert.strictEqual(told._tag === "Commands" && told.commands.length, 1)
    })
  )
})
