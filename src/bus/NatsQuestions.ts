/**
 * What is said to one of those that listen, and answered: a publish to `one`, which its taker acknowledges, and requests. Each answer comes to a subject
 * of its own, the server answers for a subject that nobody listens to, and one alarm watches over the time of all.
 *
 * Next: `NatsMessageBus.ts`, which has the words for both.
 */
import { Effect, Schedule } from "effect"
import { Deadlines, type Due } from "../tunnel/Deadlines.ts"
import { IdMap } from "../tunnel/IdMap.ts"
import { limits } from "../tunnel/Limits.ts"
import { Soon } from "../tunnel/Turn.ts"
import type { BusError } from "./MessageBus.ts"
import type { NatsConnection, NatsMessage, NatsQuestion } from "./NatsConnection.ts"

type Reason = BusError["reason"]
type Outcome = Effect.Effect<NatsMessage, Reason>

/** How a subscriber's bus answers a publish to `one` that does not fit into its inbox. No envelope is a single byte. */
export const fullMark = new Uint8Array([1])
/** How it answers one that it took: by nothing at all. */
export const takenMark = new Uint8Array(0)
const noResponders = 503

/** A question on its way: whoever hands it to the connection says so first. */
export interface Question extends NatsQuestion {
  readonly onSent: () => void
}

/** Hands a question over to the server, behind what was handed over before. */
export type HandOver = (question: Question) => Effect.Effect<void, Reason>

/** How something is asked. */
export interface AskOptions {
  readonly timeoutMs: number
  /** Whether one answer may be that of several questions: it says no more than that they were taken. */
  readonly shared: boolean
}

/** A question under way: its answer may come before anybody waits for it. */
class Asked implements Due {
  private outcome: Outcome | undefined
  private resume: ((outcome: Outcome) => void) | undefined
  private readonly untilMs: number
  private readonly lateness: () => Reason
  /** Those that have left in one message with it, and share its answer. */
  private sharing: Array<Asked> | undefined
  /** Nobody waits for it any more. */
  private left = false

  constructor(untilMs: number, lateness: () => Reason) {
    this.untilMs = untilMs
    this.lateness = lateness
  }

  readonly answer: Outcome = Effect.callback((resume) => {
    if (this.outcome === undefined) this.resume = resume
    else resume(this.outcome)
  })

  share(other: Asked): void {
    if (this.sharing === undefined) this.sharing = [other]
    else this.sharing.push(other)
  }

  settle(outcome: Outcome): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.resume?.(outcome)
  }

  /** The answer has come: it is that of all who share it. */
  answered(outcome: Outcome): void {
    this.settle(outcome)
    for (const other of this.sharing ?? []) other.settle(outcome)
  }

  leave(): void {
    this.left = true
  }

  /** Nobody waits for it, nor for what shares its answer. */
  get over(): boolean {
    return this.left && (this.sharing === undefined || this.sharing.every(({ left }) => left))
  }

  dueMs(): number {
    return this.outcome === undefined ? this.untilMs : Number.POSITIVE_INFINITY
  }

  expire(): void {
    this.settle(Effect.fail(this.lateness()))
  }

  crash(): void {}
}

const outcomeOf = (message: NatsMessage): Outcome => {
  if (message.data.length === 0 && message.headers?.code === noResponders) return Effect.fail("NoResponders")
  if (message.data.length === fullMark.length) return Effect.fail("Full")
  return Effect.succeed(message)
}

interface Telling extends Pick<Question, "onSent" | "onUnsent">, Pick<AskOptions, "shared"> {}

/** The questions of one connection, which is back whenever `returned` succeeds. */
export const make = Effect.fnUntraced(function* (
  nats: NatsConnection,
  options: {
    readonly nowMs: () => number
    readonly returned: Effect.Effect<void>
    /** Whether who was lost together with us may be back a little later. */
    readonly isReturning: () => boolean
  }
) {
  const { isReturning, nowMs, returned } = options
  const deadlines = new Deadlines({ nowMs, soon: yield* Soon })
  const waiting = new IdMap<Asked>()
  let count = 0
  const idOf = (reply: string) => Number.parseInt(reply.slice(nats.inbox.length + 1), 36)
  nats.subscribeUnsafe(`${nats.inbox}.*`, undefined, (message) => {
    waiting.get(idOf(message.subject))?.answered(outcomeOf(message))
  })
  yield* Effect.forkScoped(
    deadlines.watch(
      () => waiting.values(),
      () => Effect.void
    )
  )
  const lateness = (): Reason => (nats.isConnectedUnsafe() ? "Timeout" : "Disconnected")

  /** Asks once, where the server is there. */
  const once = (handOver: HandOver, untilMs: number, { onSent, onUnsent, shared }: Telling): Outcome =>
    Effect.suspend(() => {
      if (!nats.isConnectedUnsafe()) return Effect.fail("Disconnected")
      const id = count
      count = (count + 1) >>> 0
      const asked = new Asked(untilMs, lateness)
      waiting.set(id, asked)
      deadlines.note(untilMs)
      const reply = `${nats.inbox}.${id.toString(36)}`
      let answerId = id
      const onJoined = (other: string) => {
        answerId = idOf(other)
        const first = waiting.get(answerId)
        // Whoever asked first may have given up within this very turn: its message leaves all the same.
        if (first === undefined) waiting.set(answerId, asked)
        else first.share(asked)
      }
      const question: Question = shared ? { reply, onSent, onUnsent, onJoined } : { reply, onSent, onUnsent }
      const leave = () => {
        asked.leave()
        // No answer comes to one that was joined to another.
        if (asked.over || answerId !== id) waiting.delete(id)
        if (answerId !== id && waiting.get(answerId)?.over === true) waiting.delete(answerId)
      }
      return Effect.ensuring(Effect.andThen(handOver(question), asked.answer), Effect.sync(leave))
    })

  return {
    /** Asks within `timeoutMs`, and again only what nobody can have heard. While the server is away nothing is sent: it waits for its return. */
    ask: (handOver: HandOver, { shared, timeoutMs }: AskOptions): Outcome =>
      Effect.suspend(() => {
        const untilMs = nowMs() + timeoutMs
        let unsent = true
        const onSent = () => {
          unsent = false
        }
        const onUnsent = () => {
          unsent = true
        }
        const telling = { onSent, onUnsent, shared }
        const mayAgain = (reason: Reason) =>
          (reason === "NoResponders" && isReturning()) || (reason === "Disconnected" && unsent)
        // Hardly ever: a timeout of its own costs more than all the rest.
        const again = Effect.delay(
          Effect.andThen(
            returned,
            Effect.suspend(() => once(handOver, untilMs, telling))
          ),
          limits.natsRedialMs
        ).pipe(
          Effect.retry({ schedule: Schedule.spaced(limits.natsRedialMs), while: mayAgain }),
          Effect.timeoutOrElse({ duration: timeoutMs, orElse: () => Effect.suspend(() => Effect.fail(lateness())) })
        )
        return Effect.catch(once(handOver, untilMs, telling), (reason) =>
          mayAgain(reason) ? again : Effect.fail(reason)
        )
      }),
    /** The connection is lost, and with it every answer. */
    lose: () => {
      for (const asked of waiting.values()) asked.settle(Effect.fail("Disconnected"))
    }
  }
})
