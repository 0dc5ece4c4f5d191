import { assert, describe } from "@effect/vitest"
import { Effect, Fiber, Option } from "effect"
import { TestClock } from "effect/testing"
import type { ActorDownlink } from "../../../src/actor/ActorMessage.ts"
import { Hub } from "../../../src/hub/Hub.ts"
import { pair } from "../../../src/socket/MessageSocket.ts"
import {
  connect,
  dial,
  init,
  onSocket,
  queryOf,
  type ScriptedRivetRunner
} from "../../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { actorOf, startOf, stopOf } from "./ControlTwin.ts"
import {
  accept,
  actor,
  advance,
  all,
  answer,
  arrange,
  asText,
  atRest,
  bytesOf,
  chunk,
  close,
  closeDown,
  key,
  message,
  mk1,
  mk2,
  request,
  rivetGateway,
  route,
  scenario,
  settle,
  socketId,
  upgrade,
  withSocket
} from "./RivetHarness.ts"

const KiB = 1024
const second = 1_000

/** What the hub closed with, without the ray. */
const wordsOf = (runner: Pick<ScriptedRivetRunner, "socket">) => {
  const closed = runner.socket.closedUnsafe()
  return closed === undefined ? undefined : `${closed.code} ${closed.reason.split("#")[0]}`
}

const pingsOf = ({ heard }: Pick<ScriptedRivetRunner, "heard">) =>
  heard.flatMap(({ down }) =>
    down._tag === "Actor" && down.message._tag === "Ping" ? [Number(down.message.atMs)] : []
  )

const cut = Effect.fnUntraced(function* (runner: {
  readonly socket: ScriptedRivetRunner["socket"]
  readonly accepted: Fiber.Fiber<void>
}) {
  runner.socket.terminateUnsafe()
  yield* Fiber.join(runner.accepted)
  yield* settle
})

describe.each(mk2)("version %i: pings", (version) => {
  scenario("come every three seconds and a little, with the time; who answers them lives", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ version, pongs: true })
      yield* advance(60 * second, 100)
      const pings = pingsOf(runner)
      assert.isAtLeast(pings.length, 19)
      assert.isAtMost(pings.length, 20)
      for (const [i, at] of pings.entries()) {
        const since = at - (pings[i - 1] ?? 0)
        assert.isTrue(since >= 3_000 && since <= 3_127, `${since} ms`)
      }
      assert.isUndefined(runner.socket.closedUnsafe())
    })
  )

  scenario("that stay unanswered for fifteen seconds end the connection, and it may come back", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ version })
      yield* advance(15 * second)
      assert.isUndefined(runner.socket.closedUnsafe())
      yield* advance(3_200)
      assert.strictEqual(wordsOf(runner), "1011 core.internal_error")
      const back = yield* connect({ version })
      assert.strictEqual(back.welcome.runnerId, runner.welcome.runnerId)
    })
  )

  scenario("need not be answered by who says something else, whatever it is", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ version })
      for (let i = 0; i < 10; i++) {
        yield* runner.say({ _tag: "Pong", atMs: BigInt(i) })
        yield* advance(10 * second)
      }
      assert.isUndefined(runner.socket.closedUnsafe())
    })
  )
})

describe.each(mk1)("version %i: a runner that is silent", (version) => {
  scenario("is not pinged, and its connection stays; its own pings are not answered", () =>
    Effect.gen(function* () {
      const runner = yield* connect({ version })
      yield* runner.say({ _tag: "RunnerPing", atMs: 1n })
      yield* advance(600 * second, 5_000)
      assert.isUndefined(runner.socket.closedUnsafe())
      assert.strictEqual(runner.heard.length, 1)
    })
  )
})

describe("a runner that is busy taking a large request", () => {
  const busy = Effect.fnUntraced(function* (twin: Parameters<typeof arrange>[0]) {
    const { visitor } = yield* arrange(twin, 7)
    const runner = yield* dial({ version: 7, key: "slow", reads: false })
    yield* runner.say(init())
    yield* settle
    twin.host(actorOf(2), twin.sessionOf("pool", "slow"))
    yield* visitor.open(actorOf(2), 1, request("/up", { body: bytesOf(1024 * KiB) }))
    return runner
  })

  scenario("need not answer pings meanwhile: they stand behind it", (twin) =>
    Effect.gen(function* () {
      const runner = yield* busy(twin)
      yield* advance(limits.rivetStallMs - second)
      assert.isUndefined(runner.socket.closedUnsafe())
      // It has got through, and answers.
      yield* runner.socket.pull
      yield* settle
      yield* advance(10 * second)
      yield* runner.say({ _tag: "Pong", atMs: 0n })
      yield* advance(10 * second)
      assert.isUndefined(runner.socket.closedUnsafe())
    })
  )

  scenario("is given up where that takes for ever", (twin) =>
    Effect.gen(function* () {
      const runner = yield* busy(twin)
      yield* advance(limits.rivetStallMs + limits.rivetPongMs + 7 * second)
      assert.strictEqual(wordsOf(runner), "1011 core.internal_error")
    })
  )
})

