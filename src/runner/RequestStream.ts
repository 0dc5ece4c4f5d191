/**
 * One HTTP request as the runner sees it: its head and body come in, the app's answer goes out.
 *
 * Everything comes twice: as Effects and a `Stream` for apps, and as plain calls ending in `Unsafe` for whoever forwards bytes between sockets.
 * Both obey credit: a body is granted more as it is read, and a write takes no more than the visitor's side has granted. After the stream has
 * ended, all that would be sent is dropped. Next: `RunnerApp.ts`, who answers; `StreamCore.ts`, the rules of the stream.
 */
import { type Array as Arr, Cause, Effect, Stream } from "effect"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, type HeaderList, type RequestStart } from "../tunnel/Frame.ts"
import { Inflow } from "./Inflow.ts"
import { StreamAborted, type StreamCore, type StreamEnd } from "./StreamCore.ts"

const nothing = new Uint8Array(0)

/** Above so many unread chunks they are put together: a body that trickles in must not cost an object a byte. */
const chunksApartMax = 256

export class RequestStream {
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
  /** Waits until something may be written, or the stream has ended. */
  readonly writable: Effect.Effect<void>
  private readonly core: StreamCore
  private readonly chunks = new Inflow<Uint8Array>()
  // What came inside RequestStart cost no credit, and reading it returns none.
  private freeBytes: number
  private complete: boolean
  private trailerList: HeaderList = []

  constructor(core: StreamCore, start: typeof RequestStart.Type) {
    this.core = core
    this.route = core.route
    this.method = start.method
    this.target = start.target
    this.headers = start.headers
    this.wholeBody = start.streamed ? undefined : start.body
    this.freeBytes = start.body.length
    this.complete = !start.streamed
    if (start.body.length > 0) this.chunks.push(start.body)
    core.onFrame = (frame) => {
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
        default:
          return absurd(frame)
      }
    }
    core.onEnd = () => this.chunks.wake()
    this.pull = Effect.suspend(() => this.pullOnce())
    this.body = Stream.fromPull(Effect.succeed(this.pull))
    this.writable = Effect.callback((resume) => {
      const stop = core.whenWritable(() => resume(Effect.void))
      return Effect.sync(stop)
    })
  }

  /** How the stream ended, undefined while it is open. */
  get end(): StreamEnd | undefined {
    return this.core.end
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

  /** A 1xx response other than 101. */
  informationalUnsafe(status: number, headers: HeaderList): void {
    this.core.emit({ _tag: "Informational", status, headers })
  }

  /** The head of an answer whose body follows by `writeUnsafe` and `endUnsafe`. */
  startUnsafe(status: number, headers: HeaderList): void {
    this.core.emit({ _tag: "ResponseStart", status, headers, body: nothing, streamed: true })
  }

  /** The whole answer in one frame. `false`: `body` is larger than a chunk or than what credit allows, and nothing was sent. */
  respondUnsafe(status: number, headers: HeaderList, body: Uint8Array): boolean {
    if (this.core.end === undefined && this.core.pieceBytes(body.length) < body.length) return false
    this.core.emit({ _tag: "ResponseStart", status, headers, body, streamed: false })
    return true
  }

  /** Sends as much of `bytes` as credit allows and returns how much that was; keep the rest for `whenWritableUnsafe`. */
  writeUnsafe(bytes: Uint8Array): number {
    let offset = 0
    while (this.core.end === undefined && offset < bytes.length) {
      const piece = this.core.pieceBytes(bytes.length - offset)
      if (piece === 0) return offset
      const body = piece === bytes.length ? bytes : bytes.subarray(offset, offset + piece)
      this.core.emit({ _tag: "ResponseChunk", body, finish: false })
      offset += piece
    }
    return bytes.length
  }

  /** Calls `f` once, as soon as something may be written or the stream has ended. Returns how to stop waiting. */
  whenWritableUnsafe(f: () => void): () => void {
    return this.core.whenWritable(f)
  }

  /** The answer is complete. */
  endUnsafe(trailers?: HeaderList): void {
    if (trailers === undefined || trailers.length === 0) {
      this.core.emit({ _tag: "ResponseChunk", body: nothing, finish: true })
    } else {
      this.core.emit({ _tag: "ResponseTrailers", headers: trailers })
    }
  }

  /** The answer will not come, or not completely. */
  abortUnsafe(code: AbortCode, message: string): void {
    this.core.abort(code, message)
  }

  /** A 1xx response other than 101. */
  informational(status: number, headers: HeaderList): Effect.Effect<void> {
    return Effect.sync(() => this.informationalUnsafe(status, headers))
  }

  /** The head of an answer whose body follows by `write` and `end`. It leaves at the end of this turn, body or not. */
  start(status: number, headers: HeaderList): Effect.Effect<void> {
    return Effect.sync(() => this.startUnsafe(status, headers))
  }

  /** The whole answer: in one frame where it fits, on credit where it does not. */
  respond(status: number, headers: HeaderList, body: Uint8Array): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (this.respondUnsafe(status, headers, body)) return Effect.void
      this.startUnsafe(status, headers)
      return Effect.andThen(this.write(body), this.finish())
    })
  }

  /** Sends `bytes`, waiting as long as the visitor's side grants too little. */
  write(bytes: Uint8Array): Effect.Effect<void> {
    return Effect.suspend(() => {
      const written = this.writeUnsafe(bytes)
      if (written === bytes.length) return Effect.void
      return Effect.andThen(this.writable, this.write(bytes.subarray(written)))
    })
  }

  /** The answer is complete. */
  finish(trailers?: HeaderList): Effect.Effect<void> {
    return Effect.sync(() => this.endUnsafe(trailers))
  }

  /** The answer will not come, or not completely. */
  abort(code: AbortCode, message: string): Effect.Effect<void> {
    return Effect.sync(() => this.abortUnsafe(code, message))
  }

  private arrived(body: Uint8Array): void {
    if (body.length === 0) return this.chunks.wake()
    if (this.chunks.length < chunksApartMax) return this.chunks.push(body)
    this.chunks.push(Buffer.concat([...this.chunks.takeAll(), body]))
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
      const stop = this.chunks.whenArrived(() => resume(this.pull))
      return Effect.sync(stop)
    })
  }
}
