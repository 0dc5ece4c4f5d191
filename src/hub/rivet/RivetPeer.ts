/**
 * What a hub says to a runner that speaks one of Rivet's versions, and what it keeps of the streams it gave to it: requests are gathered and go down
 * whole, messages are joined, each message of a stream has its number, and answers wait until their gateway will take them.
 *
 * Synchronous and owned by the session, so that it outlives a socket. Next: `RivetStream.ts`, one stream; `RivetPump.ts`, which publishes.
 */
import { Effect } from "effect"
import type { Placement } from "../../actor/ActorControl.ts"
import type { ActorDownlink } from "../../actor/ActorMessage.ts"
import type { Down, RivetVersion, WholeRequestFrame } from "../../protocol/rivet/Exchange.ts"
import type { DownFrame, LinkFrame } from "../../protocol/Wayleave1.ts"
import type { MessageSocket } from "../../socket/MessageSocket.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import {
  type AbortCode,
  absurd,
  opensRoute,
  type RequestFrame,
  type ResponseFrame,
  weightBytes
} from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { RouteMap } from "../../tunnel/RouteMap.ts"
import type { ActorDownFrame, IndexedFrame, Peer, Session } from "../Session.ts"
import { CommandNumbers } from "./CommandNumbers.ts"
import { asleep, type HeldBytes, RivetStream } from "./RivetStream.ts"

const whole = { binary: true, finish: true } as const

interface Queued {
  readonly frame: LinkFrame<WholeRequestFrame>
  readonly actorId: string
  /** What the gateway is granted once this has left. */
  readonly grantBytes: number
}

/** What a peer needs of the hub around it. */
export interface RivetPeerOptions {
  readonly generationOf: (actorId: string) => number
  readonly onUnencodable: (frame: DownFrame) => void
  /** A WebSocket's actor is away and its visitor's socket stays. */
  readonly onAsleep: (stream: RivetStream) => void
  /** A WebSocket that can hibernate has to be put on its actor again: the runner is back, and what it missed is to be repeated. */
  readonly onReturned: (stream: RivetStream) => void
  readonly onEnded: Effect.Effect<void>
}

/** GET and HEAD with a body make the published client fail; of no use to an app, the body is left out. */
const withoutNeedlessBody = (frame: Extract<RequestFrame, { readonly _tag: "RequestStart" }>) =>
  frame.body.length > 0 && (frame.method === "GET" || frame.method === "HEAD")
    ? { ...frame, body: frame.body.subarray(0, 0) }
    : frame

/** The client makes a URL of it: only origin-form will do. */
const inOriginForm = (target: string): string => (target.startsWith("/") ? target : "/")

/** The peer of one Rivet session. */
export class RivetPeer implements Peer {
  readonly dialect = "rivet"
  readonly streams = new RouteMap<RivetStream>()
  readonly ended: Effect.Effect<void>
  /** Work that has to wait for others, in order: `RivetPump.ts` does it. */
  readonly jobs = new Fifo<Effect.Effect<void>>()
  /** What all its streams hold for gateways that do not take it yet. */
  readonly held: HeldBytes = { bytes: 0 }
  /** Of versions 1 to 3. */
  readonly numbers = new CommandNumbers()
  /** The last event heard of where they are numbered for the whole runner; -1 for none. */
  lastEventIndex = -1n
  /** The session whose peer this is, once it was welcomed. */
  session: Session | undefined
  /** Called when the pump has something to do. */
  onWork: () => void = () => {}
  /** The session is over. */
  over = false

  private readonly options: RivetPeerOptions
  private readonly queue = new Fifo<Queued>()
  private readonly line = new Fifo<RivetStream>()
  private queuedBytes = 0
  private version: RivetVersion | undefined
  private socket: MessageSocket | undefined
  private blocked = false
  private pings = 0
  private pingsAnswered = 0

  constructor(options: RivetPeerOptions) {
    this.options = options
    this.ended = Effect.suspend(() => {
      this.over = true
      this.onWork()
      return options.onEnded
    })
  }

  send(down: ActorDownFrame): boolean {
    const { frame, route } = down
    if (frame._tag === "RequestStart" || frame._tag === "WebSocketOpen") return this.open(down)
    const stream = this.streams.get(route)
    if (stream === undefined) return true
    switch (frame._tag) {
      case "RequestChunk":
        return this.gatherBody(stream, frame.body, frame.finish)
      case "RequestTrailers":
        return this.gatherBody(stream, new Uint8Array(0), true)
      case "RequestAbort":
        this.giveUp(stream, frame)
        return true
      case "WebSocketMessage":
        if (!stream.gather(frame.data)) return this.overflow(stream)
        if (!frame.finish) {
          // A message has to come whole before any of it can leave, so its pieces are granted as they come; the last one when it has left.
          stream.grant(frame.data.length)
          this.enlist(stream)
          return true
        }
        return this.write(stream, { ...frame, data: stream.takeGathered(), finish: true }, frame.data.length)
      case "WebSocketClose":
        this.write(stream, frame, 0)
        this.forget(route)
        return true
      case "Credit":
        stream.granted(frame.bytes)
        this.enlist(stream)
        return true
      default:
        return absurd(frame)
    }
  }

