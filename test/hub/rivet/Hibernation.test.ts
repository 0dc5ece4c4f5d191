import { assert, describe } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"
import { Hub } from "../../../src/hub/Hub.ts"
import { connect } from "../../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { changedBus } from "../../bus/ChangedBus.ts"
import { type ControlTwin, startOf } from "./ControlTwin.ts"
import {
  ack,
  actor,
  advance,
  arrange,
  asText,
  atRest,
  bytesOf,
  close,
  closeDown,
  hibernating,
  key,
  message,
  request,
  route,
  scenario,
  settle,
  socketId,
  withSocket
} from "./RivetHarness.ts"

const KiB = 1024
const asleep = close(null, "", true)
/** Versions that can say in a start which WebSockets wait. */
const listing = hibernating.filter((version) => version > 2)

type Arranged = Effect.Success<ReturnType<typeof withSocket>>

/** One WebSocket that can hibernate, whose actor has fallen asleep. */
const sleeping = Effect.fnUntraced(function* (twin: ControlTwin, version: number) {
  const arranged = yield* withSocket(twin, version, true)
  twin.end(actor, true)
  assert.deepStrictEqual(yield* arranged.visitor.frameOf(socketId), asleep)
  yield* atRest
  return arranged
})

/** The WebSocket is attached: its gateway has its credit, and says where it goes on. */
const attached = Effect.fnUntraced(function* ({ visitor }: Arranged, index: number) {
  const credit = yield* visitor.next
  assert.deepInclude(credit.frame, { _tag: "Credit", bytes: limits.windowBytesInitial })
  assert.notStrictEqual(credit.session, "")
  yield* visitor.wake(socketId, actor, index, "hub")
  yield* settle
  return credit
})

/** Data goes both ways, from this number on. */
const converses = Effect.fnUntraced(function* (
  visitor: Arranged["visitor"],
  runner: Pick<Arranged["runner"], "frame" | "next" | "nextFrame">,
  index: number
) {
  yield* visitor.follow(socketId, message("down"))
  const heard = yield* runner.nextFrame
  assert.deepStrictEqual([heard.route, heard.index, asText(heard.frame)], [key, index, "down"])
  yield* runner.frame(key, message("up"))
  assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "up")
})

/** The next start that the runner is told, as its list of WebSockets. */
const nextStart = Effect.fnUntraced(function* (runner: Arranged["runner"]) {
  const told = yield* runner.nextActor
  if (told._tag !== "Commands") throw new Error(told._tag)
  const command = told.commands[0]?.command
  if (command?._tag !== "StartActor") throw new Error("no start")
  return command.hibernating
})

