/**
 * Carries envelopes between gateways and hubs: publish to a subject, subscribe to one as a Stream of arrays, ask one question.
 *
 * `layerMemory` passes envelopes by reference within one process and is bounded; a publish has succeeded once every inbox took it. The bus
 * between machines is `NatsMessageBus.ts`.
 */
import { type Cause, Context, Effect, Layer, Queue, Schema, type Scope, Stream, SubscriptionRef } from "effect"
import type { Envelope } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { Subject } from "./Subject.ts"

/**
 * A publish or request that did not succeed. `NoResponders`: nobody listens, and nobody got it. `Full`: an inbox stayed full until the
 * deadline. `Timeout`: no reply came. `Disconnected`: the server is out of reach, so whether it arrived is not known. `Unsendable`: an envelope
 * has no form in bytes, or is longer than the bus carries; nothing was sent, and trying again is of no use.
 */
export class BusError extends Schema.TaggedError<BusError>()("BusError", {
  subject: Schema.String,
  reason: Schema.Literals(["NoResponders", "Full", "Timeout", "Disconnected", "Unsendable"])
}) {}

/** How a publish is delivered. `each`: to all subscribers, none is fine too. `one`: to one of a subject's group, `NoResponders` at once without any. */
export type Delivery = "each" | "one"

/** The one way from a gateway to a hub and back. Two implementations differ in reach, not in meaning: `test/contract/` holds both to it. */
export class MessageBus extends Context.Service<
  MessageBus,
  {
    /**
     * Succeeds once they are taken: by the inbox, or by the server between where one of them is a last word (`isLastWord`), or for `one` by the
     * subscriber that got them. They arrive in order, also behind those of a publish that has not succeeded yet. After a failure some may have
     * arrived: a receiver knows a repeated frame by its index.
     */
    readonly publish: (
      subject: Subject,
      envelopes: ReadonlyArray<Envelope>,
      delivery: Delivery
    ) => Effect.Effect<void, BusError>
    /**
     * Subscribed as soon as the effect returns, until its scope closes; the stream's arrays are what each turn brought. The stream ends once it
     * has handed out what came before the scope closed. `deliveries` says for what; both, unless told otherwise.
     */
    readonly subscribe: (
      subject: Subject,
      deliveries?: ReadonlyArray<Delivery>
    ) => Effect.Effect<Stream.Stream<Envelope>, never, Scope.Scope>
    /** Asks one of those that respond on a subject, and has its answer within `answerMs`. Questions and publishes never mix. */
    readonly request: (subject: Subject, question: Envelope) => Effect.Effect<Envelope, BusError>
    /** Answers questions until the scope closes; at most `questionsMax` at once, the next one is `Full`. */
    readonly respond: (
      subject: Subject,
      answer: (question: Envelope) => Effect.Effect<Envelope>
    ) => Effect.Effect<void, never, Scope.Scope>
    /** Whether the bus is in reach. What was under way when it went may be lost, without a word from whoever sent it. */
    readonly connected: SubscriptionRef.SubscriptionRef<boolean>
  }
>()("wayleave/bus/MessageBus") {}

/** All deliveries: what a subscriber gets that names none. */
export const deliveriesAll: ReadonlyArray<Delivery> = ["each", "one"]

/** Whenever the bus goes out of reach. */
export const losses = (bus: MessageBus["Service"]): Stream.Stream<boolean> =>
  Stream.filter(SubscriptionRef.changes(bus.connected), (connected) => !connected)

/** What bounds a bus; each has its entry in `Limits.ts`. */
export interface BusBounds {
  readonly inboxEnvelopesMax: number
  readonly publishTimeoutMs: number
  readonly answerMs: number
  readonly questionsMax: number
}

interface Subscriber {
  readonly inbox: Queue.Queue<Envelope, Cause.Done>
}

interface Responder {
  readonly answer: (question: Envelope) => Effect.Effect<Envelope>
  asked: number
}

/** Members of a subject's group, taken in turn. */
class Groups<A> {
  private readonly members = new Map<Subject, ReadonlyArray<A>>()
  private readonly cursors = new Map<Subject, number>()

  of(subject: Subject): ReadonlyArray<A> | undefined {
    return this.members.get(subject)
  }

