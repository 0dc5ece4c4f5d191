/**
 * What a Rivet runner and its hub say to each other beside streams: events and their acks, commands that were taken, requests to actors' stores. Stores are
 * asked beside the reading, in order for each actor, so that a slow disk holds up nothing but its own actor.
 */
import { Effect } from "effect"
import type { ActorControl } from "../../actor/ActorControl.ts"
import type { ActorKv } from "../../actor/ActorKv.ts"
import type { ActorUplink, Checkpoint, KvRequest, KvResponse, NumberedEvent } from "../../actor/ActorMessage.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { HubParts } from "../HubParts.ts"
import type { Session } from "../Session.ts"
import type { CommandNumbers } from "./CommandNumbers.ts"
import type { RivetPeer } from "./RivetPeer.ts"

/** What a channel has to know of its connection. */
export interface ActorChannelOptions {
  readonly session: Session
  readonly peer: RivetPeer
  readonly numbers: CommandNumbers
  readonly mark: 1 | 2
  readonly control: ActorControl["Service"]
  readonly kv: ActorKv["Service"]
  /** Welcomes the runner once more. */
  readonly welcome: () => void
}

interface Asked {
  readonly requestId: number
  readonly request: KvRequest
}

const failed = (message: string): KvResponse => ({ _tag: "Failed", message })

/** Handles one message; returns what is wrong with it, if anything. */
export type HandleActorMessage = (message: ActorUplink) => Effect.Effect<string | undefined>

/** The channel of one session, over whatever connection it has. */
export const makeActorChannel = (parts: HubParts, options: ActorChannelOptions): HandleActorMessage => {
  const { control, kv, numbers, peer, session } = options
  const queues = new Map<string, Fifo<Asked>>()
  let asked = 0

  const answer = (requestId: number, response: KvResponse) => {
    peer.say({ _tag: "KvAnswered", requestId, response })
  }

  const ask = (actorId: string, request: KvRequest): Effect.Effect<KvResponse> =>
    Effect.suspend(() => {
      switch (control.hostsUnsafe(session.id, actorId)) {
        case null:
          return Effect.succeed(failed("actor does not exist"))
        case false:
          return Effect.succeed(failed("actor does not belong to runner"))
        case true:
          return Effect.catchTag(kv.ask(actorId, request), "ActorKvError", (error) =>
            Effect.as(Effect.logError("the store of actors failed", error), failed("the store failed"))
          )
      }
    })

  const drain = Effect.fnUntraced(function* (actorId: string, queue: Fifo<Asked>) {
    for (let next = queue.peek(); next !== undefined; next = queue.peek()) {
      answer(next.requestId, yield* ask(actorId, next.request))
      queue.shift()
      asked--
    }
    queues.delete(actorId)
  })

  const enqueue = (actorId: string, request: Asked) => {
    if (asked >= limits.kvRequestsMax)
      return answer(request.requestId, failed("too many requests wait for their answer"))
    asked++
    const queue = queues.get(actorId)
    if (queue !== undefined) return queue.push(request)
    const started = new Fifo<Asked>()
    started.push(request)
    queues.set(actorId, started)
    parts.runFork(drain(actorId, started))
  }

  const acknowledge = (events: ReadonlyArray<NumberedEvent>, upTo: ReadonlyArray<Checkpoint>) => {
    const last = events.at(-1)
    if (options.mark === 1) {
      if (last === undefined) return
      if (last.checkpoint.index > peer.lastEventIndex) peer.lastEventIndex = last.checkpoint.index
      peer.say({ _tag: "EventsSeenUpTo", index: peer.lastEventIndex })
      return
    }
    if (upTo.length > 0) peer.say({ _tag: "EventsSeen", upTo })
  }

  return (message) => {
    switch (message._tag) {
      case "Events":
        return Effect.map(control.heard(session.id, message.events), (upTo) => {
          acknowledge(message.events, upTo)
          return undefined
        })
      case "CommandsDone":
        return Effect.as(control.acknowledged(session.id, message.upTo), undefined)
      case "CommandsDoneUpTo":
        return Effect.as(control.acknowledged(session.id, numbers.seenUpTo(message.index)), undefined)
      case "KvAsked":
        enqueue(message.actorId, message)
        return Effect.succeed(undefined)
      case "Stopping":
        session.leaving = true
        return Effect.as(control.draining(session.id), undefined)
      case "Introduction":
        // Said twice. Later versions take no notice; the earlier ones welcome again.
        if (options.mark === 1) options.welcome()
        return Effect.succeed(undefined)
      case "RunnerPing":
        return Effect.succeed(undefined)
      case "Pong":
        peer.pong()
        return Effect.succeed(undefined)
      default:
        return absurd(message)
    }
  }
}
