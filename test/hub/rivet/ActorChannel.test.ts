import { assert, describe } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { ActorKv, layerMemory as kvMemory } from "../../../src/actor/ActorKv.ts"
import type { KvRequest, KvResponse, NumberedCommand, NumberedEvent } from "../../../src/actor/ActorMessage.ts"
import { connect, dial, init, type ScriptedRivetRunner } from "../../../src/testing/ScriptedRivetRunner.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { actorOf, type ControlTwin, startOf, stopOf } from "./ControlTwin.ts"
import {
  accept,
  actor,
  advance,
  all,
  answer,
  arrange,
  bytesOf,
  mk1,
  mk2,
  request,
  route,
  type Scenario,
  scenario,
  settle,
  upgrade
} from "./RivetHarness.ts"

const eventOf = (actorId: string, index: number, generation = 0): NumberedEvent => ({
  checkpoint: { actorId, generation, index: BigInt(index) },
  event: { _tag: "Running" }
})

const bytes = (text: string) => Uint8Array.from(Buffer.from(text))
const put = (key: string, value: string): KvRequest => ({ _tag: "Put", keys: [bytes(key)], values: [bytes(value)] })
const get = (key: string): KvRequest => ({ _tag: "Get", keys: [bytes(key)] })

/** The next answer of a store. */
const answered = Effect.fnUntraced(function* (runner: ScriptedRivetRunner) {
  for (;;) {
    const message = yield* runner.nextActor
    if (message._tag === "KvAnswered") return message
  }
})
const valuesOf = (response: KvResponse) =>
  response._tag === "Got" || response._tag === "Listed" ? response.values.map((one) => Buffer.from(one).toString()) : []

const commandsOf = (runner: ScriptedRivetRunner): ReadonlyArray<NumberedCommand> =>
  runner.heard.flatMap(({ down }) =>
    down._tag === "Actor" && down.message._tag === "Commands" ? down.message.commands : []
  )

describe.each(mk2)("version %i: events", (version) => {
  scenario("reach the control plane, and are acknowledged at once, for each actor", (twin) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, version)
      const events = [eventOf(actorOf(1), 0, 3), eventOf(actorOf(2), 0), eventOf(actorOf(1), 1, 3)]
      yield* runner.say({ _tag: "Events", events })
      const seen = yield* runner.nextActor
      if (seen._tag !== "EventsSeen") throw new Error(seen._tag)
      assert.deepStrictEqual(
        seen.upTo.map(({ actorId, index }) => [actorId, index]),
        [
          [actorOf(1), 1n],
          [actorOf(2), 0n]
        ]
      )
      if (version > 4) assert.strictEqual(seen.upTo[0]?.generation, 3)
      assert.deepStrictEqual(twin.events, events)
    })
  )

  scenario("that are none are taken, and nothing is said about them", (twin) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, version)
      yield* runner.say({ _tag: "Events", events: [] })
      yield* settle
      assert.deepStrictEqual(yield* runner.pending, [])
    })
  )

  scenario("of a whole history come as one list", (twin) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, version)
      const events = Array.from({ length: 50_000 }, (_, i) => eventOf(actor, i))
      yield* runner.say({ _tag: "Events", events })
      yield* runner.nextActor
      assert.strictEqual(twin.events.length, 50_000)
    })
  )
})

describe.each(mk1)("version %i: events", (version) => {
  scenario("are acknowledged by their number, which never goes back, and is told again after a reconnect", (twin) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, version)
      assert.strictEqual(runner.welcome.lastEventIndex, -1n)
      yield* runner.say({ _tag: "Events", events: [eventOf(actorOf(1), 4), eventOf(actorOf(2), 5)] })
      assert.deepStrictEqual(yield* runner.nextActor, { _tag: "EventsSeenUpTo", index: 5n })
      yield* runner.say({ _tag: "Events", events: [eventOf(actorOf(1), 3)] })
      assert.deepStrictEqual(yield* runner.nextActor, { _tag: "EventsSeenUpTo", index: 5n })
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      const back = yield* connect({ version })
      assert.strictEqual(back.welcome.lastEventIndex, 5n)
    })
  )
})

