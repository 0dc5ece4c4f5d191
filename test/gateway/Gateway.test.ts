import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Fiber, Layer, Metric, Scope } from "effect"
import { TestClock } from "effect/testing"
import { BusError, layerMemory as busMemory } from "../../src/bus/MessageBus.ts"
import { Gateway, type GatewayOptions, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import * as GatewayMetrics from "../../src/gateway/GatewayMetrics.ts"
import { layerNoop } from "../../src/gateway/StreamObserver.ts"
import { MemoryUpgrade, MemoryVisitor, type VisitorOptions } from "../../src/testing/MemoryVisitor.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { changedBus } from "../bus/ChangedBus.ts"
import { chunk, type Ends, fakeHub, gatewayAlone, head, settle } from "./FakeHub.ts"

const visit = Effect.fnUntraced(function* (options: VisitorOptions = {}) {
  const gateway = yield* Gateway
  const visitor = new MemoryVisitor(options)
  const fiber = yield* Effect.forkChild(gateway.request(visitor.exchange))
  return { visitor, fiber }
})

const answerTo = Effect.fnUntraced(function* (options: VisitorOptions) {
  const { visitor } = yield* visit(options)
  const answer = yield* visitor.received
  return { ...answer, text: visitor.text }
})

describe("admission", () => {
  it.effect("finds the runner by the header on any host, and does not forward it", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      yield* visit({
        headers: [
          ["Host", "example.com"],
          ["X-Wayleave-Name", "WEB"]
        ]
      })
      const { frame, name } = (yield* hub.next).opening
      assert.strictEqual(name, "web")
      assert.isTrue(frame._tag === "RequestStart" && frame.headers.every(([key]) => !/wayleave/i.test(key)))
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("knows its domain, and tells a browser at the bare one what this is", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      yield* visit({ headers: [["Host", "web.tunnel.example:8080"]] })
      assert.strictEqual((yield* hub.next).opening.name, "web")
      const page = yield* answerTo({
        headers: [
          ["Host", "tunnel.example"],
          ["Accept", "text/html,*/*;q=0.8"]
        ]
      })
      assert.strictEqual(page.status, 404)
      assert.include(page.text, "npx wayleave expose 3000 --name web")
      assert.include(page.text, "web.tunnel.example")
    }).pipe(Effect.provide(gatewayAlone({ domain: "Tunnel.Example" })))
  )

  for (const [code, status, request, options] of [
    ["unknown_host", 404, { headers: [["Host", "localhost:6420"]] }, {}],
    [
      "bad_request",
      400,
      {
        headers: [
          ["Host", "a.localhost"],
          ["host", "b.localhost"]
        ]
      },
      {}
    ],
    ["headers_too_large", 431, { target: `/${"x".repeat(limits.headBytesMax)}` }, {}],
    [
      "body_too_large",
      413,
      {
        headers: [
          ["Host", "web.localhost"],
          ["Content-Length", "11"]
        ]
      },
      { requestBodyBytesMax: 10 }
    ]
  ] as ReadonlyArray<readonly [string, number, VisitorOptions, GatewayOptions]>) {
    it.effect(`answers ${code} without asking any runner`, () =>
      Effect.gen(function* () {
        const answer = yield* answerTo(request)
        assert.strictEqual(answer.status, status)
        const body = JSON.parse(answer.text) as { code: string; message: string; requestId: string }
        assert.strictEqual(body.code, code)
        assert.match(body.requestId, /^[0-9a-f]{8}\/[0-9a-f]{8}$/)
        assert.deepInclude(answer.headers, ["x-wayleave-error", code])
      }).pipe(Effect.provide(gatewayAlone(options)))
    )
  }

  it.effect("refuses beyond its table with overloaded, and goes on when there is room", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      assert.strictEqual((yield* answerTo({})).status, 503)
      yield* app.reply(head(false, "ok"))
      yield* visitor.received
      yield* settle
      yield* visit()
      yield* (yield* hub.next).reply(head(false, "ok"))
    }).pipe(Effect.provide(gatewayAlone({ inFlightMax: 1 })))
  )

  it.effect("passes the visitor's trace on, and nothing that only looks like one", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const trace = `00-${"a".repeat(32)}-${"b".repeat(16)}-01`
      for (const [given, expected] of [
        [trace, trace],
        ["00-short", ""]
      ]) {
        yield* visit({
          headers: [
            ["Host", "web.localhost"],
            ["traceparent", given as string]
          ]
        })
        assert.strictEqual((yield* hub.next).opening.traceparent, expected)
      }
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("is not built with a proxy it cannot read", () =>
    Effect.gen(function* () {
      const broken = gatewayLayer({ trustedProxies: ["10.0.0.0/8", "10.0.0.0/99"] })
      const built = Layer.build(broken.pipe(Layer.provide([busMemory, layerNoop])))
      const error = yield* Effect.flip(Effect.scoped(built))
      assert.deepStrictEqual(error.unreadableProxies, ["10.0.0.0/99"])
    })
  )
})

