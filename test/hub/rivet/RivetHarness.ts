/**
 * A hub for Rivet's runners on a memory bus, with a scripted control plane; and a gateway played by the test, which holds the hub to what it owes every
 * gateway: no frame missing in a stream's order, and not a byte more than was granted.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Queue, type Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { ActorControl } from "../../../src/actor/ActorControl.ts"
import { type ActorKv, layerMemory as kvMemory } from "../../../src/actor/ActorKv.ts"
import { type Authenticator, layerOpen } from "../../../src/auth/Authenticator.ts"
import { layerMemory as busMemory, MessageBus } from "../../../src/bus/MessageBus.ts"
import * as Subject from "../../../src/bus/Subject.ts"
import { Hub, type HubOptions, layer as hubLayer } from "../../../src/hub/Hub.ts"
import { versions } from "../../../src/protocol/Rivet.ts"
import { RouteStore, layerMemory as routesMemory } from "../../../src/route/RouteStore.ts"
import { connect, type ScriptedIntroduction } from "../../../src/testing/ScriptedRivetRunner.ts"
import type { RouteQuestion, Uplink } from "../../../src/tunnel/Envelope.ts"
import { bodyBytes, isSequenced, type RequestFrame, type ResponseFrame } from "../../../src/tunnel/Frame.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { ReceiveSequence, SendSequence } from "../../../src/tunnel/Sequence.ts"
import { gatewayId, gatewaySubject, settle } from "../HubHarness.ts"
import { actorOf, ControlTwin } from "./ControlTwin.ts"

export { gatewayId, gatewaySubject, settle }

/** All versions, and those of the later mark. */
export const all = versions.map(({ version }) => version)
export const mk1 = versions.filter(({ mark }) => mark === 1).map(({ version }) => version)
export const mk2 = versions.filter(({ mark }) => mark === 2).map(({ version }) => version)
/** Those whose WebSockets can hibernate. */
export const hibernating = all.filter((version) => version > 1)

/** What a test may swap. */
export interface RivetHubOptions {
  readonly hub?: HubOptions
  readonly auth?: Layer.Layer<Authenticator>
  readonly bus?: Layer.Layer<MessageBus>
  readonly kv?: Layer.Layer<ActorKv>
}

/** Hub, bus, routes and stores with this control plane. */
export const rivetHub = (twin: ControlTwin, options: RivetHubOptions = {}) =>
  hubLayer(options.hub).pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        options.bus ?? busMemory,
        routesMemory,
        options.auth ?? layerOpen,
        twin.layer,
        options.kv ?? kvMemory
      )
    )
  )

export const route = (requestId: number) => ({ gatewayId, requestId })

export const request = (
  target: string,
  options: { readonly method?: string; readonly body?: Uint8Array; readonly streamed?: boolean } = {}
): RequestFrame => ({
  _tag: "RequestStart",
  method: options.method ?? "POST",
  target,
  headers: [["host", "pool.localhost"]],
  body: options.body ?? new Uint8Array(0),
  streamed: options.streamed ?? false
})

export const upgrade: RequestFrame = { _tag: "WebSocketOpen", target: "/", headers: [["host", "pool.localhost"]] }

export const answer = (body: Uint8Array = new Uint8Array(0), streamed = false) =>
  ({ _tag: "ResponseStart", status: 200, headers: [["x", "1"]], body, streamed }) as const
export const chunk = (body: Uint8Array, finish = false) => ({ _tag: "ResponseChunk", body, finish }) as const
export const accept = (canHibernate = false) => ({ _tag: "WebSocketOpen", headers: [], canHibernate }) as const
export const message = (data: Uint8Array | string, binary = typeof data !== "string") =>
  ({ _tag: "WebSocketMessage", data: Buffer.from(data), binary, finish: true }) as const
export const ack = (index: number) => ({ _tag: "WebSocketMessageAck", index }) as const
export const close = (code: number | null, reason = "", hibernate = false) =>
  ({ _tag: "WebSocketClose", code, reason, hibernate }) as const
