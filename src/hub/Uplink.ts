/**
 * From the runner to the house: bytes to messages, every variant matched, response frames handed to the Relay in one batch per read. What a
 * runner says wrong costs the message or the stream; only sustained abuse costs the connection.
 */
import { Clock, Effect, Fiber, type Scope } from "effect"
import type { AbuseMeter, Complaints } from "../protocol/Complaints.ts"
import type { Heartbeat } from "../protocol/Heartbeat.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { MessageSocket, SocketMessage } from "../socket/MessageSocket.ts"
import { isLastWord, type RouteKey, type Uplink } from "../tunnel/Envelope.ts"
import { type AbortCode, absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { MakeUplink } from "./Downlink.ts"
import * as HubMetrics from "./HubMetrics.ts"
import type { Relay, Relayed } from "./Relay.ts"
import { endStream, type Session, type Streams } from "./Session.ts"

/** Why the connection is to be closed now, or undefined to go on. */
export type Judgement = Wayleave1.CloseReason | undefined

/** What a reader has to know of the connection it reads, and whom it tells. */
export interface UplinkOptions {
  readonly session: Session
  readonly generation: number
  readonly socket: MessageSocket
  readonly streams: Streams
  readonly uplink: MakeUplink
  readonly relay: Relay
  readonly heartbeat: Heartbeat
  readonly complaints: Complaints
  readonly abuse: AbuseMeter
  /** The hub's own: what waits for the bus outlives the connection. */
  readonly scope: Scope.Scope
  /** Tells gateways of streams whose frames could not be published, as soon as that is possible again. */
  readonly onBroken: (session: Session, routes: ReadonlyArray<RouteKey>) => Effect.Effect<void>
}

const framesTag = 1

/** Reads one connection. */
export interface UplinkReader {
  /** Deals with everything one read brought: what is relayed is on its way in order when this succeeds, its ends may still wait for the bus. */
  readonly read: (batch: ReadonlyArray<SocketMessage>) => Effect.Effect<Judgement>
  /** Waits until no end waits any more: from then on this connection publishes nothing. */
  readonly settled: Effect.Effect<void>
}

const atOnce = { startImmediately: true } as const

/** Reads one connection: decodes each batch, matches every variant, and relays the frames among them. */
export const makeUplinkReader = Effect.fnUntraced(function* (options: UplinkOptions) {
  const { session, streams, heartbeat } = options
  const claimant = { session: session.id, generation: options.generation }
  const context = yield* Effect.context<never>()
  const unconfirmed = new Set<Fiber.Fiber<Judgement>>()
  let judged: Judgement
  let pinged: number | undefined

  const reset = (route: RouteKey, code: AbortCode) => {
    session.link.sendNow(Wayleave1.toRunner.encode({ _tag: "Reset", route, code }))
  }

  /** Decodes one message into `envelopes`; returns what is wrong with it, if anything. */
  const read = (message: SocketMessage, envelopes: Array<Uplink>): string | undefined => {
    if (!message.binary) return "a text message"
    if (message.data.length > limits.linkMessageBytesMax) return "a message that is too long"
    let decoded: Wayleave1.ToHub
    try {
      decoded = Wayleave1.toHub.decode(message.data)
    } catch {
      return "a message that does not decode"
    }
    switch (decoded._tag) {
      case "Frames":
        session.link.acknowledged(decoded.received)
        for (const { route, index, frame } of decoded.frames) {
          envelopes.push(options.uplink(session, route, index, frame))
        }
        return undefined
      case "Ping":
        session.link.acknowledged(decoded.received)
        pinged = decoded.nonce
        return undefined
      case "Pong":
        session.link.acknowledged(decoded.received)
        heartbeat.pong(decoded.nonce)
        return undefined
      case "Ack":
        session.link.acknowledged(decoded.received)
        return undefined
      case "GoAway":
        session.leaving = true
        return undefined
      case "Hello":
        return "a second Hello"
      default:
        return absurd(decoded)
    }
  }

  /** One Pong a read, for its last Ping: a flood of pings that reads nothing must not fill our socket with answers. */
  const answerPing = () => {
    if (pinged === undefined) return
    const pong = { _tag: "Pong", nonce: pinged, received: session.link.receivedCount } as const
    pinged = undefined
    session.link.sendNow(Wayleave1.toRunner.encode(pong))
  }

  const settle = ({ refused, ended }: Relayed): number => {
    for (const route of ended) endStream(streams, route)
    let offences = 0
    for (const { answer, reason } of refused) {
      switch (reason) {
        case "Unknown":
          offences++
          reset(answer.route, "unknown_route")
          break
        case "Foreign":
          offences++
          break
        case "Late":
          break
        default:
          absurd(reason)
      }
    }
    return offences
  }

  const complain = (kind: string, now: number) => {
    const count = options.complaints.note(kind, now)
    return count === 0 ? Effect.void : Effect.logWarning(`runner sent ${kind}`, { runner: session.name, times: count })
  }

  const conclude = (relayed: Relayed, faults: ReadonlyArray<string>, now: number): Effect.Effect<Judgement> => {
    const offences = settle(relayed) + faults.length
    for (const route of relayed.broken) reset(route, "publish_failed")
    if (offences === 0 && relayed.broken.length === 0) return Effect.succeed(undefined)
    if (faults.length > 0) HubMetrics.messagesUndecodable.updateUnsafe(faults.length, context)
    const judgement = offences > 0 && options.abuse.note(offences, now) ? ("abuse" as const) : undefined
    const kinds = [...faults, ...relayed.refused.filter((r) => r.reason !== "Late").map((r) => kindOf[r.reason])]
    return Effect.forEach(new Set(kinds), (kind) => complain(kind, now), { discard: true }).pipe(
      Effect.andThen(relayed.broken.length > 0 ? options.onBroken(session, relayed.broken) : Effect.void),
      Effect.as(judgement)
    )
  }

  /** An undecodable Frames message was numbered by its sender all the same. */
  const countReceived = (batch: ReadonlyArray<SocketMessage>) => {
    for (const { binary, data } of batch) if (binary && data[0] === framesTag) session.link.onReceived(data.length)
  }

  /** The frames leave at once; that the bus confirms the ends among them must not hold up what the runner sends next. */
  const confirmLater = (work: Effect.Effect<Judgement>, batch: ReadonlyArray<SocketMessage>) =>
    Effect.flatMap(Effect.forkIn(work, options.scope, atOnce), (fiber): Effect.Effect<Judgement> => {
      countReceived(batch)
      const exit = fiber.pollUnsafe()
      if (exit !== undefined) return exit
      unconfirmed.add(fiber)
      fiber.addObserver((exit) => {
        unconfirmed.delete(fiber)
        if (exit._tag === "Success") judged ??= exit.value
      })
      if (unconfirmed.size < limits.relaysUnconfirmedMax) return Effect.succeed(judged)
      const [oldest = fiber] = unconfirmed
      return Effect.map(Fiber.await(oldest), () => judged)
    })

  const reader: UplinkReader = {
    // Not interrupted midway: what was relayed is counted as received, or the runner would repeat it.
    read: (batch) =>
      Effect.uninterruptible(
        Clock.clockWith((clock) => {
          heartbeat.heard()
          const envelopes: Array<Uplink> = []
          const faults: Array<string> = []
          for (const message of batch) {
            const fault = read(message, envelopes)
            if (fault !== undefined) faults.push(fault)
          }
          answerPing()
          const now = clock.currentTimeMillisUnsafe()
          const work = Effect.flatMap(options.relay(claimant, envelopes), (relayed) => conclude(relayed, faults, now))
          if (envelopes.some(isLastWord)) return confirmLater(work, batch)
          return Effect.map(work, (judgement) => {
            countReceived(batch)
            return judgement ?? judged
          })
        })
      ),
    settled: Effect.suspend(() => Effect.asVoid(Fiber.awaitAll([...unconfirmed])))
  }
  return reader
})

const kindOf = {
  Unknown: "a frame for a route nobody holds",
  Foreign: "a frame for a route of another session",
  Late: "a late frame"
} as const
