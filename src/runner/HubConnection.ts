/**
 * One socket to a hub, from dialling to its end: introduces the runner, attaches the session's link, reads until the socket closes, falls
 * silent, or speaks nonsense.
 *
 * It never retries and never fails: how it ended is a value, and `Runner.ts` decides what follows. Next: `RunnerSession.ts` takes the frames.
 */
import { Data, Effect, Redacted, Stream } from "effect"
import * as Heartbeat from "../protocol/Heartbeat.ts"
import * as Wayleave1 from "../protocol/Wayleave1.ts"
import type {
  DialError,
  Dialer,
  MessageSocket,
  SocketBatch,
  SocketClosed,
  SocketMessage
} from "../socket/MessageSocket.ts"
import { absurd } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import type { RunnerSession } from "./RunnerSession.ts"

/** How the runner introduces itself. */
export interface Introduction {
  /** The whole WebSocket URL, path included. */
  readonly url: string
  readonly name: string
  readonly token: Redacted.Redacted<string> | undefined
  readonly agent: string
}

/** What the owner is told while the connection stands. */
export interface ConnectionEvents {
  readonly onWelcome: (welcome: Wayleave1.Welcome) => void
  readonly onRoundTrip: (roundTripMs: number) => void
  readonly onGoAway: (reason: string) => void
}

/**
 * How a connection ended. `Refused`: the hub said no in a way that trying again cannot help. `Nonsense`: a message did not decode or came out of
 * turn, so the session cannot go on either: the hub would only repeat it. `Unresumable`: the hub would go on where this side no longer can.
 */
export type ConnectionEnd =
  | { readonly _tag: "NotReached"; readonly cause: string; readonly status: number | undefined }
  | { readonly _tag: "Closed"; readonly reason: Wayleave1.CloseReason | undefined; readonly cause: string }
  | { readonly _tag: "Silent"; readonly cause: string }
  | { readonly _tag: "Nonsense"; readonly cause: string }
  | { readonly _tag: "Unresumable"; readonly cause: string }

class Nonsense extends Data.TaggedError("Nonsense")<{ readonly cause: string }> {}
class Unresumable extends Data.TaggedError("Unresumable") {}
class NoWelcome extends Data.TaggedError("NoWelcome") {}

const whole = { binary: true, finish: true } as const
const version = 1

/** The least beat that is followed, whatever a hub asks for. */
const heartbeatMsMin = 100

const send = (socket: MessageSocket, message: Wayleave1.ToHub) =>
  socket.sendUnsafe(Wayleave1.toHub.encode(message), whole)

const reasonOf = (code: number): Wayleave1.CloseReason | undefined =>
  (Object.keys(Wayleave1.closeCodes) as Array<Wayleave1.CloseReason>).find(
    (reason) => Wayleave1.closeCodes[reason].code === code
  )

const decode = (message: SocketMessage): Wayleave1.ToRunner | string => {
  if (!message.binary) return "a text message"
  const decoded = Wayleave1.toRunner.decodeResult(message.data)
  return decoded._tag === "Success" ? decoded.success : decoded.failure.message
}

const describeClose = (closed: SocketClosed): ConnectionEnd => {
  const reason = reasonOf(closed.code)
  const means = reason === undefined ? `closed with ${closed.code}` : Wayleave1.closeCodes[reason].means
  return {
    _tag: "Closed",
    reason,
    cause: closed.reason.startsWith(means) ? closed.reason : closed.reason === "" ? means : `${means}: ${closed.reason}`
  }
}

const describeDial = (error: DialError): ConnectionEnd => ({
  _tag: "NotReached",
  cause: error.message,
  status: error.status
})

