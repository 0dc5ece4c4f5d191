/** The app that benchmarks measure through and around the tunnel: a process of its own, so that its work is nobody else's. Prints its port. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { WebSocketServer } from "ws"
import * as Content from "./Content.ts"

const answer = (response: ServerResponse, body: Uint8Array) =>
  void response.writeHead(200, { "content-length": body.length }).end(body)

const down = (response: ServerResponse, bytes: number) => {
  let left = bytes
  response.writeHead(200, { "content-length": bytes })
  const more = () => {
    while (left > 0) {
      const part = Content.pieceAt(bytes - left, left)
      left -= part.length
      if (!response.write(part)) return void response.once("drain", more)
    }
    response.end()
  }
  more()
}

const up = (request: IncomingMessage, response: ServerResponse) => {
  const check = Content.checker()
  request.on("data", check.add)
  request.on("end", () => answer(response, Buffer.from(check.verdict())))
}

const echo = (request: IncomingMessage, response: ServerResponse) => {
  const chunks: Array<Buffer> = []
  request.on("data", (chunk) => chunks.push(chunk))
  request.on("end", () => answer(response, Buffer.concat(chunks)))
}

const events = (response: ServerResponse) => {
  response.writeHead(200, { "content-type": "text/event-stream" })
  response.flushHeaders()
  const timer = setInterval(() => response.write(Content.event()), Content.eventEveryMs)
  response.once("close", () => clearInterval(timer))
}

let holding = 0

const server = createServer((request, response) => {
  const [path, argument] = Content.parse(request.url ?? "/")
  switch (path) {
    case "/":
      return answer(response, Content.small)
    case "/echo":
      return echo(request, response)
    case "/down":
      return down(response, argument)
    case "/up":
      return up(request, response)
    case "/events":
      return events(response)
    case "/held":
      holding++
      return void response.once("close", () => holding--)
    case "/holding":
      return answer(response, Buffer.from(String(holding)))
    default:
      response.writeHead(404).end()
  }
})
const sockets = new WebSocketServer({ server, perMessageDeflate: false })
sockets.on("connection", (ws) => {
  ws.on("message", (data, binary) => ws.send(data, { binary }))
  ws.on("error", () => {})
})
server.keepAliveTimeout = 60_000
server.listen({ port: 0, host: "127.0.0.1", backlog: 4096 }, () => {
  process.stdout.write(`listening on ${(server.address() as AddressInfo).port}\n`)
})
