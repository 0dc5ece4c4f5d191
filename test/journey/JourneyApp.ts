/** An app for journeys: echoes, streams, hangs, fails, and counts what it has open. */
import { Deferred, Effect, Layer, Stream } from "effect"
import type { RequestStream } from "../../src/runner/RequestStream.ts"
import { AppFailure, RunnerApp } from "../../src/runner/RunnerApp.ts"
import type { WebSocketStream } from "../../src/runner/WebSocketStream.ts"

const text = (value: string) => new TextEncoder().encode(value)

/** What the test sees of its app. */
export class JourneyApp {
  open = 0
  /** Completed one by one by the test, awaited by `/gate`. */
  readonly gate = Deferred.makeUnsafe<void>()
  readonly layer = Layer.succeed(RunnerApp, {
    request: (stream) => this.counted(this.request(stream)),
    webSocket: (stream) => this.counted(this.webSocket(stream))
  })

  private counted<E>(effect: Effect.Effect<void, E>): Effect.Effect<void, E> {
    return Effect.acquireUseRelease(
      Effect.sync(() => void this.open++),
      () => effect,
      () => Effect.sync(() => void this.open--)
    )
  }

  private request(stream: RequestStream): Effect.Effect<void, AppFailure> {
    const { pathname, searchParams } = new URL(stream.target, "http://app")
    const bytes = Number(searchParams.get("bytes") ?? 0)
    switch (pathname) {
      case "/echo":
        return stream.start(200, [["content-type", "application/octet-stream"]]).pipe(
          Effect.andThen(Stream.runForEach(stream.body, (chunk) => stream.write(chunk))),
          Effect.andThen(Effect.suspend(() => stream.finish(stream.trailers))),
          Effect.catchTag("StreamAborted", () => Effect.interrupt)
        )
      case "/down":
        return stream.start(200, [["content-length", String(bytes)]]).pipe(
          Effect.andThen(
            Effect.suspend(() => {
              let left = bytes
              const step: Effect.Effect<void> = Effect.suspend(() => {
                if (left === 0) return Effect.void
                const piece = Math.min(left, 64 * 1024)
                left -= piece
                return Effect.andThen(stream.write(new Uint8Array(piece).fill(left & 0xff)), step)
              })
              return step
            })
          ),
          Effect.andThen(stream.finish())
        )
      case "/gate":
        return stream
          .start(200, [])
          .pipe(
            Effect.andThen(stream.write(text("before "))),
            Effect.andThen(Deferred.await(this.gate)),
            Effect.andThen(stream.write(text("after"))),
            Effect.andThen(stream.finish())
          )
      case "/hang":
        return Effect.never
      case "/fail":
        return Effect.fail(new AppFailure({ code: "app_failed", message: "the app said no" }))
      case "/nothing":
        return Effect.void
      default:
        return stream.respond(200, [["content-type", "text/plain"]], text(`${stream.method} ${stream.target}`))
    }
  }

  private webSocket(stream: WebSocketStream): Effect.Effect<void, AppFailure> {
    if (stream.target.startsWith("/refuse")) return stream.refuse(403, [], text("not here"))
    return stream.accept([]).pipe(
      Effect.andThen(
        Stream.runForEach(stream.messages, (message) =>
          stream.send(message.binary ? message.data : new TextDecoder().decode(message.data))
        )
      ),
      Effect.catchTag("WebSocketClosed", () => Effect.void)
    )
  }
}
