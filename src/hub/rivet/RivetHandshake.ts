/**
 * From an open socket to a Rivet runner we know: the query of its address, its first message, who vouches for it, and its identity at the control plane.
 * Next: `RivetConnection.ts`, what it says from then on.
 */
import { Effect, Option, type Redacted } from "effect"
import type { ActorControl, RunnerIntroduction } from "../../actor/ActorControl.ts"
import type { ActorKv } from "../../actor/ActorKv.ts"
import type { ActorDownlink, ActorUplink } from "../../actor/ActorMessage.ts"
import * as RivetId from "../../actor/RivetId.ts"
import { versionOf } from "../../protocol/Rivet.ts"
import type { RivetVersion, Up } from "../../protocol/rivet/Exchange.ts"
import type { CloseReason } from "../../protocol/Wayleave1.ts"
import type { MessageSocket, SocketMessage } from "../../socket/MessageSocket.ts"
import type { SessionId } from "../../tunnel/Envelope.ts"
import { limits } from "../../tunnel/Limits.ts"
import type { ActorStreams } from "../Downlink.ts"
import { authenticateRunner, HandshakeRejected } from "../Handshake.ts"
import type { HubParts } from "../HubParts.ts"
import type { Introduction, Session } from "../Session.ts"
import type { LastingSockets, RivetHost } from "./LastingSockets.ts"
import type { RivetReason } from "./RivetClose.ts"
import { serveRivet } from "./RivetConnection.ts"
import { RivetPeer } from "./RivetPeer.ts"
import { runPump } from "./RivetPump.ts"

/** What a hub needs to take Rivet runners in. */
export interface RivetParts {
  readonly control: ActorControl["Service"]
  readonly kv: ActorKv["Service"]
  readonly streams: ActorStreams
  readonly lasting: LastingSockets
}

type Init = Extract<ActorUplink, { readonly _tag: "Introduction" }>

/** What the address of the socket says. */
interface Address {
  readonly version: RivetVersion | undefined
  readonly key: string
}

const nameCharactersMax = 255

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
      key.length > nameCharactersMax
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

const firstMessages = (parts: HubParts, socket: MessageSocket) =>
  socket.pull.pipe(
    Effect.timeoutOrElse({
      duration: parts.options.helloTimeoutMs ?? limits.helloTimeoutMs,
      orElse: () => Effect.fail(rejected("ws.timed_out_waiting_for_init", "hello_timeout", "no init came in time"))
    })
  )

const own = ({ peer }: Session): RivetPeer => {
  if (peer instanceof RivetPeer) return peer
  throw new Error("the session speaks another dialect")
}

/** A refusal that takes its time: a runner that is refused would dial again within a second, for ever. */
export const refuseSlowly = (refusal: HandshakeRejected) => Effect.delay(Effect.fail(refusal), limits.rivetRefusalMs)

/** Waits for init and judges it. */
export const rivetHandshake = (
  parts: HubParts,
  rivet: RivetParts,
  socket: MessageSocket,
  query: string,
  token: Option.Option<Redacted.Redacted<string>>
) => introduce(parts, rivet, socket, query, token).pipe(Effect.catchTag("HandshakeRejected", refuseSlowly))

/** Rivet tells a token that is missing from one that is wrong. */
const authenticate = (token: Option.Option<Redacted.Redacted<string>>, name: string) =>
  authenticateRunner(token, name).pipe(
    Effect.mapError(({ message, reason }) =>
      rejected(Option.isNone(token) ? "guard.missing_header" : "api.forbidden", reason, message)
    )
  )

/** Init, as the control plane has it. */
const runnerOf = (init: Init, key: string, { version: protocolVersion }: RivetVersion): RunnerIntroduction => ({
  name: init.name,
  key,
  version: init.version,
  totalSlots: init.totalSlots,
  protocolVersion,
  actorNames: new Map(Array.from(init.actorNames ?? [], ([name, { metadata }]) => [name, metadata])),
  metadata: init.metadata
})

const makePeer = (parts: HubParts, { control, kv, lasting }: RivetParts, id: SessionId): RivetPeer =>
  new RivetPeer({
    kv,
    runFork: parts.runFork,
    generationOf: (actorId) => control.generationUnsafe(id, actorId) ?? 0,
    onUnencodable: parts.onUnencodable,
    onUnsayable: ({ _tag }) => parts.runFork(Effect.logError("a message to a runner cannot be encoded", _tag)),
    onForgotten: (stream) => lasting.over(stream),
    onUnanswered: ({ actorId }) => parts.runFork(control.suspect(id, actorId)),
    onEnded: control.lost(id)
  })

/** A session begins: its answers are published from now on, and its WebSockets may last. */
const begin = (parts: HubParts, lasting: LastingSockets, host: RivetHost): void => {
  host.peer.onLasting = (stream) => lasting.enter(stream, host) !== undefined
  parts.runFork(runPump(parts, lasting, host))
}

const welcomeOf = (session: Session): ActorDownlink => ({
  _tag: "Welcome",
  runnerId: RivetId.ofSession(session.id),
  lastEventIndex: own(session).lastEventIndex,
  runnerLostMs: BigInt(session.graceMs),
  actorStopMs: BigInt(limits.actorStopMs),
  serverlessDrainMs: null
})

const introduce = Effect.fnUntraced(function* (
  parts: HubParts,
  rivet: RivetParts,
  socket: MessageSocket,
  query: string,
  token: Option.Option<Redacted.Redacted<string>>
) {
  const address = yield* parseAddress(query, parts.namespace)
  const [first, ...rest] = yield* firstMessages(parts, socket)
  const { init, version } = yield* decodeFirst(address.version, first)
  if (init.totalSlots < 1 || init.name === "" || init.name.length > nameCharactersMax) {
    return yield* rejected(
      "ws.invalid_initial_packet",
      "bad_name",
      `a runner has a name of at most ${nameCharactersMax} characters, and room for an actor`
    )
  }
  const identity = yield* authenticate(token, init.name)
  const runner = runnerOf(init, address.key, version)
  const { control, lasting } = rivet
  const id = yield* control.identify(runner)
  const introduction: Introduction = {
    session: id,
    name: init.name,
    identity,
    dialect: "rivet",
    connection: 0,
    elsewhere: false,
    streams: [],
    graceMs: parts.options.runnerLostMs ?? limits.runnerLostMs,
    makePeer: () => makePeer(parts, rivet, id),
    canResume: () => true,
    welcome: (session, outcome) => {
      const peer = own(session)
      if (outcome !== "resumed") begin(parts, lasting, { session, peer })
      // At once, and before anything else: what the runner kept for us waits for it.
      peer.attach(socket, version, welcomeOf(session))
    },
    serve: (connection) => {
      const { session } = connection
      const peer = own(session)
      const seen = init.lastCommandIndex === null ? [] : peer.numbers.seenUpTo(init.lastCommandIndex)
      const welcome = () => peer.wire.say(welcomeOf(session))
      return serveRivet(parts, connection, { peer, version, runner, seen, rest, welcome, control, lasting })
    }
  }
  return introduction
})
