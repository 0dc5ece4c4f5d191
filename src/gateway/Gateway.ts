/**
 * The gateway: takes visitors in, finds the runner they mean, and owns their requests from the first byte to the last.
 *
 * It knows no platform: `server/NodeServer.ts` hands it exchanges and upgrades (`Visitor.ts`) and forks one fiber for each. Next in the walk of
 * a request: `Admission.ts`, `InFlight.ts`, then `HttpStream.ts` or `SocketStream.ts`.
 */
import { Cause, Clock, Context, Effect, Exit, Layer, Option, Random, Schedule, Schema, Stream } from "effect"
import { ActorControl } from "../actor/ActorControl.ts"
import { findHere, findOnBus } from "../actor/ActorDirectory.ts"
import * as RivetId from "../actor/RivetId.ts"
import { losses, MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import { WindowGrowth } from "../tunnel/Credit.ts"
import { Deadlines } from "../tunnel/Deadlines.ts"
import type { Downlink, Envelope, RouteKey, RouteQuestion, SessionLeaving } from "../tunnel/Envelope.ts"
import { makeFork } from "../tunnel/Fibers.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { Soon } from "../tunnel/Turn.ts"
import { type Admission, makeAdmit } from "./Admission.ts"
import { meter as makeMeter } from "./GatewayMetrics.ts"
import { HibernationBudget } from "./HibernationBudget.ts"
import { HttpStream } from "./HttpStream.ts"
import { type HubQuestion, InFlight } from "./InFlight.ts"
import { LatelyServed } from "./LatelyServed.ts"
import { SocketStream } from "./SocketStream.ts"
import { StreamObserver } from "./StreamObserver.ts"
import { type GatewayParts, StreamRecord, type VisitorStream } from "./StreamRecord.ts"
import { unreadableProxies } from "./TrustedProxies.ts"
import type { HttpExchange, VisitorHead, VisitorUpgrade } from "./Visitor.ts"

/** An entry of `trustedProxies` that is neither an address nor a block. */
export class GatewayConfigError extends Schema.TaggedError<GatewayConfigError>()("GatewayConfigError", {
  unreadableProxies: Schema.Array(Schema.String)
}) {}

/** What an operator may set. Everything not given is as `tunnel/Limits.ts` says. */
export interface GatewayOptions {
  /** Visitors reach `NAME.DOMAIN`; default `localhost`. */
  readonly domain?: string
  /** Keeps clusters on one bus apart; default `default`. */
  readonly namespace?: string
  /** Addresses and CIDR blocks whose X-Forwarded-* and Forwarded are believed; default none. */
  readonly trustedProxies?: ReadonlyArray<string>
  readonly responseStartMs?: number
  readonly webSocketOpenMs?: number
  readonly inFlightMax?: number
  /** The largest request body accepted; 0, the default, is no limit. */
  readonly requestBodyBytesMax?: number
}

/** The gateway: what a platform hands its visitors to. */
export class Gateway extends Context.Service<
  Gateway,
  {
    /** Serves one request until its answer has left or its visitor has. Never fails; interruption breaks the transfer and tells the runner. */
    readonly request: (exchange: HttpExchange) => Effect.Effect<void>
    /** Serves one visitor's WebSocket until it is closed. */
    readonly upgrade: (upgrade: VisitorUpgrade) => Effect.Effect<void>
    /** Answers new visitors `draining` from now on, and waits until those here are served. */
    readonly drain: Effect.Effect<void>
    /** Requests and WebSockets being served. */
    readonly inFlight: Effect.Effect<number>
    /** Entries in the table of streams: at rest 0, as `inFlight` is. */
    readonly streams: Effect.Effect<number>
  }
>()("wayleave/gateway/Gateway") {}

const u32Max = 0xffff_ffff

const logFaults = (faults: ReadonlyArray<unknown>) => Effect.logError("a stream failed over a frame", ...faults)

/** Answers a hub that a session moved to. Only once the answer has left may anything else go there: it would find no route. */
const answerQuestion = (bus: MessageBus["Service"], inFlight: InFlight, question: RouteQuestion) => {
  const { answer, claimed, faults } = inFlight.answer(question)
  const settled = (told: boolean) =>
    Effect.sync(() => {
      for (const link of claimed) link.settled(told)
    })
  return bus
    .publish(question.replyTo, [answer], "one")
    .pipe(
      Effect.retry({ schedule: Schedule.exponential("20 millis"), times: limits.publishAttempts - 1 }),
      Effect.matchEffect({ onFailure: () => settled(false), onSuccess: () => settled(true) }),
      Effect.andThen(faults.length === 0 ? Effect.void : logFaults(faults))
    )
}

/** Tells a hub that is about to be left by a session that nothing more comes for it. A fiber that was about to publish goes first. */
const sayHeld = (bus: MessageBus["Service"], { replyTo, session }: SessionLeaving, gatewayId: number) =>
  Effect.andThen(
    Effect.yieldNow,
    Effect.ignore(bus.publish(replyTo, [{ _tag: "SessionHeld", session, gatewayId }], "each"))
  )

/** Tells each hub with streams of ours that we live. A hub that nobody answers for is gone, and so are its streams. */
const renewLeases = (bus: MessageBus["Service"], inFlight: InFlight, gatewayId: number, nowMs: () => number) => {
  const renewal: ReadonlyArray<Envelope> = [{ _tag: "LeaseRenewal", gatewayId }]
  const renew = (hub: Subject.Subject) =>
    Effect.suspend(() => {
      const begunMs = nowMs()
      return Effect.match(bus.publish(hub, renewal, "one"), {
        onSuccess: () => inFlight.renewed(hub, begunMs),
        // Out of reach for a moment is what leases are for; nobody listening is final.
        onFailure: (error) => (error.reason === "NoResponders" ? inFlight.lose(hub) : inFlight.unheard(hub))
      })
    })
  return Effect.sleep(limits.leaseRenewalMs).pipe(
    Effect.andThen(
      Effect.suspend(() => Effect.forEach(inFlight.hubs(), renew, { discard: true, concurrency: "unbounded" }))
    ),
    Effect.forever
  )
}

// With a parameter, or Effect makes a function of its own around it for each stream.
const dealtWith = (_cause: unknown): Effect.Effect<void> => Effect.void

const begin = (stream: VisitorStream, { verdict }: Admission): Effect.Effect<void> => {
  switch (verdict._tag) {
    case "Admitted":
    case "Query":
      return stream.run(verdict.admitted)
    case "Refused":
      return stream.refuse(verdict.refusal)
    case "Answered":
      return stream.reply(verdict.answer)
  }
  return absurd(verdict)
}

const make = Effect.fnUntraced(function* (options: GatewayOptions) {
  const unreadable = unreadableProxies(options.trustedProxies ?? [])
  if (unreadable.length > 0) return yield* new GatewayConfigError({ unreadableProxies: unreadable })
  const bus = yield* MessageBus
  const observer = yield* StreamObserver
  // Only queries need it. Requests for actors go to whoever controls them on the bus in any case.
  const actorControl = yield* Effect.serviceOption(ActorControl)
  const random = yield* Random.Random
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const domain = (options.domain ?? "localhost").toLowerCase()
  const namespace = options.namespace ?? "default"
  const gatewayId = yield* Random.nextIntBetween(0, u32Max)
  const firstRequestId = yield* Random.nextIntBetween(0, u32Max)
  const replyTo = Subject.ofGateway(namespace, gatewayId)
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const meter = makeMeter(context)
  const lately = new LatelyServed()
  const soon = yield* Soon
  const deadlines = new Deadlines({ nowMs, soon })
  const growth = new WindowGrowth(nowMs, limits.windowGrowthBytesMax, meter.windowGrowth)
  const inFlight = new InFlight(
    { gatewayId, firstRequestId },
    options.inFlightMax ?? limits.inFlightMax,
    { replyTo, actors: Subject.ofActors(namespace), nowMs, growth, lately, soon, deadlines },
    meter
  )
  const scope = yield* Effect.scope
  const runFork = yield* makeFork
  /** Says a last word until the bus takes it. Nobody waits for it. */
  const insist = (hub: Subject.Subject, envelopes: ReadonlyArray<Envelope>) =>
    bus.publish(hub, envelopes, "each").pipe(
      Effect.retry({
        schedule: Schedule.spaced(limits.lastWordMs),
        times: Math.ceil(limits.leaseMs / limits.lastWordMs)
      }),
      Effect.ignore,
      Effect.forkIn(scope),
      Effect.asVoid
    )
  const parts: GatewayParts = {
    bus,
    namespace,
    gatewayId,
    lately,
    insist,
    inFlight,
    observer,
    meter,
    onFault: (fault) => void runFork(logFaults([fault])),
    nowMs,
    domain,
    responseStartMs: options.responseStartMs ?? limits.responseStartMs,
    webSocketOpenMs: options.webSocketOpenMs ?? limits.webSocketOpenMs,
    budget: new HibernationBudget(limits.hibernationBytesTotalMax, meter.unacknowledged)
  }

  const inbox = yield* bus.subscribe(replyTo)
  // Asked in its turn and answered beside the others: a hub that takes its time holds nobody up.
  const onQuestion = (question: HubQuestion) =>
    void runFork(
      question._tag === "RouteQuestion" ? answerQuestion(bus, inFlight, question) : sayHeld(bus, question, gatewayId)
    )
  const deal = (batch: ReadonlyArray<Envelope>) =>
    Effect.suspend(() => {
      const { faults, unwanted } = inFlight.deal(batch, onQuestion)
      if (unwanted.length === 0 && faults.length === 0) return Effect.void
      const told = Effect.forEach(unwanted, ({ replyTo: hub, route }) => insist(hub, [giveUp(route)]))
      return faults.length === 0 ? told : Effect.andThen(told, logFaults(faults))
    })
  const giveUp = (route: RouteKey): Downlink => ({
    _tag: "Downlink",
    replyTo,
    name: "",
    actor: "",
    skipReadyWait: false,
    traceparent: "",
    route,
    index: 0,
    frame: { _tag: "RequestAbort", code: "unknown_route" }
  })
  yield* Effect.forkScoped(Stream.runForEachArray(inbox, deal))
  yield* Effect.forkScoped(deadlines.watch(inFlight.all, logFaults))
  yield* Effect.forkScoped(renewLeases(bus, inFlight, gatewayId, nowMs))
  yield* Effect.forkScoped(Stream.runForEach(losses(bus), () => Effect.sync(() => inFlight.loseAll())))

  let serving = 0
  let draining = false
  let idle: Array<() => void> = []
  const admit = makeAdmit({
    domain,
    namespace,
    trustedProxies: options.trustedProxies ?? [],
    requestBodyBytesMax: options.requestBodyBytesMax ?? limits.requestBodyBytesMax,
    draining: () => draining,
    // A ray names a request in logs and tells nobody's secret: it may follow from a seed.
    makeRayId: () =>
      RivetId.make(Uint8Array.from({ length: RivetId.uniqueBytes }, () => random.nextDoubleUnsafe() * 256)),
    findActor: Option.match(actorControl, { onNone: () => findOnBus(bus, namespace), onSome: findHere })
  })

  const ended = (stream: VisitorStream, record: StreamRecord) =>
    Effect.sync(() => {
      stream.release()
      record.end()
      serving--
      if (serving > 0) return
      const woken = idle
      idle = []
      for (const f of woken) f()
    })
  /** Sees a stream to its end, however it comes. Keeps no more than it is given: a WebSocket may live for days. */
  const seeThrough = (stream: VisitorStream, record: StreamRecord, work: Effect.Effect<void>): Effect.Effect<void> => {
    const end = (exit: Exit.Exit<void>) => {
      if (Exit.isSuccess(exit)) return ended(stream, record)
      const crashed = Cause.hasDies(exit.cause)
      if (crashed) stream.onCrash()
      else stream.onInterrupt()
      const logged = crashed ? Effect.logError("a stream failed", exit.cause) : Effect.void
      return Effect.ensuring(Effect.andThen(stream.farewell(), logged), ended(stream, record))
    }
    return Effect.catchCause(Effect.onExit(work, end), dealtWith)
  }
  const serve = (kind: "http" | "websocket", head: VisitorHead, open: (record: StreamRecord) => VisitorStream) =>
    Effect.suspend(() => {
      const admission = admit(head, kind)
      const record = new StreamRecord(parts, inFlight.freshRoute(), kind, admission, head)
      const stream = open(record)
      serving++
      return seeThrough(stream, record, begin(stream, admission))
    })

  return Gateway.of({
    request: (exchange) => serve("http", exchange.head, (record) => new HttpStream(parts, exchange, record)),
    upgrade: (upgrade) => serve("websocket", upgrade.head, (record) => new SocketStream(parts, upgrade, record)),
    drain: Effect.suspend(() => {
      draining = true
      return Effect.callback<void>((resume) => {
        if (serving === 0) return resume(Effect.void)
        idle.push(() => resume(Effect.void))
      })
    }),
    inFlight: Effect.sync(() => serving),
    streams: Effect.sync(() => inFlight.size)
  })
})

/** A gateway on the bus. */
export const layer = (
  options: GatewayOptions = {}
): Layer.Layer<Gateway, GatewayConfigError, MessageBus | StreamObserver> => Layer.effect(Gateway, make(options))
