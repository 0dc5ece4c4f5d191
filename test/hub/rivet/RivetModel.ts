/**
 * A visitor side and a runner side that know what each owes the other, driven by chance against a real hub: whatever comes between, what one says is
 * what the other hears, in order and once. The scripted gateway beneath holds the hub to credit and order besides.
 */
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Down } from "../../../src/protocol/rivet/Exchange.ts"
import { connect, type ScriptedRivetRunner } from "../../../src/testing/ScriptedRivetRunner.ts"
import type { Uplink } from "../../../src/tunnel/Envelope.ts"
import type { RequestFrame, ResponseFrame } from "../../../src/tunnel/Frame.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import type { ControlTwin } from "./ControlTwin.ts"
import {
  accept,
  ack,
  actor,
  advance,
  bytesOf,
  message,
  type rivetGateway,
  route,
  settle,
  upgrade
} from "./RivetHarness.ts"

/** Chance from a seed, the same every time. */
export const chanceOf = (seed: number) => {
  let state = seed
  const next = () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
  return {
    next,
    below: (n: number) => Math.floor(next() * n),
    pick: <A>(list: ReadonlyArray<A>): A | undefined => list[Math.floor(next() * list.length)]
  }
}

interface Exchange {
  readonly kind: "http"
  readonly id: number
  readonly sent: Array<Uint8Array>
  uploading: boolean
  runnerHas: boolean
  readonly answered: Array<Uint8Array>
  answering: "no" | "streaming" | "done"
  readonly got: Array<Uint8Array>
  /** Why it ended for the visitor. */
  end: string | undefined
}

interface Socket {
  readonly kind: "websocket"
  readonly id: number
  readonly lasts: boolean
  accepted: boolean
  /** The visitor's messages, of which the first has number 1, and how many of them went to the hub since it was last attached. */
  readonly down: Array<string>
  sent: number
  acknowledged: number
  credit: number
  /** What the app made of them: the number of the last one, and all of them. */
  last: number
  readonly heard: Array<string>
  /** The app's messages, and what came of them. */
  readonly up: Array<Uint8Array>
  readonly got: Array<Uint8Array>
  partial: Array<Uint8Array>
  asleep: boolean
  lossy: boolean
  end: string | undefined
}

type Stream = Exchange | Socket

const asBuffer = (list: ReadonlyArray<Uint8Array>) => Buffer.concat(list.map((one) => Buffer.from(one)))

const show = (frame: RequestFrame | ResponseFrame): string =>
  frame._tag === "Credit" ? `Credit of ${frame.bytes}` : "hibernate" in frame && frame.hibernate ? "asleep" : frame._tag

const showDown = (down: Down): string => {
  if (down._tag === "TunnelDown") return `${show(down.frame)} ${down.index} of ${down.route.requestId}`
  return down._tag === "Actor" ? down.message._tag : down._tag
}

type Gateway = Effect.Success<typeof rivetGateway>
type Runner = ScriptedRivetRunner & { readonly accepted: Fiber.Fiber<void> }

/** Everything there is in one run. */
export class World {
  readonly streams = new Map<number, Stream>()
  /** What happened, for whoever has to find out why a run failed. */
  readonly log: Array<string> = []
  private readonly twin: ControlTwin
  private readonly visitor: Gateway
  private readonly version: number
  private runner: Runner | undefined
  /** How much of what came to the runner it has looked at. */
  private looked = 0
  /** Its connection is dying: what comes now is lost. */
  private deaf = false
  private generation = 0
  private nextId = 1

  constructor(twin: ControlTwin, visitor: Gateway, version: number) {
    this.twin = twin
    this.visitor = visitor
    this.version = version
  }

  get open(): ReadonlyArray<Stream> {
    return [...this.streams.values()].filter(({ end }) => end === undefined)
  }

  get exchanges(): ReadonlyArray<Exchange> {
    return this.open.filter((one) => one.kind === "http")
  }

  get sockets(): ReadonlyArray<Socket> {
    return this.open.filter((one) => one.kind === "websocket")
  }

  get connected(): boolean {
    return this.runner !== undefined
  }

  get hosted(): boolean {
    return this.twin.isHosted(actor)
  }

