/** The rows of memory: what visitors cost who are there and do nothing, and what one does to the others who stops reading. */
import type { Socket } from "node:net"
import { setTimeout } from "node:timers/promises"
import * as Content from "./Content.ts"
import * as Load from "./Load.ts"
import { type Measured, type Memory, memoryOf, peakGrowthBytes, type Subject } from "./Measurement.ts"
import type { Row } from "./Row.ts"
import * as SocketLoad from "./SocketLoad.ts"
import { median } from "./Statistics.ts"
import * as Transfer from "./Transfer.ts"
import type { Way } from "./Ways.ts"
import { wrk } from "./Wrk.ts"

const KiB = 1024
const MiB = 1024 * KiB
const MB = 1e6

const throughSomething = (way: Way) => way.name !== "direct"

/** Long enough for what was closed or opened last to be known everywhere. */
const settle = () => setTimeout(1_000)

const growth = (subject: Subject, before: Memory, after: Memory, unitBytes: number): Measured => {
  const value = (after.residentBytes - before.residentBytes) / unitBytes
  const tells = subject.tunnel.some(({ gauge }) => gauge !== undefined)
  return tells ? { value, more: { held: (after.heldBytes - before.heldBytes) / unitBytes } } : { value }
}

const warmCount = 100

const idleSockets =
  (count: number) =>
  async (subject: Subject): Promise<Measured> => {
    // What a process buys once, it has bought by then.
    for (const socket of await SocketLoad.openSockets(subject.place, warmCount)) socket.destroy()
    await settle()
    const before = await memoryOf(subject)
    const sockets = await SocketLoad.openSockets(subject.place, count)
    try {
      await settle()
      const after = await memoryOf(subject)
      const closed = sockets.filter(({ destroyed }) => destroyed).length
      if (closed > 0) throw new Error(`${closed} of ${count} WebSockets were closed`)
      return growth(subject, before, after, count * KiB)
    } finally {
      for (const socket of sockets) socket.destroy()
    }
  }

const openRequests =
  (count: number) =>
  async (subject: Subject): Promise<Measured> => {
    const warm = await Load.hold(subject.place, warmCount)
    warm.close()
    await settle()
    const before = await memoryOf(subject)
    const held = await Load.hold(subject.place, count)
    try {
      await settle()
      return growth(subject, before, await memoryOf(subject), count * KiB)
    } finally {
      held.close()
    }
  }

const others = (subject: Subject, seconds: number) =>
  wrk(subject.place, {
    connections: 8,
    seconds,
    method: "GET",
    path: "/",
    body: "",
    expected: Content.small.toString("latin1")
  })

const stoppingBytes = 256 * MiB

/** What one stopped reader adds, in processes that have served small requests, and long downloads too where `warm`. */
const stoppedReader =
  (warm: boolean) =>
  async (subject: Subject): Promise<Measured> => {
    await others(subject, 2)
    if (warm) await Transfer.download(subject.place, 64 * MiB)
    await settle()
    const before = await memoryOf(subject)
    let reader: Socket | undefined
    try {
      const peak = await peakGrowthBytes(subject, async () => {
        reader = await Load.stoppedReader(subject.place, stoppingBytes)
        await settle()
      })
      const { more, value } = growth(subject, before, await memoryOf(subject), MB)
      return { value, more: { ...more, peak: peak / MB } }
    } finally {
      reader?.destroy()
    }
  }

const turns = 5

/** The slowest hundredth of the other visitors' requests beside a reader that has stopped, and without it, in turn. */
const besideStoppedReader = async (subject: Subject): Promise<Measured> => {
  await others(subject, 2)
  const alone: Array<number> = []
  const beside: Array<number> = []
  for (let turn = 0; turn < turns; turn++) {
    alone.push((await others(subject, 1)).p99Ms)
    const reader = await Load.stoppedReader(subject.place, stoppingBytes)
    try {
      beside.push((await others(subject, 1)).p99Ms)
    } finally {
      reader.destroy()
    }
  }
  return { value: median(beside) / median(alone), more: { "ms alone": median(alone), "ms beside": median(beside) } }
}

/** In the order of the table. */
export const memoryRows: ReadonlyArray<Row> = [
  {
    name: "1,000 idle WebSockets, each",
    unit: "KiB",
    kind: "amount",
    fresh: true,
    on: throughSomething,
    measure: idleSockets(1_000)
  },
  ...[1_000, 4_000].map(
    (count): Row => ({
      name: `${count.toLocaleString("en-US")} open requests, each`,
      unit: "KiB",
      kind: "amount",
      fresh: true,
      on: throughSomething,
      measure: openRequests(count)
    })
  ),
  {
    name: "a reader that stops in 256 MiB, the first download of all",
    unit: "MB",
    kind: "amount",
    fresh: true,
    on: throughSomething,
    measure: stoppedReader(false)
  },
  {
    name: "a reader that stops in 256 MiB, after a whole download",
    unit: "MB",
    kind: "amount",
    fresh: true,
    on: throughSomething,
    measure: stoppedReader(true)
  },
  {
    name: "p99 of others beside a reader that has stopped, to p99 alone",
    unit: "times",
    kind: "amount",
    on: throughSomething,
    measure: besideStoppedReader
  }
]
