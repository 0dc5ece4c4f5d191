import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger, Metric, References } from "effect"
import { TestClock } from "effect/testing"
import { type StreamEnd, StreamObserver, type StreamStart } from "../../src/gateway/StreamObserver.ts"
import * as AccessLog from "../../src/telemetry/AccessLog.ts"
import { limits } from "../../src/tunnel/Limits.ts"

const start: StreamStart = {
  requestId: "0a/0b",
  kind: "http",
  name: "web",
  method: "GET",
  target: "/orders/7?token=s3cret",
  remoteAddress: "192.0.2.1"
}
const end: StreamEnd = { status: 200, outcome: "ok", bytesUp: 0, bytesDown: 512, durationMs: 12.345 }

const collect = (into: Array<string>) =>
  Layer.mergeAll(
    Logger.layer([Logger.map(Logger.formatJson, (line) => void into.push(line))]),
    Layer.succeed(References.MinimumLogLevel, "Info")
  )

const observing = (json: boolean, into: Array<string>, use: (observer: StreamObserver["Service"]) => void) =>
  StreamObserver.use((observer) => Effect.sync(() => use(observer))).pipe(
    Effect.provide(AccessLog.layer({ json })),
    Effect.provide(collect(into))
  )

it.effect("writes one line when a stream has ended, without the query", () => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    yield* observing(false, lines, (observer) => {
      observer.start(start)
      observer.head(start, 200)
      observer.end(start, end)
    })
    assert.deepStrictEqual(
      lines.map((line) => JSON.parse(line).message),
      ["192.0.2.1 web GET /orders/7?… 200 ok 12.3ms up=0 down=512 0a/0b"]
    )
    assert.notInclude(lines.join(), "s3cret")
  })
})

it.effect("writes the first line at once, and what ends within logGatherMs of it together", () => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    const observer = yield* StreamObserver
    observer.end(start, end)
    yield* TestClock.adjust(0)
    assert.lengthOf(lines, 1)
    observer.end(start, end)
    yield* TestClock.adjust(limits.logGatherMs - 1)
    observer.end(start, end)
    assert.lengthOf(lines, 1)
    yield* TestClock.adjust(1)
    assert.lengthOf(lines, 3)
  }).pipe(Effect.provide(AccessLog.layer({ json: false })), Effect.provide(collect(lines)))
})

it.effect("with JSON the fields are fields", () => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    yield* observing(true, lines, (observer) => observer.end({ ...start, kind: "websocket" }, { ...end, status: 101 }))
    assert.deepStrictEqual(JSON.parse(lines[0] ?? "").annotations, {
      requestId: "0a/0b",
      kind: "websocket",
      name: "web",
      method: "GET",
      path: "/orders/7?…",
      status: 101,
      outcome: "ok",
      durationMs: 12.3,
      bytesUp: 0,
      bytesDown: 512,
      remoteAddress: "192.0.2.1"
    })
  })
})

it.effect("says nothing where its level is not asked for, and says it to each logger where it is", () => {
  const one: Array<string> = []
  const other: Array<string> = []
  const into = (lines: Array<string>) => Logger.make(({ message }) => void lines.push(String(message)))
  const seen = (level: "Info" | "Warn") =>
    StreamObserver.use((observer) => Effect.sync(() => observer.end(start, end))).pipe(
      Effect.provide(AccessLog.layer({ json: false })),
      Effect.provide(
        Layer.mergeAll(Logger.layer([into(one), into(other)]), Layer.succeed(References.MinimumLogLevel, level))
      )
    )
  return Effect.gen(function* () {
    yield* seen("Warn")
    assert.deepStrictEqual([one, other], [[], []])
    yield* seen("Info")
    assert.lengthOf(one, 1)
    assert.deepStrictEqual(one, other)
  })
})

it.effect("a server that ends while it writes loses none of the lines", () => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    yield* StreamObserver.use((observer) => {
      for (let i = 0; i < limits.accessLogLinesMax; i++) observer.end(start, end)
      // The log's fiber has taken them all, and has had to let others run.
      return Effect.andThen(Effect.yieldNow, Effect.yieldNow)
    }).pipe(Effect.provide(AccessLog.layer({ json: true })), Effect.provide(collect(lines)))
    assert.lengthOf(lines, limits.accessLogLinesMax)
  })
})

it("a visitor cannot forge a line or a field", () => {
  const line = AccessLog.show(AccessLog.lineOf({ ...start, target: "/a\r\n192.0.2.9 b\u001b[2J", method: "" }, end))
  assert.strictEqual(line.split(" ").length, 10)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters must not be there.
  assert.notMatch(line, /[\u0000-\u001f]/)
})

it.effect("drops and counts what comes faster than the log takes it", () => {
  const lines: Array<string> = []
  return Effect.gen(function* () {
    const before = yield* Metric.value(AccessLog.linesDropped)
    yield* observing(false, lines, (observer) => {
      for (let i = 0; i < limits.accessLogLinesMax + 7; i++) observer.end(start, end)
    })
    const after = yield* Metric.value(AccessLog.linesDropped)
    assert.strictEqual(after.count - before.count, 7)
    assert.strictEqual(lines.length, limits.accessLogLinesMax)
  })
})
