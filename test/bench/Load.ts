/** Load that is neither many small requests nor long bodies: events, new connections, and visitors who do nothing. */
import { request } from "node:http"
import { connect, type Socket } from "node:net"
import { setTimeout } from "node:timers/promises"
import * as Content from "./Content.ts"
import type { Place } from "./Ways.ts"

/** The delays of server-sent events, from the app's clock to ours, in milliseconds: one machine, one clock. */
export const eventDelays = (place: Place, count: number): Promise<ReadonlyArray<number>> =>
  new Promise((resolve, reject) => {
    const delays: Array<number> = []
    let rest = ""
    const options = {
      port: place.port,
      host: "127.0.0.1",
      path: "/events",
      headers: { host: place.host },
      agent: false
    }
    const outgoing = request(options, (response) => {
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

const head = (place: Place, path: string) => `GET ${path} HTTP/1.1\r\nHost: ${place.host}\r\n\r\n`

/** A connection that sends a GET at once. */
const open = (place: Place, path: string, onData: (chunk: Buffer) => void, onBroken: (error: Error) => void) => {
  const socket = connect(place.port, "127.0.0.1", () => socket.write(head(place, path)))
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
      if (fine) resolve(performance.now() - start)
      else reject(new Error(`not the answer: ${held}`))
      socket.destroy()
    }
    const socket = open(place, "/", received, reject)
  })

/** Opens a download, reads as far as the first bytes of its answer, and then no more. */
export const stoppedReader = (place: Place, bytes: number): Promise<Socket> =>
  new Promise((resolve, reject) => {
    const received = (chunk: Buffer) => {
      if (chunk.toString("latin1", 9, 12) !== "200") return reject(new Error(`not the answer: ${chunk}`))
      socket.pause()
      resolve(socket)
    }
    const socket = open(place, `/down?${bytes}`, received, reject)
  })

/** Requests that are under way for as long as they are wanted. */
export interface Held {
  readonly close: () => void
}

const textOf = (place: Place, path: string): Promise<string> =>
  new Promise((resolve, reject) => {
    const options = { port: place.port, host: "127.0.0.1", path, headers: { host: place.host }, agent: false }
    const outgoing = request(options, (response) => {
      let text = ""
      response.on("data", (chunk) => {
        text += chunk
      })
      response.on("end", () => resolve(text))
    })
    outgoing.on("error", reject)
    outgoing.end()
  })

const settleMs = 10_000
const atOnce = 100

/** Opens requests that are not answered; returns once all of them are with the app, which is asked for their number: `already` are there. */
export const hold = async (place: Place, count: number, already = 0): Promise<Held> => {
  let broken: Error | undefined
  const fail = (error: Error) => {
    broken ??= error
  }
  const sockets: Array<Socket> = []
  const close = () => {
    for (const socket of sockets) {
      socket.removeAllListeners()
      socket.on("error", () => {})
      socket.destroy()
    }
  }
  while (sockets.length < count) {
    for (let i = Math.min(atOnce, count - sockets.length); i > 0; i--) {
      sockets.push(open(place, "/held", (chunk) => fail(new Error(`an answer to what is held: ${chunk}`)), fail))
    }
    const until = performance.now() + settleMs
    let holding = await textOf(place, "/holding")
    while (holding !== String(already + sockets.length)) {
      if (performance.now() > until) fail(new Error(`the app holds ${holding} of ${already + sockets.length} requests`))
      if (broken !== undefined) {
        close()
        throw broken
      }
      await setTimeout(5)
      holding = await textOf(place, "/holding")
    }
  }
  return { close }
}
