/** What is measured, seen from a visitor: each function does a fixed amount of work against a port and tells how long it took. Bytes are checked. */
import { request } from "node:http"
import { connect, type Socket } from "node:net"
import { WebSocket } from "ws"

/** Where to send, and the Host that chooses the runner. */
export interface Place {
  readonly port: number
  readonly host: string
}

const elapsed = (from: bigint) => Number(process.hrtime.bigint() - from) / 1e9

/** Requests per second over kept connections, one request at a time on each; every answer must have its whole body. */
export const requests = (
  place: Place,
  options: { readonly connections: number; readonly total: number; readonly body?: Buffer }
): Promise<number> =>
  new Promise((resolve, reject) => {
    const { body } = options
    const head = `${body === undefined ? "GET / " : "POST /echo "}HTTP/1.1\r\nHost: ${place.host}\r\n`
    const message = Buffer.concat([
      Buffer.from(body === undefined ? `${head}\r\n` : `${head}Content-Length: ${body.length}\r\n\r\n`),
      body ?? Buffer.alloc(0)
    ])
    const sockets: Array<Socket> = []
    let started = 0
    let finished = 0
    const start = process.hrtime.bigint()
    const fail = (error: Error) => {
      for (const socket of sockets) socket.destroy()
      reject(error)
    }
    for (let i = 0; i < options.connections; i++) {
      const socket = connect(place.port, "127.0.0.1")
      sockets.push(socket)
      socket.setNoDelay(true)
      let held = Buffer.alloc(0)
      const next = () => {
        if (started === options.total) return
        started++
        socket.write(message)
      }
      socket.on("connect", next)
      socket.on("error", fail)
      socket.on("data", (chunk) => {
        held = held.length === 0 ? chunk : Buffer.concat([held, chunk])
        const end = held.indexOf("\r\n\r\n")
        if (end < 0) return
        const text = held.toString("latin1", 0, end)
        const length = Number(/content-length: (\d+)/i.exec(text)?.[1])
        if (!text.startsWith("HTTP/1.1 200") || Number.isNaN(length)) return fail(new Error(text))
        if (held.length < end + 4 + length) return
        held = held.subarray(end + 4 + length)
        finished++
        if (finished < options.total) return next()
        const seconds = elapsed(start)
        for (const one of sockets) one.destroy()
        resolve(options.total / seconds)
      })
    }
  })

/** Megabytes per second of one download. */
export const download = (place: Place, bytes: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const start = process.hrtime.bigint()
    request(
      {
        port: place.port,
        host: "127.0.0.1",
        path: `/down?bytes=${bytes}`,
        headers: { host: place.host },
        agent: false
      },
      (response) => {
        let got = 0
        response.on("data", (chunk) => {
          got += chunk.length
        })
        response.on("error", reject)
        response.on("end", () =>
          got === bytes ? resolve(bytes / 1e6 / elapsed(start)) : reject(new Error(`got ${got}`))
        )
      }
    )
      .on("error", reject)
      .end()
  })

/** Megabytes per second of one upload. */
export const upload = (place: Place, bytes: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const piece = Buffer.alloc(64 * 1024, "z")
    const start = process.hrtime.bigint()
    const outgoing = request(
      {
        port: place.port,
        host: "127.0.0.1",
        method: "POST",
        path: "/up",
        headers: { host: place.host, "content-length": bytes },
        agent: false
      },
      (response) => {
        let text = ""
        response.on("data", (chunk) => {
          text += chunk
        })
        response.on("end", () =>
          text === String(bytes) ? resolve(bytes / 1e6 / elapsed(start)) : reject(new Error(`the app got ${text}`))
        )
      }
    )
    outgoing.on("error", reject)
    let left = bytes
    const more = () => {
      while (left > 0) {
        const part = left >= piece.length ? piece : piece.subarray(0, left)
        left -= part.length
        if (!outgoing.write(part)) return void outgoing.once("drain", more)
      }
      outgoing.end()
    }
    more()
  })

/** The median delay of server-sent events from the app's clock to ours, in milliseconds: one machine, one clock. */
export const eventDelay = (place: Place, events: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const delays: Array<number> = []
    const outgoing = request(
      { port: place.port, host: "127.0.0.1", path: "/sse", headers: { host: place.host }, agent: false },
      (response) => {
        response.on("error", () => {})
        response.on("data", (chunk) => {
          const now = process.hrtime.bigint()
          const sent = /data: (\d+)/.exec(String(chunk))?.[1]
          if (sent !== undefined) delays.push(Number(now - BigInt(sent)) / 1e6)
          if (delays.length < events) return
          outgoing.destroy()
          resolve(delays.sort((a, b) => a - b)[delays.length >> 1] as number)
        })
      }
    )
    outgoing.on("error", reject)
    outgoing.end()
  })

/** Echoed WebSocket messages per second, one under way on each socket. */
export const webSockets = async (
  place: Place,
  options: { readonly sockets: number; readonly total: number; readonly bytes: number }
): Promise<number> => {
  const message = Buffer.alloc(options.bytes, 7)
  const sockets = await Promise.all(
    Array.from(
      { length: options.sockets },
      () =>
        new Promise<WebSocket>((resolve, reject) => {
          const ws = new WebSocket(`ws://127.0.0.1:${place.port}/ws`, {
            headers: { host: place.host },
            perMessageDeflate: false
          })
          ws.once("open", () => resolve(ws))
          ws.once("error", reject)
        })
    )
  )
  return new Promise((resolve, reject) => {
    let sent = 0
    let received = 0
    const start = process.hrtime.bigint()
    for (const ws of sockets) {
      const next = () => {
        if (sent === options.total) return
        sent++
        ws.send(message)
      }
      ws.on("message", (data: Buffer) => {
        if (data.length !== options.bytes) return reject(new Error(`echoed ${data.length} bytes`))
        received++
        if (received < options.total) return next()
        const seconds = elapsed(start)
        for (const one of sockets) one.terminate()
        resolve(options.total / seconds)
      })
      next()
    }
  })
}