describe.each(all)("version %i: a newer connection of the same runner", (version) => {
  scenario("evicts the older one, and has its requests", (twin) =>
    Effect.gen(function* () {
      const { runner: older, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* older.nextFrame
      const newer = yield* connect({ version })
      assert.strictEqual(wordsOf(older), "1000 ws.eviction")
      assert.strictEqual(newer.welcome.runnerId, older.welcome.runnerId)
      yield* older.frame(route(1), answer(bytesOf(1)))
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      yield* newer.frame(route(1), answer(bytesOf(2)))
      const head = yield* visitor.frameOf(1)
      assert.strictEqual(head._tag === "ResponseStart" && head.body.length, 2)
      yield* atRest
    })
  )

  scenario("is the only one that is left of three that come at once", (twin) =>
    Effect.gen(function* () {
      const runners = yield* Effect.forEach(
        [1, 2, 3],
        () => Effect.tap(dial({ version }), (runner) => runner.say(init())),
        { concurrency: "unbounded" }
      )
      yield* settle
      const [alive, ...others] = runners.filter(({ socket }) => socket.closedUnsafe() === undefined)
      assert.isDefined(alive)
      assert.strictEqual(others.length, 0)
      for (const runner of runners) if (runner !== alive) assert.strictEqual(wordsOf(runner), "1000 ws.eviction")
      assert.strictEqual(twin.ports.size, 1)
    })
  )

  scenario("evicts nobody of another key or another name", () =>
    Effect.gen(function* () {
      const runners = [
        yield* connect({ version }),
        yield* connect({ version, key: "other" }),
        yield* connect({ version, name: "other" })
      ]
      yield* settle
      for (const runner of runners) assert.isUndefined(runner.socket.closedUnsafe())
      assert.strictEqual(new Set(runners.map(({ welcome }) => welcome.runnerId)).size, 3)
    })
  )
})

describe.each(all)("version %i: a runner whose connection broke", (version) => {
  scenario("answers over the next one what it was asked over the last, and gets what came meanwhile", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* visitor.open(actor, 2, request("/streamed"))
      yield* runner.nextFrame
      yield* runner.nextFrame
      yield* runner.frame(route(2), answer(bytesOf(1), true), 0)
      yield* settle
      yield* cut(runner)
      yield* visitor.open(actor, 3, request("/meanwhile"))
      yield* advance(14 * second)
      const back = yield* connect({ version })
      assert.deepInclude(yield* back.nextFrame, { route: route(3), index: 0 })
      yield* back.frame(route(1), answer())
      yield* back.frame(route(2), chunk(bytesOf(2), true), 1)
      yield* back.frame(route(3), answer())
      const ends = new Set<number>()
      while (ends.size < 3) {
        const { frame, route: at } = yield* visitor.next
        if (frame._tag !== "Credit") ends.add(at.requestId)
      }
      yield* atRest
      assert.deepStrictEqual(twin.lost, [])
    })
  )

  scenario("and does not come back is lost after fifteen seconds, and whoever waits is told", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* cut(runner)
      yield* visitor.open(actor, 2, request("/unseen"))
      yield* visitor.open(actor, 3, request("/unseen", { streamed: true }))
      yield* settle
      yield* visitor.pending
      yield* TestClock.adjust(limits.runnerLostMs - 1)
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* TestClock.adjust(1)
      yield* settle
      assert.deepStrictEqual(
        Object.fromEntries(
          (yield* visitor.pendingFrames).map(({ frame, requestId }) => [
            requestId,
            frame._tag === "ResponseAbort" && frame.code
          ])
        ),
        { 1: "session_lost", 2: "no_runner", 3: "no_runner" }
      )
      assert.deepStrictEqual(twin.lost, [session])
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
      yield* atRest
    })
  )

  scenario("finds the requests of actors that ended meanwhile ended as well", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, version)
      const other = actorOf(2)
      twin.host(other, session)
      yield* visitor.open(actor, 1, request("/"))
      yield* visitor.open(other, 2, request("/"))
      yield* runner.nextFrame
      yield* runner.nextFrame
      yield* cut(runner)
      twin.vacate(actor)
      const back = yield* connect({ version })
      assert.deepInclude(yield* visitor.frameOf(1), { _tag: "ResponseAbort", code: "actor_stopped" })
      yield* back.frame(route(2), answer())
      assert.strictEqual((yield* visitor.frameOf(2))._tag, "ResponseStart")
      yield* atRest
    })
  )
})

