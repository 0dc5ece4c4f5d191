/**
 * Streams that are meant for an actor: finds out which runner hosts it, starting or waking it where need be, and gives the stream to that runner.
 * Next: `RivetPeer.ts`, the runner; `LastingSockets.ts`, WebSockets whose actor is away; `ActorControl.ts`, who says where an actor is.
 */
import { Deferred, Effect } from "effect"
import type { ActorControl, ActorError, Placement } from "../../actor/ActorControl.ts"
import type { Downlink, SessionId, Wake } from "../../tunnel/Envelope.ts"
import { type AbortCode, absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import { RouteMap } from "../../tunnel/RouteMap.ts"
import type { ActorStreams, DownlinkHandler } from "../Downlink.ts"
import type { HubParts } from "../HubParts.ts"
import type { Session } from "../Session.ts"
import type { LastingSocket, LastingSockets, RivetHost } from "./LastingSockets.ts"
import { RivetPeer } from "./RivetPeer.ts"
import { RivetStream } from "./RivetStream.ts"

const abortCode = (error: ActorError): AbortCode => {
  switch (error.reason) {
    case "actor.not_found":
    case "actor.destroyed_while_waiting_for_ready":
    case "actor.invalid_request":
    case "actor.duplicate_key":
      return "actor_not_found"
    case "guard.actor_ready_timeout":
    case "guard.actor_wake_retries_exceeded":
      return "actor_not_ready"
    case "guard.overloaded":
      return "overloaded"
  }
  return absurd(error.reason)
}

/** An actor and the runner that has it, where that runner is here. */
interface Found {
  readonly placement: Placement
  readonly host: RivetHost | undefined
}

interface Hosted extends Found {
  readonly host: RivetHost
}

/** The streams of actors of one hub. */
export const makeActorStreams = (
  parts: HubParts,
  control: ActorControl["Service"],
  lasting: LastingSockets,
  downlink: DownlinkHandler,
  sessionOf: (id: SessionId) => Session | undefined
): ActorStreams => {
  /** Streams that wait for their actor, and how each is told that its gateway gave it up. */
  const waiting = new RouteMap<Deferred.Deferred<void>>()

  const hostOf = ({ runner }: Placement): RivetHost | undefined => {
    const session = sessionOf(runner)
    return session?.peer instanceof RivetPeer ? { session, peer: session.peer } : undefined
  }

  /** Says in time that somebody has the stream, while its actor is being started. */
  const firstWord = ({ replyTo, route }: Downlink | Wake) => {
    const word = parts.uplink(null, route, 0, { _tag: "Credit", bytes: 0 })
    return Effect.sleep(limits.firstWordMs).pipe(
      Effect.andThen(parts.bus.publish(replyTo, [word], "each")),
      Effect.ignore
    )
  }

  /** Ready; or, where that is enough, told to start: behind that nothing of the stream can come too early. */
  const place = (actorId: string, skipReadyWait: boolean) => {
    const ready = control.place(actorId, { wait: true })
    if (!skipReadyWait) return ready
    const started = Effect.tap(
      control.place(actorId, { wait: false }),
      (placement) => hostOf(placement)?.peer.starts.awaitWritten(placement) ?? Effect.never
    )
    // The first to succeed; where both fail, it is for the same reason.
    return Effect.raceFirst(ready, started)
  }

  const find = Effect.fnUntraced(function* (asked: Downlink | Wake, actorId: string) {
    const word = yield* Effect.forkChild(firstWord(asked))
    const placement = yield* place(actorId, asked._tag === "Downlink" && asked.skipReadyWait).pipe(
      Effect.ensuring(Effect.sync(() => word.interruptUnsafe()))
    )
    const found: Found = { placement, host: hostOf(placement) }
    return found
  })

  /** Waits for the actor beside everything else, and ends with `use`, unless the gateway gives the stream up meanwhile. */
  const whileWaiting = (
    asked: Downlink | Wake,
    finding: Effect.Effect<Found | undefined, ActorError>,
    use: (found: Hosted) => Effect.Effect<void>
  ): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (waiting.size >= limits.actorOpensMax) {
        return downlink.refuse(asked, "overloaded", "too many requests wait for their actors")
      }
      const givenUp = Deferred.makeUnsafe<void>()
      waiting.set(asked.route, givenUp)
      const leave = Effect.sync(() => {
        if (waiting.get(asked.route) === givenUp) waiting.delete(asked.route)
      })
      parts.runFork(
        Effect.raceFirst(finding, Effect.as(Deferred.await(givenUp), undefined)).pipe(
          Effect.ensuring(leave),
          Effect.flatMap((found) => {
            if (found === undefined) return Effect.void
            const { host, placement } = found
            if (host !== undefined) return use({ host, placement })
            return downlink.refuse(asked, "actor_not_ready", "the actor's runner is not here")
          }),
          Effect.catchTag("ActorError", (error) => downlink.refuse(asked, abortCode(error), error.reason))
        )
      )
      return Effect.void
    })

  /** The actor that is meant: by its id, or by the name of its runners. Undefined where there is none, which the gateway has been told. */
  const meant = Effect.fnUntraced(function* (asked: Downlink | Wake) {
    const actorId = asked.actor === "" ? yield* control.autostart(asked.name) : asked.actor
    if (actorId !== null) return actorId
    yield* downlink.refuse(asked, "no_runner", `runners of ${asked.name} are reached by their actors`)
    return undefined
  })

  const open = (asked: Downlink): Effect.Effect<void> => {
    const finding = Effect.flatMap(meant(asked), (actorId) =>
      actorId === undefined ? Effect.succeed(undefined) : find(asked, actorId)
    )
    return whileWaiting(asked, finding, ({ host, placement }) =>
      downlink.openOn(host.session, { ...asked, actor: placement.actorId })
    )
  }

  /** Its gateway speaks of one that somebody has: after it was attached, to say where it goes on; else because it did not hear of that. */
  const wakeAttached = (socket: LastingSocket, place: number) => {
    const { host, stream } = socket
    if (stream.placeDue) return stream.goOnAt(place)
    socket.place = place
    stream.sleepSoon()
    host?.peer.enlist(stream)
  }

  /** Gives a socket that sleeps to its actor's runner. `false`: that generation ended while the socket was waited for. */
  const attach = Effect.fnUntraced(function* (asked: Wake, socket: LastingSocket, { host, placement }: Hosted) {
    const { stream } = socket
    const { actorId, generation } = placement
    const isGone = () => lasting.get(stream.route) !== socket
    const isThere = () => socket.host?.peer === host.peer && stream.actor.generation === generation && !stream.closed
    // The actor's start may have taken it along.
    if (isGone() || isThere()) return true
    // Whoever has it still does not let go: its gateway asks again.
    if (!(yield* lasting.awaitSleep(socket, limits.lastingSocketMs)) || isGone()) return true
    if (control.generationUnsafe(host.session.id, actorId) !== generation) return false
    const { starts, strays, wire } = host.peer
    if (wire.namesSockets && starts.isWritten(placement) && stream.actor.generation !== generation) {
      // Its gateway asked too late for this start to name it: the runner has thrown away what it knew of it.
      lasting.forget(socket)
      strays.refuse(stream.route)
      yield* downlink.refuse(asked, "actor_stopped", "the actor began anew before its WebSocket was asked for")
      return true
    }
    if (yield* lasting.attach(socket, host, generation)) host.peer.enlist(stream)
    return true
  })

  /** Finds the actor for a socket that sleeps, and again where it was gone by then. */
  const bringBack = (asked: Wake, socket: LastingSocket, attempts: number): Effect.Effect<void> => {
    const finding = Effect.tapError(find(asked, socket.actorId), (error) =>
      // Anything else may pass, and its gateway asks again.
      Effect.sync(() => abortCode(error) === "actor_not_found" && lasting.forget(socket))
    )
    return whileWaiting(asked, finding, (found) =>
      Effect.flatMap(attach(asked, socket, found), (isDone) =>
        isDone || attempts === 1 ? Effect.void : bringBack(asked, socket, attempts - 1)
      )
    )
  }

  const bringBackTo = (asked: Wake, actorId: string): Effect.Effect<void> => {
    const socket = lasting.get(asked.route) ?? lasting.enter(RivetStream.asleep(asked.route, actorId), undefined)
    if (socket === undefined) {
      return downlink.refuse(asked, "overloaded", "too many WebSockets wait for their actors")
    }
    socket.place = asked.index
    return bringBack(asked, socket, limits.lastingSocketAttempts)
  }

  const wake = (asked: Wake): Effect.Effect<void> => {
    const { actor, index, route } = asked
    const known = lasting.get(route)
    if (known?.host !== undefined && !known.stream.closed) return Effect.sync(() => wakeAttached(known, index))
    if (known !== undefined || actor !== "") return bringBackTo(asked, known?.actorId ?? actor)
    // Its visitor knows no actor, and neither do we since this hub began.
    parts.runFork(
      meant(asked).pipe(
        Effect.flatMap((actorId) => (actorId === undefined ? Effect.void : bringBackTo(asked, actorId))),
        Effect.catchTag("ActorError", (error) => downlink.refuse(asked, abortCode(error), error.reason))
      )
    )
    return Effect.void
  }

  return {
    open,
    wake,
    denied: ({ denied, session }) => {
      const peer = sessionOf(session as SessionId)?.peer
      if (peer instanceof RivetPeer) for (const route of denied) peer.strays.refuse(route)
    },
    giveUp: (route) => {
      const givenUp = waiting.get(route)
      if (givenUp !== undefined) Deferred.doneUnsafe(givenUp, Effect.void)
      const socket = lasting.get(route)
      if (socket?.host === undefined && socket !== undefined) lasting.forget(socket)
    },
    renew: (gatewayId) => lasting.renew(gatewayId)
  }
}
