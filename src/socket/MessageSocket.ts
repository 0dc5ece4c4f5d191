/**
 * A WebSocket as every role sees it: arrays of messages in, one synchronous write out, and a way to wait when the peer is slow.
 *
 * Effect's own Socket has no backpressure on write and hands over single messages; this contract has both, and two implementations:
 * `WsSocket.ts` over `ws`, and `pair` below, wholly in memory.
 */
import { Context, Data, Effect, Stream } from "effect"
import { limits } from "../tunnel/Limits.ts"
import type { Turn } from "../tunnel/Turn.ts"

/** One message as received. `data` is a view of the read buffer and UTF-8 where not `binary`. */
export interface SocketMessage {
  readonly data: Uint8Array
  readonly binary: boolean
}

/** What one read of the socket brought: never empty. */
export type SocketBatch = readonly [SocketMessage, ...Array<SocketMessage>]

/** The socket is closed. `code` is 1006 where the peer vanished without a close frame, 1005 where it gave no code (RFC 6455, 7.4.1). */
export class SocketClosed extends Data.TaggedError("SocketClosed")<{
  readonly code: number
  readonly reason: string
}> {}

/** How a message is written: text or binary, whole or a fragment that more will follow. */
export interface SendOptions {
  readonly binary: boolean
  readonly finish: boolean
}

/** One WebSocket, open. Its synchronous half ends in `Unsafe` and is for the loop that owns it. */
export interface MessageSocket {
  /** The subprotocol agreed on, empty where none was. */
  readonly protocol: string
  /** What the peer put into its 101, in order; of dialled sockets only. */
  readonly headers?: ReadonlyArray<readonly [string, string]>
  /** Everything that arrived since the last pull; waits for the first message. Reading stops while unpulled bytes stand above the high-water mark. */
  readonly pull: Effect.Effect<SocketBatch, SocketClosed>
  /** The same as a stream, one array per read. Fails with `SocketClosed` at the end, so that the code is not lost. */
  readonly messages: Stream.Stream<SocketMessage, SocketClosed>
  /** Writes at once. `false`: stop feeding and wait for `writable`. A write to a closed socket is dropped. */
  readonly sendUnsafe: (data: Uint8Array, options: SendOptions) => boolean
  /** Waits until the unsent bytes are below the high-water mark. */
  readonly writable: Effect.Effect<void, SocketClosed>
  /** Calls `f` once, as soon as the unsent bytes are below the mark or the socket is closed. */
  readonly whenWritableUnsafe: (f: () => void) => void
  /** Why the socket is closed, once it is. */
  readonly closedUnsafe: () => SocketClosed | undefined
  /** Calls `f` once, when the socket has closed, even while nobody pulls. */
  readonly whenClosedUnsafe: (f: (closed: SocketClosed) => void) => void
  /** Starts the closing handshake; a peer that does not answer in time is cut off. Idempotent. */
  readonly closeUnsafe: (code: number, reason: string) => void
  /** Cuts the connection without a word. */
  readonly terminateUnsafe: () => void
}

/** The HTTP answer a peer gave instead of upgrading. The body is cut off at `chunkBytesMax`: enough for an error page. */
export interface Refusal {
  readonly status: number
  readonly headers: ReadonlyArray<readonly [string, string]>
  readonly body: Uint8Array
}

/** Why no connection came about. `status` is set where the peer answered HTTP instead of upgrading, `refusal` where its answer could be read. */
export class DialError extends Data.TaggedError("DialError")<{
  readonly url: string
  readonly reason: "Unreachable" | "Refused" | "Timeout"
  readonly status: number | undefined
  readonly message: string
  readonly refusal?: Refusal
}> {}

/** What the handshake says beside the URL. */
export interface DialOptions {
  readonly protocols: ReadonlyArray<string>
  readonly headers: ReadonlyArray<readonly [string, string]>
  /** How long the handshake may take; `helloTimeoutMs` unless told otherwise. */
  readonly timeoutMs?: number
  /** `false` takes any certificate. For an app on this machine, never for a hub. */
  readonly verifyCertificate?: boolean
}

/** Opens WebSockets: to the hub, to a local app. `layerDialer` of `WsSocket.ts` dials for real; tests swap it. */
export class Dialer extends Context.Service<
  Dialer,
  { readonly dial: (url: string, options: DialOptions) => Effect.Effect<MessageSocket, DialError> }
>()("wayleave/socket/Dialer") {}

/** Close codes that may be sent (RFC 6455, 7.4); anything else becomes 1000 for "none given", 1011 for "broke". */
export const sendableCloseCode = (code: number | null): number => {
  if (code === null || code === 1005) return 1000
  const registered = code >= 1000 && code <= 1014 && code !== 1004 && code !== 1006
  return registered || (code >= 3000 && code <= 4999) ? code : 1011
}

const encoder = new TextEncoder()

/** A close reason cut to the 123 bytes RFC 6455 leaves for it, never inside a character. */
export const sendableCloseReason = (reason: string): string => {
  if (reason.length <= 41) return reason
  let end = Math.min(reason.length, 123)
  while (encoder.encode(reason.slice(0, end)).length > 123) end--
  const last = reason.charCodeAt(end - 1)
  return reason.slice(0, last >= 0xd800 && last <= 0xdbff ? end - 1 : end)
}

/**
 * The receiving half that both implementations share: gathers messages, wakes one puller per turn, and says when to stop and resume reading.
 */
