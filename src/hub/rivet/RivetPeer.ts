/**
 * What a hub says to a runner that speaks one of Rivet's versions, and what it keeps of the streams it gave to it: requests are gathered and go down
 * whole, messages are joined, each message of a stream has its number, and answers wait until their gateway will take them.
 *
 * Synchronous and owned by the session, so that it outlives a socket. Next: `RivetStream.ts`, one stream; `RivetWire.ts`, which writes; `RivetPump.ts`,
 * which publishes.
 */
import { Effect } from "effect"
import type { ActorKv } from "../../actor/ActorKv.ts"
import type { ActorDownlink } from "../../actor/ActorMessage.ts"
import type { RivetVersion, WholeRequestFrame } from "../../protocol/rivet/Exchange.ts"
import type { DownFrame } from "../../protocol/Wayleave1.ts"
import type { MessageSocket } from "../../socket/MessageSocket.ts"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import { Fifo } from "../../tunnel/Fifo.ts"
import { type AbortCode, absurd, opensRoute, type RequestFrame, type ResponseFrame } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { RouteMap } from "../../tunnel/RouteMap.ts"
import type { ActorDownFrame, IndexedFrame, Peer } from "../Session.ts"
import { CommandNumbers } from "./CommandNumbers.ts"
import { abortWith, actorStopped, neverSeen, sessionLost } from "./LastWords.ts"
import { fitForClient, type Opening } from "./RequestForm.ts"
import { RivetStream, type SessionHeld, type StreamActor } from "./RivetStream.ts"
import { RivetWire, type StreamMessage } from "./RivetWire.ts"
import { Starts } from "./Starts.ts"
import { StoreRequests } from "./StoreRequests.ts"
import { Strays } from "./Strays.ts"

/** What a peer needs of the hub around it. */
export interface RivetPeerOptions {
  readonly kv: ActorKv["Service"]
  readonly runFork: (effect: Effect.Effect<void>) => void
  readonly generationOf: (actorId: string) => number
  readonly onUnencodable: (frame: DownFrame) => void
  readonly onUnsayable: (message: ActorDownlink) => void
  /** The peer has nothing to do with the stream any more, and it does not sleep either. */
  readonly onForgotten: (stream: RivetStream) => void
  /** The runner neither opened nor refused a WebSocket in its time: it may not have the actor any more. */
  readonly onUnanswered: (actor: StreamActor) => void
  readonly onEnded: Effect.Effect<void>
}

type Message = Extract<RequestFrame, { readonly _tag: "WebSocketMessage" }>

const isOpening = ({ frame }: DownFrame): boolean => opensRoute(frame)

/** The peer of one Rivet session. */
export class RivetPeer implements Peer {
  readonly dialect = "rivet"
  readonly goesOnUntold = true
  readonly streams = new RouteMap<RivetStream>()
  readonly wire: RivetWire
  /** What all its streams hold: of requests that are not whole, and of answers that their gateways do not take yet. */
  readonly held: SessionHeld = { requests: { bytes: 0 }, answers: { bytes: 0 } }
  readonly strays = new Strays(this.held.answers, () => this.onWork())
  readonly stores: StoreRequests
  readonly starts = new Starts()
  /** Of versions 1 to 3. */
  readonly numbers = new CommandNumbers()
  /** The last event heard of where they are numbered for the whole runner; -1 for none. */
  lastEventIndex = -1n
  /** Called when the pump has something to do. */
  onWork: () => void = () => {}
  /** An app says that its WebSocket may outlive the actor's sleep. `false`: there is no room for one more of those. */
  onLasting: (stream: RivetStream) => boolean = () => false
  /** Nothing of the session is left. */
  gone = false

  private readonly options: RivetPeerOptions
  private readonly line = new Fifo<RivetStream>()
  /** The session is over, unless its runner comes back all the same. */
  private over = false
  private onDrained: () => void = () => {}

  constructor(options: RivetPeerOptions) {
    this.options = options
    this.wire = new RivetWire({
      onWritten: (message) => this.written(message),
      onUnencodable: options.onUnencodable,
      onUnsayable: options.onUnsayable
    })
    this.stores = new StoreRequests(options.kv, this.wire, options.runFork)
  }

