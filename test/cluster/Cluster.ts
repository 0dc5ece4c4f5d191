/** A cluster of real processes on this machine: `serve` on a shared NATS, runners that know every hub, and what its gauges say. */
import { Effect } from "effect"
import * as Command from "../cli/CommandProcess.ts"
import * as Processes from "../journey/Processes.ts"

/** A runner for the app, ready when this returns. It knows all hubs, and begins with any. */
export const expose = Effect.fnUntraced(function* (appPort: number, hubPorts: ReadonlyArray<number>, name: string) {
  const hubs = hubPorts.map((port) => `ws://127.0.0.1:${port}`).join(",")
  const process = yield* Command.start(["expose", String(appPort), "--name", name, "--hub", hubs])
  yield* process.said(/ -> http:/)
  return process
})

/** Succeeds where a process says that it is ready. */
export const ready = (adminPort: number) =>
  Effect.flatMap(Processes.fetch(adminPort, { path: "/health/ready", host: "127.0.0.1" }), ({ status, text }) =>
    status === 200 ? Effect.void : Effect.fail(new Error(text))
  )

const gauges = [
  ["wayleave_hub_open_streams", ""],
  ["wayleave_hub_routes", '{state="open"}'],
  ["wayleave_hub_routes", '{state="closing"}'],
  ["wayleave_gateway_in_flight", ""]
] as const

/** Succeeds where a process holds no stream and no open route, as hub and as gateway. */
export const atRest = Effect.fnUntraced(function* (adminPort: number) {
  const values = yield* Effect.all(gauges.map(([name, labels]) => Processes.metric(adminPort, name, labels)))
  if (values.every((value) => value === 0)) return
  const named = gauges.map(([name, labels], i) => `${name}${labels} ${values[i]}`)
  return yield* Effect.fail(new Error(named.join(", ")))
})
