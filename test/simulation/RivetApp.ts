/**
 * The app behind Rivet's runners in a simulation: answers as `Traffic.ts` expects, goes to sleep and fails now and then, and says all that made a
 * check like ours unusable elsewhere, the eight situations, as the published client lets an app say it.
 *
 * What it keeps of WebSockets that can hibernate it keeps for all runners of its pool, as an actor's store would.
 */
import type { Checkpoint } from "../../src/actor/ActorMessage.ts"
import type { WholeRequestFrame, WholeResponseFrame } from "../../src/protocol/Rivet.ts"
import { type RouteKey, showRoute } from "../../src/tunnel/Envelope.ts"
import { absurd } from "../../src/tunnel/Frame.ts"
import type { RunnerRecord } from "./Place.ts"
import type { ClientApp, RivetClient } from "./RivetClient.ts"
import { type Situation, seeSituation } from "./Situations.ts"
import { follows, type Ledger, pattern, tagsOf, wishOf } from "./Traffic.ts"

const modulus = 0x1_0000
const nothing = new Uint8Array(0)
/** What no visitor is to see: it follows nowhere from what anybody was to hear. */
const junk: WholeResponseFrame = {
  _tag: "WebSocketMessage",
  data: Uint8Array.from({ length: 64 }, (_, i) => 255 - i),
  binary: true,
  finish: true
}
const ackOf = (index: number): WholeResponseFrame => ({ _tag: "WebSocketMessageAck", index })
const closeOf = (code: number | null, reason = ""): WholeResponseFrame => ({
  _tag: "WebSocketClose",
  code,
  reason,
  hibernate: false
})

/** A WebSocket as an app has it. */
interface AppSocket {
  readonly route: RouteKey
  readonly actorId: string
  readonly visit: number
  readonly bytes: number
  /** It can hibernate. */
  readonly lasts: boolean
  /** Which of its actor's generations has it, and at which runner. */
  app: RivetApp
  generation: number
  restored: boolean
  /** How much of what its visitor says has come, and the number of the last message of it. */
  heardBytes: number
  lastIndex: number
  echoedBytes: number
  owed: Array<WholeResponseFrame>
}

/** What all runners of a pool have in common. */
export interface Pool {
  readonly ledger: Ledger
  readonly namespace: string
  readonly record: RunnerRecord
  readonly sockets: Map<string, AppSocket>
}

/** The app of one runner process. */
export class RivetApp implements ClientApp {
  private readonly pool: Pool
  private readonly client: RivetClient
  /** One in so many of its WebSockets can hibernate. */
  private readonly lastOneIn: number

  constructor(pool: Pool, client: RivetClient) {
    this.pool = pool
    this.client = client
    this.lastOneIn = 1 + pool.ledger.world.random.below(3)
  }

  frame(route: RouteKey, index: number, actorId: string, frame: WholeRequestFrame): void {
    switch (frame._tag) {
      case "RequestStart":
        return this.answer(route, actorId, frame.target, frame.body)
      case "WebSocketOpen":
        return this.open(route, actorId, frame.target)
      case "WebSocketMessage":
        return this.hear(route, index, frame)
      case "WebSocketClose":
        return this.partFrom(route, frame)
      case "RequestAbort":
        return this.client.forget(route)
      case "RequestChunk":
      case "RequestTrailers":
      case "Credit":
        return this.pool.ledger.violate(`${frame._tag} for a Rivet runner, whose requests come whole`)
      default:
        absurd(frame)
    }
  }

  started({ actorId, generation }: Checkpoint, hibernating: ReadonlyArray<RouteKey>): void {
    const own = this.ofActor(actorId).filter(({ lasts }) => lasts)
    const { version } = this.client.version
    // Version 2 has no such list: its app goes on with whatever it knows of. One of version 1 knows of none.
    const list = version === 2 ? own.map(({ route }) => route) : hibernating
    const listed = new Set(list.map(showRoute))
    for (const socket of this.ofActor(actorId)) {
      if (socket.lasts && (version === 1 || listed.has(showRoute(socket.route)))) continue
      this.drop(socket)
      // Of what is there anew in the same generation it knows nothing more; of what was there before, its handlers still do.
      if (socket.lasts) this.blurt(4, socket.route, junk)
      else if (socket.app === this && socket.generation !== generation) this.blurt(8, socket.route, junk, closeOf(1000))
    }
    for (const route of list) this.restore(route, actorId, generation)
  }