describe.each(mk2)("version %i: commands", (version) => {
  scenario("are told with their actor's own numbers, and their acks reach the control plane", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, version)
      twin.port(session).command([startOf(actor, 2), stopOf(actor, 2), startOf(actorOf(2), 0)])
      yield* settle
      assert.deepStrictEqual(commandsOf(runner), [startOf(actor, 2), stopOf(actor, 2), startOf(actorOf(2), 0)])
      yield* runner.say({ _tag: "CommandsDone", upTo: [{ actorId: actor, generation: 2, index: 0n }] })
      yield* settle
      assert.deepStrictEqual(twin.acknowledged, [{ actorId: actor, generation: version === 4 ? 0 : 2, index: 0n }])
    })
  )

  scenario("that are owed come after the welcome, in their order", (twin) =>
    Effect.gen(function* () {
      twin.owed = [startOf(actor, 1), stopOf(actor, 1)]
      const runner = yield* connect({ version })
      yield* settle
      assert.deepStrictEqual(commandsOf(runner), twin.owed)
      assert.deepStrictEqual(twin.attached[0]?.seen, [])
    })
  )
})

describe.each(mk1)("version %i: commands", (version) => {
  const numbers = (runner: ScriptedRivetRunner) =>
    commandsOf(runner).map(({ checkpoint }) => [checkpoint.actorId, Number(checkpoint.index)])

  scenario("are numbered for the whole runner, and an ack is translated back", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, version)
      twin.port(session).command([startOf(actor, 2), startOf(actorOf(2), 5)])
      twin.port(session).command([stopOf(actor, 2)])
      yield* settle
      assert.deepStrictEqual(numbers(runner), [
        [actor, 0],
        [actorOf(2), 1],
        [actor, 2]
      ])
      yield* runner.say({ _tag: "CommandsDoneUpTo", index: 1n })
      yield* runner.say({ _tag: "CommandsDoneUpTo", index: 1n })
      yield* settle
      assert.deepStrictEqual(twin.acknowledged, [
        { actorId: actor, generation: 2, index: 0n },
        { actorId: actorOf(2), generation: 5, index: 0n }
      ])
      yield* runner.say({ _tag: "CommandsDoneUpTo", index: 2n })
      yield* settle
      assert.deepStrictEqual(twin.acknowledged.at(-1), { actorId: actor, generation: 2, index: 1n })
    })
  )

  scenario("go on being numbered after a reconnect, whose init says which were seen", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, version)
      twin.port(session).command([startOf(actor), startOf(actorOf(2))])
      yield* settle
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      const back = yield* connect({ version, lastCommandIndex: 0n })
      yield* settle
      assert.deepStrictEqual(twin.attached.at(-1)?.seen, [{ actorId: actor, generation: 0, index: 0n }])
      twin.port(session).command([startOf(actorOf(2)), stopOf(actor)])
      yield* settle
      assert.deepStrictEqual(numbers(back), [
        [actorOf(2), 2],
        [actor, 3]
      ])
    })
  )

  scenario("to a runner that has seen more than we ever said go on behind that", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, version, { lastCommandIndex: 41n })
      twin.port(session).command([startOf(actor)])
      yield* settle
      assert.deepStrictEqual(numbers(runner), [[actor, 42]])
    })
  )
})

