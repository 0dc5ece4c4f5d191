/**
 * Streams that are meant for an actor: finds out which runner hosts it, starting or waking it where need be, and gives the stream to that runner. Keeps
 * the list of WebSockets whose actor is away, so that it is told of them when it starts. Next: `RivetPeer.ts`, the runner; `ActorControl.ts`, who says where.
 */
import { Clock, Effect } from "effect"
import type { ActorControl, ActorError, Placement } from "../../actor/ActorControl.ts"
import type { NumberedCommand } from "../../actor/ActorMessage.ts"
import * as Subject from "../../bus/Subject.ts"
import type { Downlink, RouteKey, SessionId, Wake } from "../../tunnel/Envelope.ts"
import { type AbortCode, absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { RouteMap } from "../../tunnel/RouteMap.ts"
import type { ActorStreams, DownlinkHandler } from "../Downlink.ts"
import type { HubParts } from "../HubParts.ts"
import { endStream, openStream, type Session } from "../Session.ts"
import { RivetPeer } from "./RivetPeer.ts"
import { RivetStream, type StreamActor } from "./RivetStream.ts"

/** A visitor's WebSocket whose actor is away. */
interface Sleeper {
  readonly route: RouteKey
  readonly actorId: string
  /** The place of its next message, once its gateway has said it. */
  index: number | undefined
  heardAtMs: number
}

/** What the connections of Rivet runners need of the streams of their actors. */
export interface RivetStreams extends ActorStreams {
  /** A WebSocket's actor is away; its gateway will be told next. */
  readonly fallAsleep: (stream: RivetStream) => void
  /** Writes commands to a runner. An actor that starts is told of the WebSockets that wait for it, and gets their routes before it can answer. */
  readonly command: (session: Session, peer: RivetPeer, commands: ReadonlyArray<NumberedCommand>) => void
  /** Puts a WebSocket on its actor again after its runner's connection was lost. */
  readonly putBack: (session: Session, peer: RivetPeer, stream: RivetStream) => void
  /** Forgets the sleepers of gateways that were silent for a lease. */
  readonly sweep: () => void
  /** WebSockets whose actor is away. */
  readonly sleepers: () => number
}

/** A WebSocket that was asleep, as it goes on with this generation of its actor. */
const socketOf = (peer: RivetPeer, route: RouteKey, { actorId, generation }: StreamActor) =>
  new RivetStream(route, { actorId, generation }, "websocket", peer.held, true)

const abortCode = (error: ActorError): AbortCode => {
  switch (error.reason) {
    case "actor.not_found":
    case "actor.destroyed_while_waiting_for_ready":
    case "actor.invalid_request":
    case "actor.duplicate_key":
      return "actor_not_found"
    case "guard.actor_ready_timeout":
    case "guard.actor_wake_retries_exceeded":
    case "guard.actor_runner_failed":
    case "actor.no_runner_config_configured":
      return "actor_not_ready"
    case "guard.overloaded":
      return "overloaded"
    default:
      return absurd(error.reason)
  }
}

/** After this long without an actor the gateway is told at least that somebody has its stream. */
const firstWordMs = 1_000

/** The streams of actors of one hub. */
export const makeActorStreams = Effect.fnUntraced(function* (
  parts: HubParts,
  control: ActorControl["Service"],
  downlink: DownlinkHandler,
  sessionOf: (id: SessionId) => Session | undefined
) {
  const clock = yield* Clock.Clock
  const nowMs = () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6
  const waiting = new RouteMap<{ givenUp: boolean }>()
  const sleepers = new RouteMap<Sleeper>()
  const byActor = new Map<string, Set<Sleeper>>()

  const remember = (sleeper: Sleeper) => {
    const known = sleepers.get(sleeper.route)
    if (known !== undefined) forget(known)
    else if (sleepers.size >= limits.sleepersMax) return false
    sleepers.set(sleeper.route, sleeper)
    const others = byActor.get(sleeper.actorId)
    if (others === undefined) byActor.set(sleeper.actorId, new Set([sleeper]))
    else others.add(sleeper)
    return true
  }

  const forget = (sleeper: Sleeper) => {
    sleepers.delete(sleeper.route)
    const others = byActor.get(sleeper.actorId)
    others?.delete(sleeper)
    if (others?.size === 0) byActor.delete(sleeper.actorId)
  }

  const hostOf = ({ runner }: Placement): { readonly session: Session; readonly peer: RivetPeer } | undefined => {
    const session = sessionOf(runner)
    return session?.peer instanceof RivetPeer ? { session, peer: session.peer } : undefined
  }

  /** Says in time that somebody has the stream, while its actor is being started. */
  const firstWord = ({ replyTo, route }: Downlink | Wake) =>
    Effect.sleep(firstWordMs).pipe(
      Effect.andThen(bus.publish(replyTo, [parts.uplink(null, route, 0, { _tag: "Credit", bytes: 0 })], "each")),
      Effect.ignore
    )
  const { bus } = parts

  const place = Effect.fnUntraced(function* (asked: Downlink | Wake, actorId: string) {
    const word = yield* Effect.forkChild(firstWord(asked))
    return yield* control
      .place(actorId, { wait: true })
      .pipe(Effect.ensuring(Effect.sync(() => word.interruptUnsafe())))
  })

  /** Runs `work` for a stream that waits for its actor, beside everything else, unless the gateway gives it up. */
  const whileWaiting = (
    asked: Downlink | Wake,
    work: (entry: { readonly givenUp: boolean }) => Effect.Effect<void, ActorError>
  ): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (waiting.size >= limits.actorOpensMax) {
        return downlink.refuse(asked, "overloaded", "too many requests wait for their actors")
      }
      const entry = { givenUp: false }
      waiting.set(asked.route, entry)
      parts.runFork(
        work(entry).pipe(
          Effect.catchTag("ActorError", (error) =>
            entry.givenUp ? Effect.void : downlink.refuse(asked, abortCode(error), error.reason)
          ),
          Effect.ensuring(
            Effect.sync(() => {
              if (waiting.get(asked.route) === entry) waiting.delete(asked.route)
            })
          )
        )
      )
      return Effect.void
    })

  const open = (asked: Downlink) =>
    whileWaiting(
      asked,
      Effect.fnUntraced(function* (entry) {
        const actorId = asked.actor === "" ? yield* control.autostart(asked.name) : asked.actor
        if (actorId === null) {
          return yield* downlink.refuse(asked, "no_runner", `runners of ${asked.name} are reached by their actors`)
        }
        const placement = yield* place(asked, actorId)
        const host = hostOf(placement)
        if (entry.givenUp) return
        if (host === undefined)
          return yield* downlink.refuse(asked, "actor_not_ready", "the actor's runner is not here")
        yield* downlink.openOn(host.session, { ...asked, actor: actorId })
      })
    )

  /** Gives a route back to a WebSocket. Its gateway is still to be told: `tellAttached`. */
  const admit = (session: Session, peer: RivetPeer, sleeper: Sleeper, stream: RivetStream) =>
    parts.routes.issue(sleeper.route, session.id).pipe(
      Effect.map(() => {
        forget(sleeper)
        openStream(parts.streams, sleeper.route, session)
        stream.goOnAt(sleeper.index ?? 0)
        peer.streams.set(sleeper.route, stream)
        return true
      }),
      // Full: it goes on sleeping, and its gateway asks again. Taken: it is attached already.
      Effect.catch(() => Effect.succeed(false))
    )

  /** The gateway may go on, and says at which place before it does. */
  const tellAttached = (session: Session, route: RouteKey) => {
    const credit = parts.uplink(session, route, 0, { _tag: "Credit", bytes: limits.windowBytesInitial })
    return Effect.ignore(bus.publish(Subject.ofGateway(parts.namespace, route.gatewayId), [credit], "each"))
  }

  const attach = (session: Session, peer: RivetPeer, sleeper: Sleeper, stream: RivetStream) =>
    Effect.flatMap(admit(session, peer, sleeper, stream), (admitted) =>
      admitted ? tellAttached(session, sleeper.route) : Effect.void
    )

  const wake = (asked: Wake): Effect.Effect<void> => {
    const attached = parts.streams.get(asked.route)
    if (attached !== undefined) {
      if (attached.peer instanceof RivetPeer) attached.peer.streams.get(asked.route)?.goOnAt(asked.index)
      return Effect.void
    }
    const { actor: actorId, index, route } = asked
    const known = sleepers.get(route)
    const sleeper = known ?? { route, actorId, index, heardAtMs: nowMs() }
    sleeper.index = index
    if (known === undefined && !remember(sleeper)) {
      return downlink.refuse(asked, "overloaded", "too many WebSockets wait for their actors")
    }
    return whileWaiting(
      asked,
      Effect.fnUntraced(function* (entry) {
        const placement = yield* place(asked, actorId).pipe(Effect.tapError(() => Effect.sync(() => forget(sleeper))))
        const host = hostOf(placement)
        if (entry.givenUp || sleepers.get(route) !== sleeper) return
        if (host === undefined) {
          forget(sleeper)
          return yield* downlink.refuse(asked, "actor_not_ready", "the actor's runner is not here")
        }
        host.peer.enqueue(attach(host.session, host.peer, sleeper, socketOf(host.peer, route, placement)))
      })
    )
  }

  /** Writes one command. The routes of those that wait are issued before, and their gateways told after the actor was. */
  const order = Effect.fnUntraced(function* (session: Session, peer: RivetPeer, numbered: NumberedCommand) {
    const { command } = numbered
    if (command._tag === "StopActor") return peer.say({ _tag: "Commands", commands: [numbered] })
    const { checkpoint } = numbered
    // Looked up now: a list made when the start was decided would destroy whoever fell asleep since.
    const waiters = [...(byActor.get(checkpoint.actorId) ?? [])]
    const admitted: Array<RouteKey> = []
    for (const sleeper of waiters) {
      const { route } = sleeper
      if (yield* admit(session, peer, sleeper, socketOf(peer, route, checkpoint))) admitted.push(route)
    }
    peer.say({ _tag: "Commands", commands: [{ ...numbered, command: { ...command, hibernating: admitted } }] })
    for (const route of admitted) yield* tellAttached(session, route)
  })

  /** The gateway hears that its visitor sleeps, and at once that it may go on: so it repeats what was not acknowledged. */
  const rouse = Effect.fnUntraced(function* (session: Session, peer: RivetPeer, stream: RivetStream) {
    const { route } = stream
    if (peer.streams.get(route) !== stream || !stream.sleeps) return
    const { frame, index } = stream.rearm()
    streams.fallAsleep(stream)
    const sleeper = sleepers.get(route)
    const claimant = { session: session.id, generation: session.generation }
    const { broken, ended } = yield* parts.relay(claimant, [parts.uplink(session, route, index, frame)])
    if (broken.length > 0) {
      peer.forget(route)
      return yield* parts.onBroken(session, broken)
    }
    // Not forgotten like others: what waits in it waits on.
    peer.streams.delete(route)
    endStream(parts.streams, route)
    if (ended.length > 0 && sleeper !== undefined) yield* attach(session, peer, sleeper, stream)
  })

  const streams: RivetStreams = {
    open,
    wake,
    giveUp: (route) => {
      const entry = waiting.get(route)
      if (entry !== undefined) entry.givenUp = true
      const sleeper = sleepers.get(route)
      if (sleeper !== undefined) forget(sleeper)
    },
    fallAsleep: ({ actor, route }) => {
      remember({ route, actorId: actor.actorId, index: undefined, heardAtMs: nowMs() })
    },
    command: (session, peer, commands) => {
      for (const command of commands) peer.enqueue(order(session, peer, command))
    },
    putBack: (session, peer, stream) => peer.enqueue(rouse(session, peer, stream)),
    renew: (gatewayId) => {
      const now = nowMs()
      for (const sleeper of sleepers.values()) {
        if (sleeper.route.gatewayId === gatewayId) sleeper.heardAtMs = now
      }
    },
    sweep: () => {
      const now = nowMs()
      for (const sleeper of [...sleepers.values()]) {
        if (now - sleeper.heardAtMs >= limits.leaseMs) forget(sleeper)
      }
    },
    sleepers: () => sleepers.size
  }

  return streams
})
