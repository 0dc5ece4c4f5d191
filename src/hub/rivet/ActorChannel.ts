/**
 * What a Rivet runner and its hub say to each other beside streams: events and their acks, commands that were taken, requests to actors' stores, the
 * runner's leave, proofs of life.
 */
import { Effect } from "effect"
import type { ActorControl } from "../../actor/ActorControl.ts"
import type { ActorUplink, Checkpoint, NumberedEvent } from "../../actor/ActorMessage.ts"
import { absurd } from "../../tunnel/Frame.ts"
import type { RivetHost } from "./LastingSockets.ts"
import type { StoreRequest } from "./StoreRequests.ts"

/** What a channel has to know of its connection. */
export interface ActorChannelOptions {
  readonly host: RivetHost
  readonly mark: 1 | 2
  readonly control: ActorControl["Service"]
  /** Welcomes the runner once more. */
  readonly welcome: () => void
}

/** Handles one message. */
export type HandleActorMessage = (message: ActorUplink) => Effect.Effect<void>

/** The channel of one connection. */
export const makeActorChannel = (options: ActorChannelOptions): HandleActorMessage => {
  const { control } = options
  const { peer, session } = options.host

  const acknowledge = (events: ReadonlyArray<NumberedEvent>, upTo: ReadonlyArray<Checkpoint>) => {
    if (options.mark === 2) {
      if (upTo.length > 0) peer.wire.say({ _tag: "EventsSeen", upTo })
      return
    }
    for (const { checkpoint } of events) {
      if (checkpoint.index > peer.lastEventIndex) peer.lastEventIndex = checkpoint.index
    }
    if (events.length > 0) peer.wire.say({ _tag: "EventsSeenUpTo", index: peer.lastEventIndex })
  }

  /** Whether the runner may ask is decided as the request comes in: one that it sent before its actor's last word is still the actor's. */
  const askStore = (asked: StoreRequest) => {
    switch (control.hostsUnsafe(session.id, asked.actorId)) {
      case null:
        return peer.stores.refuse(asked, "actor does not exist")
      case false:
        return peer.stores.refuse(asked, "actor does not belong to runner")
      case true:
        return peer.stores.ask(asked)
    }
  }

  return (message) => {
    switch (message._tag) {
      case "Events":
        return Effect.map(control.heard(session.id, message.events), (upTo) => acknowledge(message.events, upTo))
      case "CommandsDone":
        return control.acknowledged(session.id, message.upTo)
      case "CommandsDoneUpTo":
        return control.acknowledged(session.id, peer.numbers.seenUpTo(message.index))
      case "KvAsked":
        return Effect.sync(() => askStore(message))
      case "Stopping":
        session.leaving = true
        return control.draining(session.id)
      case "Introduction":
        // Said twice. Later versions take no notice; the earlier ones welcome again.
        return options.mark === 1 ? Effect.sync(options.welcome) : Effect.void
      case "RunnerPing":
        return Effect.void
      case "Pong":
        return Effect.sync(() => peer.wire.pong(message.atMs))
    }
    return absurd(message)
  }
}
