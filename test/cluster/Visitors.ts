/**
 * Steady visitors of a cluster: requests, event streams and WebSockets that begin at a fixed pace whatever becomes of those before, each at the next
 * gateway and for the next name. How each ended is kept; what must never be is a violation.
 */
import { type Agent, request } from "node:http"
import { Effect, Fiber } from "effect"
import { WebSocket } from "ws"
import { downOf, upOf } from "./NumberedApp.ts"
import { LineReader, line, payload } from "./Payload.ts"

/** What a visit was. */
export type Kind = "request" | "events" | "socket"

/** How one visit ended: `ok`, a code of the gateway, `broken` for a transfer that broke off, `refused` where nobody listened. */
export interface Visit {
  readonly id: string
  readonly kind: Kind
  readonly place: number
  readonly startedMs: number
  readonly endedMs: number
  readonly result: string
}

/** How many of each result, the most frequent first. */
export const tally = (visits: ReadonlyArray<Visit>): string => {
  const counts = new Map<string, number>()
  for (const { result } of visits) counts.set(result, (counts.get(result) ?? 0) + 1)
  if (counts.size === 0) return "none"
  return [...counts]
    .sort(([, one], [, other]) => other - one)
    .map(([result, count]) => `${count} ${result}`)
    .join(", ")
}

/** Where visitors go. */
export interface VisitorOptions {
  /** Ports of gateways, or of a balancer before them. */
  readonly ports: ReadonlyArray<number>
  /** Runners' names. */
  readonly names: ReadonlyArray<string>
  /** Between the beginnings of two requests. */
  readonly everyMs: number
  /** A request or stream that takes longer than it should by this much is a violation. */
  readonly deadlineMs: number
  /** Keeps connections of every other request; the rest, and all streams, have one each. */
  readonly agent?: Agent
}

/** How long an event stream and a WebSocket last, in messages and their distance. */
const eventsCount = 50
const eventsEveryMs = 50
/** Every how many requests one of these begins. */
const streamsEvery = 16

interface Target {
  readonly id: string
  readonly port: number
  readonly name: string
}

type Wrong = (what: string) => void

const host = (name: string) => `${name}.localhost`

const failureOf = (error: NodeJS.ErrnoException): string => (error.code === "ECONNREFUSED" ? "refused" : "broken")

const codeOf = (status: number, text: string): string => {
  try {
    return String((JSON.parse(text) as { readonly code?: string }).code)
  } catch {
    return `status ${status}`
  }
}

/** A request with a body and an answer of its own. One in eight is of several chunks. */
const visitOnce = ({ id, name, port }: Target, large: boolean, agent: Agent | false, wrong: Wrong) =>
  Effect.callback<string>((resume) => {
    const bytes = large ? 300_000 : 700
    const end = (result: string) => resume(Effect.succeed(result))
    const outgoing = request({
      host: "127.0.0.1",
      port,
      agent,
      method: "POST",
      path: `/echo/${id}?bytes=${bytes}`,
      headers: { host: host(name), accept: "application/json" }
    })
    outgoing.on("error", (error) => end(failureOf(error)))
    outgoing.on("response", (response) => {
      const parts: Array<Buffer> = []
      response.on("data", (part) => parts.push(part))
      response.on("error", () => end("broken"))
      response.on("end", () => {
        const body = Buffer.concat(parts)
        const status = response.statusCode ?? 0
        if (status !== 200) return end(codeOf(status, body.toString()))
        if (!body.equals(payload(downOf(id), bytes))) {
          wrong(`request ${id} got ${body.length} bytes that are not its ${bytes}`)
          return end("wrong")
        }
        end("ok")
      })
    })
    outgoing.end(payload(upOf(id), bytes))
    return Effect.sync(() => void outgoing.destroy())
  })

/** An event stream. It may break off; what came before has to be in order, and a clean end has to be the end. */
const follow = ({ id, name, port }: Target, wrong: Wrong) =>
  Effect.callback<string>((resume) => {
    const end = (result: string) => resume(Effect.succeed(result))
    const reader = new LineReader(id)
    const outgoing = request({
      host: "127.0.0.1",
      port,
      agent: false,
      path: `/events/${id}?count=${eventsCount}&every=${eventsEveryMs}`,
      headers: { host: host(name), accept: "application/json" }
    })
    outgoing.on("error", (error) => end(failureOf(error)))
    outgoing.on("response", (response) => {
      const status = response.statusCode ?? 0
      let rest = ""
      let complete = false
      const take = (event: string) => {
        const text = event.slice("data: ".length)
        if (text === `end ${eventsCount}` && reader.next === eventsCount) complete = true
        else {
          const fault = reader.take(text)
          if (fault !== undefined) wrong(`events ${id}: ${fault}`)
        }
      }
      response.setEncoding("utf8")
      response.on("data", (text: string) => {
        rest += text
        if (status !== 200) return
        const events = rest.split("\n\n")
        rest = events.pop() as string
        for (const event of events) take(event)
      })
      response.on("error", () => end("broken"))
      response.on("end", () => {
        if (status !== 200) return end(codeOf(status, rest))
        if (!complete) wrong(`events ${id} ended in order after ${reader.next} of ${eventsCount}`)
        end(complete ? "ok" : "wrong")
      })
    })
    outgoing.end()
    return Effect.sync(() => void outgoing.destroy())
  })

