/**
 * A visitor's upgrade over `node:http` and `ws`, as the gateway's `VisitorUpgrade`: the handshake waits for the app's answer, and the subprotocol
 * and further headers of the 101 are the app's.
 */
import { type IncomingMessage, STATUS_CODES } from "node:http"
import type { Duplex } from "node:stream"
import { type WebSocket, WebSocketServer } from "ws"
import type { VisitorUpgrade } from "../gateway/Visitor.ts"
import { type MessageSocket, pair } from "../socket/MessageSocket.ts"
import { fromWebSocket, wsOptions } from "../socket/WsSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import { headOf } from "./NodeExchange.ts"

/** On every connection from its first moment: an error that nobody listens for would end the process. `close` follows, and is listened for. */
export const ignoreError = (): void => {}

/** Answers an upgrade with plain HTTP and closes. */
export const refuseUpgrade = (socket: Duplex, status: number, headers: HeaderList, body: Uint8Array): void => {
  if (socket.destroyed || !socket.writable) return
  const kept = headers.filter(([name]) => !/^(?:content-length|connection)$/i.test(name))
  const lines = [...kept, ["content-length", String(body.length)], ["connection", "close"]]
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("")
  socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? "Unknown"}\r\n${head}\r\n`, "latin1")
  socket.end(body, () => socket.destroy())
}

const keyForm = /^[+/0-9A-Za-z]{22}==$/
const protocolsForm = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:[ \t]*,[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+)*$/

/** What is wrong with a WebSocket handshake, in a few words; undefined where nothing is. Checked before any app is asked. */
export const handshakeFault = (request: IncomingMessage): string | undefined => {
  const { headers, httpVersion, method } = request
  if (method !== "GET" || httpVersion !== "1.1") return "a WebSocket handshake is a GET of HTTP/1.1"
  if (headers.host === undefined) return "Host is missing"
  if (headers.upgrade?.toLowerCase() !== "websocket") return "this server upgrades to websocket only"
  if (!keyForm.test(headers["sec-websocket-key"] ?? "")) return "Sec-WebSocket-Key is missing or not valid"
  if (headers["sec-websocket-version"] !== "13") return "Sec-WebSocket-Version has to be 13"
  const protocols = headers["sec-websocket-protocol"]
  if (protocols !== undefined && !protocolsForm.test(protocols.trim())) return "Sec-WebSocket-Protocol is not valid"
  return undefined
}

/** What the app wants in the 101 of a request. */
interface Acceptance {
  readonly headers: HeaderList
  readonly protocol: string
}

/** Watches a socket before its handshake without taking anything from it: Node reads on, up to its own mark. Answers how to stop. */
const watchIdle = (socket: Duplex, gone: () => void): (() => void) => {
  socket.once("close", gone)
  socket.once("end", gone)
  return () => {
    socket.off("close", gone)
    socket.off("end", gone)
  }
}

/** A socket that closed before anybody had it. */
const deadSocket = (): MessageSocket => {
  const [dead] = pair({ protocol: "" })
  dead.terminateUnsafe()
  return dead
}

/** Makes WebSockets of upgrades. */
export interface UpgradeAcceptor {
  readonly of: (request: IncomingMessage, socket: Duplex, head: Buffer) => VisitorUpgrade
  /** Cuts every socket, in the handshake and after it. */
  readonly terminate: () => void
}

/** One acceptor serves all visitors of a server. */
export const makeUpgradeAcceptor = (): UpgradeAcceptor => {
  const acceptances = new WeakMap<IncomingMessage, Acceptance>()
  const pending = new Set<Duplex>()
  const open = new Set<MessageSocket>()
  const server = new WebSocketServer({
    ...wsOptions,
    noServer: true,
    // `open` has them.
    clientTracking: false,
    // The app chooses, not this server; false leaves the header out.
    handleProtocols: (_, request) => acceptances.get(request)?.protocol || false
  })
  server.on("headers", (lines, request) => {
    for (const [name, value] of acceptances.get(request)?.headers ?? []) lines.push(`${name}: ${value}`)
  })
  // A handshake fault that slipped through is answered by `ws` itself; the listener keeps it from destroying the socket unanswered.
  server.on("wsClientError", (_error, socket) => socket.destroy())

  const complete = (request: IncomingMessage, socket: Duplex, head: Buffer): MessageSocket => {
    let accepted: WebSocket | undefined
    // Synchronous: `ws` calls back before it returns, or not at all where the visitor has left.
    server.handleUpgrade(request, socket, head, (ws) => {
      accepted = ws
    })
    if (accepted === undefined) return deadSocket()
    // `ws` listens from now on.
    socket.off("error", ignoreError)
    return fromWebSocket(accepted, { among: open })
  }

  return {
    of: (request, socket, head) => {
      let gone = false
      let onGone: (() => void) | undefined
      pending.add(socket)
      const unwatch = watchIdle(socket, () => {
        if (gone) return
        gone = true
        pending.delete(socket)
        socket.destroy()
        onGone?.()
      })
      const settle = () => {
        pending.delete(socket)
        unwatch()
      }
      return {
        head: headOf(request),
        accept: (headers, protocol) => {
          settle()
          acceptances.set(request, { headers, protocol })
          return complete(request, socket, head)
        },
        refuse: (status, headers, body) => {
          settle()
          refuseUpgrade(socket, status, headers, body)
        },
        whenGoneUnsafe: (f) => {
          if (gone) f()
          else onGone = f
        }
      }
    },
    terminate: () => {
      for (const socket of pending) socket.destroy()
      for (const socket of open) socket.terminateUnsafe()
    }
  }
}