describe("draining", () => {
  it.effect("refuses new visitors with advice when to come back, and waits for those here", () =>
    Effect.gen(function* () {
      const gateway = yield* Gateway
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true))
      const drained = yield* Effect.forkChild(gateway.drain)
      yield* settle
      assert.isUndefined(drained.pollUnsafe())
      const refused = yield* answerTo({})
      assert.strictEqual(refused.status, 503)
      assert.deepInclude(refused.headers, ["retry-after", "1"])
      const socket = new MemoryUpgrade()
      yield* Effect.forkChild(gateway.upgrade(socket.upgrade))
      const answer = yield* socket.answered
      if (answer._tag !== "Accepted") return assert.fail(answer._tag)
      assert.deepInclude(yield* Effect.flip(answer.socket.pull), { code: 1013, reason: "draining" })
      yield* app.reply(chunk("end", true))
      assert.strictEqual((yield* visitor.received).state, "complete")
      yield* Fiber.join(drained)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect("a request whose fiber is interrupted is broken off, and its app told", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor, fiber } = yield* visit()
      const app = yield* hub.next
      yield* app.reply(head(true))
      yield* settle
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(visitor.answer.state, "broken")
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "cancelled" })
      const gateway = yield* Gateway
      assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
      assert.strictEqual(ends.list[0]?.outcome, "draining")
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })
})