  withdraw(route: RouteKey): ReadonlyArray<DownFrame> {
    const stream = this.streams.get(route)
    const unsent = stream?.unsent
    const withdrawn: Array<DownFrame> = unsent === undefined ? [] : [{ route, index: 0, frame: unsent }]
    const same = ({ frame }: Queued) =>
      frame.route.requestId === route.requestId && frame.route.gatewayId === route.gatewayId
    for (const { frame } of this.queue.length === 0 ? [] : this.queue.extract(same)) {
      this.queuedBytes -= weightBytes(frame.frame)
      withdrawn.push(frame)
    }
    if (withdrawn.some(({ frame }) => opensRoute(frame))) this.forget(route)
    return withdrawn
  }

  reset(route: RouteKey, code: AbortCode): void {
    // A runner of good faith may speak on routes that are over; told so, published clients would only answer again.
    const stream = code === "unknown_route" ? undefined : this.streams.get(route)
    if (stream !== undefined) this.giveUp(stream, { _tag: "RequestAbort", code })
  }

  /** These runners know no going away but the end of the connection: that comes when their streams are done. */
  goAway(): void {}

  /** What waits here waits for the actor, not for the socket. */
  flushed(): boolean {
    return true
  }

  /** The hub gathers what a gateway sends, up to what one message may hold: a first window is free. */
  initialCredit(opening: RequestFrame): number {
    switch (opening._tag) {
      case "RequestStart":
        return opening.streamed ? limits.windowBytesInitial : 0
      case "WebSocketOpen":
        return limits.windowBytesInitial
      case "RequestChunk":
      case "RequestTrailers":
      case "RequestAbort":
      case "WebSocketMessage":
      case "WebSocketClose":
      case "Credit":
        return 0
      default:
        return absurd(opening)
    }
  }

  farewell(route: RouteKey, _unsent: boolean): IndexedFrame {
    const stream = this.streams.get(route)
    this.forget(route)
    if (stream === undefined || !stream.sleeps) {
      return { index: 0, frame: { _tag: "ResponseAbort", code: "session_lost", message: "the runner went away" } }
    }
    this.options.onAsleep(stream)
    return stream.rearm()
  }

  /** Goes on over this socket, in this version. What was written to the last one and not known to have arrived is made good or given up. */
  attach(socket: MessageSocket, version: RivetVersion): void {
    this.socket = socket
    this.version = version
    this.blocked = false
    for (const stream of [...this.streams.values()]) {
      if (stream.kind === "http" || stream.closed) continue
      if (stream.canHibernate) {
        this.withdraw(stream.route)
        this.options.onReturned(stream)
      } else if (version.mark === 2 && stream.writtenAt > this.pingsAnswered) {
        stream.endWith({ _tag: "ResponseAbort", code: "gap", message: "messages may have been lost with a connection" })
        this.enlist(stream)
      }
    }
    this.flush()
  }

  detach(socket: MessageSocket): void {
    if (this.socket !== socket) return
    this.socket = undefined
    this.blocked = false
  }

  /** Says something beside the streams, now and ahead of them. Dropped without a socket: what is owed is said again after a reconnect. */
  say(message: ActorDownlink): void {
    this.sayNow({ _tag: "Actor", message })
  }

  /** The same, of any message. A value without a form in this version is left out. */
  sayNow(down: Down): void {
    const bytes = this.version?.encodeDown(down) ?? null
    if (bytes !== null) this.socket?.sendUnsafe(bytes, whole)
  }

  /** Writes bytes that are a message already. */
  sayBytes(bytes: Uint8Array): void {
    this.socket?.sendUnsafe(bytes, whole)
  }

  /** Sends a ping; what was written before it has arrived once it is answered. */
  ping(nowMs: number): void {
    this.pings++
    this.say({ _tag: "Ping", atMs: BigInt(nowMs) })
  }

  /** All pings so far are answered, at the latest. */
  pong(): void {
    this.pingsAnswered = this.pings
  }

  /** Takes a frame from the runner for a stream of its own; false where it has no such stream here. */
  take(route: RouteKey, frame: ResponseFrame): boolean {
    const stream = this.streams.get(route)
    if (stream === undefined) return false
    if (!stream.offer(frame)) this.overflow(stream)
    this.enlist(stream)
    return true
  }

  /** This generation hosts nothing any more: the runner will say no more for its streams, so it is said here. */
  actorEnded({ actorId, generation }: Placement, hibernates: boolean): void {
    for (const stream of [...this.streams.values()]) {
      if (stream.actor.actorId !== actorId || stream.actor.generation !== generation) continue
      this.withdraw(stream.route)
      if (stream.kind === "http") {
        stream.offer({ _tag: "ResponseAbort", code: "actor_stopped", message: "the actor stopped" })
      } else if (hibernates && stream.sleeps) stream.offer(asleep)
      else stream.offer({ _tag: "WebSocketClose", code: 1000, reason: "actor.stopped", hibernate: false })
      this.enlist(stream)
    }
  }

