/**
 * Rivet's published client as a hub meets it, in any of the protocol's versions: when it dials, what it says by itself, what it keeps for later and
 * what it drops without a word. In bytes, by our codecs. What its app does is `RivetApp.ts`.
 *
 * As the published one does: one init for each connection, every event that was not acknowledged again after it, frames that were due meanwhile only
 * for streams that it still has, and nothing at all for those that it has not.
 */
import { Effect } from "effect"
import type { ActorDownlink, ActorUplink, Checkpoint, Event, NumberedEvent } from "../../src/actor/ActorMessage.ts"
import type { Down, RivetVersion, Up, WholeRequestFrame, WholeResponseFrame } from "../../src/protocol/Rivet.ts"
import type { DialError, MessageSocket, SocketClosed } from "../../src/socket/MessageSocket.ts"
import { type RouteKey, showRoute } from "../../src/tunnel/Envelope.ts"
import { absurd } from "../../src/tunnel/Frame.ts"
import type { World } from "./World.ts"

const whole = { binary: true, finish: true } as const
const commandAckMs = 300_000
const reconnectMsMax = 30_000

/** What the client tells its app. */
export interface ClientApp {
  readonly started: (checkpoint: Checkpoint, hibernating: ReadonlyArray<RouteKey>) => void
  /** The stop callback: the actor still lives, and may say its last. */
  readonly stops: (actorId: string) => void
  readonly connected: () => void
  /** It says something on a stream that it had before its last reconnect. */
  readonly goesOn: () => void
  readonly frame: (route: RouteKey, index: number, actorId: string, frame: WholeRequestFrame) => void
}

interface Hosted {
  readonly generation: number
  events: number
  lastCommand: bigint
  history: Array<NumberedEvent>
}

interface Exchange {
  readonly route: RouteKey
  readonly actorId: string
  /** Over which of its connections the stream came to it. */
  readonly connection: number
  index: number
}

/** Frames that wait for a connection. `anyway`: a restored socket is registered twice, so these go though the socket is gone, as the first of it. */
interface Buffered {
  readonly route: RouteKey
  readonly frame: WholeResponseFrame
  readonly anyway: boolean
}

/** Who it is, and whom it asks for a connection. */
export interface ClientOptions {
  readonly version: RivetVersion
  readonly name: string
  readonly key: string
  readonly dial: (query: string) => Effect.Effect<MessageSocket, DialError>
  /** What would end a published client's process, or keep it away for good. */
  readonly violate: (what: string) => void
}

/** One runner process. */
export class RivetClient {
  readonly version: RivetVersion
  readonly key: string
  /** Welcomed over the present connection. Before that its app is silent here; the published client would send what is new ahead of what it kept. */
  online = false
  /** Says no more, ever. */
  gone = false
  /** Connections that were welcomed. */
  private connections = 0
  private readonly world: World
  private readonly options: ClientOptions
  private app: ClientApp | undefined
  private socket: MessageSocket | undefined
  private runnerId: string | undefined
  private runnerLostMs = 0
  private cancelLost: () => void = () => {}
  private lastCommand: bigint | null = null
  private events = 0
  private readonly actors = new Map<string, Hosted>()
  private readonly exchanges = new Map<string, Exchange>()
  private buffer: Array<Buffered> = []

  constructor(world: World, options: ClientOptions) {
    this.world = world
    this.options = options
    this.version = options.version
    this.key = options.key
  }

  /** Runs until it is gone. */
  run(app: ClientApp): Effect.Effect<void> {
    this.app = app
    let attempt = 0
    const once = Effect.suspend(() => this.options.dial(this.query)).pipe(
      Effect.flatMap((socket) => {
        attempt = 0
        return this.serve(socket)
      }),
      Effect.ignore,
      Effect.andThen(
        Effect.suspend(() => {
          const baseMs = Math.min(1_000 * 2 ** attempt++, reconnectMsMax)
          return this.gone ? Effect.void : Effect.sleep(Math.floor(baseMs * (1 + this.world.chance() / 4)))
        })
      )
    )
    return Effect.repeat(once, { until: () => this.gone })
  }

  /** Its process ends without a word. */
  kill(): void {
    this.gone = true
    this.cancelLost()
    this.socket?.terminateUnsafe()
  }

  /** Leaves in order: its actors are stopped by the hub, then it closes. */
  readonly shutDown: Effect.Effect<void> = Effect.suspend(() => {
    this.say({ _tag: "Stopping" })
    const done = () => this.actors.size === 0 || this.socket === undefined
    return Effect.sleep(100).pipe(Effect.repeat({ until: done, times: 1_200 }))
  }).pipe(
    Effect.andThen(
      Effect.sync(() => {
        this.gone = true
        this.cancelLost()
        this.socket?.closeUnsafe(1000, "pegboard.runner_shutdown")
      })
    )
  )

