/**
 * A runner as the hub knows it beyond one socket: its name, its open streams, and the link that goes on where a lost socket stopped. Plain
 * state; `Hub.ts` decides when a session begins, is taken over by a newer connection, and ends.
 */
import type { Identity } from "../auth/Authenticator.ts"
import type { Link } from "../protocol/Link.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { RouteKey, SessionId } from "../tunnel/Envelope.ts"
import type { RequestFrame } from "../tunnel/Frame.ts"
import type { RouteMap } from "../tunnel/RouteMap.ts"

/** A runner as its hub knows it, whatever becomes of its sockets. Owned by the hub's one loop: changed in place, never shared. */
export interface Session {
  readonly id: SessionId
  readonly name: string
  readonly identity: Identity
  readonly link: Link<RequestFrame>
  /** Counts connections: only the newest speaks for the session. */
  generation: number
  /** The newest connection's socket, unless it is lost and the grace period runs. */
  socket: MessageSocket | undefined
  /** Streams issued to this session and not yet ended. */
  openStreams: number
  /** The runner said GoAway: it gets nothing new. */
  leaving: boolean
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
