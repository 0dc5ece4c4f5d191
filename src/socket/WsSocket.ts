/**
 * `MessageSocket` over the `ws` package, for accepted and for dialled sockets, and the `Dialer` that opens real ones.
 *
 * Reading is paused at the socket while unpulled bytes stand above the mark, so a slow consumer costs one mark of memory and no more.
 */
import type { IncomingMessage } from "node:http"
import { Effect, Layer } from "effect"
import { WebSocket } from "ws"
import { limits } from "../tunnel/Limits.ts"
import {
  DialError,
  Dialer,
  type DialOptions,
  type MessageSocket,
  ReceivingSocket,
  type Refusal,
  type SendOptions,
  SocketClosed,
  sendableCloseCode,
  sendableCloseReason
} from "./MessageSocket.ts"

/** How long a peer may take to answer our close frame before the connection is cut. */
const closeTimeoutMs = 2_000

/** Options both ends share: no compression inside the tunnel, messages bounded. */
export const wsOptions = { perMessageDeflate: false, maxPayload: limits.messageBytesMax } as const

type Headers = ReadonlyArray<readonly [string, string]>

const pairs = (raw: ReadonlyArray<string>): Headers => {
  const headers: Array<readonly [string, string]> = []
  for (let i = 0; i + 1 < raw.length; i += 2) headers.push([raw[i] as string, raw[i + 1] as string])
  return headers
}

/** The listeners are the same functions for all sockets, and find theirs here. */
const ours = Symbol("wayleave/socket/WsSocket")
type Owned = WebSocket & { [ours]?: WsSocket }

function onMessage(this: Owned, data: unknown, binary: boolean): void {
  this[ours]?.offer({ data: data as Buffer, binary })
}
function onClose(this: Owned, code: number, reason: Buffer): void {
  this[ours]?.onClosed(new SocketClosed({ code, reason: reason.toString() }))
}
const onError = () => {
  // `close` follows every error, with the code that says what went wrong.
}

/** One `ws` socket. */
class WsSocket extends ReceivingSocket {
  private readonly ws: WebSocket
  private headers: Headers | undefined
  private readonly among: Set<MessageSocket> | undefined
  private waiting: Array<() => void> | undefined
  private probing: ReturnType<typeof setInterval> | undefined
  private onSent: (() => void) | undefined

  constructor(ws: WebSocket, { among, headers }: WsSocketOptions) {
    super()
    this.ws = ws
    this.among = among
    this.headers = headers
    const owned: Owned = ws
    owned[ours] = this
    ws.binaryType = "nodebuffer"
    ws.on("message", onMessage)
    ws.on("error", onError)
    ws.on("close", onClose)
    among?.add(this)
    if (ws.isPaused) ws.resume()
  }

  get protocol(): string {
    return this.ws.protocol
  }

  takeHeadersUnsafe(): Headers {
    const { headers } = this
    this.headers = undefined
    return headers ?? []
  }

  sendUnsafe(data: Uint8Array, { binary, finish }: SendOptions): boolean {
    const { ws } = this
    if (ws.readyState !== WebSocket.OPEN) return false
    this.onSent ??= () => {
      if (this.waiting !== undefined && ws.bufferedAmount < limits.socketHighWaterBytes) this.wake()
    }
    ws.send(data, { binary, fin: finish, compress: false }, this.onSent)
    return ws.bufferedAmount < limits.socketHighWaterBytes
  }

  whenWritableUnsafe(f: () => void): void {
    const { ws } = this
    if (ws.readyState !== WebSocket.OPEN || ws.bufferedAmount < limits.socketHighWaterBytes) f()
    else if (this.waiting === undefined) this.waiting = [f]
    else this.waiting.push(f)
  }

  closeUnsafe(code: number, reason: string): void {
    const { ws } = this
    if (ws.readyState === WebSocket.CLOSED || ws.readyState === WebSocket.CLOSING) return
    const kill = setTimeout(() => ws.terminate(), closeTimeoutMs)
    ws.once("close", () => clearTimeout(kill))
    // A paused socket would never read the peer's answer.
    if (ws.isPaused) ws.resume()
    // 1005 is never on a wire: it stands for a close frame without a code.
    if (code === 1005) ws.close()
    else ws.close(sendableCloseCode(code), sendableCloseReason(reason))
  }

  terminateUnsafe(): void {
    this.ws.terminate()
  }

  onClosed(closed: SocketClosed): void {
    this.stopProbing()
    this.among?.delete(this)
    this.end(closed)
    this.wake()
  }

  /**
   * Pauses and resumes the socket. One that is not read from does not notice that its peer is gone, so it is written to: a pong that nobody asked for
   * (RFC 6455, 5.5.3), which a peer ignores and a dead connection answers with an error.
   */
  protected reading(on: boolean): void {
    const { ws } = this
    this.stopProbing()
    if (ws.readyState !== WebSocket.OPEN) return
    if (on) return ws.resume()
    ws.pause()
    this.probing = setInterval(() => {
      // With bytes still to leave, the kernel tells without being asked.
      if (ws.readyState === WebSocket.OPEN && ws.bufferedAmount === 0) ws.pong()
    }, limits.pausedProbeMs)
    this.probing.unref()
  }

  protected soon(f: () => void): void {
    queueMicrotask(f)
  }

  private stopProbing(): void {
    clearInterval(this.probing)
    this.probing = undefined
  }

