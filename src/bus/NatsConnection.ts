/**
 * One connection to a NATS server, by the official client: dialled, let in, found fit, and dialled again whenever it is lost. The only file that
 * knows the client; what travels is the business of `NatsMessageBus.ts`.
 *
 * The client buffers without a bound and throws away what it held when it reconnects, so nothing is given to it while it is away.
 */
import { readFileSync } from "node:fs"
import {
  AuthorizationError,
  type NatsConnection as Client,
  type ConnectionOptions,
  connect as connectClient,
  createInbox,
  credsAuthenticator,
  nkeyAuthenticator,
  type Status
} from "@nats-io/transport-node"
import { Clock, Data, Effect, Queue, Redacted, type Scope, Stream } from "effect"
import { limits } from "../tunnel/Limits.ts"
import { Turn } from "../tunnel/Turn.ts"
import { type NatsOptions, NatsStartError } from "./NatsOptions.ts"

/** The server is out of reach; whether what was under way arrived is not known. */
export class NatsAway extends Data.TaggedError("NatsAway") {}

/** What arrives on a subscription. Its bytes are a view of what the socket read. */
export interface NatsMessage {
  readonly subject: string
  readonly reply?: string
  readonly data: Uint8Array
  /** Of those that servers send, 503 says that nobody listens. */
  readonly headers?: { readonly code: number }
}

/** What is to be answered. */
export interface NatsQuestion {
  /** Where the answer is to come: a subject under `inbox`. */
  readonly reply: string
  /** It has not left, and will not. */
  readonly onUnsent: () => void
  /** One answer will do for this question and others: it has left in one message with another, and is answered where that one is. */
  readonly onJoined?: (reply: string) => void
}

/** A connection as the bus uses it. What ends in `Unsafe` is synchronous and never throws. */
export interface NatsConnection {
  /** A subject prefix that is ours alone. */
  readonly inbox: string
  readonly isConnectedUnsafe: () => boolean
  /** How often the connection was lost: what was published under one number and is confirmed under another may not have arrived. */
  readonly lossesUnsafe: () => number
  /** Every loss (`false`) and every return. */
  readonly changes: Stream.Stream<boolean>
  /** The longest message that the present server takes. */
  readonly payloadBytesMaxUnsafe: () => number
  /**
   * Leaves at the end of the present turn, together with whatever else is published in it: short messages to the same subject as one, each behind the
   * other, questions among questions that may share their answer. Nothing leaves while the server is away; of what was gathered when it went, `onUnsent`
   * is told before anybody else hears of the loss.
   */
  readonly publishUnsafe: (subject: string, data: Uint8Array, question?: NatsQuestion) => void
  /** Holds across reconnections. The effect it returns ends it, once everything that the server had sent by then has been handed on. */
  readonly subscribeUnsafe: (
    subject: string,
    group: string | undefined,
    onMessage: (message: NatsMessage) => void
  ) => Effect.Effect<void>
  /** Succeeds when the server has taken everything published before. */
  readonly flush: Effect.Effect<void, NatsAway>
  /** Leaves a server that does not answer for another, or for itself. */
  readonly abandonUnsafe: () => void
}

/** The content of a file, as it was when it could last be read: one that is being replaced must not end the connection. */
const reread = (file: string): (() => Uint8Array) => {
  let last: Uint8Array = readFileSync(file)
  return () => {
    try {
      last = readFileSync(file)
    } catch {
      // It is missing for a moment.
    }
    return last
  }
}

const trimmed = (bytes: Uint8Array) => new TextEncoder().encode(new TextDecoder().decode(bytes).trim())

const credentials = ({ auth }: NatsOptions): ConnectionOptions => {
  switch (auth?._tag) {
    case undefined:
      return {}
    case "Password":
      return { user: auth.user, pass: Redacted.value(auth.password) }
    case "Token":
      return { token: Redacted.value(auth.token) }
    case "CredsFile":
      return { authenticator: credsAuthenticator(reread(auth.file)) }
    case "NkeyFile": {
      const seed = reread(auth.file)
      return { authenticator: nkeyAuthenticator(() => trimmed(seed())) }
    }
  }
  return auth satisfies never
}

