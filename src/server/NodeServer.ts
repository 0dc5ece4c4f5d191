/**
 * The Node edge: one port on which visitors and runners arrive. It turns `node:http` and `ws` into the gateway's and the hub's own interfaces,
 * forks one fiber for each request or socket, and survives whatever is sent to it.
 *
 * Next: `NodeExchange.ts` and `NodeUpgrade.ts` wrap what arrives, `gateway/Gateway.ts` and `hub/Hub.ts` serve it.
 */
import * as http from "node:http"
import type { AddressInfo, Socket } from "node:net"
import type { Duplex } from "node:stream"
import { NodeHttpServer } from "@effect/platform-node"
import { Context, Effect, Layer, Option, Redacted, Schema } from "effect"
import { WebSocketServer } from "ws"
import * as ActorsApi from "../admin/ActorsApi.ts"
import { errorAnswer } from "../gateway/ErrorPage.ts"
import { Gateway } from "../gateway/Gateway.ts"
import type { GatewayErrorCode } from "../gateway/GatewayError.ts"
import { runnerName } from "../gateway/RunnerName.ts"
import { Hub } from "../hub/Hub.ts"
import { versionOf } from "../protocol/Rivet.ts"
import { fromWebSocket, type SilenceOptions, watchSilence, wsOptions } from "../socket/WsSocket.ts"
import { makeFork } from "../tunnel/Fibers.ts"
import { limits } from "../tunnel/Limits.ts"
import { hasBody, headOf, nodeExchange } from "./NodeExchange.ts"
import { handshakeFault, ignoreError, makeUpgradeAcceptor, refuseUpgrade } from "./NodeUpgrade.ts"

/** Where runners connect. */
export const runnerPath = "/runners/connect"
/** The subprotocol a runner has to offer. */
export const runnerProtocol = "wayleave.1"

/** The subprotocol of runners that speak Rivet's protocol, and how they offer their token. */
const rivetProtocol = "rivet"
const rivetTokenPrefix = "rivet_token."

/** The port could not be had. `code` is the system's word for why, such as `EADDRINUSE`. */
export class ListenError extends Schema.TaggedError<ListenError>()("ListenError", {
  host: Schema.String,
  port: Schema.Int,
  code: Schema.String
}) {
  override get message() {
    return `cannot listen on ${this.host}:${this.port}: ${this.code}`
  }
}

/** Where to listen. `domain` has to be the gateway's: it tells an app's host from the server's own. */
export interface NodeServerOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  readonly domain?: string
  /** Answers for the actor API, where this server has one. */
  readonly actorsApi?: ActorsApi.ActorsApiHandler
  /** From a visitor's first byte to the end of its request head; as `tunnel/Limits.ts` says unless given. */
  readonly requestHeadMs?: number
  /** When a Rivet runner whose version knows no ping of a hub's is gone; as `tunnel/RivetLimits.ts` says unless given. */
  readonly rivetSilence?: SilenceOptions
}

/** The listening server. */
export class NodeServer extends Context.Service<
  NodeServer,
  {
    /** The address bound to, as the system reports it. */
    readonly host: string
    readonly port: number
    /** Each answer is the last on its connection from now on: whoever asks next asks another server, or this one anew. */
    readonly leave: Effect.Effect<void>
    /** Takes no connection any more; what is open stays. Whoever dials is refused by the system, and knows that nothing of his was read. */
    readonly shut: Effect.Effect<void>
  }
>()("wayleave/server/NodeServer") {}

const pathOf = (request: http.IncomingMessage): string => (request.url ?? "").split("?")[0] as string

const offers = (request: http.IncomingMessage, protocol: string): boolean =>
  (request.headers["sec-websocket-protocol"] ?? "").split(",").some((offered) => offered.trim() === protocol)

const bearer = (request: http.IncomingMessage): Option.Option<Redacted.Redacted<string>> => {
  const match = /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")
  return match === null ? Option.none() : Option.some(Redacted.make(match[1] as string))
}

const queryOf = (request: http.IncomingMessage): string => (request.url ?? "").split("?").slice(1).join("?")

/** A Rivet runner says its version in the query, and offers `rivet`. */
const speaksRivet = (request: http.IncomingMessage): boolean =>
  offers(request, rivetProtocol) || new URLSearchParams(queryOf(request)).has("protocol_version")

/** Its version lets a hub ping it: those before 4 do not. */
const isPinged = (query: string): boolean =>
  versionOf(Number(new URLSearchParams(query).get("protocol_version")))?.mark !== 1

const silence: SilenceOptions = {
  pingMs: limits.rivetPingMs,
  silentMs: limits.rivetPongMs,
  stallMs: limits.rivetStallMs
}