describe("hubs", () => {
  it.effect("with streams in flight hear that the gateway lives, once each, and no others", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const idle = yield* fakeHub("other", "h2")
      yield* visit()
      yield* visit()
      yield* hub.next
      yield* hub.next
      yield* settle
      yield* TestClock.adjust(limits.leaseRenewalMs)
      yield* TestClock.adjust(limits.leaseRenewalMs)
      yield* settle
      assert.strictEqual(hub.leases.length, 2)
      assert.strictEqual(idle.leases.length, 0)
    }).pipe(Effect.provide(gatewayAlone()))
  )

  it.effect(
    "that nobody answers for any more are gone, and their streams with them unless they are heard of elsewhere",
    () =>
      Effect.gen(function* () {
        const scope = yield* Scope.make()
        const hub = yield* Scope.provide(fakeHub(), scope)
        const lost = yield* visit()
        const app = yield* hub.next
        yield* app.reply(head(true))
        yield* settle
        yield* Scope.close(scope, Exit.void)
        yield* settle
        yield* TestClock.adjust(limits.leaseRenewalMs)
        yield* TestClock.adjust(limits.sessionGraceMs - 1)
        assert.strictEqual(lost.visitor.answer.state, "open")
        yield* TestClock.adjust(1)
        assert.strictEqual((yield* lost.visitor.received).state, "broken")
        yield* settle
        const gateway = yield* Gateway
        assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
      }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("a hub that has a stream which the gateway has not", () => {
  const abort = { _tag: "RequestAbort", code: "unknown_route" } as const

  it.effect("is told so at its first word: the opening frame was reported as lost, and arrived", () => {
    const failingOnce = changedBus((real) => (subject, envelopes, delivery) => {
      const arrives = real(subject, envelopes, delivery)
      const opens = envelopes.some((envelope) => envelope._tag === "Downlink" && envelope.frame._tag === "RequestStart")
      return opens ? Effect.andThen(arrives, Effect.fail(new BusError({ subject, reason: "Timeout" }))) : arrives
    })
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      assert.strictEqual((yield* visitor.received).status, 502)
      const app = yield* hub.next
      assert.deepStrictEqual(yield* app.next, abort)
      // What else comes of it is late, as the hub will know.
      yield* app.reply(head(false))
      yield* settle
      assert.deepStrictEqual(yield* app.pending, [])
    }).pipe(Effect.provide(gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(failingOnce))))
  })

  it.effect("is told so at its first word: the opening frame arrived twice, and another session has the stream", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const second = yield* fakeHub("elsewhere", "h2", "b".repeat(32))
      const { visitor } = yield* visit()
      const app = yield* hub.next
      const other = second.conversation(app.opening)
      yield* other.greet(0)
      assert.deepStrictEqual(yield* other.next, abort)
      yield* app.reply(head(false, "mine"))
      assert.strictEqual((yield* visitor.received).state, "complete")
      assert.strictEqual(visitor.text, "mine")
      assert.deepStrictEqual(yield* app.pending, [])
    }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("a bus that loses its server while an opening frame is under way", () => {
  /** Lets the first opening frames arrive or not, and says of each that nobody knows. */
  const losing = (times: number, arrives: boolean) => {
    let lost = 0
    const bus = changedBus((real) => (subject, envelopes, delivery) => {
      const opens = envelopes.some((envelope) => envelope._tag === "Downlink" && envelope.frame._tag === "RequestStart")
      if (!opens || lost++ >= times) return real(subject, envelopes, delivery)
      const unknown = Effect.fail(new BusError({ subject, reason: "Disconnected" }))
      return arrives ? Effect.andThen(real(subject, envelopes, delivery), unknown) : unknown
    })
    return gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(bus))
  }

  for (const method of ["GET", "HEAD", "OPTIONS"]) {
    it.effect(`asks anew with a ${method}, which changes nothing`, () =>
      Effect.gen(function* () {
        const hub = yield* fakeHub()
        const { visitor } = yield* visit({ method })
        const app = yield* hub.next
        yield* app.reply(head(false, ""))
        assert.strictEqual((yield* visitor.received).status, 200)
      }).pipe(Effect.provide(losing(1, false)))
    )
  }

  it.effect("tells a hub that got the first as well that nobody waits for it", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const first = yield* hub.next
      const second = yield* hub.next
      assert.deepInclude(yield* first.next, { _tag: "RequestAbort" })
      yield* second.reply(head(false, "once"))
      assert.strictEqual((yield* visitor.received).status, 200)
      assert.strictEqual(visitor.text, "once")
    }).pipe(Effect.provide(losing(1, true)))
  )

  for (const [what, options, times] of [
    ["twice", {}, 2],
    ["with a method that may change something", { method: "POST" }, 1],
    ["with a body of which more is to come", { method: "GET", hasBody: true }, 1]
  ] as const) {
    it.effect(`does not ask anew ${what}`, () =>
      Effect.gen(function* () {
        yield* fakeHub()
        const { visitor } = yield* visit(options)
        assert.strictEqual((yield* visitor.received).status, 502)
        assert.include(visitor.text, "runner_lost")
      }).pipe(Effect.provide(losing(times, false)))
    )
  }
})

