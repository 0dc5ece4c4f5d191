/**
 * The app that `npm start` puts behind the tunnel: an ordinary Effect router that knows nothing of Wayleave. One page, and what its four
 * panels talk to: an event stream, an upload, a download, a WebSocket echo.
 */
import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { Effect, Schedule, type Scope, Stream } from "effect"
import { HttpRouter, type HttpServerError, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { Socket } from "effect/socket"

const page = readFileSync(new URL("./page.html", import.meta.url))

const home = HttpServerResponse.uint8Array(page, {
  contentType: "text/html; charset=utf-8",
  headers: { "cache-control": "no-store" }
})

const encoder = new TextEncoder()

/** How far apart the page's events are. */
const tickMs = 1_000

// The first event leaves with the head: a reader knows at once that the stream stands.
const events = Effect.sync(() =>
  HttpServerResponse.stream(
    Stream.fromSchedule(Schedule.spaced(tickMs)).pipe(
      Stream.map((tick) => tick + 1),
      Stream.prepend([0]),
      Stream.mapEffect((tick) =>
        Effect.clockWith((clock) =>
          Effect.map(clock.currentTimeMillis, (sentAtMs) =>
            encoder.encode(`id: ${tick}\ndata: ${JSON.stringify({ tick, sentAtMs })}\n\n`)
          )
        )
      )
    ),
    { contentType: "text/event-stream", headers: { "cache-control": "no-store", "x-accel-buffering": "no" } }
  )
)

/** Counts and hashes as it reads: whatever the size, one chunk is held. */
const upload = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
  const hash = createHash("sha256")
  const bytes = yield* Stream.runFold(
    request.stream,
    () => 0,
    (total: number, chunk) => {
      hash.update(chunk)
      return total + chunk.length
    }
  )
  return HttpServerResponse.jsonUnsafe({ bytes, sha256: hash.digest("hex") })
})

const chunkBytes = 64 * 1024
const downloadBytesMax = 4 * 1024 ** 3
const downloadBytesDefault = 8 * 1024 ** 2

/** Byte `i` is `i % 251`: a receiver can tell a lost, doubled or swapped byte, and 251 is prime to every chunk size. */
const pattern = new Uint8Array(chunkBytes + 251).map((_, i) => i % 251)

const download = (request: HttpServerRequest.HttpServerRequest) => {
  const asked = new URL(request.url, "http://demo").searchParams.get("bytes")
  const bytes = asked === null ? downloadBytesDefault : Number(asked)
  if (!Number.isInteger(bytes) || bytes < 0 || bytes > downloadBytesMax) {
    return HttpServerResponse.text(`bytes: expected a number from 0 to ${downloadBytesMax}\n`, { status: 400 })
  }
  const body = Stream.range(0, Math.ceil(bytes / chunkBytes) - 1).pipe(
    Stream.map((index) => {
      const start = index * chunkBytes
      const length = Math.min(chunkBytes, bytes - start)
      return pattern.subarray(start % 251, (start % 251) + length)
    }),
    Stream.rechunk(1)
  )
  return HttpServerResponse.stream(bytes === 0 ? Stream.empty : body, {
    contentType: "application/octet-stream",
    contentLength: bytes,
    headers: { "content-disposition": `attachment; filename="wayleave-demo-${bytes}.bin"` }
  })
}

/** Sends back what came, text as text and binary as binary, until the visitor closes. */
const echo = Effect.fnUntraced(function* (
  request: HttpServerRequest.HttpServerRequest
): Effect.fn.Return<HttpServerResponse.HttpServerResponse, HttpServerError.HttpServerError, Scope.Scope> {
  const socket = yield* request.upgrade
  const writer = yield* socket.writer
  const reader = yield* Effect.orDie(socket.reader)
  yield* reader.pull.pipe(
    Effect.flatMap(writer.writeAll),
    Effect.forever,
    // However it ended, the conversation is over; the close code is the visitor's own business.
    Effect.catchIf(Socket.isSocketError, () => Effect.void)
  )
  return HttpServerResponse.empty()
})

/** The routes, for whichever `HttpServer` serves them: Node's own, or the one over the tunnel. */
export const routes = HttpRouter.use(
  Effect.fnUntraced(function* (router) {
    yield* router.add("GET", "/", home)
    yield* router.add("GET", "/events", events)
    yield* router.add("POST", "/upload", upload)
    yield* router.add("GET", "/download", (request) => Effect.sync(() => download(request)))
    yield* router.add("GET", "/echo", echo)
  })
)