describe.each(all)("version %i: a store of an actor", (version) => {
  scenario("is asked and answers with the request's number", (twin) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, version)
      const say = (requestId: number, ask: KvRequest) =>
        runner.say({ _tag: "KvAsked", actorId: actor, requestId, request: ask })
      yield* say(7, put("a", "1"))
      assert.deepStrictEqual(yield* answered(runner), {
        _tag: "KvAnswered",
        requestId: 7,
        response: { _tag: "Stored" }
      })
      yield* say(8, get("a"))
      const got = yield* answered(runner)
      assert.strictEqual(got.requestId, 8)
      assert.deepStrictEqual(valuesOf(got.response), ["1"])
      yield* say(9, { _tag: "List", query: { _tag: "All" }, reverse: null, limit: null })
      assert.deepStrictEqual(valuesOf((yield* answered(runner)).response), ["1"])
      if (version === 7) {
        yield* say(10, { _tag: "DeleteRange", start: bytes("a"), end: bytes("b") })
        assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Deleted" })
      }
      // Tag 4 up to version 6, tag 5 in version 7.
      yield* say(11, { _tag: "Drop" })
      assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Dropped" })
      yield* say(12, { _tag: "Delete", keys: [bytes("a")] })
      assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Deleted" })
    })
  )

  scenario("of no actor, or of another runner's, is refused", (twin) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, version)
      yield* connect({ version, key: "other" })
      yield* settle
      twin.host(actorOf(2), twin.sessionOf("pool", "other"))
      for (const [i, [actorId, text]] of [
        [actorOf(3), "actor does not exist"],
        ["not an id", "actor does not exist"],
        [actorOf(2), "actor does not belong to runner"]
      ].entries()) {
        yield* runner.say({ _tag: "KvAsked", actorId: actorId as string, requestId: i, request: get("a") })
        assert.deepStrictEqual(yield* answered(runner), {
          _tag: "KvAnswered",
          requestId: i,
          response: { _tag: "Failed", message: text as string }
        })
      }
    })
  )
})

/** A store that answers when the test lets it, and says what it was asked. */
class SlowStore {
  readonly asked: Array<string> = []
  readonly gates: Array<Deferred.Deferred<void>> = []
  readonly layer: Layer.Layer<ActorKv> = Layer.effect(
    ActorKv,
    Effect.map(ActorKv, (kv) => ({
      ask: (actorId, ask) =>
        Effect.suspend(() => {
          const gate = Deferred.makeUnsafe<void>()
          this.gates.push(gate)
          this.asked.push(`${actorId === actor ? "first" : "second"} ${ask._tag}`)
          return Effect.andThen(Deferred.await(gate), kv.ask(actorId, ask))
        })
    }))
  ).pipe(Layer.provide(kvMemory))

  readonly open = Effect.suspend(() => {
    const gate = this.gates.shift()
    return gate === undefined ? Effect.die(new Error("nothing was asked")) : Deferred.succeed(gate, undefined)
  })
}

const slowly = (name: string, body: (twin: ControlTwin, store: SlowStore) => ReturnType<Scenario>) => {
  const store = new SlowStore()
  scenario(name, (twin) => body(twin, store), { kv: store.layer })
}