describe("a bus that is away", () => {
  /** A bus that fails whatever the gateway says while it is away. */
  const awayBus = (gone: { away: boolean; tries?: number }) =>
    changedBus(
      (real) => (subject, envelopes, delivery) =>
        Effect.suspend(() => {
          if (!gone.away || envelopes.every(({ _tag }) => _tag === "Uplink")) {
            return real(subject, envelopes, delivery)
          }
          gone.tries = (gone.tries ?? 0) + 1
          return Effect.fail(new BusError({ subject, reason: "Disconnected" }))
        })
    )
  const gatewayOn = (gone: { away: boolean; tries?: number }) =>
    gatewayLayer().pipe(Layer.provide(layerNoop), Layer.provideMerge(awayBus(gone)))
  const opened = Effect.gen(function* () {
    const hub = yield* fakeHub()
    const { visitor } = yield* visit()
    const app = yield* hub.next
    yield* app.reply(head(true))
    yield* settle
    return { hub, visitor }
  })
  const renewals = (times: number) =>
    Effect.replicateEffect(Effect.andThen(TestClock.adjust(limits.leaseRenewalMs), settle), times, { discard: true })

  for (const [times, returns] of [
    [4, false],
    [3, true]
  ] as const) {
    const then = returns ? "and comes back when the lease has run out" : "and does not come back"
    it.effect(`for a lease ${then} costs the streams that their hub has ended meanwhile`, () => {
      const gone = { away: false }
      return Effect.gen(function* () {
        const { visitor } = yield* opened
        yield* renewals(1)
        gone.away = true
        yield* renewals(times - 1)
        assert.strictEqual(visitor.answer.state, "open")
        if (returns) {
          // The renewal that is under way when the lease runs out arrives, and too late.
          yield* renewals(1)
          gone.away = false
        }
        const late = yield* visit()
        yield* renewals(1)
        assert.strictEqual(visitor.answer.state, "broken")
        if (returns) assert.strictEqual(late.visitor.answer.state, "open")
      }).pipe(Effect.provide(gatewayOn(gone)))
    })
  }

  it.effect("is told a last word again until it takes it, and no visitor waits for that", () => {
    const gone = { away: false }
    return Effect.gen(function* () {
      const gateway = yield* Gateway
      const hub = yield* fakeHub()
      const { fiber, visitor } = yield* visit()
      const app = yield* hub.next
      gone.away = true
      visitor.leave()
      yield* Fiber.join(fiber)
      assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* app.pending, [])
      gone.away = false
      yield* TestClock.adjust("1 second")
      yield* settle
      assert.deepStrictEqual(yield* app.pending, [{ _tag: "RequestAbort", code: "cancelled" }])
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* app.pending, [])
    }).pipe(Effect.provide(gatewayOn(gone)))
  })

  it.effect("is not told for longer than a hub keeps routes of a gateway that is silent", () => {
    const gone = { away: false, tries: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      yield* hub.next
      gone.away = true
      visitor.leave()
      yield* settle
      yield* TestClock.adjust(limits.leaseMs * 3)
      // The one that failed, its repetitions, and no lease to renew.
      assert.strictEqual(gone.tries, 2 + limits.leaseMs / 1_000)
    }).pipe(Effect.provide(gatewayOn(gone)))
  })

  it.effect("for less than a lease costs nothing", () => {
    const gone = { away: false }
    return Effect.gen(function* () {
      const { hub, visitor } = yield* opened
      yield* renewals(1)
      gone.away = true
      yield* renewals(2)
      gone.away = false
      yield* renewals(10)
      assert.strictEqual(visitor.answer.state, "open")
      assert.strictEqual(hub.leases.length, 11)
    }).pipe(Effect.provide(gatewayOn(gone)))
  })
})

