/**
 * The sessions of one hub: when one begins, is taken over by a newer connection, waits for its runner to return, and ends. Whatever dialect the
 * runner speaks: `Session.ts` has what differs.
 */
import { Deferred, Effect, Fiber } from "effect"
import type { CloseReason } from "../protocol/Wayleave1.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { Envelope, RouteKey, SessionId } from "../tunnel/Envelope.ts"
import { opensRoute } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { type Fencing, makeFencing } from "./Fencing.ts"
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
  /**
   * Gives the introduced runner its session, new or resumed; the connection it had before has ended by then. `arrival` counts the sockets that this hub
   * has accepted.
   */
  readonly enter: (
    introduction: Introduction,
    socket: MessageSocket,
    arrival: number
  ) => Effect.Effect<Connection, HandshakeRejected>
  /** The connection is over: its session ends, or waits for the runner to return. */
  readonly leave: (connection: Connection, end: ConnectionEnd | undefined) => Effect.Effect<void>
  /** Ends the connection that a session has, for this reason, and waits until it can publish nothing more. */
  readonly dismiss: (id: SessionId, reason: CloseReason) => Effect.Effect<void>
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
  /** Sessions being taken out: who comes back with the same id waits until that is done. */
  const endings = new Map<SessionId, Deferred.Deferred<void>>()

  const fencing: Fencing = yield* makeFencing(parts, (session, generation) => fence(session, generation))

  /**
   * Takes the session out, with its routes, and tells their gateways: `word` gives the news of one route, or undefined where it only moved, over a
   * connection of this generation. Its id is free again when this returns.
   */
  const takeOut = Effect.fnUntraced(function* (
    session: Session,
    word: (route: RouteKey) => Envelope | undefined,
    movedTo: number
  ) {
    if (sessions.get(session.id) !== session) return
    sessions.delete(session.id)
    graces.delete(session.id)
    const ended = Deferred.makeUnsafe<void>()
    endings.set(session.id, ended)
    yield* directory.leave(session)
    yield* fencing.leave(session)
    const news = new Map<number, { readonly words: Array<Envelope>; readonly moved: Array<RouteKey> }>()
    for (const route of yield* routes.revoke(session.id)) {
      endStream(streams, route)
      const ofGateway = news.get(route.gatewayId) ?? { words: [], moved: [] }
      news.set(route.gatewayId, ofGateway)
      const own = word(route)
      if (own === undefined) ofGateway.moved.push(route)
      else ofGateway.words.push(own)
    }
    for (const [gatewayId, { moved, words }] of news) {
      if (moved.length > 0) {
        words.push({ _tag: "SessionMoved", session: session.id, generation: movedTo, routes: moved })
      }
      yield* parts.tellGateway(gatewayId, words)
    }
    session.peer.finished()
    endings.delete(session.id)
    yield* Deferred.succeed(ended, undefined)
  }, Effect.uninterruptible)

  const farewell = (session: Session, route: RouteKey, unsent: boolean): Envelope => {
    const { frame, index } = session.peer.farewell(route, unsent)
    return parts.uplink(session, route, index, frame)
  }

  /** Whether the runner never saw the request: its opening frame is still here. */
  const withdraw = (session: Session, route: RouteKey): boolean =>
    session.peer.withdraw(route).some(({ frame }) => opensRoute(frame))

  /** The runner is gone for good. What it had said already still reaches whom it was for; then nobody can answer its routes, and whoever waits is told. */
  const end = Effect.fnUntraced(function* (session: Session) {
    yield* Effect.uninterruptible(Effect.andThen(directory.leave(session), session.peer.ended))
    yield* session.peer.drained
    yield* takeOut(session, (route) => farewell(session, route, withdraw(session, route)), 0)
  })

  /** The session is elsewhere now, and its streams with it, but for those that it never saw. */
  const forget = (session: Session, movedTo: number) =>
    Effect.suspend(() =>
      session.generation >= movedTo
        ? Effect.void
        : takeOut(session, (route) => (withdraw(session, route) ? farewell(session, route, true) : undefined), movedTo)
    )

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

  /** A newer connection of the session is at another hub: ours ends, and nothing of the session stays. */
  const fence = Effect.fnUntraced(function* (session: Session, generation: number) {
    const place = connections.get(session.id)
    if (place !== undefined) {
      yield* Deferred.succeed(place.dismissed, "fenced")
      yield* Deferred.await(place.ended)
    }
    yield* stopGrace(session.id)
    // Meanwhile one that is newer still may have come here, and goes on with the session.
    if (!connections.has(session.id)) yield* forget(session, generation)
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

  /** The session this runner goes on with, or null where this hub knows of none. */
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
    // It was elsewhere since and comes back: what is here is of a time before that.
    if (introduction.elsewhere) yield* forget(present, nextGeneration(present, introduction))
    else yield* end(present)
    return null
  })

  const nextGeneration = (present: Session | undefined, { connection }: Introduction) =>
    Math.max((present?.generation ?? 0) + 1, connection)

  /** What its runner said first may arrive last, and the connection that is there is the newer. */
  const refuseOlder = (isOlder: boolean) =>
    isOlder
      ? Effect.fail(
          new HandshakeRejected({
            reason: "protocol_error",
            message: "a newer connection of the same session was here before"
          })
        )
      : Effect.void

  /** By their dials, where both were counted; else by their arrival, since nobody dials again before he was accepted. */
  const isOlder = ({ connection }: Introduction, arrival: number, than: ConnectionPlace): boolean =>
    connection > 0 && than.dialled > 0 ? connection <= than.dialled : arrival < than.arrival

  const begin = Effect.fnUntraced(function* (
    introduction: Introduction,
    socket: MessageSocket,
    place: ConnectionPlace
  ) {
    const { connection: dialled, elsewhere, session: id } = introduction
    let generation: number
    let resumed: Session | null
    for (;;) {
      yield* refuseOlder(dialled > 0 && dialled <= (sessions.get(id)?.generation ?? 0))
      generation = nextGeneration(sessions.get(id), introduction)
      resumed = yield* resume(introduction)
      const ending = endings.get(id)
      if (ending === undefined) break
      yield* Deferred.await(ending)
    }
    if (resumed === null && sessions.size >= limits.sessionsMax) {
      return yield* new HandshakeRejected({ reason: "overloaded", message: "the hub takes no more sessions" })
    }
    const session = resumed ?? beginSession(introduction)
    sessions.set(session.id, session)
    session.generation = generation
    session.socket = socket
    const connection: Connection = { session, socket, generation, place }
    yield* routes.adopt({ session: session.id, generation })
    // A dialect that does not count its dials cannot say which is newer.
    if (dialled > 0 && resumed === null) yield* fencing.join(session)
    // The first connection of all has nobody to tell.
    if (dialled > 0 && (generation > 1 || elsewhere)) fencing.announce(session)
    const outcome = resumed !== null ? "resumed" : introduction.streams.length > 0 ? "adopted" : "begun"
    const denied = outcome === "adopted" ? yield* adopt(session, introduction, socket, place) : []
    if (!session.leaving) yield* directory.join(session)
    introduction.welcome(session, outcome)
    for (const route of denied) session.peer.reset(route, "unknown_route")
    return connection
  })

  /** Returns the streams that the session may not go on with. */
  const adopt = (session: Session, { streams }: Introduction, socket: MessageSocket, place: ConnectionPlace) =>
    parts.verification
      .verify(
        session,
        streams,
        Effect.raceFirst(
          Deferred.await(place.dismissed),
          Effect.callback<void>((resume) => socket.whenClosedUnsafe(() => resume(Effect.void)))
        )
      )
      .pipe(Effect.onInterrupt(() => end(session)))

  return {
    enter: Effect.fnUntraced(function* (introduction, socket, arrival) {
      const { session: id } = introduction
      for (let present = connections.get(id); present !== undefined; present = connections.get(id)) {
        yield* refuseOlder(isOlder(introduction, arrival, present))
        yield* Deferred.succeed(present.dismissed, "fenced")
        yield* Deferred.await(present.ended)
      }
      // Taken before the next wait: a third connection of this session has to dismiss this one first.
      const place: ConnectionPlace = {
        dialled: introduction.connection,
        arrival,
        dismissed: Deferred.makeUnsafe(),
        ended: Deferred.makeUnsafe()
      }
      connections.set(id, place)
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
      if (sessions.get(session.id) === session) {
        yield* endAfter(session, isOver ? 0 : session.graceMs)
        // Beside: what the bus takes its time for must not keep the runner from coming back.
        if (!isOver) parts.runFork(directory.stepBack(session))
      }
      yield* release(session.id, connection.place)
    }),
    dismiss,
    dismissAll: Effect.fnUntraced(function* (reason) {
      for (const id of [...connections.keys()]) yield* dismiss(id, reason)
    }),
    get: (id) => sessions.get(id),
    all: () => sessions.values(),
    size: () => sessions.size
  } satisfies SessionTable
})
