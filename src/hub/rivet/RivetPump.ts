/**
 * Publishes what a Rivet runner answered as its gateways will take it: one fiber per session, beside the one that reads the socket, so that a slow
 * visitor never stops the reading. Everything it publishes passes the Relay like any other answer.
 */
import { Effect } from "effect"
import type { Uplink } from "../../tunnel/Envelope.ts"
import { weightBytes } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { HubParts } from "../HubParts.ts"
import { makeJudge } from "../Judge.ts"
import type { Relayed } from "../Relay.ts"
import type { LastingSockets, RivetHost } from "./LastingSockets.ts"
import type { RivetPeer } from "./RivetPeer.ts"
import type { RivetStream } from "./RivetStream.ts"

/** One stream's share of a batch, and a batch: then others get a turn. */
const framesPerTurn = 8
const framesPerBatch = 256
const batchBytes = 16 * limits.chunkBytesMax

/** Waits until the peer has something to do. */
const awaitWork = (peer: RivetPeer): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    if (peer.hasWork) return resume(Effect.void)
    peer.onWork = () => {
      peer.onWork = () => {}
      resume(Effect.void)
    }
  })

/** What may leave now, of streams in turn. */
const gather = (parts: HubParts, { peer, session }: RivetHost): ReadonlyArray<Uplink> => {
  const batch: Array<Uplink> = []
  for (const { frame, route } of peer.strays.takeRefused()) {
    // It may have been attached just then, after all.
    if (parts.streams.get(route) === session) peer.take(route, frame)
    else batch.push(parts.uplink(session, route, 0, frame))
  }
  const share = (stream: RivetStream): number => {
    let bytes = 0
    for (let frames = 0; frames < framesPerTurn; frames++) {
      const next = stream.take()
      if (next === undefined) return bytes
      batch.push(parts.uplink(session, stream.route, next.index, next.frame))
      bytes += weightBytes(next.frame)
    }
    peer.enlist(stream)
    return bytes
  }
  let bytes = 0
  while (bytes < batchBytes && batch.length < framesPerBatch) {
    const stream = peer.nextInLine()
    if (stream === undefined) break
    bytes += share(stream)
  }
  return batch
}

/** Runs until nothing of the session is left. */
export const runPump = Effect.fnUntraced(function* (parts: HubParts, lasting: LastingSockets, host: RivetHost) {
  const { peer, session } = host
  const judge = yield* makeJudge(parts, session, parts.makeAbuseMeter())

  const settle = Effect.fnUntraced(function* (relayed: Relayed) {
    yield* judge(relayed, [])
    for (const route of relayed.ended) {
      const stream = peer.streams.get(route)
      if (stream?.parked === true) yield* lasting.fellAsleep(host, stream)
      else if (stream !== undefined) peer.forget(stream)
    }
  })

  const publish = Effect.suspend(() => {
    const batch = gather(parts, host)
    if (batch.length === 0) return Effect.void
    return Effect.flatMap(parts.relay({ session: session.id, generation: session.generation }, batch), settle)
  })

  while (!peer.gone) {
    yield* Effect.catchCause(publish, (cause) => Effect.logError("a batch of answers was not published", cause))
    yield* awaitWork(peer)
  }
})
