/**
 * A visitor's HTTP request over `node:http`, as the gateway's `HttpExchange`. Headers stay raw in both directions; the body waits in the socket
 * until it is taken; the answer is on its way when Node's own callbacks say so.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import type { Socket } from "node:net"
import type { BodyPiece, HttpExchange, RequestBody, ResponseSink, VisitorHead } from "../gateway/Visitor.ts"
import type { HeaderList } from "../tunnel/Frame.ts"
import { limits } from "../tunnel/Limits.ts"

const nothing = new Uint8Array(0)

const smallBytes = 8 * 1024
const bufferOf = (data: Uint8Array) => Buffer.from(data.buffer, data.byteOffset, data.byteLength)

/** Node's flat list of names and values, as pairs. */
export const pairsOf = (flat: ReadonlyArray<string>): HeaderList => {
  const pairs: Array<readonly [string, string]> = []
  for (let i = 0; i + 1 < flat.length; i += 2) pairs.push([flat[i] as string, flat[i + 1] as string])
  return pairs
}

const flatten = (headers: HeaderList): Array<string> => {
  const flat: Array<string> = []
  for (const [name, value] of headers) flat.push(name, value)
  return flat
}

/** What was asked, and from where. */
export const headOf = (request: IncomingMessage): VisitorHead => ({
  method: request.method ?? "GET",
  target: request.url ?? "/",
  headers: pairsOf(request.rawHeaders),
  httpVersion: request.httpVersion,
  remoteAddress: request.socket.remoteAddress ?? "",
  encrypted: (request.socket as Socket & { readonly encrypted?: boolean }).encrypted === true
})

/** Whether a request has a body to read: its framing says so, not its method. */
export const hasBody = (request: IncomingMessage): boolean =>
  request.headers["transfer-encoding"] !== undefined || Number(request.headers["content-length"] ?? 0) > 0

/**
 * A visitor that resets its connection while nobody reads from it would go unnoticed: an empty write has the kernel say so. One that closes in
 * order behind bytes that nobody has read cannot be told from one that waits, here as on any TCP connection.
 */
const watchPaused = (request: IncomingMessage): void => {
  const probe = () => {
    if (request.readableLength >= request.readableHighWaterMark) request.socket.write(nothing)
  }
  const probing = setInterval(probe, limits.pausedProbeMs)
  probing.unref()
  request.once("close", () => clearInterval(probing))
}

const bodyOf = (request: IncomingMessage, sendContinue: (() => void) | undefined): RequestBody => {
  let onReadable: (() => void) | undefined
  let askContinue = sendContinue
  let over = false
  let watched = false
  // Node tells the end of a body one callback after its last byte; where the length is known, the last piece can say so itself.
  const length = request.headers["content-length"]
  let expected = length === undefined ? Number.POSITIVE_INFINITY : Number(length)
  const ended = () => (request.complete || expected === 0) && request.readableLength === 0
  request.on("readable", () => {
    // One more read lets Node see the end, and use the connection for the next request.
    if (over) request.read()
    const f = onReadable
    onReadable = undefined
    f?.()
  })
  const take = (bytesMax: number): BodyPiece | undefined => {
    const bytes = Math.min(bytesMax, request.readableLength)
    const data = bytes > 0 ? ((request.read(bytes) as Uint8Array | null) ?? nothing) : nothing
    expected -= data.length
    if (ended()) {
      over = true
      request.read()
      return { data, end: true }
    }
    // A body that came with its head needs no watching, and most do.
    if (!watched) watchPaused(request)
    watched = true
    return data.length > 0 ? { data, end: false } : undefined
  }
  return {
    takeUnsafe: take,
    whenReadableUnsafe: (f) => {
      // Only now is the body wanted: a visitor that waits for 100 is not asked for what nobody will read.
      askContinue?.()
      askContinue = undefined
      if (request.readableLength > 0 || ended()) f()
      else onReadable = f
    },
    trailersUnsafe: () => pairsOf(request.rawTrailers)
  }
}

/** Once the answer is out, what is left of an upload is read and dropped. A visitor that does not come to an end is cut after a while. */
const dropUnwantedBody = (request: IncomingMessage): void => {
  if (request.complete && request.readableLength === 0) return
  // As long as somebody listens for `readable`, Node would leave the reading to them.
  request.removeAllListeners("readable").resume()
  const cut = setTimeout(() => request.socket.destroy(), limits.unwantedBodyMs)
  cut.unref()
  request.once("close", () => clearTimeout(cut))
}