  readonly ended: Effect.Effect<void> = Effect.suspend(() => {
    this.over = true
    for (const stream of this.streams.values()) this.endFor(stream, true, sessionLost)
    this.strays.refuseAll()
    return this.options.onEnded
  })

  readonly drained: Effect.Effect<void> = Effect.callback<void>((resume) => {
    if (this.streams.size === 0) return resume(Effect.void)
    this.onDrained = () => resume(Effect.void)
  }).pipe(Effect.timeoutOption(limits.rivetLingerMs), Effect.asVoid)

  finished(): void {
    this.gone = true
    this.onWork()
  }

  send({ actor, frame, index, route }: ActorDownFrame): boolean {
    if (frame._tag === "RequestStart" || frame._tag === "WebSocketOpen") return this.open(route, actor, frame)
    const stream = this.streams.get(route)
    if (stream === undefined) return true
    // The last word needs no place: nothing is missed behind it.
    const verdict = frame._tag === "WebSocketClose" ? "next" : stream.judge(frame, index)
    if (verdict === "duplicate") return true
    if (verdict === "gap") return this.interrupt(stream)
    switch (frame._tag) {
      case "RequestChunk":
        return this.gatherBody(stream, frame.body, frame.finish)
      case "RequestTrailers":
        return this.gatherBody(stream, new Uint8Array(0), true)
      case "RequestAbort":
        this.giveUp(stream, frame.code)
        return true
      case "WebSocketMessage":
        return this.gatherMessage(stream, frame)
      case "WebSocketClose":
        this.close(stream, frame)
        return true
      case "Credit":
        stream.granted(frame.bytes)
        this.enlist(stream)
        return true
    }
    return absurd(frame)
  }

  withdraw(route: RouteKey): ReadonlyArray<DownFrame> {
    const stream = this.streams.get(route)
    if (stream === undefined) return []
    const withdrawn = this.retract(stream)
    if (withdrawn.some(isOpening)) this.forget(stream)
    return withdrawn
  }

  reset(route: RouteKey, code: AbortCode): void {
    // A runner of good faith may speak on routes that are over; told so, published clients would only answer again.
    const stream = code === "unknown_route" ? undefined : this.streams.get(route)
    if (stream !== undefined) this.giveUp(stream, code)
  }

  /** These runners know no going away but the end of the connection: that comes when their streams are done. */
  goAway(): void {}

  /** What waits here waits for the actor, not for the socket. */
  flushed(): boolean {
    return true
  }

  farewell(route: RouteKey, unsent: boolean): IndexedFrame {
    const stream = this.streams.get(route)
    if (stream !== undefined) this.forget(stream)
    return { index: 0, frame: unsent ? neverSeen : sessionLost }
  }

  /** Goes on over this socket, in this version. What was written to the last one and not known to have arrived is made good or given up. */
  attach(socket: MessageSocket, version: RivetVersion, welcome: ActorDownlink): void {
    const { wire } = this
    const { provesArrival } = wire
    this.over = false
    const sockets = this.streams.values().filter(({ closed, kind }) => kind === "websocket" && !closed)
    // While there is no socket yet: whatever were written first would take along what waits of all the others.
    for (const stream of sockets) {
      if (stream.lasts) {
        // Their gateways repeat what was not acknowledged, once they have slept for a moment.
        wire.withdraw(stream.route)
        stream.sleepSoon()
        this.enlist(stream)
      } else if (this.misses(stream, provesArrival)) {
        this.fail(stream, "gap", "messages may have been lost with a connection")
      }
    }
    wire.attach(socket, version)
    wire.say(welcome)
    wire.flush()
  }

  detach(socket: MessageSocket): void {
    this.wire.detach(socket)
    this.starts.forgetAll()
  }

  /** Takes a frame from the runner for a stream of its own, and returns that; undefined where it has no such stream here. */
  take(route: RouteKey, frame: ResponseFrame): RivetStream | undefined {
    const stream = this.streams.get(route)
    if (stream === undefined) return undefined
    const fault = stream.offer(this.lasting(stream, frame))
    if (fault !== undefined) this.fail(stream, fault, "more than may be kept of an answer")
    this.enlist(stream)
    return stream
  }