  /** The network fails it. */
  stumble(): void {
    this.socket?.terminateUnsafe()
  }

  /** The generation of the actor that it hosts. */
  generationOf(actorId: string): number | undefined {
    return this.actors.get(actorId)?.generation
  }

  /** Actors that it hosts. */
  get hosted(): ReadonlyArray<string> {
    return [...this.actors.keys()]
  }

  /** A frame of a stream that it has. Kept where there is no connection; dropped where the stream or its actor is not here any more. */
  send(route: RouteKey, frame: WholeResponseFrame): boolean {
    if (!this.online) {
      this.buffer.push({ route, frame, anyway: false })
      return false
    }
    const exchange = this.exchanges.get(showRoute(route))
    if (exchange === undefined || !this.actors.has(exchange.actorId)) return false
    if (exchange.connection !== this.connections) this.app?.goesOn()
    this.put({ _tag: "TunnelUp", route, index: exchange.index++ & 0xffff, frame, acknowledgement: null })
    return true
  }

  /** One of a stream that it has no record of: the first of it, as far as it knows. */
  blurt(route: RouteKey, ...frames: ReadonlyArray<WholeResponseFrame>): void {
    for (const frame of frames) {
      if (this.online) this.put({ _tag: "TunnelUp", route, index: 0, frame, acknowledgement: null })
      else this.buffer.push({ route, frame, anyway: true })
    }
  }

  /** The actor has the stream again that it had before. */
  restore(route: RouteKey, actorId: string): void {
    const index = this.exchanges.get(showRoute(route))?.index ?? 0
    this.exchanges.set(showRoute(route), { route, actorId, connection: this.connections, index })
  }

  /** Whether the stream is with it. */
  has(route: RouteKey): boolean {
    return this.exchanges.has(showRoute(route))
  }

  /** The stream is over here. */
  forget(route: RouteKey): void {
    this.exchanges.delete(showRoute(route))
  }

  /** The actor reports something; written where there is a connection, and in its history until that is acknowledged. */
  report(actorId: string, event: Event): void {
    const hosted = this.actors.get(actorId)
    if (hosted === undefined) return
    const index = BigInt(this.version.mark === 1 ? this.events++ : hosted.events++)
    const numbered = { checkpoint: { actorId, generation: hosted.generation, index }, event }
    hosted.history.push(numbered)
    this.say({ _tag: "Events", events: [numbered] })
  }

  /** The actor ends, ordered or not. Where there is no connection nobody hears of it. */
  stop(actorId: string, failed: boolean): void {
    if (!this.actors.has(actorId)) return
    this.world.note(`${this.key} stops ${actorId.slice(-4)}`)
    this.app?.stops(actorId)
    this.report(actorId, { _tag: "Stopped", failed, message: null })
    this.actors.delete(actorId)
  }

  private get query(): string {
    return `protocol_version=${this.version.version}&namespace=default&runner_key=${this.key}`
  }

  private serve(socket: MessageSocket): Effect.Effect<void> {
    if (this.gone) return Effect.sync(() => socket.terminateUnsafe())
    this.socket = socket
    this.cancelLost()
    this.say({
      _tag: "Introduction",
      name: this.options.name,
      version: 1,
      totalSlots: 10,
      lastCommandIndex: this.lastCommand,
      actorNames: new Map(),
      metadata: null
    })
    const cancelAck = this.world.after(commandAckMs, () => this.acknowledge())
    return Effect.forever(
      Effect.map(socket.pull, (batch) => {
        for (const { binary, data } of batch) this.hear(binary, data)
      })
    ).pipe(
      Effect.catch((closed) => Effect.sync(() => this.parted(socket, closed))),
      Effect.ensuring(Effect.sync(cancelAck))
    )
  }

  private parted(socket: MessageSocket, { code, reason }: SocketClosed): void {
    if (this.socket !== socket) return
    this.socket = undefined
    this.online = false
    if (reason.startsWith("ws.eviction") || reason.startsWith("ws.invalid")) {
      this.options.violate(`a hub parts from a Rivet runner of good faith: ${code} ${reason.split("#")[0]}`)
    }
    if (this.gone || this.runnerLostMs === 0) return
    // By then its hub has given its actors elsewhere, so they end; nobody is there to hear of it.
    this.cancelLost = this.world.after(this.runnerLostMs, () => {
      for (const actorId of this.hosted) this.stop(actorId, false)
    })
  }

  private say(message: ActorUplink): void {
    this.put({ _tag: "Actor", message })
  }