describe.each(hibernating)("version %i: a WebSocket that can hibernate", (version) => {
  scenario("falls asleep with its actor, after all that the app has said", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version, true)
      yield* runner.frame(key, message("one"))
      yield* runner.frame(key, message("two"))
      yield* settle
      twin.end(actor, true)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "one")
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "two")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* atRest
      // The runner hears nothing of it.
      assert.deepStrictEqual(yield* runner.pending, [])
    })
  )

  scenario("is closed where its actor is gone for good", (twin) =>
    Effect.gen(function* () {
      const { visitor } = yield* withSocket(twin, version, true)
      twin.end(actor, false)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1000, "actor.stopped"))
      yield* atRest
    })
  )

  scenario("falls asleep where the app closes it to hibernate", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* withSocket(twin, version, true)
      yield* runner.frame(key, message("bye"))
      yield* runner.frame(key, close(1000, "later", true))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "bye")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* visitor.wake(socketId, actor, 1)
      yield* settle
    })
  )

  scenario("wakes without being opened again, and goes on where its gateway says", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, version)
      const { runner, session, visitor } = arranged
      twin.host(actor, session, 1)
      yield* visitor.wake(socketId, actor, 65_534)
      yield* attached(arranged, 65_534)
      yield* converses(visitor, runner, 65_534)
      yield* converses(visitor, runner, 65_535)
      yield* converses(visitor, runner, 0)
      yield* runner.frame(key, close(1000, "done"))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1000, "done"))
      yield* atRest
    })
  )

  scenario("falls asleep with its runner, and wakes on another", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* withSocket(twin, version, true)
      const { runner, visitor } = arranged
      yield* visitor.follow(socketId, message("unacknowledged"))
      yield* runner.nextFrame
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      yield* TestClock.adjust(limits.runnerLostMs - 1)
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* atRest
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
      const other = yield* connect({ version, key: "other" })
      yield* settle
      twin.host(actor, twin.sessionOf("pool", "other"), 1)
      yield* visitor.wake(socketId, actor, 1)
      yield* attached(arranged, 1)
      yield* converses(visitor, other, 1)
    })
  )

  scenario("of a runner that comes back sleeps for a moment, and what was not acknowledged comes again", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* withSocket(twin, version, true)
      const { runner, visitor } = arranged
      yield* visitor.follow(socketId, message("one"))
      yield* visitor.follow(socketId, message("two"))
      assert.strictEqual((yield* runner.nextFrame).index, 1)
      yield* runner.frame(key, ack(1))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), ack(1))
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      // Said to nobody; its gateway has it.
      yield* visitor.follow(socketId, message("three"))
      yield* settle
      yield* visitor.pending
      const back = yield* connect({ version })
      // The client sends what it kept at once, for a socket that it never lost.
      yield* back.frame(key, message("kept"))
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* attached(arranged, 2)
      for (const text of ["two", "three"]) yield* visitor.follow(socketId, message(text))
      for (const [index, text] of [
        [2, "two"],
        [3, "three"]
      ]) {
        const heard = yield* back.nextFrame
        assert.deepStrictEqual([heard.index, asText(heard.frame)], [index, text])
      }
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "kept")
      yield* converses(visitor, back, 4)
    })
  )
})

describe.each(listing)("version %i: an actor that starts", (version) => {
  scenario(
    "has thrown away what it was not told of: a gateway that asks for that later hears that it is over",
    (twin) =>
      Effect.gen(function* () {
        const { runner, session, visitor } = yield* arrange(twin, version)
        twin.start(actor, session, 1)
        assert.deepStrictEqual(yield* nextStart(runner), [])
        visitor.recalled.add(socketId)
        // What its handlers say as they are cleaned up.
        yield* runner.frame(key, message("of before"))
        yield* settle
        yield* visitor.wake(socketId, actor, 4)
        assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "actor_stopped" })
        yield* settle
        assert.deepStrictEqual(yield* visitor.pending, [])
        yield* atRest
      })
  )

  scenario("is told of the WebSockets that wait for it, whose gateways hear of it afterwards", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, version)
      const { runner, session, visitor } = arranged
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
      // Its handlers speak before anything was said to them.
      yield* runner.frame(key, message("restored"))
      yield* attached(arranged, 3)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "restored")
      yield* converses(visitor, runner, 3)
    })
  )

  scenario("on another runner is told of them too, and the first one speaks for them no more", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, version)
      const { runner, visitor } = arranged
      const other = yield* connect({ version, key: "other" })
      yield* settle
      twin.start(actor, twin.sessionOf("pool", "other"), 1)
      assert.deepStrictEqual(yield* nextStart(other), [key])
      yield* attached(arranged, 1)
      yield* runner.frame(key, message("old"))
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      yield* converses(visitor, other, 1)
    })
  )

  scenario("is told of none where none waits, above all not of one whose visitor has left", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* sleeping(twin, version)
      yield* visitor.follow(socketId, closeDown(1001))
      yield* settle
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [])
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* atRest
    })
  )

  scenario("is told of those only that are its own", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* sleeping(twin, version)
      twin.port(session).command([startOf("another", 0)])
      assert.deepStrictEqual(yield* nextStart(runner), [])
    })
  )

  for (const end of [close(1000, "ws.meta_not_found_during_restore"), close(1011, "ws.restore_error")]) {
    scenario(`is told of one that it cannot restore: ${end.reason} reaches the visitor`, (twin) =>
      Effect.gen(function* () {
        const { runner, session, visitor } = yield* sleeping(twin, version)
        twin.start(actor, session, 1)
        yield* nextStart(runner)
        yield* runner.frame(key, end)
        assert.deepStrictEqual(yield* visitor.frameOf(socketId), end)
        yield* atRest
      })
    )
  }

  scenario("anew in the same breath finds those that have only begun to fall asleep", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* withSocket(twin, version, true)
      const { runner, session, visitor } = arranged
      yield* runner.frame(key, message("last"))
      yield* settle
      twin.end(actor, true)
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "last")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* attached(arranged, 1)
      yield* converses(visitor, runner, 1)
    })
  )

  scenario("in place of a generation whose end nobody told finds its WebSockets too", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* withSocket(twin, version, true)
      const { runner, session, visitor } = arranged
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* attached(arranged, 1)
      yield* converses(visitor, runner, 1)
    })
  )

  scenario("in place of a generation whose end nobody told ends what cannot go on", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* withSocket(twin, version)
      yield* visitor.open(actor, 2, request("/"))
      yield* runner.nextFrame
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [])
      yield* settle
      const told = new Map((yield* visitor.pendingFrames).map(({ frame, requestId }) => [requestId, frame]))
      assert.deepStrictEqual(told.get(socketId), close(1000, "actor.stopped"))
      assert.deepInclude(told.get(2), { _tag: "ResponseAbort", code: "actor_stopped" })
      yield* atRest
    })
  )

  scenario("twice in one generation is told of the same WebSockets twice, which stay attached", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, version)
      const { runner, session, visitor } = arranged
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
      yield* attached(arranged, 1)
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
      yield* settle
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* converses(visitor, runner, 1)
    })
  )
})

