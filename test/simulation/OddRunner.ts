/**
 * A runner of good faith with odd manners: it answers what it is asked, and besides says all that made a check like ours unusable elsewhere, the
 * eight situations of `test/hub/ClientTraffic.test.ts`. Its hub must neither let any of it through nor part from it, and its answers must arrive.
 */
import { Effect } from "effect"
import { Link } from "../../src/protocol/Link.ts"
import * as Wayleave1 from "../../src/protocol/Wayleave1.ts"
import type { MessageSocket } from "../../src/socket/MessageSocket.ts"
import { type RouteKey, showRoute } from "../../src/tunnel/Envelope.ts"
import type { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import { ReceiveSequence, SendSequence } from "../../src/tunnel/Sequence.ts"
import type { Cluster } from "./Cluster.ts"
import { type Place, quickTalk, RunnerRecord } from "./Place.ts"
import { type Situation, type Situations, seeSituation } from "./Situations.ts"
import { pattern, tagsOf, wishOf } from "./Traffic.ts"
import type { World } from "./World.ts"

/** Where visitors find it, and how much they ask for at most: what fits a chunk needs no credit of its own. */
export const oddPlace = (world: World): Place & { readonly record: RunnerRecord } => ({
  name: "odd",
  sizes: [0, 1, 100, 3_000],
  talk: quickTalk,
  rivet: false,
  record: new RunnerRecord(world)
})

interface Stream {
  readonly route: RouteKey
  readonly target: string
  readonly webSocket: boolean
  readonly sent: SendSequence
  readonly received: ReceiveSequence
  echoed: number
}

const nothing = new Uint8Array(0)
const message: ResponseFrame = { _tag: "WebSocketMessage", data: new Uint8Array([9]), binary: true, finish: true }
const ack: ResponseFrame = { _tag: "WebSocketMessageAck", index: 0 }
const close = (code: number, reason: string): ResponseFrame => ({
  _tag: "WebSocketClose",
  code,
  reason,
  hibernate: false
})
const abort: ResponseFrame = { _tag: "ResponseAbort", code: "app_failed", message: "once more" }

/** Its session, and what it says. */
class OddSession {
  readonly id = new Uint8Array(16).fill(0xdd)
  hub = ""
  readonly streams = new Map<string, Stream>()
  link: Link<ResponseFrame>
  private readonly world: World
  private readonly namespace: string
  private readonly record: RunnerRecord
  private readonly situations: Situations

  constructor(world: World, namespace: string, record: RunnerRecord, situations: Situations) {
    this.world = world
    this.namespace = namespace
    this.record = record
    this.situations = situations
    this.link = this.newLink()
  }

  private newLink(): Link<ResponseFrame> {
    return new Link<ResponseFrame>({
      encode: (received, frames) => Wayleave1.toHub.encode({ _tag: "Frames", received, frames }),
      encodeAck: (received) => Wayleave1.toHub.encode({ _tag: "Ack", received }),
      onUnencodable: () => {},
      turn: this.world.soon
    })
  }

  private seen(situation: Situation): void {
    seeSituation(this.situations, "wayleave.1", situation)
  }

  private once(oneIn: number): boolean {
    return this.world.random.below(oneIn) === 0
  }

  private say(stream: Stream, ...frames: ReadonlyArray<ResponseFrame>): void {
    for (const frame of frames) this.link.send({ route: stream.route, index: stream.sent.indexOf(frame), frame })
  }

  /** What nobody asked for, all with index 0, as clients that lost count have it. */
  private blurt(situation: Situation, route: RouteKey, ...frames: ReadonlyArray<ResponseFrame>): void {
    for (const frame of frames) this.link.send({ route, index: 0, frame })
    this.seen(situation)
  }

  /** Goes on over a socket; where the hub knows nothing of the session, with the handlers of sockets that it no longer has. */
  attach(socket: MessageSocket, { hub, outcome, received }: Wayleave1.Welcome): void {
    const resumed = outcome === "resumed"
    const present = [...this.streams.values()].filter(({ webSocket }) => webSocket)
    if (resumed && hub === this.hub && this.link.canResume(received)) {
      if (present.length > 0) this.seen(1)
      return this.link.attach(socket, received)
    }
    this.hub = hub
    if (resumed) {
      // A hub from before, with numbers of a conversation that is over: it is met again as a stranger.
      this.id[1] = (this.id[1] as number) + 1
      this.streams.clear()
      return socket.terminateUnsafe()
    }
    this.link = this.newLink()
    this.streams.clear()
    this.link.attach(socket, 0)
    for (const { route } of present) {
      this.blurt(3, route, message, message)
      this.blurt(8, route, message, ack, close(1000, ""))
    }
  }

  receive({ frame, index, route }: Wayleave1.DownFrame): void {
    const stream = this.streams.get(showRoute(route))
    if (stream === undefined) return this.begin(route, frame, index)
    const verdict = stream.received.judge(frame, index)
    if (verdict === "duplicate") return
    if (verdict === "gap") {
      this.streams.delete(showRoute(route))
      return this.say(stream, abort)
    }
    if (frame._tag === "RequestChunk" && frame.finish) this.answer(stream)
    else if (frame._tag === "WebSocketMessage") this.echo(stream, frame.data, frame.binary, frame.finish)
    else if (frame._tag === "WebSocketClose") this.partFrom(stream)
    else if (frame._tag === "RequestAbort") {
      this.streams.delete(showRoute(route))
      this.blurt(7, route, { _tag: "ResponseChunk", body: nothing, finish: true })
    }
  }

  private begin(route: RouteKey, frame: RequestFrame, index: number): void {
    if (frame._tag === "RequestStart" || frame._tag === "WebSocketOpen") {
      const webSocket = frame._tag === "WebSocketOpen"
      const received = new ReceiveSequence()
      received.judge(frame, index)
      const opened = { route, target: frame.target, webSocket, sent: new SendSequence(), received, echoed: 0 }
      this.streams.set(showRoute(route), opened)
      if (webSocket) this.accept(opened)
      else if (frame._tag === "RequestStart" && !frame.streamed) this.answer(opened)
    }
  }

  forget(route: RouteKey): void {
    this.streams.delete(showRoute(route))
  }

  private answer(stream: Stream): void {
    const { bytes, mode, visit } = wishOf(stream.target)
    if (mode === "hang") return
    const headers = tagsOf(this.namespace, visit)
    const body = pattern(visit, 0, bytes)
    if (mode !== "fail" && mode !== "return") this.record.answered(visit)
    if (mode === "fail" || mode === "return") this.say(stream, abort)
    else if (mode === "whole") this.say(stream, { _tag: "ResponseStart", status: 200, headers, body, streamed: false })
    else {
      this.say(stream, { _tag: "ResponseStart", status: 200, headers, body: nothing, streamed: true })
      if (mode !== "trailers") this.say(stream, { _tag: "ResponseChunk", body, finish: true })
      else {
        this.say(stream, { _tag: "ResponseChunk", body, finish: false })
        this.say(stream, { _tag: "ResponseTrailers", headers: [["x-end", String(visit)]] })
      }
    }
    this.afterwards(stream)
  }

  private accept(stream: Stream): void {
    const { bytes, visit } = wishOf(stream.target)
    this.say(stream, { _tag: "WebSocketOpen", headers: tagsOf(this.namespace, visit), canHibernate: true })
    this.record.answered(visit)
    if (bytes === 0) this.endLater(stream)
  }

  private echo(stream: Stream, data: Uint8Array, binary: boolean, finish: boolean): void {
    this.say(stream, { _tag: "WebSocketMessage", data, binary, finish })
    stream.echoed += data.length
    if (stream.echoed >= wishOf(stream.target).bytes && finish) this.endLater(stream)
  }

  /** All is said; the socket stays open a while, for the visitor to close it or the network to fail. */
  private endLater(stream: Stream): void {
    this.world.after(this.world.random.below(4_000), () => {
      if (this.streams.get(showRoute(stream.route)) !== stream) return
      this.say(stream, close(1000, ""))
      this.afterwards(stream)
    })
  }

  /** The visitor closed: what was under way crosses it, and the close is echoed. */
  private partFrom(stream: Stream): void {
    this.streams.delete(showRoute(stream.route))
    if (this.once(2)) {
      this.say(stream, message, ack)
      this.seen(7)
    }
    this.say(stream, close(1000, ""))
    this.seen(5)
  }

  /** Its last word is said, and it goes on talking: on this route, on ones that it dreamt of, on ones that it could not restore. */
  private afterwards(stream: Stream): void {
    const { route } = stream
    this.streams.delete(showRoute(route))
    if (this.once(2)) this.blurt(6, route, stream.webSocket ? close(1006, "") : abort)
    if (this.once(2)) this.blurt(7, route, ack, message)
    const dreamt = {
      gatewayId: route.gatewayId,
      requestId: (route.requestId + 1_000 + this.world.random.below(9)) >>> 0
    }
    if (this.once(3)) this.blurt(4, dreamt, message)
    if (this.once(3)) {
      this.blurt(2, dreamt, close(1000, "ws.meta_not_found_during_restore"), close(1011, "ws.restore_error"))
    }
  }
}

/** Runs it for as long as its scope is open; returns how it leaves for good. */
export const startOddRunner = Effect.fnUntraced(function* (
  world: World,
  cluster: Cluster,
  namespace: string,
  { name, record }: ReturnType<typeof oddPlace>,
  situations: Situations
) {
  const session = new OddSession(world, namespace, record, situations)
  let socket: MessageSocket | undefined
  let leaving = false
  let forgetful = false

  const say = (to: MessageSocket, words: Wayleave1.ToHub) =>
    to.sendUnsafe(Wayleave1.toHub.encode(words), { binary: true, finish: true })
  const take = (from: MessageSocket, data: Uint8Array): void => {
    const words = Wayleave1.toRunner.decode(data)
    if (words._tag === "Welcome") return session.attach(from, words)
    if (words._tag === "Reset") return session.forget(words.route)
    if (words._tag === "Ping") {
      say(from, { _tag: "Pong", nonce: words.nonce, received: session.link.receivedCount })
    }
    if (words._tag !== "Frames") return
    session.link.acknowledged(words.received)
    for (const frame of words.frames) session.receive(frame)
    session.link.onReceived(data.length)
  }
  let dials = 0
  const serve = Effect.fnUntraced(function* () {
    const dialled = yield* cluster.dial(namespace, { onBreak: () => void record.breaks++ })
    socket = dialled
    // It claims to have received what was never sent, so the hub has to begin anew.
    const received = forgetful ? session.link.receivedCount + 77 : session.link.receivedCount
    forgetful = false
    const capabilities = Wayleave1.capabilities
    say(dialled, {
      _tag: "Hello",
      versions: [1],
      session: session.id,
      connection: ++dials,
      name,
      hub: session.hub,
      received,
      // It goes on with what it has whether or not anybody lets it.
      streams: [],
      capabilities,
      agent: "odd"
    })
    if (leaving) dialled.closeUnsafe(1000, "")
    const reading = Effect.forever(
      Effect.map(dialled.pull, (batch) => {
        for (const { data } of batch) take(dialled, data)
      })
    )
    yield* Effect.ignore(reading)
    session.link.detach(dialled)
  })
  const living = Effect.suspend(() => Effect.ignore(serve())).pipe(
    Effect.andThen(Effect.suspend(() => Effect.sleep(50 + world.random.below(500)))),
    Effect.repeat({ until: () => leaving })
  )
  // Its network is no better than its manners, and neither is its memory.
  const stumbling = Effect.suspend(() => Effect.sleep(200 + world.random.below(2_000))).pipe(
    Effect.andThen(
      Effect.sync(() => {
        forgetful = world.random.below(2) === 0
        socket?.terminateUnsafe()
      })
    ),
    Effect.repeat({ times: 3 })
  )
  yield* Effect.forkScoped(living)
  yield* Effect.forkScoped(stumbling)
  return Effect.sync(() => {
    leaving = true
    socket?.closeUnsafe(1000, "")
  })
})
