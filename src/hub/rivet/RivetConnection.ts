/**
 * One Rivet runner's socket, from its welcome to its end: reads it, pings it, carries commands to it, and says why it ended. Nothing a runner says
 * wrong costs more than its own stream or message; only sustained abuse costs the connection.
 */
import { Clock, Deferred, Effect, Random } from "effect"
import type { RunnerIntroduction, RunnerPort } from "../../actor/ActorControl.ts"
import type { Checkpoint } from "../../actor/ActorMessage.ts"
import * as RivetId from "../../actor/RivetId.ts"
import type { RivetVersion, TunnelUp, Up } from "../../protocol/rivet/Exchange.ts"
import type { SocketMessage } from "../../socket/MessageSocket.ts"
import type { Uplink } from "../../tunnel/Envelope.ts"
import { absurd } from "../../tunnel/Frame.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { HubParts } from "../HubParts.ts"
import { type Judgement, makeJudge } from "../Judge.ts"
import { closed, readUntilEnd } from "../RunnerConnection.ts"
import type { Connection, ConnectionEnd, Session } from "../Session.ts"
import { makeActorChannel } from "./ActorChannel.ts"
import { codeOf, type RivetReason, reasonOf } from "./RivetClose.ts"
import type { RivetParts } from "./RivetHandshake.ts"
import type { RivetPeer } from "./RivetPeer.ts"

/** What is known of the runner when its connection begins. */
export interface RivetConnectionOptions {
  readonly peer: RivetPeer
  readonly version: RivetVersion
  readonly runner: RunnerIntroduction
  /** Commands it has seen, where its dialect says. */
  readonly seen: ReadonlyArray<Checkpoint>
  /** What came in one read with its init. */
  readonly rest: ReadonlyArray<SocketMessage>
  readonly welcome: (session: Session) => void
}

/** The text of a close frame: Rivet's reason, and an id to find it by in the log. */
export const closeText = (reason: RivetReason): Effect.Effect<string> =>
  Effect.map(RivetId.NewUnique, (newUnique) => `${reason}#${RivetId.make(newUnique())}`)

/** Pings in Rivet's beat; ends when the answers stay out. */
const pinging = Effect.fnUntraced(function* (peer: RivetPeer, answeredAtMs: () => number) {
  const clock = yield* Clock.Clock
  for (;;) {
    yield* Effect.sleep(limits.rivetPingMs + (yield* Random.nextIntBetween(0, 128)))
    if (monotonicMs(clock) - answeredAtMs() > limits.rivetPongMs) return
    peer.ping(clock.currentTimeMillisUnsafe())
  }
})

const monotonicMs = (clock: Clock.Clock) => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Serves until the socket closes, the pings stay unanswered, the runner is judged, or somebody dismisses the connection. */
export const serveRivet = Effect.fnUntraced(function* (
  parts: HubParts,
  rivet: RivetParts,
  { generation, place, session, socket }: Connection,
  options: RivetConnectionOptions
) {
  const { peer, version } = options
  const { control, kv, streams } = rivet
  const clock = yield* Clock.Clock
  const judge = yield* makeJudge(parts, session, parts.makeAbuseMeter())
  const claimant = { session: session.id, generation }
  let answeredAtMs = monotonicMs(clock)

  const channel = makeActorChannel(parts, {
    session,
    peer,
    numbers: peer.numbers,
    mark: version.mark,
    control,
    kv,
    welcome: () => options.welcome(session)
  })
  const port: RunnerPort = {
    command: (commands) =>
      streams.command(session, peer, version.mark === 1 ? commands.map((one) => peer.numbers.number(one)) : commands),
    ended: (placement, hibernates) => peer.actorEnded(placement, hibernates)
  }

  /** A frame of an answer. One for a stream that is not with this runner goes to the Relay alone, which knows why. */
  const onFrame = ({ acknowledgement, frame, route }: TunnelUp, strays: Array<Uplink>) => {
    if (acknowledgement !== null) peer.sayBytes(acknowledgement)
    if (!peer.take(route, frame)) strays.push(parts.uplink(session, route, 0, frame))
  }

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
          break
        case "TunnelAck":
          // No route is asked for: it says nothing about any.
          if (up.acknowledgement !== null) peer.sayBytes(up.acknowledgement)
          break
        case "Actor": {
          if (up.message._tag === "Pong" || up.message._tag === "RunnerPing") answeredAtMs = monotonicMs(clock)
          const fault = yield* channel(up.message)
          if (fault !== undefined) faults.push(fault)
          break
        }
        default:
          absurd(up)
      }
    }
    return yield* judge(yield* parts.relay(claimant, strays), faults)
  })
  const readWhole = (batch: ReadonlyArray<SocketMessage>): Effect.Effect<Judgement> =>
    Effect.uninterruptible(read(batch))

  const heartbeat: Effect.Effect<ConnectionEnd> =
    version.mark === 1
      ? Effect.never
      : Effect.as(
          pinging(peer, () => answeredAtMs),
          closed("heartbeat_timeout")
        )

  const serving = control.attach(session.id, options.runner, port, options.seen).pipe(
    Effect.andThen(options.rest.length === 0 ? Effect.succeed(undefined) : readWhole(options.rest)),
    Effect.flatMap((judgement) =>
      judgement === undefined ? readUntilEnd(socket, readWhole) : Effect.succeed(closed(judgement))
    ),
    Effect.scoped
  )
  const end = yield* Effect.raceAllFirst([serving, heartbeat, Effect.map(Deferred.await(place.dismissed), closed)])
  if (end._tag === "Gone") return end
  if (end.reason === "fenced") {
    const { key, name } = options.runner
    yield* Effect.logWarning(
      "a newer connection with the same runner key took over: two processes with one key would do so for ever"
    ).pipe(Effect.annotateLogs({ runner: name, key }))
  }
  const reason = reasonOf[end.reason]
  socket.closeUnsafe(codeOf(reason), yield* closeText(reason))
  return end
})