  readonly connect = Effect.fnUntraced(function* (this: World) {
    this.runner = yield* connect({ version: this.version })
    this.looked = 0
    this.deaf = false
    yield* this.hear()
    if (!this.hosted) yield* this.startActor()
  })

  /** From now on nothing reaches the runner, and nobody knows. */
  goDeaf(): void {
    this.deaf = this.runner !== undefined
    if (!this.deaf || this.version > 3) return
    // Nothing proves to these what has arrived, so theirs may lose something.
    for (const socket of this.sockets) if (!socket.lasts) socket.lossy = true
  }

  readonly cut = Effect.fnUntraced(function* (this: World) {
    const { runner } = this
    if (runner === undefined) return
    runner.socket.terminateUnsafe()
    this.runner = undefined
    yield* Fiber.join(runner.accepted)
    yield* this.hear()
  })

  /** Starts it, or anew where it lives: then without a word about its end. */
  readonly startActor = Effect.fnUntraced(function* (this: World, anew = false) {
    if (this.runner === undefined || this.deaf || this.hosted !== anew) return
    this.generation++
    this.twin.start(actor, this.twin.sessionOf(), this.generation)
    yield* advance(2 * limits.lastingSocketMs, 100)
    yield* this.hear()
  })

  readonly endActor = Effect.fnUntraced(function* (this: World) {
    if (!this.hosted || this.runner === undefined) return
    this.twin.end(actor, true)
    yield* this.hear()
  })

  readonly openExchange = Effect.fnUntraced(function* (this: World, streamed: boolean, length: number) {
    const id = this.nextId++
    const body = bytesOf(length, id)
    const exchange: Exchange = {
      kind: "http",
      id,
      sent: [body],
      uploading: streamed,
      runnerHas: false,
      answered: [],
      answering: "no",
      got: [],
      end: undefined
    }
    this.streams.set(id, exchange)
    const frame = { _tag: "RequestStart", method: "POST", target: "/", headers: [], body, streamed } as const
    yield* this.visitor.open(actor, id, frame)
    yield* this.hear()
  })

  readonly upload = Effect.fnUntraced(function* (this: World, exchange: Exchange, length: number, finish: boolean) {
    const body = bytesOf(length, exchange.sent.length)
    exchange.sent.push(body)
    if (finish) exchange.uploading = false
    yield* this.visitor.follow(exchange.id, { _tag: "RequestChunk", body, finish })
    yield* this.hear()
  })

  readonly answer = Effect.fnUntraced(function* (this: World, exchange: Exchange, length: number, finish: boolean) {
    if (this.runner === undefined) return
    const body = bytesOf(length, exchange.answered.length)
    exchange.answered.push(body)
    const frame =
      exchange.answering === "no"
        ? ({ _tag: "ResponseStart", status: 200, headers: [], body, streamed: !finish } as const)
        : ({ _tag: "ResponseChunk", body, finish } as const)
    exchange.answering = finish ? "done" : "streaming"
    yield* this.runner.frame(route(exchange.id), frame)
    yield* this.hear()
  })

  readonly openSocket = Effect.fnUntraced(function* (this: World, lasts: boolean) {
    const id = this.nextId++
    this.streams.set(id, {
      kind: "websocket",
      id,
      lasts,
      accepted: false,
      down: [],
      sent: 0,
      acknowledged: 0,
      credit: 0,
      last: 0,
      heard: [],
      up: [],
      got: [],
      partial: [],
      asleep: false,
      lossy: false,
      end: undefined
    })
    yield* this.visitor.open(actor, id, upgrade)
    yield* this.hear()
  })

  /** The app says something, so many times at once. */
  readonly sayUp = Effect.fnUntraced(function* (this: World, socket: Socket, length: number, times: number) {
    if (this.runner === undefined || !this.hosted) return
    for (let i = 0; i < times; i++) {
      const data = bytesOf(length, socket.up.length)
      socket.up.push(data)
      yield* this.runner.frame(route(socket.id), message(data))
    }
    yield* this.hear()
  })

  readonly sayDown = Effect.fnUntraced(function* (this: World, socket: Socket, text: string) {
    socket.down.push(text)
    yield* this.flush(socket)
    yield* this.hear()
  })

