/**
 * The gateway: takes visitors in, finds the runner they mean, and owns their requests from the first byte to the last.
 *
 * It knows no platform: `server/NodeServer.ts` hands it exchanges and upgrades (`Visitor.ts`) and forks one fiber for each. Next in the walk of
 * a request: `RunnerName.ts`, `ForwardedHeaders.ts`, `InFlight.ts`, then `HttpStream.ts` or `SocketStream.ts`.
 */
import { Clock, Context, Effect, FiberSet, Layer, Random, Schedule, Schema, Stream } from "effect"
import { MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import type { Envelope, RouteQuestion } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import { Soon } from "../tunnel/Turn.ts"
import { forwardedHeaders } from "./ForwardedHeaders.ts"
import type { GatewayErrorCode } from "./GatewayError.ts"
import { meter as makeMeter } from "./GatewayMetrics.ts"
import { HttpStream } from "./HttpStream.ts"
import { InFlight } from "./InFlight.ts"
import { runnerName } from "./RunnerName.ts"
import { SocketStream } from "./SocketStream.ts"
import { StreamObserver } from "./StreamObserver.ts"
import { type Admitted, type GatewayParts, headerOf, StreamRecord, type VisitorStream } from "./StreamRecord.ts"
import { trustProxies, unreadableProxies } from "./TrustedProxies.ts"
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

type Admission = { readonly admitted: Admitted } | { readonly code: GatewayErrorCode; readonly name: string }

const traceparentForm = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/

const headBytes = (head: VisitorHead): number => {
  let bytes = head.target.length
  for (const [name, value] of head.headers) bytes += name.length + value.length + 4
  return bytes
}

/** Refuses what no runner should see, and makes of the rest what one will. */
const makeAdmit = (options: GatewayOptions, domain: string, draining: () => boolean) => {
  const trusted = trustProxies(options.trustedProxies ?? [])
  const bodyBytesMax = options.requestBodyBytesMax ?? limits.requestBodyBytesMax
  return (head: VisitorHead): Admission => {
    const found = runnerName(head, domain)
    if (found._tag === "Ambiguous") return { code: "bad_request", name: "" }
    if (found._tag === "None") return { code: "unknown_host", name: "" }
    const { name } = found
    if (draining()) return { code: "draining", name }
    if (headBytes(head) > limits.headBytesMax) return { code: "headers_too_large", name }
    if (bodyBytesMax > 0 && Number(headerOf(head, "content-length")) > bodyBytesMax) {
      return { code: "body_too_large", name }
    }
    const traceparent = headerOf(head, "traceparent")
    return {
      admitted: {
        name,
        target: found.target,
        headers: forwardedHeaders(head, found.host, trusted(head.remoteAddress)),
        traceparent: traceparentForm.test(traceparent) ? traceparent : ""
      }
    }
  }
}

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

/** Tells each hub with streams of ours that we live. A hub that nobody answers for is gone, and so are its streams. */
const renewLeases = (bus: MessageBus["Service"], inFlight: InFlight, gatewayId: number) => {
  const renewal: ReadonlyArray<Envelope> = [{ _tag: "LeaseRenewal", gatewayId }]
  const renew = (hub: Subject.Subject) =>
    bus.publish(hub, renewal, "one").pipe(
      Effect.catch((error) =>
        Effect.sync(() => {
          // Out of reach for a moment is what leases are for; nobody listening is final.
          if (error.reason === "NoResponders") inFlight.lose(hub)
        })
      )
    )
  return Effect.sleep(limits.leaseRenewalMs).pipe(
    Effect.andThen(
      Effect.suspend(() => Effect.forEach(inFlight.hubs(), renew, { discard: true, concurrency: "unbounded" }))
    ),
    Effect.forever
  )
}

const make = Effect.fnUntraced(function* (options: GatewayOptions) {
  const unreadable = unreadableProxies(options.trustedProxies ?? [])
  if (unreadable.length > 0) return yield* new GatewayConfigError({ unreadableProxies: unreadable })
  const bus = yield* MessageBus
  const observer = yield* StreamObserver
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const domain = (options.domain ?? "localhost").toLowerCase()
  const namespace = options.namespace ?? "default"
  const gatewayId = yield* Random.nextIntBetween(0, u32Max)
  const firstRequestId = yield* Random.nextIntBetween(0, u32Max)
  const replyTo = Subject.ofGateway(namespace, gatewayId)
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const meter = makeMeter(context)
  const inFlight = new InFlight(
    { gatewayId, firstRequestId },
    options.inFlightMax ?? limits.inFlightMax,
    { replyTo, nowMs, soon: yield* Soon },
    meter
  )
  const parts: GatewayParts = {
    bus,
    inFlight,
    observer,
    meter,
    nowMs,
    domain,
    subjectOf: (name) => Subject.ofName(namespace, name),
    responseStartMs: options.responseStartMs ?? limits.responseStartMs,
    webSocketOpenMs: options.webSocketOpenMs ?? limits.webSocketOpenMs,
    requestBodyBytesMax: options.requestBodyBytesMax ?? limits.requestBodyBytesMax
  }

  const inbox = yield* bus.subscribe(replyTo)
  const runFork = yield* FiberSet.runtime(yield* FiberSet.make<void>())<never>()
  // Asked in its turn and answered beside the others: a hub that takes its time holds nobody up.
  const onQuestion = (question: RouteQuestion) => void runFork(answerQuestion(bus, inFlight, question))
  const deal = (batch: ReadonlyArray<Envelope>) =>
    Effect.suspend(() => {
      const faults = inFlight.deal(batch, onQuestion)
      return faults.length === 0 ? Effect.void : logFaults(faults)
    })
  yield* Effect.forkScoped(Stream.runForEachArray(inbox, deal))
  yield* Effect.forkScoped(renewLeases(bus, inFlight, gatewayId))

  let serving = 0
  let draining = false
  let idle: Array<() => void> = []
  const admit = makeAdmit(options, domain, () => draining)

  const ended = (record: StreamRecord) =>
    Effect.sync(() => {
      record.end()
      serving--
      if (serving > 0) return
      const woken = idle
      idle = []
      for (const f of woken) f()
    })
  const serve = (kind: "http" | "websocket", head: VisitorHead, open: (record: StreamRecord) => VisitorStream) =>
    Effect.suspend(() => {
      const admission = admit(head)
      const name = "code" in admission ? admission.name : admission.admitted.name
      const record = new StreamRecord(parts, inFlight.freshRoute(), kind, name, head)
      const stream = open(record)
      serving++
      const work = "code" in admission ? stream.refuse(admission.code) : stream.run(admission.admitted)
      return work.pipe(
        Effect.catchDefect((defect) => {
          stream.onCrash()
          return Effect.andThen(stream.farewell(), Effect.logError("a stream failed", defect))
        }),
        Effect.ensuring(ended(record))
      )
    })

  return Gateway.of({
    request: (exchange) => serve("http", exchange.head, (record) => new HttpStream(parts, exchange, record)),
    upgrade: (upgrade) => serve("websocket", upgrade.head, (record) => new SocketStream(parts, upgrade, record)),
    drain: Effect.suspend(() => {
      draining = true
      if (serving === 0) return Effect.void
      return Effect.callback<void>((resume) => {
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
