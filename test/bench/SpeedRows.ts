/** The rows of the first table: requests, bodies, messages, events and connections, as fast as they go. */
import * as Content from "./Content.ts"
import * as Load from "./Load.ts"
import { costing, type Measured, type Subject } from "./Measurement.ts"
import type { Row } from "./Row.ts"
import * as SocketLoad from "./SocketLoad.ts"
import { median, percentile } from "./Statistics.ts"
import * as Transfer from "./Transfer.ts"
import { type WrkOptions, wrk } from "./Wrk.ts"

const MiB = 1024 * 1024
/** How long one measurement goes on. */
const seconds = 2

/** Small requests by `wrk`. */
export const requests =
  (options: Pick<WrkOptions, "connections"> & Partial<WrkOptions>) =>
  async (subject: Subject): Promise<Measured> => {
    const whole = {
      seconds,
      method: "GET",
      path: "/",
      body: "",
      expected: Content.small.toString("latin1"),
      ...options
    } as const
    let result: Awaited<ReturnType<typeof wrk>> | undefined
    const { cost, counted } = await costing(subject, async () => {
      result = await wrk(subject.place, whole)
      return result.good
    })
    const { good, p50Ms, p99Ms, seconds: took } = result as NonNullable<typeof result>
    return { value: good / took, cost, more: { "p50 ms": p50Ms, "p99 ms": p99Ms, ...counted } }
  }

/** A small GET over so many connections. */
export const smallGet = (connections: number): Row => ({
  name: `small GET, ${connections.toLocaleString("en-US")} connection${connections === 1 ? "" : "s"}`,
  unit: "req/s",
  kind: "rate",
  operation: "request",
  measure: requests({ connections })
})

const posted = Content.posted.toString("latin1")

/** One after the other, for a second at least. */
const transfers =
  (move: typeof Transfer.download, bytes: number) =>
  async (subject: Subject): Promise<Measured> => {
    let took = 0
    const { cost, operations } = await costing(subject, async () => {
      const start = performance.now()
      let moved = 0
      while (took < 1) {
        await move(subject.place, bytes)
        moved += bytes
        took = (performance.now() - start) / 1000
      }
      return moved / MiB
    })
    return { value: (operations * MiB) / 1e6 / took, cost }
  }

const messages = async (subject: Subject): Promise<Measured> => {
  const sockets = await SocketLoad.openSockets(subject.place, 100)
  try {
    await SocketLoad.echoes(sockets, 128, 0.2)
    const { cost, operations, seconds: took } = await costing(subject, () => SocketLoad.echoes(sockets, 128, seconds))
    return { value: operations / took, cost }
  } finally {
    for (const socket of sockets) socket.destroy()
  }
}

const events = async (subject: Subject): Promise<Measured> => {
  const delays = await Load.eventDelays(subject.place, 100)
  return { value: median(delays), more: { "p99 ms": percentile(delays, 99) } }
}

const connections = async (subject: Subject): Promise<Measured> => {
  const times: Array<number> = []
  const { cost } = await costing(subject, async () => {
    for (let i = 0; i < 300; i++) times.push(await Load.freshGet(subject.place))
    return times.length
  })
  return { value: median(times), cost, more: { "p99 ms": percentile(times, 99) } }
}

/** How fast, in the order of the table. */
export const speedRows: ReadonlyArray<Row> = [
  smallGet(32),
  {
    name: "1 KiB POST echo, 32 connections",
    unit: "req/s",
    kind: "rate",
    operation: "request",
    measure: requests({ connections: 32, method: "POST", path: "/echo", body: posted, expected: posted })
  },
  {
    name: "64 MiB down",
    unit: "MB/s",
    kind: "rate",
    operation: "MiB",
    measure: transfers(Transfer.download, 64 * MiB)
  },
  { name: "64 MiB up", unit: "MB/s", kind: "rate", operation: "MiB", measure: transfers(Transfer.upload, 64 * MiB) },
  {
    name: "WebSocket echo of 128 B, 100 sockets",
    unit: "msg/s",
    kind: "rate",
    operation: "message",
    measure: messages
  },
  { name: "delay of a server-sent event, p50", unit: "ms", kind: "amount", measure: events },
  { name: "new connection to answer, p50", unit: "ms", kind: "amount", operation: "connection", measure: connections }
]