export const closeDown = (code: number | null, reason = "") => ({ _tag: "WebSocketClose", code, reason }) as const

/** Bytes that are easy to tell from others. */
export const bytesOf = (length: number, seed = 1): Uint8Array => {
  const bytes = new Uint8Array(length)
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >>> 8) + seed) & 0xff
  return bytes
}

interface Watched {
  sequence: ReceiveSequence
  grantedBytes: number
  asleep: boolean
}

/** Plays the gateway on its subject. */
export const rivetGateway = Effect.gen(function* () {
  const bus = yield* MessageBus
  const inbox = yield* bus.subscribe(gatewaySubject)
  const uplinks = yield* Queue.unbounded<Uplink>()
  const watched = new Map<number, Watched>()
  const faults: Array<string> = []
  const questions: Array<RouteQuestion> = []
  const recalled = new Set<number>()
  let hub = ""

  const fresh = (): Watched => ({
    sequence: new ReceiveSequence(),
    grantedBytes: limits.windowBytesInitial,
    asleep: false
  })
  const watch = ({ frame, index, replyTo, route: { requestId }, session }: Uplink) => {
    hub = replyTo
    let stream = watched.get(requestId)
    if (stream === undefined || (stream.asleep && frame._tag === "Credit" && session !== "")) {
      if (stream !== undefined) places.delete(requestId)
      stream = fresh()
      watched.set(requestId, stream)
    }
    if (stream.asleep) {
      // Nothing has a place in an order now: a word from the hub, or the end.
      const isEnd = frame._tag === "WebSocketClose" && !frame.hibernate
      if (!isEnd && frame._tag !== "Credit" && frame._tag !== "ResponseAbort") {
        faults.push(`${frame._tag} for ${requestId}, which sleeps`)
      }
      return
    }
    if (isSequenced(frame) && stream.sequence.accept(index) !== "next") {
      faults.push(`${frame._tag} ${index} of ${requestId} out of order`)
    }
    stream.grantedBytes -= bodyBytes(frame)
    if (stream.grantedBytes < 0) faults.push(`${-stream.grantedBytes} bytes of ${requestId} beyond its credit`)
    if (frame._tag === "WebSocketClose" && frame.hibernate) stream.asleep = true
  }
  const answerQuestion = (question: RouteQuestion) => {
    questions.push(question)
    hub = question.replyTo
    const { generation, session } = question
    const denied = question.streams.map((stream) => stream.route).filter(({ requestId }) => !recalled.has(requestId))
    return Effect.orDie(bus.publish(hub, [{ _tag: "RouteAnswer", session, generation, granted: [], denied }], "one"))
  }
  yield* Effect.forkScoped(
    Stream.runForEach(inbox, (envelope) => {
      if (envelope._tag === "RouteQuestion") return answerQuestion(envelope)
      if (envelope._tag !== "Uplink") return Effect.die(new Error(envelope._tag))
      watch(envelope)
      return Queue.offer(uplinks, envelope)
    })
  )
  yield* Effect.addFinalizer(() =>
    faults.length === 0 ? Effect.void : Effect.die(new Error(`the hub broke its word: ${faults.join("; ")}`))
  )

  const publish = (
    subject: string,
    to: { readonly name?: string; readonly actor?: string; readonly skipReadyWait?: boolean },
    requestId: number,
    index: number,
    frame: RequestFrame,
    delivery: "one" | "each"
  ) =>
    bus.publish(
      subject,
      [
        {
          _tag: "Downlink",
          replyTo: gatewaySubject,
          name: to.name ?? "",
          actor: to.actor ?? "",
          skipReadyWait: to.skipReadyWait ?? false,
          traceparent: "",
          route: route(requestId),
          index,
          frame
        }
      ],
      delivery
    )
  /** Places of what goes down; a stream's order begins anew where it is attached again. */
  const places = new Map<number, SendSequence>()
  const placeOf = (requestId: number, frame: RequestFrame): number => {
    let sequence = places.get(requestId)
    if (sequence === undefined) {
      sequence = new SendSequence()
      places.set(requestId, sequence)
    }
    return sequence.indexOf(frame)
  }
  const begin = (requestId: number, frame: RequestFrame): number => {
    places.delete(requestId)
    return placeOf(requestId, frame)
  }

  const next = Queue.take(uplinks)
  const seek = <A>(pick: (uplink: Uplink) => A | undefined): Effect.Effect<A> =>
    Effect.flatMap(next, (uplink) => {
      const picked = pick(uplink)
      return picked === undefined ? seek(pick) : Effect.succeed(picked)
    })
  const follow = (requestId: number, frame: RequestFrame, index = placeOf(requestId, frame)) =>
    Effect.suspend(() => publish(hub, {}, requestId, index, frame, "each"))
  const grant = (requestId: number, bytes: number) =>
    Effect.suspend(() => {
      const stream = watched.get(requestId)
      if (stream !== undefined) stream.grantedBytes += bytes
      return follow(requestId, { _tag: "Credit", bytes })
    })

  return {
    /** Sends an opening frame to an actor. */
    open: (actor: string, requestId: number, frame: RequestFrame, skipReadyWait = false) => {
      const place = begin(requestId, frame)
      const sent = publish(Subject.ofActors("default"), { actor, skipReadyWait }, requestId, place, frame, "one")
      return Effect.tap(sent, settle)
    },
    /** Sends one to a runner name. */
    openName: (name: string, requestId: number, frame: RequestFrame) =>
      Effect.tap(
        publish(Subject.ofName("default", name), { name }, requestId, begin(requestId, frame), frame, "one"),
        settle
      ),
    /** Sends a later frame to the hub, at the place that follows unless told another. */
    follow,
    grant,
    /** What the hub asked about streams that it does not know. All are denied that are not of `recalled`. */
    questions,
    recalled,
    /** Wakes a WebSocket: asked of whoever controls the actors, or told the hub that just attached it. */
    wake: (requestId: number, actor: string, index: number, to: "actors" | "hub" = "actors", name = "") =>
      bus.publish(
        to === "actors" ? Subject.ofActors("default") : hub,
        [{ _tag: "Wake", replyTo: gatewaySubject, name, actor, route: route(requestId), index }],
        "one"
      ),
    lives: Effect.suspend(() => bus.publish(hub, [{ _tag: "LeaseRenewal", gatewayId }], "each")),
    next,
    /** The next frame that is no credit. */
    nextFrame: seek(({ frame }) => (frame._tag === "Credit" ? undefined : frame)),
    /** The next frame of one stream that is no credit; those of others are lost. */
    frameOf: (requestId: number) =>
      seek(({ frame, route: key }) => (frame._tag === "Credit" || key.requestId !== requestId ? undefined : frame)),
    creditOf: (requestId: number) =>
      seek(({ frame, route: key }) =>
        frame._tag === "Credit" && key.requestId === requestId ? frame.bytes : undefined
      ),
    /** What came so far and was not taken. */
    pending: Queue.clear(uplinks),
    pendingFrames: Effect.map(Queue.clear(uplinks), (list) =>
      list
        .filter(({ frame }) => frame._tag !== "Credit")
        .map(({ frame, route: { requestId } }) => ({ requestId, frame }))
    ),
    /** The whole body of an answer whose head was taken, granting what comes. */
    body: Effect.fnUntraced(function* (requestId: number, head: ResponseFrame) {
      if (head._tag !== "ResponseStart") throw new Error(head._tag)
      const pieces: Array<Uint8Array> = [head.body]
      let finish = !head.streamed
      while (!finish) {
        const frame: ResponseFrame = yield* seek(({ frame: one, route: key }) =>
          one._tag === "Credit" || key.requestId !== requestId ? undefined : one
        )
        if (frame._tag !== "ResponseChunk") throw new Error(`${frame._tag} in a body`)
        assert.isAtMost(frame.body.length, limits.chunkBytesMax)
        pieces.push(frame.body)
        finish = frame.finish
        yield* grant(requestId, frame.body.length)
      }
      return Buffer.concat(pieces)
    }),
    /** A whole message, granting what comes. */
    message: Effect.fnUntraced(function* (requestId: number) {
      const pieces: Array<Uint8Array> = []
      for (;;) {
        const frame: ResponseFrame = yield* seek(({ frame: one, route: key }) =>
          one._tag === "Credit" || key.requestId !== requestId ? undefined : one
        )
        if (frame._tag !== "WebSocketMessage") throw new Error(`${frame._tag} where a message was due`)
        pieces.push(frame.data)
        yield* grant(requestId, frame.data.length)
        if (frame.finish) return { data: Buffer.concat(pieces), binary: frame.binary }
      }
    })
  }
})

