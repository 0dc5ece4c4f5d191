/**
 * A visitor's request as Effect's `HttpServerRequest`: what a router, an HttpApi or a middleware sees of a tunnel. It looks like one of Node's,
 * with two differences: who the visitor is comes from `x-forwarded-for`, and a WebSocket may be accepted with headers.
 */
import { Effect, type FileSystem, Inspectable, Option, type Path, type Schema, type Scope, Stream } from "effect"
import {
  Cookies,
  Headers,
  HttpIncomingMessage,
  HttpServerError,
  HttpServerRequest,
  Multipart,
  UrlParams
} from "effect/http"
import type { Socket } from "effect/socket"
import type { HeaderList } from "../tunnel/Frame.ts"
import { RequestStream } from "./RequestStream.ts"
import { makeSocket } from "./TunnelSocket.ts"
import type { WebSocketStream } from "./WebSocketStream.ts"

type ServerError = HttpServerError.HttpServerError
type ModifyOptions = Parameters<HttpServerRequest.HttpServerRequest["modify"]>[0]
type MultipartEffect = HttpServerRequest.HttpServerRequest["multipart"]

// Effect's view of headers has one value per name. A list of cookies is joined by semicolons, all others by commas (RFC 9110, 5.3).
const merged = (list: HeaderList): Headers.Headers => {
  const record: Record<string, string> = {}
  for (const [name, value] of list) {
    const lower = name.toLowerCase()
    const before = Object.hasOwn(record, lower) ? record[lower] : undefined
    record[lower] = before === undefined ? value : `${before}${lower === "cookie" ? "; " : ", "}${value}`
  }
  return Headers.fromInput(record)
}

/** What all views of one request share, since its body can be read only once. */
interface Shared {
  readonly stream: RequestStream | WebSocketStream
  readonly headers: Headers.Headers
  arrayBuffer: Effect.Effect<ArrayBuffer, ServerError> | undefined
  multipart: MultipartEffect | undefined
  socket: Socket.Socket | undefined
}

/** Collects a body, up to what the app allows. */
const collect = Effect.fnUntraced(function* (request: TunnelRequest) {
  const bytesMax = yield* HttpIncomingMessage.MaxBodySize
  const chunks: Array<Uint8Array> = []
  let bytes = 0
  yield* Stream.runForEachArray(request.stream, (array) => {
    for (const chunk of array) {
      chunks.push(chunk)
      bytes += chunk.length
    }
    if (bytesMax === undefined || bytes <= Number(bytesMax)) return Effect.void
    return Effect.fail(parseError(request, { reason: "BodyTooLarge" }))
  })
  const body = new Uint8Array(bytes)
  let offset = 0
  for (const chunk of chunks) {
    body.set(chunk, offset)
    offset += chunk.length
  }
  return body.buffer
})

const parseError = (
  request: TunnelRequest,
  why: { readonly reason?: "Parse" | "BodyTooLarge"; readonly description?: string; readonly cause?: unknown }
): ServerError =>
  new HttpServerError.HttpServerError({ reason: new HttpServerError.RequestParseError({ request, ...why }) })

const decoder = new TextDecoder()

/** One request, or one view of it made by `modify`. */
export class TunnelRequest extends Inspectable.Class implements HttpServerRequest.HttpServerRequest {
  readonly [HttpServerRequest.TypeId]: typeof HttpServerRequest.TypeId = HttpServerRequest.TypeId
  readonly [HttpIncomingMessage.TypeId]: typeof HttpIncomingMessage.TypeId = HttpIncomingMessage.TypeId
  readonly url: string
  readonly headers: Headers.Headers
  readonly remoteAddress: Option.Option<string>
  readonly peerAddress: Option.Option<string>
  readonly protocol: "http" | "https" | undefined
  private readonly shared: Shared
  private parsedCookies: Readonly<Record<string, string>> | undefined

  private constructor(shared: Shared, view: ModifyOptions) {
    super()
    this.shared = shared
    this.url = view.url ?? shared.stream.target
    this.headers = view.headers ?? shared.headers
    this.remoteAddress = view.remoteAddress ?? Option.none()
    this.peerAddress = view.peerAddress ?? this.remoteAddress
    this.protocol = view.protocol
  }

