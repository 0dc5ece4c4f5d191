import { assert, it } from "@effect/vitest"
import { Cause, Effect, Layer, Logger, References } from "effect"
import { formatPlain } from "../../src/telemetry/PlainLog.ts"

const collected = (log: Effect.Effect<void>) =>
  Effect.suspend(() => {
    const lines: Array<string> = []
    return log.pipe(
      Effect.provide(
        Layer.mergeAll(
          Logger.layer([Logger.map(formatPlain, (line) => void lines.push(line))]),
          Layer.succeed(References.MinimumLogLevel, "Info")
        )
      ),
      Effect.as(lines)
    )
  })

it.effect("a line is time, level, message and fields", () =>
  Effect.gen(function* () {
    const [line] = yield* collected(Effect.annotateLogs(Effect.logInfo("runner left", 3), { name: "web", open: 2 }))
    assert.strictEqual(line, "1970-01-01T00:00:00.000Z INFO runner left 3 name=web open=2")
  })
)

it.effect("what a stranger sent cannot begin a line of its own", () =>
  Effect.gen(function* () {
    const [line] = yield* collected(Effect.annotateLogs(Effect.logInfo("a\nb"), { name: "web\r\nforged" }))
    assert.strictEqual(line, "1970-01-01T00:00:00.000Z INFO a·b name=web··forged")
  })
)

it.effect("a cause follows on its own lines", () =>
  Effect.gen(function* () {
    const [line] = yield* collected(Effect.logError("broke", Cause.die(new Error("because"))))
    assert.match(line ?? "", /^1970-01-01T00:00:00\.000Z ERROR broke\n.*because/s)
  })
)