export const actor = actorOf(1)

/** The WebSocket that most tests are about. */
export const socketId = 1
export const key = route(socketId)
export const asText = (frame: { readonly _tag: string; readonly data?: Uint8Array }): string =>
  frame.data === undefined ? frame._tag : Buffer.from(frame.data).toString()

/** A runner that hosts `actor`, a gateway, and nothing open yet. */
export const arrange = Effect.fnUntraced(function* (
  twin: ControlTwin,
  version: number,
  options: Partial<ScriptedIntroduction> = {}
) {
  const visitor = yield* rivetGateway
  const runner = yield* connect({ ...options, version })
  yield* settle
  const session = twin.sessionOf(options.name, options.key)
  twin.host(actor, session)
  return { visitor, runner, session }
})

/** Nothing is left but tombstones. */
export const atRest = Effect.gen(function* () {
  yield* settle
  const { Closing, HalfClosed, Open } = yield* RouteStore.use((routes) => routes.counts)
  const { openStreams } = yield* Hub.use((hub) => hub.state)
  assert.deepStrictEqual(
    { Closing, HalfClosed, Open, openStreams },
    { Closing: 0, HalfClosed: 0, Open: 0, openStreams: 0 }
  )
})

/** Advances in steps, so that whatever waits meanwhile is dealt with. */
export const advance = Effect.fnUntraced(function* (ms: number, stepMs = 500) {
  for (let at = 0; at < ms; at += stepMs) {
    yield* TestClock.adjust(Math.min(stepMs, ms - at))
    yield* settle
  }
})

