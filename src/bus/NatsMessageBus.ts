/**
 * The bus between machines: envelopes as bytes over core NATS. A publish to `one` is acknowledged by the bus that took it, a last word by the
 * server, and nothing else waits. What a server cannot promise (a loss of its connection, a full inbox) is dropped, counted and told.
 *
 * Next: `NatsConnection.ts`, which knows the client; `EnvelopeCodec.ts`, the bytes; `SharedFlush.ts`, how publishes are confirmed; `NatsQuestions.ts`, how
 * they are answered.
 */
import { type Cause, Clock, Config, Effect, Layer, Queue, type Scope, Stream, SubscriptionRef } from "effect"
import { type Envelope, isLastWord } from "../tunnel/Envelope.ts"
import { makeFork } from "../tunnel/Fibers.ts"
import { Fifo } from "../tunnel/Fifo.ts"
import { limits } from "../tunnel/Limits.ts"
import { bind } from "../tunnel/Series.ts"
import * as BusMetrics from "./BusMetrics.ts"
import * as EnvelopeCodec from "./EnvelopeCodec.ts"
import { type BusBounds, BusError, type Delivery, deliveriesAll, MessageBus } from "./MessageBus.ts"
import { connect, type NatsConnection, type NatsMessage } from "./NatsConnection.ts"
import type { NatsOptions, NatsStartError } from "./NatsOptions.ts"
import * as NatsQuestions from "./NatsQuestions.ts"
import * as SharedFlush from "./SharedFlush.ts"
import * as Subject from "./Subject.ts"

type Reason = BusError["reason"]

/** Members of a subject's group share this name: each message goes to one of them. */
const group = "wayleave"

const failed = (reason: Reason) => Effect.fail(reason)

/** Hands messages to the server in order, at most `unconfirmedBytesMax` ahead of what it has confirmed. */
const makeOutbox = Effect.fnUntraced(function* (nats: NatsConnection, publishTimeoutMs: number) {
  const context = yield* Effect.context<never>()
  const messagesSent = bind(BusMetrics.messages, context)
  const parked = new Fifo<{
    readonly send: () => void
    readonly resume: (outcome: Effect.Effect<void, Reason>) => void
  }>()
  let sentBytes = 0
  let confirmedBytes = 0

  const flush = Effect.suspend(() => {
    if (!nats.isConnectedUnsafe()) return failed("Disconnected")
    BusMetrics.flushes.updateUnsafe(1, context)
    const atFlush = sentBytes
    return nats.flush.pipe(
      Effect.timeoutOrElse({
        duration: publishTimeoutMs,
        // A server that takes so long to say a word is none: there may be a better one.
        orElse: () => Effect.andThen(Effect.sync(nats.abandonUnsafe), failed("Disconnected"))
      }),
      Effect.mapError((): Reason => "Disconnected"),
      Effect.tap(() => Effect.sync(() => release(atFlush)))
    )
  })
  const flushes = yield* SharedFlush.make(flush, limits.natsFlushSpacingMs)

  const hasRoom = () => sentBytes - confirmedBytes < limits.natsUnconfirmedBytesMax

  const release = (confirmed: number) => {
    confirmedBytes = Math.max(confirmedBytes, confirmed)
    while (hasRoom()) {
      const next = parked.shift()
      if (next === undefined) return
      next.send()
      next.resume(Effect.void)
    }
  }

  const send = (subject: string, messages: ReadonlyArray<Uint8Array>, question?: NatsQuestions.Question) => {
    question?.onSent()
    for (const message of messages) {
      nats.publishUnsafe(subject, message, question)
      sentBytes += message.length + subject.length
    }
    messagesSent.update(messages.length, context)
    if (sentBytes - confirmedBytes > limits.natsUnconfirmedBytesMax / 2) flushes.soonUnsafe()
  }

  const park = (send: () => void) =>
    Effect.callback<void, Reason>((resume) => {
      const entry = { send, resume }
      parked.push(entry)
      flushes.soonUnsafe()
      return Effect.sync(() => {
        parked.extract((other) => other === entry)
      })
    }).pipe(Effect.timeoutOrElse({ duration: publishTimeoutMs, orElse: () => failed("Full") }))

  return {
    /** Everything handed over before is on the server. */
    confirmed: Effect.suspend(() => {
      const losses = nats.lossesUnsafe()
      return Effect.flatMap(flushes.confirmed, () =>
        // The answer of a server we have returned to says nothing about what another was given.
        losses === nats.lossesUnsafe() ? Effect.void : failed("Disconnected")
      )
    }),
    /**
     * Succeeds once the messages are on their way, behind those that were handed over before; mostly that is at once. Where it fails nothing has left,
     * and where that shows only afterwards the question's `onUnsent` is told.
     */
    handOver: (
      subject: string,
      messages: ReadonlyArray<Uint8Array>,
      question?: NatsQuestions.Question
    ): Effect.Effect<void, Reason> => {
      if (!nats.isConnectedUnsafe()) return failed("Disconnected")
      if (parked.length > 0 || !hasRoom()) return park(() => send(subject, messages, question))
      send(subject, messages, question)
      return Effect.void
    },
    /** The connection is lost: nothing that waited will be confirmed, and what comes next begins at nothing. */
    lose: () => {
      confirmedBytes = sentBytes
      for (const { resume } of parked.takeAll()) resume(failed("Disconnected"))
    }
  }
})

