/** Load that is not many small requests: each function does its work against a place, checks every byte, and tells what it saw. */
import { type ClientRequest, type IncomingMessage, type RequestOptions, request } from "node:http"
import { connect, type Socket } from "node:net"
import * as Content from "./Content.ts"
import type { Place } from "./Ways.ts"

const sinceMs = (start: number) => performance.now() - start

const send = (place: Place, options: RequestOptions, onResponse: (response: IncomingMessage) => void): ClientRequest =>
  request(
    {
      port: place.port,
      host: "127.0.0.1",
      agent: false,
      ...options,
      headers: { host: place.host, ...(options.headers as Record<string, string>) }
    },
    onResponse
  )

/** Downloads, checks, and tells how long it took. */
export const download = (place: Place, bytes: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const start = performance.now()
    const check = Content.checker()
    send(place, { path: `/down?${bytes}` }, (response) => {
      response.on("data", check.add)
      response.on("error", reject)
      response.on("end", () => {
        const verdict = check.verdict()
        if (response.statusCode === 200 && verdict === String(bytes)) resolve(sinceMs(start))
        else reject(new Error(`the download has status ${response.statusCode}, bytes: ${verdict}`))
      })
    })
      .on("error", reject)
      .end()
  })

/** Uploads, has the app check, and tells how long it took. */
export const upload = (place: Place, bytes: number): Promise<number> =>
  new Promise((resolve, reject) => {
    const start = performance.now()
    const options = { method: "POST", path: "/up", headers: { "content-length": String(bytes) } }
    const outgoing = send(place, options, (response) => {
      let verdict = ""
      response.on("data", (chunk) => {
        verdict += chunk
      })
      response.on("end", () => {
        if (verdict === String(bytes)) resolve(sinceMs(start))
        else reject(new Error(`the upload has status ${response.statusCode}, bytes: ${verdict}`))
      })
    })
    outgoing.on("error", reject)
    let left = bytes
    const more = () => {
      while (left > 0) {
        const part = Content.pieceAt(bytes - left, left)
        left -= part.length
        if (!outgoing.write(part)) return void outgoing.once("drain", more)
      }
      outgoing.end()
    }
    more()
  })

/** The delays of server-sent events, from the app's clock to ours, in milliseconds: one machine, one clock. */
export const eventDelays = (place: Place, count: number): Promise<ReadonlyArray<number>> =>
  new Promise((resolve, reject) => {
    const delays: Array<number> = []
    let rest = ""
    const outgoing = send(place, { path: "/events" }, (response) => {
      response.on("error", () => {})
      response.on("data", (chunk) => {
        const now = process.hrtime.bigint()
        const events = (rest + chunk).split("\n\n")
        rest = events.pop() ?? ""
        for (const event of events) {
          const sent = /^data: (\d+)$/.exec(event)?.[1]
          if (sent === undefined) return void outgoing.destroy(new Error(`not an event: ${event}`))
          delays.push(Number(now - BigInt(sent)) / 1e6)
        }
        if (delays.length < count) return
        resolve(delays)
        outgoing.destroy()
      })
      response.on("close", () => reject(new Error(`the events ended after ${delays.length}`)))
    })
    outgoing.on("error", reject)
    outgoing.end()
  })

const head = (place: Place, path: string, lines = "") => `GET ${path} HTTP/1.1\r\nHost: ${place.host}\r\n${lines}\r\n`

/** A connection that has sent its first bytes. */
const open = (place: Place, first: string, onData: (chunk: Buffer) => void, onBroken: (error: Error) => void) => {
  const socket = connect(place.port, "127.0.0.1", () => socket.write(first))
  socket.setNoDelay(true)
  socket.on("data", onData)
  socket.on("error", onBroken)
  socket.on("close", () => onBroken(new Error("the connection was closed")))
  return socket
}

/** Opens a connection, sends a GET, reads the whole answer: how long that took, in milliseconds. */
export const freshGet = (place: Place): Promise<number> =>
  new Promise((resolve, reject) => {
    const start = performance.now()
    let held = Buffer.alloc(0)
    const received = (chunk: Buffer) => {
      held = Buffer.concat([held, chunk])
      const end = held.indexOf("\r\n\r\n")
      if (end < 0 || held.length < end + 4 + Content.small.length) return
      const fine = held.toString("latin1", 9, 12) === "200" && held.subarray(end + 4).equals(Content.small)
      if (fine) resolve(sinceMs(start))
      else reject(new Error(`not the answer: ${held}`))
      socket.destroy()
    }
    const socket = open(place, head(place, "/"), received, reject)
  })

/** Opens a download, reads as far as the first bytes of its body, and then no more. */
export const stoppedReader = (place: Place, bytes: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const received = (chunk: Buffer) => {
      if (chunk.toString("latin1", 9, 12) !== "200") return reject(new Error(`not the answer: ${chunk}`))
      socket.pause()
      resolve(socket)
    }
    const socket = open(place, head(place, `/down?${bytes}`), received, reject)
  })

/** Requests that are never answered, and what fails one of them. */
export const held = (place: Place, count: number) => {
  let broken: Error | undefined
  const sockets = Array.from({ length: count }, () =>
    open(
      place,
      head(place, "/held"),
      (chunk) => {
        broken ??= new Error(`an answer to what is held: ${chunk}`)
      },
      (error) => {
        broken ??= error
      }
    )
  )
  return {
    check: () => {
      if (broken !== undefined) throw broken
    },
    close: () => {
      for (const socket of sockets) {
        socket.removeAllListeners()
        socket.on("error", () => {})
        socket.destroy()
      }
    }
  }
}