  private wake(): void {
    const woken = this.waiting
    this.waiting = undefined
    for (const f of woken ?? []) f()
  }
}

/** How a peer is watched whose dialect knows no ping. */
export interface SilenceOptions {
  readonly pingMs: number
  /** After this long without a word the peer is gone. */
  readonly silentMs: number
  /** How long it may be busy taking what was written to it, with pings behind that. */
  readonly stallMs: number
}

/**
 * Cuts the connection of a peer that has gone without a word: pings it by frames of WebSocket's own, which its library answers and its app never sees.
 * While it is not read from, or takes something large, its silence says nothing.
 */
export const watchSilence = (ws: WebSocket, { pingMs, silentMs, stallMs }: SilenceOptions): void => {
  let heardMs = performance.now()
  let freeMs = heardMs
  const onHeard = () => {
    heardMs = performance.now()
  }
  for (const event of ["message", "ping", "pong"]) ws.on(event, onHeard)
  const beat = () => {
    const now = performance.now()
    if (ws.bufferedAmount === 0) freeMs = now
    const isBusy = ws.bufferedAmount > 0 && now - freeMs <= stallMs
    if (ws.isPaused || isBusy) heardMs = now
    if (now - heardMs > silentMs) return ws.terminate()
    if (ws.readyState === WebSocket.OPEN) ws.ping()
  }
  const beats = setInterval(beat, pingMs)
  beats.unref()
  ws.once("close", () => clearInterval(beats))
}

/** What is known of a socket besides. */
interface WsSocketOptions {
  /** What the peer put into its 101. */
  readonly headers?: Headers
  /** The socket is in this set while it is open. */
  readonly among?: Set<MessageSocket>
}

/** Takes over an open `ws` socket. Nothing it received since its handshake is lost if it was paused right there. */
export const fromWebSocket = (ws: WebSocket, options: WsSocketOptions = {}): MessageSocket => new WsSocket(ws, options)

/** Reads the body of a refusal, as far as it is kept. What ends it early is no matter: what came is passed on. */
const readRefusal = (response: IncomingMessage, done: (refusal: Refusal) => void) => {
  const chunks: Array<Buffer> = []
  let bytes = 0
  const finish = () => {
    const body = Buffer.concat(chunks).subarray(0, limits.chunkBytesMax)
    done({ status: response.statusCode ?? 0, headers: pairs(response.rawHeaders), body })
  }
  response.on("data", (chunk: Buffer) => {
    chunks.push(chunk)
    bytes += chunk.length
    if (bytes >= limits.chunkBytesMax) response.destroy()
  })
  response.on("error", () => {
    // `close` follows.
  })
  response.once("close", finish)
}

/** Not by `ws`: the timer that it sets stays with the socket for as long as that lives. */
const dial = (url: string, options: DialOptions): Effect.Effect<MessageSocket, DialError> => {
  const message = "the handshake took too long"
  return Effect.timeoutOrElse(handshake(url, options), {
    duration: options.timeoutMs ?? limits.helloTimeoutMs,
    orElse: () => Effect.fail(new DialError({ url, reason: "Timeout", status: undefined, message }))
  })
}

const handshake = (url: string, options: DialOptions): Effect.Effect<MessageSocket, DialError> =>
  Effect.callback((resume) => {
    const headers: Record<string, Array<string>> = {}
    for (const [name, value] of options.headers) (headers[name] ??= []).push(value)
    let ws: WebSocket
    try {
      ws = new WebSocket(url, [...options.protocols], {
        ...wsOptions,
        // Node's types allow only one value per name here; Node itself writes each.
        headers: headers as Record<string, never>,
        rejectUnauthorized: options.verifyCertificate ?? true
      })
    } catch (error) {
      // An invalid URL or header value is thrown, not emitted.
      resume(Effect.fail(new DialError({ url, reason: "Refused", status: undefined, message: String(error) })))
      return
    }
    const onResponse = (_request: unknown, response: IncomingMessage) => {
      readRefusal(response, (refusal) => {
        const { status } = refusal
        const message = `the server answered HTTP ${status}`
        resume(Effect.fail(new DialError({ url, reason: "Refused", status, message, refusal })))
        ws.terminate()
      })
    }
    const onFailed = (error: Error) => {
      const { code } = error as NodeJS.ErrnoException
      // The system's errors have its code. Those of `ws` have none, and those of the parser one of its own: somebody answered, and not as a WebSocket.
      const answered = code === undefined || code.startsWith("HPE_")
      resume(
        Effect.fail(
          new DialError({
            url,
            reason: answered ? "Refused" : "Unreachable",
            status: undefined,
            message: error.message === "" ? String((error as NodeJS.ErrnoException).code ?? error) : error.message
          })
        )
      )
    }
    ws.once("unexpected-response", onResponse)
    ws.once("error", onFailed)
    let answered: Headers = []
    ws.once("upgrade", (response) => {
      answered = pairs(response.rawHeaders)
    })
    ws.once("open", () => {
      // What the handshake needed is let go of: the socket may live for days.
      ws.removeAllListeners()
      resume(Effect.succeed(fromWebSocket(ws, { headers: answered })))
    })
    return Effect.sync(() => {
      // Interrupted during the handshake: `terminate` reports an error that nobody waits for any more.
      ws.on("error", () => {})
      ws.terminate()
    })
  })

/** Dials over TCP or TLS. */
export const layerDialer: Layer.Layer<Dialer> = Layer.succeed(Dialer, { dial })
