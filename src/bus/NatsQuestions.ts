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
import type { NatsConnection, NatsMessage } from "./NatsConnection.ts"

type Reason = BusError["reason"]
type Outcome = Effect.Effect<NatsMessage, Reason>

/** How a subscriber's bus answers a publish to `one` that does not fit into its inbox. No envelope is a single byte. */
export const fullMark = new Uint8Array([1])
/** How it answers one that it took: by nothing at all. */
export const takenMark = new Uint8Array(0)
const noResponders = 503

/** Hands a question over to the server, behind what was handed over before. */
export type HandOver = (reply: string, onSent: () => void, onUnsent: () => void) => Effect.Effect<void, Reason>

/** A question under way: its answer may come before anybody waits for it. */
class Asked implements Due {
  private outcome: Outcome | undefined
  private resume: ((outcome: Outcome) => void) | undefined
  private readonly untilMs: number
  private readonly lateness: () => Reason

  constructor(untilMs: number, lateness: () => Reason) {
    this.untilMs = untilMs
    this.lateness = lateness
  }

  readonly answer: Outcome = Effect.callback((resume) => {
    if (this.outcome === undefined) this.resume = resume
    else resume(this.outcome)
  })

  settle(outcome: Outcome): void {
    if (this.outcome !== undefined) return
    this.outcome = outcome
    this.resume?.(outcome)
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
  nats.subscribeUnsafe(`${nats.inbox}.*`, undefined, (message) => {
    const id = Number.parseInt(message.subject.slice(nats.inbox.length + 1), 36)
    waiting.get(id)?.settle(outcomeOf(message))
  })
  yield* Effect.forkScoped(
    deadlines.watch(
      () => waiting.values(),
      () => Effect.void
    )
  )
  const lateness = (): Reason => (nats.isConnectedUnsafe() ? "Timeout" : "Disconnected")

  /** Asks once, where the server is there. */
  const once = (send: (reply: string) => Effect.Effect<void, Reason>, untilMs: number): Outcome =>
    Effect.suspend(() => {
      if (!nats.isConnectedUnsafe()) return Effect.fail("Disconnected")
      const id = count
      count = (count + 1) >>> 0
      const asked = new Asked(untilMs, lateness)
      waiting.set(id, asked)
      deadlines.note(untilMs)
      return Effect.ensuring(
        Effect.andThen(send(`${nats.inbox}.${id.toString(36)}`), asked.answer),
        Effect.sync(() => waiting.delete(id))
      )
    })

  return {
    /** Asks within `timeoutMs`, and again only what nobody can have heard. While the server is away nothing is sent: it waits for its return. */
    ask: (handOver: HandOver, timeoutMs: number): Outcome =>
      Effect.suspend(() => {
        const untilMs = nowMs() + timeoutMs
        let unsent = true
        const onSent = () => {
          unsent = false
        }
        const onUnsent = () => {
          unsent = true
        }
        const send = (reply: string) => handOver(reply, onSent, onUnsent)
        const mayAgain = (reason: Reason) =>
          (reason === "NoResponders" && isReturning()) || (reason === "Disconnected" && unsent)
        // Hardly ever: a timeout of its own costs more than all the rest.
        const again = Effect.delay(
          Effect.andThen(
            returned,
            Effect.suspend(() => once(send, untilMs))
          ),
          limits.natsRedialMs
        ).pipe(
          Effect.retry({ schedule: Schedule.spaced(limits.natsRedialMs), while: mayAgain }),
          Effect.timeoutOrElse({ duration: timeoutMs, orElse: () => Effect.suspend(() => Effect.fail(lateness())) })
        )
        return Effect.catch(once(send, untilMs), (reason) => (mayAgain(reason) ? again : Effect.fail(reason)))
      }),
    /** The connection is lost, and with it every answer. */
    lose: () => {
      for (const asked of waiting.values()) asked.settle(Effect.fail("Disconnected"))
    }
  }
})
