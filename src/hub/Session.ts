/**
 * A runner as the hub knows it beyond one socket: its name, its open streams, and the peer through which it is spoken to, whatever its dialect.
 * Plain state; `SessionTable.ts` decides when a session begins, is taken over by a newer connection, and ends.
 */
import type { Deferred, Effect } from "effect"
import type { Identity } from "../auth/Authenticator.ts"
import type { CloseReason, DownFrame, Outcome } from "../protocol/Wayleave1.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { MovedStream, RouteKey, SessionId } from "../tunnel/Envelope.ts"
import type { AbortCode, ResponseFrame } from "../tunnel/Frame.ts"
import type { RouteMap } from "../tunnel/RouteMap.ts"

/** A frame in a hub's or its runner's name, with its place in the order of its stream. */
export interface IndexedFrame {
  readonly index: number
  readonly frame: ResponseFrame
}

/** A frame for a runner. `actor` is empty where none is meant. */
export interface ActorDownFrame extends DownFrame {
  readonly actor: string
}

/** What a hub says to one runner, in the runner's dialect: `WayleavePeer.ts`, `rivet/RivetPeer.ts`. Synchronous; outlives its sockets. */
export interface Peer {
  readonly dialect: "wayleave.1" | "rivet"
  /**
   * Nobody can tell it that its hub goes away, or that a route is over: after a restart of the hub it speaks on all those of before, in good faith, and
   * that is no abuse.
   */
  readonly goesOnUntold: boolean
  /** Queues a frame. `false`: the queue is at its wall and the frame was not taken. */
  readonly send: (frame: ActorDownFrame) => boolean
  /** Takes the queued frames of a stream out again and returns them: nobody waits for it any more. */
  readonly withdraw: (route: RouteKey) => ReadonlyArray<DownFrame>
  /** The runner holds no route for this stream, or the stream was given up. */
  readonly reset: (route: RouteKey, code: AbortCode) => void
  /** Nothing new will come; the runner is to connect elsewhere. */
  readonly goAway: (reason: string) => void
  readonly detach: (socket: MessageSocket) => void
  /** Whether nothing waits for the socket any more. */
  readonly flushed: () => boolean
  /** The session ends, unless its runner comes back all the same: nothing more is to come from it. */
  readonly ended: Effect.Effect<void>
  /** Waits until what had come from the runner is passed on, for as long as that may take. */
  readonly drained: Effect.Effect<void>
  /** The last frame of a stream that is open all the same. `unsent`: the runner never saw it. */
  readonly farewell: (route: RouteKey, unsent: boolean) => IndexedFrame
  /** Nothing of the session is left. */
  readonly finished: () => void
}

/** A runner as its hub knows it, whatever becomes of its sockets. Owned by the hub's one loop: changed in place, never shared. */
export interface Session {
  readonly id: SessionId
  readonly name: string
  readonly identity: Identity
  readonly peer: Peer
  /** How long it is kept after its socket is lost. */
  readonly graceMs: number
  /** Counts connections, those to other hubs included: only the newest speaks for the session. */
  generation: number
  /** The newest connection's socket, unless it is lost and the grace period runs. */
  socket: MessageSocket | undefined
  /** Streams issued to this session and not yet ended. */
  openStreams: number
  /** The runner said that it is leaving: it gets nothing new. */
  leaving: boolean
}

/** How a connection ended: we closed it for a reason, or the other side was gone, with this close code. */
export type ConnectionEnd =
  | { readonly _tag: "Closed"; readonly reason: CloseReason }
  | { readonly _tag: "Gone"; readonly code: number }

/** The place of a session's present connection, as a newer one finds it. */
export interface ConnectionPlace {
  /** Which dial of its session it is; 0 where they are not counted. */
  readonly dialled: number
  /** The number of its socket among all that the hub has accepted. */
  readonly arrival: number
  /** Completed to end the connection from outside. */
  readonly dismissed: Deferred.Deferred<CloseReason>
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

/** A runner that said who it is and was believed, with all that its dialect knows of the conversation to come. */
export interface Introduction {
  readonly session: SessionId
  readonly name: string
  readonly identity: Identity
  readonly dialect: Peer["dialect"]
  readonly graceMs: number
  /** Which dial of its session this is; 0 where the dialect does not count them, and the session cannot move. */
  readonly connection: number
  /** The runner's last hub was another. */
  readonly elsewhere: boolean
  /** Streams that are to go on where this hub does not know the session. */
  readonly streams: ReadonlyArray<MovedStream>
  /** The peer of a session that begins. */
  readonly makePeer: (id: SessionId) => Peer
  /** Whether the peer of a session that is there can go on over this connection. */
  readonly canResume: (peer: Peer) => boolean
  /** Welcomes the runner, and gives the session's peer this socket. */
  readonly welcome: (session: Session, outcome: Outcome) => void
  /** Serves until the connection ends. */
  readonly serve: (connection: Connection) => Effect.Effect<ConnectionEnd>
}

/** Open streams of a hub and whose they are: how a frame from a gateway finds its runner. */
export type Streams = RouteMap<Session>

/** Notes a stream as given to `session`. */
export const openStream = (streams: Streams, route: RouteKey, session: Session): void => {
  streams.set(route, session)
  session.openStreams++
}

/** Notes a stream as ended, whoever ended it. Ending one twice changes nothing. */
export const endStream = (streams: Streams, route: RouteKey): Session | undefined => {
  const session = streams.delete(route)
  if (session !== undefined) session.openStreams--
  return session
}
