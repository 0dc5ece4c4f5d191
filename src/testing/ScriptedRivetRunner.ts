/**
 * A runner of any of Rivet's seven versions that says just what a test tells it: init when asked, values as given, bytes as they are. It answers nothing
 * by itself, unless told to answer pings.
 *
 * Everything the hub sends is read at once and has to decode as a strict client of that version decodes it: text, trailing bytes or an unknown tag end
 * the process of a real one, and fail the test here when its scope closes.
 */
import { Cause, Effect, type Fiber, Option, Queue, type Redacted, type Scope, Stream } from "effect"
import type { ActorDownlink, ActorUplink } from "../actor/ActorMessage.ts"
import { Hub } from "../hub/Hub.ts"
import { versionOf } from "../protocol/Rivet.ts"
import type { Down, RivetVersion, Up, WholeRequestFrame, WholeResponseFrame } from "../protocol/rivet/Exchange.ts"
import { type MessageSocket, pair, type SocketClosed, type SocketMessage } from "../socket/MessageSocket.ts"
import type { RouteKey } from "../tunnel/Envelope.ts"

/** A frame from the hub, with what stood around it. */
export interface HeardFrame {
  readonly route: RouteKey
  readonly index: number
  readonly actorId: string
  readonly frame: WholeRequestFrame
}

/** A Rivet runner's end of the wire in the hands of a test. */
export interface ScriptedRivetRunner {
  readonly socket: MessageSocket
  readonly version: RivetVersion
  readonly say: (message: ActorUplink) => Effect.Effect<void>
  /** One tunnel message. Versions that number messages say `index`. */
  readonly frame: (route: RouteKey, frame: WholeResponseFrame, index?: number) => Effect.Effect<void>
  readonly sayUp: (up: Up) => Effect.Effect<void>
  readonly sayBytes: (...messages: ReadonlyArray<Uint8Array>) => Effect.Effect<void>
  readonly sayText: (text: string) => Effect.Effect<void>
  /** The hub's next message; pings and the tunnel's own acks are passed over. Fails once the socket is closed and everything was taken. */
  readonly next: Effect.Effect<Down, SocketClosed>
  /** The next frame of a stream; other messages are passed over. */
  readonly nextFrame: Effect.Effect<HeardFrame, SocketClosed>
  /** The next message beside the streams; others are passed over. */
  readonly nextActor: Effect.Effect<ActorDownlink, SocketClosed>
  /** All that came, as it came, whoever took it; pings and acks too. */
  readonly heard: ReadonlyArray<{ readonly bytes: Uint8Array; readonly down: Down }>
  /** What came and was not taken by `next`. */
  readonly pending: Effect.Effect<ReadonlyArray<Down>>
  readonly closed: Effect.Effect<SocketClosed>
}

const whole = { binary: true, finish: true } as const

/** How a scripted runner behaves by itself. */
export interface ScriptedRivetOptions {
  /** Pings are answered. Off unless asked for. */
  readonly pongs?: boolean
  /** `false`: the socket is not read from. */
  readonly reads?: boolean
}

