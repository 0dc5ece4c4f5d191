/**
 * Proof of life, the same on both ends of a runner–hub connection: pings in a steady beat, measures the round trip, and says when the peer
 * has been silent for too long. One heartbeat belongs to one socket.
 *
 * Anything received counts as life, not only pongs: a connection busy with data never dies of a late pong. It writes nothing itself and reads
 * nothing; the owner of the socket gives it `ping` and tells it what came.
 */
import { Clock, Data, Effect } from "effect"
import { limits } from "../tunnel/Limits.ts"

/** Nothing at all was received for the deadline: the peer is gone, or as good as gone. */
export class HeartbeatTimeout extends Data.TaggedError("HeartbeatTimeout")<{
  readonly silentMs: number
}> {}

/** How often to ping, how long to wait, and how a ping is written. */
export interface HeartbeatOptions {
  readonly heartbeatMs?: number
  readonly heartbeatDeadlineMs?: number
  /** Writes a ping now, ahead of data. */
  readonly ping: (nonce: number) => void
  /** Told each measured round trip. */
  readonly onRoundTrip?: (roundTripMs: number) => void
}

/** The beat of one connection. */
export interface Heartbeat {
  /** Something arrived, whatever it was. Once per read of the socket is enough. */
  readonly heard: () => void
  /** A pong arrived. One that answers another ping than the last is late, and measures nothing. */
  readonly pong: (nonce: number) => void
  /** The last round trip in milliseconds, undefined before the first pong. */
  readonly roundTripMs: () => number | undefined
  /** Pings at once and then in the beat, for as long as it runs; fails when the deadline passed in silence. */
  readonly run: Effect.Effect<never, HeartbeatTimeout>
}

const nonces = 0x1_0000_0000

/** The silence counts from here: make it once the socket is open. */
export const make = (options: HeartbeatOptions): Effect.Effect<Heartbeat> =>
  Clock.clockWith((clock) => Effect.sync(() => makeUnsafe(clock, options)))

const makeUnsafe = (clock: Clock.Clock, options: HeartbeatOptions): Heartbeat => {
  const beatMs = options.heartbeatMs ?? limits.heartbeatMs
  const deadlineMs = options.heartbeatDeadlineMs ?? limits.heartbeatDeadlineMs
  // Monotonic, so that a corrected wall clock does not cut every runner off at the same moment.
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let heardAtMs = nowMs()
  let pingedAtMs = heardAtMs
  let nonce = 0
  let awaiting = false
  let roundTripMs: number | undefined

  const ping = () => {
    nonce = (nonce + 1) % nonces
    awaiting = true
    pingedAtMs = nowMs()
    options.ping(nonce)
  }

  return {
    heard: () => {
      heardAtMs = nowMs()
    },
    pong: (answered) => {
      if (!awaiting || answered !== nonce) return
      awaiting = false
      roundTripMs = nowMs() - pingedAtMs
      options.onRoundTrip?.(roundTripMs)
    },
    roundTripMs: () => roundTripMs,
    run: Effect.gen(function* () {
      let nextPingMs = nowMs()
      while (true) {
        if (nowMs() >= nextPingMs) {
          ping()
          nextPingMs = nowMs() + beatMs
        }
        yield* Effect.sleep(Math.min(nextPingMs, heardAtMs + deadlineMs) - nowMs())
        if (nowMs() - heardAtMs < deadlineMs) continue
        // Timers run before sockets are read: after a process was stopped, the proof of life may lie in the kernel's buffer.
        yield* Effect.sleep(1)
        const silentMs = nowMs() - heardAtMs
        if (silentMs >= deadlineMs) return yield* new HeartbeatTimeout({ silentMs })
      }
    })
  }
}
