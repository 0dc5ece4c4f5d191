/** All processes of a cluster are restarted, one after the other, while visitors come through a load balancer. */
import { Agent } from "node:http"
import { assert, beforeAll, it } from "@effect/vitest"
import { Effect } from "effect"
import { WebSocket } from "ws"
import { natsStartTimeoutMs, requireNatsServer, startNatsServer } from "../bus/NatsServer.ts"
import * as Processes from "../journey/Processes.ts"
import { startBalancer } from "./Balancer.ts"
import { atRest, expose, ready } from "./Cluster.ts"
import { startNumberedApp } from "./NumberedApp.ts"
import { LineReader, line } from "./Payload.ts"
import { tally, Visitors } from "./Visitors.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const names = ["amber", "birch", "cedar"]

/** A WebSocket at one process that talks all the time, and knows whether it missed a word. */
class Talk {
  readonly wrong: Array<string> = []
  private readonly reader: LineReader
  private readonly ws: WebSocket
  private readonly timer: NodeJS.Timeout
  private said = 0

  constructor(ws: WebSocket, id: string) {
    this.ws = ws
    this.reader = new LineReader(id)
    this.timer = setInterval(() => ws.send(line(id, this.said++)), 20)
    ws.on("message", (data) => {
      const fault = this.reader.take(String(data))
      if (fault !== undefined) this.wrong.push(fault)
    })
    ws.on("close", (code, reason) => {
      clearInterval(this.timer)
      if (code !== 1000) this.wrong.push(`${id} was closed with ${code} ${reason} after ${this.reader.next} lines`)
    })
  }

  get lines(): number {
    return this.reader.next
  }

  /** The visitor has had enough; the app says how much it heard. */
  readonly end = Effect.callback<void>((resume) => {
    clearInterval(this.timer)
    if (this.ws.readyState !== WebSocket.OPEN) return resume(Effect.void)
    this.ws.send("end")
    this.ws.once("close", (_, reason) => {
      if (String(reason) !== `end ${this.said}` || this.reader.next !== this.said) {
        this.wrong.push(`said ${this.said}, heard ${this.reader.next}, the app ${reason}`)
      }
      resume(Effect.void)
    })
  })
}

it.live(
  "not one request fails, and WebSockets at the processes that are not restarted miss no word",
  () =>
    Effect.gen(function* () {
      const app = yield* startNumberedApp
      const nats = yield* startNatsServer()
      const serving = yield* Effect.forEach([0, 1, 2], () => Processes.serve(0, nats.url), { concurrency: 3 })
      const ports = serving.map(({ port }) => port)
      yield* Effect.forEach(names, (name) => expose(app.port, ports, name), { concurrency: 3 })
      const balancer = yield* startBalancer(serving)
      const agent = yield* Effect.acquireRelease(
        Effect.sync(() => new Agent({ keepAlive: true })),
        (agent) => Effect.sync(() => agent.destroy())
      )
      const visitors = new Visitors({ ports: [balancer.port], names, everyMs: 25, deadlineMs: 10_000, agent })
      const stop = yield* visitors.start

      const talk = (index: number, n: number) =>
        Effect.map(
          Processes.openWebSocket(ports[index] as number, `/ws/t${index}-${n}`, [], `${names[n]}.localhost`),
          (ws) => new Talk(ws, `t${index}-${n}`)
        )
      const talksAt = (index: number) => Effect.forEach([0, 1, 2], (n) => talk(index, n))
      const talks = yield* Effect.forEach([0, 1, 2], talksAt)
      yield* Effect.sleep(500)

      for (const index of [0, 1, 2]) {
        const old = serving[index] as Processes.Serving
        old.child.kill("SIGTERM")
        // Its own visitors leave while it drains; those of the others do not know of it.
        yield* Effect.sleep(3_000)
        for (const own of talks[index] ?? []) yield* own.end
        const { code, stderr } = yield* old.ended
        assert.strictEqual(code, 0, stderr)
        serving[index] = yield* Processes.serve(old.port, nats.url)
        yield* balancer.serves(3)
        assert.deepStrictEqual(
          talks.flat().flatMap(({ wrong }) => wrong),
          []
        )
      }
      for (const own of talks.flat()) assert.isAbove(own.lines, 100)
      yield* stop
      yield* Processes.within(
        20_000,
        Effect.suspend(() =>
          visitors.underWaySince(performance.now()) ? Effect.fail(new Error("visits are under way")) : Effect.void
        )
      )
      process.stdout.write(`\n${tally(visitors.visits)} in a rolling restart of three processes\n`)
      assert.deepStrictEqual(
        visitors.visits.filter(({ result }) => result !== "ok"),
        []
      )
      assert.deepStrictEqual([...visitors.violations, ...app.faults], [])
      assert.deepStrictEqual(
        [...app.seen].filter(([, times]) => times > 1),
        []
      )
      for (const { adminPort } of serving) {
        yield* ready(adminPort)
        yield* Processes.within(10_000, atRest(adminPort))
      }
    }).pipe(Effect.scoped),
  180_000
)