  /** This generation hosts nothing any more: the runner will say no more for its streams, so it is said here. */
  actorEnded({ actorId, generation }: StreamActor, hibernates: boolean): void {
    this.starts.forget({ actorId, generation })
    this.endStreams((actor) => actor.actorId === actorId && actor.generation === generation, hibernates)
  }

  /** Only this generation of the actor is left. What older ones had open is asleep with their actor, or over. */
  actorStarts({ actorId, generation }: StreamActor): void {
    this.endStreams((actor) => actor.actorId === actorId && actor.generation !== generation, true)
  }

  /** Ends the streams of actors that are not here any more. */
  reconcile(generationOf: (actorId: string) => number | undefined): void {
    this.endStreams((actor) => generationOf(actor.actorId) !== actor.generation, true)
  }

  /** Takes a WebSocket over that was asleep. What the runner has said on it meanwhile, without our knowing it, follows. */
  adopt(stream: RivetStream, actor: StreamActor, place: number): void {
    stream.attach(this.held, actor, place)
    this.streams.set(stream.route, stream)
    const said = this.strays.claim(stream.route)
    if (said === undefined) return this.fail(stream, "overflow", "more than may be kept for a WebSocket that is woken")
    for (const frame of said) this.take(stream.route, frame)
  }

  /** A WebSocket is asleep, and nobody's. */
  release({ route }: RivetStream): void {
    this.streams.delete(route)
    if (this.streams.size === 0) this.onDrained()
  }

  /** The stream is over here. */
  forget(stream: RivetStream): void {
    if (this.streams.get(stream.route) !== stream) return
    this.release(stream)
    stream.drop()
    this.options.onForgotten(stream)
  }

  /** The stream is over for its runner too, without what was still to come. */
  fail(stream: RivetStream, code: AbortCode, message: string): void {
    this.tellRunner(stream, code)
    stream.endWith(abortWith(code, message))
    this.enlist(stream)
  }

  /** The stream has something to publish. */
  enlist(stream: RivetStream): void {
    if (stream.ready) return
    stream.ready = true
    this.line.push(stream)
    this.onWork()
  }

  /** The next stream in line. */
  nextInLine(): RivetStream | undefined {
    for (let stream = this.line.shift(); stream !== undefined; stream = this.line.shift()) {
      // It may have ended, or gone to another runner.
      if (this.streams.get(stream.route) !== stream) continue
      stream.ready = false
      return stream
    }
    return undefined
  }

  /** Whether the pump has something to do. */
  get hasWork(): boolean {
    return this.gone || this.line.length > 0 || this.strays.hasRefused
  }

  private open(route: RouteKey, actorId: string, frame: Opening): boolean {
    const actor = { actorId, generation: this.options.generationOf(actorId) }
    const stream = new RivetStream(route, frame._tag === "RequestStart" ? "http" : "websocket", actor, this.held)
    this.streams.set(route, stream)
    if (this.over) {
      stream.endWith(neverSeen)
      this.enlist(stream)
      return true
    }
    if (frame._tag === "RequestStart" && frame.streamed) {
      stream.unsent = frame
      this.gather(stream, frame.body)
      return true
    }
    const taken = this.write(stream, fitForClient(frame))
    if (!taken) this.forget(stream)
    return taken
  }

  private gatherBody(stream: RivetStream, body: Uint8Array, finish: boolean): boolean {
    const opening = stream.unsent
    // After the whole request nothing more of it can come.
    if (opening === undefined || !this.gather(stream, body)) return true
    if (!finish) return this.grant(stream, body.length)
    stream.unsent = undefined
    return this.write(stream, fitForClient({ ...opening, body: stream.gathering.take(), streamed: false }))
  }

  private gatherMessage(stream: RivetStream, frame: Message): boolean {
    if (stream.mute || !this.gather(stream, frame.data)) return true
    // A message has to come whole before any of it can leave, so its pieces are granted as they come; the last one when it has left.
    if (!frame.finish) return this.grant(stream, frame.data.length)
    return this.write(stream, { ...frame, data: stream.gathering.take(), finish: true }, frame.data.length)
  }

