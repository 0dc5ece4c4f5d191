/**
 * One visitor's WebSocket joined to one of the local app: fragments down as they come, messages up in fragments, close codes and reasons both
 * ways. The app is asked first; its yes brings its subprotocol and cookies, its no brings its own status and page.
 */
import { Effect, Result } from "effect"
import type {
  DialError,
  Dialer,
  MessageSocket,
  SocketBatch,
  SocketClosed,
  SocketReader
} from "../socket/MessageSocket.ts"
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

const appClosed = (stream: WebSocketStream, { code, reason }: SocketClosed): void => {
  if (code === 1006) stream.abortUnsafe("app_failed", "the app's WebSocket broke off")
  else stream.closeUnsafe(code === 1005 ? null : code, reason)
}

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
 * waits, the app's socket is not read. By callbacks and without a fiber: nearly all WebSockets do nothing nearly always, and such a one keeps no
 * more than this.
 */
class Joint implements SocketReader {
  private readonly stream: WebSocketStream
  private readonly socket: MessageSocket
  private sending: Sending | undefined
  /** The app's socket takes no more for now. */
  private blocked = false
  private stopLingering: (() => void) | undefined
  private over = false

  constructor(stream: WebSocketStream, socket: MessageSocket) {
    this.stream = stream
    this.socket = socket
    socket.readUnsafe(this)
    this.down()
    this.up()
  }

  onReadable(): void {
    this.up()
  }

  onClosed(): void {
    this.up()
  }

  private down(): void {
    const { socket, stream } = this
    if (this.over || socket.closedUnsafe() !== undefined) return
    const { end } = stream
    // A stream that broke has nothing more to say; one that the visitor closed has what came before.
    if (end?._tag !== "Aborted") this.pass()
    if (end === undefined) return stream.whenReadableUnsafe(() => this.down())
    if (end._tag === "Closed" && this.blocked) this.stopLingering ??= stream.giveTimeUnsafe(() => this.finish())
    else this.finish()
  }

  private pass(): void {
    while (!this.blocked) {
      const fragment = this.stream.takeFragmentUnsafe()
      if (fragment === undefined) return
      if (this.socket.sendUnsafe(fragment.data, fragment)) continue
      this.blocked = true
      this.socket.whenWritableUnsafe(() => {
        this.blocked = false
        this.down()
      })
    }
  }

  private up(): void {
    const { socket, stream } = this
    while (!this.over && this.sending === undefined) {
      const batch = socket.takeUnsafe()
      if (batch !== undefined) {
        this.send({ batch, message: 0, offset: 0 })
        continue
      }
      const closed = socket.closedUnsafe()
      if (closed === undefined) return
      appClosed(stream, closed)
      this.finish()
    }
  }

  private send(sending: Sending): void {
    this.sending = undefined
    if (this.over || sendOn(this.stream, sending)) return
    this.sending = sending
    this.stream.whenWritableUnsafe(() => {
      this.send(sending)
      this.up()
    })
  }

  private finish(): void {
    if (this.over) return
    this.over = true
    this.stopLingering?.()
    closeLocal(this.stream, this.socket)
  }
}

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
): Effect.Effect<void, AppFailure> => {
  const dialled = Effect.interruptible(Effect.result(dial(stream, target, dialer)))
  // Once there is a socket it is joined, and closes with the stream: an interruption comes before that or too late.
  return Effect.uninterruptible(
    Effect.flatMap(dialled, (answer) => {
      if (Result.isFailure(answer)) return Effect.interruptible(refused(stream, target, answer.failure))
      stream.acceptUnsafe(acceptHeaders(answer.success))
      stream.forgetHeadUnsafe()
      stream.handOverUnsafe()
      new Joint(stream, answer.success)
      return Effect.void
    })
  )
}
