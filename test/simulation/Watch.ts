/**
 * Watches the hubs of a simulation from outside: what each asks of its route store, and what each lets onto the bus. The model of the rule gets
 * the same questions as the store, and what no model permits is a violation, noted at the step where it happens. Next: `GatewayWatch.ts`.
 */
import { Effect, Exit, Stream } from "effect"
import type { MessageBus } from "../../src/bus/MessageBus.ts"
import type { Claimant, RouteStore, RouteTableOptions, Verdict } from "../../src/route/RouteStore.ts"
import {
  type Envelope,
  type RouteAnswer,
  type RouteKey,
  SessionId,
  showRoute,
  type Uplink
} from "../../src/tunnel/Envelope.ts"
import type { ResponseFrame } from "../../src/tunnel/Frame.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { ActorRoutes } from "./ActorRoutes.ts"
import { RouteModel } from "./RouteModel.ts"
import { declined, ends, opens, ownWord } from "./Truth.ts"
import type { World } from "./World.ts"

/** How forged frames are known, wherever they turn up: no honest app answers with it. */
export const forgedStatus = 299

const stranger = SessionId.make("0".repeat(32))
/** A relay waits 20 ms after the first failed publish, and twice as long after each further one. */
const retryMsMax = 20 * 2 ** limits.publishAttempts
/** An opening frame stands in an inbox no longer, and nobody speaks of a route that was issued longer ago and is not known any more. */
const memoryMs = 300_000

/** Routes whose owners are remembered: far more than are open at once, and no more as a soak goes on. */
const heldMax = 20_000
const states = ["Open", "Closing", "HalfClosed", "Closed"] as const

/** Whatever the watches of one run have in common. */
export interface Lookout {
  readonly world: World
  readonly violate: (what: string) => void
  /** Who has had each route, at whichever hub: an opening frame that comes twice may give it to two. */
  readonly everHeld: Map<string, Set<string>>
  /** What hubs have let onto the bus, with their namespace: no gateway may get anything else. */
  readonly lawful: WeakMap<Uplink, string>
}

interface Ending {
  /** Publishes of the last frame under way. */
  publishing: number
  published: boolean
  /** When the last attempt ended, or the route came into Closing. */
  since: number
}

const sameItems = <A>(one: ReadonlyArray<A>, other: ReadonlyArray<A>) =>
  one.length === other.length && one.every((item, i) => item === other[i])

/** One hub under watch. */
export class HubWatch {
  readonly label: string
  readonly model: RouteModel
  private readonly world: World
  private readonly lookout: Lookout
  private readonly namespace: string
  private readonly bounds: RouteTableOptions
  private readonly violate: (what: string) => void
  /** Opening frames that the bus brought and that no route was issued for yet. */
  private readonly openings = new Map<string, { count: number; at: number }>()
  private readonly actors: ActorRoutes
  /** Routes in Closing. */
  private readonly endings = new Map<string, Ending>()
  /** Frames that store and model let through. Nothing else may be published, but what a hub says in its own name. */
  private readonly admitted = new WeakSet<object>()
  /** To whom a route was issued: to several in turn, where its opening frame came again after its end. */
  private readonly holders = new Map<string, { readonly owners: Array<string>; at: number }>()
  private readonly known: Array<{ readonly key: RouteKey; readonly owner: SessionId }> = []
  private readonly generations = new Map<SessionId, number>()
  private inner: RouteStore["Service"] | undefined
  private watched: RouteStore["Service"] | undefined
  private touched = false

  constructor(label: string, namespace: string, bounds: RouteTableOptions, lookout: Lookout) {
    this.label = label
    this.namespace = namespace
    this.bounds = bounds
    this.lookout = lookout
    this.world = lookout.world
    this.model = new RouteModel(bounds)
    this.actors = new ActorRoutes(lookout.world)
    this.violate = (what) => lookout.violate(`${label}: ${what}`)
  }

  /** Whether the session has had the route, at this hub or another. */
  everHad(session: string, key: RouteKey): boolean {
    return this.lookout.everHeld.get(showRoute(key))?.has(session) === true
  }

  /** The last routes issued here, for whoever wants to guess one. */
  get issued(): ReadonlyArray<{ readonly key: RouteKey; readonly owner: SessionId }> {
    return this.known
  }

  /** Sessions that were adopted and not yet revoked. */
  get sessions(): number {
    return this.generations.size
  }