describe("a WebSocket whose visitor is slow", () => {
  /** The app has said more than its visitor takes: half of the first message is with it. */
  const backlog = Effect.fnUntraced(function* (twin: ControlTwin) {
    const arranged = yield* withSocket(twin, 7, true)
    const { runner, visitor } = arranged
    yield* runner.frame(key, message(bytesOf(512 * KiB)))
    yield* runner.frame(key, message("behind"))
    yield* settle
    const came = yield* visitor.pendingFrames
    assert.strictEqual(came.length, limits.windowBytesInitial / limits.chunkBytesMax)
    return arranged
  })
  /** The rest of that message. */
  const rest = Effect.fnUntraced(function* ({ visitor }: Arranged) {
    yield* visitor.grant(socketId, 256 * KiB)
    for (let finish = false; !finish; ) {
      const frame = yield* visitor.frameOf(socketId)
      if (frame._tag !== "WebSocketMessage") throw new Error(frame._tag)
      finish = frame.finish
    }
  })

  scenario("falls asleep once it has taken what its app said", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* backlog(twin)
      const { visitor } = arranged
      twin.end(actor, true)
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      yield* rest(arranged)
      yield* visitor.grant(socketId, 6)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "behind")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* atRest
    })
  )

  scenario("has what it did not take kept where its actor starts anew, behind the message under way", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* backlog(twin)
      const { runner, session, visitor } = arranged
      twin.end(actor, true)
      twin.start(actor, session, 1)
      yield* settle
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* rest(arranged)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
      yield* attached(arranged, 1)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "behind")
      yield* converses(visitor, runner, 1)
    })
  )

  scenario("holds up the start of its actor no longer than a second, and is lost to it then", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* backlog(twin)
      twin.end(actor, true)
      twin.start(actor, session, 1)
      yield* advance(limits.lastingSocketMs - 100, 100)
      assert.deepStrictEqual(yield* runner.pending, [])
      yield* advance(100, 100)
      assert.deepStrictEqual(yield* nextStart(runner), [])
      assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "actor_stopped" })
      yield* atRest
    })
  )

  scenario("is put on its actor again after a reconnect once the message under way is whole", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* backlog(twin)
      const { runner, visitor } = arranged
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      const back = yield* connect({ version: 7 })
      yield* settle
      assert.deepStrictEqual(yield* visitor.pendingFrames, [])
      yield* rest(arranged)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* attached(arranged, 1)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "behind")
      yield* converses(visitor, back, 1)
    })
  )

  scenario("takes what a runner had said that is lost meanwhile, and then sleeps", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* backlog(twin)
      const { runner, visitor } = arranged
      runner.socket.closeUnsafe(1000, "pegboard.runner_shutdown")
      yield* Fiber.join(runner.accepted)
      yield* settle
      assert.strictEqual(twin.lost.length, 1)
      yield* rest(arranged)
      yield* visitor.grant(socketId, 6)
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "behind")
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* atRest
      assert.strictEqual((yield* Hub.use((hub) => hub.state)).sessions, 0)
    })
  )
})

