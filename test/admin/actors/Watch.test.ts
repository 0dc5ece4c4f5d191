import { assert, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Metric } from "effect"
import * as RivetId from "../../../src/actor/RivetId.ts"
import * as Watch from "../../../src/admin/actors/Watch.ts"
import { type StreamEnd, StreamObserver, type StreamStart } from "../../../src/gateway/StreamObserver.ts"
import { apiOn, ask } from "./ApiHarness.ts"

const names = "/actors/names?namespace=default"

/** Remembers the calls it saw. */
const watcher = () => {
  const seen: Array<StreamStart & StreamEnd> = []
  const observer = Layer.succeed(StreamObserver, {
    start: () => {},
    head: () => {},
    end: (start, end) => void seen.push({ ...start, ...end })
  })
  return { seen, observer }
}

const counts = Effect.gen(function* () {
  const of = (outcome: string) =>
    Effect.map(Metric.value(Metric.withAttributes(Watch.requests, { outcome })), ({ count }) => count)
  return {
    ok: yield* of("ok"),
    cancelled: yield* of("cancelled"),
    notFound: yield* of("api.not_found"),
    forbidden: yield* of("api.forbidden"),
    inFlight: (yield* Metric.value(Watch.inFlight)).value,
    timed: (yield* Metric.value(Watch.durations)).count
  }
})

it.effect("a call is a line of the access log like any request, and is counted by what became of it", () => {
  const { observer, seen } = watcher()
  return Effect.gen(function* () {
    const found = yield* ask("GET", "/metadata")
    yield* ask("POST", "/actors/nothing?secret=1", {})
    yield* ask("POST", names, {}, { origin: "https://example.com" })
    const given = seen.map(({ bytesDown, kind, method, name, outcome, remoteAddress, status, target }) => ({
      line: `${method} ${target} ${status} ${outcome}`,
      rest: [kind, name, remoteAddress, bytesDown > 0]
    }))
    assert.deepStrictEqual(given, [
      { line: "GET /metadata 200 ok", rest: ["http", "", "", true] },
      { line: "POST /actors/nothing?secret=1 404 api.not_found", rest: ["http", "", "", true] },
      { line: `POST ${names} 403 api.forbidden`, rest: ["http", "", "", true] }
    ])
    assert.strictEqual(seen[0]?.requestId, found.headers.get("x-rivet-ray-id"))
    assert.isDefined(RivetId.parse(seen[1]?.requestId ?? ""))
    assert.deepStrictEqual(yield* counts, { ok: 1, cancelled: 0, notFound: 1, forbidden: 1, inFlight: 0, timed: 3 })
  }).pipe(
    Effect.provide(apiOn({ names: Effect.never, runners: Effect.succeed([]) }, { observer })),
    Effect.provideService(Metric.MetricRegistry, new Map() as never)
  )
})

it.effect("a call whose client leaves is cancelled, and was in flight until then", () => {
  const { observer, seen } = watcher()
  return Effect.gen(function* () {
    const open = yield* Effect.forkChild(ask("GET", names))
    yield* Effect.replicateEffect(Effect.yieldNow, 50)
    assert.deepInclude(yield* counts, { inFlight: 1, cancelled: 0 })
    yield* Fiber.interrupt(open)
    assert.deepInclude(yield* counts, { inFlight: 0, cancelled: 1 })
    assert.deepInclude(seen[0], { status: 0, outcome: "cancelled", bytesDown: 0 })
  }).pipe(
    Effect.provide(apiOn({ names: Effect.never, runners: Effect.succeed([]) }, { observer })),
    Effect.provideService(Metric.MetricRegistry, new Map() as never)
  )
})