describe.each(mk2)("version %i: a WebSocket that cannot hibernate, over a reconnect", (version) => {
  scenario("goes on where an answered ping proves that all messages to it have arrived", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.follow(socketId, message("one"))
      assert.strictEqual(asText((yield* runner.nextFrame).frame), "one")
      yield* advance(3_200, 100)
      const [ping] = pingsOf(runner)
      yield* runner.say({ _tag: "Pong", atMs: BigInt(ping as number) })
      yield* settle
      yield* cut(runner)
      const back = yield* connect({ version })
      yield* visitor.follow(socketId, message("two"))
      assert.deepInclude(yield* back.nextFrame, { route: key, index: 2 })
      yield* back.frame(key, message("up"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "up")
    })
  )

  for (const [what, pong] of [
    ["no ping was answered since", undefined],
    ["an older ping was answered since", 0],
    ["something was answered that we did not ask", 12_345]
  ] as const) {
    scenario(`ends on both sides where ${what}`, (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* withSocket(twin, version)
        yield* advance(3_200, 100)
        yield* visitor.follow(socketId, message("one"))
        yield* runner.nextFrame
        yield* advance(3_200, 100)
        const pings = pingsOf(runner)
        assert.strictEqual(pings.length, 2)
        if (pong !== undefined) yield* runner.say({ _tag: "Pong", atMs: BigInt(pings[pong] ?? pong) })
        yield* settle
        yield* cut(runner)
        yield* visitor.pending
        const back = yield* connect({ version })
        assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "gap" })
        assert.deepInclude(yield* back.nextFrame, { frame: closeDown(1011, "ws.downstream_closed") })
        yield* back.frame(key, close(1011, "ws.downstream_closed"))
        yield* atRest
      })
    )
  }
})

describe.each(mk2)("version %i: two WebSockets that cannot hibernate, over a reconnect", (version) => {
  scenario("both end where something of each may be missing, and neither hears what was said after it", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      const other = socketId + 1
      yield* visitor.open(actor, other, upgrade)
      yield* runner.nextFrame
      yield* runner.frame(route(other), accept(false))
      for (const id of [socketId, other]) yield* visitor.follow(id, message("lost"))
      yield* advance(2 * second, 100)
      yield* cut(runner)
      for (const id of [socketId, other]) yield* visitor.follow(id, message("after it"))
      const back = yield* connect({ version })
      yield* settle
      const heard = back.heard.flatMap(({ down }) => (down._tag === "TunnelDown" ? [down] : []))
      assert.deepStrictEqual(
        heard.map(({ frame }) => frame),
        [closeDown(1011, "ws.downstream_closed"), closeDown(1011, "ws.downstream_closed")]
      )
    })
  )
})

describe.each(mk1)("version %i: a WebSocket that cannot hibernate, over a reconnect", (version) => {
  scenario("goes on: nothing proves what has arrived, and nothing that it has not", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version)
      yield* visitor.follow(socketId, message("one"))
      yield* runner.nextFrame
      yield* cut(runner)
      const back = yield* connect({ version })
      yield* visitor.follow(socketId, message("two"))
      assert.deepInclude(yield* back.nextFrame, { route: key, index: 2 })
    })
  )
})

