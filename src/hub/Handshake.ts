/**
 * From an open socket to a runner we know: its Hello, the protocol version, its name, and who vouches for it. What fails here never becomes a
 * session. Next: `Session.ts`, what the runner is taken to be; `RunnerConnection.ts`, what it says from then on.
 */
import { Data, Effect, type Option, type Redacted } from "effect"
import { Authenticator, type Identity } from "../auth/Authenticator.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type { MessageSocket, SocketMessage } from "../socket/MessageSocket.ts"
import { SessionId } from "../tunnel/Envelope.ts"

/** The runner was not let in; `reason` gives the close code, `message` goes into the close frame. */
export class HandshakeRejected extends Data.TaggedError("HandshakeRejected")<{
  readonly reason: Wayleave1.CloseReason
  readonly message: string
}> {}

/** A runner that said who it is, and was believed. */
export interface Introduction {
  readonly session: SessionId
  readonly name: string
  readonly identity: Identity
  /** Numbered messages the runner has received in this session. */
  readonly received: number
  readonly agent: string
}

/** The protocol version this hub speaks. */
export const version = 1

const label = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
const namePattern = new RegExp(`^(?=.{1,200}$)${label}(?:\\.${label})*$`)

/** Whether visitors can reach a runner of this name by host: labels of RFC 1123 in lower case, joined by dots. */
export const isRunnerName = (name: string): boolean => namePattern.test(name)

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

/** Waits for Hello and judges it. Fails with `HandshakeRejected`, or with `SocketClosed` where the runner left first. */
export const handshake = (
  socket: MessageSocket,
  token: Option.Option<Redacted.Redacted<string>>,
  helloTimeoutMs: number
) =>
  introduce(socket, token).pipe(
    Effect.timeoutOrElse({
      duration: helloTimeoutMs,
      orElse: () => Effect.fail(reject("hello_timeout", `no Hello within ${helloTimeoutMs} ms`))
    })
  )

const introduce = Effect.fnUntraced(function* (socket: MessageSocket, token: Option.Option<Redacted.Redacted<string>>) {
  const authenticator = yield* Authenticator
  const batch = yield* socket.pull
  const hello = yield* decodeHello(batch[0])
  if (batch.length > 1) return yield* reject("protocol_error", "more was sent before Welcome")
  if (!hello.versions.includes(version)) {
    return yield* reject("unsupported_version", `this hub speaks version ${version}`)
  }
  if (!isRunnerName(hello.name)) {
    return yield* reject("bad_name", "a name is made of lower-case letters, digits, hyphens and dots")
  }
  const identity = yield* authenticator.authenticate(token, hello.name).pipe(
    Effect.mapError((error) => {
      switch (error.reason) {
        case "Unauthorized":
          return reject("unauthorized", "the token is missing or unknown")
        case "Forbidden":
          return reject("forbidden", `the token does not cover the name ${hello.name}`)
      }
    })
  )
  const introduction: Introduction = {
    session: SessionId.make(Buffer.from(hello.session).toString("hex")),
    name: hello.name,
    identity,
    received: hello.received,
    agent: hello.agent
  }
  return introduction
})