/** Its token is one of the subprotocols it offers, or stands in a header. */
const rivetToken = (request: http.IncomingMessage): Option.Option<Redacted.Redacted<string>> => {
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((item) => item.trim())
  const item = offered.find((protocol) => protocol.startsWith(rivetTokenPrefix))?.slice(rivetTokenPrefix.length)
  const header = request.headers["x-rivet-token"]
  const token = item ?? (typeof header === "string" ? header : undefined)
  return token === undefined ? Option.none() : Option.some(Redacted.make(token))
}

/** An error that no gateway stream carries: the request was refused before it was one. */
const edgeAnswer = (code: GatewayErrorCode, request: http.IncomingMessage | undefined, domain: string) =>
  errorAnswer(code, { requestId: "", name: "", domain, accept: request?.headers.accept ?? "" })

/** What Node's parser did not accept: told where nothing of an answer is out yet, then cut. */
const onClientError = (domain: string) => (error: NodeJS.ErrnoException, socket: Duplex) => {
  socket.on("error", () => {})
  const { _httpMessage } = socket as Duplex & { readonly _httpMessage?: { readonly headersSent: boolean } }
  if (!socket.writable || _httpMessage?.headersSent === true || error.code === "ECONNRESET") {
    socket.destroy()
    return
  }
  const code = error.code === "HPE_HEADER_OVERFLOW" ? "headers_too_large" : "bad_request"
  const answer = edgeAnswer(code, undefined, domain)
  refuseUpgrade(socket, answer.status, answer.headers, answer.body)
}

/** What is wrong with a request that Node lets pass, as far as it can be seen before anybody is asked. */
const requestFault = ({ headers, httpVersion }: http.IncomingMessage): boolean => {
  if (headers.host === undefined && httpVersion === "1.1") return true
  // What names a coding goes off at this hop, so the app could make nothing of such a body.
  const coding = headers["transfer-encoding"]
  return coding !== undefined && coding.trim().toLowerCase() !== "chunked"
}

/** Answers a request that is refused here, and closes: nobody knows what its visitor still means to send. */
const answerHere = (
  code: GatewayErrorCode,
  request: http.IncomingMessage,
  response: http.ServerResponse,
  domain: string
) => {
  const { body, headers, status } = edgeAnswer(code, request, domain)
  const kept = headers.filter(([name]) => name !== "connection")
  const connection = kept.length < headers.length ? "upgrade, close" : "close"
  response.writeHead(status, [...kept.flat(), "connection", connection])
  response.end(request.method === "HEAD" ? undefined : body)
}

const serverOptions = (requestHeadMs: number): http.ServerOptions => ({
  noDelay: true,
  keepAlive: true,
  maxHeaderSize: limits.headBytesMax,
  headersTimeout: requestHeadMs,
  // Node looks every 30 s unless told otherwise, and a head could take that much longer.
  connectionsCheckingInterval: Math.min(requestHeadMs, 1_000),
  // Answered here, with a code like every other refusal.
  requireHostHeader: false,
  // Uploads may take as long as they like: credit and the visitor's own pace bound them.
  requestTimeout: 0,
  keepAliveTimeout: limits.keepAliveMs,
  // Any other protocol offered (h2c, for one) is not ours to speak, and the request is served as it stands (RFC 9110, 7.8).
  shouldUpgradeCallback: (request) => request.headers.upgrade?.toLowerCase() === "websocket"
})

const listen = (server: http.Server, options: NodeServerOptions) =>
  Effect.callback<AddressInfo, ListenError>((resume) => {
    const onError = (error: NodeJS.ErrnoException) => {
      const { host, port } = options
      resume(Effect.fail(new ListenError({ host, port, code: error.code ?? error.message })))
    }
    server.once("error", onError)
    server.listen(options.port, options.host, () => {
      server.off("error", onError)
      // Running out of file descriptors, say: the next visitor may be luckier.
      server.on("error", () => {})
      resume(Effect.succeed(server.address() as AddressInfo))
    })
  })