/** Lets what was written still leave, then closes, so that the end is missing and not the data. Without framing only a reset is no clean end. */
const breakOff = (response: ServerResponse, framed: boolean): void => {
  const { socket } = response
  if (socket === null || socket.destroyed) {
    response.destroy()
    return
  }
  const cut = setTimeout(() => socket.destroy(), limits.serverCloseMs)
  cut.unref()
  socket.once("close", () => clearTimeout(cut))
  if (framed) socket.end(() => socket.destroy())
  else socket.write(nothing, () => socket.resetAndDestroy())
}

const sinkOf = (
  request: IncomingMessage,
  response: ServerResponse,
  done: (complete: boolean) => void
): ResponseSink => {
  let waiting: (() => void) | undefined
  let gone = false
  let framed = true
  const writable = () => gone || response.writableLength < limits.chunkBytesMax
  const wake = () => {
    if (waiting === undefined || !writable()) return
    const f = waiting
    waiting = undefined
    f()
  }
  response.once("close", () => {
    gone = true
    wake()
  })
  return {
    informational: (status, headers) => {
      if (request.httpVersion !== "1.0" && !response.headersSent && !gone) writeInformation(response, status, headers)
    },
    head: (status, headers) => {
      if (response.headersSent) return
      framed = request.httpVersion !== "1.0" || headers.some(([name]) => name.toLowerCase() === "content-length")
      response.writeHead(status, flatten(headers))
    },
    flushHead: () => response.flushHeaders(),
    write: (data) => {
      if (gone) return false
      response.write(data, wake)
      // Node corks until the end of the tick. With a chunk's worth at hand, ask the kernel now: only what it refuses makes a visitor slow.
      if (!writable()) response.socket?.uncork()
      return writable()
    },
    whenWritableUnsafe: (f) => {
      if (writable()) f()
      else waiting = f
    },
    end: (last, trailers) => {
      if (trailers.length > 0) response.addTrailers(trailers as Array<[string, string]>)
      // As text of one byte a character, a small answer is joined to its head: one string to write instead of a list of pieces.
      if (last.length === 0) response.end()
      else if (last.length > smallBytes) response.end(last)
      else response.end(bufferOf(last).toString("latin1"), "latin1")
      dropUnwantedBody(request)
    },
    destroy: () => {
      breakOff(response, framed)
      gone = true
      done(false)
      wake()
    }
  }
}

/** Any 1xx but 101. Older versions of Node know only three of them by name; the rest they can be taught. */
const writeInformation = (response: ServerResponse, status: number, headers: HeaderList): void => {
  const writer = response as ServerResponse & {
    readonly writeInformation?: (status: number, headers: ReadonlyArray<string>) => void
    readonly _writeRaw: (data: string, encoding: "latin1") => void
  }
  if (writer.writeInformation !== undefined) {
    writer.writeInformation(status, flatten(headers))
    return
  }
  const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("")
  writer._writeRaw(`HTTP/1.1 ${status} ${status === 103 ? "Early Hints" : "Processing"}\r\n${lines}\r\n`, "latin1")
}

/** Wraps a request. `sendContinue` is given where the visitor waits for a 100 before it sends its body. */
export const nodeExchange = (
  request: IncomingMessage,
  response: ServerResponse,
  sendContinue: (() => void) | undefined
): HttpExchange => {
  let outcome: boolean | undefined
  let onDone: ((complete: boolean) => void) | undefined
  const done = (complete: boolean) => {
    if (outcome !== undefined) return
    outcome = complete
    onDone?.(complete)
  }
  // Before anything else: without a listener, an error of either would end the process.
  request.on("error", () => {})
  response.on("error", () => {})
  response.once("finish", () => done(true))
  response.once("close", () => done(response.writableFinished))
  return {
    head: headOf(request),
    body: hasBody(request) ? bodyOf(request, sendContinue) : undefined,
    response: sinkOf(request, response, done),
    whenDoneUnsafe: (f) => {
      if (outcome !== undefined) f(outcome)
      else onDone = f
    }
  }
}