  readonly acknowledge = Effect.fnUntraced(function* (this: World, socket: Socket) {
    if (this.runner === undefined || !this.hosted || !socket.lasts || socket.last === 0) return
    yield* this.runner.frame(route(socket.id), ack(socket.last))
    yield* this.hear()
  })

  readonly grant = Effect.fnUntraced(function* (this: World, stream: Stream, bytes: number) {
    if (stream.kind === "websocket" && stream.asleep) return
    yield* this.visitor.grant(stream.id, bytes)
    yield* this.hear()
  })

  readonly giveUp = Effect.fnUntraced(function* (this: World, stream: Stream) {
    const frame: RequestFrame =
      stream.kind === "http"
        ? { _tag: "RequestAbort", code: "cancelled" }
        : { _tag: "WebSocketClose", code: 1000, reason: "" }
    stream.end = "given up"
    yield* this.visitor.follow(stream.id, frame)
    yield* this.hear()
  })

  readonly wake = Effect.fnUntraced(function* (this: World, socket: Socket) {
    if (!socket.asleep) return
    yield* this.visitor.wake(socket.id, actor, socket.acknowledged + 1)
    yield* this.hear()
  })

  /** Deals with all that came on either side, until nothing comes. */
  readonly hear = Effect.fnUntraced(function* (this: World) {
    for (;;) {
      yield* settle
      const uplinks = yield* this.visitor.pending
      const downs = this.runner?.heard.slice(this.looked) ?? []
      if (uplinks.length === 0 && downs.length === 0) return
      this.looked += downs.length
      for (const uplink of uplinks) {
        this.log.push(`to the visitor of ${uplink.route.requestId}: ${show(uplink.frame)} ${uplink.index}`)
        yield* this.onUplink(uplink)
      }
      for (const { down } of downs) {
        this.log.push(`${this.deaf ? "lost on the way" : ""} to the runner: ${showDown(down)}`)
        if (!this.deaf) yield* this.onDown(down)
      }
    }
  })

  /** Time passes, in which pings are answered. */
  readonly pass = Effect.fnUntraced(function* (this: World, ms: number) {
    for (let at = 0; at < ms; at += 1_000) {
      yield* this.visitor.lives
      yield* advance(Math.min(1_000, ms - at))
      yield* this.hear()
    }
  })

  private readonly flush = Effect.fnUntraced(function* (this: World, socket: Socket) {
    while (!socket.asleep && socket.accepted && socket.end === undefined && socket.sent < socket.down.length) {
      const text = socket.down[socket.sent] as string
      if (socket.credit < text.length) return
      socket.credit -= text.length
      socket.sent++
      const half = text.length >> 1
      // In two fragments, so that there is something to join.
      yield* this.visitor.follow(socket.id, { ...message(text.slice(0, half)), finish: false } as RequestFrame)
      yield* this.visitor.follow(socket.id, message(text.slice(half)))
    }
  })

  private readonly onUplink = Effect.fnUntraced(function* (this: World, uplink: Uplink) {
    const stream = this.streams.get(uplink.route.requestId)
    if (stream === undefined || stream.end !== undefined) return
    if (stream.kind === "http") return this.onAnswer(stream, uplink.frame)
    yield* this.onSocket(stream, uplink)
  })

  private onAnswer(exchange: Exchange, frame: ResponseFrame): void {
    switch (frame._tag) {
      case "ResponseStart":
      case "ResponseChunk":
        exchange.got.push(frame.body)
        if (frame._tag === "ResponseStart" ? !frame.streamed : frame.finish) exchange.end = "answered"
        return
      case "ResponseAbort":
        exchange.end = frame.code
        return
      case "Credit":
        return
      case "Informational":
      case "ResponseTrailers":
      case "WebSocketOpen":
      case "WebSocketMessage":
      case "WebSocketMessageAck":
      case "WebSocketClose":
        throw new Error(`${frame._tag} for a request`)
    }
  }