describe("a WebSocket that fails while its gateway is told that it sleeps", () => {
  let gate: Deferred.Deferred<void> | undefined
  const bus = changedBus((real) => (subject, envelopes, delivery) => {
    const publishing = real(subject, envelopes, delivery)
    return gate === undefined || delivery === "one" ? publishing : Effect.andThen(Deferred.await(gate), publishing)
  })

  scenario(
    "ends then: nobody wakes it for that",
    (twin) =>
      Effect.gen(function* () {
        const { runner, visitor } = yield* withSocket(twin, 7, true)
        yield* settle
        yield* visitor.pending
        gate = Deferred.makeUnsafe()
        runner.socket.terminateUnsafe()
        yield* Fiber.join(runner.accepted)
        const back = yield* connect({ version: 7 })
        yield* settle
        for (let i = 0; i <= limits.framesHeldMax; i++) yield* back.frame(key, ack(0))
        yield* settle
        assert.deepInclude(yield* back.nextFrame, { frame: closeDown(1011, "ws.downstream_closed") })
        yield* Deferred.succeed(gate, undefined)
        gate = undefined
        assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
        assert.deepStrictEqual(yield* visitor.frameOf(socketId), close(1011))
        yield* atRest
      }),
    { bus }
  )
})

describe("a wake", () => {
  scenario("of a WebSocket that nobody here remembers puts it on its actor all the same", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* withSocket(twin, 7, true)
      twin.host(actor, session, 3)
      yield* visitor.wake(77, actor, 12)
      const credit = yield* visitor.next
      assert.deepInclude(credit, { session, route: route(77) })
      yield* visitor.wake(77, actor, 12, "hub")
      yield* visitor.follow(77, message("after"))
      assert.deepInclude(yield* runner.nextFrame, { route: route(77), index: 12 })
    })
  )

  scenario("of one whose actor does not exist is refused, and it is forgotten", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* sleeping(twin, 7)
      yield* visitor.wake(socketId, actor, 1)
      const refused = yield* visitor.next
      assert.strictEqual(refused.session, "")
      assert.deepInclude(refused.frame, { _tag: "ResponseAbort", code: "actor_not_found" })
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [])
    })
  )

  scenario("hears within a second that somebody has it, and its credit once the actor is there", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, 7)
      const { session, visitor } = arranged
      const started = twin.hold(actor)
      yield* visitor.wake(socketId, actor, 1)
      yield* advance(limits.firstWordMs - 100, 100)
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* advance(100, 100)
      const word = yield* visitor.next
      assert.deepInclude(word, { session: "", generation: 0 })
      assert.deepStrictEqual(word.frame, { _tag: "Credit", bytes: 0 })
      twin.start(actor, session, 1)
      yield* Deferred.succeed(started, undefined)
      yield* attached(arranged, 1)
      yield* settle
      // The start took it along: the wake itself has nothing left to do.
      assert.deepStrictEqual(yield* visitor.pending, [])
    })
  )

  scenario("of one whose actor has ended again by the time it was found looks for it again", (twin) =>
    Effect.gen(function* () {
      // A visitor who does not take what the app said holds its WebSocket up for a moment.
      const arranged = yield* withSocket(twin, 7, true)
      const { runner, session, visitor } = arranged
      yield* runner.frame(key, message(bytesOf(512 * KiB)))
      yield* settle
      yield* visitor.pending
      twin.end(actor, true)
      twin.host(actor, session, 1)
      yield* visitor.wake(socketId, actor, 1)
      yield* settle
      twin.host(actor, session, 2)
      yield* visitor.grant(socketId, 256 * KiB)
      let frame = yield* visitor.frameOf(socketId)
      while (frame._tag === "WebSocketMessage") frame = yield* visitor.frameOf(socketId)
      assert.deepStrictEqual(frame, asleep)
      yield* attached(arranged, 1)
      // On the generation that is there: the end of an older one does not touch it.
      twin.port(session).ended({ actorId: actor, generation: 1, runner: session }, true)
      yield* converses(visitor, runner, 1)
      twin.end(actor, true)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
    })
  )

  scenario("that its gateway gives up is not carried out", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* sleeping(twin, 7)
      const started = twin.hold(actor)
      yield* visitor.wake(socketId, actor, 1)
      yield* settle
      yield* visitor.follow(socketId, closeDown(1000))
      yield* settle
      twin.start(actor, session, 1)
      yield* Deferred.succeed(started, undefined)
      yield* settle
      assert.deepStrictEqual(yield* nextStart(runner), [])
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* atRest
    })
  )

  scenario("that comes twice attaches once", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, 7)
      const { runner, session, visitor } = arranged
      twin.host(actor, session, 1)
      const started = twin.hold(actor)
      yield* visitor.wake(socketId, actor, 4)
      yield* visitor.wake(socketId, actor, 4)
      yield* settle
      yield* Deferred.succeed(started, undefined)
      yield* attached(arranged, 4)
      assert.deepStrictEqual(yield* visitor.pending, [])
      yield* converses(visitor, runner, 4)
    })
  )

  scenario("of one that is attached has it sleep and come back: its gateway had not heard", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* withSocket(twin, 7, true)
      const { runner, visitor } = arranged
      yield* visitor.follow(socketId, message("one"))
      yield* runner.nextFrame
      yield* settle
      yield* visitor.pending
      yield* visitor.wake(socketId, actor, 1)
      assert.deepStrictEqual(yield* visitor.frameOf(socketId), asleep)
      yield* attached(arranged, 1)
      yield* converses(visitor, runner, 1)
      yield* runner.frame(key, message("and on"))
      assert.strictEqual(asText(yield* visitor.frameOf(socketId)), "and on")
    })
  )
})

