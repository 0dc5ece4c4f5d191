/**
 * A host program as a user of Rivet writes one, around the published client of npm, unmodified: run as a process of its own with the hub's address
 * and a runner name. It says on standard output, a JSON object a line, what its client tells it.
 *
 * Over HTTP: /echo, /bytes?n=N, /headers, /info, /kv (a JSON request in the body), /alarm?ms=N, /sleep, /stop, /destroy, /slow?ms=N, /seen. As a WebSocket it
 * echoes; under /hibernate the socket outlives its actor, and every message is kept in the actor's store before it is acknowledged.
 */
import { createHash } from "node:crypto"
import { type HibernatingWebSocketMetadata, Runner } from "@rivetkit/engine-runner"

const [endpoint = "", name = "", options = "{}"] = process.argv.slice(2)
const { token, totalSlots, version } = JSON.parse(options) as {
  readonly token?: string
  readonly totalSlots?: number
  readonly version?: number
}

const say = (event: string, facts: Readonly<Record<string, unknown>> = {}) => {
  process.stdout.write(`${JSON.stringify({ event, ...facts })}\n`)
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
const bytesOf = (text: string) => Uint8Array.from(Buffer.from(text, "base64"))
const textOf = (bytes: Uint8Array | ArrayBuffer) => Buffer.from(bytes as Uint8Array).toString("base64")
const json = (value: unknown) => Response.json(value)

/** One stored socket. Ids as base64. */
interface Stored {
  readonly gatewayId: string
  readonly requestId: string
  readonly path: string
  readonly headers: Record<string, string>
  readonly received: number
}

const socketKey = (gatewayId: ArrayBuffer, requestId: ArrayBuffer) =>
  encoder.encode(`socket/${textOf(new Uint8Array(gatewayId))}/${textOf(new Uint8Array(requestId))}`)
const seenPrefix = encoder.encode("seen/")

const generations = new Map<string, number>()

/** Writes of one generation to its actor's store, in order: an ack must not overtake the write before it, nor follow one that failed. */
class Writes {
  private last = Promise.resolve()
  private closed = false

  /** Not once the actor is told to stop: what is not written is not acknowledged, and comes again. */
  push(write: () => Promise<void>): void {
    if (this.closed) return
    this.last = this.last.then(write).catch((error) => {
      this.closed = true
      say("write failed", { error: String(error) })
    })
  }

  /** The client lets a question that was under way when its socket broke wait for half a minute: this one is asked again, and means the same each time. */
  async kept(put: () => Promise<void>): Promise<void> {
    for (let done = false; !done; ) {
      const late = new Promise<boolean>((resolve) => setTimeout(resolve, 2_000, this.closed))
      done = await Promise.race([put().then(() => true), late]).catch((error) => {
        if (this.closed) throw error
        return false
      })
    }
  }

  end(): Promise<void> {
    this.closed = true
    return this.last
  }
}
const writes = new Map<string, Writes>()

interface KvCall {
  readonly op: string
  readonly keys?: ReadonlyArray<string>
  readonly entries?: ReadonlyArray<readonly [string, string]>
  readonly start?: string
  readonly end?: string
  readonly prefix?: string
  readonly exclusive?: boolean
  readonly reverse?: boolean
  readonly limit?: number
}

const kv = async (runner: Runner, actorId: string, call: KvCall): Promise<unknown> => {
  const listed = (entries: ReadonlyArray<readonly [Uint8Array, Uint8Array]>) =>
    entries.map(([key, value]) => [textOf(key), textOf(value)])
  const range = {
    ...(call.reverse === undefined ? {} : { reverse: call.reverse }),
    ...(call.limit === undefined ? {} : { limit: call.limit })
  }
  const keys = (call.keys ?? []).map(bytesOf)
  const start = bytesOf(call.start ?? "")
  const end = bytesOf(call.end ?? "")
  switch (call.op) {
    case "get":
      return (await runner.kvGet(actorId, keys)).map((value) => (value === null ? null : textOf(value)))
    case "put":
      return runner.kvPut(
        actorId,
        (call.entries ?? []).map(([key, value]): [Uint8Array, Uint8Array] => [bytesOf(key), bytesOf(value)])
      )
    case "delete":
      return runner.kvDelete(actorId, keys)
    case "deleteRange":
      return runner.kvDeleteRange(actorId, start, end)
    case "drop":
      return runner.kvDrop(actorId)
    case "all":
      return listed(await runner.kvListAll(actorId, range))
    case "range":
      return listed(await runner.kvListRange(actorId, start, end, call.exclusive ?? false, range))
    case "prefix":
      return listed(await runner.kvListPrefix(actorId, bytesOf(call.prefix ?? ""), range))
    default:
      throw new Error(`no such operation: ${call.op}`)
  }
}

const answer = async (runner: Runner, actorId: string, request: Request): Promise<Response> => {
  const { pathname, searchParams } = new URL(request.url)
  const ms = Number(searchParams.get("ms"))
  switch (pathname) {
    case "/echo": {
      const body = new Uint8Array(await request.arrayBuffer())
      const sha256 = createHash("sha256").update(body).digest("hex")
      return new Response(body, { headers: { "x-sha256": sha256, "x-bytes": String(body.length) } })
    }
    case "/bytes":
      return new Response(new Uint8Array(Number(searchParams.get("n"))).fill(7))
    case "/headers":
      return json([...request.headers])
    case "/info":
      return json({ actorId, generation: generations.get(actorId), pid: process.pid })
    case "/kv":
      try {
        return json({ value: (await kv(runner, actorId, (await request.json()) as KvCall)) ?? null })
      } catch (error) {
        return json({ error: String(error) })
      }
    case "/seen": {
      const entries = await runner.kvListPrefix(actorId, seenPrefix)
      return json(entries.map(([, value]) => decoder.decode(value)))
    }
    case "/alarm":
      runner.setAlarm(actorId, Date.now() + ms)
      return json({})
    case "/sleep":
      runner.sleepActor(actorId)
      return json({})
    case "/stop":
      void runner.stopActor(actorId)
      return json({})
    case "/destroy":
      runner.destroyActor(actorId)
      return json({})
    case "/slow":
      await new Promise((resolve) => setTimeout(resolve, ms))
      return json({ slept: ms })
    case "/throw":
      throw new Error("as asked")
    default:
      return new Response(`nothing at ${pathname}`, { status: 404 })
  }
}

/** Counts what came over each socket, so that its place is kept across restarts of the actor. */
let arrivals = 0

const runner: Runner = new Runner({
  version: version ?? 1,
  endpoint,
  namespace: "default",
  totalSlots: totalSlots ?? 1_000,
  runnerName: name,
  ...(token === undefined ? {} : { token }),
  prepopulateActorNames: { [name]: { metadata: { made: "by the test" } } },
  metadata: { kind: "test" },
  onConnected: () => say("connected", { runnerId: runner.runnerId }),
  onDisconnected: (code, reason) => say("disconnected", { code, reason }),
  onShutdown: () => say("shutdown"),
  fetch: (self, actorId, _gatewayId, _requestId, request) => answer(self, actorId, request),
  hibernatableWebSocket: { canHibernate: (_actorId, _gatewayId, _requestId, request) => isHibernating(request.url) },
  websocket: (self, actorId, ws, gatewayId, requestId, _request, path, headers, isHibernatable, isRestoring) => {
    say("socket", { actorId, path, isHibernatable, isRestoring })
    const key = socketKey(gatewayId, requestId)
    const own = writes.get(actorId) ?? new Writes()
    const store = (received: number) => {
      const stored: Stored = {
        gatewayId: textOf(new Uint8Array(gatewayId)),
        requestId: textOf(new Uint8Array(requestId)),
        path,
        headers,
        received
      }
      return encoder.encode(JSON.stringify(stored))
    }
    if (isHibernatable && !isRestoring) own.push(() => self.kvPut(actorId, [[key, store(0)]]))
    ws.addEventListener("message", (event: { data: string | ArrayBuffer; rivetMessageIndex?: number }) => {
      const { data } = event
      if (typeof data === "string" && data.startsWith("close:")) {
        const [, code, reason] = data.split(":")
        ws.close(Number(code), reason)
        return
      }
      if (!isHibernatable) return ws.send(typeof data === "string" ? `echo:${data}` : data)
      const index = event.rivetMessageIndex ?? 0
      const place = encoder.encode(`seen/${String(arrivals++).padStart(12, "0")}/${process.pid}`)
      const text = typeof data === "string" ? data : decoder.decode(data)
      own.push(async () => {
        await own.kept(() =>
          self.kvPut(actorId, [
            [key, store(index)],
            [place, encoder.encode(text)]
          ])
        )
        self.sendHibernatableWebSocketMessageAck(gatewayId, requestId, index)
        ws.send(`kept:${text}`)
      })
    })
    ws.addEventListener("close", (event: { code: number; reason: string }) => {
      say("closed", { actorId, path, code: event.code, reason: event.reason })
      if (isHibernatable) own.push(() => self.kvDelete(actorId, [key]))
    })
    return Promise.resolve()
  },
  onActorStart: async (actorId, generation) => {
    generations.set(actorId, generation)
    writes.set(actorId, new Writes())
    say("started", { actorId, generation })
    const sockets = await runner.kvListPrefix(actorId, encoder.encode("socket/"))
    const known = await runner.kvListPrefix(actorId, seenPrefix)
    arrivals = Math.max(arrivals, known.length)
    const entries: Array<HibernatingWebSocketMetadata> = sockets.map(([, value]) => {
      const stored = JSON.parse(decoder.decode(value)) as Stored
      return {
        gatewayId: bytesOf(stored.gatewayId).buffer as ArrayBuffer,
        requestId: bytesOf(stored.requestId).buffer as ArrayBuffer,
        path: stored.path,
        headers: stored.headers,
        clientMessageIndex: 0,
        serverMessageIndex: stored.received
      }
    })
    await runner.restoreHibernatingRequests(actorId, entries)
    say("ready", { actorId, generation, restored: entries.length })
  },
  onActorStop: async (actorId, generation) => {
    await writes.get(actorId)?.end()
    say("stopped", { actorId, generation })
  }
})

const isHibernating = (url: string) => new URL(url).pathname.startsWith("/hibernate")

process.on("unhandledRejection", (error) => say("unhandled rejection", { error: String(error) }))
await runner.start()