  /** Its stop callback: what is done is closed; what can hibernate stays, and nobody is told of the rest. */
  stops(actorId: string): void {
    for (const socket of this.ofActor(actorId)) {
      if (socket.app !== this) continue
      if (this.isDone(socket)) {
        this.flush(socket)
        this.close(socket)
      } else if (!socket.lasts) {
        this.pool.record.parted.add(socket.visit)
        this.client.forget(socket.route)
        // Its handlers may outlive it all the same, until the next generation shows them that they are late.
        if (this.once(2)) this.drop(socket)
      }
    }
  }

  goesOn(): void {
    this.see(1)
  }

  /** What its sockets have to say after a reconnect they say over the new connection, whether or not they were opened over it. */
  connected(): void {
    for (const socket of this.pool.sockets.values()) if (socket.app === this) this.flush(socket)
  }

  /** Now and then an actor sleeps, and now and then it fails. */
  stir(): void {
    for (const actorId of this.client.hosted) {
      const sockets = this.ofActor(actorId).filter(({ app }) => app === this)
      // What is done is about to be closed, and nobody would wake the actor for that.
      const maySleep = sockets.every((socket) => socket.lasts && !this.isDone(socket))
      if (maySleep && this.once(3)) this.client.report(actorId, { _tag: "WantsSleep" })
      else if (this.once(8)) this.client.stop(actorId, true)
    }
  }

  private once(oneIn: number): boolean {
    return this.pool.ledger.world.random.below(oneIn) === 0
  }

  private ofActor(actorId: string): ReadonlyArray<AppSocket> {
    return [...this.pool.sockets.values()].filter((socket) => socket.actorId === actorId)
  }

  private see(situation: Situation): void {
    seeSituation(this.pool.ledger.situations, "rivet", situation)
    this.pool.ledger.world.note(`a Rivet runner: situation ${situation}`)
  }

  private blurt(situation: Situation, route: RouteKey, ...frames: ReadonlyArray<WholeResponseFrame>): void {
    this.client.blurt(route, ...frames)
    this.see(situation)
  }

  private later(msMax: number, task: () => void): void {
    this.pool.ledger.world.after(this.pool.ledger.world.random.below(msMax), task)
  }

  private answer(route: RouteKey, actorId: string, target: string, body: Uint8Array): void {
    const { bytes, mode, visit } = wishOf(target)
    const generation = this.client.generationOf(actorId)
    const respond = (status: number, answer: Uint8Array) => {
      // Said by another generation, or over no connection, it is lost; the published client forgets the request either way.
      const isThere = this.client.generationOf(actorId) === generation
      const headers = status === 200 ? tagsOf(this.pool.namespace, visit) : []
      const said =
        isThere &&
        this.client.online &&
        this.client.send(route, { _tag: "ResponseStart", status, headers, body: answer, streamed: false })
      if (said && status === 200) this.pool.record.answered(visit)
      this.client.forget(route)
    }
    switch (mode) {
      case "hang":
        return
      case "fail":
        return respond(500, nothing)
      case "return":
        return respond(501, nothing)
      case "echo":
        return respond(200, body)
      case "whole":
        return respond(200, pattern(visit, 0, bytes))
      case "streamed":
      case "trailers":
      case "slow":
        return this.later(800, () => respond(200, pattern(visit, 0, bytes)))
      default:
        absurd(mode)
    }
  }

  private open(route: RouteKey, actorId: string, target: string): void {
    const generation = this.client.generationOf(actorId) as number
    const { bytes, visit } = wishOf(target)
    const lasts = this.client.version.version > 1 && this.once(this.lastOneIn)
    const socket: AppSocket = {
      ...{ route, actorId, visit, bytes, lasts, generation },
      app: this,
      restored: false,
      heardBytes: 0,
      // The opening was 0.
      lastIndex: 0,
      echoedBytes: 0,
      owed: []
    }
    const accept = () => {
      if (this.client.generationOf(actorId) !== generation || !this.client.has(route)) return
      this.pool.sockets.set(showRoute(route), socket)
      const said = this.client.send(route, { _tag: "WebSocketOpen", headers: [], canHibernate: lasts })
      if (said) this.pool.record.answered(visit)
      if (bytes === 0) this.closeLater(socket)
    }
    if (this.once(2)) accept()
    else this.later(200, accept)
  }

  private find(route: RouteKey): AppSocket | undefined {
    const socket = this.pool.sockets.get(showRoute(route))
    return socket?.app === this ? socket : undefined
  }

  private isDone({ bytes, heardBytes }: AppSocket): boolean {
    return heardBytes >= bytes
  }

  private drop({ route }: AppSocket): void {
    this.client.forget(route)
    this.pool.sockets.delete(showRoute(route))
  }