describe.each(all)("version %i: a runner that leaves", (version) => {
  scenario("is told to stop its actors, keeps its requests, and is lost as soon as it is gone", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      yield* runner.say({ _tag: "Stopping" })
      yield* settle
      assert.deepStrictEqual(twin.draining, [session])
      twin.port(session).command([stopOf(actor)])
      assert.deepInclude((yield* runner.nextActor) as ActorDownlink, { _tag: "Commands" })
      yield* runner.frame(route(1), answer())
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
      // For as long as it takes: nobody hurries it.
      for (let i = 0; i < 12; i++) {
        yield* runner.say({ _tag: "Events", events: [] })
        yield* advance(10 * second)
      }
      assert.isUndefined(runner.socket.closedUnsafe())
      runner.socket.closeUnsafe(1000, "pegboard.runner_shutdown")
      yield* Fiber.join(runner.accepted)
      yield* settle
      assert.deepStrictEqual(twin.lost, [session])
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
    })
  )

  scenario("gets no new requests by its name", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      yield* runner.say({ _tag: "Stopping" })
      yield* settle
      yield* visitor.openName("pool", 1, request("/"))
      assert.deepInclude(yield* visitor.nextFrame, { _tag: "ResponseAbort", code: "no_runner" })
    })
  )

  scenario(
    "has its last answer passed on at the pace of a slow visitor; what it had not answered ends at once",
    (twin) =>
      Effect.gen(function* () {
        const { runner, session, visitor } = yield* arrange(twin, version)
        yield* visitor.open(actor, 1, request("/big"))
        yield* visitor.open(actor, 2, request("/waits"))
        yield* visitor.open(actor, 3, request("/partly"))
        for (let i = 0; i < 3; i++) yield* runner.nextFrame
        const big = bytesOf(1024 * KiB)
        yield* runner.frame(route(1), answer(big), 0)
        yield* runner.frame(route(3), answer(bytesOf(9), true), 0)
        runner.socket.closeUnsafe(1000, "pegboard.runner_shutdown")
        yield* Fiber.join(runner.accepted)
        yield* settle
        assert.deepStrictEqual(twin.lost, [session])
        let got = 0
        const ends = new Map<number, string>()
        while (got < big.length) {
          const { frame, route: at } = yield* visitor.next
          if (at.requestId !== 1) {
            if (frame._tag === "ResponseAbort") ends.set(at.requestId, frame.code)
            continue
          }
          if (frame._tag !== "ResponseStart" && frame._tag !== "ResponseChunk") continue
          got += frame.body.length
          yield* visitor.grant(1, frame.body.length)
        }
        yield* settle
        assert.deepStrictEqual(
          ends,
          new Map([
            [2, "session_lost"],
            [3, "session_lost"]
          ])
        )
        yield* atRest
        assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
      })
  )
})

describe("a runner that has left", () => {
  scenario("is cut off where a visitor takes its answer too slowly", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      yield* visitor.open(actor, 1, request("/big"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(1024 * KiB)))
      yield* settle
      runner.socket.closeUnsafe(1000, "")
      yield* Fiber.join(runner.accepted)
      for (let ms = 0; ms < limits.rivetLingerMs; ms += 10_000) {
        assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 1)
        yield* visitor.lives
        yield* advance(10_000, 5_000)
      }
      let last = yield* visitor.frameOf(1)
      while (last._tag !== "ResponseAbort") last = yield* visitor.frameOf(1)
      assert.strictEqual(last.code, "session_lost")
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
      yield* atRest
    })
  )

  scenario("and comes anew is another, beside what is left of the first", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      yield* visitor.open(actor, 1, request("/big"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(512 * KiB)))
      yield* settle
      runner.socket.closeUnsafe(1000, "")
      yield* Fiber.join(runner.accepted)
      const anew = yield* connect({ version: 7 })
      yield* settle
      assert.notStrictEqual(anew.welcome.runnerId, runner.welcome.runnerId)
      twin.start(actor, twin.sessionOf(), 1)
      yield* visitor.open(actor, 2, request("/"))
      assert.deepInclude(yield* anew.nextFrame, { route: route(2) })
      yield* anew.frame(route(2), answer())
      assert.strictEqual((yield* visitor.frameOf(2))._tag, "ResponseStart")
      yield* visitor.grant(1, 256 * KiB)
      for (let end = false; !end; ) {
        const frame = yield* visitor.frameOf(1)
        end = frame._tag === "ResponseChunk" && frame.finish
      }
      yield* atRest
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 1)
    })
  )

  scenario("under an identity that is given to it once more goes on with that", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, 7)
      yield* visitor.open(actor, 1, request("/big"))
      yield* runner.nextFrame
      yield* runner.frame(route(1), answer(bytesOf(512 * KiB)))
      yield* settle
      runner.socket.closeUnsafe(1000, "")
      yield* Fiber.join(runner.accepted)
      twin.identifyAs("pool", "key", session)
      const back = yield* connect({ version: 7 })
      yield* settle
      twin.host(actor, session, 1)
      yield* visitor.open(actor, 2, request("/"))
      assert.deepInclude(yield* back.nextFrame, { route: route(2) })
      yield* back.frame(route(2), answer())
      yield* visitor.frameOf(2)
      yield* visitor.grant(1, 256 * KiB)
      for (let end = false; !end; ) {
        const frame = yield* visitor.frameOf(1)
        end = frame._tag === "ResponseChunk" && frame.finish
      }
      yield* advance(limits.rivetLingerMs + second, 5_000)
      yield* atRest
    })
  )
})

