/**
 * One visitor's WebSocket joined to one of the local app: fragments down as they come, messages up in fragments, close codes and reasons both
 * ways. The app is asked first; its yes brings its subprotocol and cookies, its no brings its own status and page.
 */
import { Effect } from "effect"
import type { DialError, Dialer, MessageSocket, SocketClosed, SocketMessage } from "../socket/MessageSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { authority, localHeaders, type Target, withoutHopByHop } from "./LocalTarget.ts"
import { AppFailure } from "./RunnerApp.ts"
import type { WebSocketStream } from "./WebSocketStream.ts"

// The handshake of each hop has its own key and version; extensions are not forwarded, since frames are taken apart here.
const handshake = /^sec-websocket-(?:key|version|extensions|protocol|accept)$/i

const withoutHandshake = (headers: HeaderList): HeaderList => headers.filter(([name]) => !handshake.test(name))

const acceptHeaders = (socket: MessageSocket): HeaderList => {
  const headers = withoutHandshake(withoutHopByHop(socket.headers ?? []))
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

/** Down: what the visitor sends, while the app's socket takes it. Returns once the visitor has closed. */
const down = (stream: WebSocketStream, socket: MessageSocket): Effect.Effect<void> =>
  Effect.callback((resume) => {
    const pump = () => {
      if (socket.closedUnsafe() !== undefined) return
      while (true) {
        const fragment = stream.takeFragmentUnsafe()
        if (fragment === undefined) break
        if (!socket.sendUnsafe(fragment.data, fragment)) return socket.whenWritableUnsafe(pump)
      }
      if (stream.end === undefined) stream.whenReadableUnsafe(pump)
      else resume(Effect.void)
    }
    pump()
  })

const sendRest = (stream: WebSocketStream, message: SocketMessage, offset: number): Effect.Effect<void> => {
  const rest = offset === 0 ? message.data : message.data.subarray(offset)
  const sent = stream.sendUnsafe(rest, { binary: message.binary, finish: true })
  if (sent === rest.length) return Effect.void
  return Effect.flatMap(stream.writable, () => sendRest(stream, message, offset + sent))
}

/** Up: what the app sends, as credit allows; while it waits, the app's socket is not read. Fails when the app has closed. */
const up = (stream: WebSocketStream, socket: MessageSocket): Effect.Effect<never, SocketClosed> =>
  Effect.forever(
    Effect.flatMap(socket.pull, (batch) =>
      Effect.forEach(batch, (message) => sendRest(stream, message, 0), { discard: true })
    ),
    { disableYield: true }
  )

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

const join = (stream: WebSocketStream, socket: MessageSocket): Effect.Effect<void, AppFailure> =>
  Effect.raceFirst(down(stream, socket), up(stream, socket)).pipe(
    Effect.catchTag("SocketClosed", (closed) => appClosed(stream, closed))
  )

/** Joins the visitor's WebSocket to one at `target`. */
export const forwardWebSocket = (
  stream: WebSocketStream,
  target: Target,
  dialer: Dialer["Service"]
): Effect.Effect<void, AppFailure> => {
  const scheme = target.protocol === "https:" ? "wss:" : "ws:"
  return Effect.acquireUseRelease(
    Effect.interruptible(
      dialer.dial(`${scheme}//${authority(target)}${stream.target}`, {
        protocols: stream.protocols,
        headers: withoutHandshake(localHeaders(stream.headers, target)),
        timeoutMs: limits.webSocketOpenMs,
        verifyCertificate: target.verifyCertificate ?? true
      })
    ),
    (socket) => {
      stream.acceptUnsafe(acceptHeaders(socket))
      return join(stream, socket)
    },
    (socket) => Effect.sync(() => closeLocal(stream, socket))
  ).pipe(Effect.catchTag("DialError", (error) => refused(stream, target, error)))
}
