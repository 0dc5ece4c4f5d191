/**
 * What outlives a runner's socket: its identity towards the hub, the link that numbers messages, and every open stream with its app fiber.
 *
 * The read loop of `HubConnection.ts` hands it frames; it finds or opens their stream. It never waits and never throws. Next: `StreamCore.ts`.
 */
import { type Clock, Effect, Exit, type Fiber } from "effect"
import { HttpServerError } from "effect/http"
import { Complaints } from "../protocol/Complaints.ts"
import { Link } from "../protocol/Link.ts"
import { type DownFrame, type Hello, toHub, type UpFrame } from "../protocol/Wayleave1.ts"
import { WindowGrowth } from "../tunnel/Credit.ts"
import type { MovedStream, RouteKey } from "../tunnel/Envelope.ts"
import type { Fork } from "../tunnel/Fibers.ts"
import {
  type AbortCode,
  absurd,
  isSequenced,
  isTerminal,
  type RequestFrame,
  type RequestStart,
  type ResponseFrame,
  type WebSocketOpenRequest
} from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { RouteMap } from "../tunnel/RouteMap.ts"
import type { Turn } from "../tunnel/Turn.ts"
import { RequestStream } from "./RequestStream.ts"
import { AppFailure, type RunnerApp } from "./RunnerApp.ts"
import type { ObservedRequest, Observer } from "./RunnerObserver.ts"
import { StreamCore, type StreamOwner } from "./StreamCore.ts"
import { WebSocketStream } from "./WebSocketStream.ts"

/** What a session is made of. */
export interface SessionOptions {
  readonly app: RunnerApp["Service"]
  readonly observer: Observer
  readonly clock: Clock.Clock
  readonly turn: Turn
  /** Forks the fiber of a stream; the runner's scope owns it. */
  readonly fork: Fork
  /** 16 random bytes. */
  readonly newId: () => Uint8Array
}

interface Entry {
  readonly core: StreamCore
  readonly observed: ObservedRequest
  readonly begunAtNanos: bigint
  fiber: Fiber.Fiber<void, AppFailure> | undefined
}

const encode = (received: number, frames: ReadonlyArray<UpFrame>) => toHub.encode({ _tag: "Frames", received, frames })
const encodeAck = (received: number) => toHub.encode({ _tag: "Ack", received })

const decode = (message: Uint8Array): ReadonlyArray<UpFrame> => {
  const decoded = toHub.decode(message)
  return decoded._tag === "Frames" ? decoded.frames : []
}

const requestOf = (app: RunnerApp["Service"], stream: RequestStream) => Effect.suspend(() => app.request(stream))
const webSocketOf = (app: RunnerApp["Service"], stream: WebSocketStream) => Effect.suspend(() => app.webSocket(stream))

// Effect's own servers mark an interruption by the visitor so, and its middleware tells it from a shutdown.
const interrupt = (fiber: Fiber.Fiber<unknown, unknown>) =>
  fiber.interruptUnsafe(undefined, HttpServerError.ClientAbort.annotation)

/** One runner's standing with its hub, across sockets. */
export class RunnerSession implements StreamOwner {
  /** Frames of streams that are not open here. Late ones after an abort are normal. */
  unknownFrames = 0
  /** Nothing new is taken; what is open goes on. */
  draining = false
  /** The hub is told to send nothing new, and the session ends with what is open. What is on its way here is still taken. */
  leaving = false
  readonly growth: WindowGrowth
  private windowBytes: number = limits.windowBytesInitial
  private readonly options: SessionOptions
  private readonly streams = new RouteMap<Entry>()
  private sessionId: Uint8Array
  private dials = 0
  /** The hub whose numbering the link follows. */
  private hub = ""
  /** What the last Hello said of each stream. */
  private moving = new RouteMap<MovedStream>()
  private currentLink: Link<ResponseFrame>
  private readonly complaints = new Complaints(limits.abuseWindowMs)
  private observedCount = 0
  private idleListeners: Array<() => void> = []

  constructor(options: SessionOptions, id?: Uint8Array) {
    this.options = options
    this.growth = new WindowGrowth(() => Number(options.clock.monotonicTimeNanosUnsafe()) / 1e6)
    this.sessionId = id ?? options.newId()
    this.currentLink = this.newLink()
  }

  /** The key to resuming; a secret. */
  get id(): Uint8Array {
    return this.sessionId
  }

  /** Numbers and keeps what is sent. Another one after every `restart`. */
  get link(): Link<ResponseFrame> {
    return this.currentLink
  }

  /** Streams open now. */
  get openStreams(): number {
    return this.streams.size
  }

  /** Whether a stream is open, or a frame may not have reached the hub. */
  get unfinished(): boolean {
    const { queuedBytes, replayBytes } = this.currentLink
    return this.streams.size > 0 || queuedBytes > 0 || replayBytes > 0
  }

  /** What streams from now on may send before their first Credit, by the hub's word. What it asks us to hold has a limit of its own. */
  setWindow(bytes: number): void {
    this.windowBytes = Math.min(bytes, limits.windowBytesMax)
  }

