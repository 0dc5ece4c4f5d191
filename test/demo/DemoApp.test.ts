import { createHash } from "node:crypto"
import { createServer } from "node:http"
import { NodeHttpClient, NodeHttpServer } from "@effect/platform-node"
import { assert, describe, layer } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { HttpClient, HttpClientRequest, HttpRouter, HttpServer } from "effect/http"
import * as NetAddress from "effect/net/NetAddress"
import { WebSocket } from "ws"
import * as DemoApp from "../../src/demo/DemoApp.ts"

const Live = HttpRouter.serve(DemoApp.routes, { disableLogger: true, disableListenLog: true }).pipe(
  Layer.provideMerge(NodeHttpServer.layer(createServer, { port: 0, host: "127.0.0.1" })),
  Layer.provideMerge(NodeHttpClient.layerUndici)
)

const origin = Effect.map(HttpServer.HttpServer, ({ address }) =>
  NetAddress.isUnixPathAddress(address) ? "" : `127.0.0.1:${address.port}`
)

describe("the demo app", () => {
  layer(Live, { excludeTestServices: true })((it) => {
    it.effect("serves its page", () =>
      Effect.gen(function* () {
        const response = yield* HttpClient.get(`http://${yield* origin}/`)
        assert.strictEqual(response.headers["content-type"], "text/html; charset=utf-8")
        assert.include(yield* response.text, "You came in through the tunnel")
      })
    )

    it.effect("begins its event stream at once and goes on", () =>
      Effect.gen(function* () {
        const response = yield* HttpClient.get(`http://${yield* origin}/events`)
        const text = yield* response.stream.pipe(
          Stream.decodeText(),
          Stream.takeUntil((part) => part.includes("id: 1\n")),
          Stream.mkString
        )
        assert.match(text, /^id: 0\ndata: \{"tick":0,"sentAtMs":[0-9]+\}\n\nid: 1\n/)
      })
    )

    it.effect("hashes an upload", () =>
      Effect.gen(function* () {
        const body = new Uint8Array(300_000).map((_, i) => i)
        const request = HttpClientRequest.post(`http://${yield* origin}/upload`).pipe(
          HttpClientRequest.bodyUint8Array(body)
        )
        const response = yield* HttpClient.execute(request)
        assert.deepStrictEqual(yield* response.json, {
          bytes: body.length,
          sha256: createHash("sha256").update(body).digest("hex")
        })
      })
    )

    for (const bytes of [0, 1, 65_536, 65_537, 1_000_003]) {
      it.effect(`sends a download of ${bytes} bytes, each the one it should be`, () =>
        Effect.gen(function* () {
          const response = yield* HttpClient.get(`http://${yield* origin}/download?bytes=${bytes}`)
          const body = new Uint8Array(yield* response.arrayBuffer)
          assert.strictEqual(response.headers["content-length"], String(bytes))
          assert.strictEqual(body.length, bytes)
          assert.isTrue(body.every((byte, i) => byte === i % 251))
        })
      )
    }

    it.effect("refuses a download of nonsense", () =>
      Effect.gen(function* () {
        for (const bytes of ["-1", "x", "1.5", "99999999999999"]) {
          const response = yield* HttpClient.get(`http://${yield* origin}/download?bytes=${bytes}`)
          assert.strictEqual(response.status, 400, bytes)
        }
      })
    )

    it.effect("echoes text as text and binary as binary", () =>
      Effect.gen(function* () {
        const url = `ws://${yield* origin}/echo`
        const got = yield* Effect.callback<ReadonlyArray<readonly [string, boolean]>, Error>((resume) => {
          const messages: Array<readonly [string, boolean]> = []
          const ws = new WebSocket(url)
          ws.on("error", (error) => resume(Effect.fail(error)))
          ws.on("open", () => {
            ws.send("hello")
            ws.send(Buffer.from("bytes"))
          })
          ws.on("message", (data, binary) => {
            messages.push([String(data), binary])
            if (messages.length === 2) ws.close(1000)
          })
          ws.on("close", () => resume(Effect.succeed(messages)))
        })
        assert.deepStrictEqual(got, [
          ["hello", false],
          ["bytes", true]
        ])
      })
    )
  })
})
