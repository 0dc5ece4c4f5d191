/**
 * The hub: takes runners in, owns their sessions and routes, and passes frames between them and the gateways. This file puts its parts together:
 * `Handshake.ts` and `SessionTable.ts` say who is there, `Uplink.ts` and `Downlink.ts` what is said, and, between them, `Relay.ts` what may be.
 */
import { Clock, Context, Effect, Latch, Layer, Option, Random, type Redacted, Schedule, Stream } from "effect"
import { ActorControl } from "../actor/ActorControl.ts"
import { answerOnBus } from "../actor/ActorDirectory.ts"
import { ActorKv } from "../actor/ActorKv.ts"
import type { Authenticator } from "../auth/Authenticator.ts"
import { MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import { AbuseMeter, Complaints } from "../protocol/Complaints.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import { RouteStore } from "../route/RouteStore.ts"
import type { MessageSocket } from "../socket/MessageSocket.ts"
import type { Envelope, RouteKey, SessionId } from "../tunnel/Envelope.ts"
import { makeFork } from "../tunnel/Fibers.ts"
import type { AbortCode } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { RouteMap } from "../tunnel/RouteMap.ts"
import { Turn } from "../tunnel/Turn.ts"
import { endStreamsAtLoss, watchCutOff } from "./BusLoss.ts"
import { type DownlinkHandler, makeDownlink } from "./Downlink.ts"
import { makeHandOver } from "./HandOver.ts"
import { HandshakeRejected, handshake } from "./Handshake.ts"
import * as HubMetrics from "./HubMetrics.ts"
import type { HubOptions, HubParts, MakeUplink } from "./HubParts.ts"
import { makeRelay } from "./Relay.ts"
import { makeRunnerDirectory, type RunnerDirectory } from "./RunnerDirectory.ts"
import { makeActorStreams } from "./rivet/ActorStreams.ts"
import { makeLastingSockets } from "./rivet/LastingSockets.ts"
import { codeOf, reasonOf } from "./rivet/RivetClose.ts"
import { closeText } from "./rivet/RivetConnection.ts"
import { type RivetParts, refuseSlowly, rivetHandshake } from "./rivet/RivetHandshake.ts"
import { RivetPeer } from "./rivet/RivetPeer.ts"
import { endStream, type Session } from "./Session.ts"
import { makeSessionTable } from "./SessionTable.ts"
import { makeVerification } from "./Verification.ts"

export type { HubOptions } from "./HubParts.ts"

/** What the handshake told of a runner that connects. */
export interface RunnerPeer {
  readonly token: Option.Option<Redacted.Redacted<string>>
  readonly remoteAddress: string
  /** The query of the address it dialled, where it speaks Rivet's protocol: version, namespace and key stand in it. */
  readonly rivetQuery?: string
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
const cutOffNow = { reason: "draining", message: "the hub is cut off from the others" } as const
const goingAway = { reason: "draining", message: "the hub is going away" } as const

/** As often as a lease is long: a gateway that is silent for that time is gone itself. */
const sweepsPerLease = Math.ceil(limits.leaseMs / sweepMs)

const drainPollMs = 50

const makeParts = Effect.fnUntraced(function* (
  options: HubOptions,
  isDraining: () => boolean,
  onLeaving: HubParts["onLeaving"]
) {
  const bus = yield* MessageBus
  const routes = yield* RouteStore
  const scope = yield* Effect.scope
  const namespace = options.namespace ?? "default"
  const hubId = (yield* Random.nextIntBetween(0, 2 ** 32)).toString(16).padStart(8, "0")
  const replyTo = Subject.ofHub(namespace, hubId)
  const streams = new RouteMap<Session>()
  const runFork = yield* makeFork
  const relay = yield* makeRelay(namespace)

  const uplink: MakeUplink = (session, route, index, frame) => ({
    _tag: "Uplink",
    replyTo,
    session: session === null ? "" : session.id,
    generation: session === null ? 0 : session.generation,
    route,
    index,
    frame
  })

  const tellGateway = (gatewayId: number, envelopes: ReadonlyArray<Envelope>) =>
    bus
      .publish(Subject.ofGateway(namespace, gatewayId), envelopes, "each")
      .pipe(
        Effect.retry({ schedule: Schedule.spaced(sweepMs), times: sweepsPerLease }),
        Effect.ignore,
        Effect.forkIn(scope),
        Effect.asVoid
      )

  const abort = (session: Session, route: RouteKey, code: AbortCode, message: string) =>
    uplink(session, route, 0, { _tag: "ResponseAbort", code, message })

  const reportBroken = (session: Session, route: RouteKey) => {
    const news = abort(session, route, "publish_failed", "the hub could not pass the answer on")
    return Effect.suspend(() => relay({ session: session.id, generation: session.generation }, [news])).pipe(
      Effect.flatMap((relayed) => {
        if (relayed.broken.length > 0) return Effect.delay(Effect.succeed(false), sweepMs)
        endStream(streams, route)
        return Effect.succeed(true)
      }),
      Effect.repeat({ until: (done) => done, times: sweepsPerLease }),
      Effect.forkIn(scope)
    )
  }

  const parts: HubParts = {
    options,
    namespace,
    hubId,
    bus,
    routes,
    streams,
    uplink,
    relay,
    verification: yield* makeVerification({ bus, routes, streams, namespace, hubId, uplink, tellGateway }),
    handOver: makeHandOver({ bus, streams, namespace, hubId }),
    turn: yield* Turn,
    complaints: new Complaints(limits.abuseWindowMs),
    makeAbuseMeter: () => new AbuseMeter({ max: limits.abuseRefusalsMax, windowMs: limits.abuseWindowMs }),
    tellGateway,
    onBroken: (session, broken) => Effect.forEach(broken, (route) => reportBroken(session, route), { discard: true }),
    onUnencodable: ({ route }) => {
      const session = endStream(streams, route)
      if (session === undefined) return
      session.peer.send({ route, index: 0, actor: "", frame: { _tag: "RequestAbort", code: "protocol_error" } })
      const news = abort(session, route, "protocol_error", "the request cannot be encoded for its runner")
      runFork(Effect.andThen(routes.close(route), tellGateway(route.gatewayId, [news])))
    },
    scope,
    onLeaving,
    runFork,
    isDraining
  }
  return parts
})

/** Rivet's runners are taken in where there is a control plane for their actors, and where actors can keep something. */
const makeRivet = Effect.fnUntraced(function* (
  parts: HubParts,
  downlink: DownlinkHandler,
  sessionOf: (id: SessionId) => Session | undefined
) {
  const control = Option.getOrUndefined(yield* Effect.serviceOption(ActorControl))
  const kv = Option.getOrUndefined(yield* Effect.serviceOption(ActorKv))
  if (control === undefined || kv === undefined) return undefined
  const lasting = yield* makeLastingSockets(parts)
  const streams = makeActorStreams(parts, control, lasting, downlink, sessionOf)
  yield* answerOnBus(control, parts.namespace)
  const asked = yield* parts.bus.subscribe(Subject.ofActors(parts.namespace), ["one"])
  yield* Effect.forkIn(Stream.runForEachArray(asked, downlink.handle), yield* Effect.scope)
  const rivet: RivetParts = { control, kv, streams, lasting }
  return rivet
})

const sweepRivet = ({ lasting }: RivetParts, sessions: Iterable<Session>, context: Context.Context<never>) => {
  lasting.sweep()
  const nowMs = lasting.nowMs()
  let requests = 0
  let answers = 0
  for (const { peer } of sessions) {
    if (!(peer instanceof RivetPeer)) continue
    peer.strays.sweep(nowMs)
    requests += peer.held.requests.bytes
    answers += peer.held.answers.bytes
  }
  HubMetrics.heldBytesBy.requests.updateUnsafe(requests, context)
  HubMetrics.heldBytesBy.answers.updateUnsafe(answers, context)
  HubMetrics.lastingSockets.updateUnsafe(lasting.size, context)
}

const make = Effect.fnUntraced(function* (options: HubOptions) {
  const scope = yield* Effect.scope
  const context = yield* Effect.context<Authenticator>()
  const quiet = yield* Latch.make(false)
  let draining = false
  let closing = false
  let cutOff = false
  let handshakes = 0
  let arrivals = 0

  /** Sessions whose runners said that they take what is new elsewhere. */
  const elsewhere = new WeakSet<Session>()
  const onLeaving = (session: Session) => {
    session.leaving = true
    elsewhere.add(session)
    parts.runFork(directory.leave(session))
  }
  const parts: HubParts = yield* makeParts(options, () => closing, onLeaving)
  const { bus, complaints, routes, streams } = parts
  const downlink: DownlinkHandler = makeDownlink(
    parts,
    () => directory,
    () => rivet?.streams
  )
  const directory: RunnerDirectory = yield* makeRunnerDirectory(parts.namespace, downlink.handle)
  const sessions = yield* makeSessionTable(parts, directory)
  const rivet = yield* makeRivet(parts, downlink, sessions.get)

  const goAway = (session: Session, { message }: { readonly message: string } = goingAway) => {
    session.peer.goAway(message)
    // These cannot be told but by the end of their connection, and so find no other hub before.
    if (session.peer.dialect === "rivet") session.leaving = true
  }

  const close = (
    socket: MessageSocket,
    { rivetQuery }: RunnerPeer,
    { message, reason, rivet: exact }: Pick<HandshakeRejected, "reason" | "message" | "rivet">
  ) => {
    if (rivetQuery === undefined)
      return Effect.sync(() => socket.closeUnsafe(Wayleave1.closeCodes[reason].code, message))
    const words = exact ?? reasonOf[reason]
    return Effect.map(closeText(words), (text) => socket.closeUnsafe(codeOf(words), text))
  }

  const noteRefused = ({ message, reason }: HandshakeRejected, { remoteAddress }: RunnerPeer) =>
    Clock.clockWith((clock) => {
      HubMetrics.connectionsClosedBy(reason).updateUnsafe(1, context)
      const times = complaints.note(reason, clock.currentTimeMillisUnsafe())
      if (times === 0) return Effect.void
      return Effect.annotateLogs(Effect.logInfo("runner refused"), { reason, message, remoteAddress, times })
    })

  const introduce = (socket: MessageSocket, { rivetQuery, token }: RunnerPeer) => {
    if (rivetQuery === undefined) return handshake(parts, socket, token)
    if (rivet !== undefined) return rivetHandshake(parts, rivet, socket, rivetQuery, token)
    const message = "this hub controls no actors, and takes no runners that speak Rivet's protocol"
    return refuseSlowly(
      new HandshakeRejected({ reason: "unsupported_version", message, rivet: "guard.service_unavailable" })
    )
  }

  const accept = Effect.fnUntraced(function* (socket: MessageSocket, peer: RunnerPeer) {
    const arrival = arrivals++
    if (draining) return yield* close(socket, peer, goingAway)
    if (cutOff) return yield* close(socket, peer, cutOffNow)
    if (handshakes >= limits.handshakesMax) {
      return yield* close(socket, peer, { reason: "overloaded", message: "too many runners at once" })
    }
    handshakes++
    const introduction = yield* introduce(socket, peer).pipe(
      Effect.ensuring(
        Effect.sync(() => {
          handshakes--
        })
      )
    )
    yield* Effect.acquireUseRelease(
      sessions.enter(introduction, socket, arrival),
      (connection) => {
        // Let in before everybody was told.
        if (draining) goAway(connection.session)
        return Effect.tap(introduction.serve(connection), (end) =>
          Effect.sync(() =>
            HubMetrics.connectionsClosedBy(end._tag === "Gone" ? "gone" : end.reason).updateUnsafe(1, context)
          )
        )
      },
      (connection, exit) => sessions.leave(connection, exit._tag === "Success" ? exit.value : undefined)
    )
  })

  /** Whether a stream is open that ends with this hub. WebSockets that outlive it go on until then, but for those of our own process. */
  const isAwaited = (): boolean => {
    if (options.alone === true || rivet === undefined) return streams.size > 0
    for (const route of streams.routes()) if (rivet.lasting.get(route) === undefined) return true
    return false
  }

  const sweep = Effect.gen(function* () {
    const expired = yield* routes.expire
    for (const { route } of expired) {
      const session = endStream(streams, route)
      session?.peer.withdraw(route)
      session?.peer.send({ route, index: 0, actor: "", frame: { _tag: "RequestAbort", code: "deadline" } })
    }
    if (rivet !== undefined) sweepRivet(rivet, sessions.all(), context)
    const counts = yield* routes.counts
    HubMetrics.gauge({ routes: counts, sessions: sessions.size(), openStreams: streams.size }, context)
    if (draining && !isAwaited()) yield* quiet.open
  })
  yield* sweep.pipe(Effect.delay(sweepMs), Effect.forever, Effect.forkIn(scope))

  yield* Effect.forkIn(endStreamsAtLoss(parts), scope)
  // A runner that finds no other hub stays: should the bus come back, it is served at once.
  const onCutOff = (now: boolean) =>
    Effect.sync(() => {
      cutOff = now
      if (!now) return
      // Those of the other dialect cannot be told, and their actors are controlled here or nowhere.
      for (const session of sessions.all()) if (session.peer.dialect === "wayleave.1") goAway(session, cutOffNow)
    })
  yield* Effect.forkIn(watchCutOff(parts, onCutOff), scope)

  /** Runners find another hub before this one refuses anything: no request falls between the two. Those that cannot be told are not waited for. */
  const allLeft = Effect.sync(() => [...sessions.all()].every(({ leaving, peer }) => leaving || peer.goesOnUntold))
  const notice = allLeft.pipe(
    Effect.repeat({ until: (all) => all, schedule: Schedule.spaced(drainPollMs) }),
    Effect.timeoutOption(options.alone === true ? 0 : limits.drainNoticeMs)
  )
  /** Streams finish here for a while; those that last go on where their runners are already. A runner that found no other hub keeps its streams here. */
  const finish = Effect.gen(function* () {
    if (options.alone === true || Option.isSome(yield* Effect.timeoutOption(quiet.await, limits.drainFinishMs))) return
    const lasting = [...sessions.all()].filter((session) => elsewhere.has(session) && session.openStreams > 0)
    yield* Effect.forEach(
      lasting,
      (session) => Effect.andThen(parts.handOver.prepare(session), sessions.dismiss(session.id, "draining")),
      { discard: true, concurrency: "unbounded" }
    )
  })

  const envelopes = yield* bus.subscribe(Subject.ofHub(parts.namespace, parts.hubId))
  yield* Effect.forkIn(Stream.runForEachArray(envelopes, downlink.handle), scope)

  return Hub.of({
    accept: (socket, peer) =>
      accept(socket, peer).pipe(
        Effect.catchTags({
          HandshakeRejected: (rejected) => Effect.andThen(noteRefused(rejected, peer), close(socket, peer, rejected)),
          // It left before it was anybody.
          SocketClosed: () => Effect.void
        }),
        Effect.onInterrupt(() => close(socket, peer, goingAway)),
        Effect.provideContext(context)
      ),
    drain: Effect.gen(function* () {
      draining = true
      for (const session of sessions.all()) goAway(session)
      yield* notice
      closing = true
      for (const session of sessions.all()) {
        session.leaving = true
        yield* directory.leave(session)
      }
      yield* sweep
      yield* finish
      yield* quiet.await
      yield* sessions.dismissAll("draining")
    }),
    state: Effect.sync(() => ({ sessions: sessions.size(), openStreams: streams.size, draining }))
  })
})

/** A hub on the given bus and route store. Its scope's end closes every connection. */
export const layer = (options: HubOptions = {}): Layer.Layer<Hub, never, MessageBus | RouteStore | Authenticator> =>
  Layer.effect(Hub, make(options))
