/**
 * The hub: takes runners in, owns their sessions and routes, and passes frames between them and the gateways.
 */
import { Context, type Effect, type Option, type Redacted } from "effect"
import type { MessageSocket } from "../socket/MessageSocket.ts"

/** What the handshake told of a runner that connects. */
export interface RunnerPeer {
  readonly token: Option.Option<Redacted.Redacted<string>>
  readonly remoteAddress: string
}

export class Hub extends Context.Service<
  Hub,
  {
    /** Serves one runner's socket until it ends; interruption closes it. Never fails: what a runner does wrong costs the runner. */
    readonly accept: (socket: MessageSocket, peer: RunnerPeer) => Effect.Effect<void>
    /** Takes no new runners, tells those here to go elsewhere, and waits until their streams are done. */
    readonly drain: Effect.Effect<void>
  }
>()("wayleave/hub/Hub") {}