describe("a hub that drains", () => {
  scenario("lets a runner finish what is open, and then has it go elsewhere", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7, { pongs: true })
      yield* visitor.open(actor, 1, request("/"))
      yield* runner.nextFrame
      const drained = yield* Effect.forkScoped(Hub.use((hub) => hub.drain))
      // Nothing can be said to it, so nothing is waited for.
      yield* settle
      yield* visitor.open(actor, 2, request("/"))
      assert.deepInclude(yield* visitor.frameOf(2), { _tag: "ResponseAbort", code: "draining" })
      yield* advance(5 * second)
      assert.isUndefined(runner.socket.closedUnsafe())
      yield* runner.frame(route(1), answer())
      yield* visitor.frameOf(1)
      yield* advance(2 * second)
      yield* Fiber.join(drained)
      assert.strictEqual(wordsOf(runner), "1011 ws.going_away")
    })
  )

  scenario("waits for no WebSocket that outlives it: its visitor and its app go on until the others are done", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, 7, true)
      yield* visitor.open(actor, 2, request("/"))
      yield* runner.nextFrame
      const drained = yield* Effect.forkScoped(Hub.use((hub) => hub.drain))
      yield* advance(limits.drainNoticeMs + 3 * second)
      assert.isUndefined(drained.pollUnsafe())
      yield* runner.frame(key, message("still here"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "still here")
      yield* runner.frame(route(2), answer())
      yield* visitor.frameOf(2)
      yield* advance(2 * second)
      yield* Fiber.join(drained)
      assert.strictEqual(wordsOf(runner), "1011 ws.going_away")
    })
  )

  scenario("reads what a runner said until it heard of that, and waits no longer than for a close", (twin) =>
    Effect.gen(function* () {
      const hub = yield* Hub
      const visitor = yield* rivetGateway
      const [near, far] = pair({ protocol: "rivet" })
      let begun = false
      // Its close takes its time: what is under way meanwhile arrives.
      const slow = Object.assign(far, { closeUnsafe: () => void (begun = true) })
      yield* Effect.forkScoped(
        hub.accept(slow, { token: Option.none(), remoteAddress: "", rivetQuery: queryOf({ version: 7 }) })
      )
      const runner = yield* onSocket(near, 7, { pongs: true })
      yield* runner.say(init())
      yield* runner.nextActor
      twin.host(actor, twin.sessionOf())
      yield* visitor.open(actor, socketId, upgrade)
      yield* runner.nextFrame
      yield* runner.frame(key, accept(true))
      assert.strictEqual((yield* visitor.frameOf(socketId))._tag, "WebSocketOpen")
      const drained = yield* Effect.forkScoped(hub.drain)
      yield* advance(second)
      assert.isTrue(begun)
      yield* runner.frame(key, message("last words"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "last words")
      assert.isUndefined(drained.pollUnsafe())
      yield* advance(limits.serverCloseMs)
      yield* Fiber.join(drained)
    })
  )

  scenario(
    "waits for it all the same where its visitor is of this process, and ends with it",
    (twin) =>
      Effect.gen(function* () {
        const { runner } = yield* withSocket(twin, 7, true)
        const drained = yield* Effect.forkScoped(Hub.use((hub) => hub.drain))
        yield* advance(5 * second)
        assert.isUndefined(drained.pollUnsafe())
        assert.isUndefined(runner.socket.closedUnsafe())
      }),
    { hub: { alone: true } }
  )
})

describe("commands that were ordered over a connection that broke", () => {
  scenario("are not told again beside those that the next one is owed", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* withSocket(twin, 7, true)
      // A start that has to wait for a WebSocket whose visitor is slow.
      yield* runner.frame(key, message(bytesOf(512 * KiB)))
      yield* settle
      twin.end(actor, true)
      twin.start(actor, session, 1)
      yield* settle
      yield* cut(runner)
      twin.owed = [startOf(actor, 1)]
      const back = yield* connect({ version: 7 })
      yield* advance(3 * second, 100)
      yield* visitor.pending
      const starts = (yield* back.pending).filter((down) => down._tag === "Actor" && down.message._tag === "Commands")
      assert.strictEqual(starts.length, 1)
    })
  )
})
