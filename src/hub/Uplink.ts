/**
 * From a runner that speaks `wayleave.1` to the house: bytes to messages, every variant matched, response frames handed to the Relay in one batch
 * per read. What a runner says wrong costs the message or the stream; only sustained abuse costs the connection. Next: `Relay.ts`, `Judge.ts`.
 */
import { Effect } from "effect"
import type { Heartbeat } from "../protocol/Heartbeat.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { SocketMessage } from "../socket/MessageSocket.ts"
import type { Uplink } from "../tunnel/Envelope.ts"
import { absurd } from "../tunnel/Frame.ts"
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
}

const framesTag = 1

/** Reads one connection: decodes each batch, matches every variant, and relays the frames among them. */
export const makeUplinkReader = (parts: HubParts, options: UplinkOptions) => {
  const { heartbeat, session } = options
  const { link } = options.peer
  const claimant = { session: session.id, generation: options.generation }
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
          envelopes.push(parts.uplink(session, route, index, frame))
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
      default:
        return absurd(decoded)
    }
  }

  /** One Pong a read, for its last Ping: a flood of pings that reads nothing must not fill our socket with answers. */
  const answerPing = () => {
    if (pinged === undefined) return
    const pong = { _tag: "Pong", nonce: pinged, received: link.receivedCount } as const
    pinged = undefined
    link.sendNow(Wayleave1.toRunner.encode(pong))
  }

  /** Deals with everything one read brought. Not interrupted midway: what was relayed is counted as received, or the runner would repeat it. */
  return (batch: ReadonlyArray<SocketMessage>): Effect.Effect<Judgement> =>
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
        return Effect.flatMap(parts.relay(claimant, envelopes), (relayed) => {
          // An undecodable Frames message was numbered by its sender all the same.
          for (const { binary, data } of batch) {
            if (binary && data[0] === framesTag) link.onReceived(data.length)
          }
          return options.judge(relayed, faults)
        })
      })
    )
}
