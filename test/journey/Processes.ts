/** `wayleave serve` and `wayleave expose` as processes of their own, and the small HTTP client that journeys use: it sees broken transfers as errors. */
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { type Agent, type IncomingMessage, type RequestOptions, request } from "node:http"
import { createServer, connect as netConnect, type Socket } from "node:net"
import { Effect } from "effect"
import { WebSocket } from "ws"
import * as Command from "../cli/CommandProcess.ts"
import { join, listen } from "../socket/Loopback.ts"

export interface Serving extends Command.CommandProcess {
  readonly port: number
  readonly adminPort: number
}

/** A hub and gateway on free ports, or on the given one; with a NATS server, one of those that share it. */
export const serve = Effect.fnUntraced(function* (port = 0, nats?: string, args: ReadonlyArray<string> = []) {
  const shared = nats === undefined ? [] : ["--nats", nats]
  const process = yield* Command.start(["serve", "--port", String(port), "--admin-port", "0", ...shared, ...args])
  const listening = yield* process.said(/listening on http:\/\/127\.0\.0\.1:(\d+)/)
  const admin = yield* process.said(/metrics on http:\/\/127\.0\.0\.1:(\d+)/)
  const serving: Serving = { ...process, port: Number(listening[1]), adminPort: Number(admin[1]) }
  return serving
})

/** A runner for a local port, ready when this returns. */
export const expose = Effect.fnUntraced(function* (target: number, hubPort: number, name = "web") {
  const process = yield* Command.start(["expose", String(target), "--name", name, "--hub", `ws://127.0.0.1:${hubPort}`])
  yield* process.said(/ -> http:/)
  return process
})

export interface Answer {
  readonly status: number
  readonly headers: IncomingMessage["headers"]
  readonly bytes: number
  readonly sha256: string
  readonly text: string
}

export interface FetchOptions {
  readonly path?: string
  readonly method?: string
  readonly host?: string
  readonly body?: Iterable<Uint8Array>
  readonly headers?: Readonly<Record<string, string>>
  readonly agent?: Agent
  /** Called for each chunk before the next is read; may return when to go on. */
  readonly onChunk?: (bytes: number) => Promise<void> | undefined
}

export const host = "web.localhost"

/** One request. Fails where the transfer breaks before its end. */
export const fetch = (port: number, options: FetchOptions = {}): Effect.Effect<Answer, Error> =>
  Effect.callback((resume) => {
    const requestOptions: RequestOptions = {
      host: "127.0.0.1",
      port,
      path: options.path ?? "/",
      method: options.method ?? "GET",
      headers: { host: options.host ?? host, ...options.headers },
      agent: options.agent ?? false
    }
    const outgoing = request(requestOptions, async (response) => {
      const hash = createHash("sha256")
      let bytes = 0
      let text = ""
      try {
        for await (const chunk of response as AsyncIterable<Buffer>) {
          hash.update(chunk)
          bytes += chunk.length
          if (bytes < 100_000) text += chunk.toString()
          const wait = options.onChunk?.(bytes)
          if (wait !== undefined) await wait
        }
        resume(
          Effect.succeed({
            status: response.statusCode ?? 0,
            headers: response.headers,
            bytes,
            sha256: hash.digest("hex"),
            text
          })
        )
      } catch (error) {
        resume(Effect.fail(error as Error))
      }
    })
    outgoing.on("error", (error) => resume(Effect.fail(error)))
    const pieces = options.body?.[Symbol.iterator]()
    const more = () => {
      for (;;) {
        const piece = pieces?.next()
        if (piece === undefined || piece.done) return void outgoing.end()
        if (!outgoing.write(piece.value)) return void outgoing.once("drain", more)
      }
    }
    more()
    return Effect.sync(() => void outgoing.destroy())
  })

/** Opens a visitor's WebSocket and waits for the handshake. */
export const openWebSocket = (port: number, path = "/", protocols: ReadonlyArray<string> = [], at = host) =>
  Effect.acquireRelease(
    Effect.callback<WebSocket, Error>((resume) => {
      const ws = new WebSocket(`ws://127.0.0.1:${port}${path}`, [...protocols], {
        headers: { host: at },
        perMessageDeflate: false,
        maxPayload: 64 * 1024 * 1024
      })
      ws.once("open", () => resume(Effect.succeed(ws)))
      ws.once("error", (error) => resume(Effect.fail(error)))
    }),
    (ws) => Effect.sync(() => ws.terminate())
  )

/** The next message. */
export const nextMessage = (ws: WebSocket) =>
  Effect.callback<{ readonly data: Buffer; readonly binary: boolean }, Error>((resume) => {
    const onMessage = (data: unknown, binary: boolean) => {
      ws.off("close", onClose)
      resume(Effect.succeed({ data: data as Buffer, binary }))
    }
    const onClose = (code: number) => {
      ws.off("message", onMessage)
      resume(Effect.fail(new Error(`closed with ${code}`)))
    }
    ws.once("message", onMessage)
    ws.once("close", onClose)
  })

/** How it closed. */
export const closed = (ws: WebSocket) =>
  Effect.callback<readonly [number, string]>((resume) => {
    ws.once("close", (code, reason) => resume(Effect.succeed([code, reason.toString()] as const)))
  })

/** Resident memory of a process, in bytes. */
export const residentBytes = (pid: number | undefined): number =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024

/** Open file descriptors of a process that are sockets. */
export const openSockets = (pid: number | undefined): number => readdirSync(`/proc/${pid}/fd`).length

/** A number from the metrics page; labels select one line. */
export const metric = Effect.fnUntraced(function* (adminPort: number, name: string, labels = "") {
  const page = yield* fetch(adminPort, { path: "/metrics", host: "127.0.0.1" })
  const line = page.text.split("\n").find((one) => one.startsWith(`${name}${labels}`) && !one.startsWith("#"))
  return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ") + 1))
})

/** Tries until it succeeds or the time is over; returns how long it took, in milliseconds. */
export const within = <A, E>(ms: number, effect: Effect.Effect<A, E>): Effect.Effect<readonly [number, A], E | Error> =>
  Effect.suspend(() => {
    const start = performance.now()
    const again: Effect.Effect<A, E> = effect.pipe(
      Effect.catch((error) =>
        performance.now() - start > ms ? Effect.fail(error) : Effect.andThen(Effect.sleep(20), again)
      )
    )
    return Effect.map(again, (value) => [performance.now() - start, value] as const)
  })

/** A TCP relay between runner and hub that can be cut: every connection breaks, and none is taken while it is down. */
export const relay = Effect.fnUntraced(function* (targetPort: number) {
  const open = new Set<Socket>()
  let down = false
  const server = createServer((near) => {
    if (down) return void near.resetAndDestroy()
    const far = netConnect(targetPort, "127.0.0.1")
    join(near, far, open)
  })
  const port = yield* listen(server, () => {
    for (const socket of open) socket.destroy()
  })
  return {
    port,
    setDown: (value: boolean) =>
      Effect.sync(() => {
        down = value
        if (value) for (const socket of open) socket.resetAndDestroy()
      })
  }
})