  private agree(what: string, got: unknown, wanted: unknown): void {
    const [one, other] = [JSON.stringify(got), JSON.stringify(wanted)]
    if (one !== other) this.violate(`${what}: the store says ${one}, the model ${other}`)
  }

  /** The store as the hub gets it: every answer is compared with the model's, in the same instant. */
  store(inner: RouteStore["Service"]): RouteStore["Service"] {
    const { model, world } = this
    const now = () => world.nowMs
    // At once and in one piece: a fiber that yields between store and model would compare two moments.
    const both = <A, E>(effect: Effect.Effect<A, E>, f: (exit: Exit.Exit<A, E>) => void): Effect.Effect<A, E> =>
      Effect.suspend(() => {
        this.touched = true
        const exit = Effect.runSyncExit(effect)
        f(exit)
        return exit
      })
    const told = <A>(effect: Effect.Effect<A>, f: () => void) => both(effect, f)
    const store: RouteStore["Service"] = {
      adopt: (claimant) =>
        told(inner.adopt(claimant), () => {
          world.note(`${this.label} adopts ${claimant.session.slice(0, 4)}:${claimant.generation}`)
          this.generations.set(claimant.session, claimant.generation)
          model.adopt(claimant)
        }),
      issue: (key, owner) =>
        both(inner.issue(key, owner), (exit) => {
          const wanted = model.issue(key, owner, now())
          const got = Exit.isSuccess(exit) ? "Issued" : exit.cause.toString().includes("RouteTaken") ? "Taken" : "Full"
          if (got !== wanted) this.agree(`issue ${showRoute(key)}`, got, wanted)
          this.onIssue(key, owner, got)
        }),
      authorize: (claimant, batch) =>
        both(inner.authorize(claimant, batch), (exit) => {
          if (Exit.isSuccess(exit)) this.onAuthorize(claimant, batch, exit.value)
          else this.violate("authorize failed")
        }),
      clear: (keys) =>
        told(inner.clear(keys), () => {
          for (const key of keys) {
            const shown = showRoute(key)
            const unpublished = model.stateOf(key) === "Closing" && this.endings.get(shown)?.published !== true
            if (unpublished) this.violate(`clears ${shown} before its end was published`)
            this.endings.delete(shown)
            model.clear(key, now())
          }
        }),
      reopen: (keys) =>
        told(inner.reopen(keys), () => {
          for (const key of keys) {
            this.endings.delete(showRoute(key))
            model.reopen(key, now())
          }
        }),
      halfClose: (key) => told(inner.halfClose(key), () => model.halfClose(key, now())),
      close: (key) => told(inner.close(key), () => model.close(key, now())),
      revoke: (owner) =>
        both(inner.revoke(owner), (exit) => {
          world.note(`${this.label} revokes ${owner.slice(0, 4)}`)
          this.generations.delete(owner)
          const wanted = model.revoke(owner, now())
          const got = Exit.isSuccess(exit) ? exit.value : []
          this.agree(`revoke ${owner.slice(0, 4)}`, got.map(showRoute).sort(), wanted.map(showRoute).sort())
        }),
      renew: (gatewayId) => told(inner.renew(gatewayId), () => model.renew(gatewayId, now())),
      expire: both(inner.expire, (exit) => {
        const wanted = model.expire(now())
        const got = Exit.isSuccess(exit) ? exit.value : []
        if (wanted.length === 0 && got.length === 0) return
        const show = ({ route, session }: (typeof wanted)[number]) => `${showRoute(route)} of ${session.slice(0, 4)}`
        world.note(`${this.label} ends ${got.map(show).join(", ")}: their gateway is silent`)
        this.agree("expire", got.map(show).sort(), wanted.map(show).sort())
      }),
      counts: inner.counts
    }
    this.inner = inner
    this.watched = store
    return store
  }

