/**
 * From a runner that speaks `wayleave.1` to the house: bytes to messages, every variant matched, response frames handed to the Relay in one batch
 * per read. What a runner says wrong costs the message or the stream; only sustained abuse costs the connection. Next: `Relay.ts`, `Judge.ts`.
 */
import { Effect, Fiber, type Scope } from "effect"
import type { Heartbeat } from "../protocol/Heartbeat.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { SocketMessage } from "../socket/MessageSocket.ts"
import { isLastWord, type Uplink } from "../tunnel/Envelope.ts"
import { absurd, type ResponseFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import type { Judge, Judgement } from "./Judge.ts"
import type { Session } from "./Session.ts"
import type { WayleavePeer } from "./WayleavePeer.ts"

/** What a reader has to know of the connection it reads. */
export interface UplinkOptions {
  readonly session: Session
  readonly peer: WayleavePeer
  readonly generation: number
  readonly heartbeat: Heartbeat
  readonly judge: Judge
  /** The hub's own: what waits for the bus outlives the connection. */
  readonly scope: Scope.Scope
}

const framesTag = 1

/** Reads one connection. */
export interface UplinkReader {
  /** Deals with everything one read brought: what is relayed is on its way in order when this succeeds, its ends may still wait for the bus. */
  readonly read: (batch: ReadonlyArray<SocketMessage>) => Effect.Effect<Judgement>
  /** Waits until no end waits any more: from then on this connection publishes nothing. */
  readonly settled: Effect.Effect<void>
}

/** A runner that speaks `wayleave.1` cannot be woken: its WebSockets end with it, whatever it says when it accepts them. */
const wakeful = (frame: ResponseFrame): ResponseFrame =>
  frame._tag === "WebSocketOpen" && frame.canHibernate ? { ...frame, canHibernate: false } : frame

const atOnce = { startImmediately: true } as const

/** Reads one connection: decodes each batch, matches every variant, and relays the frames among them. */
export const makeUplinkReader = (parts: HubParts, options: UplinkOptions) => {
  const { heartbeat, session } = options
  const { link } = options.peer
  const claimant = { session: session.id, generation: options.generation }
  const unconfirmed = new Set<Fiber.Fiber<Judgement>>()
  let judged: Judgement
  let pinged: number | undefined

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
        link.acknowledged(decoded.received)
        for (const { route, index, frame } of decoded.frames) {
          envelopes.push(parts.uplink(session, route, index, wakeful(frame)))
        }
        return undefined
      case "Ping":
        link.acknowledged(decoded.received)
        pinged = decoded.nonce
        return undefined
      case "Pong":
        link.acknowledged(decoded.received)
        heartbeat.pong(decoded.nonce)
        return undefined
      case "Ack":
        link.acknowledged(decoded.received)
        return undefined
      case "GoAway":
        parts.onLeaving(session)
        return undefined
      case "Hello":
        return "a second Hello"
    }
    return absurd(decoded)
  }

  /** One Pong a read, for its last Ping: a flood of pings that reads nothing must not fill our socket with answers. */
  const answerPing = () => {
    if (pinged === undefined) return
    const pong = { _tag: "Pong", nonce: pinged, received: link.receivedCount } as const
    pinged = undefined
    link.sendNow(Wayleave1.toRunner.encode(pong))
  }

  /** An undecodable Frames message was numbered by its sender all the same. */
  const countReceived = (batch: ReadonlyArray<SocketMessage>) => {
    for (const { binary, data } of batch) if (binary && data[0] === framesTag) link.onReceived(data.length)
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
        Effect.suspend(() => {
          heartbeat.heard()
          const envelopes: Array<Uplink> = []
          const faults: Array<string> = []
          for (const message of batch) {
            const fault = read(message, envelopes)
            if (fault !== undefined) faults.push(fault)
          }
          answerPing()
          const work = Effect.flatMap(parts.relay(claimant, envelopes), (relayed) => options.judge(relayed, faults))
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
}