describe("WebSockets asleep", () => {
  scenario("are kept for as long as their gateway lives", (twin) =>
    Effect.gen(function* () {
      const arranged = yield* sleeping(twin, 7)
      const { runner, session, visitor } = arranged
      const pong = Effect.suspend(() => runner.say({ _tag: "RunnerPing", atMs: 0n }))
      for (let ms = 0; ms < 3 * limits.leaseMs; ms += limits.leaseRenewalMs) {
        yield* visitor.lives
        yield* runner.say({ _tag: "CommandsDone", upTo: [] })
        yield* pong
        yield* advance(limits.leaseRenewalMs, 2_000)
      }
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [key])
    })
  )

  scenario("of a gateway that fell silent for a lease are forgotten", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* sleeping(twin, 7)
      for (let ms = 0; ms <= limits.leaseMs; ms += 2_000) {
        yield* runner.say({ _tag: "CommandsDone", upTo: [] })
        yield* advance(2_000, 1_000)
      }
      twin.start(actor, session, 1)
      assert.deepStrictEqual(yield* nextStart(runner), [])
    })
  )
})

describe("a WebSocket that was opened by the name of its runners", () => {
  scenario("is woken by that name, at a hub that never heard of it", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, 7)
      twin.autostarts.set("pool", actor)
      yield* visitor.wake(socketId, "", 4, "actors", "pool")
      assert.strictEqual(yield* visitor.creditOf(socketId), limits.windowBytesInitial)
      yield* visitor.wake(socketId, "", 4, "hub", "pool")
      yield* converses(visitor, runner, 4)
    })
  )

  scenario("is asked for again later where no such runner is there", (twin) =>
    Effect.gen(function* () {
      const { visitor } = yield* arrange(twin, 7)
      yield* visitor.wake(socketId, "", 4, "actors", "nobody")
      assert.deepInclude(yield* visitor.frameOf(socketId), { _tag: "ResponseAbort", code: "no_runner" })
    })
  )
})
