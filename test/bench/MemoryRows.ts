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
  const held = (after.heldBytes - before.heldBytes) / unitBytes
  const unit = unitBytes === MB ? "MB" : "KiB"
  const tells = subject.tunnel.some(({ gauge }) => gauge !== undefined)
  return tells ? { value, more: { [`${unit} held after collection`]: held } } : { value }
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

/** What a process buys once, V8's young generation foremost, it has bought after that. */
const bought = (subject: Subject) => others(subject, 2)

const warmCount = 100
const counted = (count: number) => count.toLocaleString("en-US")

/** Some, then more: the value is of the first, to be compared with that of all. */
const idleSockets =
  (first: number, count: number) =>
  async (subject: Subject): Promise<Measured> => {
    await bought(subject)
    for (const socket of await SocketLoad.openSockets(subject.place, warmCount)) socket.destroy()
    await settle()
    const before = await memoryOf(subject)
    const sockets: Array<Socket> = []
    const open = async (more: number) => {
      sockets.push(...(await SocketLoad.openSockets(subject.place, more)))
      await settle()
      const closed = sockets.filter(({ destroyed }) => destroyed).length
      if (closed > 0) throw new Error(`${closed} of ${sockets.length} WebSockets were closed`)
      return growth(subject, before, await memoryOf(subject), sockets.length * KiB)
    }
    try {
      const { more, value } = await open(first)
      const ofAll = await open(count - first)
      const named = Object.entries(ofAll.more ?? {}).map(([name, held]) => [`${name}, of ${counted(count)}`, held])
      return { value, more: { ...more, [`KiB of ${counted(count)}`]: ofAll.value, ...Object.fromEntries(named) } }
    } finally {
      for (const socket of sockets) socket.destroy()
    }
  }

/** Some, then more: the value is of all of them, to be compared with that of the first. */
const openRequests =
  (first: number, count: number) =>
  async (subject: Subject): Promise<Measured> => {
    await bought(subject)
    const warm = await Load.hold(subject.place, warmCount)
    warm.close()
    await settle()
    const before = await memoryOf(subject)
    const open: Array<Load.Held> = []
    try {
      open.push(await Load.hold(subject.place, first))
      await settle()
      const afterFirst = await memoryOf(subject)
      open.push(await Load.hold(subject.place, count - first, first))
      await settle()
      const ofFirst = growth(subject, before, afterFirst, first * KiB)
      const ofAll = growth(subject, before, await memoryOf(subject), count * KiB)
      return { value: ofAll.value, more: { ...ofAll.more, [`KiB each of the first ${counted(first)}`]: ofFirst.value } }
    } finally {
      for (const { close } of open) close()
    }
  }

const stoppingBytes = 256 * MiB

/** What one more stopped reader adds, and the most that it was meanwhile. */
const oneStoppedReader = async (subject: Subject) => {
  await settle()
  const before = await memoryOf(subject)
  let reader: Socket | undefined
  try {
    const peak = await peakGrowthBytes(subject, async () => {
      reader = await Load.stoppedReader(subject.place, stoppingBytes)
      await settle()
    })
    const { more, value } = growth(subject, before, await memoryOf(subject), MB)
    return { value, more: { ...more, "MB at most": peak / MB } }
  } finally {
    reader?.destroy()
  }
}

/** First in processes that have served small requests only, then once they have carried a whole download, and have bought the memory for it. */
const stoppedReader = async (subject: Subject): Promise<Measured> => {
  await bought(subject)
  const first = await oneStoppedReader(subject)
  await Transfer.download(subject.place, 64 * MiB)
  const later = await oneStoppedReader(subject)
  return { value: first.value, more: { ...first.more, "MB after a whole download": later.value } }
}

const turns = 5

/** The slowest hundredth of the other visitors' requests beside a reader that has stopped, and without it, in turn. */
const besideStoppedReader = async (subject: Subject): Promise<Measured> => {
  await bought(subject)
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
    measure: idleSockets(1_000, 4_000)
  },
  {
    name: "4,000 open requests, each",
    unit: "KiB",
    kind: "amount",
    fresh: true,
    on: throughSomething,
    measure: openRequests(1_000, 4_000)
  },
  {
    name: "a reader that stops in 256 MiB",
    unit: "MB",
    kind: "amount",
    fresh: true,
    on: throughSomething,
    measure: stoppedReader
  },
  {
    name: "p99 of others beside a reader that has stopped, to p99 alone",
    unit: "times",
    kind: "amount",
    on: throughSomething,
    measure: besideStoppedReader
  }
]
