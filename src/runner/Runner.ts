/**
 * The runner: dials a hub, serves what it sends to an app, and comes back for ever.
 *
 * Mostly it has one session. Where its hub goes away, a second begins elsewhere at once and takes what is new, while the first finishes what is open.
 * What an answer says is the app's concern (`RunnerApp.ts`). Next: `SessionLife.ts`, one session from dial to dial; `RunnerSession.ts`, what it holds.
 */
import {
  Clock,
  Context,
  Deferred,
  type Duration,
  Effect,
  Fiber,
  Layer,
  PubSub,
  Random,
  type Redacted,
  Schema,
  SubscriptionRef
} from "effect"
import { Complaints } from "../protocol/Complaints.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import { Dialer } from "../socket/MessageSocket.ts"
import { makeFork } from "../tunnel/Fibers.ts"
import { limits } from "../tunnel/Limits.ts"
import { Turn } from "../tunnel/Turn.ts"
import { connectUrls, HubChoice, publicUrl } from "./HubChoice.ts"
import { RunnerApp } from "./RunnerApp.ts"
import { RunnerObserver } from "./RunnerObserver.ts"
import { RunnerSession } from "./RunnerSession.ts"
import { handOverWaitMs, live, type Refusal, type RunnerRecord } from "./SessionLife.ts"

/** The hub will not have this runner, and dialling again cannot change that. */
export class RunnerRefused extends Schema.TaggedError<RunnerRefused>()("RunnerRefused", {
  reason: Schema.Literals(["unauthorized", "forbidden", "fenced", "unsupported_version", "bad_name", "bad_hub_url"]),
  message: Schema.String
}) {}

/** Where the newest connection stands. `Refused` is the end. */
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
  /** Where the hub is: `ws:`, `wss:`, `http:` or `https:`, without the path. Several, separated by commas, are tried in turn. */
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

/** One session and the fiber that it lives in. */
interface Line {
  readonly session: RunnerSession
  fiber: Fiber.Fiber<Refusal | undefined>
  /** Its socket stands, and what it queues will leave. */
  connected: boolean
}

