/**
 * The sessions of one hub: when one begins, is taken over by a newer connection, waits for its runner to return, and ends. Whatever dialect the
 * runner speaks: `Session.ts` has what differs.
 */
import { Deferred, Effect, Fiber } from "effect"
import type { CloseReason } from "../protocol/Wayleave1.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { SessionId, Uplink } from "../tunnel/Envelope.ts"
import { opensRoute } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { HandshakeRejected } from "./Handshake.ts"
import type { HubParts } from "./HubParts.ts"
import type { RunnerDirectory } from "./RunnerDirectory.ts"
import {
  type Connection,
  type ConnectionEnd,
  type ConnectionPlace,
  endStream,
  type Introduction,
  type Session
} from "./Session.ts"

/** The sessions of one hub and their connections. */
export interface SessionTable {
  /** Gives the introduced runner its session, new or resumed; the connection it had before has ended by then. */
  readonly enter: (introduction: Introduction, socket: MessageSocket) => Effect.Effect<Connection, HandshakeRejected>
  /** The connection is over: its session ends, or waits for the runner to return. */
  readonly leave: (connection: Connection, end: ConnectionEnd | undefined) => Effect.Effect<void>
  /** Ends every connection there is, for this reason. */
  readonly dismissAll: (reason: CloseReason) => Effect.Effect<void>
  readonly get: (id: SessionId) => Session | undefined
  readonly all: () => Iterable<Session>
  readonly size: () => number
}

/** An empty table. */
export const makeSessionTable = Effect.fnUntraced(function* (parts: HubParts, directory: RunnerDirectory) {
  const { routes, streams } = parts
  const scope = yield* Effect.scope
  const sessions = new Map<SessionId, Session>()
  const connections = new Map<SessionId, ConnectionPlace>()
  const graces = new Map<SessionId, Fiber.Fiber<void>>()

  /** Nothing is left to do for the session: nobody can answer its routes any more, and whoever waits for them is told. */
  const finish = Effect.fnUntraced(function* (session: Session) {
    if (sessions.get(session.id) === session) sessions.delete(session.id)
    graces.delete(session.id)
    const byGateway = new Map<number, Array<Uplink>>()
    for (const route of yield* routes.revoke(session.id)) {
      endStream(streams, route)
      const unsent = session.peer.withdraw(route).some(({ frame }) => opensRoute(frame))
      const { frame, index } = session.peer.farewell(route, unsent)
      const news = parts.uplink(session, route, index, frame)
      const others = byGateway.get(route.gatewayId)
      if (others === undefined) byGateway.set(route.gatewayId, [news])
      else others.push(news)
    }
    for (const [gatewayId, news] of byGateway) yield* parts.tellGateway(gatewayId, news)
    session.peer.finished()
  }, Effect.uninterruptible)

  /** The runner is gone for good. What it had said already still reaches whom it was for. */
  const end = Effect.fnUntraced(function* (session: Session) {
    yield* Effect.uninterruptible(Effect.andThen(directory.leave(session), session.peer.ended))
    yield* session.peer.drained
    yield* finish(session)
  })

  /** Ends the session after this time, unless its runner comes back. */
  const endAfter = Effect.fnUntraced(function* (session: Session, ms: number) {
    const wait = ms === 0 ? Effect.void : Effect.sleep(ms)
    const fiber = yield* Effect.andThen(wait, end(session)).pipe(Effect.forkIn(scope, { startImmediately: true }))
    if (sessions.get(session.id) === session) graces.set(session.id, fiber)
  })

  const stopGrace = (id: SessionId) =>
    Effect.suspend(() => {
      const fiber = graces.get(id)
      graces.delete(id)
      return fiber === undefined ? Effect.void : Fiber.interrupt(fiber)
    })

  /** Ends the connection a session has now, and waits until it can publish nothing more. */
  const dismiss = Effect.fnUntraced(function* (id: SessionId, reason: CloseReason) {
    for (let present = connections.get(id); present !== undefined; present = connections.get(id)) {
      yield* Deferred.succeed(present.dismissed, reason)
      yield* Deferred.await(present.ended)
    }
  })

  const release = (id: SessionId, place: ConnectionPlace) =>
    Effect.suspend(() => {
      if (connections.get(id) === place) connections.delete(id)
      return Deferred.succeed(place.ended, undefined)
    })

  const beginSession = (introduction: Introduction): Session => ({
    id: introduction.session,
    name: introduction.name,
    identity: introduction.identity,
    peer: introduction.makePeer(introduction.session),
    graceMs: introduction.graceMs,
    generation: 0,
    socket: undefined,
    openStreams: 0,
    leaving: false
  })

  const isSame = (session: Session, { dialect, identity, name }: Introduction) =>
    session.identity.id === identity.id && session.name === name && session.peer.dialect === dialect

  /** The session this runner goes on with, or null where it has to begin anew. */
  const resume = Effect.fnUntraced(function* (introduction: Introduction) {
    const present = sessions.get(introduction.session)
    if (present === undefined) return null
    if (!isSame(present, introduction)) {
      return yield* new HandshakeRejected({ reason: "forbidden", message: "the session belongs to somebody else" })
    }
    yield* stopGrace(present.id)
    // It may have ended just then.
    if (sessions.get(present.id) !== present) return null
    if (introduction.canResume(present.peer)) return present
    yield* end(present)
    return null
  })

  const begin = Effect.fnUntraced(function* (
    introduction: Introduction,
    socket: MessageSocket,
    place: ConnectionPlace
  ) {
    const resumed = yield* resume(introduction)
    if (resumed === null && sessions.size >= limits.sessionsMax) {
      return yield* new HandshakeRejected({ reason: "overloaded", message: "the hub takes no more sessions" })
    }
    const session = resumed ?? beginSession(introduction)
    sessions.set(session.id, session)
    session.generation++
    session.socket = socket
    const connection: Connection = { session, socket, generation: session.generation, place }
    yield* routes.adopt({ session: session.id, generation: session.generation })
    yield* directory.join(session)
    introduction.welcome(session, resumed !== null)
    return connection
  })

  return {
    enter: Effect.fnUntraced(function* (introduction, socket) {
      yield* dismiss(introduction.session, "fenced")
      // Taken before the next wait: a third connection of this session has to dismiss this one first.
      const place: ConnectionPlace = { dismissed: Deferred.makeUnsafe(), ended: Deferred.makeUnsafe() }
      connections.set(introduction.session, place)
      return yield* begin(introduction, socket, place).pipe(Effect.onError(() => release(introduction.session, place)))
    }),
    leave: Effect.fnUntraced(function* (connection, how) {
      const { session, socket } = connection
      session.peer.detach(socket)
      if (session.socket === socket) session.socket = undefined
      // A runner that closed in the ordinary way, or was leaving with nothing open, does not come back; one that broke off may.
      const done = session.leaving && session.openStreams === 0
      const left = how?._tag === "Gone" && (done || how.code === 1000)
      const isOver = left || (how?._tag === "Closed" && how.reason === "abuse")
      if (sessions.get(session.id) === session) yield* endAfter(session, isOver ? 0 : session.graceMs)
      yield* release(session.id, connection.place)
    }),
    dismissAll: Effect.fnUntraced(function* (reason) {
      for (const id of [...connections.keys()]) yield* dismiss(id, reason)
    }),
    get: (id) => sessions.get(id),
    all: () => sessions.values(),
    size: () => sessions.size
  } satisfies SessionTable
})
