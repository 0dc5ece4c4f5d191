/**
 * One Rivet runner's socket, from its welcome to its end: reads it, pings it, carries commands to it, and says why it ended. Nothing a runner says
 * wrong costs more than its own stream or message; only sustained abuse costs the connection.
 */
import { Clock, Deferred, Effect, Random } from "effect"
import type { ActorControl, RunnerIntroduction, RunnerPort } from "../../actor/ActorControl.ts"
import type { Checkpoint } from "../../actor/ActorMessage.ts"
import * as RivetId from "../../actor/RivetId.ts"
import type { RivetVersion, TunnelUp, Up } from "../../protocol/rivet/Exchange.ts"
import type { CloseReason } from "../../protocol/Wayleave1.ts"
import type { SocketMessage } from "../../socket/MessageSocket.ts"
import type { Uplink } from "../../tunnel/Envelope.ts"
import { absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import * as HubMetrics from "../HubMetrics.ts"
import type { HubParts } from "../HubParts.ts"
import { type Judgement, makeJudge } from "../Judge.ts"
import { closed, readUntilEnd } from "../RunnerConnection.ts"
import type { Connection, ConnectionEnd } from "../Session.ts"
import { makeActorChannel } from "./ActorChannel.ts"
import { makeActorCommands } from "./ActorCommands.ts"
import type { LastingSockets } from "./LastingSockets.ts"
import { Probes } from "./Probes.ts"
import { codeOf, type RivetReason, reasonOf } from "./RivetClose.ts"
import type { RivetPeer } from "./RivetPeer.ts"
import type { StreamActor } from "./RivetStream.ts"

/** What is known of the runner when its connection begins, and who there is beside it. */
export interface RivetConnectionOptions {
  readonly peer: RivetPeer
  readonly version: RivetVersion
  readonly runner: RunnerIntroduction
  /** Commands it has seen, where its dialect says. */
  readonly seen: ReadonlyArray<Checkpoint>
  /** What came in one read with its init. */
  readonly rest: ReadonlyArray<SocketMessage>
  readonly welcome: () => void
  readonly control: ActorControl["Service"]
  readonly lasting: LastingSockets
}

/** The text of a close frame: Rivet's reason, and an id to find it by in the log. */
export const closeText = (reason: RivetReason): Effect.Effect<string> =>
  Effect.map(RivetId.NewUnique, (newUnique) => `${reason}#${RivetId.make(newUnique())}`)

const monotonicMs = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/**
 * Pings in Rivet's beat; ends when the runner stays silent. While a large message is on its way to it, pings stand behind that and cannot be
 * answered: such a time does not count, within its own limit.
 */
const pinging = Effect.fnUntraced(function* ({ wire }: RivetPeer, heardAtMs: () => number) {
  const clock = yield* Clock.Clock
  let freeAtMs = monotonicMs(clock)
  let excusedAtMs = freeAtMs
  for (;;) {
    yield* Effect.sleep(limits.rivetPingMs + (yield* Random.nextIntBetween(0, limits.rivetPingJitterMs)))
    const now = monotonicMs(clock)
    if (!wire.blocked) freeAtMs = now
    else if (now - freeAtMs <= limits.rivetStallMs) excusedAtMs = now
    if (now - Math.max(heardAtMs(), excusedAtMs) > limits.rivetPongMs) return
    wire.ping(clock.currentTimeMillisUnsafe())
  }
})

/** Serves until the socket closes, the runner falls silent, is judged, or somebody dismisses the connection. */
export const serveRivet = Effect.fnUntraced(function* (
  parts: HubParts,
  { generation, place, session, socket }: Connection,
  options: RivetConnectionOptions
) {
  const { control, lasting, peer, runner, version } = options
  const { mark } = version
  const host = { session, peer }
  const clock = yield* Clock.Clock
  const context = yield* Effect.context<never>()
  const judge = yield* makeJudge(parts, session, parts.makeAbuseMeter())
  const claimant = { session: session.id, generation }
  let heardAtMs = monotonicMs(clock)

  const channel = makeActorChannel({ host, mark, control, welcome: options.welcome })
  const isCurrent = () => session.generation === generation && session.socket === socket
  const heardOf = ({ actorId, generation }: StreamActor) => {
    if (control.generationUnsafe(session.id, actorId) === generation) control.aliveUnsafe(session.id, actorId)
  }
  const probes = new Probes(yield* Random.nextIntBetween(0, 0xffff_ffff), peer.wire, heardOf)
  const port: RunnerPort = {
    command: makeActorCommands({ host, lasting, mark, isCurrent, runFork: parts.runFork }),
    ended: (placement, hibernates) => peer.actorEnded(placement, hibernates),
    probe: (placement) => probes.ask(placement)
  }

  /** A frame of an answer. One for a stream that is not with this runner goes to the Relay alone, which knows why. */
  const onFrame = ({ acknowledgement, frame, route }: TunnelUp, strays: Array<Uplink>) => {
    if (acknowledgement !== null) peer.wire.sayBytes(acknowledgement)
    const stream = peer.take(route, frame)
    if (stream !== undefined) return heardOf(stream.actor)
    // Given up here, and its gateway is still to be told: nothing of it may get there before.
    if (probes.take(route, frame) || parts.streams.get(route) === session) return
    if (peer.strays.append(route, frame)) HubMetrics.framesHeld.updateUnsafe(1, context)
    else strays.push(parts.uplink(session, route, 0, frame))
  }

  /**
   * Keeps a frame that no route is known for, until its gateway has said whose it is. Not one that was denied, nor one of a WebSocket that is known to
   * sleep while its actor is not with this runner: saying something wakes nobody.
   */
  const keep = ({ frame, route }: Uplink): boolean => {
    if (parts.verification.wasDenied(session.id, route)) return false
    const socket = lasting.get(route)
    if (socket !== undefined && control.generationUnsafe(session.id, socket.actorId) === undefined) return false
    if (!peer.strays.hold(route, frame, lasting.nowMs())) return false
    HubMetrics.framesHeld.updateUnsafe(1, context)
    return true
  }

  const relayStrays = (strays: ReadonlyArray<Uplink>) =>
    Effect.tap(parts.relay(claimant, strays, keep), () =>
      Effect.sync(() => {
        const unasked = peer.strays.takeUnasked()
        if (unasked.length === 0) return
        // Beside the reading: a bus that takes its time holds nobody up.
        parts.runFork(parts.verification.inquire(session, unasked, (route) => peer.strays.refuse(route)))
      })
    )

  const decode = (message: SocketMessage): Up | string | undefined => {
    // As the published server does.
    if (!message.binary) return undefined
    try {
      return version.decodeUp(message.data)
    } catch {
      return "a message that does not decode"
    }
  }

  const read = Effect.fnUntraced(function* (batch: ReadonlyArray<SocketMessage>) {
    heardAtMs = monotonicMs(clock)
    const strays: Array<Uplink> = []
    const faults: Array<string> = []
    for (const message of batch) {
      const up = decode(message)
      if (up === undefined) continue
      if (typeof up === "string") {
        faults.push(up)
        continue
      }
      switch (up._tag) {
        case "TunnelUp":
          onFrame(up, strays)
          continue
        case "TunnelAck":
          // No route is asked for: it says nothing about any.
          if (up.acknowledgement !== null) peer.wire.sayBytes(up.acknowledgement)
          continue
        case "Actor":
          yield* channel(up.message)
          continue
      }
      absurd(up)
    }
    return yield* judge(yield* relayStrays(strays), faults)
  })
  /** Reads on only as the runner takes what it is told in answer: who floods us with questions and reads nothing is not read from either. */
  const readWhole = (batch: ReadonlyArray<SocketMessage>): Effect.Effect<Judgement> =>
    Effect.tap(Effect.uninterruptible(read(batch)), () => peer.wire.unchoked)

  const heartbeat: Effect.Effect<ConnectionEnd> =
    mark === 1
      ? Effect.never
      : Effect.as(
          pinging(peer, () => heardAtMs),
          closed("heartbeat_timeout")
        )

  const serving = control.attach(session.id, runner, port, options.seen).pipe(
    // Actors may have ended while there was nobody to tell.
    Effect.tap(() => Effect.sync(() => peer.reconcile((actorId) => control.generationUnsafe(session.id, actorId)))),
    Effect.andThen(options.rest.length === 0 ? Effect.succeed(undefined) : readWhole(options.rest)),
    Effect.flatMap((judgement) =>
      judgement === undefined ? readUntilEnd(socket, readWhole) : Effect.succeed(closed(judgement))
    ),
    Effect.scoped
  )
  const close = Effect.fnUntraced(function* (why: CloseReason) {
    const reason = reasonOf[why]
    socket.closeUnsafe(codeOf(reason), yield* closeText(reason))
  })
  let drained: ConnectionEnd | undefined
  // What the runner says until it hears of a drain is read to the end: nobody else will be told.
  const dismissed = Effect.flatMap(Deferred.await(place.dismissed), (why): Effect.Effect<ConnectionEnd> => {
    if (why !== "draining") return Effect.succeed(closed(why))
    drained = closed(why)
    return close(why).pipe(Effect.andThen(Effect.sleep(limits.serverCloseMs)), Effect.as(drained))
  })
  const served = Effect.map(serving, (end) => drained ?? end)
  const end = yield* Effect.raceAllFirst([served, heartbeat, dismissed])
  if (end._tag === "Closed" && end !== drained) yield* close(end.reason)
  return end
})