  /** What a dial that begins now says of the session: each has a number of its own. */
  introduce(): Pick<Hello, "session" | "connection" | "hub" | "received" | "streams"> {
    this.moving = this.movable()
    return {
      session: this.sessionId,
      connection: ++this.dials,
      hub: this.hub,
      received: this.currentLink.receivedCount,
      streams: this.moving.values()
    }
  }

  /** Whether this is the hub with which the link counts. */
  isWith(hub: string): boolean {
    return this.hub === hub
  }

  /** This hub knows the session, from now on if not before. */
  joined(hub: string): void {
    this.hub = hub
  }

  /** Nobody knows anything of the session: its streams are gone, numbering begins anew. With `renamed`, under another id. */
  restart(renamed: boolean): void {
    for (const { core } of this.streams.values()) this.lose(core)
    if (renamed) this.sessionId = this.options.newId()
    this.hub = ""
    this.moving = new RouteMap()
    this.currentLink = this.newLink()
  }

  /**
   * Another hub goes on with the session. Numbering begins anew; what the old hub may not have passed on is said again, and the gateway knows a
   * repeated frame by its index. Credit has none, so none is repeated: Hello told how much there was in all, and only what came after it is due.
   */
  move(): void {
    const old = this.currentLink
    this.currentLink = this.newLink()
    const repeated: Array<UpFrame> = []
    for (const frame of old.outstanding(decode)) {
      if (frame.frame._tag !== "Credit" && this.moving.get(frame.route) !== undefined) repeated.push(frame)
    }
    this.currentLink.inherit(repeated)
    for (const { core } of this.streams.values()) {
      const told = this.moving.get(core.route)?.open
      if (told === undefined || told === null) this.lose(core)
      else {
        const bytes = core.standing.granted - told.granted
        if (bytes > 0) this.send({ route: core.route, index: 0, frame: { _tag: "Credit", bytes } })
      }
    }
  }

  /** A frame arrived. */
  receive({ frame, index, route }: DownFrame): void {
    const entry = this.streams.get(route)
    if (entry !== undefined) return entry.core.receive(frame, index)
    switch (frame._tag) {
      case "RequestStart":
      case "WebSocketOpen":
        return this.open(route, index, frame)
      case "RequestChunk":
      case "RequestTrailers":
      case "RequestAbort":
      case "WebSocketMessage":
      case "WebSocketClose":
      case "Credit":
        // Late is normal: both ends may finish at once.
        this.unknownFrames++
        return
    }
    return absurd(frame)
  }

  /** The hub gave the stream up. */
  reset(route: RouteKey, code: AbortCode): void {
    this.streams.get(route)?.core.lose("hub", code, "the hub reset the stream")
  }

  /** Gives up what is still open, and says so. */
  abortAll(code: AbortCode, message: string): void {
    for (const { core, fiber } of this.streams.values()) {
      core.abort(code, message)
      fiber?.interruptUnsafe()
    }
  }

  /** Waits until no stream is open. */
  readonly idle: Effect.Effect<void> = Effect.callback((resume) => {
    const done = () => resume(Effect.void)
    if (this.streams.size === 0) return done()
    this.idleListeners.push(done)
    return Effect.sync(() => {
      this.idleListeners = this.idleListeners.filter((listener) => listener !== done)
    })
  })

  readonly send = (frame: UpFrame): boolean => this.currentLink.send(frame)

  readonly withdraw = (route: RouteKey): void => {
    this.currentLink.withdraw(route)
  }

  readonly ended = (core: StreamCore): void => {
    const entry = this.streams.delete(core.route)
    if (entry === undefined) return
    this.observeEnd(entry)
    const { end } = core
    if (end?._tag === "Closed") {
      this.currentLink.withdraw(core.route)
      const { fiber } = entry
      if (fiber !== undefined && fiber.pollUnsafe() === undefined) {
        fiber.addObserver(this.giveTime(() => fiber.interruptUnsafe()))
      }
    } else if (end?._tag === "Aborted" && end.by !== "app") {
      // The runner's own abort is queued already; whoever else ended the stream wants nothing of it any more.
      if (end.by !== "runner") this.currentLink.withdraw(core.route)
      else this.report(entry, end.message)
      if (entry.fiber !== undefined) interrupt(entry.fiber)
    }
    if (this.streams.size > 0) return
    const listeners = this.idleListeners
    this.idleListeners = []
    for (const listener of listeners) listener()
  }

  private lose(core: StreamCore): void {
    core.lose("session", "session_lost", "the session with the hub was lost")
  }

  /**
   * The streams that can go on at another hub, and those that said their last word here, which may have been lost. One that ended otherwise has
   * nothing to say any more: claimed, it would be waited for in vain. None where too much was sent to be repeated.
   */
  private movable(): RouteMap<MovedStream> {
    const moving = new RouteMap<MovedStream>()
    if (!this.currentLink.lossless) return moving
    for (const { core } of this.streams.values()) {
      moving.set(core.route, { route: core.route, from: core.nextIndex, open: core.standing })
    }
    /** Where what is repeated of a stream begins. */
    const repeated = new RouteMap<number>()
    for (const { frame, index, route } of this.currentLink.outstanding(decode)) {
      if (isSequenced(frame) && repeated.get(route) === undefined) repeated.set(route, index)
      const known = moving.get(route)
      const from = repeated.get(route) ?? known?.from ?? null
      if (known !== undefined) moving.set(route, { ...known, from })
      else if (isTerminal(frame) && moving.size < limits.streamsPerSessionMax)
        moving.set(route, { route, from, open: null })
    }
    return moving
  }

