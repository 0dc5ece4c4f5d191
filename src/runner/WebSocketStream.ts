/**
 * One visitor's WebSocket as the runner sees it: asked for, accepted or refused, then messages both ways until one side closes.
 *
 * Apps read whole messages; whoever forwards to another socket takes the fragments as they come, so that a large message costs one fragment
 * and not itself. Both obey credit. Next: `RunnerApp.ts`, who answers; `StreamCore.ts`, the rules of the stream.
 */
import { Data, Effect, Semaphore, Stream } from "effect"
import { sendableCloseCode, sendableCloseReason } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd, type HeaderList, type WebSocketOpenRequest } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { Inflow } from "./Inflow.ts"
import { ResponseWriter } from "./ResponseWriter.ts"
import type { StreamCore, StreamEnd, StreamSide } from "./StreamCore.ts"

/** A message or a fragment of it; the last fragment says `finish`. */
export interface Fragment {
  readonly data: Uint8Array
  readonly binary: boolean
  readonly finish: boolean
}

/** A whole message; UTF-8 where not `binary`. */
export interface WebSocketMessage {
  readonly data: Uint8Array
  readonly binary: boolean
}

/** The WebSocket is closed. `code` is 1006 where the visitor's socket broke, and null where it gave none or this side closed or was aborted. */
export class WebSocketClosed extends Data.TaggedError("WebSocketClosed")<{
  readonly code: number | null
  readonly reason: string
}> {}

const nothing = new Uint8Array(0)
const encoder = new TextEncoder()

const headerOf = (headers: HeaderList, wanted: string): string =>
  headers
    .filter(([name]) => name.toLowerCase() === wanted)
    .map(([, value]) => value)
    .join(",")

/** What an app is given to serve one WebSocket. */
export class WebSocketStream implements StreamSide {
  readonly route: RouteKey
  /** Origin-form: path and query as the visitor sent them. */
  readonly target: string
  private head: HeaderList
  private readonly core: StreamCore
  private readonly fragments = new Inflow<Fragment>()
  private assembling: Array<Uint8Array> | undefined
  private assembledBytes = 0
  private turns: Semaphore.Semaphore | undefined

  constructor(core: StreamCore, open: typeof WebSocketOpenRequest.Type) {
    this.core = core
    this.route = core.route
    this.target = open.target
    this.head = open.headers
    core.side = this
  }

  /** For `StreamCore.ts` alone. */
  onFrame(frame: Parameters<StreamSide["onFrame"]>[0]): void {
    switch (frame._tag) {
      case "WebSocketMessage":
        if (this.fragments.length >= limits.framesHeldMax) {
          return this.core.abort("overflow", "too many unread messages")
        }
        return this.fragments.push(frame)
      case "WebSocketClose":
        return this.core.closed(frame.code, frame.reason)
      case "RequestStart":
      case "RequestChunk":
      case "RequestTrailers":
      case "WebSocketOpen":
        // The table of StreamState lets none of these come here.
        return
    }
    return absurd(frame)
  }

  /** For `StreamCore.ts` alone. */
  onEnd(): void {
    this.fragments.wake()
  }

  get headers(): HeaderList {
    return this.head
  }

  /** The subprotocols the visitor offers, in its order of preference. */
  get protocols(): ReadonlyArray<string> {
    return headerOf(this.head, "sec-websocket-protocol")
      .split(",")
      .map((protocol) => protocol.trim())
      .filter((protocol) => protocol !== "")
  }

  /** Forgets `headers` and `protocols`, for whoever has no more use of them: a WebSocket may live for days. */
  forgetHeadUnsafe(): void {
    this.head = []
  }

  /** Whoever serves it by callbacks says so: the app's effect may then return, and the WebSocket stays open until one side closes. */
  handOverUnsafe(): void {
    this.core.handedOver = true
  }

  /** Calls `f` once what came before the visitor's close has waited long enough to be read. Returns how to stop that. */
  giveTimeUnsafe(f: () => void): () => void {
    return this.core.giveTime(f)
  }

  /** The visitor's next message, put together from its fragments. Fails once all that came before the end was read. */
  get pull(): Effect.Effect<WebSocketMessage, WebSocketClosed> {
    return Effect.suspend(() => this.pullOnce())
  }

  /** The visitor's messages. */
  get messages(): Stream.Stream<WebSocketMessage, WebSocketClosed> {
    return Stream.fromPull(Effect.succeed(Effect.map(this.pull, (message) => [message] as const)))
  }

  /** Refuses, with an HTTP answer like any other. */
  get refusal(): ResponseWriter {
    return new ResponseWriter(this.core)
  }

  /** Waits until something may be sent, or the stream has ended. */
  get writable(): Effect.Effect<void> {
    return this.refusal.writable
  }

  /** How the stream ended, undefined while it is open. */
  get end(): StreamEnd | undefined {
    return this.core.end
  }

  /** Whether the app has accepted, and neither side has closed since. */
  get isOpen(): boolean {
    return this.core.state === "SocketOpen"
  }

  /** The next fragment, undefined where none waits. Those that came before the visitor's close can still be taken after it. */
  takeFragmentUnsafe(): Fragment | undefined {
    const fragment = this.fragments.take()
    if (fragment !== undefined) this.core.consumed(fragment.data.length)
    return fragment
  }

