/**
 * One runner's socket, from Welcome to its end: reads it as a Stream of arrays, keeps the heartbeat, and says why it ended. What is written is
 * the session's link's business, so that it survives this socket. Next: `Uplink.ts`.
 */
import { Deferred, Effect, Stream } from "effect"
import * as Heartbeat from "../protocol/Heartbeat.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { MessageSocket, SocketClosed, SocketMessage } from "../socket/MessageSocket.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import { type Judgement, makeJudge } from "./Judge.ts"
import type { Connection, ConnectionEnd } from "./Session.ts"
import { makeUplinkReader } from "./Uplink.ts"
import type { WayleavePeer } from "./WayleavePeer.ts"

/** We close it, for this reason. */
export const closed = (reason: Wayleave1.CloseReason): ConnectionEnd => ({ _tag: "Closed", reason })

/** Reads the socket batch by batch until it closes, or `read` judges its runner: then not one frame more is read. */
export const readUntilEnd = (
  socket: MessageSocket,
  read: (batch: ReadonlyArray<SocketMessage>) => Effect.Effect<Judgement>
): Effect.Effect<ConnectionEnd> =>
  Effect.suspend(() => {
    const judged = Deferred.makeUnsafe<Wayleave1.CloseReason>()
    const reading = socket.messages.pipe(
      Stream.runForEachArray((batch) =>
        Effect.flatMap(read(batch), (judgement) =>
          // Waits to be interrupted.
          judgement === undefined ? Effect.void : Effect.andThen(Deferred.succeed(judged, judgement), Effect.never)
        )
      ),
      Effect.match({
        onSuccess: (): ConnectionEnd => ({ _tag: "Gone", code: 1000 }),
        onFailure: (gone: SocketClosed): ConnectionEnd => ({ _tag: "Gone", code: gone.code })
      })
    )
    return Effect.raceFirst(reading, Effect.map(Deferred.await(judged), closed))
  })

/** Serves until the socket closes, the heartbeat fails, the runner is judged, or somebody dismisses the connection. */
export const serveConnection = Effect.fnUntraced(function* (
  parts: HubParts,
  { generation, place, session, socket }: Connection,
  peer: WayleavePeer
) {
  const heartbeat = yield* Heartbeat.make({
    heartbeatMs: parts.options.heartbeatMs ?? limits.heartbeatMs,
    heartbeatDeadlineMs: parts.options.heartbeatDeadlineMs ?? limits.heartbeatDeadlineMs,
    ping: (nonce) =>
      peer.link.sendNow(Wayleave1.toRunner.encode({ _tag: "Ping", nonce, received: peer.link.receivedCount }))
  })
  const judge = yield* makeJudge(parts, session, parts.makeAbuseMeter())
  const uplink = makeUplinkReader(parts, { session, peer, generation, heartbeat, judge, scope: parts.scope })
  const end = yield* Effect.raceAllFirst([
    readUntilEnd(socket, uplink.read),
    heartbeat.run.pipe(Effect.catchTag("HeartbeatTimeout", () => Effect.succeed(closed("heartbeat_timeout")))),
    Effect.map(Deferred.await(place.dismissed), closed)
  ])
  if (end._tag === "Closed") {
    const { code, means } = Wayleave1.closeCodes[end.reason]
    socket.closeUnsafe(code, means)
  }
  yield* uplink.settled
  return end
})
