/**
 * Visitors in memory: the same two interfaces that the Node edge gives the gateway, driven by a test. A visitor may read slowly, send its body
 * piece by piece, speak with trailers, and leave at any point.
 */
import { Deferred, Effect } from "effect"
import type { BodyPiece, HttpExchange, VisitorHead, VisitorUpgrade } from "../gateway/Visitor.ts"
import { type MessageSocket, pair } from "../socket/MessageSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import type { Turn } from "../tunnel/Turn.ts"

/** What a visitor asks; the rest is a plain `GET /` from loopback. */
export interface VisitorOptions extends Partial<VisitorHead> {
  /** Bytes the visitor's connection holds unread before it counts as slow; default: it reads at once. */
  readonly unreadBytesMax?: number
  /** Whether the request has a body, to be sent with `send` and `endBody`. */
  readonly hasBody?: boolean
  /** How a WebSocket in memory defers its wake-ups: for simulations. */
  readonly soon?: Turn
}

/** An answer as the visitor has received it so far. */
export interface ReceivedAnswer {
  readonly informational: Array<{ readonly status: number; readonly headers: HeaderList }>
  status: number
  headers: HeaderList
  /** Whether the head has left, with body or without. */
  headFlushed: boolean
  readonly chunks: Array<Uint8Array>
  trailers: HeaderList
  /** `complete` only after a regular end. */
  state: "open" | "complete" | "broken"
}

const headOf = (options: VisitorOptions): VisitorHead => ({
  method: options.method ?? "GET",
  target: options.target ?? "/",
  headers: options.headers ?? [["Host", "web.localhost:6420"]],
  httpVersion: options.httpVersion ?? "1.1",
  remoteAddress: options.remoteAddress ?? "127.0.0.1",
  encrypted: options.encrypted ?? false
})

/** One HTTP visitor. `exchange` goes to the gateway, the rest is the test's end. */
export class MemoryVisitor {
  readonly exchange: HttpExchange
  readonly answer: ReceivedAnswer = {
    informational: [],
    status: 0,
    headers: [],
    headFlushed: false,
    chunks: [],
    trailers: [],
    state: "open"
  }
  /** Bytes of the answer that the visitor has not read. */
  unreadBytes = 0
  /** Bytes of the request body that the gateway has not taken. */
  get untakenBytes(): number {
    return this.body.reduce((sum, piece) => sum + piece.length, 0)
  }

  private readonly unreadBytesMax: number
  private body: Array<Uint8Array> = []
  private bodyEnded = false
  private bodyTrailers: HeaderList = []
  private ended = false
  private done: boolean | undefined
  private onReadable: (() => void) | undefined
  private onWritable: (() => void) | undefined
  private onDone: ((complete: boolean) => void) | undefined
  private readonly finished = Deferred.makeUnsafe<ReceivedAnswer>()

  constructor(options: VisitorOptions = {}) {
    this.unreadBytesMax = options.unreadBytesMax ?? Number.POSITIVE_INFINITY
    this.exchange = {
      head: headOf(options),
      body: options.hasBody
        ? {
            takeUnsafe: (bytesMax) => this.take(bytesMax),
            whenReadableUnsafe: (f) => {
              if (this.body.length > 0 || this.bodyEnded) f()
              else this.onReadable = f
            },
            trailersUnsafe: () => this.bodyTrailers
          }
        : undefined,
      response: {
        informational: (status, headers) => this.answer.informational.push({ status, headers }),
        head: (status, headers) => {
          if (this.answer.status !== 0) throw new Error("a second head")
          this.answer.status = status
          this.answer.headers = headers
        },
        flushHead: () => {
          this.answer.headFlushed = true
        },
        write: (data) => this.write(data),
        whenWritableUnsafe: (f) => {
          if (this.unreadBytes < this.unreadBytesMax || this.done !== undefined) f()
          else this.onWritable = f
        },
        end: (last, trailers) => {
          if (this.ended) throw new Error("a second end")
          if (last.length > 0) this.write(last)
          this.answer.trailers = trailers
          this.answer.headFlushed = true
          this.ended = true
          this.settle()
        },
        destroy: () => this.finish(false)
      },
      whenDoneUnsafe: (f) => {
        if (this.done !== undefined) f(this.done)
        else this.onDone = f
      }
    }
  }