const clientOptions = (options: NatsOptions): ConnectionOptions => ({
  ...credentials(options),
  ...(options.caFile === undefined ? {} : { tls: { ca: readFileSync(options.caFile, "utf8") } }),
  ...(options.caFile === undefined && options.tls === true ? { tls: {} } : {}),
  servers: [...options.servers],
  name: "wayleave",
  timeout: limits.natsDialMs,
  reconnectTimeWait: limits.natsRedialMs,
  reconnectJitter: limits.natsRedialMs,
  reconnectJitterTLS: limits.natsRedialMs,
  maxReconnectAttempts: -1,
  // A server that was set up anew may know us a moment later; until then readiness tells.
  ignoreAuthErrorAbort: true,
  pingInterval: limits.natsPingMs,
  maxPingOut: 2,
  noAsyncTraces: true
})

const codeOf = (error: unknown): string =>
  typeof error === "object" && error !== null && "code" in error ? String(error.code) : ""

const away = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ETIMEDOUT"
])

const judge = (error: unknown): Pick<NatsStartError, "reason" | "problem"> => {
  if (error instanceof AuthorizationError) return { reason: "Unauthorized", problem: "the server did not let us in" }
  const chain = [error, error instanceof Error ? error.cause : undefined]
  const code = chain.map(codeOf).find((one) => away.has(one))
  if (code === "ECONNREFUSED") return { reason: "Unreachable", problem: "connection refused" }
  if (code !== undefined) return { reason: "Unreachable", problem: `out of reach (${code})` }
  // A server that hangs up in the middle of the handshake gives no error at all.
  if (error === undefined || error === null) return { reason: "Unreachable", problem: "the server hung up" }
  const message = error instanceof Error ? error.message : String(error)
  return error instanceof Error && error.name === "TimeoutError"
    ? { reason: "Unreachable", problem: "no answer" }
    : { reason: "Misconfigured", problem: message }
}

const unfit = ({ info }: Client): string | undefined => {
  if (info?.headers !== true) return "the server is too old: it cannot say that nobody listens"
  if (info.max_payload >= limits.natsPayloadBytesMin) return undefined
  return `its max_payload of ${info.max_payload} bytes is below the ${limits.natsPayloadBytesMin} that a request may need`
}

const close = (client: Client) =>
  Effect.promise(() => client.flush()).pipe(
    Effect.timeoutOption("1 second"),
    Effect.ignoreCause,
    Effect.andThen(Effect.promise(() => client.close())),
    Effect.ignoreCause
  )

/** Not to be interrupted, for the client cannot be: what it opened must be closed again. */
const dialOnce = (options: NatsOptions) =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: async () => connectClient(clientOptions(options)),
      catch: (error) => new NatsStartError({ servers: options.servers, ...judge(error) })
    }),
    close
  )

/** Tries for as long as nobody is there, and says so once: a server may start a little later than we do. */
const dial = Effect.fnUntraced(function* (options: NatsOptions) {
  const startMs = options.startMs ?? limits.natsStartMs
  const clock = yield* Clock.Clock
  const deadline = clock.currentTimeMillisUnsafe() + startMs
  let told = false
  return yield* dialOnce(options).pipe(
    Effect.tapError((error) => {
      if (told || error.reason !== "Unreachable" || clock.currentTimeMillisUnsafe() >= deadline) return Effect.void
      told = true
      return Effect.logWarning(`${error.message}; trying for ${startMs / 1000} s`)
    }),
    Effect.retry({
      while: (error) =>
        error.reason === "Unreachable" && clock.currentTimeMillisUnsafe() + limits.natsRedialMs < deadline
          ? Effect.as(Effect.sleep(limits.natsRedialMs), true)
          : Effect.succeed(false)
    })
  )
})

interface Outgoing {
  readonly subject: string
  readonly data: Uint8Array
  readonly question: NatsQuestion | undefined
}

interface Joining {
  readonly first: Outgoing
  bytes: number
  readonly parts: Array<Uint8Array>
}

const hasRoom = ({ bytes, first, parts }: Joining, { data }: Outgoing) =>
  bytes + data.length <= limits.natsJoinedBytesMax &&
  (first.question === undefined || parts.length < limits.natsQuestionsJoinedMax)

/** What may leave as one message joined. Nothing that is to be answered changes its place towards what is not. */
const joined = (leaving: ReadonlyArray<Outgoing>): ReadonlyArray<Outgoing> => {
  if (leaving.length < 2) return leaving
  const messages: Array<Joining> = []
  const open = new Map<string, Joining>()
  let questions = false
  for (const one of leaving) {
    const { data, question, subject } = one
    const alone = question !== undefined && question.onJoined === undefined
    if (alone || questions !== (question !== undefined)) open.clear()
    questions = question !== undefined
    const before = open.get(subject)
    if (before !== undefined && hasRoom(before, one)) {
      before.parts.push(data)
      before.bytes += data.length
      if (before.first.question !== undefined) question?.onJoined?.(before.first.question.reply)
      continue
    }
    const message = { first: one, bytes: data.length, parts: [data] }
    messages.push(message)
    if (!alone) open.set(subject, message)
  }
  return messages.map(({ first, parts }) => (parts.length === 1 ? first : { ...first, data: Buffer.concat(parts) }))
}