type Reached = Hub | MessageBus | RouteStore | ActorControl | ActorKv | Authenticator | Scope.Scope

/** What a test does with its control plane. */
export type Scenario = (twin: ControlTwin) => Effect.Effect<void, unknown, Reached>

/** A test with a control plane of its own, and a hub. */
export const scenario = (name: string, body: Scenario, options: RivetHubOptions = {}): void => {
  it.effect(name, () =>
    Effect.suspend(() => {
      const twin = new ControlTwin()
      return body(twin).pipe(Effect.provide(rivetHub(twin, options)))
    })
  )
}

/** A runner with one open WebSocket. */
export const withSocket = Effect.fnUntraced(function* (twin: ControlTwin, version: number, canHibernate = false) {
  const arranged = yield* arrange(twin, version)
  const { runner, visitor } = arranged
  yield* visitor.open(actor, socketId, upgrade)
  assert.strictEqual(yield* visitor.creditOf(socketId), limits.windowBytesInitial)
  const opened = yield* runner.nextFrame
  assert.deepInclude(opened, { route: key, index: 0, actorId: actor })
  assert.deepInclude(opened.frame, { _tag: "WebSocketOpen", target: "/" })
  yield* runner.frame(key, accept(canHibernate))
  assert.deepInclude(yield* visitor.frameOf(socketId), {
    _tag: "WebSocketOpen",
    canHibernate: canHibernate && version > 1
  })
  return arranged
})
