/**
 * Answers a runner's streams from a local port: what the visitor sent goes to the app as it came, and the app's answer back as it came.
 *
 * Over `node:http` itself, because heads must keep their order and duplicates, and both bodies their back pressure: while credit is spent the
 * app's socket is paused, while the app's socket is full nothing is granted. Next: `LocalWebSocket.ts`, the same for WebSockets.
 */
import * as http from "node:http"
import * as https from "node:https"
import { Effect, Layer } from "effect"
import { Dialer } from "../socket/MessageSocket.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"
import { isSafe } from "../tunnel/Method.ts"
import { localHeaders, type Target, withoutHopByHop } from "./LocalTarget.ts"
import { forwardWebSocket } from "./LocalWebSocket.ts"
import type { RequestStream } from "./RequestStream.ts"
import { AppFailure, RunnerApp } from "./RunnerApp.ts"

export { layerDialer } from "../socket/WsSocket.ts"

const unreachableCodes = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ETIMEDOUT",
  "EADDRNOTAVAIL"
])

/** Names the target and what to do: the message is what the visitor's error page says. */
const unreachable = (target: Target, why: string) =>
  new AppFailure({
    code: "app_unreachable",
    message: `nothing answers at ${target.protocol}//${target.host}:${target.port} (${why}); is the app running?`
  })

const unreadable = (why: string) =>
  new AppFailure({ code: "protocol_error", message: `the app's answer breaks the rules of HTTP: ${why}` })

const codeOf = (error: Error): string => {
  const { code, errors } = error as NodeJS.ErrnoException & { errors?: ReadonlyArray<NodeJS.ErrnoException> }
  return code ?? errors?.[0]?.code ?? ""
}

const failureOf = (target: Target, error: Error): AppFailure => {
  const code = codeOf(error)
  if (unreachableCodes.has(code)) return unreachable(target, code)
  // What Node's parser did not accept, and nothing that merely ended early.
  if (code.startsWith("HPE_") && code !== "HPE_INVALID_EOF_STATE") return unreadable(error.message)
  return new AppFailure({ code: "app_failed", message: `the app broke off: ${error.message || code}` })
}

const pairs = (raw: ReadonlyArray<string>): Array<readonly [string, string]> => {
  const list: Array<readonly [string, string]> = []
  for (let i = 0; i + 1 < raw.length; i += 2) list.push([raw[i] as string, raw[i + 1] as string])
  return list
}

const has = (headers: HeaderList, wanted: string) => headers.some(([name]) => name.toLowerCase() === wanted)

/** Methods whose requests Node takes to have no body; for any other it would announce chunks where there are none. */
const bodiless = new Set(["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"])

/** The request head for Node, flat and raw. Node must not guess how the body is framed: it would leave out the body of a DELETE. */
const requestHeaders = (stream: RequestStream, target: Target): Array<string> => {
  const headers = localHeaders(stream.headers, target)
  const flat: Array<string> = []
  for (const [name, value] of headers) flat.push(name, value)
  if (has(headers, "content-length")) return flat
  const { wholeBody } = stream
  if (wholeBody === undefined) flat.push("Transfer-Encoding", "chunked")
  else if (wholeBody.length > 0 || !bodiless.has(stream.method)) {
    flat.push("Content-Length", String(wholeBody.length))
  }
  return flat
}

/** Feeds the visitor's body to the app, one chunk at a time: what the app's socket does not take stays ungranted. */
const upload = (stream: RequestStream, request: http.ClientRequest): void => {
  let finished = false
  const pump = () => {
    if (finished || request.destroyed) return
    while (true) {
      const chunk = stream.takeUnsafe()
      if (chunk === undefined) break
      if (!request.write(chunk)) {
        request.once("drain", pump)
        return
      }
    }
    if (!stream.bodyTaken) return stream.whenReadableUnsafe(pump)
    finished = true
    if (stream.trailers.length > 0) request.addTrailers(stream.trailers as unknown as Array<[string, string]>)
    request.end()
  }
  const { wholeBody } = stream
  if (wholeBody === undefined) return pump()
  stream.takeUnsafe()
  request.end(wholeBody.length === 0 ? undefined : wholeBody)
}

/** Passes the app's body on as credit allows. The response is paused while a rest is in hand. */
const download = (stream: RequestStream, response: http.IncomingMessage, done: () => void): void => {
  let rest: Uint8Array | undefined
  let ended = false
  const write = (bytes: Uint8Array): boolean => {
    const written = stream.writeUnsafe(bytes)
    if (written === bytes.length) return true
    rest = bytes.subarray(written)
    stream.whenWritableUnsafe(resume)
    return false
  }
  const resume = () => {
    const waiting = rest
    rest = undefined
    if (waiting !== undefined && !write(waiting)) return
    if (ended) finish()
    else response.resume()
  }
  const finish = () => {
    stream.endUnsafe(pairs(response.rawTrailers))
    done()
  }
  response.on("data", (chunk: Buffer) => {
    if (!write(chunk)) response.pause()
  })
  response.once("end", () => {
    // Node reports the end although paused, once it has handed out the last chunk.
    ended = true
    if (rest === undefined) finish()
  })
}

