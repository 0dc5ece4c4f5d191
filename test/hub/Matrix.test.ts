/**
 * The rule this project exists for, as a whole matrix: every response frame × every dialect × every state of its route × every fate of the publish.
 * Bytes as a runner of that dialect sends them are decoded and relayed; what must happen is written down once, in `expected`. The relay and the
 * table are the real ones, the store records what it is asked, and the bus does as it is told.
 */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Fiber, Layer, Metric } from "effect"
import { TestClock } from "effect/testing"
import { BusError, layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import * as HubMetrics from "../../src/hub/HubMetrics.ts"
import { makeRelay, type Relayed } from "../../src/hub/Relay.ts"
import * as Rivet from "../../src/protocol/Rivet.ts"
import * as Wayleave1 from "../../src/protocol/Wayleave1.ts"
import { type Answer, type Claimant, layerMemory, RouteStore } from "../../src/route/RouteStore.ts"
import { type RouteKey, SessionId, type Uplink } from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const body = new Uint8Array([1, 2, 3])

/** One of each, both kinds of those that may or may not end the answer, and whether they do. A variant that is missing here does not compile. */
const variants: {
  readonly [Tag in ResponseFrame["_tag"]]: ReadonlyArray<
    readonly [Extract<ResponseFrame, { readonly _tag: Tag }>, "ends" | "goes on"]
  >
} = {
  Informational: [[{ _tag: "Informational", status: 103, headers: [] }, "goes on"]],
  ResponseStart: [
    [{ _tag: "ResponseStart", status: 200, headers: [], body, streamed: false }, "ends"],
    [{ _tag: "ResponseStart", status: 200, headers: [], body, streamed: true }, "goes on"]
  ],
  ResponseChunk: [
    [{ _tag: "ResponseChunk", body, finish: false }, "goes on"],
    [{ _tag: "ResponseChunk", body, finish: true }, "ends"]
  ],
  ResponseTrailers: [[{ _tag: "ResponseTrailers", headers: [] }, "ends"]],
  ResponseAbort: [[{ _tag: "ResponseAbort", code: "app_failed", message: "" }, "ends"]],
  WebSocketOpen: [[{ _tag: "WebSocketOpen", headers: [], canHibernate: false }, "goes on"]],
  WebSocketMessage: [[{ _tag: "WebSocketMessage", data: body, binary: true, finish: true }, "goes on"]],
  WebSocketMessageAck: [[{ _tag: "WebSocketMessageAck", index: 3 }, "goes on"]],
  WebSocketClose: [
    [{ _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false }, "ends"],
    [{ _tag: "WebSocketClose", code: 1000, reason: "", hibernate: true }, "ends"]
  ],
  Credit: [[{ _tag: "Credit", bytes: 10 }, "goes on"]]
}

/** How a runner of a dialect says a frame, and how a hub reads it. */
interface Dialect {
  readonly name: string
  /** Null where the dialect has no words for it. */
  readonly encode: (route: RouteKey, frame: ResponseFrame) => Uint8Array | null
  /** The frames of a message; none where it is about no route. */
  readonly decode: (bytes: Uint8Array) => ReadonlyArray<Answer>
  /** What it cannot say. */
  readonly silent: ReadonlyArray<ResponseFrame["_tag"]>
}

const wayleave1: Dialect = {
  name: Wayleave1.subprotocol,
  encode: (route, frame) =>
    Wayleave1.toHub.encode({ _tag: "Frames", received: 0, frames: [{ route, index: 0, frame }] }),
  decode: (bytes) => {
    const message = Wayleave1.toHub.decode(bytes)
    return message._tag === "Frames" ? message.frames : []
  },
  silent: []
}

const rivet = ({ decodeUp, encodeUp, version }: Rivet.RivetVersion): Dialect => ({
  name: `Rivet v${version}`,
  encode: (route, frame) => {
    const whole = frame._tag === "WebSocketMessage" ? { ...frame, finish: true as const } : frame
    return encodeUp({ _tag: "TunnelUp", route, index: 0, frame: whole, acknowledgement: null })
  },
  decode: (bytes) => {
    const up = decodeUp(bytes)
    // The tunnel's own ack ends here: there is nothing in it for a relay.
    return up._tag === "TunnelUp" ? [up] : []
  },
  silent: version === 1 ? ["Informational", "Credit", "WebSocketMessageAck"] : ["Informational", "Credit"]
})

const dialects: ReadonlyArray<Dialect> = [wayleave1, ...Rivet.versions.map(rivet)]

const states = ["none", "Open", "Foreign", "Fenced", "Closing", "HalfClosed", "Closed"] as const
type State = (typeof states)[number]
const fates = ["succeeds", "fails", "is interrupted"] as const
type Fate = (typeof fates)[number]

interface Outcome {
  /** How often the bus is asked: a publish that fails is attempted again. */
  readonly attempts: number
  readonly refused: "Unknown" | "Foreign" | "Late" | null
  readonly routeAfter: "none" | "Open" | "Closing" | "HalfClosed" | "Closed"
  readonly reopened: 0 | 1
  /** What the store is asked besides the judgement. */
  readonly asked: ReadonlyArray<string>
}

const refusal = (refused: NonNullable<Outcome["refused"]>, routeAfter: Outcome["routeAfter"]): Outcome => ({
  attempts: 0,
  refused,
  routeAfter,
  reopened: 0,
  asked: []
})

const expected = (does: "ends" | "goes on", state: State, fate: Fate): Outcome => {
  switch (state) {
    case "none":
      return refusal("Unknown", "none")
    case "Foreign":
    case "Fenced":
      return refusal("Foreign", "Open")
    case "Closing":
    case "HalfClosed":
    case "Closed":
      return refusal("Late", state)
    case "Open": {
      const attempts = fate === "fails" ? limits.publishAttempts : 1
      const passes = { attempts, refused: null, routeAfter: "Open", reopened: 0, asked: [] } as const
      if (does === "goes on") return passes
      if (fate === "succeeds") return { ...passes, routeAfter: "Closed", asked: ["clear"] }
      return { ...passes, reopened: 1, asked: ["reopen"] }
    }
  }
}

const owner = SessionId.make("a".repeat(32))
const stranger = SessionId.make("b".repeat(32))
const key: RouteKey = { gatewayId: 0x01020304, requestId: 0x05060708 }
const present: Claimant = { session: owner, generation: 2 }

/** What a hub makes of an answer. */
const uplink = ({ frame, route }: Answer): Uplink => ({
  _tag: "Uplink",
  replyTo: "hub",
  session: owner,
  generation: present.generation,
  route,
  index: 0,
  frame
})

/** The store in memory, which notes whatever it is asked to do. */
const recording = (asked: Array<string>) =>
  Layer.effect(
    RouteStore,
    Effect.map(RouteStore, (routes) => {
      const noted =
        <Args extends ReadonlyArray<unknown>, Result>(name: string, ask: (...args: Args) => Result) =>
        (...args: Args): Result => {
          asked.push(name)
          return ask(...args)
        }
      return RouteStore.of({
        adopt: noted("adopt", routes.adopt),
        issue: noted("issue", routes.issue),
        authorize: (claimant, batch) => {
          asked.push("authorize")
          return routes.authorize(claimant, batch)
        },
        clear: noted("clear", routes.clear),
        reopen: noted("reopen", routes.reopen),
        halfClose: noted("halfClose", routes.halfClose),
        close: noted("close", routes.close),
        revoke: noted("revoke", routes.revoke),
        renew: noted("renew", routes.renew),
        expire: Effect.andThen(
          Effect.sync(() => asked.push("expire")),
          routes.expire
        ),
        counts: routes.counts
      })
    })
  ).pipe(Layer.provide(layerMemory))

/** The memory bus, with a `publish` of the test's own. */
const busThat = (publish: MessageBus["Service"]["publish"]) =>
  Layer.effect(
    MessageBus,
    Effect.map(MessageBus, (bus) => ({ ...bus, publish }))
  ).pipe(Layer.provide(busMemory))

/** A bus that meets its fate once something was handed to it. */
const fatefulBus = (fate: Fate, taken: Array<Uplink>, reached: Deferred.Deferred<void>) =>
  busThat((subject, envelopes) =>
    Effect.suspend(() => {
      taken.push(...(envelopes as ReadonlyArray<Uplink>))
      Deferred.doneUnsafe(reached, Effect.void)
      switch (fate) {
        case "succeeds":
          return Effect.void
        case "fails":
          return Effect.fail(new BusError({ subject, reason: "Full" }))
        case "is interrupted":
          return Effect.never
      }
    })
  )

const arrange = Effect.fnUntraced(function* (routes: RouteStore["Service"], state: State) {
  const end: ReadonlyArray<Answer> = [{ route: key, frame: { _tag: "ResponseAbort", code: "cancelled", message: "" } }]
  yield* routes.adopt(state === "Fenced" ? { ...present, generation: present.generation + 1 } : present)
  if (state === "none") return
  yield* Effect.orDie(routes.issue(key, state === "Foreign" ? stranger : owner))
  if (state === "Closing" || state === "Closed") yield* routes.authorize(present, end)
  if (state === "Closed") yield* routes.clear([key])
  if (state === "HalfClosed") yield* routes.halfClose(key)
})

const counterOf = {
  Unknown: Metric.withAttributes(HubMetrics.framesRefused, { reason: "unknown" }),
  Foreign: Metric.withAttributes(HubMetrics.framesRefused, { reason: "foreign" }),
  Late: Metric.withAttributes(HubMetrics.framesRefused, { reason: "late" })
}
const count = (metric: Metric.Metric<number, Metric.CounterState<number>>) =>
  Effect.map(Metric.value(metric), (state) => state.count)

const stateOf = (counts: Effect.Success<RouteStore["Service"]["counts"]>): Outcome["routeAfter"] => {
  const found = (["Open", "Closing", "HalfClosed", "Closed"] as const).filter((state) => counts[state] > 0)
  assert.isAtMost(found.length, 1)
  return found[0] ?? "none"
}

const ledger = Effect.gen(function* () {
  return {
    refused: {
      Unknown: yield* count(counterOf.Unknown),
      Foreign: yield* count(counterOf.Foreign),
      Late: yield* count(counterOf.Late)
    },
    reopened: yield* count(HubMetrics.routesReopened),
    published: yield* count(HubMetrics.framesPublished),
    failed: yield* count(HubMetrics.publishesFailed)
  }
})

/** Sends one message and says all that came of it, in the form of `expected`. */
const relayed = Effect.fnUntraced(function* (
  answers: ReadonlyArray<Answer>,
  state: State,
  fate: Fate,
  want: Outcome,
  what: string,
  probe: { readonly asked: Array<string>; readonly taken: Array<Uplink>; readonly reached: Deferred.Deferred<void> }
) {
  const routes = yield* RouteStore
  yield* arrange(routes, state)
  const relay = yield* makeRelay("default")
  const before = yield* ledger
  probe.asked.length = 0
  const fiber: Fiber.Fiber<Relayed> = yield* Effect.forkChild(relay(present, answers.map(uplink)))
  const interrupted = fate === "is interrupted" && want.attempts > 0
  if (want.attempts > 0) {
    yield* Deferred.await(probe.reached)
    yield* TestClock.adjust("1 second")
  }
  if (interrupted) yield* Fiber.interrupt(fiber)
  else {
    const { broken, ended, refused } = yield* Fiber.join(fiber)
    assert.deepStrictEqual(
      refused.map(({ answer, reason }) => [answer.route, reason]),
      want.refused === null ? [] : [[key, want.refused]],
      what
    )
    assert.deepStrictEqual(ended, want.asked.includes("clear") ? [key] : [], what)
    assert.deepStrictEqual(broken, want.attempts > 1 ? [key] : [], what)
  }
  assert.deepStrictEqual(probe.asked, ["authorize", ...want.asked], what)
  assert.deepStrictEqual(
    probe.taken.map(({ frame }) => frame),
    Array.from({ length: want.attempts }, () => answers.map(({ frame }) => frame)).flat(),
    what
  )
  assert.strictEqual(stateOf(yield* routes.counts), want.routeAfter, what)
  const after = yield* ledger
  assert.strictEqual(after.reopened - before.reopened, want.reopened, what)
  assert.strictEqual(after.published - before.published, want.attempts === 1 && !interrupted ? 1 : 0, what)
  assert.strictEqual(after.failed - before.failed, want.attempts > 1 ? 1 : 0, what)
  for (const reason of ["Unknown", "Foreign", "Late"] as const) {
    assert.strictEqual(after.refused[reason] - before.refused[reason], want.refused === reason ? 1 : 0, what)
  }
})

const rows = Object.values(variants).flat() as ReadonlyArray<readonly [ResponseFrame, "ends" | "goes on"]>
const rowsOf = (dialect: Dialect) => rows.filter(([{ _tag }]) => !dialect.silent.includes(_tag))

for (const dialect of dialects) {
  describe(dialect.name, () => {
    it("has no words for just these frames", () => {
      const silent = rows.filter(([frame]) => dialect.encode(key, frame) === null).map(([{ _tag }]) => _tag)
      assert.deepStrictEqual(silent.sort(), [...dialect.silent].sort())
    })

    for (const state of states) {
      for (const fate of fates) {
        it.effect(`frames on a route that is ${state}, when the publish ${fate}`, () =>
          Effect.forEach(
            rowsOf(dialect),
            ([frame, does]) => {
              const answers = dialect.decode(dialect.encode(key, frame) as Uint8Array)
              assert.deepStrictEqual(
                answers.map(({ route }) => route),
                [key]
              )
              const want = expected(does, state, fate)
              const probe = {
                asked: [] as Array<string>,
                taken: [] as Array<Uplink>,
                reached: Deferred.makeUnsafe<void>()
              }
              return relayed(answers, state, fate, want, `${frame._tag} that ${does}`, probe).pipe(
                Effect.provide(
                  Layer.fresh(Layer.merge(recording(probe.asked), fatefulBus(fate, probe.taken, probe.reached)))
                )
              )
            },
            { discard: true }
          )
        )
      }
    }
  })
}

it("is a matrix of this many rows, none of which can be missed", () => {
  const frames = dialects.reduce((sum, dialect) => sum + rowsOf(dialect).length, 0)
  // 13 frames in eight dialects, but for two that Rivet never says, and one that version 1 does not.
  assert.strictEqual(frames, 13 * 8 - 2 * 7 - 1)
  assert.strictEqual(states.length * fates.length, 21)
})

describe("the tunnel's own ack", () => {
  for (const version of Rivet.versions) {
    const number = version.version
    const bytes = version.encodeUp({ _tag: "TunnelAck", route: key, index: 0, acknowledgement: null })
    if (bytes === null) {
      it(`does not exist in version ${number}`, () => assert.isAbove(number, 3))
      continue
    }
    for (const state of states) {
      it.effect(`of version ${number} does no route work at all on a route that is ${state}`, () => {
        const asked: Array<string> = []
        const taken: Array<Uplink> = []
        return Effect.gen(function* () {
          const routes = yield* RouteStore
          yield* arrange(routes, state)
          const before = yield* routes.counts
          const relay = yield* makeRelay("default")
          asked.length = 0
          assert.deepInclude(version.decodeUp(bytes), { _tag: "TunnelAck", route: key })
          const relayed = yield* relay(present, rivet(version).decode(bytes).map(uplink))
          assert.deepStrictEqual(relayed, { refused: [], ended: [], broken: [] })
          assert.deepStrictEqual(asked, [])
          assert.deepStrictEqual(taken, [])
          assert.deepStrictEqual(yield* routes.counts, before)
        }).pipe(Effect.provide(Layer.merge(recording(asked), fatefulBus("succeeds", taken, Deferred.makeUnsafe()))))
      })
    }
  }
})