/** Connects, and stays connected as far as that is in our power until the scope closes. */
export const connect = Effect.fnUntraced(function* (
  options: NatsOptions
): Effect.fn.Return<NatsConnection, NatsStartError, Scope.Scope> {
  const client = yield* dial(options)
  const problem = unfit(client)
  if (problem !== undefined) {
    return yield* new NatsStartError({ servers: options.servers, reason: "Unfit", problem })
  }
  const changes = yield* Queue.unbounded<boolean>()
  const turn = yield* Turn
  let outgoing: Array<Outgoing> = []
  let connected = true
  let losses = 0
  let complaint = ""

  const become = (next: boolean, log: Effect.Effect<void>) =>
    Effect.suspend(() => {
      if (connected === next) return Effect.void
      connected = next
      if (!next) {
        losses++
        leave()
      }
      complaint = ""
      Queue.offerUnsafe(changes, next)
      return log
    })

  const onStatus = (status: Status): Effect.Effect<void> => {
    switch (status.type) {
      case "disconnect":
        return become(
          false,
          Effect.logWarning(`lost the NATS server at ${status.server}; trying again until it is back`)
        )
      case "reconnect":
        return Effect.andThen(
          become(true, Effect.logInfo(`connected to the NATS server at ${status.server}`)),
          Effect.suspend(() => {
            const worse = unfit(client)
            return worse === undefined ? Effect.void : Effect.logError(`NATS at ${status.server}: ${worse}`)
          })
        )
      case "close":
        return become(false, Effect.logError("the NATS client has closed for good"))
      case "error":
        // Each attempt to return may fail for the same reason: said once.
        if (status.error.message === complaint) return Effect.void
        complaint = status.error.message
        return Effect.logWarning(`NATS: ${complaint}`)
      case "ldm":
        return Effect.logInfo(`the NATS server at ${status.server} is about to leave`)
      // A connection that is stale or given up is lost next, and that is told.
      case "staleConnection":
      case "forceReconnect":
      case "reconnecting":
      case "ping":
      case "update":
      case "slowConsumer":
        return Effect.void
    }
    return status satisfies never
  }
  yield* Effect.forkScoped(
    Stream.fromAsyncIterable(client.status(), () => undefined).pipe(Stream.runForEach(onStatus), Effect.ignore)
  )

  /** The client writes at the end of a job, which is many writes a turn: gathered here, what one turn produced leaves in one. */
  const leave = () => {
    const leaving = outgoing
    outgoing = []
    if (!connection.isConnectedUnsafe()) {
      for (const { question } of leaving) question?.onUnsent()
      return
    }
    try {
      for (const { data, question, subject } of joined(leaving))
        client.publish(subject, data, question === undefined ? {} : { reply: question.reply })
    } catch {
      // Closed within this very job, or the new server allows less: as lost as any message at a loss of the connection.
    }
  }

  // Before the client is closed: the last words of a process that ends.
  yield* Effect.addFinalizer(() => Effect.sync(leave))

  const connection: NatsConnection = {
    inbox: createInbox(),
    isConnectedUnsafe: () => connected && !client.isClosed(),
    lossesUnsafe: () => losses,
    changes: Stream.fromQueue(changes),
    payloadBytesMaxUnsafe: () => client.info?.max_payload ?? limits.natsPayloadBytesMin,
    publishUnsafe: (subject, data, question) => {
      if (!connection.isConnectedUnsafe()) return question?.onUnsent()
      if (outgoing.length === 0) turn(leave)
      outgoing.push({ subject, data, question })
    },
    subscribeUnsafe: (subject, group, onMessage) => {
      if (client.isClosed()) return Effect.void
      const subscription = client.subscribe(subject, {
        ...(group === undefined ? {} : { queue: group }),
        callback: (error, message) => {
          if (error === null) onMessage(message)
        }
      })
      return Effect.ignoreCause(
        Effect.promise(() => {
          // What we have published to ourselves comes before the end of our own subscription.
          leave()
          return subscription.drain()
        })
      )
    },
    flush: Effect.tryPromise({
      try: () => {
        leave()
        return client.flush()
      },
      catch: () => new NatsAway()
    }),
    abandonUnsafe: () => void client.reconnect().catch(() => {})
  }
  return connection
})