const make = Effect.fnUntraced(function* (options: NodeServerOptions) {
  const gateway = yield* Gateway
  const hub = yield* Hub
  const domain = (options.domain ?? "localhost").toLowerCase()
  const scope = yield* Effect.scope
  const { actorsApi } = options
  const api = actorsApi === undefined ? undefined : yield* NodeHttpServer.makeHandler(actorsApi, { scope })
  const visitors = makeUpgradeAcceptor()
  const runners = new WebSocketServer({
    ...wsOptions,
    noServer: true,
    maxPayload: limits.linkMessageBytesMax,
    handleProtocols: () => runnerProtocol
  })
  const rivetRunners = new WebSocketServer({
    ...wsOptions,
    noServer: true,
    maxPayload: limits.rivetMessageBytesMax,
    // Exactly this, offered or not: the published client takes no other answer, and the first one offered may be its token.
    handleProtocols: () => rivetProtocol
  })
  const server = http.createServer(serverOptions(options.requestHeadMs ?? limits.requestHeadMs))
  // Node would silently drop headers beyond its count; their size is bounded instead.
  server.maxHeadersCount = 0

  // Released in reverse: stop accepting, end the fibers, give sockets a moment, cut what is left.
  const closing = makeClosing(server, () => {
    visitors.terminate()
    for (const ws of runners.clients) ws.terminate()
    for (const ws of rivetRunners.clients) ws.terminate()
  })
  yield* Effect.addFinalizer(() => closing.wait)
  const fork = yield* makeFork
  yield* Effect.addFinalizer(() => closing.begin)

  const namesRunner = (request: http.IncomingMessage) => runnerName(headOf(request), domain)._tag === "Found"

  let leaving = false
  const onRequest = (request: http.IncomingMessage, response: http.ServerResponse, sendContinue?: () => void) => {
    if (leaving) response.shouldKeepAlive = false
    if (requestFault(request)) return answerHere("bad_request", request, response, domain)
    if (pathOf(request) === runnerPath && !namesRunner(request)) {
      return answerHere("upgrade_required", request, response, domain)
    }
    if (api !== undefined && ActorsApi.takes(pathOf(request)) && !namesRunner(request)) {
      sendContinue?.()
      return api(request, response)
    }
    const exchange = nodeExchange(request, response, sendContinue)
    // A body that came with its head is parsed right after this callback: at the end of the turn it is at hand.
    if (hasBody(request)) setImmediate(() => fork(gateway.request(exchange)))
    else fork(gateway.request(exchange))
  }
  server.on("request", (request, response) => onRequest(request, response))
  server.on("checkContinue", (request, response) =>
    onRequest(request, response, () => {
      if (!response.headersSent && !response.destroyed) response.writeContinue()
    })
  )

  // An expectation may be ignored (RFC 9110, 10.1.1); Node would refuse all but 100-continue.
  server.on("checkExpectation", (request, response) => onRequest(request, response))
  server.on("connect", (request, socket) => {
    socket.on("error", () => {})
    const answer = edgeAnswer("bad_request", request, domain)
    refuseUpgrade(socket, answer.status, answer.headers, answer.body)
  })

  const acceptRunner = (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
    const peer = { token: bearer(request), remoteAddress: request.socket.remoteAddress ?? "" }
    runners.handleUpgrade(request, socket, head, (ws) => fork(hub.accept(fromWebSocket(ws), peer)))
  }
  const acceptRivetRunner = (request: http.IncomingMessage, socket: Duplex, head: Buffer) => {
    const token = Option.orElse(rivetToken(request), () => bearer(request))
    const peer = { token, remoteAddress: request.socket.remoteAddress ?? "", rivetQuery: queryOf(request) }
    rivetRunners.handleUpgrade(request, socket, head, (ws) => {
      if (!isPinged(peer.rivetQuery)) watchSilence(ws, options.rivetSilence ?? silence)
      fork(hub.accept(fromWebSocket(ws), peer))
    })
  }
  server.on("upgrade", (request, socket, head) => {
    const fault = handshakeFault(request)
    if (fault !== undefined) return refuseUpgrade(socket, 400, plainText, Buffer.from(`${fault}\n`))
    if (pathOf(request) === runnerPath) {
      if (offers(request, runnerProtocol)) return acceptRunner(request, socket, head)
      if (speaksRivet(request)) return acceptRivetRunner(request, socket, head)
      if (!namesRunner(request)) return refuseUpgrade(socket, 400, plainText, Buffer.from(wrongProtocol))
    }
    fork(gateway.upgrade(visitors.of(request, socket, head)))
  })
  server.on("clientError", onClientError(domain))
  server.on("connection", (socket: Socket) => socket.on("error", ignoreError))

  const address = yield* listen(server, options)
  return NodeServer.of({
    host: address.address,
    port: address.port,
    leave: Effect.sync(() => {
      leaving = true
    }),
    shut: closing.begin
  })
})

const plainText = [["content-type", "text/plain; charset=utf-8"]] as const
const wrongProtocol = `a runner has to offer the WebSocket subprotocol ${runnerProtocol}\n`

/** How a server ends: `begin` stops accepting, `wait` lets connections end by themselves for `serverCloseMs` and then cuts them. */
const makeClosing = (server: http.Server, terminate: () => void) => {
  let begun = false
  let closed = false
  let onClosed: (() => void) | undefined
  return {
    begin: Effect.sync(() => {
      if (begun) return
      begun = true
      server.close(() => {
        closed = true
        onClosed?.()
      })
    }),
    wait: Effect.callback<void>((resume) => {
      if (closed) return resume(Effect.void)
      server.closeIdleConnections()
      const cut = setTimeout(() => {
        terminate()
        server.closeAllConnections()
      }, limits.serverCloseMs)
      onClosed = () => {
        clearTimeout(cut)
        resume(Effect.void)
      }
    })
  }
}

/** Listens for as long as its scope is open. Draining before that is the caller's business. */
export const layer = (options: NodeServerOptions): Layer.Layer<NodeServer, ListenError, Gateway | Hub> =>
  Layer.effect(NodeServer, make(options))
