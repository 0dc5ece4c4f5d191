/**
 * A runner that says just what a test tells it, over a socket in memory: Hello when asked, frames as given, bytes as they are. It acknowledges
 * and answers nothing by itself, so a test sees what the hub does about that.
 */
import { Effect, type Fiber, Option, type Redacted, type Scope } from "effect"
import { Hub } from "../hub/Hub.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import { type MessageSocket, pair, type SocketClosed } from "../socket/MessageSocket.ts"
import type { MovedStream } from "../tunnel/Envelope.ts"

/** A runner's end of the wire in the hands of a test. */
export interface ScriptedRunner {
  readonly socket: MessageSocket
  /** Ends when the hub has let go of the connection. */
  readonly accepted: Fiber.Fiber<void>
  readonly say: (message: Wayleave1.ToHub) => Effect.Effect<void>
  readonly sayBytes: (bytes: Uint8Array) => Effect.Effect<void>
  /** One numbered message of frames. */
  readonly frames: (frames: ReadonlyArray<Wayleave1.UpFrame>) => Effect.Effect<void>
  /** The hub's next message; heartbeats are passed over unless asked for. */
  readonly next: Effect.Effect<Wayleave1.ToRunner, SocketClosed>
  /** The next frame from the hub, whatever message it came in. */
  readonly nextFrame: Effect.Effect<Wayleave1.DownFrame, SocketClosed>
}

/** Who the scripted runner claims to be. */
export interface ScriptedHello {
  readonly name: string
  /** One byte, repeated 16 times: enough to tell sessions apart. */
  readonly session?: number
  readonly received?: number
  /** The hub whose numbering `received` speaks of; unless told otherwise the one that welcomed this session last, where it was this one. */
  readonly hub?: string
  /** Which dial of the session this is; 0, the default, counts none. */
  readonly connection?: number
  /** Streams that are to go on at a hub that does not know the session. */
  readonly streams?: ReadonlyArray<MovedStream>
  readonly versions?: ReadonlyArray<number>
  readonly token?: Redacted.Redacted<string>
}

const whole = { binary: true, finish: true } as const

/** A connection to the hub on which nothing has been said yet. */
export const dial = Effect.fnUntraced(function* (
  token?: Redacted.Redacted<string>
): Effect.fn.Return<ScriptedRunner, never, Hub | Scope.Scope> {
  const hub = yield* Hub
  const [socket, remote] = pair({ protocol: Wayleave1.subprotocol })
  const accepted = yield* Effect.forkScoped(
    hub.accept(remote, { token: Option.fromUndefinedOr(token), remoteAddress: "192.0.2.1" })
  )
  const messages: Array<Wayleave1.ToRunner> = []
  const frames: Array<Wayleave1.DownFrame> = []
  const sayBytes = (bytes: Uint8Array) => Effect.sync(() => void socket.sendUnsafe(bytes, whole))
  const next: ScriptedRunner["next"] = Effect.gen(function* () {
    for (;;) {
      const message = messages.shift()
      if (message === undefined) {
        for (const { data } of yield* socket.pull) messages.push(Wayleave1.toRunner.decode(data))
      } else if (message._tag !== "Ping" && message._tag !== "Ack") return message
    }
  })
  return {
    socket,
    accepted,
    sayBytes,
    say: (message) => sayBytes(Wayleave1.toHub.encode(message)),
    frames: (list) => sayBytes(Wayleave1.toHub.encode({ _tag: "Frames", received: 0, frames: list })),
    next,
    nextFrame: Effect.gen(function* () {
      for (;;) {
        const frame = frames.shift()
        if (frame !== undefined) return frame
        const message = yield* next
        if (message._tag === "Frames") frames.push(...message.frames)
      }
    })
  }
})

/** The Hello such a runner sends. */
export const hello = (options: ScriptedHello): Wayleave1.ToHub => ({
  _tag: "Hello",
  versions: options.versions ?? [1],
  session: new Uint8Array(16).fill(options.session ?? 1),
  name: options.name,
  connection: options.connection ?? 0,
  hub: options.hub ?? "",
  received: options.received ?? 0,
  streams: options.streams ?? [],
  capabilities: [],
  agent: "scripted"
})

/** By hub, the sessions that it welcomed, and what it calls itself. */
const welcomed = new WeakMap<Hub["Service"], Map<number, string>>()

/** Dials, says Hello and takes the Welcome. */
export const connect = Effect.fnUntraced(function* (options: ScriptedHello) {
  const hub = yield* Hub
  const session = options.session ?? 1
  const sessions = welcomed.get(hub) ?? new Map<number, string>()
  welcomed.set(hub, sessions)
  const runner = yield* dial(options.token)
  yield* runner.say(hello({ hub: sessions.get(session) ?? "", ...options }))
  const welcome = yield* runner.next
  if (welcome._tag !== "Welcome") return yield* Effect.die(new Error(`expected Welcome, got ${welcome._tag}`))
  sessions.set(session, welcome.hub)
  return { ...runner, welcome }
})