  /** The stream has something to publish. */
  enlist(stream: RivetStream): void {
    if (stream.ready) return
    stream.ready = true
    this.line.push(stream)
    this.onWork()
  }

  /** The next stream in line that has something to publish. */
  nextInLine(): RivetStream | undefined {
    const stream = this.line.shift()
    if (stream !== undefined) stream.ready = false
    return stream
  }

  /** Whether the pump has something to do. */
  get hasWork(): boolean {
    return this.over || this.jobs.length > 0 || this.line.length > 0
  }

  /** Queues work for the pump. */
  enqueue(job: Effect.Effect<void>): void {
    this.jobs.push(job)
    this.onWork()
  }

  /** The stream is over here. */
  forget(route: RouteKey): void {
    this.streams.delete(route)?.drop()
  }

  private open({ actor, frame, route }: ActorDownFrame): boolean {
    if (frame._tag !== "RequestStart" && frame._tag !== "WebSocketOpen") return true
    const kind = frame._tag === "RequestStart" ? "http" : "websocket"
    const stream = new RivetStream(
      route,
      { actorId: actor, generation: this.options.generationOf(actor) },
      kind,
      this.held
    )
    this.streams.set(route, stream)
    const opening = { ...frame, target: inOriginForm(frame.target) }
    if (opening._tag === "RequestStart" && opening.streamed) {
      stream.holdOpening(opening)
      return true
    }
    return this.write(stream, opening._tag === "RequestStart" ? withoutNeedlessBody(opening) : opening, 0)
  }

  private gatherBody(stream: RivetStream, body: Uint8Array, finish: boolean): boolean {
    const opening = stream.unsent
    // After the whole request nothing more of it can come.
    if (opening === undefined || opening._tag !== "RequestStart") return true
    if (!stream.gather(body)) return this.overflow(stream)
    if (finish) {
      const request = { ...opening, body: stream.takeGathered(), streamed: false }
      return this.write(stream, withoutNeedlessBody(request), 0)
    }
    stream.grant(body.length)
    this.enlist(stream)
    return true
  }

  /** More than this wire carries, or than we keep: this stream pays, no other. */
  private overflow(stream: RivetStream): boolean {
    if (stream.unsent === undefined) this.tellGone(stream, "overflow")
    stream.endWith({ _tag: "ResponseAbort", code: "overflow", message: "more than a message of the runner may hold" })
    this.enlist(stream)
    return true
  }

  /** The gateway, or we, have no more use for the stream: the runner is told, unless it never heard of it. */
  private giveUp(stream: RivetStream, frame: Extract<RequestFrame, { readonly _tag: "RequestAbort" }>): void {
    if (stream.unsent === undefined) this.tellGone(stream, frame.code)
    this.forget(stream.route)
  }

  private tellGone(stream: RivetStream, code: AbortCode): void {
    if (stream.kind === "http") this.write(stream, { _tag: "RequestAbort", code }, 0)
    else this.write(stream, { _tag: "WebSocketClose", code: 1011, reason: "ws.downstream_closed" }, 0)
  }

  private write(stream: RivetStream, frame: WholeRequestFrame, grantBytes: number): boolean {
    const bytes = weightBytes(frame)
    if (this.queuedBytes + bytes > limits.linkQueueBytesMax) return false
    this.queuedBytes += bytes
    const { actor, route } = stream
    this.queue.push({ frame: { route, index: stream.nextIndex(), frame }, actorId: actor.actorId, grantBytes })
    this.flush()
    return true
  }

  private flush(): void {
    const { socket, version } = this
    if (socket === undefined || version === undefined || this.blocked || socket.closedUnsafe() !== undefined) return
    for (let next = this.queue.shift(); next !== undefined; next = this.queue.shift()) {
      this.queuedBytes -= weightBytes(next.frame.frame)
      const bytes = this.encode(version, next)
      if (bytes === null) continue
      const writable = socket.sendUnsafe(bytes, whole)
      this.written(next)
      if (!writable) return this.block(socket)
    }
  }

  private encode(version: RivetVersion, { actorId, frame }: Queued): Uint8Array | null {
    try {
      return version.encodeDown({ _tag: "TunnelDown", ...frame, actorId })
    } catch {
      this.options.onUnencodable(frame)
      return null
    }
  }

  private written({ frame, grantBytes }: Queued): void {
    const stream = this.streams.get(frame.route)
    if (stream === undefined) return
    stream.writtenAt = this.pings + 1
    if (grantBytes === 0) return
    stream.grant(grantBytes)
    this.enlist(stream)
  }

  private block(socket: MessageSocket): void {
    this.blocked = true
    socket.whenWritableUnsafe(() => {
      if (this.socket !== socket) return
      this.blocked = false
      this.flush()
    })
  }
}
