/**
 * One line for each request and WebSocket, written when it has ended. A `StreamObserver`: the hook only notes, a fiber writes.
 *
 * Queries may hold secrets, so a line says that there was one and not what it said. Lines that come faster than the log takes them are
 * counted and dropped: a burst must not grow memory.
 */
import { Cause, Clock, Effect, Layer, Logger, LogLevel, Metric, Queue, References } from "effect"
import { type StreamEnd, StreamObserver, type StreamStart } from "../gateway/StreamObserver.ts"
import { limits } from "../tunnel/Limits.ts"

/** Access lines that were dropped because the log did not keep up. */
export const linesDropped = Metric.counter("wayleave_access_log_lines_dropped_total", {
  description: "Access lines dropped because the log did not keep up",
  incremental: true
})

/** What a line says, as fields. */
export interface AccessLine {
  readonly requestId: string
  readonly kind: "http" | "websocket"
  readonly name: string
  readonly method: string
  readonly path: string
  readonly status: number
  readonly outcome: string
  readonly durationMs: number
  readonly bytesUp: number
  readonly bytesDown: number
  readonly remoteAddress: string
}

const withoutQuery = (target: string): string => {
  const query = target.indexOf("?")
  return query < 0 ? target : `${target.slice(0, query)}?…`
}

/** The fields of one ended stream. */
export const lineOf = (start: StreamStart, end: StreamEnd): AccessLine => ({
  requestId: start.requestId,
  kind: start.kind,
  name: start.name,
  method: start.method,
  path: withoutQuery(start.target),
  status: end.status,
  outcome: end.outcome,
  durationMs: Math.round(end.durationMs * 10) / 10,
  bytesUp: end.bytesUp,
  bytesDown: end.bytesDown,
  remoteAddress: start.remoteAddress
})

// A visitor writes method and target; a line break in one would forge a line of ours.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this replaces.
const control = /[\u0000-\u0020\u007f-\u009f\u2028\u2029]/
const everyControl = new RegExp(control, "g")
const word = (text: string): string => {
  if (text === "") return "-"
  return control.test(text) ? text.replace(everyControl, "·") : text
}

/** One line of words: who, what, how it ended, how long, how much. */
export const show = (line: AccessLine): string => {
  const what = line.kind === "websocket" ? "WEBSOCKET" : word(line.method)
  const who = `${word(line.remoteAddress)} ${word(line.name)} ${what} ${word(line.path)}`
  const how = `${line.status === 0 ? "-" : line.status} ${line.outcome} ${line.durationMs}ms`
  return `${who} ${how} up=${line.bytesUp} down=${line.bytesDown} ${line.requestId}`
}

const writeFields = (batch: ReadonlyArray<AccessLine>) =>
  Effect.forEach(batch, (line) => Effect.annotateLogs(Effect.logInfo("request"), { ...line }), { discard: true })

/** As `Effect.logInfo` of each, but asks once who logs, and when: an effect for each line costs more than its text. */
const writeWords = (batch: ReadonlyArray<AccessLine>) =>
  Effect.withFiber((fiber) => {
    const logLevel = "Info"
    if (LogLevel.isGreaterThan(fiber.getRef(References.MinimumLogLevel), logLevel)) return Effect.void
    const date = new Date(fiber.getRef(Clock.Clock).currentTimeMillisUnsafe())
    const loggers = [...fiber.getRef(Logger.CurrentLoggers)]
    for (const line of batch) {
      const message = [show(line)]
      for (const logger of loggers) logger.log({ message, logLevel, date, cause: Cause.empty, fiber })
    }
    return Effect.void
  })

/** Writes through Effect's logger: `json` puts the fields into annotations, otherwise they stand in the message. */
export const layer = (options: { readonly json: boolean }): Layer.Layer<StreamObserver> =>
  Layer.effect(
    StreamObserver,
    Effect.gen(function* () {
      const lines = yield* Queue.dropping<AccessLine>(limits.accessLogLinesMax)
      const context = yield* Effect.context<never>()
      const writeAll = options.json ? writeFields : writeWords
      // What is queued when the server ends is still written: those lines are the end of the story.
      yield* Effect.addFinalizer(() => Effect.flatMap(Queue.clear(lines), writeAll))
      // Once taken, lines are written, whoever ends meanwhile.
      const writeNext = Effect.uninterruptibleMask((restore) => Effect.flatMap(restore(Queue.takeAll(lines)), writeAll))
      // To rouse a fiber in each turn of the event loop would cost more than what it writes.
      yield* Effect.forkScoped(Effect.forever(Effect.andThen(writeNext, Effect.sleep(limits.logGatherMs))))
      return {
        start: () => {},
        head: () => {},
        end: (start, end) => {
          if (!Queue.offerUnsafe(lines, lineOf(start, end))) linesDropped.updateUnsafe(1, context)
        }
      }
    })
  )
