import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import {
  ByteSize,
  Deferred,
  Effect,
  Exit,
  Fiber,
  FileSystem,
  Layer,
  Option,
  type Path,
  Queue,
  References,
  Schema,
  Scope,
  Stream
} from "effect"
import { Cookies, HttpRouter, HttpServer, HttpServerRequest, HttpServerResponse, Multipart } from "effect/http"
import { HttpApi, HttpApiBuilder, HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import { Socket } from "effect/socket"
import { TestClock } from "effect/testing"
import { type ObservedEnd, type ObservedRequest, RunnerObserver } from "../../src/runner/RunnerObserver.ts"
import * as TunnelHttpServer from "../../src/runner/TunnelHttpServer.ts"
import type { HeaderList, RequestFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { Turn } from "../../src/tunnel/Turn.ts"
import { type Accepted, bytes, get, makeFakeHub, route, soon, text } from "./FakeHub.ts"
import { readAnswer } from "./LocalServer.ts"

/** Serves `routes` through a tunnel and hands back the hub's end of it. */
const serve = Effect.fnUntraced(function* (
  routes: Layer.Layer<never, never, HttpRouter.HttpRouter>,
  extra: Layer.Layer<never> = Layer.empty,
  platform: Layer.Layer<FileSystem.FileSystem | Path.Path> = HttpServer.layerServices
) {
  const hub = yield* makeFakeHub()
  const scope = yield* Scope.make()
  yield* Effect.addFinalizer(() => Scope.close(scope, Exit.void))
  const app = HttpRouter.serve(routes, { disableLogger: true, disableListenLog: true }).pipe(
    // As an app does that keeps uploads: its own platform comes before the server's.
    Layer.provide(platform),
    Layer.provide(TunnelHttpServer.layerServer({ hubUrl: "ws://hub.test", name: "web", drain: 0 })),
    Layer.provide(HttpServer.layerServices),
    Layer.provide(hub.layer),
    Layer.provide(Layer.succeed(Turn, soon)),
    Layer.provide(Layer.succeed(References.MinimumLogLevel, "None")),
    Layer.provide(extra)
  )
  yield* Layer.build(app).pipe(Effect.provideService(Scope.Scope, scope), Effect.forkScoped)
  return { hub: yield* hub.accept(), close: Scope.close(scope, Exit.void) }
})

type Handler = (
  request: HttpServerRequest.HttpServerRequest
) => Effect.Effect<HttpServerResponse.HttpServerResponse, unknown, Scope.Scope | HttpServerRequest.HttpServerRequest>

/** One handler for everything. */
const handle = (handler: Handler) =>
  HttpRouter.use((router) =>
    router.add("*", "/*", (request) =>
      Effect.orDie(
        handler(request) as ReturnType<Handler> & Effect.Effect<HttpServerResponse.HttpServerResponse, unknown>
      )
    )
  ) as Layer.Layer<never, never, HttpRouter.HttpRouter>

const post = (body: string, headers: HeaderList = []): RequestFrame =>
  get("/", { method: "POST", body: bytes(body), headers })

const value = (headers: HeaderList, name: string) => headers.filter(([one]) => one === name).map(([, one]) => one)

describe("an Effect app served through the tunnel", () => {
  it.effect("an HttpApi answers as on any other server", () =>
    Effect.gen(function* () {
      const Api = HttpApi.make("api").add(
        HttpApiGroup.make("greetings").add(
          HttpApiEndpoint.post("greet", "/greet/:name", {
            params: { name: Schema.String },
            payload: Schema.Struct({ times: Schema.Int }),
            success: Schema.Struct({ greeting: Schema.String })
          })
        )
      )
      const Greetings = HttpApiBuilder.group(Api, "greetings", (handlers) =>
        handlers.handle("greet", ({ params, payload }) =>
          Effect.succeed({ greeting: `hi ${params.name}`.repeat(payload.times) })
        )
      )
      const routes = HttpApiBuilder.layer(Api).pipe(Layer.provide(Greetings), Layer.provide(HttpServer.layerServices))
      const { hub } = yield* serve(routes)
      hub.down(
        route(1),
        get("/greet/ada", {
          method: "POST",
          body: bytes('{"times":2}'),
          headers: [["content-type", "application/json"]]
        })
      )
      const answer = yield* readAnswer(hub, route(1))
      assert.strictEqual(answer.status, 200)
      assert.deepStrictEqual(JSON.parse(answer.body.toString()), { greeting: "hi adahi ada" })
      hub.down(route(2), get("/nowhere"))
      assert.strictEqual((yield* readAnswer(hub, route(2))).status, 404)
    })
  )

  it.effect("a request shows its visitor, host, scheme, cookies and all values of a header", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          HttpServerResponse.json({
            method: request.method,
            url: request.url,
            original: request.originalUrl,
            remote: Option.getOrNull(request.remoteAddress),
            protocol: request.protocol,
            cookies: request.cookies,
            dup: request.headers["x-dup"],
            modified: request.modify({ url: "/other" }).url
          })
        )
      )
      hub.down(
        route(1),
        get("/a?b=1", {
          method: "PROPFIND",
          headers: [
            ["Host", "web.example.org"],
            ["X-Forwarded-For", "203.0.113.9, 10.0.0.1"],
            ["X-Forwarded-Proto", "https"],
            ["Cookie", "a=1"],
            ["Cookie", "b=2"],
            ["X-Dup", "1"],
            ["x-dup", "2"]
          ]
        })
      )
      assert.deepStrictEqual(JSON.parse((yield* readAnswer(hub, route(1))).body.toString()), {
        method: "PROPFIND",
        url: "/a?b=1",
        original: "https://web.example.org/a?b=1",
        remote: "203.0.113.9",
        protocol: "https",
        cookies: { a: "1", b: "2" },
        dup: "1, 2",
        modified: "/other"
      })
    })
  )

  it.effect("bodies are read as text, JSON, form and stream, and cached where they can be", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          Effect.gen(function* () {
            switch (request.headers["x-as"]) {
              case "text":
                return HttpServerResponse.text(`${yield* request.text}${yield* request.modify({ url: "/" }).text}`)
              case "json":
                return yield* HttpServerResponse.json(yield* request.json)
              case "form":
                return yield* HttpServerResponse.json([...(yield* request.urlParamsBody)])
              default:
                return HttpServerResponse.stream(request.stream)
            }
          })
        )
      )
      const ask = Effect.fnUntraced(function* (id: number, body: string, as: string) {
        hub.down(route(id), post(body, [["x-as", as]]))
        return (yield* readAnswer(hub, route(id))).body.toString()
      })
      assert.strictEqual(yield* ask(1, "grüß", "text"), "grüßgrüß")
      assert.strictEqual(yield* ask(2, '{"a":[1]}', "json"), '{"a":[1]}')
      assert.strictEqual(yield* ask(3, "a=1&b=%20", "form"), '[["a","1"],["b"," "]]')
      assert.strictEqual(yield* ask(4, "echo", "stream"), "echo")
    })
  )

  it.effect("a body that does not parse is a 400, one that is too large a 413", () =>
    Effect.gen(function* () {
      const routes = HttpRouter.use((router) =>
        router.add("POST", "/", (request) => Effect.flatMap(request.json, HttpServerResponse.json))
      ) as Layer.Layer<never, never, HttpRouter.HttpRouter>
      const { hub } = yield* serve(routes, Layer.succeed(HttpServerRequest.MaxBodySize, ByteSize.bytes(10)))
      hub.down(route(1), post("{"))
      assert.strictEqual((yield* readAnswer(hub, route(1))).status, 400)
      hub.down(route(2), post('"0123456789"'))
      assert.strictEqual((yield* readAnswer(hub, route(2))).status, 413)
    })
  )

  it.effect("a multipart upload is read part by part", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          Effect.gen(function* () {
            const parts: Array<unknown> = []
            yield* Stream.runForEach(request.multipartStream, (part) =>
              Multipart.isFile(part)
                ? Effect.map(part.contentEffect, (content) => parts.push([part.key, part.name, content.length]))
                : Effect.sync(() => parts.push([part.key, part.value]))
            )
            return yield* HttpServerResponse.json(parts)
          })
        )
      )
      const form = new FormData()
      form.set("title", "a picture")
      form.set("file", new Blob([new Uint8Array(1000)]), "p.png")
      const encoded = new Response(form)
      const body = new Uint8Array(yield* Effect.promise(() => encoded.arrayBuffer()))
      const headers: HeaderList = [["content-type", encoded.headers.get("content-type") as string]]
      hub.down(route(1), get("/", { method: "POST", headers, streamed: true }))
      hub.down(route(1), { _tag: "RequestChunk", body: body.subarray(0, 100), finish: false })
      hub.down(route(1), { _tag: "RequestChunk", body: body.subarray(100), finish: true })
      assert.deepStrictEqual(JSON.parse((yield* readAnswer(hub, route(1))).body.toString()), [
        ["title", "a picture"],
        ["file", "p.png", 1000]
      ])
    })
  )

  it.live("an upload is kept on disk where the app has a file system of its own", () =>
    Effect.gen(function* () {
      const routes = HttpRouter.use((router) =>
        router.add(
          "POST",
          "/",
          Effect.gen(function* () {
            const files = yield* FileSystem.FileSystem
            const parts = yield* HttpServerRequest.schemaBodyForm(Schema.Struct({ file: Multipart.SingleFileSchema }))
            return HttpServerResponse.text(yield* files.readFileString(parts.file.path))
          })
        )
      ) as Layer.Layer<never, never, HttpRouter.HttpRouter>
      const { hub } = yield* serve(routes, Layer.empty, NodeServices.layer)
      const form = new FormData()
      form.set("file", new Blob(["kept"]), "note.txt")
      const encoded = new Response(form)
      const body = new Uint8Array(yield* Effect.promise(() => encoded.arrayBuffer()))
      const headers: HeaderList = [["content-type", encoded.headers.get("content-type") as string]]
      hub.down(route(1), get("/", { method: "POST", headers, body }))
      assert.strictEqual((yield* readAnswer(hub, route(1))).body.toString(), "kept")
    })
  )

  it.effect("every kind of response body is written, and cookies stay apart", () =>
    Effect.gen(function* () {
      const form = new FormData()
      form.set("a", "1")
      const kinds: Record<string, () => HttpServerResponse.HttpServerResponse> = {
        "/empty": () =>
          HttpServerResponse.empty({ status: 201, cookies: Cookies.fromSetCookie(["a=1; Path=/", "b=2; Secure"]) }),
        "/bytes": () => HttpServerResponse.uint8Array(bytes("bytes")),
        "/stream": () => HttpServerResponse.stream(Stream.make(bytes("one "), bytes("two"))),
        "/raw-text": () => HttpServerResponse.raw("raw"),
        "/raw-blob": () => HttpServerResponse.raw(new Blob(["blob"])),
        "/raw-web": () => HttpServerResponse.raw(new Response("web", { headers: { "x-web": "1" } })),
        "/raw-iterable": () => HttpServerResponse.raw(iterable(["it", "er"])),
        "/form": () => HttpServerResponse.formData(form)
      }
      const { hub } = yield* serve(
        handle((request) => Effect.sync(() => (kinds[request.url] as () => HttpServerResponse.HttpServerResponse)()))
      )
      const answers: Record<string, string> = {}
      let id = 0
      for (const url of Object.keys(kinds)) {
        hub.down(route(++id), get(url))
        const answer = yield* readAnswer(hub, route(id))
        assert.include([200, 201], answer.status)
        assert.notStrictEqual(answer.end._tag, "ResponseAbort")
        answers[url] = answer.body.toString()
        if (url === "/empty")
          assert.deepStrictEqual(value(answer.headers, "set-cookie"), ["a=1; Path=/", "b=2; Secure"])
        if (url === "/raw-web") assert.deepStrictEqual(value(answer.headers, "x-web"), ["1"])
        if (url === "/form")
          assert.match(value(answer.headers, "content-type")[0] as string, /^multipart\/form-data; boundary/)
      }
      assert.include(answers["/form"], 'name="a"')
      delete answers["/form"]
      assert.deepStrictEqual(answers, {
        "/empty": "",
        "/bytes": "bytes",
        "/stream": "one two",
        "/raw-text": "raw",
        "/raw-blob": "blob",
        "/raw-web": "web",
        "/raw-iterable": "iter"
      })
    })
  )

  it.effect("a small answer is one frame; HEAD and 204 have no body", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          Effect.succeed(request.url === "/204" ? HttpServerResponse.empty() : HttpServerResponse.text("hello"))
        )
      )
      hub.down(route(1), get("/"))
      assert.strictEqual((yield* readAnswer(hub, route(1))).frames.length, 1)
      hub.down(route(2), get("/", { method: "HEAD" }))
      const head = yield* readAnswer(hub, route(2))
      assert.strictEqual(head.body.length, 0)
      assert.deepStrictEqual(value(head.headers, "content-length"), ["5"])
      hub.down(route(3), get("/204"))
      assert.deepInclude(yield* readAnswer(hub, route(3)), { status: 204, body: Buffer.alloc(0) })
    })
  )

  it.effect("the head of a stream leaves before its first chunk", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle(() =>
          Effect.succeed(
            HttpServerResponse.stream(Stream.fromEffect(Effect.delay(Effect.succeed(bytes("late")), "20 seconds")))
          )
        )
      )
      hub.down(route(1), get("/"))
      assert.deepInclude(yield* hub.answer, { _tag: "ResponseStart", status: 200, streamed: true })
      yield* TestClock.adjust("20 seconds")
      const chunk = yield* hub.answer
      assert.strictEqual(chunk._tag === "ResponseChunk" ? text(chunk.body) : "", "late")
    })
  )

  it.effect("a body that fails, or falls short of its length, is broken off and never ended", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          Effect.succeed(
            request.url === "/fails"
              ? HttpServerResponse.stream(Stream.concat(Stream.make(bytes("some")), Stream.fail("broken")))
              : HttpServerResponse.stream(Stream.make(bytes("short")), { contentLength: 100 })
          )
        )
      )
      for (const [id, url] of [
        [1, "/fails"],
        [2, "/short"]
      ] as const) {
        hub.down(route(id), get(url))
        const answer = yield* readAnswer(hub, route(id))
        assert.strictEqual(answer.status, 200)
        assert.deepInclude(answer.end, { _tag: "ResponseAbort", code: "app_failed" })
      }
    })
  )

  it.effect("a visitor that grants nothing parks the app's stream after one window", () =>
    Effect.gen(function* () {
      let produced = 0
      const chunk = new Uint8Array(1000)
      const { hub } = yield* serve(
        handle(() =>
          Effect.succeed(
            HttpServerResponse.stream(
              Stream.forever(
                Stream.fromEffect(
                  Effect.sync(() => {
                    produced++
                    return chunk
                  })
                )
              )
            )
          )
        )
      )
      hub.down(route(1), get("/"))
      let received = 0
      while (received < limits.windowBytesInitial) {
        const frame = yield* hub.answer
        if (frame._tag === "ResponseChunk") received += frame.body.length
      }
      yield* settle
      const parkedAt = produced
      yield* settle
      assert.strictEqual(produced, parkedAt)
      assert.strictEqual(received, limits.windowBytesInitial)
      assert.isAtMost(produced * 1000, limits.windowBytesInitial + 1000)
      hub.down(route(1), { _tag: "Credit", bytes: 5_000 })
      yield* hub.answer
      hub.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
    })
  )

  it.effect("a visitor that leaves interrupts the handler, and nothing more is sent", () =>
    Effect.gen(function* () {
      const interrupted = yield* Deferred.make<boolean>()
      const { hub } = yield* serve(
        handle(() => Effect.onExit(Effect.never, (exit) => Deferred.succeed(interrupted, Exit.hasInterrupts(exit))))
      )
      hub.down(route(1), get("/"))
      yield* settle
      hub.down(route(1), { _tag: "RequestAbort", code: "cancelled" })
      assert.isTrue(yield* Deferred.await(interrupted))
      yield* settle
      assert.strictEqual(yield* Queue.size(hub.frames), 0)
    })
  )

  it.effect("a handler that dies is a 500, and the stream beside it goes on", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          request.url === "/dies" ? Effect.die("bug") : Effect.succeed(HttpServerResponse.text("fine"))
        )
      )
      hub.down(route(1), get("/dies"))
      hub.down(route(2), get("/"))
      assert.strictEqual((yield* readAnswer(hub, route(1))).status, 500)
      assert.strictEqual((yield* readAnswer(hub, route(2))).body.toString(), "fine")
    })
  )

  it.effect("a request that comes before anything is served waits for it", () =>
    Effect.gen(function* () {
      const hub = yield* makeFakeHub()
      const building = yield* TunnelHttpServer.make({ hubUrl: "ws://hub.test", name: "web", drain: 0 }).pipe(
        Effect.provide(hub.layer),
        Effect.provideService(References.MinimumLogLevel, "None"),
        Effect.forkScoped
      )
      const accepted = yield* hub.accept()
      const { server } = yield* Fiber.join(building)
      accepted.down(route(1), get("/"))
      yield* settle
      yield* server.serve(Effect.succeed(HttpServerResponse.text("now")))
      assert.strictEqual((yield* readAnswer(accepted, route(1))).body.toString(), "now")
    })
  )

  it.effect("an observer sees each request begin and end", () =>
    Effect.gen(function* () {
      const seen: Array<[ObservedRequest, ObservedEnd]> = []
      const observer = Layer.succeed(RunnerObserver, {
        started: () => {},
        ended: (request, end) => seen.push([request, end])
      })
      const { hub } = yield* serve(
        handle((request) =>
          request.url === "/slow"
            ? Effect.never
            : Effect.delay(
                Effect.map(request.text, () => HttpServerResponse.text("hello")),
                250
              )
        ),
        observer
      )
      hub.down(route(1), get("/a", { method: "POST", body: bytes("abc") }))
      yield* settle
      yield* TestClock.adjust(250)
      yield* readAnswer(hub, route(1))
      hub.down(route(2), get("/slow"))
      yield* settle
      hub.down(route(2), { _tag: "RequestAbort", code: "deadline" })
      yield* settle
      assert.deepInclude(seen[0]?.[0], { id: 1, kind: "request", method: "POST", target: "/a" })
      assert.deepStrictEqual(seen[0]?.[1], { status: 200, abort: undefined, durationMs: 250, bytesDown: 3, bytesUp: 5 })
      assert.deepInclude(seen[1]?.[1], { status: undefined, abort: { code: "deadline", message: "the visitor left" } })
    })
  )
})