  private readonly onSocket = Effect.fnUntraced(function* (this: World, socket: Socket, { frame, session }: Uplink) {
    switch (frame._tag) {
      case "Credit":
        if (session === "") return
        if (socket.asleep) {
          socket.asleep = false
          socket.sent = socket.acknowledged
          socket.credit = 0
          yield* this.visitor.wake(socket.id, actor, socket.acknowledged + 1, "hub")
        }
        socket.credit += frame.bytes
        return yield* this.flush(socket)
      case "WebSocketOpen":
        assert.strictEqual(frame.canHibernate, socket.lasts)
        socket.accepted = true
        return yield* this.flush(socket)
      case "WebSocketMessage":
        socket.partial.push(frame.data)
        if (!frame.finish) return
        socket.got.push(asBuffer(socket.partial))
        socket.partial = []
        return
      case "WebSocketMessageAck":
        socket.acknowledged = Math.max(socket.acknowledged, frame.index)
        return
      case "WebSocketClose":
        if (frame.hibernate) {
          assert.isTrue(socket.lasts, "only one that can hibernate does")
          assert.strictEqual(socket.partial.length, 0, "it sleeps between messages")
          socket.asleep = true
        } else socket.end = `${frame.code}`
        return
      case "ResponseAbort":
        if (!socket.asleep) socket.end = frame.code
        return
      case "Informational":
      case "ResponseStart":
      case "ResponseChunk":
      case "ResponseTrailers":
        throw new Error(`${frame._tag} for a WebSocket`)
    }
  })

  private readonly onDown = Effect.fnUntraced(function* (this: World, down: Down) {
    if (down._tag === "Actor" && down.message._tag === "Ping") {
      return yield* (this.runner as Runner).say({ _tag: "Pong", atMs: down.message.atMs })
    }
    if (down._tag !== "TunnelDown") return
    const stream = this.streams.get(down.route.requestId)
    if (stream === undefined) throw new Error("a stream that nobody opened")
    const { frame, index } = down
    switch (frame._tag) {
      case "RequestStart":
        if (stream.kind !== "http") throw new Error("not a request")
        assert.isFalse(stream.runnerHas, "a request comes once")
        assert.isTrue(Buffer.from(frame.body).equals(asBuffer(stream.sent)), "and whole")
        stream.runnerHas = true
        return
      case "WebSocketOpen":
        if (stream.kind !== "websocket") throw new Error("not a WebSocket")
        yield* (this.runner as Runner).frame(route(stream.id), accept(stream.lasts))
        return
      case "WebSocketMessage": {
        if (stream.kind !== "websocket") throw new Error("not a WebSocket")
        // As the published client: for one that can hibernate, what is not new is a duplicate, and nothing may be left out.
        if (stream.lasts && index <= stream.last) return
        if (stream.lossy) {
          stream.last = index
          return
        }
        assert.strictEqual(index, stream.last + 1, `message ${index} of ${stream.id} after ${stream.last}`)
        stream.last = index
        stream.heard.push(Buffer.from(frame.data).toString())
        return
      }
      case "RequestAbort":
      case "WebSocketClose":
        return
      case "RequestChunk":
      case "RequestTrailers":
      case "Credit":
        throw new Error(`${frame._tag} to a Rivet runner`)
    }
  })

  /** What each side heard is what the other said: all of it where the stream goes on or ended well, else the beginning of it. */
  check(complete: boolean): void {
    for (const stream of this.streams.values()) {
      if (stream.kind === "http") {
        const answered = asBuffer(stream.answered)
        const got = asBuffer(stream.got)
        const whole = stream.end === "answered"
        assert.isTrue(
          whole ? got.equals(answered) : got.equals(answered.subarray(0, got.length)),
          `the answer of ${stream.id}, ${stream.end ?? "open"}`
        )
        continue
      }
      const goesOn = complete && stream.end === undefined && stream.accepted
      const { down, got, heard, up } = stream
      if (!stream.lossy)
        assert.deepStrictEqual(heard, down.slice(0, heard.length), `what the app of ${stream.id} heard`)
      for (const [i, one] of got.entries()) {
        assert.isTrue(
          Buffer.from(one).equals(Buffer.from(up[i] as Uint8Array)),
          `message ${i} to the visitor of ${stream.id}`
        )
      }
      if (!goesOn) continue
      if (!stream.lossy) assert.strictEqual(heard.length, down.length, `messages to the app of ${stream.id}`)
      assert.strictEqual(got.length, up.length, `messages to the visitor of ${stream.id}`)
    }
  }
}
