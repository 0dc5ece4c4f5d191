/**
 * Writes an `HttpServerResponse` into a stream. The head of a streamed body leaves at once, not with its first chunk; a body that fails breaks
 * the visitor's transfer instead of ending it as if it were whole.
 */
import { Cause, Data, Effect, Stream } from "effect"
import { Cookies, type HttpServerRequest, HttpServerResponse } from "effect/http"
import type { HeaderList } from "../tunnel/Frame.ts"
import { RequestStream } from "./RequestStream.ts"
import type { ResponseWriter } from "./ResponseWriter.ts"
import type { TunnelRequest } from "./TunnelRequest.ts"

/** A body that cannot be written, and why. */
class BodyFailure extends Data.TaggedError("BodyFailure")<{ readonly cause: unknown }> {}

type Body = Uint8Array | Stream.Stream<Uint8Array, unknown>

const nothing = new Uint8Array(0)
const encoder = new TextEncoder()

const headersOf = (response: HttpServerResponse.HttpServerResponse): Array<readonly [string, string]> => {
  const headers = Object.entries(response.headers)
  for (const cookie of Cookies.toSetCookieHeaders(response.cookies)) headers.push(["set-cookie", cookie])
  // Such an answer has no body to tell the length of.
  if (response.status !== 204 && response.status !== 205) return headers
  return headers.filter(([name]) => name !== "content-length")
}

const asBytes = (chunk: unknown): Uint8Array => {
  if (typeof chunk === "string") return encoder.encode(chunk)
  if (chunk instanceof Uint8Array) return chunk
  if (ArrayBuffer.isView(chunk)) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength)
  if (chunk instanceof ArrayBuffer) return new Uint8Array(chunk)
  throw new BodyFailure({ cause: `a ${typeof chunk} is no piece of a body` })
}

const isAsyncIterable = (value: unknown): value is AsyncIterable<unknown> =>
  typeof value === "object" && value !== null && Symbol.asyncIterator in value

const fromIterable = (iterable: AsyncIterable<unknown>): Body =>
  Stream.map(
    Stream.fromAsyncIterable(iterable, (cause) => new BodyFailure({ cause })),
    asBytes
  )

/** A raw body: whatever a Node server or a Web response would take, a Node stream among it, which is async iterable. */
const rawBody = (raw: unknown): Body => {
  if (raw === undefined || raw === null) return nothing
  if (raw instanceof Blob) return fromIterable(raw.stream())
  return isAsyncIterable(raw) ? fromIterable(raw) : asBytes(raw)
}

/** What a Web response brings that the Effect response around it does not say. */
const adopt = (headers: Array<readonly [string, string]>, web: Response) => {
  const own = new Set(headers.map(([name]) => name))
  for (const [name, value] of web.headers) if (!own.has(name) || name === "set-cookie") headers.push([name, value])
}

const bodyOf = (response: HttpServerResponse.HttpServerResponse, headers: Array<readonly [string, string]>): Body => {
  const { body } = response
  switch (body._tag) {
    case "Empty":
      return nothing
    case "Uint8Array":
      return body.body
    case "Stream":
      return body.stream
    case "FormData": {
      const web = new Response(body.formData)
      adopt(headers, web)
      return rawBody(web.body)
    }
    case "Raw": {
      if (!(body.body instanceof Response)) return rawBody(body.body)
      adopt(headers, body.body)
      return rawBody(body.body.body)
    }
  }
  return body satisfies never
}

const contentLength = (headers: HeaderList): number | undefined => {
  const value = headers.find(([name]) => name === "content-length")?.[1]
  return value === undefined ? undefined : Number(value)
}

const failed = (writer: ResponseWriter, cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  if (writer.end !== undefined) return Effect.void
  writer.abortUnsafe("app_failed", "the app failed in its answer")
  return Cause.hasInterruptsOnly(cause) ? Effect.void : Effect.logError("the body of an answer failed", cause)
}

const writeStream = (
  writer: ResponseWriter,
  status: number,
  headers: HeaderList,
  body: Stream.Stream<Uint8Array, unknown>
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const expected = contentLength(headers)
    let written = 0
    writer.startUnsafe(status, headers)
    return body.pipe(
      Stream.runForEachArray((chunks) => {
        const [first, ...others] = chunks
        const chunk = others.length === 0 ? first : Buffer.concat(chunks)
        written += chunk.length
        return writer.write(chunk)
      }),
      Effect.andThen(
        Effect.suspend(() =>
          expected === undefined || expected === written
            ? writer.finish()
            : Effect.fail(new BodyFailure({ cause: `${written} bytes written of ${expected} announced` }))
        )
      ),
      // A server's responses are written uninterruptibly, and a body may never end.
      Effect.interruptible,
      Effect.catchCause((cause) => failed(writer, cause))
    )
  })

/** Writes the response; done when the last byte has left the app. */
export const writeResponse = (
  request: HttpServerRequest.HttpServerRequest,
  response: HttpServerResponse.HttpServerResponse
): Effect.Effect<void> =>
  Effect.suspend(() => {
    const { source } = request as TunnelRequest
    // What a handler returns after it took the WebSocket is nobody's answer.
    if (!(source instanceof RequestStream) && source.isOpen) return Effect.void
    const writer = source instanceof RequestStream ? source : source.refusal
    if (writer.end !== undefined) return Effect.void
    const headers = headersOf(response)
    if (HttpServerResponse.omitsBody(response, request.method === "HEAD")) {
      return writer.respond(response.status, headers)
    }
    const body = bodyOf(response, headers)
    if (body instanceof Uint8Array) {
      return Effect.interruptible(writer.respond(response.status, headers, body))
    }
    return writeStream(writer, response.status, headers, body)
  }).pipe(Effect.catchDefect((defect) => failed(writerOf(request), Cause.die(defect))))

const writerOf = (request: HttpServerRequest.HttpServerRequest): ResponseWriter => {
  const { source } = request as TunnelRequest
  return source instanceof RequestStream ? source : source.refusal
}
