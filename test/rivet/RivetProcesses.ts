/** Rivet's published client in a process of its own (`RivetApp.ts`), and visitors of its actors. */
import { fileURLToPath } from "node:url"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocket } from "ws"
import * as Command from "../cli/CommandProcess.ts"
import * as Processes from "../journey/Processes.ts"

const app = fileURLToPath(new URL("RivetApp.ts", import.meta.url))

export interface RivetAppOptions {
  readonly token?: string
  readonly totalSlots?: number
  readonly version?: number
}

export type RivetProcess = Command.CommandProcess

/** Starts a runner of that name against the hub on that port; connected when this returns. */
export const startApp = Effect.fnUntraced(function* (port: number, name: string, options: RivetAppOptions = {}) {
  const args = [app, `http://127.0.0.1:${port}`, name, JSON.stringify(options)]
  const process = yield* Command.launch(globalThis.process.execPath, args, { LOG_LEVEL: "silent" })
  yield* process.said(/"event":"connected"/)
  return process
})

/** Everything the runner said happened, in order. */
export const happenings = (
  process: RivetProcess
): ReadonlyArray<Record<string, unknown> & { readonly event: string }> =>
  process
    .output()
    .split("\n")
    .filter((line) => line.startsWith("{"))
    .map((line) => JSON.parse(line))

/** Asks an actor, or any other address of the hub's own host. */
export const ask = (port: number, path: string, options: Omit<Processes.FetchOptions, "path" | "host"> = {}) =>
  Processes.fetch(port, { ...options, path, host: `127.0.0.1:${port}` })

const jsonBody = (value: unknown) => [Buffer.from(JSON.stringify(value))]

/** Calls the actor API. */
export const call = (port: number, method: string, path: string, body?: unknown) =>
  Effect.map(
    Processes.fetch(port, {
      path,
      method,
      host: `127.0.0.1:${port}`,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      ...(body === undefined ? {} : { body: jsonBody(body) })
    }),
    (answer) => ({ ...answer, json: answer.text === "" ? null : JSON.parse(answer.text) })
  )

export interface CreateOptions {
  readonly key?: string
  readonly crash_policy?: "restart" | "sleep" | "destroy"
}

/** Creates an actor of this runner name and returns its id. */
export const createActor = Effect.fnUntraced(function* (port: number, name: string, options: CreateOptions = {}) {
  const answer = yield* call(port, "POST", "/actors?namespace=default", {
    name,
    runner_name_selector: name,
    crash_policy: "sleep",
    ...options
  })
  assert.strictEqual(answer.status, 200, answer.text)
  return answer.json.actor.actor_id as string
})

/** One actor as the API shows it. */
export const actorOf = (port: number, id: string) =>
  Effect.map(call(port, "GET", `/actors?namespace=default&actor_ids=${id}`), ({ json }) => json.actors[0])

/** Performs one operation on the actor's store, through its own client. */
export const kv = (port: number, id: string, operation: Readonly<Record<string, unknown>>) =>
  Effect.map(
    Processes.fetch(port, {
      path: `/gateway/${id}/kv`,
      method: "POST",
      host: `127.0.0.1:${port}`,
      body: jsonBody(operation)
    }),
    ({ status, text }) => {
      assert.strictEqual(status, 200, text)
      return JSON.parse(text) as { readonly value?: unknown; readonly error?: string }
    }
  )

/** A visitor's WebSocket to an actor, as Rivet's clients open one, and everything it received. */
export const openSocket = Effect.fnUntraced(function* (port: number, id: string, path = "/") {
  const ws = yield* Effect.acquireRelease(
    Effect.callback<WebSocket, Error>((resume) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/gateway/${id}${path}`, ["rivet"], {
        perMessageDeflate: false,
        maxPayload: 64 * 1024 * 1024
      })
      socket.once("open", () => resume(Effect.succeed(socket)))
      socket.once("error", (error) => resume(Effect.fail(error)))
    }),
    (socket) => Effect.sync(() => socket.terminate())
  )
  const received: Array<string> = []
  let closed: readonly [number, string] | undefined
  ws.on("message", (data) => received.push(String(data)))
  ws.on("close", (code, reason) => {
    closed = [code, String(reason)]
  })
  return {
    ws,
    received,
    closed: () => closed,
    send: (text: string) => Effect.sync(() => ws.send(text)),
    /** Waits until `count` messages came in all. */
    count: (count: number, ms = 10_000) =>
      Processes.within(
        ms,
        Effect.suspend(() => {
          if (received.length >= count) return Effect.void
          const state = closed === undefined ? "" : `, closed with ${closed.join(" ")}`
          return Effect.fail(new Error(`${received.length} of ${count} messages${state}`))
        })
      )
  }
})

/** Until it holds, or it fails with what was last seen. */
export const eventually = <A>(what: Effect.Effect<A, Error>, holds: (value: A) => boolean, ms = 10_000) =>
  Effect.map(
    Processes.within(
      ms,
      Effect.flatMap(what, (value) =>
        holds(value) ? Effect.succeed(value) : Effect.fail(new Error(`still ${JSON.stringify(value)}`))
      )
    ),
    ([, value]) => value
  )

/** The counters that a well-behaved client must never move. */
export const refusals = Effect.fnUntraced(function* (adminPort: number) {
  const unknown = yield* Processes.metric(adminPort, "wayleave_hub_frames_refused_total", '{reason="unknown"}')
  const foreign = yield* Processes.metric(adminPort, "wayleave_hub_frames_refused_total", '{reason="foreign"}')
  return { unknown, foreign }
})

/** What visitors' messages a gateway still keeps for an acknowledgement, in bytes. */
export const unacknowledged = (adminPort: number) =>
  Processes.metric(adminPort, "wayleave_gateway_unacknowledged_bytes", "")
