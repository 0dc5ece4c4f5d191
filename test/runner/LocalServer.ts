/** A local app on port 0, a runner that forwards to it, and a hub that the test speaks for. */
import * as http from "node:http"
import { Effect, Layer, References } from "effect"
import { WebSocketServer } from "ws"
import type { UpFrame } from "../../src/protocol/Wayleave1.ts"
import * as LocalForward from "../../src/runner/LocalForward.ts"
import type { Target } from "../../src/runner/LocalTarget.ts"
import * as Runner from "../../src/runner/Runner.ts"
import { layerDialer } from "../../src/socket/WsSocket.ts"
import type { RouteKey } from "../../src/tunnel/Envelope.ts"
import { bodyBytes, type HeaderList, type ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { listen } from "../socket/Loopback.ts"
import { type Accepted, makeFakeHub } from "./FakeHub.ts"

/** An app of plain Node. */
export const serve = (handler: http.RequestListener) => listen(http.createServer(handler))

/** An app that takes WebSockets. */
export const serveWebSockets = (onServer: (wss: WebSocketServer, server: http.Server) => void) => {
  const server = http.createServer()
  const wss = new WebSocketServer({ server, maxPayload: limits.messageBytesMax })
  onServer(wss, server)
  return Effect.andThen(
    Effect.addFinalizer(() =>
      Effect.sync(() => {
        for (const client of wss.clients) client.terminate()
      })
    ),
    listen(server)
  )
}

/** A runner in front of `port`, connected. */
export const forward = Effect.fnUntraced(function* (port: number, over: Partial<Target> = {}) {
  const hub = yield* makeFakeHub()
  const target: Target = { protocol: "http:", host: "127.0.0.1", port, ...over }
  yield* Layer.build(
    Runner.layer({ hubUrl: "ws://hub.test", name: "web", drain: 0 }).pipe(
      Layer.provide(LocalForward.layer(target).pipe(Layer.provide(layerDialer))),
      Layer.provide(hub.layer),
      Layer.provide(Layer.succeed(References.MinimumLogLevel, "None"))
    )
  ).pipe(Effect.forkScoped)
  return yield* hub.accept()
})

/** What came of one request. */
export interface Answer {
  readonly frames: ReadonlyArray<ResponseFrame>
  readonly status: number | undefined
  readonly headers: HeaderList
  readonly body: Buffer
  readonly end: ResponseFrame
}

/** Reads an answer to its end, granting what it reads as a visitor that keeps up. */
export const readAnswer = Effect.fnUntraced(function* (hub: Accepted, route: RouteKey) {
  const frames: Array<ResponseFrame> = []
  const chunks: Array<Uint8Array> = []
  let status: number | undefined
  let headers: HeaderList = []
  while (true) {
    const { frame }: UpFrame = yield* hub.next
    if (frame._tag === "Credit") continue
    frames.push(frame)
    const bytes = bodyBytes(frame)
    if (bytes > 0) hub.down(route, { _tag: "Credit", bytes })
    if (frame._tag === "ResponseStart") {
      status = frame.status
      headers = frame.headers
      chunks.push(frame.body)
    } else if (frame._tag === "ResponseChunk") chunks.push(frame.body)
    const last =
      (frame._tag === "ResponseStart" && !frame.streamed) ||
      (frame._tag === "ResponseChunk" && frame.finish) ||
      frame._tag === "ResponseTrailers" ||
      frame._tag === "ResponseAbort"
    if (last) return { frames, status, headers, body: Buffer.concat(chunks), end: frame } as Answer
  }
})
