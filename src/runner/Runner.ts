/**
 * The runner: dials a hub, serves what it sends to an app, and comes back for ever.
 *
 * It answers for the life of the connection and of the session behind it; what an answer says is the app's concern (`RunnerApp.ts`).
 * Next: `HubConnection.ts`, one socket; `RunnerSession.ts`, what outlives it; `Reconnect.ts`, the waits between.
 */
import {
  Clock,
  Context,
  Deferred,
  type Duration,
  Effect,
  Fiber,
  FiberSet,
  Layer,
  PubSub,
  type Redacted,
  Schema,
  SubscriptionRef
} from "effect"
import { Complaints } from "../protocol/Complaints.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import { Dialer } from "../socket/MessageSocket.ts"
import { limits } from "../tunnel/Limits.ts"
import { Turn } from "../tunnel/Turn.ts"
import { type ConnectionEnd, connect } from "./HubConnection.ts"
import * as Reconnect from "./Reconnect.ts"
import { RunnerApp } from "./RunnerApp.ts"
import { RunnerObserver } from "./RunnerObserver.ts"
import { RunnerSession } from "./RunnerSession.ts"

/** The hub will not have this runner, and dialling again cannot change that. */
export class RunnerRefused extends Schema.TaggedError<RunnerRefused>()("RunnerRefused", {
  reason: Schema.Literals(["unauthorized", "forbidden", "fenced", "unsupported_version", "bad_name", "bad_hub_url"]),
  message: Schema.String
}) {}

/** Where the connection stands. `Refused` is the end. */
export type RunnerStatus =
  | { readonly _tag: "Connecting" }
  | {
      readonly _tag: "Connected"
      readonly publicUrl: string
      readonly hub: string
      /** Streams that were open before go on. */
      readonly resumed: boolean
      readonly roundTripMs: number | undefined
    }
  | { readonly _tag: "Waiting"; readonly retryInMs: number; readonly cause: string }
  | { readonly _tag: "Refused"; readonly reason: RunnerRefused["reason"]; readonly message: string }

/** What has been counted since the runner began. */
export interface RunnerCounts {
  readonly openStreams: number
  readonly connections: number
  /** Frames of streams that are not open here; late ones after an abort are normal. */
  readonly unknownFrames: number
  /** Messages of the hub that did not decode or came out of turn. */
  readonly nonsense: number
}

/** Where the hub is, and who is calling. */
export interface RunnerOptions {
  /** Where the hub is: `ws:`, `wss:`, `http:` or `https:`, without the path. */
  readonly hubUrl: string
  /** What visitors reach the app by: one host label. */
  readonly name: string
  readonly token?: Redacted.Redacted<string> | undefined
  /** What the hub shows as this runner's software. */
  readonly agent?: string | undefined
  /** 16 secret random bytes to resume an earlier session by; drawn afresh unless given. */
  readonly session?: Uint8Array | undefined
  /** How long open streams may finish when the scope closes. */
  readonly drain?: Duration.Input | undefined
}

/** The connection to a hub, for as long as its scope is open. */
export class Runner extends Context.Service<
  Runner,
  {
    /** Where the connection stands, with all changes. */
    readonly status: SubscriptionRef.SubscriptionRef<RunnerStatus>
    /** Waits for the first connection. */
    readonly connected: Effect.Effect<RunnerStatus & { readonly _tag: "Connected" }, RunnerRefused>
    /** Waits for the refusal that ends the runner; most runners never see one. */
    readonly refused: Effect.Effect<never, RunnerRefused>
    /** Takes nothing new, waits until open streams are done, and leaves the hub. Closing the runner's scope does the same. */
    readonly drain: Effect.Effect<void>
    readonly countsUnsafe: () => RunnerCounts
  }
>()("wayleave/runner/Runner") {}

/** Draws a session's id. Not `Random`: the id is the only key to the session, and must be secret even to whoever knows the seed. Tests swap it. */
export const NewSessionId = Context.Reference<() => Uint8Array>("wayleave/runner/NewSessionId", {
  defaultValue: () => () => crypto.getRandomValues(new Uint8Array(16))
})

const schemes: Readonly<Record<string, "ws:" | "wss:">> = {
  "ws:": "ws:",
  "http:": "ws:",
  "wss:": "wss:",
  "https:": "wss:"
}