  private hear(
    route: RouteKey,
    index: number,
    frame: Extract<WholeRequestFrame, { readonly _tag: "WebSocketMessage" }>
  ): void {
    const socket = this.find(route)
    if (socket === undefined) return
    if (socket.lasts) {
      const ahead = (index - socket.lastIndex + modulus) % modulus
      // Said again since nobody knew that it had arrived.
      if (ahead === 0 || ahead > modulus / 2) return this.speakSoon(socket)
      if (ahead > 1) {
        this.pool.ledger.violate(
          `socket ${socket.visit} is told message ${index} after ${socket.lastIndex}, and would close`
        )
      }
      socket.lastIndex = index
    }
    // Versions 1 to 3 answer no ping, so nothing shows what was lost with a connection: of theirs only sockets that last are made good.
    // What a bus confirmed and brings late may be of before a sleep, and have the place of what is due after it: no bus that keeps its contract does so.
    const isWhole = socket.lasts ? !this.pool.ledger.lossy : this.client.version.mark === 2
    if (isWhole && !follows(socket.visit, socket.heardBytes, frame.data)) {
      this.pool.ledger.violate(`socket ${socket.visit} is told wrong bytes after ${socket.heardBytes}`)
    }
    socket.heardBytes += frame.data.length
    socket.owed.push({ _tag: "WebSocketMessage", data: frame.data.slice(), binary: frame.binary, finish: true })
    if (this.once(2)) this.flush(socket)
    else this.speakSoon(socket)
  }

  private speakSoon(socket: AppSocket): void {
    this.later(400, () => socket.app.flush(socket))
  }

  /** Says what it owes, and acknowledges what that was the answer to. */
  private flush(socket: AppSocket): void {
    if (this.find(socket.route) !== socket || this.client.generationOf(socket.actorId) !== socket.generation) return
    for (const frame of socket.owed.splice(0)) this.echo(socket, frame)
    if (socket.lasts) this.client.send(socket.route, ackOf(socket.lastIndex))
    if (socket.bytes > 0 && this.isDone(socket)) this.closeLater(socket)
  }

  private echo(socket: AppSocket, frame: WholeResponseFrame): void {
    if (frame._tag === "WebSocketMessage") socket.echoedBytes += frame.data.length
    this.client.send(socket.route, frame)
  }

  private closeLater(socket: AppSocket): void {
    this.later(4_000, () => {
      if (this.find(socket.route) === socket && this.client.generationOf(socket.actorId) === socket.generation) {
        this.close(socket)
      }
    })
  }

  private close(socket: AppSocket): void {
    const { restored, route } = socket
    if (this.client.online) this.client.send(route, closeOf(1000))
    // Registered twice, so that both leave after the reconnect, each as the first of its stream. Of any other socket such a close is lost.
    else if (restored) this.blurt(7, route, ackOf(socket.lastIndex), closeOf(1000))
    this.drop(socket)
    if (restored && this.once(2)) this.blurt(6, route, closeOf(1006, "Abnormal Closure"))
  }

  /** The visitor closed, or its gateway gave up: what was under way crosses it, and the close is echoed. */
  private partFrom(
    route: RouteKey,
    { code, reason }: Extract<WholeRequestFrame, { readonly _tag: "WebSocketClose" }>
  ): void {
    const socket = this.find(route)
    if (socket === undefined) return this.client.forget(route)
    if (this.once(2)) {
      this.client.send(route, junk)
      this.client.send(route, ackOf(socket.lastIndex))
      this.see(7)
    }
    this.client.send(route, closeOf(code, reason))
    this.see(5)
    this.drop(socket)
  }

  private restore(route: RouteKey, actorId: string, generation: number): void {
    const socket = this.pool.sockets.get(showRoute(route))
    const fails = this.once(12)
    if (socket === undefined || fails || this.once(12)) {
      if (socket !== undefined) {
        this.pool.record.parted.add(socket.visit)
        this.drop(socket)
      }
      const why = fails ? closeOf(1011, "ws.restore_error") : closeOf(1000, "ws.meta_not_found_during_restore")
      return this.blurt(2, route, why)
    }
    socket.app = this
    socket.generation = generation
    socket.restored = true
    this.client.restore(route, actorId)
    // From inside the handler, with no record of the stream yet: what it owes, or a word of no length.
    const word = socket.owed.shift() ?? { ...junk, data: nothing }
    if (word._tag === "WebSocketMessage") socket.echoedBytes += word.data.length
    this.blurt(3, route, word)
    this.flush(socket)
  }
}