  private put(up: Up): void {
    const bytes = this.version.encodeUp(up)
    if (bytes !== null) this.socket?.sendUnsafe(bytes, whole)
  }

  private acknowledge(): void {
    if (this.version.mark === 2) this.say({ _tag: "CommandsDone", upTo: this.checkpoints })
    else if (this.lastCommand !== null) this.say({ _tag: "CommandsDoneUpTo", index: this.lastCommand })
  }

  private get checkpoints(): ReadonlyArray<Checkpoint> {
    return Array.from(this.actors, ([actorId, { generation, lastCommand: index }]) => ({ actorId, generation, index }))
  }

  private hear(binary: boolean, data: Uint8Array): void {
    let down: Down
    try {
      if (!binary) throw new Error("a text message")
      down = this.version.decodeDown(data)
    } catch (error) {
      return this.options.violate(`a hub sends what ends a Rivet runner's process: ${String(error)}`)
    }
    switch (down._tag) {
      case "TunnelAck":
        return
      case "Actor":
        return this.hearActor(down.message)
      case "TunnelDown":
        return this.hearFrame(down.route, down.index, down.actorId, down.frame)
      default:
        absurd(down)
    }
  }

  private hearActor(message: ActorDownlink): void {
    switch (message._tag) {
      case "Welcome":
        return this.welcomed(message.runnerId, Number(message.runnerLostMs))
      case "Commands":
        for (const numbered of message.commands) {
          const { checkpoint, command } = numbered
          if (this.version.mark === 1) this.lastCommand = checkpoint.index
          if (command._tag === "StartActor") this.start(checkpoint, command.hibernating)
          else if (this.generationOf(checkpoint.actorId) === checkpoint.generation) this.stop(checkpoint.actorId, false)
        }
        return
      case "EventsSeen":
        for (const { actorId, index } of message.upTo) this.seen(this.actors.get(actorId), index)
        return
      case "EventsSeenUpTo":
        for (const hosted of this.actors.values()) this.seen(hosted, message.index)
        return
      case "Ping":
        return this.say({ _tag: "Pong", atMs: message.atMs })
      case "KvAnswered":
      case "Close":
        return
      default:
        absurd(message)
    }
  }

  private seen(hosted: Hosted | undefined, upTo: bigint): void {
    if (hosted !== undefined) hosted.history = hosted.history.filter(({ checkpoint }) => checkpoint.index > upTo)
  }

  private welcomed(runnerId: string, runnerLostMs: number): void {
    // Taken for another runner: all that it hosts is nobody's any more.
    if (this.runnerId !== undefined && this.runnerId !== runnerId) {
      for (const actorId of this.hosted) this.stop(actorId, false)
    }
    this.world.note(`${this.key} is welcomed as ${runnerId.slice(2, 6)}`)
    this.runnerId = runnerId
    this.runnerLostMs = runnerLostMs
    this.online = true
    this.connections++
    const events = [...this.actors.values()].flatMap(({ history }) => history)
    if (events.length > 0) this.say({ _tag: "Events", events })
    const kept = this.buffer
    this.buffer = []
    for (const { anyway, frame, route } of kept) {
      if (anyway) this.blurt(route, frame)
      else this.send(route, frame)
    }
    this.app?.connected()
  }

  private start(checkpoint: Checkpoint, hibernating: ReadonlyArray<RouteKey>): void {
    const { actorId, generation, index } = checkpoint
    const routes = hibernating.map(showRoute).join(", ")
    this.world.note(`${this.key} starts generation ${generation} of ${actorId.slice(-4)} with [${routes}]`)
    // Whatever record it has of this actor is replaced, of whichever generation; nobody stops that one.
    this.actors.set(actorId, { generation, events: 0, lastCommand: index, history: [] })
    this.report(actorId, { _tag: "Running" })
    this.app?.started(checkpoint, hibernating)
  }

  private hearFrame(route: RouteKey, index: number, actorId: string, frame: WholeRequestFrame): void {
    if (frame._tag === "RequestStart" || frame._tag === "WebSocketOpen") {
      // Of an actor that it does not have it says nothing at all.
      if (!this.actors.has(actorId)) return
      this.exchanges.set(showRoute(route), { route, actorId, connection: this.connections, index: 0 })
      if (frame._tag === "RequestStart" && frame.method === "GET" && frame.body.length > 0) {
        const body = Buffer.from("Internal Server Error")
        this.send(route, { _tag: "ResponseStart", status: 500, headers: [], body, streamed: false })
        return this.forget(route)
      }
    } else if (!this.exchanges.has(showRoute(route))) return
    this.app?.frame(route, index, actorId, frame)
  }
}