  next(subject: Subject, members: ReadonlyArray<A>): A {
    const cursor = ((this.cursors.get(subject) ?? -1) + 1) % members.length
    if (members.length > 1) this.cursors.set(subject, cursor)
    return members[cursor] as A
  }

  join(subject: Subject, member: A): void {
    this.members.set(subject, [...(this.members.get(subject) ?? []), member])
  }

  leave(subject: Subject, member: A): void {
    const others = (this.members.get(subject) ?? []).filter((other) => other !== member)
    if (others.length > 0) return void this.members.set(subject, others)
    this.members.delete(subject)
    this.cursors.delete(subject)
  }
}

const makeMemory = Effect.fnUntraced(function* (options: BusBounds) {
  const subscribers = { each: new Groups<Subscriber>(), one: new Groups<Subscriber>() }
  const responders = new Groups<Responder>()
  const connected = yield* SubscriptionRef.make(true)

  const failure = (subject: Subject, reason: BusError["reason"]) => new BusError({ subject, reason })

  const deliver = (subject: Subject, subscriber: Subscriber, envelopes: ReadonlyArray<Envelope>) => {
    // The common case costs no waiting: the inbox has room.
    let taken = 0
    while (taken < envelopes.length && Queue.offerUnsafe(subscriber.inbox, envelopes[taken] as Envelope)) taken++
    if (taken === envelopes.length) return Effect.void
    return Queue.offerAll(subscriber.inbox, envelopes.slice(taken)).pipe(
      Effect.timeoutOrElse({ duration: options.publishTimeoutMs, orElse: () => Effect.fail(failure(subject, "Full")) }),
      Effect.asVoid
    )
  }

  return MessageBus.of({
    connected,
    publish: (subject, envelopes, delivery) =>
      Effect.suspend(() => {
        const all = subscribers[delivery].of(subject)
        if (all === undefined) return delivery === "one" ? Effect.fail(failure(subject, "NoResponders")) : Effect.void
        if (delivery === "one") return deliver(subject, subscribers.one.next(subject, all), envelopes)
        if (all.length === 1) return deliver(subject, all[0] as Subscriber, envelopes)
        return Effect.forEach(all, (subscriber) => deliver(subject, subscriber, envelopes), {
          discard: true,
          concurrency: "unbounded"
        })
      }),
    subscribe: Effect.fnUntraced(function* (subject, deliveries = deliveriesAll) {
      const inbox = yield* Queue.bounded<Envelope, Cause.Done>(options.inboxEnvelopesMax)
      const subscriber: Subscriber = { inbox }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          for (const delivery of deliveries) subscribers[delivery].join(subject, subscriber)
        }),
        () =>
          Effect.sync(() => {
            for (const delivery of deliveries) subscribers[delivery].leave(subject, subscriber)
            // What was taken before is still handed out, then the stream ends: a request must not vanish between two subscribers.
            Queue.endUnsafe(inbox)
          })
      )
      return Stream.fromQueue(inbox)
    }),
    request: (subject, question) =>
      Effect.suspend(() => {
        const all = responders.of(subject)
        if (all === undefined) return Effect.fail(failure(subject, "NoResponders"))
        const responder = responders.next(subject, all)
        if (responder.asked >= options.questionsMax) return Effect.fail(failure(subject, "Full"))
        responder.asked++
        return responder
          .answer(question)
          .pipe(
            Effect.ensuring(Effect.sync(() => void responder.asked--)),
            Effect.timeoutOrElse({ duration: options.answerMs, orElse: () => Effect.fail(failure(subject, "Timeout")) })
          )
      }),
    respond: (subject, answer) => {
      const responder: Responder = { answer, asked: 0 }
      return Effect.acquireRelease(
        Effect.sync(() => responders.join(subject, responder)),
        () => Effect.sync(() => responders.leave(subject, responder))
      )
    }
  })
})

/** One process is the whole cluster. Complete and bounded: fit for production on one machine. */
export const layerMemory: Layer.Layer<MessageBus> = Layer.effect(MessageBus, makeMemory(limits))

/** The same with other bounds. */
export const layerMemoryWith = (bounds: Partial<BusBounds>): Layer.Layer<MessageBus> =>
  Layer.effect(MessageBus, makeMemory({ ...limits, ...bounds }))