  /** The request of a stream. */
  static of(stream: RequestStream | WebSocketStream): TunnelRequest {
    const headers = merged(stream.headers)
    // The gateway has taken off what it does not trust, so the first is the visitor.
    const visitor = headers["x-forwarded-for"]?.split(",")[0]?.trim()
    const scheme = headers["x-forwarded-proto"]
    const shared: Shared = { stream, headers, arrayBuffer: undefined, multipart: undefined, socket: undefined }
    return new TunnelRequest(shared, {
      ...(visitor === undefined || visitor === "" ? {} : { remoteAddress: Option.some(visitor) }),
      ...(scheme === "http" || scheme === "https" ? { protocol: scheme } : {})
    })
  }

  /** The stream behind it. */
  get source(): RequestStream | WebSocketStream {
    return this.shared.stream
  }

  get method(): string {
    return this.source instanceof RequestStream ? this.source.method.toUpperCase() : "GET"
  }

  get originalUrl(): string {
    const { host } = this.shared.headers
    const { target } = this.source
    if (host === undefined || !target.startsWith("/")) return target
    return `${this.shared.headers["x-forwarded-proto"] === "https" ? "https" : "http"}://${host}${target}`
  }

  get cookies(): Readonly<Record<string, string>> {
    return (this.parsedCookies ??= Cookies.parseHeader(this.headers.cookie ?? ""))
  }

  get stream(): Stream.Stream<Uint8Array, ServerError> {
    const { source } = this
    if (!(source instanceof RequestStream)) return Stream.empty
    return Stream.mapError(source.body, (cause) => parseError(this, { cause, description: "the body broke off" }))
  }

  get arrayBuffer(): Effect.Effect<ArrayBuffer, ServerError> {
    return (this.shared.arrayBuffer ??= Effect.runSync(Effect.cached(collect(this))))
  }

  get text(): Effect.Effect<string, ServerError> {
    return Effect.map(this.arrayBuffer, (buffer) => decoder.decode(buffer))
  }

  get json(): Effect.Effect<Schema.Json, ServerError> {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({
        try: () => JSON.parse(text) as Schema.Json,
        catch: (cause) => parseError(this, { cause })
      })
    )
  }

  get urlParamsBody(): Effect.Effect<UrlParams.UrlParams, ServerError> {
    return Effect.flatMap(this.text, (text) =>
      Effect.try({
        // A leading question mark is data; URLSearchParams would take it for the mark of a query.
        try: () => UrlParams.fromInput(new URLSearchParams(text.replace(/^\?/, "%3F"))),
        catch: (cause) => parseError(this, { cause })
      })
    )
  }

  get multipart(): Effect.Effect<
    Multipart.Persisted,
    Multipart.MultipartError,
    Scope.Scope | FileSystem.FileSystem | Path.Path
  > {
    return (this.shared.multipart ??= Effect.runSync(Effect.cached(Multipart.toPersisted(this.multipartStream))))
  }

  get multipartStream(): Stream.Stream<Multipart.Part, Multipart.MultipartError> {
    return Stream.pipeThroughChannel(
      Stream.mapError(this.stream, (cause) => Multipart.MultipartError.fromReason("InternalError", cause)),
      Multipart.makeChannel(this.headers)
    )
  }

  get upgrade(): Effect.Effect<Socket.Socket, ServerError> {
    return this.upgradeWith({})
  }

  upgradeWith(options: { readonly headers?: Headers.Input | undefined }): Effect.Effect<Socket.Socket, ServerError> {
    return Effect.suspend(() => {
      const { source, shared } = this
      if (source instanceof RequestStream) {
        return Effect.fail(parseError(this, { description: "the visitor asked for no WebSocket" }))
      }
      shared.socket ??= makeSocket(source, Object.entries(Headers.fromInput(options.headers)))
      return Effect.succeed(shared.socket)
    })
  }

  modify(options: ModifyOptions): TunnelRequest {
    return new TunnelRequest(this.shared, {
      url: options.url ?? this.url,
      headers: options.headers ?? this.headers,
      remoteAddress: options.remoteAddress ?? this.remoteAddress,
      peerAddress: options.peerAddress ?? this.peerAddress,
      ...(options.protocol === undefined
        ? this.protocol === undefined
          ? {}
          : { protocol: this.protocol }
        : { protocol: options.protocol })
    })
  }

  override toJSON(): unknown {
    return HttpIncomingMessage.inspect(this, { _id: "HttpServerRequest", method: this.method, url: this.url })
  }
}
