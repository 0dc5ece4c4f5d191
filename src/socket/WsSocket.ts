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
  fromParts,
  Inbox,
  type MessageSocket,
  type Refusal,
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

/**
 * Pauses and resumes a socket. One that is not read from does not notice that its peer is gone, so it is written to: a pong that nobody asked for
 * (RFC 6455, 5.5.3), which a peer ignores and a dead connection answers with an error.
 */
const makeReading = (ws: WebSocket): ((on: boolean) => void) => {
  let probing: ReturnType<typeof setInterval> | undefined
  const probe = () => {
    // With bytes still to leave, the kernel tells without being asked.
    if (ws.readyState === WebSocket.OPEN && ws.bufferedAmount === 0) ws.pong()
  }
  const stop = () => clearInterval(probing)
  ws.once("close", stop)
  return (on) => {
    stop()
    if (ws.readyState !== WebSocket.OPEN) return
    if (on) return ws.resume()
    ws.pause()
    probing = setInterval(probe, limits.pausedProbeMs)
    probing.unref()
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

/** Takes over an open `ws` socket. Nothing it received since its handshake is lost if it was paused right there. */
export const fromWebSocket = (ws: WebSocket, headers?: Headers): MessageSocket => {
  const inbox = new Inbox(limits.socketHighWaterBytes, makeReading(ws))
  let waiting: Array<() => void> = []
  const wake = () => {
    const woken = waiting
    waiting = []
    for (const f of woken) f()
  }
  const onSent = () => {
    if (waiting.length > 0 && ws.bufferedAmount < limits.socketHighWaterBytes) wake()
  }
  ws.binaryType = "nodebuffer"
  ws.on("message", (data, binary) => inbox.offer({ data: data as Buffer, binary }))
  ws.on("error", () => {
    // `close` follows every error, with the code that says what went wrong.
  })
  ws.on("close", (code, reason) => {
    inbox.close(new SocketClosed({ code, reason: reason.toString() }))
    wake()
  })
  if (ws.isPaused) ws.resume()
  return fromParts(inbox, {
    protocol: ws.protocol,
    ...(headers === undefined ? {} : { headers }),
    sendUnsafe: (data, { binary, finish }) => {
      if (ws.readyState !== WebSocket.OPEN) return false
      ws.send(data, { binary, fin: finish, compress: false }, onSent)
      return ws.bufferedAmount < limits.socketHighWaterBytes
    },
    whenWritableUnsafe: (f) => {
      if (ws.readyState !== WebSocket.OPEN || ws.bufferedAmount < limits.socketHighWaterBytes) f()
      else waiting.push(f)
    },
    closeUnsafe: (code, reason) => {
      if (ws.readyState === WebSocket.CLOSED || ws.readyState === WebSocket.CLOSING) return
      const kill = setTimeout(() => ws.terminate(), closeTimeoutMs)
      ws.once("close", () => clearTimeout(kill))
      // A paused socket would never read the peer's answer.
      if (ws.isPaused) ws.resume()
      // 1005 is never on a wire: it stands for a close frame without a code.
      if (code === 1005) ws.close()
      else ws.close(sendableCloseCode(code), sendableCloseReason(reason))
    },
    terminateUnsafe: () => ws.terminate()
  })
}

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

const dial = (url: string, options: DialOptions): Effect.Effect<MessageSocket, DialError> =>
  Effect.callback((resume) => {
    const headers: Record<string, Array<string>> = {}
    for (const [name, value] of options.headers) (headers[name] ??= []).push(value)
    let ws: WebSocket
    try {
      ws = new WebSocket(url, [...options.protocols], {
        ...wsOptions,
        // Node's types allow only one value per name here; Node itself writes each.
        headers: headers as Record<string, never>,
        handshakeTimeout: options.timeoutMs ?? limits.helloTimeoutMs,
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
    const onError = (error: Error) => {
      const { code } = error as NodeJS.ErrnoException
      // The system's errors have its code. Those of `ws` have none, and those of the parser one of its own: somebody answered, and not as a WebSocket.
      const answered = code === undefined || code.startsWith("HPE_")
      const timedOut = error.message.includes("timed out")
      resume(
        Effect.fail(
          new DialError({
            url,
            reason: timedOut ? "Timeout" : answered ? "Refused" : "Unreachable",
            status: undefined,
            message: error.message === "" ? String((error as NodeJS.ErrnoException).code ?? error) : error.message
          })
        )
      )
    }
    ws.once("unexpected-response", onResponse)
    ws.once("error", onError)
    let answered: Headers = []
    ws.once("upgrade", (response) => {
      answered = pairs(response.rawHeaders)
    })
    ws.once("open", () => {
      ws.off("error", onError)
      resume(Effect.succeed(fromWebSocket(ws, answered)))
    })
    return Effect.sync(() => {
      // Interrupted during the handshake: `terminate` reports an error that nobody waits for any more.
      ws.on("error", () => {})
      ws.terminate()
    })
  })

/** Dials over TCP or TLS. */
export const layerDialer: Layer.Layer<Dialer> = Layer.succeed(Dialer, { dial })
