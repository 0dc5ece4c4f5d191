/** One row measured on one way once: a figure, what it cost the processor, and whatever else was seen. */

import type { Running } from "./Processes.ts"
import * as ProcessTree from "./ProcessTree.ts"
import type { Standing } from "./Ways.ts"

/** Processor time of one operation in microseconds, by who used it. Where the app is in the runner's process its share is in `tunnel`. */
export interface Cost {
  readonly tunnel: number
  readonly app: number
  readonly load: number
}

/** What came of it. */
export interface Measured {
  readonly value: number
  readonly cost?: Cost
  /** Further figures by name, unit last. */
  readonly more?: Readonly<Record<string, number>>
}

/** A way that stands, with the app beside it. */
export interface Subject extends Standing {
  readonly app: Running
}

const pidsOf = (subject: Subject) => ProcessTree.withDescendants(subject.tunnel.map(({ pid }) => pid))

/** How often the tunnel's processes have had their NATS server confirm something; undefined where there is none. */
const flushesOf = async ({ tunnel }: Subject): Promise<number | undefined> => {
  const counted = tunnel.flatMap(({ flushes }) => (flushes === undefined ? [] : [flushes()]))
  return counted.length === 0 ? undefined : (await Promise.all(counted)).reduce((sum, one) => sum + one)
}

/** What a piece of work cost, and what was counted on the way. */
export interface Costing {
  readonly cost: Cost
  readonly operations: number
  readonly seconds: number
  readonly counted: Readonly<Record<string, number>>
}

/** Does the work and counts what it costs; `work` tells how many operations it was. */
export const costing = async (subject: Subject, work: () => Promise<number>): Promise<Costing> => {
  const tunnel = pidsOf(subject)
  const times = () => [
    ProcessTree.processorNs(tunnel),
    ProcessTree.processorNs([subject.app.pid]),
    ProcessTree.ownProcessorNs()
  ]
  const flushesBefore = await flushesOf(subject)
  const before = times()
  const start = performance.now()
  const operations = await work()
  const seconds = (performance.now() - start) / 1000
  const [inTunnel, inApp, inLoad] = times().map((ns, i) => (ns - (before[i] as number)) / 1000 / operations)
  const flushes = (await flushesOf(subject)) ?? 0
  const counted = flushesBefore === undefined ? {} : { "flushes of each": (flushes - flushesBefore) / operations }
  return { cost: { tunnel: inTunnel ?? 0, app: inApp ?? 0, load: inLoad ?? 0 }, operations, seconds, counted }
}

/** Memory of a tunnel's processes. */
export interface Memory {
  readonly residentBytes: number
  /** What Node's processes hold after collection; others say nothing. */
  readonly heldBytes: number
}

/** Has Node's processes collect their garbage, then looks. */
export const memoryOf = async (subject: Subject): Promise<Memory> => {
  let heldBytes = 0
  for (const { gauge } of subject.tunnel) heldBytes += (await gauge?.())?.held ?? 0
  return { heldBytes, residentBytes: ProcessTree.residentBytes(pidsOf(subject)) }
}

/** The most that these processes grow while the work is done, looked at every few milliseconds. */
export const peakGrowthBytes = async (subject: Subject, work: () => Promise<void>): Promise<number> => {
  const pids = pidsOf(subject)
  const before = ProcessTree.residentBytes(pids)
  let peak = before
  const timer = setInterval(() => {
    peak = Math.max(peak, ProcessTree.residentBytes(pids))
  }, 20)
  try {
    await work()
  } finally {
    clearInterval(timer)
  }
  return peak - before
}
