/**
 * One runner's socket, from Welcome to its end: reads it as a Stream of arrays, keeps the heartbeat, and says why it ended. What is written is
 * the session's link's business, so that it survives this socket. Next: `Uplink.ts`.
 */
import { Deferred, Effect, Stream } from "effect"
import * as Heartbeat from "../protocol/Heartbeat.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { MessageSocket, SocketClosed } from "../socket/MessageSocket.ts"
import type { Session } from "./Session.ts"
import { makeUplinkReader, type UplinkOptions } from "./Uplink.ts"

/** How a connection ended: we closed it for a reason, or the other side was gone, with this close code. */
export type ConnectionEnd =
  | { readonly _tag: "Closed"; readonly reason: Wayleave1.CloseReason }
  | { readonly _tag: "Gone"; readonly code: number }

/** The place of a session's present connection, as a newer one finds it. */
export interface ConnectionPlace {
  /** Completed to end the connection from outside. */
  readonly dismissed: Deferred.Deferred<Wayleave1.CloseReason>
  /** Completed when it has ended and can publish nothing more. */
  readonly ended: Deferred.Deferred<void>
}

/** One connection of a session. */
export interface Connection {
  readonly session: Session
  readonly socket: MessageSocket
  readonly generation: number
  readonly place: ConnectionPlace
}

/** All that one connection needs of its hub. */
export interface ConnectionOptions extends Omit<UplinkOptions, "session" | "generation" | "socket" | "heartbeat"> {
  readonly heartbeatMs: number
  readonly heartbeatDeadlineMs: number
}

/** Serves until the socket closes, the heartbeat fails, the runner is judged, or somebody dismisses the connection. */
export const serveConnection = Effect.fnUntraced(function* (connection: Connection, options: ConnectionOptions) {
  const { session, socket } = connection
  const heartbeat = yield* Heartbeat.make({
    heartbeatMs: options.heartbeatMs,
    heartbeatDeadlineMs: options.heartbeatDeadlineMs,
    ping: (nonce) =>
      session.link.sendNow(Wayleave1.toRunner.encode({ _tag: "Ping", nonce, received: session.link.receivedCount }))
  })
  const uplink = yield* makeUplinkReader({ ...options, session, socket, generation: connection.generation, heartbeat })
  const judged = yield* Deferred.make<Wayleave1.CloseReason>()

  const reading = socket.messages.pipe(
    Stream.runForEachArray((batch) =>
      Effect.flatMap(uplink.read(batch), (judgement) =>
        // Waits to be interrupted: not one frame more is read from a runner that was judged.
        judgement === undefined ? Effect.void : Effect.andThen(Deferred.succeed(judged, judgement), Effect.never)
      )
    ),
    Effect.match({
      onSuccess: (): ConnectionEnd => ({ _tag: "Gone", code: 1000 }),
      onFailure: (closed: SocketClosed): ConnectionEnd => ({ _tag: "Gone", code: closed.code })
    })
  )
  const closed = (reason: Wayleave1.CloseReason): ConnectionEnd => ({ _tag: "Closed", reason })
  const end = yield* Effect.raceAllFirst([
    reading,
    heartbeat.run.pipe(Effect.catchTag("HeartbeatTimeout", () => Effect.succeed(closed("heartbeat_timeout")))),
    Effect.map(Deferred.await(judged), closed),
    Effect.map(Deferred.await(connection.place.dismissed), closed)
  ])
  yield* uplink.settled
  return end
})