/** The URL to dial for a hub, undefined where `hubUrl` is none. */
export const connectUrl = (hubUrl: string): URL | undefined => {
  if (!URL.canParse(hubUrl)) return undefined
  const url = new URL(hubUrl)
  const scheme = schemes[url.protocol]
  if (scheme === undefined) return undefined
  // The setter refuses to go from http to ws in some runtimes; a new URL does not.
  const dialled = new URL(`${scheme}//${url.host}${url.pathname.replace(/\/$/, "")}`)
  if (!dialled.pathname.endsWith("/runners/connect")) {
    dialled.pathname = `${dialled.pathname.replace(/\/$/, "")}/runners/connect`
  }
  return dialled
}

/** Where visitors find the app: the hub's domain, at the port the hub was dialled at. */
export const publicUrl = (dialled: URL, name: string, domain: string): string => {
  const port = dialled.port === "" ? "" : `:${dialled.port}`
  return `${dialled.protocol === "wss:" ? "https" : "http"}://${name}.${domain}${port}`
}

const final = ["unauthorized", "forbidden", "unsupported_version", "bad_name"] as const

/** The refusal in this end, if it is one. A runner that was welcome once trusts that the hub will see reason; only a newer runner is final. */
const refusalOf = (end: ConnectionEnd, everWelcomed: boolean): RunnerRefused | undefined => {
  if (end._tag === "Closed" && end.reason === "fenced") {
    return new RunnerRefused({ reason: "fenced", message: end.cause })
  }
  if (everWelcomed) return undefined
  if (end._tag === "NotReached" && end.status === 401) {
    return new RunnerRefused({ reason: "unauthorized", message: end.cause })
  }
  if (end._tag === "NotReached" && end.status === 403) {
    return new RunnerRefused({ reason: "forbidden", message: end.cause })
  }
  const reason = end._tag === "Closed" ? final.find((one) => one === end.reason) : undefined
  return reason === undefined ? undefined : new RunnerRefused({ reason, message: end.cause })
}