  private take(bytesMax: number): BodyPiece | undefined {
    const first = this.body[0]
    if (first === undefined) return this.bodyEnded ? { data: new Uint8Array(0), end: true } : undefined
    if (bytesMax === 0) return undefined
    const data = first.subarray(0, bytesMax)
    if (data.length < first.length) this.body[0] = first.subarray(data.length)
    else this.body.shift()
    return { data, end: this.bodyEnded && this.body.length === 0 }
  }

  private write(data: Uint8Array): boolean {
    if (this.done !== undefined) return false
    if (this.answer.status === 0 || this.ended) throw new Error("body outside of an answer")
    this.answer.headFlushed = true
    this.answer.chunks.push(data)
    if (this.unreadBytesMax === Number.POSITIVE_INFINITY) return true
    this.unreadBytes += data.length
    return this.unreadBytes < this.unreadBytesMax
  }

  private settle(): void {
    if (this.ended && this.unreadBytes === 0) this.finish(true)
  }

  private finish(complete: boolean): void {
    if (this.done !== undefined) return
    this.done = complete
    this.answer.state = complete ? "complete" : "broken"
    this.rouseWriter()
    this.onDone?.(complete)
    Deferred.doneUnsafe(this.finished, Effect.succeed(this.answer))
  }

  private rouseWriter(): void {
    const onWritable = this.onWritable
    this.onWritable = undefined
    onWritable?.()
  }

  /** Reads up to `bytes` of what is unread. */
  read(bytes: number): void {
    this.unreadBytes = Math.max(0, this.unreadBytes - bytes)
    if (this.unreadBytes < this.unreadBytesMax) this.rouseWriter()
    this.settle()
  }

  /** Sends a piece of the request body. */
  send(data: Uint8Array): void {
    if (data.length > 0) this.body.push(data)
    this.rouseReader()
  }

  /** Ends the request body. */
  endBody(trailers: HeaderList = []): void {
    this.bodyEnded = true
    this.bodyTrailers = trailers
    this.rouseReader()
  }

  private rouseReader(): void {
    const onReadable = this.onReadable
    this.onReadable = undefined
    onReadable?.()
  }

  /** The visitor's connection goes away. */
  leave(): void {
    this.finish(false)
  }

  /** The answer, once it is complete or broken. */
  get received(): Effect.Effect<ReceivedAnswer> {
    return Deferred.await(this.finished)
  }

  /** The body received so far, as text. */
  get text(): string {
    return Buffer.concat(this.answer.chunks).toString()
  }
}

/** How a visitor's handshake went. */
export type UpgradeAnswer =
  | { readonly _tag: "Accepted"; readonly headers: HeaderList; readonly socket: MessageSocket }
  | { readonly _tag: "Refused"; readonly status: number; readonly headers: HeaderList; readonly body: Uint8Array }

/** One visitor that asks for a WebSocket. */
export class MemoryUpgrade {
  readonly upgrade: VisitorUpgrade
  private onGone: (() => void) | undefined
  private left = false
  private socket: MessageSocket | undefined
  private readonly answer = Deferred.makeUnsafe<UpgradeAnswer>()

  constructor(options: VisitorOptions = {}) {
    this.upgrade = {
      head: headOf({
        ...options,
        headers: options.headers ?? [
          ["Host", "web.localhost:6420"],
          ["Connection", "Upgrade"],
          ["Upgrade", "websocket"],
          ["Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="],
          ["Sec-WebSocket-Version", "13"]
        ]
      }),
      accept: (headers, protocol) => {
        const [ours, theirs] = pair({ protocol, ...(options.soon && { soon: options.soon }) })
        this.socket = theirs
        if (this.left) ours.terminateUnsafe()
        Deferred.doneUnsafe(this.answer, Effect.succeed({ _tag: "Accepted", headers, socket: theirs }))
        return ours
      },
      refuse: (status, headers, body) => {
        Deferred.doneUnsafe(this.answer, Effect.succeed({ _tag: "Refused", status, headers, body }))
      },
      whenGoneUnsafe: (f) => {
        if (this.left) f()
        else this.onGone = f
      }
    }
  }

  /** The visitor's connection goes away, during the handshake or after it. */
  leave(): void {
    this.left = true
    this.onGone?.()
    this.socket?.terminateUnsafe()
  }

  /** The outcome of the handshake; the socket in it is the visitor's end. */
  get answered(): Effect.Effect<UpgradeAnswer> {
    return Deferred.await(this.answer)
  }
}