  /** Keeps a piece of what has to be whole. `false`: it is too much, and the stream ends. */
  private gather(stream: RivetStream, piece: Uint8Array): boolean {
    const fault = stream.gathering.add(piece)
    if (fault !== undefined) this.fail(stream, fault, "more than can be kept until it is whole")
    return fault === undefined
  }

  /** Its visitor has closed: the app hears of that behind all the visitor said, unless something of it may be missing. */
  private close(stream: RivetStream, frame: Extract<WholeRequestFrame, { readonly _tag: "WebSocketClose" }>): void {
    const unseen =
      !this.wire.connected && this.misses(stream, this.wire.provesArrival) && this.retract(stream).some(isOpening)
    if (!stream.closed && !unseen) this.write(stream, frame)
    this.forget(stream)
  }

  /** Whether something written to the runner before may not have arrived, where that makes a difference to it or can be known. */
  private misses(stream: RivetStream, provesArrival: boolean): boolean {
    return (stream.lasts || provesArrival) && !this.wire.hasArrived(stream.writtenBefore)
  }

  /** Something is missing of what its gateway said: one that lasts has it said again, once it has slept for a moment. */
  private interrupt(stream: RivetStream): true {
    if (stream.lasts) {
      stream.sleepSoon()
      this.enlist(stream)
    } else this.fail(stream, "gap", "a frame went missing on the way to the runner's hub")
    return true
  }

  private grant(stream: RivetStream, bytes: number): true {
    if (bytes > 0) {
      stream.grant(bytes)
      this.enlist(stream)
    }
    return true
  }

  private write(stream: RivetStream, frame: WholeRequestFrame, grantBytes = 0): boolean {
    const { actor, route } = stream
    return this.wire.write({ route, index: stream.nextIndex(), actorId: actor.actorId, frame, grantBytes })
  }

  private written({ grantBytes, route }: StreamMessage): void {
    const stream = this.streams.get(route)
    if (stream === undefined) return
    stream.writtenBefore = this.wire.nextPing
    this.grant(stream, grantBytes)
  }

  /** An app says yes to a WebSocket: it lasts only where it can be kept. */
  private lasting(stream: RivetStream, frame: ResponseFrame): ResponseFrame {
    if (frame._tag !== "WebSocketOpen" || !frame.canHibernate || stream.closed) return frame
    return { ...frame, canHibernate: this.onLasting(stream) }
  }

  /** The gateway, or we, have no more use for the stream: the runner is told, unless it never heard of it or is done with it. */
  private giveUp(stream: RivetStream, code: AbortCode): void {
    const isUnanswered = stream.kind === "websocket" && !stream.accepted && code === "deadline"
    if (isUnanswered) this.options.onUnanswered(stream.actor)
    if (!stream.closed) this.tellRunner(stream, code)
    this.forget(stream)
  }

  private tellRunner(stream: RivetStream, code: AbortCode): void {
    if (this.retract(stream).some(isOpening)) return
    if (stream.kind === "http") this.write(stream, { _tag: "RequestAbort", code })
    else this.write(stream, { _tag: "WebSocketClose", code: 1011, reason: "ws.downstream_closed" })
  }

  /** What its runner has not seen of it, taken back. */
  private retract(stream: RivetStream): ReadonlyArray<DownFrame> {
    const { route, unsent } = stream
    stream.unsent = undefined
    const queued = this.wire.withdraw(route)
    return unsent === undefined ? queued : [{ route, index: 0, frame: unsent }]
  }

  private endStreams(which: (actor: StreamActor) => boolean, hibernates: boolean): void {
    for (const stream of this.streams.values()) {
      if (which(stream.actor)) this.endFor(stream, hibernates, actorStopped(stream))
    }
  }

  /** Its runner says no more of the stream: it sleeps where it can, or ends with this, or as one that nobody saw. */
  private endFor(stream: RivetStream, hibernates: boolean, lastWord: ResponseFrame): void {
    if (stream.closed) return
    const unseen = this.retract(stream).some(isOpening)
    if (hibernates && stream.lasts) stream.sleep()
    else if (unseen) stream.endWith(neverSeen)
    else stream.end(lastWord)
    this.enlist(stream)
  }
}