  /** The next whole message, undefined where none is complete yet. */
  takeMessageUnsafe(): WebSocketMessage | undefined {
    let fragment = this.takeFragmentUnsafe()
    while (fragment !== undefined) {
      const message = this.assemble(fragment)
      if (message !== undefined) return message
      fragment = this.takeFragmentUnsafe()
    }
    return undefined
  }

  /** Calls `f` once, when a fragment or the stream's end arrives. One reader at a time. */
  whenReadableUnsafe(f: () => void): void {
    this.fragments.whenArrived(f)
  }

  /** Accepts. `headers` go into the 101, the chosen subprotocol among them. */
  acceptUnsafe(headers: HeaderList): void {
    this.core.emit({ _tag: "WebSocketOpen", headers, canHibernate: false })
  }

  /** Sends as much of a message or fragment as credit allows and returns how much that was; the last piece says `finish` only with the last byte. */
  sendUnsafe(data: Uint8Array, options: { readonly binary: boolean; readonly finish: boolean }): number {
    if (data.length === 0) {
      this.core.emit({ _tag: "WebSocketMessage", data: nothing, ...options })
      return 0
    }
    let offset = 0
    while (this.core.end === undefined && offset < data.length) {
      const piece = this.core.pieceBytes(data.length - offset)
      if (piece === 0) return offset
      const finish = options.finish && offset + piece === data.length
      const part = piece === data.length ? data : data.subarray(offset, offset + piece)
      this.core.emit({ _tag: "WebSocketMessage", data: part, binary: options.binary, finish })
      offset += piece
    }
    return data.length
  }

  /** Calls `f` once, as soon as something may be sent or the stream has ended. Returns how to stop waiting. */
  whenWritableUnsafe(f: () => void): () => void {
    return this.core.whenWritable(f)
  }

  /** Closes. A code that may not be sent becomes the nearest that may; null says nothing at all. */
  closeUnsafe(code: number | null, reason: string): void {
    this.core.emit({
      _tag: "WebSocketClose",
      code: code === null ? null : sendableCloseCode(code),
      reason: sendableCloseReason(reason.toWellFormed()),
      hibernate: false
    })
  }

  /** Ends the stream as broken. */
  abortUnsafe(code: AbortCode, message: string): void {
    this.core.abort(code, message)
  }

  /** Accepts. `headers` go into the 101, the chosen subprotocol among them. */
  accept(headers: HeaderList = []): Effect.Effect<void> {
    return Effect.sync(() => this.acceptUnsafe(headers))
  }

  /** Refuses with an HTTP answer. */
  refuse(status: number, headers: HeaderList = [], body: Uint8Array = nothing): Effect.Effect<void> {
    return this.refusal.respond(status, headers, body)
  }

  /**
   * Sends a whole message, text or bytes, waiting as long as the visitor's side grants too little. Messages of several senders do not mix; one
   * that was given up half-way ends the stream, since nobody could make a message of it any more.
   */
  send(message: string | Uint8Array): Effect.Effect<void> {
    const binary = typeof message !== "string"
    this.turns ??= Semaphore.makeUnsafe(1)
    return this.turns.withPermit(this.sendRest(binary ? message : encoder.encode(message), binary, false))
  }

  /** Closes. */
  close(code: number | null = 1000, reason = ""): Effect.Effect<void> {
    return Effect.sync(() => this.closeUnsafe(code, reason))
  }

  private sendRest(data: Uint8Array, binary: boolean, begun: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const sent = this.sendUnsafe(data, { binary, finish: true })
      if (sent === data.length) return Effect.void
      const rest = Effect.flatMap(this.writable, () => this.sendRest(data.subarray(sent), binary, begun || sent > 0))
      if (begun || sent === 0) return rest
      return Effect.onInterrupt(rest, () =>
        Effect.sync(() => this.abortUnsafe("app_failed", "a message was abandoned"))
      )
    })
  }

  private pullOnce(): Effect.Effect<WebSocketMessage, WebSocketClosed> {
    const message = this.takeMessageUnsafe()
    if (message !== undefined) return Effect.succeed(message)
    const end = this.core.end
    if (end !== undefined) {
      const closed = end._tag === "Closed" ? end : { code: null, reason: "" }
      return Effect.fail(new WebSocketClosed({ code: closed.code, reason: closed.reason }))
    }
    return Effect.callback((resume) => {
      // The fiber may have had to wait since it looked, and nobody was there to be woken.
      if (this.fragments.length > 0 || this.core.end !== undefined) return resume(this.pull)
      const stop = this.fragments.whenArrived(() => resume(this.pull))
      return Effect.sync(stop)
    })
  }

  private assemble(fragment: Fragment): WebSocketMessage | undefined {
    const { binary, data, finish } = fragment
    if (finish && this.assembling === undefined) return { data, binary }
    this.assembledBytes += data.length
    if (this.assembledBytes > limits.messageBytesMax) {
      this.assembling = undefined
      this.closeUnsafe(1009, "message too large")
      return undefined
    }
    this.assembling ??= []
    this.assembling.push(data)
    if (!finish) return undefined
    const whole = Buffer.concat(this.assembling)
    this.assembling = undefined
    this.assembledBytes = 0
    return { data: whole, binary }
  }
}