export class Inbox {
  private batch: Array<SocketMessage> = []
  private bytes = 0
  private stopped = false
  private scheduled = false
  private closed: SocketClosed | undefined
  private waiter: ((effect: Effect.Effect<SocketBatch, SocketClosed>) => void) | undefined
  private closeListeners: Array<(closed: SocketClosed) => void> = []
  private readonly highWaterBytes: number
  private readonly reading: (on: boolean) => void
  private readonly soon: Turn

  constructor(highWaterBytes: number, reading: (on: boolean) => void, soon: Turn = queueMicrotask) {
    this.highWaterBytes = highWaterBytes
    this.reading = reading
    this.soon = soon
  }

  offer(message: SocketMessage): void {
    this.batch.push(message)
    this.bytes += message.data.length
    // One wake-up per turn, not per message: a read of the socket brings many.
    if (this.waiter !== undefined && !this.scheduled) {
      this.scheduled = true
      this.soon(() => this.flush())
    }
    if (!this.stopped && this.bytes >= this.highWaterBytes) {
      this.stopped = true
      this.reading(false)
    }
  }

  close(closed: SocketClosed): void {
    if (this.closed !== undefined) return
    this.closed = closed
    const waiter = this.waiter
    if (waiter !== undefined && this.batch.length === 0) {
      this.waiter = undefined
      waiter(Effect.fail(closed))
    }
    const listeners = this.closeListeners
    this.closeListeners = []
    for (const listener of listeners) listener(closed)
  }

  get unpulledBytes(): number {
    return this.bytes
  }

  readonly closedUnsafe = (): SocketClosed | undefined => this.closed

  readonly whenClosedUnsafe = (f: (closed: SocketClosed) => void): void => {
    if (this.closed !== undefined) f(this.closed)
    else this.closeListeners.push(f)
  }

  readonly pull: Effect.Effect<SocketBatch, SocketClosed> = Effect.callback((resume) => {
    if (this.batch.length > 0) return resume(Effect.succeed(this.take()))
    if (this.closed !== undefined) return resume(Effect.fail(this.closed))
    this.waiter = resume
    return Effect.sync(() => {
      if (this.waiter === resume) this.waiter = undefined
    })
  })

  private take(): SocketBatch {
    const batch = this.batch
    this.batch = []
    this.bytes = 0
    if (this.stopped) {
      this.stopped = false
      this.reading(true)
    }
    return batch as unknown as SocketBatch
  }

  private flush(): void {
    this.scheduled = false
    const waiter = this.waiter
    if (waiter === undefined || this.batch.length === 0) return
    this.waiter = undefined
    waiter(Effect.succeed(this.take()))
  }
}

/** The effects of a socket built from its synchronous parts. */
export const fromParts = (
  inbox: Inbox,
  parts: Pick<
    MessageSocket,
    "protocol" | "headers" | "sendUnsafe" | "whenWritableUnsafe" | "closeUnsafe" | "terminateUnsafe"
  >
): MessageSocket => ({
  ...parts,
  pull: inbox.pull,
  messages: Stream.fromPull(Effect.succeed(inbox.pull)),
  closedUnsafe: inbox.closedUnsafe,
  whenClosedUnsafe: inbox.whenClosedUnsafe,
  writable: Effect.callback((resume) => {
    parts.whenWritableUnsafe(() => {
      const closed = inbox.closedUnsafe()
      resume(closed === undefined ? Effect.void : Effect.fail(closed))
    })
  })
})

/** Two ends of one connection in memory, with the same marks and close codes as a real one. `soon` is for simulations: see `tunnel/Turn.ts`. */
export const pair = (options: {
  readonly protocol: string
  readonly soon?: Turn
}): readonly [MessageSocket, MessageSocket] => {
  const make = (inbox: Inbox, peer: () => { readonly inbox: Inbox; readonly wake: () => void }) => {
    let waiting: Array<() => void> = []
    const wake = () => {
      const woken = waiting
      waiting = []
      for (const f of woken) f()
    }
    const full = () => peer().inbox.unpulledBytes >= limits.socketHighWaterBytes
    // Fragments are put together, as a real socket does before it hands a message over.
    let fragments: Array<Uint8Array> = []
    const socket = fromParts(inbox, {
      protocol: options.protocol,
      sendUnsafe: (data, { binary, finish }) => {
        if (inbox.closedUnsafe() !== undefined) return false
        if (!finish) {
          fragments.push(data)
          return !full()
        }
        const whole = fragments.length === 0 ? data : Buffer.concat([...fragments, data])
        fragments = []
        peer().inbox.offer({ data: whole, binary })
        return !full()
      },
      whenWritableUnsafe: (f) => {
        if (inbox.closedUnsafe() !== undefined || !full()) f()
        else waiting.push(f)
      },
      closeUnsafe: (code, reason) => finish(new SocketClosed({ code, reason })),
      terminateUnsafe: () => finish(new SocketClosed({ code: 1006, reason: "" }))
    })
    const finish = (closed: SocketClosed) => {
      inbox.close(closed)
      peer().inbox.close(closed)
      wake()
      peer().wake()
    }
    return { socket, wake }
  }
  const leftInbox: Inbox = new Inbox(limits.socketHighWaterBytes, (on) => on && right.wake(), options.soon)
  const rightInbox: Inbox = new Inbox(limits.socketHighWaterBytes, (on) => on && left.wake(), options.soon)
  const left: { readonly socket: MessageSocket; readonly wake: () => void } = make(leftInbox, () => ({
    inbox: rightInbox,
    wake: right.wake
  }))
  const right: { readonly socket: MessageSocket; readonly wake: () => void } = make(rightInbox, () => ({
    inbox: leftInbox,
    wake: left.wake
  }))
  return [left.socket, right.socket]
}
