/** The app that benchmarks measure through and around the tunnel: a process of its own, so that its work is nobody else's. Prints its port. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import { WebSocketServer } from "ws"

const small = Buffer.alloc(256, "x")
const piece = Buffer.alloc(64 * 1024, "y")

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://app")
  switch (url.pathname) {
    case "/down": {
      let left = Number(url.searchParams.get("bytes"))
      response.writeHead(200, { "content-length": left })
      const more = () => {
        while (left > 0) {
          const part = left >= piece.length ? piece : piece.subarray(0, left)
          left -= part.length
          if (!response.write(part)) return void response.once("drain", more)
        }
        response.end()
      }
      return more()
    }
    case "/up": {
      let bytes = 0
      request.on("data", (chunk) => {
        bytes += chunk.length
      })
      return void request.on("end", () => {
        const text = String(bytes)
        response.writeHead(200, { "content-length": text.length }).end(text)
      })
    }
    case "/echo": {
      const chunks: Array<Buffer> = []
      request.on("data", (chunk) => chunks.push(chunk))
      return void request.on("end", () => {
        const body = Buffer.concat(chunks)
        response.writeHead(200, { "content-length": body.length }).end(body)
      })
    }
    case "/sse": {
      response.writeHead(200, { "content-type": "text/event-stream" })
      response.flushHeaders()
      const timer = setInterval(() => {
        response.write(`data: ${process.hrtime.bigint()}\n\n`)
      }, 10)
      return void response.once("close", () => clearInterval(timer))
    }
    default:
      response.writeHead(200, { "content-length": small.length }).end(small)
  }
})
new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (ws) => {
  ws.on("message", (data, binary) => ws.send(data, { binary }))
  ws.on("error", () => {})
})
server.keepAliveTimeout = 60_000
server.listen(0, "127.0.0.1", () => {
  process.stdout.write(`${(server.address() as AddressInfo).port}\n`)
})
