/**
 * A connection that goes wrong by chance, as networks do: what is sent comes late, stands still for a while, or the connection is reset; or it is
 * half open, and neither side learns that the other hears nothing. Within a connection nothing is lost, repeated or reordered: TCP sees to that.
 *
 * Two pairs of sockets in memory with a pump between, in each direction; its waits are on Effect time.
 */
import { Effect, type Scope } from "effect"
import { type MessageSocket, pair, type SocketBatch, type SocketClosed } from "../socket/MessageSocket.ts"
import type { Turn } from "../tunnel/Turn.ts"
import type { Chance } from "./FaultyBus.ts"

/** How often each fault befalls what one read of the wire brought, from 0 for never to 1 for always. */
export interface SocketFaults {
  /** Every read takes up to this long. */
  readonly delayMsMax: number
  /** Nothing moves for up to `stallMsMax`. */
  readonly stall: number
  readonly stallMsMax: number
  /** The connection breaks, with what was under way. */
  readonly reset: number
  /**
   * Its sender loses the connection at once; what was under way still arrives, up to `stallMsMax` later, and only then the end: a first word may
   * come behind that of the next connection.
   */
  readonly lostBehind: number
  /** From now on nothing arrives in either direction, not even the end. */
  readonly halfOpen: number
}

/** No fault at all. */
export const faultless: SocketFaults = { delayMsMax: 0, stall: 0, stallMsMax: 0, reset: 0, lostBehind: 0, halfOpen: 0 }

const whole = (binary: boolean) => ({ binary, finish: true })

/** A connection as whoever tests it sees it. */
export interface FaultyWire {
  readonly near: MessageSocket
  readonly far: MessageSocket
  /** Breaks it without a close frame. */
  readonly cut: Effect.Effect<void>
}

/** Two ends of a connection with faults between them. `faults` is asked at every read, so that they may begin and end. */
export const make = Effect.fnUntraced(function* (options: {
  readonly protocol: string
  readonly faults: () => SocketFaults
  readonly chance: Chance
  readonly soon?: Turn
  readonly onFault?: (kind: "stall" | "reset" | "lostBehind" | "halfOpen") => void
}): Effect.fn.Return<FaultyWire, never, Scope.Scope> {
  const { chance, faults } = options
  const [near, nearWire] = pair(options)
  const [far, farWire] = pair(options)
  let vanished = false
  const cut = Effect.sync(() => {
    nearWire.terminateUnsafe()
    farWire.terminateUnsafe()
  })

  const pass = (batch: SocketBatch, to: MessageSocket): Effect.Effect<void, SocketClosed> =>
    Effect.suspend(() => {
      if (vanished) return Effect.void
      let writable = true
      for (const { binary, data } of batch) writable = to.sendUnsafe(data, whole(binary))
      return writable || to.closedUnsafe() !== undefined ? Effect.void : to.writable
    })

  const pump = (from: MessageSocket, to: MessageSocket) => {
    const once = Effect.flatMap(from.pull, (batch) =>
      Effect.suspend(() => {
        const present = faults()
        if (chance() < present.reset) {
          options.onFault?.("reset")
          return cut
        }
        if (!vanished && chance() < present.halfOpen) {
          options.onFault?.("halfOpen")
          vanished = true
        }
        if (chance() < present.lostBehind) {
          options.onFault?.("lostBehind")
          from.terminateUnsafe()
          return Effect.delay(pass(batch, to), Math.floor(chance() * present.stallMsMax))
        }
        const stalls = chance() < present.stall
        if (stalls) options.onFault?.("stall")
        const stalled = stalls ? chance() * present.stallMsMax : 0
        const delayMs = Math.floor(chance() * present.delayMsMax + stalled)
        const passed = pass(batch, to)
        return delayMs === 0 ? passed : Effect.delay(passed, delayMs)
      })
    )
    return Effect.forever(once).pipe(
      Effect.catchTag("SocketClosed", ({ code, reason }) =>
        Effect.sync(() => {
          if (vanished) return
          if (code === 1006) to.terminateUnsafe()
          else to.closeUnsafe(code, reason)
        })
      )
    )
  }
  yield* Effect.forkScoped(pump(nearWire, farWire))
  yield* Effect.forkScoped(pump(farWire, nearWire))
  yield* Effect.addFinalizer(() => cut)
  const wire: FaultyWire = { near, far, cut }
  return wire
})
