/**
 * From an open socket to a runner we know: its Hello, the protocol version, its name, and who vouches for it. What fails here never becomes a
 * session. Next: `Session.ts`, what the runner is taken to be; `RunnerConnection.ts`, what it says from then on.
 */
import { Data, Effect, type Option, type Redacted } from "effect"
import { Authenticator } from "../auth/Authenticator.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { MessageSocket, SocketMessage } from "../socket/MessageSocket.ts"
import { SessionId } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"
import type { HubParts } from "./HubParts.ts"
import { serveConnection } from "./RunnerConnection.ts"
import type { RivetReason } from "./rivet/RivetClose.ts"
import type { Introduction } from "./Session.ts"
import { WayleavePeer } from "./WayleavePeer.ts"

/** The runner was not let in; `reason` gives the close code, `message` goes into the close frame. */
export class HandshakeRejected extends Data.TaggedError("HandshakeRejected")<{
  readonly reason: Wayleave1.CloseReason
  readonly message: string
  /** The reason in Rivet's words, where they are more exact. */
  readonly rivet?: RivetReason
}> {}

/** The protocol version this hub speaks. */
export const version = 1

const label = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
const namePattern = new RegExp(`^(?=.{1,200}$)${label}(?:\\.${label})*$`)

/** Whether visitors can reach a runner of this name by host: labels of RFC 1123 in lower case, joined by dots. */
export const isRunnerName = (name: string): boolean => namePattern.test(name)

/** A session that was dialled more often cannot be: room is left for a hub to count on. */
const connectionMax = 2 ** 31

const reject = (reason: Wayleave1.CloseReason, message: string) => new HandshakeRejected({ reason, message })

const decodeHello = (message: SocketMessage) =>
  Effect.suspend(() => {
    if (!message.binary) return Effect.fail(reject("protocol_error", "a text message where Hello was due"))
    try {
      const decoded = Wayleave1.toHub.decode(message.data)
      if (decoded._tag === "Hello") return Effect.succeed(decoded)
      return Effect.fail(reject("protocol_error", `${decoded._tag} where Hello was due`))
    } catch {
      return Effect.fail(reject("protocol_error", "the first message is not a Hello"))
    }
  })

const noHello = (helloTimeoutMs: number) => reject("hello_timeout", `no Hello within ${helloTimeoutMs} ms`)

/** Waits for Hello and judges it. Fails with `HandshakeRejected`, or with `SocketClosed` where the runner left first. */
export const handshake = (parts: HubParts, socket: MessageSocket, token: Option.Option<Redacted.Redacted<string>>) => {
  const duration = parts.options.helloTimeoutMs ?? limits.helloTimeoutMs
  return introduce(parts, socket, token).pipe(
    Effect.timeoutOrElse({ duration, orElse: () => Effect.fail(noHello(duration)) })
  )
}

/** The peer of a `wayleave.1` session: no other has an introduction of this kind. */
const own = (peer: unknown): WayleavePeer => {
  if (peer instanceof WayleavePeer) return peer
  throw new Error("the session speaks another dialect")
}

const introduce = Effect.fnUntraced(function* (
  parts: HubParts,
  socket: MessageSocket,
  token: Option.Option<Redacted.Redacted<string>>
) {
  const batch = yield* socket.pull
  const hello = yield* decodeHello(batch[0])
  if (batch.length > 1) return yield* reject("protocol_error", "more was sent before Welcome")
  if (!hello.versions.includes(version)) {
    return yield* reject("unsupported_version", `this hub speaks version ${version}`)
  }
  if (!isRunnerName(hello.name)) {
    return yield* reject("bad_name", "a name is made of lower-case letters, digits, hyphens and dots")
  }
  const identity = yield* authenticateRunner(token, hello.name)
  if (hello.streams.length > limits.streamsPerSessionMax || hello.connection > connectionMax) {
    return yield* reject("protocol_error", "more streams or connections than a session can have")
  }
  const graceMs = parts.options.graceMs ?? limits.sessionGraceMs
  const introduction: Introduction = {
    session: SessionId.make(Buffer.from(hello.session).toString("hex")),
    name: hello.name,
    identity,
    dialect: "wayleave.1",
    graceMs,
    connection: hello.connection,
    elsewhere: hello.hub !== "" && hello.hub !== parts.hubId,
    streams: hello.streams,
    makePeer: () => new WayleavePeer(parts.turn, parts.onUnencodable),
    // A count that another hub's numbering led to says nothing here.
    canResume: (peer) =>
      (hello.hub === parts.hubId || (hello.hub === "" && hello.received === 0)) &&
      own(peer).link.canResume(hello.received),
    welcome: (session, outcome) => {
      const { link } = own(session.peer)
      socket.sendUnsafe(welcomeOf(parts, graceMs, outcome, link.receivedCount), { binary: true, finish: true })
      link.attach(socket, outcome === "resumed" ? hello.received : 0)
    },
    serve: (connection) => serveConnection(parts, connection, own(connection.session.peer))
  }
  return introduction
})

/** Who vouches for a runner of this name, whatever its dialect. */
export const authenticateRunner = Effect.fnUntraced(function* (
  token: Option.Option<Redacted.Redacted<string>>,
  name: string
) {
  const authenticator = yield* Authenticator
  return yield* authenticator.authenticate(token, name).pipe(
    Effect.mapError((error) => {
      switch (error.reason) {
        case "Unauthorized":
          return reject("unauthorized", "the token is missing or unknown")
        case "Forbidden":
          return reject("forbidden", `the token does not cover the name ${name}`)
      }
    })
  )
})

const welcomeOf = (
  { hubId, options }: HubParts,
  graceMs: number,
  outcome: Wayleave1.Outcome,
  received: number
): Uint8Array =>
  Wayleave1.toRunner.encode({
    _tag: "Welcome",
    version,
    outcome,
    received,
    heartbeatMs: options.heartbeatMs ?? limits.heartbeatMs,
    heartbeatDeadlineMs: options.heartbeatDeadlineMs ?? limits.heartbeatDeadlineMs,
    graceMs,
    windowBytes: limits.windowBytesInitial,
    domain: options.domain ?? "localhost",
    hub: hubId,
    capabilities: Wayleave1.capabilities
  })