/** The service itself, for whoever brings his own app and dialer. Returns after the first attempt: connected, waiting for the next, or refused. */
export const make = Effect.fnUntraced(function* (options: RunnerOptions) {
  const url = connectUrl(options.hubUrl)
  if (url === undefined) {
    const message = `${options.hubUrl} is not the URL of a hub: it begins with ws:, wss:, http: or https:`
    return yield* new RunnerRefused({ reason: "bad_hub_url", message })
  }
  const clock = yield* Clock.Clock
  const dialer = yield* Dialer
  const turn = yield* Turn
  const fork = (yield* FiberSet.runtime(yield* FiberSet.make())<never>()) as <A, E>(
    effect: Effect.Effect<A, E>
  ) => Fiber.Fiber<A, E>
  const session = new RunnerSession(
    {
      app: yield* RunnerApp,
      observer: yield* RunnerObserver,
      clock,
      turn,
      fork,
      newId: yield* NewSessionId
    },
    options.session
  )
  const status = yield* SubscriptionRef.make<RunnerStatus>({ _tag: "Connecting" })
  const attempted = yield* Deferred.make<void, RunnerRefused>()
  const connected = yield* Deferred.make<RunnerStatus & { readonly _tag: "Connected" }, RunnerRefused>()
  const refused = yield* Deferred.make<never, RunnerRefused>()
  const complaints = new Complaints(limits.abuseWindowMs)
  let connections = 0
  let nonsense = 0

  // As `SubscriptionRef.set`, from the read loop, where nothing may wait.
  const setStatus = (next: RunnerStatus) => {
    status.value = next
    PubSub.publishUnsafe(status.pubsub, next)
  }
  const introduction = {
    url: url.href,
    name: options.name,
    token: options.token,
    agent: options.agent ?? "wayleave"
  }
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let welcomedAtMs: number | undefined
  let keptForMs = limits.sessionGraceMs

  const onWelcome = (welcome: Wayleave1.Welcome, resumed: boolean) => {
    connections++
    welcomedAtMs = nowMs()
    // The hub may take a deadline to notice that we were cut off, and keeps the session for the grace period after that.
    keptForMs = welcome.heartbeatDeadlineMs + welcome.graceMs
    const now = {
      _tag: "Connected",
      publicUrl: publicUrl(url, options.name, welcome.domain),
      hub: welcome.hub,
      resumed,
      roundTripMs: undefined
    } as const
    setStatus(now)
    Deferred.doneUnsafe(connected, Effect.succeed(now))
    Deferred.doneUnsafe(attempted, Effect.void)
    fork(Effect.logInfo("connected to the hub").pipe(Effect.annotateLogs({ url: now.publicUrl, resumed })))
  }
  const onRoundTrip = (roundTripMs: number) => {
    if (status.value._tag === "Connected") setStatus({ ...status.value, roundTripMs })
  }
  const onGoAway = (reason: string) => {
    fork(Effect.logInfo("the hub is going away").pipe(Effect.annotateLogs({ reason })))
  }

  const complain = (cause: string) => {
    nonsense++
    const count = complaints.note("nonsense", clock.currentTimeMillisUnsafe())
    return count === 0
      ? Effect.void
      : Effect.logWarning("a message from the hub could not be understood").pipe(Effect.annotateLogs({ cause, count }))
  }

  // A fault of ours costs a session, and shows in the log; it must not leave a runner that looks connected and is not.
  const broken = (defect: unknown) =>
    Effect.as(Effect.logError("a connection to the hub failed", defect), {
      _tag: "Nonsense",
      cause: "the connection failed on this side"
    } satisfies ConnectionEnd)

  const refuse = (error: RunnerRefused) =>
    Effect.suspend(() => {
      session.restart(true)
      setStatus({ _tag: "Refused", reason: error.reason, message: error.message })
      const failed = Effect.fail(error)
      Deferred.doneUnsafe(refused, failed)
      Deferred.doneUnsafe(connected, failed)
      Deferred.doneUnsafe(attempted, failed)
      return Effect.logError("the hub refused this runner").pipe(
        Effect.annotateLogs({ reason: error.reason, message: error.message })
      )
    })

  const loop = Effect.gen(function* () {
    let failures = 0
    let everWelcomed = false
    let lostAtMs: number | undefined
    while (true) {
      welcomedAtMs = undefined
      setStatus({ _tag: "Connecting" })
      const end = yield* connect(dialer, introduction, session, { onWelcome, onRoundTrip, onGoAway }).pipe(
        Effect.catchDefect(broken)
      )
      const endedAtMs = nowMs()
      if (welcomedAtMs !== undefined) {
        everWelcomed = true
        if (endedAtMs - welcomedAtMs >= Reconnect.lastedMs) failures = 0
        lostAtMs = endedAtMs
      }
      const refusal = refusalOf(end, everWelcomed)
      if (refusal !== undefined) return yield* refuse(refusal)
      if (end._tag === "Nonsense") yield* complain(end.cause)
      const forgotten = lostAtMs !== undefined && endedAtMs - lostAtMs >= keptForMs
      if (end._tag === "Nonsense" || end._tag === "Unresumable" || (forgotten && session.openStreams > 0)) {
        session.restart(true)
      }
      const retryInMs = yield* Reconnect.nextWaitMs(++failures)
      setStatus({ _tag: "Waiting", retryInMs, cause: end.cause })
      Deferred.doneUnsafe(attempted, Effect.void)
      if (failures === 1)
        yield* Effect.logWarning("no connection to the hub").pipe(Effect.annotateLogs({ cause: end.cause }))
      yield* Effect.sleep(retryInMs)
    }
  })
  const running = yield* Effect.forkScoped(loop)

  const flushed = Effect.gen(function* () {
    // What this turn queued leaves at its end; a full socket takes it a little later, an absent one never.
    yield* Effect.callback<void>((resume) => turn(() => resume(Effect.void)))
    while (session.link.queuedBytes > 0 && status.value._tag === "Connected") yield* Effect.sleep(flushPollMs)
  })
  const leave = Effect.gen(function* () {
    session.draining = true
    session.link.sendNow(Wayleave1.toHub.encode({ _tag: "GoAway", reason: "leaving" }))
    const within = options.drain ?? limits.drainMs
    yield* Effect.timeoutOption(session.idle, within)
    session.abortAll("session_lost", "the runner stopped before the answer was complete")
    yield* Effect.timeoutOption(flushed, flushMsMax)
    yield* Fiber.interrupt(running)
  })
  // In a fiber of its own: whoever asks for it and gives up waiting does not keep the runner here.
  let leaving: Fiber.Fiber<void> | undefined
  const drain = Effect.suspend(() => Effect.asVoid(Fiber.await((leaving ??= fork(leave)))))
  yield* Effect.addFinalizer(() => drain)
  yield* Deferred.await(attempted)

  return Runner.of({
    status,
    connected: Deferred.await(connected),
    refused: Deferred.await(refused),
    drain,
    countsUnsafe: () => ({
      openStreams: session.openStreams,
      connections,
      unknownFrames: session.unknownFrames,
      nonsense
    })
  })
})

const flushPollMs = 5
const flushMsMax = 2_000

/** A runner for the app and over the dialer it is provided with. Building it fails only where the hub refuses at once. */
export const layer = (options: RunnerOptions): Layer.Layer<Runner, RunnerRefused, Dialer | RunnerApp> =>
  Layer.effect(Runner, make(options))
