/**
 * WebSockets that outlive their actor's sleep: where each of them is, from the app's yes to its end, and the moves between. Attached to the runner
 * that hosts its actor; falling asleep, while its gateway is told; asleep, and nobody's; attached again.
 *
 * All of them are known by their actor, wherever they are: the list that a starting actor is told must hold every one, since it throws away what it
 * remembers of any other. Next: `ActorStart.ts`, which asks for that list; `RivetPump.ts`, which says when a gateway was told.
 */
import { Clock, Deferred, Effect } from "effect"
import type { RouteKey } from "../../tunnel/Envelope.ts"
import type { ResponseFrame } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { RouteMap } from "../../tunnel/RouteMap.ts"
import type { HubParts } from "../HubParts.ts"
import { openStream, type Session } from "../Session.ts"
import type { RivetPeer } from "./RivetPeer.ts"
import type { RivetStream } from "./RivetStream.ts"

/** A runner as the streams of its actors see it. */
export interface RivetHost {
  readonly session: Session
  readonly peer: RivetPeer
}

/** One such WebSocket. */
export interface LastingSocket {
  readonly stream: RivetStream
  readonly actorId: string
  /** Who has it; undefined while it is asleep. */
  host: RivetHost | undefined
  /** Asleep: the place of its next message, once its gateway has said it. */
  place: number
  /** When its gateway was last heard of. */
  heardAtMs: number
  /** Completed when it is asleep, or over. */
  left: Deferred.Deferred<void> | undefined
}

const failedAsleep: ResponseFrame = { _tag: "WebSocketClose", code: 1011, reason: "", hibernate: false }

/** All of one hub. */
export class LastingSockets {
  /** The clock of all that waits here. */
  readonly nowMs: () => number
  private readonly parts: HubParts
  private readonly sockets = new RouteMap<LastingSocket>()
  private readonly byActor = new Map<string, Set<LastingSocket>>()

  constructor(parts: HubParts, nowMs: () => number) {
    this.parts = parts
    this.nowMs = nowMs
  }

  /** Those asleep, and those that are not. */
  get size(): number {
    return this.sockets.size
  }

  get(route: RouteKey): LastingSocket | undefined {
    return this.sockets.get(route)
  }

  /** Every one of an actor, wherever it is. */
  ofActor(actorId: string): ReadonlyArray<LastingSocket> {
    return [...(this.byActor.get(actorId) ?? [])]
  }

  /** Enters one: attached, or asleep without a host. Undefined where there are too many. */
  enter(stream: RivetStream, host: RivetHost | undefined, place = 0): LastingSocket | undefined {
    const { actor, route } = stream
    const known = this.sockets.get(route)
    if (known !== undefined) this.remove(known)
    if (this.sockets.size >= limits.lastingSocketsMax) return undefined
    const { actorId } = actor
    const socket: LastingSocket = { stream, actorId, host, place, heardAtMs: this.nowMs(), left: undefined }
    this.sockets.set(route, socket)
    const others = this.byActor.get(actorId)
    if (others === undefined) this.byActor.set(actorId, new Set([socket]))
    else others.add(socket)
    return socket
  }

  /** The stream is over, and so is its socket here. */
  over(stream: RivetStream): void {
    const socket = this.sockets.get(stream.route)
    if (socket?.stream === stream) this.remove(socket)
  }

  /** Its gateway was told that it sleeps. One whose runner is there goes on at once; it only slept so that its gateway repeats what may be lost. */
  readonly fellAsleep = Effect.fnUntraced(function* (
    this: LastingSockets,
    { peer, session }: RivetHost,
    stream: RivetStream
  ) {
    const socket = this.sockets.get(stream.route)
    const isHere = !stream.closed
    peer.release(stream)
    if (socket?.stream !== stream) return stream.drop()
    if (!stream.lasts) {
      // It failed in that very moment, and its end would wait with it for a wake.
      this.forget(socket)
      return yield* this.parts.tellGateway(stream.route.gatewayId, [
        this.parts.uplink(session, stream.route, 0, failedAsleep)
      ])
    }
    socket.host = undefined
    socket.heardAtMs = this.nowMs()
    this.settle(socket)
    if (isHere && (yield* this.attach(socket, { peer, session }, stream.actor.generation))) peer.enlist(stream)
  })

  /** Waits until nobody has it, for so long. `false`: somebody has it still. */
  awaitSleep(socket: LastingSocket, withinMs: number): Effect.Effect<boolean> {
    return Effect.suspend(() => {
      if (socket.host === undefined) return Effect.succeed(true)
      socket.left ??= Deferred.makeUnsafe()
      return Effect.map(Effect.timeoutOption(Deferred.await(socket.left), withinMs), () => socket.host === undefined)
    })
  }

  /** Gives one that sleeps to a runner, with its route. `false`: there is no room for one route more, and it sleeps on. Enlist it to tell its gateway. */
  attach(socket: LastingSocket, host: RivetHost, generation: number): Effect.Effect<boolean> {
    const { parts } = this
    const { actorId, place, stream } = socket
    return parts.routes.issue(stream.route, host.session.id).pipe(
      Effect.map(() => {
        openStream(parts.streams, stream.route, host.session)
        host.peer.adopt(stream, { actorId, generation }, place)
        socket.host = host
        return true
      }),
      Effect.catch(() => Effect.succeed(false))
    )
  }

  /** A gateway lives. */
  renew(gatewayId: number): void {
    const now = this.nowMs()
    for (const socket of this.sockets.values()) if (socket.stream.route.gatewayId === gatewayId) socket.heardAtMs = now
  }

  /** Forgets those asleep whose gateway was silent for a lease. */
  sweep(): void {
    const now = this.nowMs()
    for (const socket of this.sockets.values()) {
      if (socket.host === undefined && now - socket.heardAtMs >= limits.leaseMs) this.forget(socket)
    }
  }

  /** One that sleeps is over: its visitor left, or it cannot be woken. */
  forget(socket: LastingSocket): void {
    if (this.sockets.get(socket.stream.route) !== socket) return
    this.remove(socket)
    socket.stream.drop()
  }

  private remove(socket: LastingSocket): void {
    this.sockets.delete(socket.stream.route)
    const others = this.byActor.get(socket.actorId)
    others?.delete(socket)
    if (others?.size === 0) this.byActor.delete(socket.actorId)
    socket.host = undefined
    this.settle(socket)
  }

  private settle(socket: LastingSocket): void {
    if (socket.left !== undefined) Deferred.doneUnsafe(socket.left, Effect.void)
    socket.left = undefined
  }
}

/** None yet. */
export const makeLastingSockets = (parts: HubParts): Effect.Effect<LastingSockets> =>
  Clock.clockWith((clock) =>
    Effect.sync(() => new LastingSockets(parts, () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6))
  )