/** Puts a runner of this version on any socket, in memory or real. */
export const onSocket = Effect.fnUntraced(function* (
  socket: MessageSocket,
  number: number,
  options: ScriptedRivetOptions = {}
): Effect.fn.Return<ScriptedRivetRunner, never, Scope.Scope> {
  const version = versionOf(number) ?? (versionOf(7) as RivetVersion)
  const heard: Array<{ readonly bytes: Uint8Array; readonly down: Down }> = []
  const faults: Array<string> = []
  const inbox = yield* Queue.unbounded<Down, SocketClosed>()

  const hear = ({ binary, data }: SocketMessage) => {
    const bytes = Uint8Array.from(data)
    if (!binary) return faults.push(`a text message: ${Buffer.from(bytes).toString()}`)
    try {
      const down = version.decodeDown(bytes)
      heard.push({ bytes, down })
      if (down._tag === "Actor" && down.message._tag === "Ping") {
        if (options.pongs === true) sayUnsafe({ _tag: "Actor", message: { _tag: "Pong", atMs: down.message.atMs } })
      } else if (down._tag !== "TunnelAck") Queue.offerUnsafe(inbox, down)
    } catch (error) {
      faults.push(`version ${number} cannot read ${Buffer.from(bytes).toString("hex").slice(0, 200)}: ${String(error)}`)
    }
    return undefined
  }
  const sayUnsafe = (up: Up) => {
    const bytes = version.encodeUp(up)
    if (bytes !== null) socket.sendUnsafe(bytes, whole)
  }
  if (options.reads !== false) {
    yield* socket.messages.pipe(
      Stream.runForEachArray((batch) => Effect.sync(() => batch.forEach(hear))),
      Effect.matchEffect({
        onSuccess: () => Effect.void,
        onFailure: (closed) => Effect.sync(() => Queue.failCauseUnsafe(inbox, Cause.fail(closed)))
      }),
      Effect.forkScoped
    )
  }
  yield* Effect.addFinalizer(() =>
    faults.length === 0 ? Effect.void : Effect.die(new Error(`the hub sent what ends a runner: ${faults.join("; ")}`))
  )

  const next = Queue.take(inbox)
  const seek = <A>(pick: (down: Down) => A | undefined): Effect.Effect<A, SocketClosed> =>
    Effect.flatMap(next, (down) => {
      const picked = pick(down)
      return picked === undefined ? seek(pick) : Effect.succeed(picked)
    })
  return {
    socket,
    version,
    heard,
    next,
    say: (message) => Effect.sync(() => sayUnsafe({ _tag: "Actor", message })),
    sayUp: (up) => Effect.sync(() => sayUnsafe(up)),
    frame: (route, frame, index = 0) =>
      Effect.sync(() => sayUnsafe({ _tag: "TunnelUp", route, index, frame, acknowledgement: null })),
    sayBytes: (...messages) =>
      Effect.sync(() => {
        for (const bytes of messages) socket.sendUnsafe(bytes, whole)
      }),
    sayText: (text) => Effect.sync(() => void socket.sendUnsafe(Buffer.from(text), { binary: false, finish: true })),
    nextFrame: seek((down) => (down._tag === "TunnelDown" ? down : undefined)),
    nextActor: seek((down) => (down._tag === "Actor" ? down.message : undefined)),
    pending: Queue.clear(inbox).pipe(Effect.catch(() => Effect.succeed([]))),
    closed: Effect.callback((resume) => socket.whenClosedUnsafe((closed) => resume(Effect.succeed(closed))))
  }
})

/** Who the scripted runner is, and how it comes. */
export interface ScriptedIntroduction extends ScriptedRivetOptions {
  readonly version: number
  readonly name?: string
  readonly key?: string
  readonly namespace?: string
  readonly totalSlots?: number
  readonly lastCommandIndex?: bigint
  /** In place of the address that follows from the rest. */
  readonly query?: string
  readonly token?: Redacted.Redacted<string>
}

/** The query of the address that such a runner dials. */
export const queryOf = ({ key = "key", namespace = "default", version }: ScriptedIntroduction): string =>
  `protocol_version=${version}&namespace=${encodeURIComponent(namespace)}&runner_key=${encodeURIComponent(key)}`

/** A connection to the hub on which nothing has been said yet. */
export const dial = Effect.fnUntraced(function* (introduction: ScriptedIntroduction) {
  const hub = yield* Hub
  const [socket, remote] = pair({ protocol: "rivet" })
  const accepted: Fiber.Fiber<void> = yield* Effect.forkScoped(
    hub.accept(remote, {
      token: Option.fromUndefinedOr(introduction.token),
      remoteAddress: "192.0.2.1",
      rivetQuery: introduction.query ?? queryOf(introduction)
    })
  )
  const runner = yield* onSocket(socket, introduction.version, introduction)
  return { ...runner, accepted }
})

/** The init such a runner sends. */
export const init = (introduction: Omit<ScriptedIntroduction, "version"> = {}): ActorUplink => ({
  _tag: "Introduction",
  name: introduction.name ?? "pool",
  version: 1,
  totalSlots: introduction.totalSlots ?? 10,
  lastCommandIndex: introduction.lastCommandIndex ?? null,
  actorNames: new Map(),
  metadata: null
})

/** Dials, says init and takes the welcome. */
export const connect = Effect.fnUntraced(function* (introduction: ScriptedIntroduction) {
  const runner = yield* dial(introduction)
  yield* runner.say(init(introduction))
  const first = yield* runner.next
  if (first._tag !== "Actor" || first.message._tag !== "Welcome") {
    return yield* Effect.die(new Error(`expected Welcome, got ${JSON.stringify(first)}`))
  }
  return { ...runner, welcome: first.message }
})
