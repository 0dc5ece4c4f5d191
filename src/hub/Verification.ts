/**
 * A session that moved here says which streams are its own; the gateways know. Asked once per route, before the runner is welcomed, so that no
 * frame of it has to be held: a runner says nothing before Welcome. What is granted is issued like any other route; what is not is Unknown, as it was.
 *
 * Whoever guesses routes learns nothing, since denied and unheard of look alike, and floods nobody: each list, session and hub has its bound.
 * Next: `SessionTable.ts`, which asks; `gateway/InFlight.ts`, which answers.
 */
import { Clock, Deferred, Effect, Metric } from "effect"
import * as Subject from "../bus/Subject.ts"
import { Tombstones } from "../route/Tombstones.ts"
import type { MovedStream, RouteAnswer, RouteKey, SessionId, Uplink } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import { RouteMap } from "../tunnel/RouteMap.ts"
import * as HubMetrics from "./HubMetrics.ts"
import type { HubParts } from "./HubParts.ts"
import { openStream, type Session } from "./Session.ts"

/** Asks the owners of routes, and hears what they say. */
export interface Verification {
  /** Returns the routes that the session may not go on with; all others were opened by then. `givenUp` ends the wait early. */
  readonly verify: (
    session: Session,
    streams: ReadonlyArray<MovedStream>,
    givenUp: Effect.Effect<unknown>
  ) => Effect.Effect<ReadonlyArray<RouteKey>>
  /**
   * Asks about routes that a session speaks on and nobody here holds. A WebSocket that is its own, and can be woken, its gateway wakes; all others it
   * denies, as `answered` hears. `refuse` is told of those that nobody can be asked about. Ends when the questions have left.
   */
  readonly inquire: (
    session: Session,
    routes: ReadonlyArray<RouteKey>,
    refuse: (route: RouteKey) => void
  ) => Effect.Effect<void>
  /** A gateway answered. What it grants is open when this returns: its frames follow. */
  readonly answered: (answer: RouteAnswer) => Effect.Effect<void>
  /** Whether a gateway denied this route to this session: what is still under way for it is nobody's offence, and was told once. */
  readonly wasDenied: (session: SessionId, route: RouteKey) => boolean
}

/** So much in any span, no more: a bucket that fills with time. */
export class Allowance {
  private left: number
  private filledAtMs: number
  private readonly max: number
  private readonly spanMs: number

  constructor(max: number, spanMs: number, nowMs: number) {
    this.max = max
    this.spanMs = spanMs
    this.left = max
    this.filledAtMs = nowMs
  }

  /** Whether so much may still be used, and uses it: all or nothing. */
  take(amount: number, nowMs: number): boolean {
    const filled = ((nowMs - this.filledAtMs) * this.max) / this.spanMs
    this.left = Math.min(this.max, this.left + filled)
    this.filledAtMs = nowMs
    if (amount > this.left) return false
    this.left -= amount
    return true
  }
}

/** What one session waits for. */
interface Asked {
  readonly session: Session
  readonly generation: number
  readonly waiting: RouteMap<true>
  readonly granted: RouteMap<true>
  readonly done: Deferred.Deferred<void>
  /** The runner has been told, or is about to be: what comes now comes too late. */
  settled: boolean
}

const counted = {
  asked: Metric.withAttributes(HubMetrics.routesVerified, { outcome: "asked" }),
  granted: Metric.withAttributes(HubMetrics.routesVerified, { outcome: "granted" }),
  denied: Metric.withAttributes(HubMetrics.routesVerified, { outcome: "denied" })
} as const

/** In questions of a bounded size, none of which speaks of two gateways. */
const questionsOf = (streams: ReadonlyArray<MovedStream>): ReadonlyArray<ReadonlyArray<MovedStream>> => {
  const byGateway = new Map<number, Array<Array<MovedStream>>>()
  for (const stream of streams) {
    const { gatewayId } = stream.route
    const questions = byGateway.get(gatewayId) ?? []
    if (questions.length === 0) {
      if (byGateway.size >= limits.questionGatewaysMax) continue
      byGateway.set(gatewayId, questions)
    }
    const last = questions.at(-1)
    if (last === undefined || last.length >= limits.questionRoutesMax) questions.push([stream])
    else last.push(stream)
  }
  return [...byGateway.values()].flat()
}

