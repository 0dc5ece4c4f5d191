/**
 * Carries envelopes between gateways and hubs: publish to a subject, subscribe to one as a Stream of arrays, ask one question.
 *
 * `layerMemory` passes envelopes by reference within one process and is bounded; a publish has succeeded once every inbox took it.
 */
import { type Cause, Context, Effect, Layer, Queue, Schema, type Scope, Stream } from "effect"
import type { Envelope } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Subject } from "./Subject.ts"

/**
 * A publish or request that did not succeed. `NoResponders`: nobody listens, and nobody got it. `Full`: an inbox stayed full until the
 * deadline. `Timeout`: no reply came. `Disconnected`: the server is out of reach, so whether it arrived is not known.
 */
export class BusError extends Schema.TaggedError<BusError>()("BusError", {
  subject: Schema.String,
  reason: Schema.Literals(["NoResponders", "Full", "Timeout", "Disconnected"])
}) {}

/** How a publish is delivered. `each`: to all subscribers, none is fine too. `one`: to one of a subject's group, `NoResponders` at once without any. */
export type Delivery = "each" | "one"

/** The one way from a gateway to a hub and back. Two implementations differ in reach, not in meaning: `test/contract/` holds both to it. */
export class MessageBus extends Context.Service<
  MessageBus,
  {
    /**
     * Succeeds once the subscriber, or the server between, has taken all of `envelopes`; they arrive in order. After a failure some may have
     * arrived: a receiver knows a repeated frame by its index.
     */
    readonly publish: (
      subject: Subject,
      envelopes: ReadonlyArray<Envelope>,
      delivery: Delivery
    ) => Effect.Effect<void, BusError>
    /**
     * Subscribed as soon as the effect returns, until its scope closes; the stream's arrays are what each turn brought. The stream ends once it
     * has handed out what came before the scope closed.
     */
    readonly subscribe: (subject: Subject) => Effect.Effect<Stream.Stream<Envelope>, never, Scope.Scope>
  }
>()("wayleave/bus/MessageBus") {}

interface Subscriber {
  readonly inbox: Queue.Queue<Envelope, Cause.Done>
}

const makeMemory = Effect.fnUntraced(function* (options: {
  readonly inboxEnvelopesMax: number
  readonly publishTimeoutMs: number
}) {
  const subjects = new Map<Subject, Array<Subscriber>>()
  const cursors = new Map<Subject, number>()

  const full = (subject: Subject) => new BusError({ subject, reason: "Full" })

  const deliver = (subject: Subject, subscriber: Subscriber, envelopes: ReadonlyArray<Envelope>) => {
    // The common case costs no waiting: the inbox has room.
    let taken = 0
    while (taken < envelopes.length && Queue.offerUnsafe(subscriber.inbox, envelopes[taken] as Envelope)) taken++
    if (taken === envelopes.length) return Effect.void
    return Queue.offerAll(subscriber.inbox, envelopes.slice(taken)).pipe(
      Effect.timeoutOrElse({ duration: options.publishTimeoutMs, orElse: () => Effect.fail(full(subject)) }),
      Effect.asVoid
    )
  }

  const choose = (subject: Subject, subscribers: ReadonlyArray<Subscriber>): Subscriber => {
    const cursor = ((cursors.get(subject) ?? -1) + 1) % subscribers.length
    if (subscribers.length > 1) cursors.set(subject, cursor)
    return subscribers[cursor] as Subscriber
  }

  return MessageBus.of({
    publish: (subject, envelopes, delivery) =>
      Effect.suspend(() => {
        const subscribers = subjects.get(subject)
        if (subscribers === undefined) {
          return delivery === "one" ? Effect.fail(new BusError({ subject, reason: "NoResponders" })) : Effect.void
        }
        if (delivery === "one") return deliver(subject, choose(subject, subscribers), envelopes)
        if (subscribers.length === 1) return deliver(subject, subscribers[0] as Subscriber, envelopes)
        return Effect.forEach([...subscribers], (subscriber) => deliver(subject, subscriber, envelopes), {
          discard: true,
          concurrency: "unbounded"
        })
      }),
    subscribe: Effect.fnUntraced(function* (subject) {
      const inbox = yield* Queue.bounded<Envelope, Cause.Done>(options.inboxEnvelopesMax)
      const subscriber: Subscriber = { inbox }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          const others = subjects.get(subject)
          subjects.set(subject, others === undefined ? [subscriber] : [...others, subscriber])
        }),
        () =>
          Effect.sync(() => {
            const others = (subjects.get(subject) ?? []).filter((other) => other !== subscriber)
            if (others.length > 0) subjects.set(subject, others)
            else {
              subjects.delete(subject)
              cursors.delete(subject)
            }
            // What was taken before is still handed out, then the stream ends: a request must not vanish between two subscribers.
            Queue.endUnsafe(inbox)
          })
      )
      return Stream.fromQueue(inbox)
    })
  })
})

/** One process is the whole cluster. Complete and bounded: fit for production on one machine. */
export const layerMemory: Layer.Layer<MessageBus> = Layer.effect(MessageBus, makeMemory(limits))

/** The same with other bounds. */
export const layerMemoryWith = (options: {
  readonly inboxEnvelopesMax: number
  readonly publishTimeoutMs: number
}): Layer.Layer<MessageBus> => Layer.effect(MessageBus, makeMemory(options))
