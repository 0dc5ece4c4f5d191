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
import type { Session } from "../Session.ts"
import type { RivetPeer } from "./RivetPeer.ts"
import { putsToSleep, type RivetStream } from "./RivetStream.ts"

/** One stream's share of a batch, and a batch: then others get a turn. */
const framesPerTurn = 8
const batchBytes = 16 * limits.chunkBytesMax

/** Runs until the session is over. `onAsleep` is told of each WebSocket before its gateway is. */
export const runPump = Effect.fnUntraced(function* (
  parts: HubParts,
  session: Session,
  peer: RivetPeer,
  onAsleep: (stream: RivetStream) => void
) {
  const judge = yield* makeJudge(parts, session, parts.makeAbuseMeter())

  const work = Effect.callback<void>((resume) => {
    peer.onWork = () => {
      peer.onWork = () => {}
      resume(Effect.void)
    }
    if (peer.hasWork) peer.onWork()
  })

  const gather = (): ReadonlyArray<Uplink> => {
    const batch: Array<Uplink> = []
    let bytes = 0
    for (let stream = peer.nextInLine(); stream !== undefined; stream = peer.nextInLine()) {
      for (let frames = 0; ; frames++) {
        if (frames === framesPerTurn) {
          peer.enlist(stream)
          break
        }
        const next = stream.take()
        if (next === undefined) break
        if (putsToSleep(next.frame)) onAsleep(stream)
        batch.push(parts.uplink(session, stream.route, next.index, next.frame))
        bytes += weightBytes(next.frame)
      }
      if (bytes >= batchBytes) break
    }
    return batch
  }

  const publish = Effect.suspend(() => {
    const batch = gather()
    if (batch.length === 0) return Effect.void
    return Effect.flatMap(parts.relay({ session: session.id, generation: session.generation }, batch), (relayed) => {
      for (const route of relayed.ended) peer.forget(route)
      for (const { answer } of relayed.refused) peer.forget(answer.route)
      return Effect.asVoid(judge(relayed, []))
    })
  })

  while (!peer.over) {
    for (let job = peer.jobs.shift(); job !== undefined; job = peer.jobs.shift()) yield* job
    yield* publish
    yield* work
  }
})
