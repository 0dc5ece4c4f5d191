/**
 * From an open socket to a Rivet runner we know: the query of its address, its first message, who vouches for it, and its identity at the control plane.
 * Next: `RivetConnection.ts`, what it says from then on.
 */
import { Effect, type Option, type Redacted } from "effect"
import type { ActorControl, RunnerIntroduction } from "../../actor/ActorControl.ts"
import type { ActorKv } from "../../actor/ActorKv.ts"
import * as RivetId from "../../actor/RivetId.ts"
import { versionOf } from "../../protocol/Rivet.ts"
import type { RivetVersion, Up } from "../../protocol/rivet/Exchange.ts"
import type { CloseReason } from "../../protocol/Wayleave1.ts"
import type { MessageSocket, SocketMessage } from "../../socket/MessageSocket.ts"
import { limits } from "../../tunnel/Limits.ts"
import { authenticateRunner, HandshakeRejected } from "../Handshake.ts"
import type { HubParts } from "../HubParts.ts"
import type { Introduction, Session } from "../Session.ts"
import type { RivetStreams } from "./ActorStreams.ts"
import type { RivetReason } from "./RivetClose.ts"
import { serveRivet } from "./RivetConnection.ts"
import { RivetPeer } from "./RivetPeer.ts"
import { runPump } from "./RivetPump.ts"

/** What a hub needs to take Rivet runners in. */
export interface RivetParts {
  readonly control: ActorControl["Service"]
  readonly kv: ActorKv["Service"]
  readonly streams: RivetStreams
}

/** What the address of the socket says. */
interface Address {
  readonly version: RivetVersion | undefined
  readonly key: string
}

const nameBytesMax = 255

const rejected = (rivet: RivetReason, reason: CloseReason, message: string) =>
  new HandshakeRejected({ reason, message, rivet })

const parseAddress = (query: string, namespace: string) =>
  Effect.suspend(() => {
    const parameters = new URLSearchParams(query)
    const number = parameters.get("protocol_version") ?? ""
    const asked = parameters.get("namespace")
    const key = parameters.get("runner_key")
    if (
      !/^\d{1,5}$/.test(number) ||
      Number(number) > 0xffff ||
      asked === null ||
      key === null ||
      key.length > nameBytesMax
    ) {
      return Effect.fail(
        rejected("ws.invalid_url", "protocol_error", "protocol_version, namespace and runner_key are due")
      )
    }
    if (asked !== namespace) {
      return Effect.fail(rejected("namespace.not_found", "forbidden", "the namespace does not exist here"))
    }
    // A version that nobody speaks is told at the first message, as one that cannot be read.
    const address: Address = { version: versionOf(Number(number)), key }
    return Effect.succeed(address)
  })

const decodeFirst = (version: RivetVersion | undefined, message: SocketMessage) =>
  Effect.suspend(() => {
    if (!message.binary) {
      return Effect.fail(rejected("ws.invalid_initial_packet", "protocol_error", "a text message where init was due"))
    }
    if (version === undefined) {
      return Effect.fail(rejected("ws.invalid_packet", "unsupported_version", "the protocol version is not known"))
    }
    let up: Up
    try {
      up = version.decodeUp(message.data)
    } catch {
      return Effect.fail(rejected("ws.invalid_packet", "protocol_error", "the first message does not decode"))
    }
    if (up._tag !== "Actor" || up.message._tag !== "Introduction") {
      return Effect.fail(rejected("ws.invalid_initial_packet", "protocol_error", "the first message is not init"))
    }
    return Effect.succeed({ version, init: up.message })
  })

const firstMessages = (socket: MessageSocket) =>
  socket.pull.pipe(
    Effect.timeoutOrElse({
      duration: limits.helloTimeoutMs,
      orElse: () => Effect.fail(rejected("ws.timed_out_waiting_for_init", "hello_timeout", "no init came in time"))
    })
  )

const own = (peer: unknown): RivetPeer => {
  if (peer instanceof RivetPeer) return peer
  throw new Error("the session speaks another dialect")
}

/** Waits for init and judges it. A runner that is refused would dial again within a second, for ever: its answer takes its time. */
export const rivetHandshake = (
  parts: HubParts,
  rivet: RivetParts,
  socket: MessageSocket,
  query: string,
  token: Option.Option<Redacted.Redacted<string>>
) =>
  introduce(parts, rivet, socket, query, token).pipe(
    Effect.tapErrorTag("HandshakeRejected", () => Effect.sleep(limits.rivetRefusalMs))
  )

const introduce = Effect.fnUntraced(function* (
  parts: HubParts,
  rivet: RivetParts,
  socket: MessageSocket,
  query: string,
  token: Option.Option<Redacted.Redacted<string>>
) {
  const address = yield* parseAddress(query, parts.namespace)
  const [first, ...rest] = yield* firstMessages(socket)
  const { init, version } = yield* decodeFirst(address.version, first)
  if (init.totalSlots < 1 || init.name === "" || init.name.length > nameBytesMax) {
    return yield* rejected(
      "ws.invalid_initial_packet",
      "bad_name",
      "a runner has a name of at most 255 characters, and room for an actor"
    )
  }
  const identity = yield* authenticateRunner(token, init.name)
  const runner: RunnerIntroduction = {
    name: init.name,
    key: address.key,
    version: init.version,
    totalSlots: init.totalSlots,
    protocolVersion: version.version,
    actorNames: new Map([...(init.actorNames ?? [])].map(([name, { metadata }]) => [name, metadata])),
    metadata: init.metadata
  }
  const id = yield* rivet.control.identify(runner)
  const { control, streams } = rivet

  const makePeer = () => {
    const peer: RivetPeer = new RivetPeer({
      generationOf: (actorId) => control.generationUnsafe(id, actorId) ?? 0,
      onUnencodable: parts.onUnencodable,
      onAsleep: streams.fallAsleep,
      onReturned: (stream) => {
        if (peer.session !== undefined) streams.putBack(peer.session, peer, stream)
      },
      onEnded: control.lost(id)
    })
    return peer
  }

  const welcome = (session: Session) => {
    const peer = own(session.peer)
    const bytes = version.encodeDown({
      _tag: "Actor",
      message: {
        _tag: "Welcome",
        runnerId: RivetId.ofSession(session.id),
        lastEventIndex: peer.lastEventIndex,
        runnerLostMs: BigInt(session.graceMs),
        actorStopMs: BigInt(limits.actorStopMs),
        serverlessDrainMs: null
      }
    })
    if (bytes !== null) socket.sendUnsafe(bytes, { binary: true, finish: true })
  }

  const introduction: Introduction = {
    session: id,
    name: init.name,
    identity,
    dialect: "rivet",
    connection: 0,
    elsewhere: false,
    streams: [],
    graceMs: parts.options.runnerLostMs ?? limits.runnerLostMs,
    makePeer,
    canResume: () => true,
    welcome: (session) => {
      const peer = own(session.peer)
      if (peer.session === undefined) {
        peer.session = session
        parts.runFork(runPump(parts, session, peer, streams.fallAsleep))
      }
      // At once, and before anything else: what the runner kept for us waits for it.
      welcome(session)
      peer.attach(socket, version)
    },
    serve: (connection) => {
      const peer = own(connection.session.peer)
      const seen = init.lastCommandIndex === null ? [] : peer.numbers.seenUpTo(init.lastCommandIndex)
      return serveRivet(parts, rivet, connection, { peer, version, runner, seen, rest, welcome })
    }
  }
  return introduction
})
