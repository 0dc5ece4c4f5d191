/** A hub that does what the test says: it answers dials in memory, speaks wayleave.1, and decides nothing by itself but the numbering. */
import { Deferred, Effect, Layer, Queue, Stream } from "effect"
import { Link } from "../../src/protocol/Link.ts"
import { type ToHub, type ToRunner, toHub, toRunner, type UpFrame, type Welcome } from "../../src/protocol/Wayleave1.ts"
import {
  DialError,
  Dialer,
  type DialOptions,
  type MessageSocket,
  pair,
  type SocketClosed
} from "../../src/socket/MessageSocket.ts"
import type { RouteKey } from "../../src/tunnel/Envelope.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { SendSequence } from "../../src/tunnel/Sequence.ts"
import type { Turn } from "../../src/tunnel/Turn.ts"

export type Hello = Extract<ToHub, { _tag: "Hello" }>
export type Control = Exclude<ToHub, { _tag: "Frames" | "Hello" }>

/** Microtasks come after what the test's fiber does now: quick enough, and without waiting for a turn of the loop. */
export const soon: Turn = (f) => queueMicrotask(f)

const welcomeOf = (over: Partial<Welcome>): Welcome => ({
  _tag: "Welcome",
  version: 1,
  outcome: "begun",
  received: 0,
  heartbeatMs: 10_000,
  heartbeatDeadlineMs: 25_000,
  graceMs: 5_000,
  windowBytes: 262_144,
  domain: "localhost",
  hub: "hub-1",
  capabilities: [],
  ...over
})

/** What the hub keeps for a runner across sockets. */
export class HubSide {
  readonly link: Link<RequestFrame>
  private readonly sequences = new Map<string, SendSequence>()
  constructor() {
    this.link = new Link<RequestFrame>({
      encode: (received, frames) => toRunner.encode({ _tag: "Frames", received, frames }),
      encodeAck: (received) => toRunner.encode({ _tag: "Ack", received }),
      onUnencodable: () => {},
      turn: soon
    })
  }
  down(route: RouteKey, frame: RequestFrame): void {
    const key = `${route.gatewayId}/${route.requestId}`
    const sequence = this.sequences.get(key) ?? new SendSequence()
    this.sequences.set(key, sequence)
    this.link.send({ route, index: sequence.indexOf(frame), frame })
  }
}

/** One accepted connection. */
export interface Accepted {
  readonly socket: MessageSocket
  readonly options: DialOptions
  readonly hello: Hello
  readonly frames: Queue.Dequeue<UpFrame>
  readonly controls: Queue.Dequeue<Control>
  readonly closed: Effect.Effect<SocketClosed>
  readonly side: HubSide
  readonly say: (message: ToRunner) => void
  readonly down: (route: RouteKey, frame: RequestFrame) => void
  /** From now on this connection reads nothing more, and what it had read no further counts as lost. */
  readonly stall: () => void
  /** The next frame, whatever it is. */
  readonly next: Effect.Effect<UpFrame>
  /** The next frame that is no credit. */
  readonly answer: Effect.Effect<ResponseFrame>
}

/** A hub, and what its `Dialer` does with dials. */
export const makeFakeHub = Effect.fnUntraced(function* () {
  const dials = yield* Queue.unbounded<{ readonly socket: MessageSocket; readonly options: DialOptions }>()
  const state = {
    dialled: [] as Array<string>,
    refusing: undefined as DialError | undefined,
    hanging: false
  }
  const layer = Layer.succeed(Dialer, {
    dial: (url, options) =>
      Effect.suspend(() => {
        state.dialled.push(url)
        if (state.hanging) return Effect.never
        if (state.refusing !== undefined) return Effect.fail(state.refusing)
        const [near, far] = pair({ protocol: options.protocols[0] ?? "" })
        Queue.offerUnsafe(dials, { socket: far, options })
        return Effect.succeed(near)
      })
  })

  /** Takes the next connection as far as its Hello. */
  const receive = Effect.fnUntraced(function* (side: HubSide) {
    const { options, socket } = yield* Queue.take(dials)
    const hello = yield* Deferred.make<Hello>()
    const closed = yield* Deferred.make<SocketClosed>()
    const frames = yield* Queue.unbounded<UpFrame>()
    const controls = yield* Queue.unbounded<Control>()
    const take = (message: ToHub, bytes: number) => {
      switch (message._tag) {
        case "Hello":
          return Deferred.doneUnsafe(hello, Effect.succeed(message))
        case "Frames":
          side.link.acknowledged(message.received)
          for (const frame of message.frames) Queue.offerUnsafe(frames, frame)
          return side.link.onReceived(bytes)
        case "Ping":
        case "Pong":
        case "Ack":
          side.link.acknowledged(message.received)
          return Queue.offerUnsafe(controls, message)
        case "GoAway":
          return Queue.offerUnsafe(controls, message)
      }
    }
    let stalled = false
    yield* Stream.runForEachArray(socket.messages, (batch) =>
      Effect.suspend(() => {
        if (stalled) return Effect.never
        for (const message of batch) take(toHub.decode(message.data), message.data.length)
        return Effect.void
      })
    ).pipe(
      Effect.catchTag("SocketClosed", (error) => Deferred.succeed(closed, error)),
      Effect.forkScoped
    )
    const next = Queue.take(frames)
    const answer: Effect.Effect<ResponseFrame> = Effect.flatMap(next, ({ frame }) =>
      frame._tag === "Credit" ? answer : Effect.succeed(frame)
    )
    const accepted: Accepted = {
      socket,
      options,
      hello: yield* Deferred.await(hello),
      frames,
      controls,
      closed: Deferred.await(closed),
      stall: () => {
        stalled = true
      },
      side,
      say: (message) => socket.sendUnsafe(toRunner.encode(message), { binary: true, finish: true }),
      down: (route, frame) => side.down(route, frame),
      next,
      answer
    }
    return accepted
  })

  /** Takes the next connection and welcomes it. With the `side` of an earlier one, the session goes on. */
  const accept = Effect.fnUntraced(function* (
    options: { readonly side?: HubSide; readonly welcome?: Partial<Welcome> } = {}
  ) {
    const side = options.side ?? new HubSide()
    const accepted = yield* receive(side)
    const resumed = options.side !== undefined
    accepted.say(
      welcomeOf({ outcome: resumed ? "resumed" : "begun", received: side.link.receivedCount, ...options.welcome })
    )
    side.link.attach(accepted.socket, resumed ? accepted.hello.received : 0)
    return accepted
  })

  return { layer, state, receive, accept }
})

export type FakeHub = Effect.Success<ReturnType<typeof makeFakeHub>>

export const unreachable = new DialError({
  url: "ws://hub",
  reason: "Unreachable",
  status: undefined,
  message: "connect ECONNREFUSED"
})

export const route = (requestId: number): RouteKey => ({ gatewayId: 7, requestId })

const encoder = new TextEncoder()
const decoder = new TextDecoder()
export const bytes = (text: string) => encoder.encode(text)
export const text = (data: Uint8Array) => decoder.decode(data)

/** A request without a body, unless told otherwise. */
export const get = (
  target: string,
  over: Partial<Extract<RequestFrame, { _tag: "RequestStart" }>> = {}
): RequestFrame => ({
  _tag: "RequestStart",
  method: "GET",
  target,
  headers: [["host", "web.localhost:6420"]],
  body: new Uint8Array(0),
  streamed: false,
  ...over
})