describe("a slow store", () => {
  slowly(
    "is asked in order for each actor, and holds up neither the other actor, nor a pong, nor an answer",
    (twin, store) =>
      Effect.gen(function* () {
        const { runner, session, visitor } = yield* arrange(twin, 7)
        twin.host(actorOf(2), session)
        yield* visitor.open(actor, 1, request("/"))
        yield* runner.nextFrame
        const say = (actorId: string, requestId: number, ask: KvRequest) =>
          runner.say({ _tag: "KvAsked", actorId, requestId, request: ask })
        yield* say(actor, 1, put("k", "1"))
        yield* say(actor, 2, put("k", "2"))
        yield* say(actor, 3, get("k"))
        yield* say(actorOf(2), 4, put("k", "9"))
        yield* settle
        assert.deepStrictEqual(store.asked, ["first Put", "second Put"])
        // Beside it everything goes on.
        yield* runner.frame(route(1), answer())
        assert.strictEqual((yield* visitor.nextFrame)._tag, "ResponseStart")
        for (let i = 0; i < 10; i++) {
          yield* runner.say({ _tag: "Pong", atMs: 0n })
          yield* advance(10_000)
        }
        assert.isUndefined(runner.socket.closedUnsafe())
        const [first, second] = store.gates.splice(0)
        yield* Deferred.succeed(second as Deferred.Deferred<void>, undefined)
        assert.strictEqual((yield* answered(runner)).requestId, 4)
        yield* Deferred.succeed(first as Deferred.Deferred<void>, undefined)
        assert.strictEqual((yield* answered(runner)).requestId, 1)
        yield* settle
        yield* store.open
        assert.strictEqual((yield* answered(runner)).requestId, 2)
        yield* settle
        yield* store.open
        assert.deepStrictEqual(valuesOf((yield* answered(runner)).response), ["2"])
      })
  )

  slowly("takes what an actor asked before its last word, and nothing after", (twin, store) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, 7)
      yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 1, request: put("a", "1") })
      yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 2, request: put("b", "2") })
      yield* settle
      twin.vacate(actor)
      yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 3, request: get("a") })
      assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Failed", message: "actor does not exist" })
      yield* store.open
      assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Stored" })
      yield* settle
      yield* store.open
      assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Stored" })
    })
  )

  slowly("keeps the order of an actor over a reconnect", (twin, store) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, 7)
      yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 1, request: put("k", "old") })
      yield* settle
      runner.socket.terminateUnsafe()
      yield* Fiber.join(runner.accepted)
      const back = yield* connect({ version: 7 })
      yield* back.say({ _tag: "KvAsked", actorId: actor, requestId: 2, request: put("k", "new") })
      yield* back.say({ _tag: "KvAsked", actorId: actor, requestId: 3, request: get("k") })
      for (const _ of [1, 2, 3]) {
        yield* settle
        yield* store.open
      }
      // Answered late rather than not: the client may still wait for it.
      assert.strictEqual((yield* answered(back)).requestId, 1)
      assert.strictEqual((yield* answered(back)).requestId, 2)
      assert.deepStrictEqual(valuesOf((yield* answered(back)).response), ["new"])
    })
  )

  slowly("is asked by no more than a bound; who is beyond hears so at once", (twin, store) =>
    Effect.gen(function* () {
      const { runner } = yield* arrange(twin, 7)
      for (let i = 0; i <= limits.kvRequestsMax; i++) {
        yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: i, request: get("a") })
      }
      const refused = yield* answered(runner)
      assert.strictEqual(refused.requestId, limits.kvRequestsMax)
      assert.strictEqual(refused.response._tag, "Failed")
      yield* settle
      yield* store.open
      assert.strictEqual((yield* answered(runner)).requestId, 0)
      yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 9_999, request: get("a") })
      yield* settle
      assert.deepStrictEqual(
        (yield* runner.pending).filter((down) => down._tag === "Actor" && down.message._tag === "KvAnswered"),
        []
      )
    })
  )
})

describe("a store that breaks", () => {
  const broken = Layer.succeed(ActorKv, {
    ask: (_, ask) =>
      ask._tag === "Get" ? Effect.die(new Error("no disk")) : Effect.succeed({ _tag: "Stored" as const })
  })
  scenario(
    "costs its request, and is asked again by the next",
    (twin) =>
      Effect.gen(function* () {
        const { runner } = yield* arrange(twin, 7)
        yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 1, request: get("a") })
        yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: 2, request: put("a", "1") })
        assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Failed", message: "the store failed" })
        assert.deepStrictEqual((yield* answered(runner)).response, { _tag: "Stored" })
      }),
    { kv: broken }
  )
})

describe("a runner that asks much and reads nothing", () => {
  const large = bytesOf(limits.kvValueBytesMax)
  const asked: Array<number> = []
  const generous = Layer.succeed(ActorKv, {
    ask: () =>
      Effect.sync(() => {
        asked.push(1)
        return {
          _tag: "Got" as const,
          keys: [bytes("a")],
          values: [large],
          metadata: [{ version: bytes("v"), updatedAtMs: 0n }]
        }
      })
  })
  scenario(
    "has its next answers made once it reads",
    (twin) =>
      Effect.gen(function* () {
        const { session } = yield* arrange(twin, 7, { key: "first" })
        twin.host(actorOf(2), session)
        const runner = yield* dial({ version: 7, key: "deaf", reads: false })
        yield* runner.say(init())
        yield* settle
        twin.host(actor, twin.sessionOf("pool", "deaf"))
        for (let i = 0; i < 100; i++) {
          yield* runner.say({ _tag: "KvAsked", actorId: actor, requestId: i, request: get("a") })
        }
        yield* settle
        const most = limits.rivetAnswersBytesMax + limits.socketHighWaterBytes
        assert.isAtMost(asked.length, 2 + most / large.length)
        let bytesRead = 0
        while (bytesRead < 100 * large.length) {
          for (const { data } of yield* runner.socket.pull) bytesRead += data.length
          yield* settle
        }
        assert.strictEqual(asked.length, 100)
      }),
    { kv: generous }
  )
})

