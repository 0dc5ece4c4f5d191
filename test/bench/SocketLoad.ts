/**
 * Visitors' WebSockets on bare sockets, so that the load costs less than what it measures: one message is masked once, and what comes back must be the
 * bytes of its echo, frame by frame.
 */
import { randomBytes } from "node:crypto"
import { connect, type Socket } from "node:net"
import type { Place } from "./Ways.ts"

const header = (length: number, masked: boolean): Buffer => {
  const bit = masked ? 0x80 : 0
  if (length < 126) return Buffer.from([0x82, bit | length])
  return Buffer.from([0x82, bit | 126, length >> 8, length & 0xff])
}

/** A binary message of fewer than 64 KiB as a server sends it, and as a client does. */
export const framed = (message: Uint8Array) => {
  const mask = randomBytes(4)
  const masked = message.map((byte, i) => byte ^ (mask[i & 3] as number))
  return {
    fromServer: Buffer.concat([header(message.length, false), message]),
    fromClient: Buffer.concat([header(message.length, true), mask, masked])
  }
}

/** Shakes hands. */
export const openSocket = (place: Place): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const lines = [
      "GET /socket HTTP/1.1",
      `Host: ${place.host}`,
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`
    ]
    const socket = connect(place.port, "127.0.0.1", () => socket.write(`${lines.join("\r\n")}\r\n\r\n`))
    socket.setNoDelay(true)
    let answer = ""
    socket.on("error", reject)
    socket.on("close", () => reject(new Error(`closed during the handshake: ${answer}`)))
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1")
      if (!answer.includes("\r\n\r\n")) return
      socket.removeAllListeners()
      socket.on("error", () => {})
      if (answer.startsWith("HTTP/1.1 101") && answer.endsWith("\r\n\r\n")) return resolve(socket)
      reject(new Error(`not the handshake: ${answer}`))
      socket.destroy()
    })
  })

const atOnceMax = 50

/** Shakes many hands, some at once. */
export const openSockets = async (place: Place, count: number): Promise<ReadonlyArray<Socket>> => {
  const sockets: Array<Socket> = []
  while (sockets.length < count) {
    const batch = Math.min(atOnceMax, count - sockets.length)
    sockets.push(...(await Promise.all(Array.from({ length: batch }, () => openSocket(place)))))
  }
  return sockets
}

/** One message under way on each socket, until the time is over: how many came back. */
export const echoes = (sockets: ReadonlyArray<Socket>, bytes: number, seconds: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const { fromClient, fromServer } = framed(Buffer.alloc(bytes, 7))
    let received = 0
    let waiting = sockets.length
    const until = performance.now() + seconds * 1000
    const fail = (error: Error) => {
      for (const socket of sockets) socket.destroy()
      reject(error)
    }
    for (const socket of sockets) {
      let offset = 0
      const onClose = () => fail(new Error("a WebSocket was closed"))
      const onData = (chunk: Buffer) => {
        const rest = fromServer.length - offset
        if (chunk.length > rest || fromServer.compare(chunk, 0, chunk.length, offset, offset + chunk.length) !== 0) {
          return fail(new Error(`not the echo: ${chunk.toString("hex")}`))
        }
        offset = (offset + chunk.length) % fromServer.length
        if (offset !== 0) return
        received++
        if (performance.now() < until) return void socket.write(fromClient)
        socket.off("data", onData)
        socket.off("close", onClose)
        waiting--
        if (waiting === 0) resolve(received)
      }
      socket.on("data", onData)
      socket.on("close", onClose)
      socket.write(fromClient)
    }
  })