/** Questions under way at once for one session. */
const concurrency = 16

/** The verification of one hub. */
export const makeVerification = Effect.fnUntraced(function* (
  parts: Pick<HubParts, "bus" | "routes" | "streams" | "namespace" | "hubId" | "uplink" | "tellGateway">
) {
  const { bus, namespace, routes, streams } = parts
  const context = yield* Effect.context<never>()
  const clock = yield* Clock.Clock
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const replyTo = Subject.ofHub(namespace, parts.hubId)
  const asking = new Map<SessionId, Asked>()
  const denied = new Tombstones({ tombstonesMax: limits.deniedRoutesMax, tombstoneMs: limits.tombstoneMs })
  const ofHub = new Allowance(limits.hubRoutesAskedMax, limits.abuseWindowMs, nowMs())
  /** By session, in the order in which they first asked. */
  const allowances = new Map<SessionId, Allowance>()

  const allowanceOf = (session: SessionId, now: number): Allowance => {
    let allowance = allowances.get(session)
    if (allowance === undefined) {
      const [oldest] = allowances.keys()
      if (oldest !== undefined && allowances.size >= limits.sessionsMax) allowances.delete(oldest)
      allowance = new Allowance(limits.sessionRoutesAskedMax, limits.abuseWindowMs, now)
      allowances.set(session, allowance)
    }
    return allowance
  }

  const wasDenied: Verification["wasDenied"] = (session, route) => denied.ownerOf(route) === session

  /** Each route once, and none that is somebody's here or was denied before. */
  const worthAsking = (session: SessionId, moved: ReadonlyArray<MovedStream>): ReadonlyArray<MovedStream> => {
    const seen = new RouteMap<true>()
    return moved.filter(({ route }) => {
      if (seen.get(route) || streams.get(route) !== undefined || wasDenied(session, route)) return false
      seen.set(route, true)
      return true
    })
  }

  /** What nobody granted stays shut, whoever asks again. */
  const deny = (session: SessionId, route: RouteKey, now: number): void => {
    if (denied.ownerOf(route) !== undefined) return
    denied.add(route, session, now)
  }

  const noteHeard = ({ done, waiting }: Asked): void => {
    if (waiting.size === 0) Deferred.doneUnsafe(done, Effect.void)
  }

  /** `onNobody`: there is no such gateway. */
  const ask = (
    { generation, session: { id, name } }: Pick<Asked, "session" | "generation">,
    question: ReadonlyArray<MovedStream>,
    onNobody: () => void
  ) => {
    const { gatewayId } = (question[0] as MovedStream).route
    counted.asked.updateUnsafe(question.length, context)
    return bus
      .publish(
        Subject.ofGateway(namespace, gatewayId),
        [{ _tag: "RouteQuestion", replyTo, name, session: id, generation, streams: question }],
        "one"
      )
      .pipe(
        Effect.catch(({ reason }) =>
          // Out of reach for a moment is for the deadline to say: the question may have arrived all the same.
          Effect.sync(() => (reason === "NoResponders" ? onNobody() : undefined))
        )
      )
  }

  const askFor = (asked: Asked, question: ReadonlyArray<MovedStream>) =>
    ask(asked, question, () => {
      for (const { route } of question) asked.waiting.delete(route)
      noteHeard(asked)
    })

  const mayAsk = (session: SessionId, count: number, now: number): boolean =>
    allowanceOf(session, now).take(count, now) && ofHub.take(count, now)

  const inquire: Verification["inquire"] = (session, wanted, refuse) =>
    Effect.suspend(() => {
      const now = nowMs()
      denied.sweep(now)
      if (!mayAsk(session.id, wanted.length, now)) {
        for (const route of wanted) refuse(route)
        return Effect.void
      }
      const questions = questionsOf(wanted.map((route) => ({ route, from: null, open: null })))
      const put = (question: ReadonlyArray<MovedStream>) =>
        ask({ session, generation: session.generation }, question, () => {
          for (const { route } of question) {
            deny(session.id, route, nowMs())
            refuse(route)
          }
        })
      return Effect.forEach(questions, put, { discard: true, concurrency })
    })

  const begin = (session: Session, questions: ReadonlyArray<ReadonlyArray<MovedStream>>): Asked => {
    const asked: Asked = {
      session,
      generation: session.generation,
      waiting: new RouteMap(),
      granted: new RouteMap(),
      done: Deferred.makeUnsafe(),
      settled: false
    }
    for (const { route } of questions.flat()) asked.waiting.set(route, true)
    asking.set(session.id, asked)
    noteHeard(asked)
    return asked
  }

  const verify: Verification["verify"] = (session, moved, givenUp) =>
    Effect.suspend(() => {
      const now = nowMs()
      denied.sweep(now)
      const worth = worthAsking(session.id, moved)
      const questions = mayAsk(session.id, worth.length, now) ? questionsOf(worth) : []
      const asked = begin(session, questions)
      const put = Effect.forEach(questions, (question) => askFor(asked, question), { discard: true, concurrency })
      let abandoned = false
      const abandon = Effect.map(givenUp, () => {
        abandoned = true
      })
      // Who answers at once is heard while others are still being asked.
      const wait = Effect.raceAllFirst([Deferred.await(asked.done), abandon, Effect.andThen(put, Effect.never)])
      return Effect.interruptible(Effect.timeoutOption(wait, limits.verifyMs)).pipe(
        Effect.ensuring(Effect.sync(() => leave(asked))),
        Effect.flatMap(() => {
          const refused = settle(asked, moved, abandoned)
          // Whoever did not answer in time may have granted all the same, and its answer been lost.
          const unheard = abandoned ? [] : refused.filter((route) => asked.waiting.get(route))
          return Effect.as(decline(session.id, asked.generation, unheard), refused)
        })
      )
    })

  const leave = (asked: Asked): void => {
    asked.settled = true
    if (asking.get(asked.session.id) === asked) asking.delete(asked.session.id)
  }

  const settle = (
    { granted, session }: Asked,
    moved: ReadonlyArray<MovedStream>,
    abandoned: boolean
  ): ReadonlyArray<RouteKey> => {
    const now = nowMs()
    const refused = moved.map(({ route }) => route).filter((route) => granted.get(route) === undefined)
    // A runner that was cut off meanwhile asks again, and nobody has said no.
    if (!abandoned) for (const route of refused) deny(session.id, route, now)
    counted.granted.updateUnsafe(granted.size, context)
    counted.denied.updateUnsafe(refused.length, context)
    return refused
  }

  /** A gateway that granted, or may have granted, what is not wanted any more would wait for ever. */
  const decline = (session: string, generation: number, refused: ReadonlyArray<RouteKey>) => {
    const byGateway = new Map<number, Array<Uplink>>()
    for (const route of refused) {
      const words = byGateway.get(route.gatewayId) ?? []
      byGateway.set(route.gatewayId, words)
      const news = {
        _tag: "ResponseAbort",
        code: "session_lost",
        message: "the runner went on without this stream"
      } as const
      words.push({ ...parts.uplink(null, route, 0, news), session, generation })
    }
    return Effect.forEach(byGateway, ([gatewayId, words]) => parts.tellGateway(gatewayId, words), { discard: true })
  }

  const answered: Verification["answered"] = Effect.fnUntraced(function* (answer) {
    const asked = asking.get(answer.session as SessionId)
    const expected = asked?.generation === answer.generation ? asked : undefined
    const unwanted: Array<RouteKey> = []
    for (const route of answer.granted) {
      if (expected?.waiting.get(route) === undefined) {
        // Heard before, unless it is too late.
        if (streams.get(route)?.id !== answer.session) unwanted.push(route)
        continue
      }
      const { session } = expected
      const issued = yield* Effect.match(routes.issue(route, session.id), {
        onFailure: () => false,
        onSuccess: () => true
      })
      expected.waiting.delete(route)
      if (issued && !expected.settled) {
        openStream(streams, route, session)
        expected.granted.set(route, true)
        continue
      }
      unwanted.push(route)
      if (issued) yield* routes.close(route)
    }
    const now = nowMs()
    for (const route of answer.denied) {
      if (expected === undefined) deny(answer.session as SessionId, route, now)
      else expected.waiting.delete(route)
    }
    if (expected !== undefined) noteHeard(expected)
    yield* decline(answer.session, answer.generation, unwanted)
  })

  return { verify, inquire, answered, wasDenied } satisfies Verification
})