/** Connects once and serves until the end, which it returns. Interruption closes the socket. */
export const connect = Effect.fnUntraced(function* (
  dialer: Dialer["Service"],
  introduction: Introduction,
  session: RunnerSession,
  events: ConnectionEvents
): Effect.fn.Return<ConnectionEnd> {
  const { token, url } = introduction
  const dialled = dialer.dial(url, {
    protocols: [Wayleave1.subprotocol],
    headers: token === undefined ? [] : [["authorization", `Bearer ${Redacted.value(token)}`]]
  })
  return yield* Effect.acquireUseRelease(
    // The dial itself can be interrupted; once it has a socket, the release below has it too.
    Effect.interruptible(Effect.timeoutOption(dialled, limits.helloTimeoutMs)),
    (socket) =>
      socket._tag === "None"
        ? Effect.succeed<ConnectionEnd>({ _tag: "NotReached", cause: "the dial timed out", status: undefined })
        : converse(socket.value, introduction, session, events),
    (socket) =>
      Effect.sync(() => {
        if (socket._tag === "None") return
        session.link.detach(socket.value)
        // 1000 says that the runner does not come back; after any other code its session waits for it.
        socket.value.closeUnsafe(session.draining || session.leaving ? 1000 : 1001, "")
      })
  ).pipe(Effect.catch((error) => Effect.succeed(describeDial(error))))
})

const converse = (
  socket: MessageSocket,
  introduction: Introduction,
  session: RunnerSession,
  events: ConnectionEvents
): Effect.Effect<ConnectionEnd> => {
  if (socket.protocol !== Wayleave1.subprotocol) {
    const cause = `no hub answers there: the server does not speak ${Wayleave1.subprotocol}`
    return Effect.succeed({ _tag: "NotReached", cause, status: undefined })
  }
  return welcomed(socket, introduction, session).pipe(
    Effect.flatMap(({ rest, welcome }) => serve(socket, session, events, welcome, rest)),
    Effect.catchTags({
      SocketClosed: (closed) => Effect.succeed(describeClose(closed)),
      NoWelcome: () => Effect.succeed<ConnectionEnd>({ _tag: "Silent", cause: "the hub did not answer in time" }),
      HeartbeatTimeout: (timeout) =>
        Effect.sync((): ConnectionEnd => {
          const { code, means } = Wayleave1.closeCodes.heartbeat_timeout
          socket.closeUnsafe(code, means)
          return { _tag: "Silent", cause: `the hub was silent for ${Math.round(timeout.silentMs / 1000)} s` }
        }),
      Unresumable: () =>
        Effect.sync((): ConnectionEnd => {
          leave(socket, "the session cannot be resumed")
          return { _tag: "Unresumable", cause: "too much was lost to go on where the last connection ended" }
        }),
      Nonsense: ({ cause }) =>
        Effect.sync((): ConnectionEnd => {
          leave(socket, "a message could not be understood")
          socket.closeUnsafe(Wayleave1.closeCodes.protocol_error.code, cause)
          return { _tag: "Nonsense", cause }
        })
    })
  )
}

// A hub that was told so ends the session at once instead of keeping it for its grace period.
const leave = (socket: MessageSocket, reason: string) => send(socket, { _tag: "GoAway", reason })

/** Introduces the runner and waits for the answer. What else came with it is handed on. */
const welcomed = Effect.fnUntraced(function* (
  socket: MessageSocket,
  introduction: Introduction,
  session: RunnerSession
) {
  send(socket, {
    _tag: "Hello",
    versions: [version],
    ...session.introduce(),
    name: introduction.name,
    capabilities: Wayleave1.capabilities,
    agent: introduction.agent
  })
  const [first, ...rest] = yield* Effect.timeoutOrElse(socket.pull, {
    duration: limits.helloTimeoutMs,
    orElse: () => Effect.fail(new NoWelcome())
  })
  const welcome = decode(first)
  if (typeof welcome === "string") return yield* new Nonsense({ cause: welcome })
  if (welcome._tag !== "Welcome") return yield* new Nonsense({ cause: `${welcome._tag} before Welcome` })
  if (welcome.version !== version) return yield* new Nonsense({ cause: `version ${welcome.version} was not offered` })
  return { welcome, rest }
})