/** A WebSocket that says numbered lines and hears each of them again. It may be closed with an error; a clean close has to be the end. */
const converse = ({ id, name, port }: Target, count: number, wrong: Wrong) =>
  Effect.callback<string>((resume) => {
    const reader = new LineReader(id)
    let said = 0
    let refused = false
    const ws = new WebSocket(`ws://127.0.0.1:${port}/ws/${id}`, {
      headers: { host: host(name) },
      perMessageDeflate: false
    })
    let timer: NodeJS.Timeout | undefined
    const end = (result: string) => {
      clearInterval(timer)
      resume(Effect.succeed(result))
    }
    ws.on("open", () => {
      timer = setInterval(() => {
        if (said < count) return ws.send(line(id, said++))
        clearInterval(timer)
        ws.send("end")
      }, eventsEveryMs)
    })
    ws.on("message", (data) => {
      const fault = reader.take(String(data))
      if (fault !== undefined) wrong(`WebSocket ${id}: ${fault}`)
    })
    ws.on("error", (error) => {
      refused = failureOf(error) === "refused"
    })
    ws.on("close", (code, reason) => {
      if (code === 1000) {
        const complete = reader.next === count && String(reason) === `end ${count}`
        if (!complete) wrong(`WebSocket ${id} closed in order after ${reader.next} of ${count}`)
        return end(complete ? "ok" : "wrong")
      }
      if (refused) return end("refused")
      end(code === 1006 ? "broken" : String(reason))
    })
    return Effect.sync(() => {
      clearInterval(timer)
      ws.terminate()
    })
  })

/** Visitors at work. */
export class Visitors {
  readonly visits: Array<Visit> = []
  readonly violations: Array<string> = []
  private readonly options: VisitorOptions
  private count = 0
  /** Each kind goes round the places and names by itself: together they would fall into step. */
  private readonly counts = { request: 0, events: 0, socket: 0 }
  private readonly begun = new Set<number>()

  constructor(options: VisitorOptions) {
    this.options = options
  }

  /** Whether a visit is under way that began before then. */
  underWaySince(ms: number): boolean {
    return [...this.begun].some((startedMs) => startedMs < ms)
  }

  private target(kind: Kind): Target {
    const { names, ports } = this.options
    const n = this.counts[kind]++
    return {
      id: `v${this.count++}`,
      port: ports[n % ports.length] as number,
      name: names[Math.floor(n / ports.length) % names.length] as string
    }
  }

  private readonly wrong = (what: string) => void this.violations.push(what)

  private visit(kind: Kind, within: number, make: (target: Target) => Effect.Effect<string>): Effect.Effect<Visit> {
    return Effect.suspend(() => {
      const target = this.target(kind)
      const startedMs = performance.now()
      // Two visits do not begin in the same microsecond.
      this.begun.add(startedMs)
      return make(target).pipe(
        Effect.timeoutOrElse({
          duration: within + this.options.deadlineMs,
          orElse: () => {
            this.wrong(`${kind} ${target.id} did not end within its deadline`)
            return Effect.succeed("late")
          }
        }),
        Effect.map((result) => {
          const place = this.options.ports.indexOf(target.port)
          const visit = { id: target.id, kind, place, startedMs, endedMs: performance.now(), result }
          this.visits.push(visit)
          return visit
        }),
        Effect.ensuring(Effect.sync(() => void this.begun.delete(startedMs)))
      )
    })
  }

  /** One request. */
  request(large = false): Effect.Effect<Visit> {
    const agent = this.count % 2 === 0 ? (this.options.agent ?? false) : false
    return this.visit("request", 0, (target) => visitOnce(target, large, agent, this.wrong))
  }

  /** One event stream. */
  events(): Effect.Effect<Visit> {
    return this.visit("events", eventsCount * eventsEveryMs, (target) => follow(target, this.wrong))
  }

  /** One WebSocket that says so many lines. */
  socket(count = eventsCount): Effect.Effect<Visit> {
    return this.visit("socket", count * eventsEveryMs, (target) => converse(target, count, this.wrong))
  }

  /** Visits without end, until interrupted; those under way then go on. */
  readonly work = Effect.gen({ self: this }, function* () {
    for (let tick = 0; ; tick++) {
      yield* Effect.forkDetach(this.request(tick % 8 === 0))
      if (tick % streamsEvery === 0) yield* Effect.forkDetach(this.events())
      if (tick % streamsEvery === streamsEvery / 2) yield* Effect.forkDetach(this.socket())
      yield* Effect.sleep(this.options.everyMs)
    }
  })

  /** Works until the scope closes, or the returned effect is run. */
  readonly start = Effect.gen({ self: this }, function* () {
    const fiber = yield* Effect.forkScoped(this.work)
    return Fiber.interrupt(fiber)
  })

  /** Visits that ended in this span. */
  endedWithin(fromMs: number, toMs: number): ReadonlyArray<Visit> {
    return this.visits.filter(({ endedMs }) => endedMs >= fromMs && endedMs < toMs)
  }
}
