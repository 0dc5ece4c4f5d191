/**
 * The app of the benchmarks in the runner's own process: the same answers as `App.ts`, given through the contract `RunnerApp` by its plain calls.
 * Arguments: the hub's URL and the runner's name.
 */
import { Effect, Layer, Logger } from "effect"
import type { RequestStream } from "../../src/runner/RequestStream.ts"
import * as Runner from "../../src/runner/Runner.ts"
import { AppFailure, RunnerApp } from "../../src/runner/RunnerApp.ts"
import type { WebSocketStream } from "../../src/runner/WebSocketStream.ts"
import { layerDialer } from "../../src/socket/WsSocket.ts"
import * as YoungBuffers from "../../src/socket/YoungBuffers.ts"
import type { HeaderList } from "../../src/tunnel/Frame.ts"
import * as Content from "./Content.ts"

const sized = (bytes: number): HeaderList => [["content-length", String(bytes)]]

const answer = (stream: RequestStream, body: Uint8Array) => stream.respond(200, sized(body.length), body)

/** The whole request, by the calls. */
const readAll = (stream: RequestStream, onChunk: (chunk: Uint8Array) => void): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const pump = () => {
      for (let chunk = stream.takeUnsafe(); chunk !== undefined; chunk = stream.takeUnsafe()) onChunk(chunk)
      if (stream.bodyTaken || stream.end !== undefined) resume(Effect.void)
      else stream.whenReadableUnsafe(pump)
    }
    pump()
  })

const down = (stream: RequestStream, bytes: number): Effect.Effect<void> =>
  Effect.callback((resume) => {
    let left = bytes
    stream.startUnsafe(200, sized(bytes))
    const pump = () => {
      while (left > 0 && stream.end === undefined) {
        const part = Content.pieceAt(bytes - left, left)
        const written = stream.writeUnsafe(part)
        left -= written
        if (written < part.length) return void stream.whenWritableUnsafe(pump)
      }
      stream.endUnsafe()
      resume(Effect.void)
    }
    pump()
  })

const up = Effect.fnUntraced(function* (stream: RequestStream) {
  const check = Content.checker()
  yield* readAll(stream, check.add)
  yield* answer(stream, Buffer.from(check.verdict()))
})

const echo = Effect.fnUntraced(function* (stream: RequestStream) {
  if (stream.wholeBody !== undefined) return yield* answer(stream, stream.wholeBody)
  const chunks: Array<Uint8Array> = []
  yield* readAll(stream, (chunk) => chunks.push(chunk))
  yield* answer(stream, Buffer.concat(chunks))
})

const events = (stream: RequestStream): Effect.Effect<void> =>
  Effect.callback(() => {
    stream.startUnsafe(200, [["content-type", "text/event-stream"]])
    const timer = setInterval(() => stream.writeUnsafe(Buffer.from(Content.event())), Content.eventEveryMs)
    return Effect.sync(() => clearInterval(timer))
  })

let holding = 0

const hold = Effect.suspend(() => {
  holding++
  return Effect.onInterrupt(Effect.never, () => Effect.sync(() => holding--))
})

const request = (stream: RequestStream): Effect.Effect<void, AppFailure> => {
  const [path, argument] = Content.parse(stream.target)
  switch (path) {
    case "/":
      return answer(stream, Content.small)
    case "/echo":
      return echo(stream)
    case "/down":
      return down(stream, argument)
    case "/up":
      return up(stream)
    case "/events":
      return events(stream)
    case "/held":
      return hold
    case "/holding":
      return answer(stream, Buffer.from(String(holding)))
    default:
      return Effect.fail(new AppFailure({ code: "app_failed", message: `there is nothing at ${stream.target}` }))
  }
}

/** Sends back each message as it came. */
const webSocket = (stream: WebSocketStream): Effect.Effect<void> =>
  Effect.callback((resume) => {
    stream.acceptUnsafe([])
    let rest: { readonly data: Uint8Array; readonly binary: boolean; readonly finish: boolean } | undefined
    const pump = () => {
      while (stream.end === undefined) {
        const fragment = rest ?? stream.takeFragmentUnsafe()
        if (fragment === undefined) return stream.whenReadableUnsafe(pump)
        const sent = stream.sendUnsafe(fragment.data, fragment)
        rest = sent < fragment.data.length ? { ...fragment, data: fragment.data.subarray(sent) } : undefined
        if (rest !== undefined) return void stream.whenWritableUnsafe(pump)
      }
      resume(Effect.void)
    }
    pump()
  })

const [hubUrl = "", name = ""] = process.argv.slice(2)

const program = Effect.gen(function* () {
  const { connected, refused } = yield* Runner.Runner
  yield* connected
  process.stdout.write("connected\n")
  return yield* refused
}).pipe(
  Effect.provide(
    Runner.layer({ hubUrl, name }).pipe(
      Layer.provide([Layer.succeed(RunnerApp, { request, webSocket }), layerDialer, Logger.layer([])])
    )
  ),
  Effect.provide(YoungBuffers.layer)
)

// A profile is written at an exit in good order.
process.once("SIGTERM", () => process.exit(0))
await Effect.runPromise(program)