/** Begins the answer. What one read of the app's socket brought whole leaves as one frame. */
const answer = (stream: RequestStream, response: http.IncomingMessage, done: () => void): void => {
  const status = response.statusCode ?? 0
  const headers = withoutHopByHop(pairs(response.rawHeaders))
  // The parser runs on after this event; in the next tick it is known whether the same read held the end of the answer too.
  process.nextTick(() => {
    if (response.destroyed) return
    const whole = response.complete && response.rawTrailers.length === 0
    if (whole && response.readableLength <= limits.chunkBytesMax) {
      const body: Buffer | null = response.read()
      if (stream.respondUnsafe(status, headers, body ?? nothing)) {
        response.resume()
        return done()
      }
      response.unshift(body)
    }
    stream.startUnsafe(status, headers)
    download(stream, response, done)
  })
}

const nothing = new Uint8Array(0)

interface Attempt {
  readonly target: Target
  readonly agent: http.Agent
  readonly stream: RequestStream
  readonly done: (outcome: Effect.Effect<void, AppFailure>) => void
}

/** One request to the app; returns how to give it up. */
const send = ({ agent, done, stream, target }: Attempt, again: boolean): (() => void) => {
  let answered = false
  let abandoned = false
  let abandon = () => {
    // Destroying a request that waits for its answer looks like a broken connection, and would be tried again.
    abandoned = true
    request.destroy()
  }
  const request = (target.protocol === "https:" ? https : http).request({
    agent,
    host: target.host,
    port: target.port,
    method: stream.method,
    path: stream.target,
    headers: requestHeaders(stream, target),
    setHost: false,
    maxHeaderSize: limits.headBytesMax,
    ...(target.protocol === "https:" ? { rejectUnauthorized: target.verifyCertificate ?? true } : {})
  })
  // Node would silently drop headers beyond its count; their size is bounded instead.
  request.maxHeadersCount = 0
  request.on("information", (info) => {
    stream.informationalUnsafe(info.statusCode, withoutHopByHop(pairs(info.rawHeaders)))
  })
  request.on("response", (response) => {
    answered = true
    const coding = response.headers["transfer-encoding"]
    if (coding !== undefined && coding.trim().toLowerCase() !== "chunked") {
      // What names the coding goes off here, so the visitor could make nothing of the body.
      done(Effect.fail(unreadable(`transfer coding ${coding}`)))
      response.on("error", () => {})
      return void request.destroy()
    }
    response.once("error", (error) => done(Effect.fail(failureOf(target, error))))
    response.once("close", () => {
      // An app that answers before it has read the whole request gets no more of it.
      if (!request.writableFinished) request.destroy()
      if (response.complete) return
      done(Effect.fail(new AppFailure({ code: "app_failed", message: "the app broke off in its answer" })))
    })
    answer(stream, response, () => done(Effect.void))
  })
  request.on("error", (error) => {
    if (abandoned) return
    if (!answered && again && request.reusedSocket && codeOf(error) === "ECONNRESET") {
      abandon = send({ agent, done, stream, target }, false)
      return
    }
    done(Effect.fail(failureOf(target, error)))
  })
  // The app switches protocols unasked: nothing that could be passed on.
  request.on("upgrade", (_response, socket) => {
    socket.destroy()
    done(Effect.fail(new AppFailure({ code: "app_failed", message: "the app switched protocols unasked" })))
  })
  upload(stream, request)
  return () => abandon()
}

const forwardRequest = (stream: RequestStream, target: Target, agent: http.Agent): Effect.Effect<void, AppFailure> =>
  Effect.callback((resume) => {
    try {
      // A kept connection may have broken before the app can have answered.
      const again = isSafe(stream.method) && stream.wholeBody?.length === 0
      const abandon = send({ agent, done: resume, stream, target }, again)
      return Effect.sync(abandon)
    } catch (error) {
      // Node refuses a head that no HTTP/1.1 peer could read.
      const message = `the request cannot be forwarded: ${(error as Error).message}`
      resume(Effect.fail(new AppFailure({ code: "protocol_error", message })))
    }
  })

/** Keeps connections to one app. Node's own would put together the name of the place at every request. */
class OneAppAgent extends http.Agent {
  override getName(): string {
    return "app"
  }
}

/** How long an unused connection to the app is kept. */
const idleMs = 60_000

/** Serves a runner from `target`. Keeps connections to it open between requests. */
export const layer = (target: Target): Layer.Layer<RunnerApp, never, Dialer> =>
  Layer.effect(
    RunnerApp,
    Effect.gen(function* () {
      const dialer = yield* Dialer
      const options: http.AgentOptions = {
        keepAlive: true,
        maxSockets: limits.streamsPerSessionMax,
        // As many as there were at once: a burst of requests is often followed by another, and connections are dear (decision 0230).
        maxFreeSockets: limits.streamsPerSessionMax,
        timeout: idleMs,
        scheduling: "lifo"
      }
      const agent = yield* Effect.acquireRelease(
        Effect.sync(() => (target.protocol === "https:" ? new https.Agent(options) : new OneAppAgent(options))),
        (agent) => Effect.sync(() => agent.destroy())
      )
      return RunnerApp.of({
        request: (stream) => forwardRequest(stream, target, agent),
        webSocket: (stream) => forwardWebSocket(stream, target, dialer)
      })
    })
  )
