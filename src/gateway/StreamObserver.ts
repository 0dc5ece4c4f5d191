/**
 * What a watcher sees of a stream: its beginning, its head and its end. The access log and the inspector each provide one; `layerNoop` watches
 * nothing. Hooks are synchronous and on the way of every request: they note, and do their work elsewhere.
 */
import { Context, Layer } from "effect"

/** What is known when a stream begins. The object is the stream's identity in the later hooks. */
export interface StreamStart {
  /** Gateway and request id as text: what an error page shows and a log can be searched for. */
  readonly requestId: string
  readonly kind: "http" | "websocket"
  /** Empty where the request named no runner. */
  readonly name: string
  readonly method: string
  /** Path and query as asked. May hold secrets: whoever keeps it redacts. */
  readonly target: string
  readonly remoteAddress: string
}

/** What is known when it has ended. */
export interface StreamEnd {
  /** The status the visitor got, 0 where it left before any; 101 for a WebSocket that was accepted. */
  readonly status: number
  /** `ok`, `cancelled`, or the code of the error that was answered: of a call of the actor API its `group.code`. */
  readonly outcome: string
  /** Body bytes from the visitor to the app. */
  readonly bytesUp: number
  /** Body bytes from the app to the visitor. */
  readonly bytesDown: number
  readonly durationMs: number
}

/** Watches streams. Every `start` is followed by one `end`, with at most one `head` between. */
export class StreamObserver extends Context.Service<
  StreamObserver,
  {
    readonly start: (stream: StreamStart) => void
    readonly head: (stream: StreamStart, status: number) => void
    readonly end: (stream: StreamStart, end: StreamEnd) => void
  }
>()("wayleave/gateway/StreamObserver") {}

/** Watches nothing. */
export const layerNoop: Layer.Layer<StreamObserver> = Layer.succeed(StreamObserver, {
  start: () => {},
  head: () => {},
  end: () => {}
})