describe("a fault of the gateway's own", () => {
  it.effect("while a frame is dealt costs that stream, and the ones behind it in the batch get theirs", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const hub = yield* fakeHub()
      const faulty = new MemoryVisitor()
      const gateway = yield* Gateway
      const broken = {
        ...faulty.exchange,
        response: {
          ...faulty.exchange.response,
          write: () => {
            throw new Error("no such thing")
          }
        }
      }
      yield* Effect.forkChild(gateway.request(broken))
      const first = yield* hub.next
      const { visitor } = yield* visit()
      const second = yield* hub.next
      yield* first.publish(
        first.uplink(head(true)),
        first.uplink(chunk("x")),
        first.uplink(chunk("y")),
        second.uplink(head(false, "fine"))
      )
      assert.strictEqual((yield* faulty.received).state, "broken")
      assert.deepStrictEqual(yield* first.next, { _tag: "RequestAbort", code: "protocol_error" })
      yield* visitor.received
      assert.strictEqual(visitor.text, "fine")
      yield* settle
      assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
      assert.deepStrictEqual(ends.list.map((end) => end.outcome).sort(), ["internal_error", "ok"])
    }).pipe(Effect.provide(gatewayAlone({}, ends)))
  })

  it.effect("in the stream's fiber is told to both ends", () =>
    Effect.gen(function* () {
      const hub = yield* fakeHub()
      const faulty = new MemoryVisitor({ method: "POST", hasBody: true })
      const gateway = yield* Gateway
      let calls = 0
      const { body } = faulty.exchange
      if (body === undefined) return assert.fail("no body")
      const takeUnsafe = () => {
        if (calls++ > 0) throw new Error("no such thing")
        return undefined
      }
      yield* Effect.forkChild(gateway.request({ ...faulty.exchange, body: { ...body, takeUnsafe } }))
      const app = yield* hub.next
      assert.strictEqual((yield* faulty.received).status, 500)
      assert.deepStrictEqual(yield* app.next, { _tag: "RequestAbort", code: "protocol_error" })
      yield* settle
      assert.deepStrictEqual([yield* gateway.inFlight, yield* gateway.streams], [0, 0])
    }).pipe(Effect.provide(gatewayAlone()))
  )
})

describe("metrics and observer", () => {
  it.effect("count each stream once, by outcome and bytes, and each dropped reply by reason", () => {
    const ends: Ends = { list: [], started: 0 }
    return Effect.gen(function* () {
      const count = (metric: Metric.Metric<number, Metric.CounterState<number>>, attributes: Record<string, string>) =>
        Effect.map(Metric.value(Metric.withAttributes(metric, attributes)), (state) => state.count)
      const hub = yield* fakeHub()
      const { visitor } = yield* visit()
      const app = yield* hub.next
      const unknown = app.uplink({ _tag: "Credit", bytes: 1 })
      yield* app.publish(
        { ...unknown, session: "f".repeat(32) },
        { ...unknown, route: { ...unknown.route, requestId: (unknown.route.requestId + 7) >>> 0 } }
      )
      yield* app.reply(head(false, "12345"))
      yield* visitor.received
      yield* settle
      yield* app.reply(head(false, "again"))
      yield* answerTo({ headers: [["Host", "localhost"]] })
      yield* settle
      assert.strictEqual(yield* count(GatewayMetrics.requests, { outcome: "ok" }), 1)
      assert.strictEqual(yield* count(GatewayMetrics.requests, { outcome: "unknown_host" }), 1)
      assert.strictEqual(yield* count(GatewayMetrics.bodyBytes, { direction: "down" }), 5)
      assert.strictEqual(yield* count(GatewayMetrics.uplinksRefused, { reason: "Foreign" }), 1)
      assert.strictEqual(yield* count(GatewayMetrics.uplinksRefused, { reason: "Unknown" }), 2)
      assert.strictEqual((yield* Metric.value(GatewayMetrics.inFlight)).value, 0)
      assert.deepStrictEqual([ends.started, ends.list.map((end) => end.outcome)], [2, ["ok", "unknown_host"]])
    }).pipe(Effect.provide(gatewayAlone({}, ends)), Effect.provideService(Metric.MetricRegistry, new Map() as never))
  })
})