  private onAuthorize(
    claimant: Claimant,
    batch: ReadonlyArray<{ readonly route: RouteKey; readonly frame: ResponseFrame }>,
    got: Verdict<{ readonly route: RouteKey; readonly frame: ResponseFrame }>
  ): void {
    const now = this.world.nowMs
    const admitted: Array<unknown> = []
    const ending: Array<RouteKey> = []
    const refused: Array<unknown> = []
    const reasons: Array<string> = []
    for (const answer of batch) {
      const { frame, route } = answer
      const verdict = this.model.authorize(claimant, route, ends(frame), now)
      if (verdict === "Admitted" || verdict === "Ending") {
        admitted.push(answer)
        this.admitted.add(answer)
        this.actors.answered(route, frame)
      } else {
        refused.push(answer)
        reasons.push(verdict)
      }
      if (verdict !== "Ending") continue
      ending.push(route)
      this.endings.set(showRoute(route), { publishing: 0, published: false, since: now })
    }
    const agreed =
      sameItems(got.admitted, admitted) &&
      sameItems(got.ending, ending) &&
      sameItems(
        got.refused.map(({ answer }) => answer),
        refused
      ) &&
      sameItems(
        got.refused.map(({ reason }) => reason),
        reasons
      )
    if (agreed) return
    this.agree(
      `authorize for ${claimant.session.slice(0, 4)}:${claimant.generation}`,
      { admitted: got.admitted.length, ending: got.ending.map(showRoute), refused: got.refused.map((r) => r.reason) },
      { admitted: admitted.length, ending: ending.map(showRoute), refused: reasons }
    )
  }

  private onIssue(key: RouteKey, owner: SessionId, outcome: string): void {
    const shown = showRoute(key)
    this.world.note(`${this.label} issue ${shown} to ${owner.slice(0, 4)}: ${outcome}`)
    const opening = this.openings.get(shown)
    if (opening === undefined) {
      if (!this.actors.mayBeIssued(key)) this.violate(`asks for ${shown}, and no opening frame of it came`)
    } else if (--opening.count === 0) this.openings.delete(shown)
    if (!this.generations.has(owner)) this.violate(`issues ${shown} to ${owner.slice(0, 4)}, which is not here`)
    if (outcome !== "Issued") return
    this.actors.issued(key)
    const owners = this.holders.get(shown)?.owners ?? []
    owners.push(owner)
    this.holders.delete(shown)
    this.holders.set(shown, { owners, at: this.world.nowMs })
    const { everHeld } = this.lookout
    everHeld.set(shown, (everHeld.get(shown) ?? new Set()).add(owner))
    this.known.push({ key, owner })
    if (this.known.length > 16) this.known.shift()
  }

  /** A session moved here, and its gateway says that these routes are its own: then it had them at another hub. */
  private onAnswer({ denied, granted, session }: RouteAnswer): void {
    this.world.note(`${this.label} is granted ${granted.length}, denied ${denied.length}`)
    for (const route of granted) {
      this.mayIssue(route)
      const had = this.lookout.everHeld.get(showRoute(route))?.has(session)
      if (!had) this.violate(`is granted ${showRoute(route)} for ${session.slice(0, 4)}, which never had it`)
    }
  }

  private mayIssue(route: RouteKey): void {
    const shown = showRoute(route)
    const count = 1 + (this.openings.get(shown)?.count ?? 0)
    this.openings.delete(shown)
    this.openings.set(shown, { count, at: this.world.nowMs })
  }

  /** The bus as the hub gets it. */
  bus(inner: MessageBus["Service"]): MessageBus["Service"] {
    return {
      ...inner,
      subscribe: (subject, deliveries) =>
        Effect.map(
          inner.subscribe(subject, deliveries),
          Stream.map((envelope: Envelope) => {
            if (envelope._tag === "Downlink" && opens[envelope.frame._tag]) {
              this.mayIssue(envelope.route)
              this.actors.opened(envelope)
            }
            if (envelope._tag === "Wake") this.actors.asleep(envelope.route)
            if (envelope._tag === "RouteAnswer") this.onAnswer(envelope)
            return envelope
          })
        ),
      publish: (subject, envelopes, delivery) =>
        Effect.suspend(() => {
          this.touched = true
          for (const envelope of envelopes) if (envelope._tag === "Uplink") this.onUplink(envelope)
          return Effect.onExit(inner.publish(subject, envelopes, delivery), (exit) =>
            Effect.sync(() => {
              this.touched = true
              for (const envelope of envelopes) {
                if (envelope._tag === "Uplink") this.onPublished(envelope, Exit.isSuccess(exit))
              }
            })
          )
        })
    }
  }

  private endingOf(uplink: Uplink): Ending | undefined {
    return ends(uplink.frame) && this.admitted.has(uplink) ? this.endings.get(showRoute(uplink.route)) : undefined
  }