  private newLink(): Link<ResponseFrame> {
    return new Link<ResponseFrame>({
      encode,
      encodeAck,
      turn: this.options.turn,
      // Its stream checked the frame before; what slips through all the same costs that stream.
      onUnencodable: ({ route }) => this.streams.get(route)?.core.abort("app_failed", "a frame that cannot be encoded")
    })
  }

  private open(
    route: RouteKey,
    index: number,
    frame: typeof RequestStart.Type | typeof WebSocketOpenRequest.Type
  ): void {
    if (this.draining) return this.refuse(route, "draining", "the runner is leaving")
    if (this.streams.size >= limits.streamsPerSessionMax) {
      return this.refuse(route, "overloaded", "the runner has too many streams open")
    }
    const core = new StreamCore(route, this, this.windowBytes)
    const entry: Entry = {
      core,
      observed: this.observe(route, frame),
      begunAtNanos: this.options.clock.monotonicTimeNanosUnsafe(),
      fiber: undefined
    }
    this.streams.set(route, entry)
    core.receive(frame, index)
    if (core.end === undefined) this.serve(entry, frame)
  }

  private serve(entry: Entry, frame: typeof RequestStart.Type | typeof WebSocketOpenRequest.Type): void {
    const { app, fork } = this.options
    const { core } = entry
    // Suspended: an app that throws while it makes its Effect fails in its own fiber, not in the read loop.
    const served =
      frame._tag === "RequestStart"
        ? requestOf(app, new RequestStream(core, frame))
        : webSocketOf(app, new WebSocketStream(core, frame))
    const fiber = fork(served, (exit) => this.settle(entry, exit))
    entry.fiber = fiber
    // An app that answered at once, or was aborted at once, has been dealt with before its fiber was known here.
    const { end } = core
    if (end?._tag === "Aborted" && end.by !== "app") interrupt(fiber)
  }

  /** The app's fiber is done: what it left open is answered for. */
  private settle(entry: Entry, exit: Exit.Exit<void, AppFailure>): void {
    const { core } = entry
    if (core.end !== undefined) return
    if (Exit.isSuccess(exit)) {
      if (core.handedOver) {
        entry.fiber = undefined
        return
      }
      if (core.state === "SocketOpen") {
        core.emit({ _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false })
      } else {
        core.abort("app_failed", "the app returned without completing its answer")
      }
      return
    }
    const failure = exit.cause.reasons.find((reason) => reason._tag === "Fail")?.error
    if (failure instanceof AppFailure) return core.abort(failure.code, failure.message)
    core.abort("app_failed", "the app failed")
    if (exit.cause.reasons.some((reason) => reason._tag !== "Interrupt")) {
      this.options.fork(Effect.logError("the app failed on a request", exit.cause))
    }
  }

  /** After the visitor's close the app may still read what came before it, but not for ever. */
  readonly giveTime = (f: () => void): (() => void) => {
    const timer = this.options.fork(Effect.delay(Effect.sync(f), limits.halfClosedMs))
    return () => timer.interruptUnsafe()
  }

  private report({ observed }: Entry, message: string): void {
    const count = this.complaints.note("rules", this.options.clock.currentTimeMillisUnsafe())
    if (count === 0) return
    const { method, target } = observed
    this.options.fork(
      Effect.logWarning("a stream broke the rules").pipe(Effect.annotateLogs({ method, target, message, count }))
    )
  }

  private refuse(route: RouteKey, code: AbortCode, message: string): void {
    this.currentLink.send({ route, index: 0, frame: { _tag: "ResponseAbort", code, message } })
  }

  private observe(route: RouteKey, frame: RequestFrame & { _tag: "RequestStart" | "WebSocketOpen" }): ObservedRequest {
    const observed: ObservedRequest = {
      id: ++this.observedCount,
      route,
      kind: frame._tag === "RequestStart" ? "request" : "webSocket",
      method: frame._tag === "RequestStart" ? frame.method : "GET",
      target: frame.target,
      startedAtMs: this.options.clock.currentTimeMillisUnsafe()
    }
    this.options.observer.started(observed)
    return observed
  }

  private observeEnd({ begunAtNanos, core, observed }: Entry): void {
    const { end } = core
    this.options.observer.ended(observed, {
      status: core.status,
      abort: end?._tag === "Aborted" ? { code: end.code, message: end.message } : undefined,
      durationMs: Number(this.options.clock.monotonicTimeNanosUnsafe() - begunAtNanos) / 1e6,
      bytesDown: core.bytesDown,
      bytesUp: core.bytesUp
    })
  }
}
