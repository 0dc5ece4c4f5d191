/**
 * The life of one session: dials, serves, waits, and dials again, until a hub refuses it for good or, superseded by another session of its runner,
 * it has nothing left to finish. Next: `HubConnection.ts`, one socket; `Reconnect.ts`, the waits between.
 */
import { type Clock, Effect } from "effect"
import type { Complaints } from "../protocol/Complaints.ts"
import type * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { Dialer } from "../socket/MessageSocket.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubChoice } from "./HubChoice.ts"
import { type ConnectionEnd, connect, type Introduction } from "./HubConnection.ts"
import * as Reconnect from "./Reconnect.ts"
import type { RunnerSession } from "./RunnerSession.ts"

/** Why a hub will never have this runner. */
export interface Refusal {
  readonly reason: "unauthorized" | "forbidden" | "fenced" | "unsupported_version" | "bad_name"
  readonly message: string
}

/** What the sessions of one runner share. Changed in place. */
export interface RunnerRecord {
  readonly hubs: HubChoice
  readonly complaints: Complaints
  /** Dials in a row that led to nothing lasting. */
  failures: number
  everWelcomed: boolean
  connections: number
  /** Messages of a hub that did not decode or came out of turn. */
  nonsense: number
}

/** What the owner of a session is told. */
export interface SessionEvents {
  readonly onDial: () => void
  readonly onWelcome: (url: URL, welcome: Wayleave1.Welcome) => void
  readonly onRoundTrip: (roundTripMs: number) => void
  /** `lasted`: the connection was a good one until now. */
  readonly onGoAway: (reason: string, lasted: boolean) => void
  readonly onEnd: () => void
  readonly onWait: (retryInMs: number, cause: string) => void
  /** Whether another session of the runner takes what is new: this one ends with its streams. */
  readonly isSuperseded: () => boolean
}

/** All that a session needs to live. */
export interface SessionLifeOptions {
  readonly dialer: Dialer["Service"]
  readonly clock: Clock.Clock
  readonly introduction: Omit<Introduction, "url">
  readonly record: RunnerRecord
  readonly session: RunnerSession
  readonly events: SessionEvents
}

const final = ["unauthorized", "forbidden", "unsupported_version", "bad_name"] as const

/** The refusal in this end, if it is one. A runner that was welcome once trusts that the hub will see reason; only a newer runner is final. */
const refusalOf = (end: ConnectionEnd, everWelcomed: boolean): Refusal | undefined => {
  if (end._tag === "Closed" && end.reason === "fenced") return { reason: "fenced", message: end.cause }
  if (everWelcomed) return undefined
  if (end._tag === "NotReached" && end.status === 401) return { reason: "unauthorized", message: end.cause }
  if (end._tag === "NotReached" && end.status === 403) return { reason: "forbidden", message: end.cause }
  const reason = end._tag === "Closed" ? final.find((one) => one === end.reason) : undefined
  return reason === undefined ? undefined : { reason, message: end.cause }
}

// A fault of ours costs a session, and shows in the log; it must not leave a runner that looks connected and is not.
const broken = (defect: unknown) =>
  Effect.as(Effect.logError("a connection to the hub failed", defect), {
    _tag: "Nonsense",
    cause: "the connection failed on this side"
  } satisfies ConnectionEnd)

const complain = (record: RunnerRecord, cause: string, now: number) => {
  record.nonsense++
  const count = record.complaints.note("nonsense", now)
  return count === 0
    ? Effect.void
    : Effect.logWarning("a message from the hub could not be understood").pipe(Effect.annotateLogs({ cause, count }))
}

/** The wait before the next dial; a round through all hubs counts as one. */
const nextWaitMs = (record: RunnerRecord) => Reconnect.nextWaitMs(Math.ceil(++record.failures / record.hubs.size))

/** The wait before a session that takes over from one whose hub goes away: none, unless that one had only just begun. */
export const handOverWaitMs = (record: RunnerRecord, lasted: boolean) =>
  lasted ? Effect.succeed(0) : nextWaitMs(record)

/** Lives until the end, and returns the refusal where it was one. Interruption closes the socket. */
export const live = Effect.fnUntraced(function* (options: SessionLifeOptions, firstWaitMs: number) {
  const { clock, dialer, events, introduction, record, session } = options
  const { hubs } = record
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let welcomedAtMs: number | undefined
  let lostAtMs: number | undefined
  let keptForMs = limits.sessionGraceMs
  const lasted = () => welcomedAtMs !== undefined && nowMs() - welcomedAtMs >= Reconnect.lastedMs

  if (firstWaitMs > 0) {
    events.onWait(firstWaitMs, "the hub is going away")
    yield* Effect.sleep(firstWaitMs)
  }
  while (true) {
    const url = hubs.current
    welcomedAtMs = undefined
    events.onDial()
    const end = yield* connect(dialer, { ...introduction, url: url.href }, session, {
      onWelcome: (welcome) => {
        welcomedAtMs = nowMs()
        record.connections++
        // The hub may take a deadline to notice that we were cut off, and keeps the session for the grace period after that.
        keptForMs = welcome.heartbeatDeadlineMs + welcome.graceMs
        events.onWelcome(url, welcome)
      },
      onRoundTrip: events.onRoundTrip,
      onGoAway: (reason) => {
        hubs.passOver(url)
        events.onGoAway(reason, lasted())
      }
    }).pipe(Effect.catchDefect(broken))
    events.onEnd()
    if (lasted()) record.failures = 0
    if (welcomedAtMs !== undefined) {
      record.everWelcomed = true
      lostAtMs = nowMs()
    } else hubs.passOver(url)
    const refusal = refusalOf(end, record.everWelcomed)
    if (refusal !== undefined) return refusal
    if (end._tag === "Nonsense") yield* complain(record, end.cause, clock.currentTimeMillisUnsafe())
    const forgotten = lostAtMs !== undefined && nowMs() - lostAtMs >= keptForMs
    if (end._tag === "Nonsense" || end._tag === "Unresumable" || (forgotten && session.unfinished)) {
      session.restart(true)
    }
    if (events.isSuperseded() && !session.unfinished) return undefined
    const retryInMs = yield* nextWaitMs(record)
    events.onWait(retryInMs, end.cause)
    if (record.failures === 1)
      yield* Effect.logWarning("no connection to the hub").pipe(Effect.annotateLogs({ cause: end.cause }))
    yield* Effect.sleep(retryInMs)
  }
})
