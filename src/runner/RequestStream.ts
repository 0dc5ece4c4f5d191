/**
 * One HTTP request as the runner sees it: its head and body come in, the app's answer goes out.
 *
 * Everything comes twice: as Effects and a `Stream` for apps, and as plain calls ending in `Unsafe` for whoever forwards bytes between sockets.
 * Both obey credit: a body is granted more as it is read, and a write takes no more than the visitor's side has granted. After the stream has
 * ended, all that would be sent is dropped. Next: `ResponseWriter.ts`, the way out; `RunnerApp.ts`, who answers.
 */
import { type Array as Arr, Cause, Effect, Stream } from "effect"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { absurd, type HeaderList, type RequestStart } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { Inflow } from "./Inflow.ts"
import { ResponseWriter } from "./ResponseWriter.ts"
import { StreamAborted, type StreamCore, type StreamSide } from "./StreamCore.ts"

/** After so many more unread chunks they are put together: a body that trickles in must not cost an object a byte. */
const chunksApartMax = 256

/** The same bytes in pieces of a chunk at least, but for the last. What is as large already stays as it is: copied each time, a window would cost its square. */
const joined = (chunks: ReadonlyArray<Uint8Array>): Array<Uint8Array> => {
  const pieces: Array<Uint8Array> = []
  let group: Array<Uint8Array> = []
  let bytes = 0
  const close = () => {
    if (group.length > 0) pieces.push(group.length === 1 ? (group[0] as Uint8Array) : Buffer.concat(group))
    group = []
    bytes = 0
  }
  for (const chunk of chunks) {
    group.push(chunk)
    bytes += chunk.length
    if (bytes >= limits.chunkBytesMax) close()
  }
  close()
  return pieces
}

/** What an app is given to answer one request. */
export class RequestStream extends ResponseWriter implements StreamSide {
  readonly route: RouteKey
  readonly method: string
  /** Origin-form: path and query as the visitor sent them. */
  readonly target: string
  readonly headers: HeaderList
  /** The body, where all of it came with the head; undefined where more follows. Taking it is still up to the reader. */
  readonly wholeBody: Uint8Array | undefined
  /** Everything of the body that has arrived since the last pull; done after its last byte. */
  readonly pull: Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, StreamAborted | Cause.Done>
  /** The body. Reading it is what lets the visitor send on. Fails where the stream ends before the body. */
  readonly body: Stream.Stream<Uint8Array, StreamAborted>
  private readonly chunks = new Inflow<Uint8Array>()
  private joinAt = chunksApartMax
  // What came inside RequestStart cost no credit, and reading it returns none.
  private freeBytes: number
  private complete: boolean
  private trailerList: HeaderList = []

  constructor(core: StreamCore, start: typeof RequestStart.Type) {
    super(core)
    this.route = core.route
    this.method = start.method
    this.target = start.target
    this.headers = start.headers
    this.wholeBody = start.streamed ? undefined : start.body
    this.freeBytes = start.body.length
    this.complete = !start.streamed
    if (start.body.length > 0) this.chunks.push(start.body)
    core.side = this
    this.pull = Effect.suspend(() => this.pullOnce())
    this.body = Stream.fromPull(Effect.succeed(this.pull))
  }

  /** For `StreamCore.ts` alone. */
  onFrame(frame: Parameters<StreamSide["onFrame"]>[0]): void {
    switch (frame._tag) {
      case "RequestChunk":
        if (frame.finish) this.complete = true
        return this.arrived(frame.body)
      case "RequestTrailers":
        this.complete = true
        this.trailerList = frame.headers
        return this.chunks.wake()
      case "RequestStart":
      case "WebSocketOpen":
      case "WebSocketMessage":
      case "WebSocketClose":
        // The table of StreamState lets none of these come here.
        return
    }
    return absurd(frame)
  }

  /** For `StreamCore.ts` alone. */
  onEnd(): void {
    this.chunks.wake()
  }

  /** Whether every byte of the body has been taken. */
  get bodyTaken(): boolean {
    return this.complete && this.chunks.length === 0
  }

  /** What followed the body. Empty before its end. */
  get trailers(): HeaderList {
    return this.trailerList
  }

  /** The next chunk of the body, undefined where none waits: see `bodyTaken` and `whenReadableUnsafe`. */
  takeUnsafe(): Uint8Array | undefined {
    const chunk = this.chunks.take()
    if (chunk !== undefined) this.taken(chunk.length)
    return chunk
  }

  /** Calls `f` once, when a chunk, the body's end or the stream's end arrives. One reader at a time. */
  whenReadableUnsafe(f: () => void): void {
    this.chunks.whenArrived(f)
  }

  private arrived(body: Uint8Array): void {
    if (body.length === 0) return this.chunks.wake()
    this.chunks.push(body)
    if (this.chunks.length < this.joinAt) return
    const pieces = joined(this.chunks.takeAll())
    this.joinAt = pieces.length + chunksApartMax
    for (const piece of pieces) this.chunks.push(piece)
  }

  private taken(bytes: number): void {
    const free = Math.min(bytes, this.freeBytes)
    this.freeBytes -= free
    this.core.consumed(bytes - free)
  }

  private pullOnce(): Effect.Effect<Arr.NonEmptyReadonlyArray<Uint8Array>, StreamAborted | Cause.Done> {
    const end = this.core.end
    if (end?._tag === "Aborted") return Effect.fail(new StreamAborted({ code: end.code }))
    const chunks = this.chunks.takeAll()
    if (chunks.length > 0) {
      let bytes = 0
      for (const chunk of chunks) bytes += chunk.length
      this.taken(bytes)
      return Effect.succeed(chunks as unknown as Arr.NonEmptyReadonlyArray<Uint8Array>)
    }
    if (this.complete) return Cause.done()
    if (end !== undefined) return Effect.fail(new StreamAborted({ code: "cancelled" }))
    return Effect.callback((resume) => {
      // The fiber may have had to wait since it looked, and nobody was there to be woken.
      if (this.chunks.length > 0 || this.complete || this.core.end !== undefined) return resume(this.pull)
      const stop = this.chunks.whenArrived(() => resume(this.pull))
      return Effect.sync(stop)
    })
  }
}