/** Has the session become what the hub says it is to it: false where it cannot. */
const becomes = (session: RunnerSession, { hub, outcome, received }: Wayleave1.Welcome): boolean => {
  switch (outcome) {
    case "begun":
      session.restart(false)
      return true
    case "adopted":
      session.move()
      return true
    case "resumed":
      // A hub from before, which has not heard that the session began anew at another: its numbers are of a conversation that is over.
      return session.isWith(hub) && session.link.canResume(received)
  }
  return absurd(outcome)
}

/** Has the link go on over this socket, or begin anew. */
const attach = (socket: MessageSocket, session: RunnerSession, welcome: Wayleave1.Welcome): boolean => {
  if (!becomes(session, welcome)) return false
  session.joined(welcome.hub)
  session.link.attach(socket, welcome.outcome === "resumed" ? welcome.received : 0)
  return true
}

const serve = Effect.fnUntraced(function* (
  socket: MessageSocket,
  session: RunnerSession,
  events: ConnectionEvents,
  welcome: Wayleave1.Welcome,
  rest: ReadonlyArray<SocketMessage>
) {
  session.setWindow(welcome.windowBytes)
  if (!attach(socket, session, welcome)) return yield* new Unresumable()
  // At once, not when the read loop gets there: a link would go on filling a dead socket, and forget what it cannot repeat.
  const { link } = session
  socket.whenClosedUnsafe(() => link.detach(socket))
  if (session.draining || session.leaving) leave(socket, "leaving")
  events.onWelcome(welcome)
  const heartbeat = yield* Heartbeat.make({
    heartbeatMs: Math.max(welcome.heartbeatMs, heartbeatMsMin),
    heartbeatDeadlineMs: Math.max(welcome.heartbeatDeadlineMs, 2 * heartbeatMsMin),
    ping: (nonce) => send(socket, { _tag: "Ping", nonce, received: session.link.receivedCount }),
    onRoundTrip: events.onRoundTrip
  })
  const reader = makeReader(socket, session, heartbeat, events)
  yield* reader(rest)
  const reading = Stream.runForEachArray(socket.messages, reader)
  // The stream of messages ends with `SocketClosed`, never by itself.
  return yield* Effect.raceFirst(Effect.andThen(reading, Effect.never), heartbeat.run)
})

const makeReader = (
  socket: MessageSocket,
  session: RunnerSession,
  heartbeat: Heartbeat.Heartbeat,
  events: ConnectionEvents
) => {
  const { link } = session
  let pinged: number | undefined
  /** What is wrong with the message, undefined where nothing is. */
  const take = (raw: SocketMessage): string | undefined => {
    const message = decode(raw)
    if (typeof message === "string") return message
    switch (message._tag) {
      case "Welcome":
        return "a second Welcome"
      case "Frames":
        link.acknowledged(message.received)
        for (const frame of message.frames) session.receive(frame)
        link.onReceived(raw.data.length)
        return undefined
      case "Ping":
        link.acknowledged(message.received)
        pinged = message.nonce
        return undefined
      case "Pong":
        link.acknowledged(message.received)
        heartbeat.pong(message.nonce)
        return undefined
      case "Ack":
        link.acknowledged(message.received)
        return undefined
      case "GoAway":
        events.onGoAway(message.reason)
        return undefined
      case "Reset":
        session.reset(message.route, message.code)
        return undefined
    }
    return absurd(message)
  }
  return (batch: ReadonlyArray<SocketMessage> | SocketBatch): Effect.Effect<void, Nonsense> =>
    Effect.suspend(() => {
      heartbeat.heard()
      for (const message of batch) {
        const fault = take(message)
        if (fault !== undefined) return Effect.fail(new Nonsense({ cause: fault }))
      }
      // One answer per read, to the latest: a flood of pings must not become a flood of pongs.
      if (pinged !== undefined) {
        send(socket, { _tag: "Pong", nonce: pinged, received: link.receivedCount })
        pinged = undefined
      }
      return Effect.void
    })
}