/** A bus on a connection. Reachable for tests; `layer` connects. */
export const make = Effect.fnUntraced(function* (
  nats: NatsConnection,
  bounds: BusBounds
): Effect.fn.Return<MessageBus["Service"], never, Scope.Scope> {
  const context = yield* Effect.context<never>()
  const connected = yield* SubscriptionRef.make(true)
  const outbox = yield* makeOutbox(nats, bounds.publishTimeoutMs)
  const clock = yield* Clock.Clock
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  let returnedMs = Number.NEGATIVE_INFINITY
  const returned = Effect.suspend(() =>
    nats.isConnectedUnsafe()
      ? Effect.void
      : Stream.runDrain(Stream.takeUntil(SubscriptionRef.changes(connected), (now) => now && nats.isConnectedUnsafe()))
  )
  const questions = yield* NatsQuestions.make(nats, {
    nowMs,
    returned,
    isReturning: () => nowMs() - returnedMs < limits.natsReturnMs
  })
  BusMetrics.connected.updateUnsafe(1, context)

  const onChange = (now: boolean) =>
    Effect.suspend(() => {
      BusMetrics.connected.updateUnsafe(now ? 1 : 0, context)
      if (now) returnedMs = nowMs()
      else {
        BusMetrics.losses.updateUnsafe(1, context)
        outbox.lose()
        questions.lose()
      }
      return SubscriptionRef.set(connected, now)
    })
  yield* Effect.forkScoped(Stream.runForEach(nats.changes, onChange))

  const wire = (subject: Subject.Subject, kind: "each" | "one" | "ask") =>
    Subject.onServer(subject, kind, EnvelopeCodec.layout)
  const named = <A>(subject: Subject.Subject, effect: Effect.Effect<A, Reason>) =>
    Effect.mapError(effect, (reason) => new BusError({ subject, reason }))

  const encode = (envelopes: ReadonlyArray<Envelope>) => {
    const max = nats.payloadBytesMaxUnsafe()
    return EnvelopeCodec.encode(envelopes, { fill: Math.min(limits.natsMessageBytesMax, max), max })
  }
  /** As one message, or none: its parts might go to different members of a group. */
  const encodeWhole = (envelopes: ReadonlyArray<Envelope>) => {
    const max = nats.payloadBytesMaxUnsafe()
    const messages = EnvelopeCodec.encode(envelopes, { fill: max, max })
    return messages?.length === 1 ? messages : undefined
  }
  const decode = (message: NatsMessage) => {
    const envelopes = EnvelopeCodec.decode(message.data)
    if (envelopes === undefined) BusMetrics.undecodable.updateUnsafe(1, context)
    return envelopes
  }

  const publishEach = (subject: Subject.Subject, envelopes: ReadonlyArray<Envelope>): Effect.Effect<void, Reason> => {
    const messages = encode(envelopes)
    if (messages === undefined) return failed("Unsendable")
    const handed = outbox.handOver(wire(subject, "each"), messages)
    return envelopes.some(isLastWord) ? Effect.andThen(handed, outbox.confirmed) : handed
  }

  const askOne = (
    subject: string,
    envelopes: ReadonlyArray<Envelope>,
    { shared, timeoutMs }: NatsQuestions.AskOptions
  ): Effect.Effect<NatsMessage, Reason> => {
    const messages = encodeWhole(envelopes)
    if (messages === undefined) return failed("Unsendable")
    return questions.ask((question) => outbox.handOver(subject, messages, question), { shared, timeoutMs })
  }

  const subscribe = Effect.fnUntraced(function* (
    subject: Subject.Subject,
    deliveries: ReadonlyArray<Delivery> = deliveriesAll
  ) {
    const inbox = yield* Queue.bounded<Envelope, Cause.Done>(bounds.inboxEnvelopesMax)

    const takeEach = (message: NatsMessage) => {
      for (const envelope of decode(message) ?? []) {
        if (!Queue.offerUnsafe(inbox, envelope)) BusMetrics.dropped.updateUnsafe(1, context)
      }
    }
    const takeOne = (message: NatsMessage) => {
      const envelopes = decode(message)
      if (envelopes === undefined) return
      const fits = Queue.sizeUnsafe(inbox) + envelopes.length <= bounds.inboxEnvelopesMax
      const taken = fits && envelopes.every((envelope) => Queue.offerUnsafe(inbox, envelope))
      if (message.reply) nats.publishUnsafe(message.reply, taken ? NatsQuestions.takenMark : NatsQuestions.fullMark)
    }
    yield* Effect.acquireRelease(
      Effect.sync(() =>
        deliveries.map((delivery) =>
          nats.subscribeUnsafe(
            wire(subject, delivery),
            delivery === "one" ? group : undefined,
            delivery === "one" ? takeOne : takeEach
          )
        )
      ),
      (drains) =>
        Effect.all(drains, { concurrency: "unbounded", discard: true }).pipe(
          Effect.timeoutOption(bounds.publishTimeoutMs),
          // What the server had sent is still handed out, then the stream ends: a request must not vanish between two subscribers.
          Effect.andThen(Effect.sync(() => Queue.endUnsafe(inbox)))
        )
    )
    // While the server is away there is nobody to confirm: it is subscribed when it returns.
    yield* Effect.ignore(outbox.confirmed)
    return Stream.fromQueue(inbox)
  })

  const respond = Effect.fnUntraced(function* (
    subject: Subject.Subject,
    answer: (question: Envelope) => Effect.Effect<Envelope>
  ) {
    const runFork = yield* makeFork
    let asked = 0
    const onQuestion = (message: NatsMessage) => {
      const question = decode(message)?.[0]
      const { reply } = message
      if (question === undefined || reply === undefined) return
      if (asked >= bounds.questionsMax) return nats.publishUnsafe(reply, NatsQuestions.fullMark)
      asked++
      const answered = Effect.map(answer(question), (envelope) => {
        const [bytes] = encodeWhole([envelope]) ?? []
        if (bytes !== undefined) nats.publishUnsafe(reply, bytes)
      })
      runFork(
        Effect.ensuring(
          answered,
          Effect.sync(() => void asked--)
        )
      )
    }
    yield* Effect.acquireRelease(
      Effect.sync(() => nats.subscribeUnsafe(wire(subject, "ask"), group, onQuestion)),
      (drain) => Effect.timeoutOption(drain, bounds.publishTimeoutMs)
    )
    yield* Effect.ignore(outbox.confirmed)
  })

  return MessageBus.of({
    connected,
    publish: (subject, envelopes, delivery) =>
      Effect.suspend(() => {
        if (envelopes.length === 0) return Effect.void
        if (delivery === "each") return named(subject, publishEach(subject, envelopes))
        const options = { shared: true, timeoutMs: bounds.publishTimeoutMs }
        return named(subject, Effect.asVoid(askOne(wire(subject, "one"), envelopes, options)))
      }),
    subscribe,
    request: (subject, question) =>
      named(
        subject,
        Effect.suspend(() =>
          askOne(wire(subject, "ask"), [question], { shared: false, timeoutMs: bounds.answerMs })
        ).pipe(
          Effect.flatMap((message) => {
            const answer = decode(message)?.[0]
            return answer === undefined ? failed("Timeout") : Effect.succeed(answer)
          })
        )
      ),
    respond
  })
})

/** A bus over NATS, once a server is reached and found fit. Publishes fail while it is away; it is dialled for ever. */
export const layer = (options: NatsOptions, bounds: Partial<BusBounds> = {}): Layer.Layer<MessageBus, NatsStartError> =>
  Layer.effect(
    MessageBus,
    Effect.flatMap(connect(options), (nats) =>
      make(nats, { ...limits, inboxEnvelopesMax: limits.natsInboxEnvelopesMax, ...bounds })
    )
  )

/** The same with options from configuration. */
export const layerConfig = (
  options: Config.Wrap<NatsOptions>
): Layer.Layer<MessageBus, NatsStartError | Config.ConfigError> =>
  Layer.unwrap(Effect.map(Config.unwrap(options), (resolved) => layer(resolved)))