  private onUplink(uplink: Uplink): void {
    const { frame, route, session } = uplink
    if (frame._tag === "ResponseStart" && frame.status === forgedStatus)
      this.violate(`passes a forged frame on ${showRoute(route)}`)
    const ending = this.endingOf(uplink)
    if (ending !== undefined) ending.publishing++
    this.lookout.lawful.set(uplink, this.namespace)
    if (this.admitted.has(uplink)) return
    if (session === "" && frame._tag === "ResponseAbort") return
    // In time, while the actor of a stream that was asked for is being started; of a socket that failed while it fell asleep.
    const isFirstWord = session === "" && frame._tag === "Credit" && frame.bytes === 0
    if (isFirstWord && this.actors.wasAsked(route)) return
    // Said for a session that moved, of streams that it may have been granted: only where it was does its gateway listen.
    if (frame._tag === "ResponseAbort" && frame.message === declined) return
    // A hub's first Credit says who took the stream; it may come after a quick answer. Its own last words may come after much more.
    const held = this.holders.get(showRoute(route))?.owners.includes(session) === true
    if (held && (frame._tag === "Credit" || ownWord(uplink))) return
    const failedAsleep = frame._tag === "WebSocketClose" && frame.code === 1011 && frame.reason === ""
    if (held && failedAsleep && this.actors.lasts(route)) return
    this.lookout.lawful.delete(uplink)
    this.violate(`passes ${frame._tag} of ${session.slice(0, 4)} on ${showRoute(route)}, which the model did not admit`)
  }

  private onPublished(uplink: Uplink, success: boolean): void {
    const { frame, index, route } = uplink
    const ending = this.endingOf(uplink)
    if (ending !== undefined) {
      ending.publishing--
      ending.since = this.world.nowMs
      if (success) ending.published = true
    }
    const fate = success ? "published" : "not published"
    this.world.note(`${this.label} ${fate} ${frame._tag} ${showRoute(route)} #${index}`)
  }

  /** Asks the store what an intruder and a fenced connection would: the model says what they have to hear. */
  probe(): Effect.Effect<void> {
    const target = this.known[this.world.random.below(Math.max(1, this.known.length))]
    if (target === undefined || this.watched === undefined) return Effect.void
    const chunk: ResponseFrame = { _tag: "ResponseChunk", body: new Uint8Array(1), finish: false }
    const elsewhere = { gatewayId: (target.key.gatewayId + 1) >>> 0, requestId: target.key.requestId }
    const claim = (claimant: Claimant, route: RouteKey) =>
      (this.watched as RouteStore["Service"]).authorize(claimant, [{ route, frame: chunk }])
    const generation = this.generations.get(target.owner) ?? 1
    return claim({ session: stranger, generation: 1 }, target.key).pipe(
      Effect.andThen(claim({ session: target.owner, generation: generation - 1 }, target.key)),
      Effect.andThen(claim({ session: target.owner, generation }, elsewhere)),
      Effect.asVoid
    )
  }

  /** What must hold after every step. Where nothing touched routes or bus, it holds as before. */
  readonly afterStep = (): void => {
    if (!this.touched || this.inner === undefined) return
    this.touched = false
    const counts = Effect.runSync(this.inner.counts)
    const wanted = this.model.counts
    if (states.some((state) => counts[state] !== wanted[state])) this.agree("counts", counts, wanted)
    const { Closed, Closing, HalfClosed, Open } = wanted
    if (Open + Closing + HalfClosed > this.bounds.routesMax || Closed > this.bounds.tombstonesMax) {
      this.violate(`holds more than it may: ${JSON.stringify(wanted)}`)
    }
    if (this.generations.size === 0 && Open + Closing + HalfClosed > 0) this.violate("holds routes for nobody")
    const now = this.world.nowMs
    for (const [shown, { publishing, since }] of this.endings) {
      if (publishing > 0 || now - since <= retryMsMax) continue
      this.endings.delete(shown)
      this.violate(`leaves ${shown} in Closing, and nobody publishes its end`)
    }
  }

  /** Forgets opening frames for which no route was wanted, and who held routes long ago. */
  tidy(): void {
    for (const book of [this.openings, this.holders, this.actors.book]) {
      for (const [shown, { at }] of book) {
        if (this.world.nowMs - at <= memoryMs) break
        book.delete(shown)
      }
    }
    const { everHeld } = this.lookout
    for (const shown of everHeld.keys()) {
      if (everHeld.size <= heldMax) break
      everHeld.delete(shown)
    }
  }
}
