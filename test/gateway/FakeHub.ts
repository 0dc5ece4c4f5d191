/** A hub played by the test on a memory bus: it hears what a gateway sends, and answers frame by frame. */
import { Effect, Layer, Queue, Stream } from "effect"
import { layerMemory as busMemory, MessageBus } from "../../src/bus/MessageBus.ts"
import * as Subject from "../../src/bus/Subject.ts"
import { type GatewayOptions, layer as gatewayLayer } from "../../src/gateway/Gateway.ts"
import { type StreamEnd, StreamObserver, type StreamStart } from "../../src/gateway/StreamObserver.ts"
import type { Downlink, Envelope, Uplink, Wake } from "../../src/tunnel/Envelope.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { SendSequence } from "../../src/tunnel/Sequence.ts"

/** Ends that the gateway under test reported, newest last. */
export interface Ends {
  readonly list: Array<StreamEnd & StreamStart>
  started: number
}

/** A gateway on a memory bus, and a record of what its observer saw. */
export const gatewayAlone = (options: GatewayOptions = {}, ends: Ends = { list: [], started: 0 }) =>
  gatewayLayer(options).pipe(
    Layer.provide(
      Layer.succeed(StreamObserver, {
        start: () => {
          ends.started++
        },
        head: () => {},
        end: (start, end) => ends.list.push({ ...start, ...end })
      })
    ),
    Layer.provideMerge(busMemory)
  )

/** Lets every fiber in the process do what it can do without time passing. */
export const settle = Effect.replicateEffect(Effect.yieldNow, 30, { discard: true })

export const bytes = (size: number, fill = 97) => new Uint8Array(size).fill(fill)
export const text = (value: string) => new TextEncoder().encode(value)

export const head = (streamed: boolean, body = "", headers: ReadonlyArray<readonly [string, string]> = []) =>
  ({ _tag: "ResponseStart", status: 200, headers, body: text(body), streamed }) as const
export const chunk = (body: Uint8Array | string, finish = false) =>
  ({ _tag: "ResponseChunk", body: typeof body === "string" ? text(body) : body, finish }) as const

const isDown = (envelope: Envelope): envelope is Downlink => envelope._tag === "Downlink"

/** One stream as the fake hub holds it. */
export class Conversation {
  readonly opening: Downlink
  private readonly bus: MessageBus["Service"]
  private readonly hub: string
  private readonly sequence = new SendSequence()
  private readonly frames: Queue.Queue<Downlink>
  readonly session: string

  constructor(bus: MessageBus["Service"], hub: string, opening: Downlink, session: string) {
    this.bus = bus
    this.hub = hub
    this.opening = opening
    this.session = session
    this.frames = Effect.runSync(Queue.unbounded<Downlink>())
  }

  hear(envelope: Downlink): void {
    Queue.offerUnsafe(this.frames, envelope)
  }

  /** The next frame after the opening one. */
  get next(): Effect.Effect<RequestFrame> {
    return Effect.map(Queue.take(this.frames), (envelope) => envelope.frame)
  }

  /** What came so far and was not taken. */
  get pending(): Effect.Effect<ReadonlyArray<RequestFrame>> {
    return Effect.map(Queue.clear(this.frames), (all) => all.map((envelope) => envelope.frame))
  }

  uplink(frame: ResponseFrame, change: Partial<Uplink> = {}): Uplink {
    return {
      _tag: "Uplink",
      replyTo: this.hub,
      session: this.session,
      generation: 1,
      route: this.opening.route,
      index: this.sequence.indexOf(frame),
      frame,
      ...change
    }
  }

  /** Publishes frames in order, as one batch. */
  reply(...frames: ReadonlyArray<ResponseFrame>): Effect.Effect<void> {
    return this.publish(...frames.map((frame) => this.uplink(frame)))
  }

  publish(...uplinks: ReadonlyArray<Uplink>): Effect.Effect<void> {
    return Effect.orDie(this.bus.publish(this.opening.replyTo, uplinks, "each"))
  }

  /** A hub's first word. */
  greet(creditBytes: number): Effect.Effect<void> {
    return this.reply({ _tag: "Credit", bytes: creditBytes })
  }
}

/** What a hub under the test's control does: it says nothing of itself, even the first Credit is the test's. */
const listenOn = Effect.fnUntraced(function* (subject: string, hubId: string, session: string) {
  const bus = yield* MessageBus
  const hub = Subject.ofHub("default", hubId)
  const openings = yield* Queue.unbounded<Conversation>()
  const wakes = yield* Queue.unbounded<Wake>()
  const told: Array<Envelope> = []
  const conversations = new Map<number, Conversation>()
  const leases: Array<number> = []
  const conversation = (opening: Downlink): Conversation => {
    const made = new Conversation(bus, hub, opening, session)
    conversations.set(opening.route.requestId, made)
    return made
  }
  const hear = (envelopes: ReadonlyArray<Envelope>) => {
    for (const envelope of envelopes) {
      if (envelope._tag === "LeaseRenewal") leases.push(envelope.gatewayId)
      if (!isDown(envelope)) continue
      const { frame, route } = envelope
      if (frame._tag === "RequestStart" || frame._tag === "WebSocketOpen") {
        Queue.offerUnsafe(openings, conversation(envelope))
      } else conversations.get(route.requestId)?.hear(envelope)
    }
  }
  const listen = Effect.fnUntraced(function* (on: string, take: (batch: ReadonlyArray<Envelope>) => void) {
    const inbox = yield* bus.subscribe(on)
    yield* Effect.forkScoped(Stream.runForEachArray(inbox, (batch) => Effect.sync(() => take(batch))))
  })
  yield* listen(subject, (batch) => {
    for (const envelope of batch) if (envelope._tag === "Wake") Queue.offerUnsafe(wakes, envelope)
    hear(batch)
  })
  yield* listen(hub, (batch) => {
    told.push(...batch)
    hear(batch)
  })
  return {
    hub,
    leases,
    /** A stream as if its opening frame had come here as well. */
    conversation,
    /** The next stream that is opened, its hub's first Credit not yet sent. */
    opened: Queue.take(openings),
    /** The next stream, greeted as a real hub does at once. */
    next: Effect.tap(Queue.take(openings), (conversation) => {
      const { frame } = conversation.opening
      const streamed = frame._tag === "WebSocketOpen" || (frame._tag === "RequestStart" && frame.streamed)
      return conversation.greet(streamed ? limits.windowBytesInitial : 0)
    }),
    /** The next wake that came for anybody who controls actors. */
    wake: Queue.take(wakes),
    /** Those that came so far and were not taken. */
    wakes: Effect.andThen(settle, Queue.clear(wakes)),
    /** Everything that came to this hub's own subject since it was last asked, in order. */
    told: Effect.map(settle, () => told.splice(0))
  }
})

/** Listens for a name and on its own subject until the scope closes. */
export const fakeHub = (name = "web", hubId = "h1", session = "a".repeat(32)) =>
  listenOn(Subject.ofName("default", name), hubId, session)

/** The hub that controls actors: listens for them and on its own subject. */
export const actorHub = (hubId = "h1", session = "a".repeat(32)) =>
  listenOn(Subject.ofActors("default"), hubId, session)