/** The service itself, for whoever brings his own app and dialer. Returns after the first attempt: connected, waiting for the next, or refused. */
export const make = Effect.fnUntraced(function* (options: RunnerOptions) {
  const dialled = connectUrls(options.hubUrl)
  if ("wrong" in dialled) {
    const message = `${dialled.wrong} is not the URL of a hub: it begins with ws:, wss:, http: or https:`
    return yield* new RunnerRefused({ reason: "bad_hub_url", message })
  }
  const { urls } = dialled
  const clock = yield* Clock.Clock
  const dialer = yield* Dialer
  const turn = yield* Turn
  const fork = yield* makeFork
  const sessionOptions = {
    app: yield* RunnerApp,
    observer: yield* RunnerObserver,
    clock,
    turn,
    fork,
    newId: yield* NewSessionId
  }
  const status = yield* SubscriptionRef.make<RunnerStatus>({ _tag: "Connecting" })
  const attempted = yield* Deferred.make<void, RunnerRefused>()
  const connected = yield* Deferred.make<RunnerStatus & { readonly _tag: "Connected" }, RunnerRefused>()
  const refused = yield* Deferred.make<never, RunnerRefused>()
  const record: RunnerRecord = {
    hubs: new HubChoice(urls, urls.length === 1 ? 0 : yield* Random.nextIntBetween(0, urls.length)),
    complaints: new Complaints(limits.abuseWindowMs),
    failures: 0,
    everWelcomed: false,
    connections: 0,
    nonsense: 0
  }
  const introduction = { name: options.name, token: options.token, agent: options.agent ?? "wayleave" }
  /** The newest last: it takes what is new. */
  const lines: Array<Line> = []
  let unknownFrames = 0
  let draining = false

  // As `SubscriptionRef.set`, from the read loop, where nothing may wait.
  const setStatus = (line: Line, next: RunnerStatus) => {
    if (line !== lines.at(-1)) return
    status.value = next
    PubSub.publishUnsafe(status.pubsub, next)
  }

  const sayLeaving = ({ session }: Line) =>
    session.link.sendNow(Wayleave1.toHub.encode({ _tag: "GoAway", reason: "leaving" }))

  const refuse = (line: Line, { message, reason }: Refusal) =>
    Effect.suspend(() => {
      const error = new RunnerRefused({ reason, message })
      line.session.restart(true)
      setStatus(line, { _tag: "Refused", reason, message })
      const failed = Effect.fail(error)
      Deferred.doneUnsafe(refused, failed)
      Deferred.doneUnsafe(connected, failed)
      Deferred.doneUnsafe(attempted, failed)
      return Effect.logError("the hub refused this runner").pipe(Effect.annotateLogs({ reason, message }))
    })

  const onWelcome = (line: Line, url: URL, welcome: Wayleave1.Welcome) => {
    line.connected = true
    const now = {
      _tag: "Connected",
      publicUrl: publicUrl(url, options.name, welcome.domain),
      hub: welcome.hub,
      resumed: welcome.outcome !== "begun",
      roundTripMs: undefined
    } as const
    setStatus(line, now)
    Deferred.doneUnsafe(connected, Effect.succeed(now))
    Deferred.doneUnsafe(attempted, Effect.void)
    fork(
      Effect.logInfo("connected to the hub").pipe(Effect.annotateLogs({ url: now.publicUrl, outcome: welcome.outcome }))
    )
    if (line === lines.at(-1)) for (const older of lines.slice(0, -1)) retire(older)
  }

  /** Another session takes what is new from now on. The hub hears so at once; what it sent before that still comes. */
  const retire = (line: Line) => {
    if (line.session.leaving) return
    line.session.leaving = true
    sayLeaving(line)
    fork(
      Effect.gen(function* () {
        yield* Effect.sleep(limits.leavingLingerMs)
        yield* line.session.idle
        // What the last stream said leaves first, over another connection if need be.
        while (line.connected ? line.session.link.queuedBytes > 0 : line.session.unfinished) {
          yield* Effect.sleep(flushPollMs)
        }
        yield* end(line)
      })
    )
  }

  const end = (line: Line) => {
    line.session.draining = true
    line.session.abortAll("session_lost", "the runner went on without this stream")
    return Fiber.interrupt(line.fiber)
  }

  /** The hub of the newest session goes away: another session begins, elsewhere if there is an elsewhere. */
  const onGoAway = (line: Line, reason: string, lasted: boolean) => {
    fork(Effect.logInfo("the hub is going away").pipe(Effect.annotateLogs({ reason })))
    if (draining || line !== lines.at(-1)) return
    const [oldest] = lines
    if (oldest !== undefined && lines.length > limits.sessionsLeavingMax) fork(end(oldest))
    begin(handOverWaitMs(record, lasted))
  }

  const begin = (firstWaitMs: Effect.Effect<number>, id?: Uint8Array) => {
    const line: Line = {
      session: new RunnerSession(sessionOptions, id),
      fiber: undefined as never,
      connected: false
    }
    lines.push(line)
    const life = {
      dialer,
      clock,
      introduction,
      record,
      session: line.session,
      events: {
        onDial: () => setStatus(line, { _tag: "Connecting" }),
        onWelcome: (url: URL, welcome: Wayleave1.Welcome) => onWelcome(line, url, welcome),
        onRoundTrip: (roundTripMs: number) => {
          if (status.value._tag === "Connected") setStatus(line, { ...status.value, roundTripMs })
        },
        onGoAway: (reason: string, lasted: boolean) => onGoAway(line, reason, lasted),
        onEnd: () => {
          line.connected = false
        },
        onWait: (retryInMs: number, cause: string) => {
          setStatus(line, { _tag: "Waiting", retryInMs, cause })
          Deferred.doneUnsafe(attempted, Effect.void)
        },
        isSuperseded: () => line !== lines.at(-1)
      }
    }
    line.fiber = fork(
      Effect.flatMap(firstWaitMs, (waitMs) => live(life, waitMs)).pipe(
        Effect.tap((refusal) => (refusal !== undefined && line === lines.at(-1) ? refuse(line, refusal) : Effect.void))
      )
    )
    line.fiber.addObserver(() => forget(line))
  }

  /** A session that is over. The newest stays, whatever became of it: it is the one to ask. */
  const forget = (line: Line) => {
    const at = lines.indexOf(line)
    if (at < 0 || at === lines.length - 1) return
    lines.splice(at, 1)
    unknownFrames += line.session.unknownFrames
    line.session.restart(true)
  }

  /** A full socket takes it a little later, an absent one never. */
  const flushed = (line: Line) =>
    Effect.gen(function* () {
      while (line.session.link.queuedBytes > 0 && line.connected) yield* Effect.sleep(flushPollMs)
    })
  const leave = Effect.gen(function* () {
    draining = true
    for (const line of lines) {
      line.session.draining = true
      sayLeaving(line)
    }
    const all = { concurrency: "unbounded", discard: true } as const
    const within = options.drain ?? limits.drainMs
    yield* Effect.timeoutOption(
      Effect.forEach([...lines], ({ session }) => session.idle, all),
      within
    )
    for (const { session } of lines) {
      session.abortAll("session_lost", "the runner stopped before the answer was complete")
    }
    // What this turn queued leaves at its end.
    yield* Effect.callback<void>((resume) => turn(() => resume(Effect.void)))
    yield* Effect.timeoutOption(Effect.forEach([...lines], flushed, all), flushMsMax)
    yield* Fiber.interruptAll(lines.map(({ fiber }) => fiber))
  })
  // In a fiber of its own: whoever asks for it and gives up waiting does not keep the runner here.
  let leaving: Fiber.Fiber<void> | undefined
  const drain = Effect.suspend(() => Effect.asVoid(Fiber.await((leaving ??= fork(leave)))))
  yield* Effect.addFinalizer(() => drain)
  begin(Effect.succeed(0), options.session)
  yield* Deferred.await(attempted)

  return Runner.of({
    status,
    connected: Deferred.await(connected),
    refused: Deferred.await(refused),
    drain,
    countsUnsafe: () => ({
      openStreams: lines.reduce((sum, { session }) => sum + session.openStreams, 0),
      connections: record.connections,
      unknownFrames: lines.reduce((sum, { session }) => sum + session.unknownFrames, unknownFrames),
      nonsense: record.nonsense
    })
  })
})

const flushPollMs = 10
const flushMsMax = 2_000

/** A runner for the app and over the dialer it is provided with. Building it fails only where the hub refuses at once. */
export const layer = (options: RunnerOptions): Layer.Layer<Runner, RunnerRefused, Dialer | RunnerApp> =>
  Layer.effect(Runner, make(options))
