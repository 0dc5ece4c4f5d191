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

/** Whoever takes what arrives at a socket. */
export interface SocketReader {
  /** Something has arrived: once for all that one turn brings. */
  readonly onReadable: () => void
  /** The socket has closed. What has arrived can still be taken. */
  readonly onClosed: (closed: SocketClosed) => void
}

/** One WebSocket, open. Its synchronous half ends in `Unsafe` and is for the loop that owns it. */
export interface MessageSocket {
  /** The subprotocol agreed on, empty where none was. */
  readonly protocol: string
  /** What the peer put into its 101, in order, once; of dialled sockets only. */
  readonly takeHeadersUnsafe?: () => ReadonlyArray<readonly [string, string]>
  /** Everything that arrived since the last pull; waits for the first message. Reading stops while unpulled bytes stand above the high-water mark. */
  readonly pull: Effect.Effect<SocketBatch, SocketClosed>
  /** The same as a stream, one array per read. Fails with `SocketClosed` at the end, so that the code is not lost. */
  readonly messages: Stream.Stream<SocketMessage, SocketClosed>
  /** What `pull` would give, undefined where nothing has arrived. */
  readonly takeUnsafe: () => SocketBatch | undefined
  /** Who is told of what arrives; one at a time. It has to look for itself at what is there already. */
  readonly readUnsafe: (reader: SocketReader | undefined) => void
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
 * The receiving half that both implementations share: gathers messages, wakes one reader per turn, and says when to stop and resume reading.
 *
 * Most sockets are idle nearly always, and there are many: one object each, and methods, so that nothing is made before it is needed.
 */
export abstract class ReceivingSocket implements MessageSocket {
  abstract readonly protocol: string
  private batch: Array<SocketMessage> | undefined
  private bytes = 0
  private stopped = false
  private scheduled = false
  private closed: SocketClosed | undefined
  private reader: SocketReader | undefined
  private closeListeners: Array<(closed: SocketClosed) => void> | undefined

  abstract sendUnsafe(data: Uint8Array, options: SendOptions): boolean
  abstract whenWritableUnsafe(f: () => void): void
  abstract closeUnsafe(code: number, reason: string): void
  abstract terminateUnsafe(): void
  /** Stops or resumes reading from the peer. */
  protected abstract reading(on: boolean): void
  /** Defers a wake-up to the end of the present job. */
  protected abstract soon(f: () => void): void

  get pull(): Effect.Effect<SocketBatch, SocketClosed> {
    return Effect.callback((resume) => {
      const read = () => {
        const batch = this.takeUnsafe()
        if (batch === undefined && this.closed === undefined)
          return this.readUnsafe({ onReadable: read, onClosed: read })
        this.readUnsafe(undefined)
        resume(batch === undefined ? Effect.fail(this.closed as SocketClosed) : Effect.succeed(batch))
      }
      read()
      return Effect.sync(() => this.readUnsafe(undefined))
    })
  }

  get messages(): Stream.Stream<SocketMessage, SocketClosed> {
    return Stream.fromPull(Effect.succeed(this.pull))
  }

  get writable(): Effect.Effect<void, SocketClosed> {
    return Effect.callback((resume) => {
      this.whenWritableUnsafe(() => resume(this.closed === undefined ? Effect.void : Effect.fail(this.closed)))
    })
  }

  takeUnsafe(): SocketBatch | undefined {
    const { batch } = this
    if (batch === undefined) return undefined
    this.batch = undefined
    this.bytes = 0
    if (this.stopped) {
      this.stopped = false
      this.reading(true)
    }
    return batch as unknown as SocketBatch
  }

  readUnsafe(reader: SocketReader | undefined): void {
    this.reader = reader
  }

  closedUnsafe(): SocketClosed | undefined {
    return this.closed
  }

  whenClosedUnsafe(f: (closed: SocketClosed) => void): void {
    if (this.closed !== undefined) f(this.closed)
    else if (this.closeListeners === undefined) this.closeListeners = [f]
    else this.closeListeners.push(f)
  }

  /** Bytes that nobody has taken. */
  get unpulledBytes(): number {
    return this.bytes
  }

  /** A message arrived. */
  offer(message: SocketMessage): void {
    if (this.batch === undefined) this.batch = [message]
    else this.batch.push(message)
    this.bytes += message.data.length
    // One wake-up per turn, not per message: a read of the socket brings many.
    if (this.reader !== undefined && !this.scheduled) {
      this.scheduled = true
      this.soon(() => this.flush())
    }
    if (!this.stopped && this.bytes >= limits.socketHighWaterBytes) {
      this.stopped = true
      this.reading(false)
    }
  }

  /** The socket is closed. What has arrived can still be taken. */
  end(closed: SocketClosed): void {
    if (this.closed !== undefined) return
    this.closed = closed
    this.reader?.onClosed(closed)
    const listeners = this.closeListeners
    this.closeListeners = undefined
    for (const listener of listeners ?? []) listener(closed)
  }

  private flush(): void {
    this.scheduled = false
    if (this.batch !== undefined) this.reader?.onReadable()
  }
}

/** One end of a connection in memory, with the same marks and close codes as a real one. */
class MemorySocket extends ReceivingSocket {
  readonly protocol: string
  private peer: MemorySocket | undefined
  private waiting: Array<() => void> = []
  // Fragments are put together, as a real socket does before it hands a message over.
  private fragments: Array<Uint8Array> = []
  private readonly turn: Turn

  constructor(protocol: string, turn: Turn) {
    super()
    this.protocol = protocol
    this.turn = turn
  }

  join(peer: MemorySocket): void {
    this.peer = peer
  }

  sendUnsafe(data: Uint8Array, { binary, finish }: SendOptions): boolean {
    if (this.closedUnsafe() !== undefined) return false
    if (!finish) {
      this.fragments.push(data)
      return !this.full
    }
    const whole = this.fragments.length === 0 ? data : Buffer.concat([...this.fragments, data])
    this.fragments = []
    this.peer?.offer({ data: whole, binary })
    return !this.full
  }

  whenWritableUnsafe(f: () => void): void {
    if (this.closedUnsafe() !== undefined || !this.full) f()
    else this.waiting.push(f)
  }

  closeUnsafe(code: number, reason: string): void {
    this.finish(new SocketClosed({ code, reason }))
  }

  terminateUnsafe(): void {
    this.closeUnsafe(1006, "")
  }

  protected reading(on: boolean): void {
    if (on) this.peer?.wake()
  }

  protected soon(f: () => void): void {
    this.turn(f)
  }

  private get full(): boolean {
    return this.peer !== undefined && this.peer.unpulledBytes >= limits.socketHighWaterBytes
  }

  private wake(): void {
    const woken = this.waiting
    this.waiting = []
    for (const f of woken) f()
  }

  private finish(closed: SocketClosed): void {
    this.end(closed)
    this.peer?.end(closed)
    this.wake()
    this.peer?.wake()
  }
}

/** Two ends of one connection in memory. `soon` is for simulations: see `tunnel/Turn.ts`. */
export const pair = (options: {
  readonly protocol: string
  readonly soon?: Turn
}): readonly [MessageSocket, MessageSocket] => {
  const make = () => new MemorySocket(options.protocol, options.soon ?? queueMicrotask)
  const [left, right] = [make(), make()]
  left.join(right)
  right.join(left)
  return [left, right]
}
