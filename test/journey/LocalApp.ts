/** An app on a local port, as a developer would have one: plain `node:http` and `ws`, nothing of ours. */
import { createHash } from "node:crypto"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { Effect } from "effect"
import { type WebSocket, WebSocketServer } from "ws"
import { listen } from "../socket/Loopback.ts"

/** The byte at an offset of `/big`: cheap to make, and any shift or gap changes the hash. */
const patternBytes = 64 * 1024
export const pattern = Buffer.alloc(patternBytes, 0).map((_, i) => (i * 31 + (i >> 8) * 7) & 0xff)

/** The hash of `/big?bytes=…`. */
export const patternHash = (bytes: number): string => {
  const hash = createHash("sha256")
  for (let left = bytes; left > 0; left -= patternBytes) {
    hash.update(left >= patternBytes ? pattern : pattern.subarray(0, left))
  }
  return hash.digest("hex")
}

export interface LocalApp {
  readonly port: number
  /** Sends an event, with the time it left, to everyone on `/sse`. */
  readonly emit: () => void
  /** Requests and WebSockets that are open, by their method and path. */
  readonly open: () => ReadonlyArray<string>
  /** How `/upload` requests ended, in order: their hash, or `aborted`. */
  readonly uploads: ReadonlyArray<string>
  /** Close codes and reasons that the app's WebSockets saw. */
  readonly closes: ReadonlyArray<readonly [number, string]>
}

/** Streams the pattern with backpressure. */
const big = (request: IncomingMessage, response: ServerResponse, bytes: number) => {
  response.writeHead(200, { "content-length": bytes, "content-type": "application/octet-stream" })
  let left = bytes
  const more = () => {
    while (left > 0) {
      const piece = left >= patternBytes ? pattern : pattern.subarray(0, left)
      left -= piece.length
      if (!response.write(piece)) return void response.once("drain", more)
    }
    response.end()
  }
  request.resume()
  more()
}

/** Starts the app for the life of the scope. */
export const startLocalApp = Effect.gen(function* () {
  const listeners = new Set<ServerResponse>()
  const uploads: Array<string> = []
  const closes: Array<readonly [number, string]> = []
  const open = new Map<object, string>()
  const server = createServer((request, response) => {
    open.set(response, `${request.method} ${request.url}`)
    response.once("close", () => open.delete(response))
    const url = new URL(request.url ?? "/", "http://app")
    switch (url.pathname) {
      case "/big":
        return big(request, response, Number(url.searchParams.get("bytes")))
      case "/echo":
        response.writeHead(200, { "content-type": "application/octet-stream" })
        return void request.pipe(response)
      case "/upload": {
        const hash = createHash("sha256")
        request.on("data", (chunk) => hash.update(chunk))
        request.on("end", () => {
          uploads.push(hash.digest("hex"))
          response.end(uploads.at(-1))
        })
        return void request.on("close", () => {
          if (!request.complete) uploads.push("aborted")
        })
      }
      case "/sse":
        // An app that leaves a body unread does not see its client go either, with or without a tunnel.
        request.resume()
        response.writeHead(200, { "content-type": "text/event-stream" })
        response.flushHeaders()
        listeners.add(response)
        return void response.once("close", () => listeners.delete(response))
      case "/hang":
        return void request.resume()
      case "/reset":
        response.writeHead(200, { "content-length": 1000 })
        response.write("half")
        return void setImmediate(() => request.socket.destroy())
      default:
        request.resume()
        response.setHeader("x-app", "local")
        response.end(`${request.method} ${request.url} ${request.headers.host}`)
    }
  })
  const sockets = new WebSocketServer({
    server,
    perMessageDeflate: false,
    handleProtocols: (set) => [...set][0] ?? false
  })
  sockets.on("connection", (ws: WebSocket, request: IncomingMessage) => {
    open.set(ws, `WebSocket ${request.url}`)
    const url = new URL(request.url ?? "/", "http://app")
    ws.on("close", (code, reason) => {
      open.delete(ws)
      closes.push([code, reason.toString()])
    })
    ws.on("error", () => {})
    if (url.pathname === "/close") {
      const code = url.searchParams.get("code")
      return code === null ? ws.close() : ws.close(Number(code), "the app is done")
    }
    if (url.pathname === "/drop") return ws.terminate()
    if (url.pathname === "/count") {
      let n = 0
      const timer = setInterval(() => ws.send(String(n++)), 20)
      ws.on("close", () => clearInterval(timer))
      return
    }
    ws.on("message", (data, binary) => ws.send(data, { binary }))
  })
  const port = yield* listen(server, () => {
    for (const ws of sockets.clients) ws.terminate()
  })
  const app: LocalApp = {
    port,
    emit: () => {
      for (const response of listeners) response.write(`data: ${performance.now()}\n\n`)
    },
    open: () => [...open.values()],
    uploads,
    closes
  }
  return app
})