describe("an Effect WebSocket served through the tunnel", () => {
  const echo: Handler = (request) =>
    Effect.gen(function* () {
      const socket = yield* request.upgrade
      const reader = yield* socket.reader
      const writer = yield* socket.writer
      yield* Effect.forever(Effect.flatMap(reader.pull, writer.writeAll)).pipe(Effect.ignore)
      return HttpServerResponse.empty()
    })

  const open = (hub: Accepted, headers: HeaderList = []) =>
    hub.down(route(1), { _tag: "WebSocketOpen", target: "/ws", headers })
  const say = (hub: Accepted, data: string, over: { readonly binary?: boolean; readonly finish?: boolean } = {}) =>
    hub.down(route(1), { _tag: "WebSocketMessage", data: bytes(data), binary: false, finish: true, ...over })

  it.effect("messages pass both ways, text as text and bytes as bytes, fragments put together", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(handle(echo))
      open(hub, [["sec-websocket-protocol", "chat.v2, chat.v1"]])
      assert.deepStrictEqual(yield* hub.answer, {
        _tag: "WebSocketOpen",
        headers: [["sec-websocket-protocol", "chat.v2"]],
        canHibernate: false
      })
      say(hub, "hi")
      assert.deepInclude(yield* hub.answer, { _tag: "WebSocketMessage", binary: false, finish: true })
      say(hub, "bytes", { binary: true })
      assert.deepInclude(yield* hub.answer, { binary: true })
      say(hub, "one ", { finish: false })
      say(hub, "two")
      const whole = yield* hub.answer
      assert.strictEqual(whole._tag === "WebSocketMessage" ? text(whole.data) : "", "one two")
    })
  )

  it.effect("the visitor's close reaches the app with code and reason, after what came before it", () =>
    Effect.gen(function* () {
      const got = yield* Queue.unbounded<unknown>()
      const { hub } = yield* serve(
        handle((request) =>
          Effect.gen(function* () {
            const reader = yield* (yield* request.upgrade).reader
            yield* Effect.forever(Effect.flatMap(reader.pull, (messages) => Queue.offer(got, messages))).pipe(
              Effect.catch((error) => Queue.offer(got, error.reason))
            )
            return HttpServerResponse.empty()
          })
        )
      )
      open(hub)
      yield* hub.answer
      say(hub, "last")
      hub.down(route(1), { _tag: "WebSocketClose", code: 4007, reason: "enough" })
      assert.deepStrictEqual(yield* Queue.take(got), ["last"])
      assert.deepInclude(yield* Queue.take(got), { _tag: "SocketCloseError", code: 4007, closeReason: "enough" })
    })
  )

  it.effect("the app closes with its own code, or with 1000 when it returns, or 1011 when it fails", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle((request) =>
          Effect.gen(function* () {
            const socket = yield* request.upgrade
            const writer = yield* socket.writer
            yield* Effect.scoped(
              Effect.gen(function* () {
                yield* socket.reader
                if (request.headers["x-end"] === "own") yield* writer.write(new Socket.CloseEvent(4100, "mine"))
                if (request.headers["x-end"] === "fails") return yield* Effect.die("bug")
              })
            )
            return HttpServerResponse.empty()
          })
        )
      )
      const closeOf = Effect.fnUntraced(function* (id: number, end: string) {
        hub.down(route(id), { _tag: "WebSocketOpen", target: "/", headers: [["x-end", end]] })
        yield* hub.answer
        const frame = yield* hub.answer
        return frame._tag === "WebSocketClose" ? [frame.code, frame.reason] : frame._tag
      })
      assert.deepStrictEqual(yield* closeOf(1, "own"), [4100, "mine"])
      assert.deepStrictEqual(yield* closeOf(2, "returns"), [1000, ""])
      assert.deepStrictEqual(yield* closeOf(3, "fails"), [1011, ""])
    })
  )

  it.effect("an app that answers instead of accepting refuses with its answer", () =>
    Effect.gen(function* () {
      const { hub } = yield* serve(
        handle(() => Effect.succeed(HttpServerResponse.text("members only", { status: 403 })))
      )
      open(hub)
      const answer = yield* readAnswer(hub, route(1))
      assert.deepInclude(answer, { status: 403, body: Buffer.from("members only") })
    })
  )

  it.effect("a writer waits for a slow visitor, and two writers do not mix their messages", () =>
    Effect.gen(function* () {
      let written = 0
      const size = limits.windowBytesInitial
      const { hub } = yield* serve(
        handle((request) =>
          Effect.gen(function* () {
            const socket = yield* request.upgrade
            const writer = yield* socket.writer
            const write = (fill: number) =>
              Effect.andThen(
                writer.write(new Uint8Array(size).fill(fill)),
                Effect.sync(() => written++)
              )
            yield* Effect.all([write(1), write(2), write(3)], { concurrency: "unbounded" })
            return HttpServerResponse.empty()
          })
        )
      )
      open(hub)
      yield* hub.answer
      const message = Effect.gen(function* () {
        const fills = new Set<number>()
        while (true) {
          const frame = yield* hub.answer
          assert(frame._tag === "WebSocketMessage")
          for (const byte of frame.data) fills.add(byte)
          if (frame.finish) return [...fills]
        }
      })
      assert.deepStrictEqual(yield* message, [1])
      yield* settle
      assert.strictEqual(written, 1)
      assert.strictEqual(yield* Queue.size(hub.frames), 0)
      hub.down(route(1), { _tag: "Credit", bytes: 2 * size })
      assert.deepStrictEqual([yield* message, yield* message], [[2], [3]])
      assert.deepInclude(yield* hub.answer, { _tag: "WebSocketClose", code: 1000 })
    })
  )
})

const iterable = (pieces: ReadonlyArray<string>): AsyncIterable<string> => ({
  [Symbol.asyncIterator]: () => {
    const rest = [...pieces]
    return {
      next: () => {
        const value = rest.shift()
        return Promise.resolve(value === undefined ? { done: true, value: "" } : { done: false, value })
      }
    }
  }
})

/** Lets every fiber that can run do so: nothing here waits for a real socket. */
const settle = Effect.replicateEffect(Effect.yieldNow, 10, { discard: true })