describe.each(all)("version %i: whether an actor is still there", (version) => {
  scenario("is asked by a request that no app sees, whose answer reaches nobody else", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, version)
      twin.port(session).probe?.({ actorId: actor, generation: 0, runner: session })
      const asked = yield* runner.nextFrame
      assert.strictEqual(asked.actorId, actor)
      assert.deepInclude(asked.frame, { _tag: "RequestStart", method: "GET", target: "/", streamed: false })
      assert.strictEqual(asked.frame._tag === "RequestStart" && asked.frame.body.length, 1)
      assert.deepStrictEqual(twin.alive, [])
      yield* runner.frame(asked.route, { ...answer(bytesOf(3)), status: 500 })
      yield* settle
      assert.deepStrictEqual(twin.alive, [actor])
      assert.deepStrictEqual(yield* visitor.pending, [])
      // Once: what comes on that route now answers nothing.
      yield* runner.frame(asked.route, answer())
      yield* settle
      assert.deepStrictEqual(twin.alive, [actor])
      assert.isUndefined(runner.socket.closedUnsafe())
    })
  )

  scenario("shows in every answer of that generation, and in none of an older one", (twin) =>
    Effect.gen(function* () {
      const { runner, session, visitor } = yield* arrange(twin, version)
      yield* visitor.open(actor, 1, request("/"))
      yield* visitor.open(actor, 2, request("/"))
      yield* runner.frame(route(1), answer())
      yield* settle
      assert.deepStrictEqual(twin.alive, [actor])
      twin.host(actor, session, 1)
      yield* runner.frame(route(2), answer())
      yield* settle
      assert.deepStrictEqual(twin.alive, [actor])
    })
  )

  scenario("is doubted where a WebSocket was neither opened nor refused in its time, and not where one was", (twin) =>
    Effect.gen(function* () {
      const { runner, visitor } = yield* arrange(twin, version)
      for (const id of [1, 2, 3]) yield* visitor.open(actor, id, upgrade)
      yield* visitor.open(actor, 4, request("/"))
      yield* runner.frame(route(1), accept())
      yield* settle
      for (const id of [1, 4]) yield* visitor.follow(id, { _tag: "RequestAbort", code: "deadline" })
      yield* visitor.follow(2, { _tag: "RequestAbort", code: "cancelled" })
      yield* settle
      assert.deepStrictEqual(twin.suspected, [])
      yield* visitor.follow(3, { _tag: "RequestAbort", code: "deadline" })
      yield* settle
      assert.deepStrictEqual(twin.suspected, [actor])
    })
  )
})

describe("actors that were asked after", () => {
  scenario("are remembered up to a number; an answer of one that was forgotten does no harm", (twin) =>
    Effect.gen(function* () {
      const { runner, session } = yield* arrange(twin, 7)
      for (let i = 0; i <= limits.rivetProbesOut; i++) {
        twin.port(session).probe?.({ actorId: actor, generation: 0, runner: session })
      }
      const first = yield* runner.nextFrame
      const second = yield* runner.nextFrame
      yield* runner.frame(first.route, answer())
      yield* settle
      assert.deepStrictEqual(twin.alive, [])
      yield* runner.frame(second.route, answer())
      yield* settle
      assert.deepStrictEqual(twin.alive, [actor])
      assert.isUndefined(runner.socket.closedUnsafe())
    })
  )
})
