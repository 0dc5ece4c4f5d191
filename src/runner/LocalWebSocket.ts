/**
 * One visitor's WebSocket joined to one of the local app: fragments down as they come, messages up in fragments, close codes and reasons both
 * ways. The app is asked first; its yes brings its subprotocol and cookies, its no brings its own status and page.
 */
import { Effect, Result } from "effect"
import type { DialError, Dialer, MessageSocket, SocketBatch, SocketClosed } from "../socket/MessageSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { authority, localHeaders, type Target, withoutHopByHop } from "./LocalTarget.ts"
import { AppFailure } from "./RunnerApp.ts"
import type { WebSocketStream } from "./WebSocketStream.ts"

// The handshake of each hop has its own key and version; extensions are not forwarded, since frames are taken apart here.
const handshake = /^sec-websocket-(?:key|version|extensions|protocol|accept)$/i

const withoutHandshake = (headers: HeaderList): HeaderList => headers.filter(([name]) => !handshake.test(name))

const acceptHeaders = (socket: MessageSocket): HeaderList => {
  const headers = withoutHandshake(withoutHopByHop(socket.takeHeadersUnsafe?.() ?? []))
  return socket.protocol === "" ? headers : [...headers, ["Sec-WebSocket-Protocol", socket.protocol]]
}

// A body whose framing was taken off goes by its length alone.
const refusalHeaders = (headers: HeaderList): HeaderList =>
  withoutHopByHop(headers).filter(([name]) => name.toLowerCase() !== "content-length")

/** The app did not accept: its own answer, where it gave one. */
const refused = (stream: WebSocketStream, target: Target, error: DialError): Effect.Effect<void, AppFailure> => {
  const { refusal } = error
  if (refusal !== undefined && refusal.status >= 200) {
    const headers: HeaderList = [...refusalHeaders(refusal.headers), ["Content-Length", String(refusal.body.length)]]
    return stream.refusal.respond(refusal.status, headers, refusal.body)
  }
  if (error.reason === "Refused") {
    const message = `the app's answer to the WebSocket handshake breaks the rules: ${error.message}`
    return Effect.fail(new AppFailure({ code: "protocol_error", message }))
  }
  const where = `${target.protocol}//${authority(target)}`
  const message = `no WebSocket could be opened at ${where}: ${error.message}; is the app running?`
  return Effect.fail(new AppFailure({ code: "app_unreachable", message }))
}

const appClosed = (stream: WebSocketStream, closed: SocketClosed): Effect.Effect<void, AppFailure> =>
  closed.code === 1006
    ? Effect.fail(new AppFailure({ code: "app_failed", message: "the app's WebSocket broke off" }))
    : stream.close(closed.code === 1005 ? null : closed.code, closed.reason)

/** Tells the app how the visitor's side ended. */
const closeLocal = (stream: WebSocketStream, socket: MessageSocket): void => {
  const { end } = stream
  if (end?._tag === "Closed" && end.code !== 1006) socket.closeUnsafe(end.code ?? 1005, end.reason)
  else if (end?._tag === "Answered") socket.closeUnsafe(1000, "")
  // A stream that broke must not look like one that was closed on purpose.
  else socket.terminateUnsafe()
}

/** The batch of the app that is being sent: where in it, and where in that message. */
interface Sending {
  readonly batch: SocketBatch
  message: number
  offset: number
}

/** Sends what credit allows. `false`: the rest waits for more. */
const sendOn = (stream: WebSocketStream, sending: Sending): boolean => {
  for (let message = sending.batch[sending.message]; message !== undefined; message = sending.batch[sending.message]) {
    const rest = sending.offset === 0 ? message.data : message.data.subarray(sending.offset)
    const sent = stream.sendUnsafe(rest, { binary: message.binary, finish: true })
    sending.offset += sent
    if (sent < rest.length) return false
    sending.message++
    sending.offset = 0
  }
  return true
}

/**
 * Both ways, until one side closes. Down: what the visitor sends, while the app's socket takes it. Up: what the app sends, as credit allows; while it
 * waits, the app's socket is not read. By callbacks, so that a socket that does nothing keeps nothing but these two.
 */
const join = (stream: WebSocketStream, socket: MessageSocket): Effect.Effect<void, AppFailure> =>
  Effect.callback((resume) => {
    let sending: Sending | undefined
    let over = false
    const down = () => {
      if (over || socket.closedUnsafe() !== undefined) return
      for (let fragment = stream.takeFragmentUnsafe(); fragment !== undefined; fragment = stream.takeFragmentUnsafe()) {
        if (!socket.sendUnsafe(fragment.data, fragment)) return socket.whenWritableUnsafe(down)
      }
      if (stream.end === undefined) return stream.whenReadableUnsafe(down)
      over = true
      resume(Effect.void)
    }
    const up = () => {
      while (!over) {
        if (sending !== undefined && !sendOn(stream, sending)) return void stream.whenWritableUnsafe(up)
        const batch = socket.takeUnsafe()
        sending = batch && { batch, message: 0, offset: 0 }
        if (batch !== undefined) continue
        const closed = socket.closedUnsafe()
        if (closed === undefined) return socket.whenReadableUnsafe(up)
        over = true
        resume(appClosed(stream, closed))
      }
    }
    down()
    up()
    return Effect.sync(() => {
      over = true
    })
  })

const dial = (stream: WebSocketStream, target: Target, dialer: Dialer["Service"]) =>
  Effect.suspend(() => {
    const scheme = target.protocol === "https:" ? "wss:" : "ws:"
    return dialer.dial(`${scheme}//${authority(target)}${stream.target}`, {
      protocols: stream.protocols,
      headers: withoutHandshake(localHeaders(stream.headers, target)),
      timeoutMs: limits.webSocketOpenMs,
      verifyCertificate: target.verifyCertificate ?? true
    })
  })

/** Joins the visitor's WebSocket to one at `target`. */
export const forwardWebSocket = (
  stream: WebSocketStream,
  target: Target,
  dialer: Dialer["Service"]
): Effect.Effect<void, AppFailure> =>
  Effect.acquireUseRelease(
    Effect.interruptible(Effect.result(dial(stream, target, dialer))),
    (dialled) => {
      if (Result.isFailure(dialled)) return refused(stream, target, dialled.failure)
      const socket = dialled.success
      stream.acceptUnsafe(acceptHeaders(socket))
      stream.forgetHeadUnsafe()
      return join(stream, socket)
    },
    (dialled) => Effect.sync(() => Result.isSuccess(dialled) && closeLocal(stream, dialled.success))
  )
