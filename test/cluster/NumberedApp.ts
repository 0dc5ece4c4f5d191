/**
 * The app behind the runners of a cluster under test: plain `node:http` and `ws`. Everything it says is numbered and belongs to an id that the visitor
 * chose, and everything it hears is held to the same.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { Effect } from "effect"
import { type WebSocket, WebSocketServer } from "ws"
import { isSafe } from "../../src/tunnel/Method.ts"
import { listen } from "../socket/Loopback.ts"
import { LineReader, line, payload } from "./Payload.ts"

/** A running app. */
export interface NumberedApp {
  readonly port: number
  /** Requests and WebSockets that are open. */
  readonly open: () => number
  /** What was wrong with what the app was sent. */
  readonly faults: ReadonlyArray<string>
  /** How often each request arrived whose method may change something: more than once is one that ran twice. */
  readonly seen: ReadonlyMap<string, number>
}

/** What a visitor's upload and its answer are made of. */
export const upOf = (id: string): string => `up ${id}`
export const downOf = (id: string): string => `down ${id}`

const echo = (id: string, bytes: number, request: IncomingMessage, response: ServerResponse, fault: Fault) => {
  const parts: Array<Buffer> = []
  request.on("data", (part) => parts.push(part))
  request.on("end", () => {
    const body = Buffer.concat(parts)
    if (!body.equals(payload(upOf(id), body.length))) fault(`${id}: the app was sent ${body.length} bytes of another`)
    response.writeHead(200, { "content-type": "application/octet-stream" })
    // In pieces and without a length: a loss shows by hash alone, unless the transfer breaks.
    const answer = payload(downOf(id), bytes)
    for (let at = 0; at < answer.length; at += 16_384) response.write(answer.subarray(at, at + 16_384))
    response.end()
  })
}

const events = (id: string, count: number, everyMs: number, response: ServerResponse) => {
  response.writeHead(200, { "content-type": "text/event-stream" })
  let n = 0
  const timer = setInterval(() => {
    if (n < count) return void response.write(`data: ${line(id, n++)}\n\n`)
    clearInterval(timer)
    response.end(`data: end ${n}\n\n`)
  }, everyMs)
  response.once("close", () => clearInterval(timer))
}

const converse = (id: string, ws: WebSocket, fault: Fault) => {
  const reader = new LineReader(id)
  ws.on("message", (data) => {
    const text = String(data)
    if (text === "end") return ws.close(1000, `end ${reader.next}`)
    const wrong = reader.take(text)
    if (wrong !== undefined) fault(`${id}: the app of a WebSocket ${wrong}`)
    ws.send(text)
  })
}

type Fault = (text: string) => void

/** Starts the app for the life of the scope. */
export const startNumberedApp = Effect.gen(function* () {
  const faults: Array<string> = []
  const fault: Fault = (text) => void faults.push(text)
  const seen = new Map<string, number>()
  const open = new Set<object>()
  const server = createServer((request, response) => {
    open.add(response)
    response.once("close", () => open.delete(response))
    response.on("error", () => {})
    request.on("error", () => {})
    const url = new URL(request.url ?? "/", "http://app")
    const [, kind, id = ""] = url.pathname.split("/")
    const number = (name: string) => Number(url.searchParams.get(name))
    if (!isSafe(request.method ?? "")) seen.set(id, (seen.get(id) ?? 0) + 1)
    if (kind === "echo") return echo(id, number("bytes"), request, response, fault)
    request.resume()
    if (kind === "events") return events(id, number("count"), number("every"), response)
    response.end("hello from the app\n")
  })
  const sockets = new WebSocketServer({ server, perMessageDeflate: false })
  sockets.on("connection", (ws, request) => {
    open.add(ws)
    ws.on("close", () => open.delete(ws))
    ws.on("error", () => {})
    converse((request.url ?? "").split("/")[2] ?? "", ws, fault)
  })
  const port = yield* listen(server, () => {
    for (const ws of sockets.clients) ws.terminate()
  })
  const app: NumberedApp = { port, open: () => open.size, faults, seen }
  return app
})
