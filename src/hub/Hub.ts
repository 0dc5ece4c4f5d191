/**
 * The hub: takes runners in, owns their sessions and routes, and passes frames between them and the gateways. This file decides when a session
 * begins, is taken over and ends; what is said meanwhile is `Uplink.ts`, `Downlink.ts` and, between them, `Relay.ts`.
 */
import {
  Clock,
  Context,
  Deferred,
  Effect,
  Fiber,
  FiberSet,
  Latch,
  Layer,
  type Option,
  Random,
  type Redacted,
  Schedule,
  Stream
} from "effect"
import type { Authenticator } from "../auth/Authenticator.ts"
import { MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import { AbuseMeter, Complaints } from "../protocol/Complaints.ts"
import { Link } from "../protocol/Link.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import { RouteStore } from "../route/RouteStore.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { RouteKey, SessionId, Uplink } from "../tunnel/Envelope.ts"
import { type AbortCode, opensRoute, type RequestFrame } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { RouteMap } from "../tunnel/RouteMap.ts"
import { Turn } from "../tunnel/Turn.ts"
import { endStreamsAtLoss } from "./BusLoss.ts"
import { type DownlinkHandler, type MakeUplink, makeDownlink } from "./Downlink.ts"
import { HandshakeRejected, handshake, type Introduction, version } from "./Handshake.ts"
import * as HubMetrics from "./HubMetrics.ts"
import { makeRelay } from "./Relay.ts"
import { type Connection, type ConnectionEnd, type ConnectionPlace, serveConnection } from "./RunnerConnection.ts"
import { makeRunnerDirectory, type RunnerDirectory } from "./RunnerDirectory.ts"
import { endStream, type Session } from "./Session.ts"

/** What the handshake told of a runner that connects. */
export interface RunnerPeer {
  readonly token: Option.Option<Redacted.Redacted<string>>
  readonly remoteAddress: string
}

/** What an operator may set; everything else has its number in `tunnel/Limits.ts`. */
export interface HubOptions {
  readonly namespace?: string
  /** Under which names are reached by host; told to runners. */
  readonly domain?: string
  readonly helloTimeoutMs?: number
  readonly graceMs?: number
  readonly heartbeatMs?: number
  readonly heartbeatDeadlineMs?: number
}

/** The hub as others use it: it is given sockets, and asked to drain. */
export class Hub extends Context.Service<
  Hub,
  {
    /** Serves one runner's socket until it ends; interruption closes it. Never fails: what a runner does wrong costs the runner. */
    readonly accept: (socket: MessageSocket, peer: RunnerPeer) => Effect.Effect<void>
    /** Takes no new runners and no new streams, tells runners to go elsewhere, and waits until their streams are done. */
    readonly drain: Effect.Effect<void>
    /** Sessions, open streams and whether it drains: for health checks and tests. */
    readonly state: Effect.Effect<{
      readonly sessions: number
      readonly openStreams: number
      readonly draining: boolean
    }>
  }
>()("wayleave/hub/Hub") {}

const sweepMs = 1_000

const encodeDown = (received: number, frames: ReadonlyArray<Wayleave1.DownFrame>) =>
  Wayleave1.toRunner.encode({ _tag: "Frames", received, frames })
const encodeAck = (received: number) => Wayleave1.toRunner.encode({ _tag: "Ack", received })

const make = Effect.fnUntraced(function* (options: HubOptions) {
  const bus = yield* MessageBus
  const routes = yield* RouteStore
  const turn = yield* Turn
  const scope = yield* Effect.scope
  const context = yield* Effect.context<Authenticator>()
  const namespace = options.namespace ?? "default"
  const hubId = (yield* Random.nextIntBetween(0, 2 ** 32)).toString(16).padStart(8, "0")
  const hubSubject = Subject.ofHub(namespace, hubId)
  const streams = new RouteMap<Session>()
  const sessions = new Map<SessionId, Session>()
  const connections = new Map<SessionId, ConnectionPlace>()
  const graces = new Map<SessionId, Fiber.Fiber<void>>()
  const complaints = new Complaints(limits.abuseWindowMs)
  const quiet = yield* Latch.make(false)
  const runFork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
  let draining = false
  let handshakes = 0

  const uplink: MakeUplink = (session, route, index, frame) => ({
    _tag: "Uplink",
    replyTo: hubSubject,
    session: session === null ? "" : session.id,
    generation: session === null ? 0 : session.generation,
    route,
    index,
    frame
  })
  const subjectOf = (gatewayId: number) => Subject.ofGateway(namespace, gatewayId)
  const relay = yield* makeRelay(namespace)
  const downlink: DownlinkHandler = yield* makeDownlink({
    streams,
    uplink,
    tellGateway: (gatewayId, envelopes) => tellGateway(gatewayId, envelopes),
    directory: () => directory,
    isDraining: () => draining
  })
  const directory: RunnerDirectory = yield* makeRunnerDirectory(namespace, downlink.handle)

  /** Tells a gateway, and again while the bus cannot: it waits for nothing else. A gateway silent for a lease is gone itself. */
  const tellGateway = (gatewayId: number, envelopes: ReadonlyArray<Uplink>) =>
    bus
      .publish(subjectOf(gatewayId), envelopes, "each")
      .pipe(
        Effect.retry({ schedule: Schedule.spaced(sweepMs), times: Math.ceil(limits.leaseMs / sweepMs) }),
        Effect.ignore,
        Effect.forkIn(scope),
        Effect.asVoid
      )

  const abort = (session: Session, route: RouteKey, code: AbortCode, message: string) =>
    uplink(session, route, 0, { _tag: "ResponseAbort", code, message })

  /** The session is over: nobody can answer its routes any more, and whoever waits for them is told. */
  const endSession = Effect.fnUntraced(function* (session: Session) {
    if (sessions.get(session.id) === session) sessions.delete(session.id)
    graces.delete(session.id)
    yield* directory.leave(session)
    const byGateway = new Map<number, Array<Uplink>>()
    for (const route of yield* routes.revoke(session.id)) {
      endStream(streams, route)
      const unsent = session.link.withdraw(route).some(({ frame }) => opensRoute(frame))
      const news = unsent
        ? abort(session, route, "no_runner", "the runner left before it saw the request")
        : abort(session, route, "session_lost", "the runner went away and did not come back")
      const others = byGateway.get(route.gatewayId)
      if (others === undefined) byGateway.set(route.gatewayId, [news])
      else others.push(news)
    }
    for (const [gatewayId, news] of byGateway) yield* tellGateway(gatewayId, news)
  }, Effect.uninterruptible)

  const startGrace = Effect.fnUntraced(function* (session: Session) {
    const fiber = yield* Effect.sleep(options.graceMs ?? limits.sessionGraceMs).pipe(
      Effect.andThen(Effect.suspend(() => endSession(session))),
      Effect.forkIn(scope)
    )
    graces.set(session.id, fiber)
  })

  const stopGrace = (id: SessionId) =>
    Effect.suspend(() => {
      const fiber = graces.get(id)
      graces.delete(id)
      return fiber === undefined ? Effect.void : Fiber.interrupt(fiber)
    })

  /** Ends the connection a session has now, and waits until it can publish nothing more. */
  const dismiss = Effect.fnUntraced(function* (id: SessionId, reason: Wayleave1.CloseReason) {
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

  /** A gateway sent what has no form on this wire: its stream cannot go on, and both sides of it are told. */
  const onUnencodable = ({ route }: Wayleave1.DownFrame) => {
    const session = endStream(streams, route)
    if (session === undefined) return
    session.link.send({ route, index: 0, frame: { _tag: "RequestAbort", code: "protocol_error" } })
    runFork(
      Effect.andThen(
        routes.close(route),
        tellGateway(route.gatewayId, [
          abort(session, route, "protocol_error", "the request cannot be encoded for its runner")
        ])
      )
    )
  }

  const beginSession = (introduction: Introduction): Session => ({
    id: introduction.session,
    name: introduction.name,
    identity: introduction.identity,
    link: new Link<RequestFrame>({ encode: encodeDown, encodeAck, turn, onUnencodable }),
    generation: 0,
    socket: undefined,
    openStreams: 0,
    leaving: false
  })

  /** The session this runner goes on with, or null where it has to begin anew. */
  const resume = Effect.fnUntraced(function* (introduction: Introduction) {
    const present = sessions.get(introduction.session)
    if (present === undefined) return null
    if (present.identity.id !== introduction.identity.id || present.name !== introduction.name) {
      return yield* new HandshakeRejected({ reason: "forbidden", message: "the session belongs to somebody else" })
    }
    yield* stopGrace(present.id)
    if (present.link.canResume(introduction.received)) return present
    yield* endSession(present)
    return null
  })

  const enter = Effect.fnUntraced(function* (introduction: Introduction, socket: MessageSocket) {
    yield* dismiss(introduction.session, "fenced")
    // Taken before the next wait: a third connection of this session has to dismiss this one first.
    const place: ConnectionPlace = { dismissed: Deferred.makeUnsafe(), ended: Deferred.makeUnsafe() }
    connections.set(introduction.session, place)
    return yield* begin(introduction, socket, place).pipe(Effect.onError(() => release(introduction.session, place)))
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
    socket.sendUnsafe(
      Wayleave1.toRunner.encode({
        _tag: "Welcome",
        version,
        resumed: resumed !== null,
        received: session.link.receivedCount,
        heartbeatMs: options.heartbeatMs ?? limits.heartbeatMs,
        heartbeatDeadlineMs: options.heartbeatDeadlineMs ?? limits.heartbeatDeadlineMs,
        graceMs: options.graceMs ?? limits.sessionGraceMs,
        windowBytes: limits.windowBytesInitial,
        domain: options.domain ?? "localhost",
        hub: hubId,
        capabilities: Wayleave1.capabilities
      }),
      { binary: true, finish: true }
    )
    session.link.attach(socket, resumed === null ? 0 : introduction.received)
    return connection
  })

  const leave = Effect.fnUntraced(function* (connection: Connection, end: ConnectionEnd | undefined) {
    const { session, socket } = connection
    session.link.detach(socket)
    if (session.socket === socket) session.socket = undefined
    // A runner that closed in the ordinary way, or was leaving with nothing open, does not come back; one that broke off may.
    const done = session.leaving && session.openStreams === 0
    const left = end?._tag === "Gone" && (done || end.code === 1000)
    if (left || (end?._tag === "Closed" && end.reason === "abuse")) yield* endSession(session)
    else if (sessions.get(session.id) === session) yield* startGrace(session)
    yield* release(session.id, connection.place)
  })

  const close = (socket: MessageSocket, reason: Wayleave1.CloseReason, message: string) =>
    Effect.sync(() => socket.closeUnsafe(Wayleave1.closeCodes[reason].code, message))

  /** Frames of these streams could not be published: their gateways are told as soon as the bus allows, and only then the routes end. */
  const onBroken = (session: Session, broken: ReadonlyArray<RouteKey>) =>
    Effect.forEach(
      broken,
      (route) => {
        const news = abort(session, route, "publish_failed", "the hub could not pass the answer on")
        const attempt = Effect.suspend(() =>
          relay({ session: session.id, generation: session.generation }, [news])
        ).pipe(
          Effect.flatMap((relayed) => {
            if (relayed.broken.length > 0) return Effect.delay(Effect.succeed(false), sweepMs)
            endStream(streams, route)
            return Effect.succeed(true)
          })
        )
        return attempt.pipe(
          Effect.repeat({ until: (done) => done, times: Math.ceil(limits.leaseMs / sweepMs) }),
          Effect.forkIn(scope)
        )
      },
      { discard: true }
    )

  const serve = (connection: Connection) =>
    serveConnection(connection, {
      streams,
      uplink,
      relay,
      complaints,
      scope,
      abuse: new AbuseMeter({ max: limits.abuseRefusalsMax, windowMs: limits.abuseWindowMs }),
      onBroken,
      heartbeatMs: options.heartbeatMs ?? limits.heartbeatMs,
      heartbeatDeadlineMs: options.heartbeatDeadlineMs ?? limits.heartbeatDeadlineMs
    }).pipe(
      Effect.tap((end) => {
        HubMetrics.connectionsClosedBy(end._tag === "Gone" ? "gone" : end.reason).updateUnsafe(1, context)
        if (end._tag === "Gone") return Effect.void
        return close(connection.socket, end.reason, Wayleave1.closeCodes[end.reason].means)
      })
    )

  const noteRefused = ({ message, reason }: HandshakeRejected, { remoteAddress }: RunnerPeer) =>
    Clock.clockWith((clock) => {
      HubMetrics.connectionsClosedBy(reason).updateUnsafe(1, context)
      const times = complaints.note(reason, clock.currentTimeMillisUnsafe())
      if (times === 0) return Effect.void
      return Effect.annotateLogs(Effect.logInfo("runner refused"), { reason, message, remoteAddress, times })
    })

  const accept = Effect.fnUntraced(function* (socket: MessageSocket, peer: RunnerPeer) {
    if (draining) return yield* close(socket, "draining", "the hub is going away")
    if (handshakes >= limits.handshakesMax) return yield* close(socket, "overloaded", "too many runners at once")
    handshakes++
    const introduction = yield* handshake(socket, peer.token, options.helloTimeoutMs ?? limits.helloTimeoutMs).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          handshakes--
        })
      )
    )
    yield* Effect.acquireUseRelease(enter(introduction, socket), serve, (connection, exit) =>
      leave(connection, exit._tag === "Success" ? exit.value : undefined)
    )
  })

  const sweep = Effect.gen(function* () {
    const expired = yield* routes.expire
    for (const { route } of expired) {
      const session = endStream(streams, route)
      session?.link.withdraw(route)
      session?.link.send({ route, index: 0, frame: { _tag: "RequestAbort", code: "deadline" } })
    }
    const counts = yield* routes.counts
    HubMetrics.gauge({ routes: counts, sessions: sessions.size, openStreams: streams.size }, context)
    if (draining && streams.size === 0) yield* quiet.open
  })
  yield* sweep.pipe(Effect.delay(sweepMs), Effect.forever, Effect.forkIn(scope))

  yield* Effect.forkIn(endStreamsAtLoss({ streams, uplink, tellGateway }), scope)
  const envelopes = yield* bus.subscribe(hubSubject)
  yield* Effect.forkIn(Stream.runForEachArray(envelopes, downlink.handle), scope)

  return Hub.of({
    accept: (socket, peer) =>
      accept(socket, peer).pipe(
        Effect.catchTags({
          HandshakeRejected: (rejected) =>
            Effect.andThen(noteRefused(rejected, peer), close(socket, rejected.reason, rejected.message)),
          // It left before it was anybody.
          SocketClosed: () => Effect.void
        }),
        Effect.onInterrupt(() => close(socket, "draining", "the hub is going away")),
        Effect.provideContext(context)
      ),
    drain: Effect.gen(function* () {
      draining = true
      for (const session of sessions.values()) {
        session.leaving = true
        session.link.sendNow(Wayleave1.toRunner.encode({ _tag: "GoAway", reason: "the hub is going away" }))
        yield* directory.leave(session)
      }
      yield* sweep
      yield* quiet.await
      for (const id of [...connections.keys()]) yield* dismiss(id, "draining")
    }),
    state: Effect.sync(() => ({ sessions: sessions.size, openStreams: streams.size, draining }))
  })
})

/** A hub on the given bus and route store. Its scope's end closes every connection. */
export const layer = (options: HubOptions = {}): Layer.Layer<Hub, never, MessageBus | RouteStore | Authenticator> =>
  Layer.effect(Hub, make(options))
