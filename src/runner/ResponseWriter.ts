/**
 * The outgoing half of an HTTP answer: a request's, or the refusal of a WebSocket. Plain calls ending in `Unsafe`, and the same as Effects that
 * wait where credit is spent. After the stream has ended, all that would be sent is dropped.
 */
import { Effect } from "effect"
import type { AbortCode, HeaderList } from "../tunnel/Frame.ts"
import type { StreamCore, StreamEnd } from "./StreamCore.ts"

const nothing = new Uint8Array(0)

/** Writes one answer. */
export class ResponseWriter {
  protected readonly core: StreamCore

  constructor(core: StreamCore) {
    this.core = core
  }

  /** Waits until something may be written, or the stream has ended. */
  get writable(): Effect.Effect<void> {
    return Effect.callback((resume) => {
      const stop = this.core.whenWritable(() => resume(Effect.void))
      return Effect.sync(stop)
    })
  }

  /** How the stream ended, undefined while it is open. */
  get end(): StreamEnd | undefined {
    return this.core.end
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

  /** The head of an answer whose body follows by `write` and `finish`. It leaves at the end of this turn, body or not. */
  start(status: number, headers: HeaderList): Effect.Effect<void> {
    return Effect.sync(() => this.startUnsafe(status, headers))
  }

  /** The whole answer: in one frame where it fits, on credit where it does not. */
  respond(status: number, headers: HeaderList, body: Uint8Array = nothing): Effect.Effect<void> {
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
      return Effect.flatMap(this.writable, () => this.write(bytes.subarray(written)))
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
}
