/** A link between a runner and its hub that has a length and a width: a TCP relay on loopback from which bytes leave at a rate and arrive a while later. */
import { createServer, connect as netConnect, type Socket } from "node:net"
import { Effect } from "effect"
import { listen } from "../socket/Loopback.ts"

/** What a link is like. */
export interface LinkShape {
  readonly roundTripMs: number
  /** In each direction; `Infinity` for no bound. */
  readonly bytesPerSecond: number
}

/** What waits at the near end for its turn, as in a router; with what is under way it is all that a direction holds. */
const queueBytesMax = 512 * 1024
/** What a link without a width may hold all the same. */
const underWayBytesMax = 64 * 1024 * 1024

/** What one direction has carried. */
export class Passage {
  private readonly marks: Array<readonly [atMs: number, bytes: number]> = [[0, 0]]
  private waiting: { readonly bytes: number; readonly f: () => void } | undefined

  /** Bytes that arrived so far. */
  get bytes(): number {
    return this.marks.at(-1)?.[1] ?? 0
  }

  arrived(bytes: number): void {
    this.marks.push([performance.now(), this.bytes + bytes])
    if (this.waiting !== undefined && this.bytes >= this.waiting.bytes) this.waiting.f()
  }

  /** Waits until so many bytes have arrived. */
  reached(bytes: number): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.waiting = { bytes, f: () => resume(Effect.void) }
    })
  }

  /** Bytes in a second, over the best stretch of at least `bytes`. */
  rateOver(bytes: number): number {
    let best = 0
    let from = 1
    for (const [atMs, sum] of this.marks) {
      while (sum - (this.marks[from + 1]?.[1] ?? Infinity) >= bytes) from++
      const [fromMs, fromBytes] = this.marks[from] ?? [0, Infinity]
      if (sum - fromBytes >= bytes) best = Math.max(best, ((sum - fromBytes) / (atMs - fromMs)) * 1000)
    }
    return best
  }
}

/** One direction: in order, each piece half a round trip after it left. */
const carry = (from: Socket, to: Socket, { bytesPerSecond, roundTripMs }: LinkShape, passage: Passage): void => {
  const underWay: Array<{ readonly data: Buffer; readonly leavesMs: number }> = []
  let bytes = 0
  let freeMs = 0
  let timer: NodeJS.Timeout | undefined
  const mayRead = (nowMs: number) =>
    bytes < underWayBytesMax && (freeMs <= nowMs || ((freeMs - nowMs) / 1000) * bytesPerSecond < queueBytesMax)
  const step = () => {
    timer = undefined
    const nowMs = performance.now()
    while (!to.writableNeedDrain) {
      const [first] = underWay
      if (first === undefined || first.leavesMs + roundTripMs / 2 > nowMs) break
      underWay.shift()
      bytes -= first.data.length
      passage.arrived(first.data.length)
      to.write(first.data)
    }
    if (from.isPaused() && mayRead(nowMs)) from.resume()
    if (underWay.length > 0 || from.isPaused()) timer = setTimeout(step, 1)
  }
  from.on("data", (data: Buffer) => {
    const nowMs = performance.now()
    freeMs = Math.max(freeMs, nowMs) + (data.length / bytesPerSecond) * 1000
    underWay.push({ data, leavesMs: freeMs })
    bytes += data.length
    if (!mayRead(nowMs)) from.pause()
    if (timer === undefined) step()
  })
  from.on("error", () => {})
  from.on("close", () => {
    clearTimeout(timer)
    to.destroy()
  })
}

/** Relays to a port for the life of the scope. */
export const startLongLink = Effect.fnUntraced(function* (targetPort: number, shape: LinkShape) {
  const sockets = new Set<Socket>()
  const [there, back] = [new Passage(), new Passage()]
  const server = createServer((near) => {
    const far = netConnect(targetPort, "127.0.0.1")
    for (const socket of [near, far]) {
      sockets.add(socket.setNoDelay(true))
      socket.on("close", () => sockets.delete(socket))
    }
    carry(near, far, shape, there)
    carry(far, near, shape, back)
  })
  const cut = () => {
    for (const socket of sockets) socket.resetAndDestroy()
  }
  const port = yield* listen(server, cut)
  return {
    /** Where it is entered. */
    port,
    /** What came to the target, and what came back from it. */
    there,
    back,
    /** Breaks what goes over it, with all that is under way. */
    cut: Effect.sync(cut)
  }
})
