/**
 * Watches the hubs of a simulation from outside: what each asks of its route store, and what each lets onto the bus. The model of the rule gets
 * the same questions as the store, and what no model permits is a violation, noted at the step where it happens.
 */
import { Effect, Exit, Stream } from "effect"
import type { MessageBus } from "../../src/bus/MessageBus.ts"
import type { Claimant, RouteStore, RouteTableOptions } from "../../src/route/RouteStore.ts"
import {
  type Envelope,
  type RouteAnswer,
  type RouteKey,
  SessionId,
  showRoute,
  type Uplink
} from "../../src/tunnel/Envelope.ts"
import { opensRoute, type ResponseFrame } from "../../src/tunnel/Frame.ts"
import { RouteModel } from "./RouteModel.ts"
import type { World } from "./World.ts"

/** How forged frames are known, wherever they turn up: no honest app answers with it. */
export const forgedStatus = 299

/** The truth table of ends, written down once more: the code under test has its own. */
const ends = (frame: ResponseFrame): boolean =>
  frame._tag === "ResponseAbort" ||
  frame._tag === "ResponseTrailers" ||
  frame._tag === "WebSocketClose" ||
  (frame._tag === "ResponseChunk" && frame.finish) ||
  (frame._tag === "ResponseStart" && !frame.streamed)

/** What hubs say in their own name once nobody holds the route any more. */
const ownWords = new Set([
  "the runner left before it saw the request",
  "the runner went away and did not come back",
  "the runner's queue is full",
  "the request cannot be encoded for its runner",
  "the hub could not say that it took the request",
  "the runner went on without this stream"
])
const ownWord = ({ frame, session }: Uplink) =>
  session === "" || (frame._tag === "ResponseAbort" && ownWords.has(frame.message))

const stranger = SessionId.make("0".repeat(32))
const closingMsMax = 60_000
const states = ["Open", "Closing", "HalfClosed", "Closed"] as const

/** One hub under watch. */
export class HubWatch {
  readonly label: string
  readonly model: RouteModel
  private readonly world: World
  private readonly violate: (what: string) => void
  /** Opening frames that the bus brought and that no route was issued for yet. */
  private readonly openings = new Map<string, number>()
  /** Routes whose end was published. */
  private readonly published = new Set<string>()
  private readonly closingSince = new Map<string, number>()
  /** Frames that store and model let through. Nothing else may be published, but what a hub says in its own name. */
  private readonly admitted = new WeakSet<object>()
  private readonly known: Array<{ readonly key: RouteKey; readonly owner: SessionId }> = []
  private readonly generations = new Map<SessionId, number>()
  private watched: RouteStore["Service"] | undefined
  /** Who has had each route, at whichever hub: an opening frame that comes twice may give it to two. */
  private readonly owners: Map<string, Set<string>>

  constructor(
    label: string,
    world: World,
    bounds: RouteTableOptions,
    violate: (what: string) => void,
    owners: Map<string, Set<string>>
  ) {
    this.label = label
    this.world = world
    this.owners = owners
    this.model = new RouteModel(bounds)
    this.violate = (what) => violate(`${label}: ${what}`)
  }

  /** The last routes issued here, for whoever wants to guess one. */
  get issued(): ReadonlyArray<{ readonly key: RouteKey; readonly owner: SessionId }> {
    return this.known
  }

  /** The store as the hub gets it: every answer is compared with the model's, in the same instant. */
  store(inner: RouteStore["Service"]): RouteStore["Service"] {
    const { model, world } = this
    const now = () => world.nowMs
    const agree = (what: string, got: unknown, wanted: unknown) => {
      const [one, other] = [JSON.stringify(got), JSON.stringify(wanted)]
      if (one !== other) this.violate(`${what}: the store says ${one}, the model ${other}`)
    }
    // At once and in one piece: a fiber that yields between store and model would compare two moments.
    const both = <A, E>(effect: Effect.Effect<A, E>, f: (exit: Exit.Exit<A, E>) => void): Effect.Effect<A, E> =>
      Effect.suspend(() => {
        const exit = Effect.runSyncExit(effect)
        f(exit)
        const [counts, wanted] = [Effect.runSync(inner.counts), model.counts]
        if (states.some((state) => counts[state] !== wanted[state])) agree("counts", counts, wanted)
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
          agree(`issue ${showRoute(key)}`, got, wanted)
          this.onIssue(key, owner, got)
        }),
      authorize: (claimant, batch) =>
        both(inner.authorize(claimant, batch), (exit) => {
          if (!Exit.isSuccess(exit)) return this.violate("authorize failed")
          const wanted = batch.map(({ frame, route }) => model.authorize(claimant, route, ends(frame), now()))
          agree(
            `authorize for ${claimant.session.slice(0, 4)}:${claimant.generation}`,
            {
              admitted: exit.value.admitted.length,
              ending: exit.value.ending.map(showRoute),
              refused: exit.value.refused.map(({ reason }) => reason)
            },
            {
              admitted: wanted.filter((verdict) => verdict === "Admitted" || verdict === "Ending").length,
              ending: batch.filter((_, i) => wanted[i] === "Ending").map(({ route }) => showRoute(route)),
              refused: wanted.filter((verdict) => verdict !== "Admitted" && verdict !== "Ending")
            }
          )
          for (const [i, answer] of batch.entries()) {
            const { route } = answer
            if (wanted[i] === "Admitted" || wanted[i] === "Ending") this.admitted.add(answer)
            if (wanted[i] !== "Ending") continue
            this.published.delete(showRoute(route))
            this.closingSince.set(showRoute(route), now())
          }
        }),
      clear: (keys) =>
        told(inner.clear(keys), () => {
          for (const key of keys) {
            const unpublished = model.stateOf(key) === "Closing" && !this.published.has(showRoute(key))
            if (unpublished) this.violate(`clears ${showRoute(key)} before its end was published`)
            this.closingSince.delete(showRoute(key))
            model.clear(key, now())
          }
        }),
      reopen: (keys) =>
        told(inner.reopen(keys), () => {
          for (const key of keys) {
            this.closingSince.delete(showRoute(key))
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
          agree(`revoke ${owner.slice(0, 4)}`, got.map(showRoute).sort(), wanted.map(showRoute).sort())
        }),
      renew: (gatewayId) => told(inner.renew(gatewayId), () => model.renew(gatewayId, now())),
      expire: both(inner.expire, (exit) => {
        const wanted = model.expire(now())
        const got = Exit.isSuccess(exit) ? exit.value : []
        const show = ({ route, session }: (typeof wanted)[number]) => `${showRoute(route)} of ${session.slice(0, 4)}`
        agree("expire", got.map(show).sort(), wanted.map(show).sort())
      }),
      counts: inner.counts
    }
    this.watched = store
    return store
  }

  private onIssue(key: RouteKey, owner: SessionId, outcome: string): void {
    const shown = showRoute(key)
    this.world.note(`${this.label} issue ${shown} to ${owner.slice(0, 4)}: ${outcome}`)
    const waiting = this.openings.get(shown) ?? 0
    if (waiting === 0) this.violate(`asks for ${shown}, and no opening frame of it came`)
    this.openings.set(shown, waiting - 1)
    if (outcome !== "Issued") return
    this.owners.set(shown, (this.owners.get(shown) ?? new Set()).add(owner))
    this.published.delete(shown)
    this.known.push({ key, owner })
    if (this.known.length > 16) this.known.shift()
  }

  /** A session moved here, and its gateway says that these routes are its own: then it had them at another hub. */
  private onAnswer({ denied, granted, session }: RouteAnswer): void {
    this.world.note(`${this.label} is granted ${granted.length}, denied ${denied.length}`)
    for (const route of granted) {
      this.mayIssue(route)
      const had = this.owners.get(showRoute(route))?.has(session)
      if (!had) this.violate(`is granted ${showRoute(route)} for ${session.slice(0, 4)}, which never had it`)
    }
  }

  private mayIssue(route: RouteKey): void {
    const shown = showRoute(route)
    this.openings.set(shown, (this.openings.get(shown) ?? 0) + 1)
  }

  /** The bus as the hub gets it. */
  bus(inner: MessageBus["Service"]): MessageBus["Service"] {
    return {
      ...inner,
      subscribe: (subject, deliveries) =>
        Effect.map(
          inner.subscribe(subject, deliveries),
          Stream.map((envelope: Envelope) => {
            if (envelope._tag === "Downlink" && opensRoute(envelope.frame)) this.mayIssue(envelope.route)
            if (envelope._tag === "RouteAnswer") this.onAnswer(envelope)
            return envelope
          })
        ),
      publish: (subject, envelopes, delivery) =>
        Effect.suspend(() => {
          for (const envelope of envelopes) if (envelope._tag === "Uplink") this.onUplink(envelope)
          return Effect.onExit(inner.publish(subject, envelopes, delivery), (exit) =>
            Effect.sync(() => {
              const fate = Exit.isSuccess(exit) ? "published" : "not published"
              for (const envelope of envelopes) {
                if (envelope._tag !== "Uplink") continue
                const shown = showRoute(envelope.route)
                this.world.note(`${this.label} ${fate} ${envelope.frame._tag} ${shown} #${envelope.index}`)
                if (Exit.isSuccess(exit) && ends(envelope.frame) && !ownWord(envelope)) this.published.add(shown)
              }
            })
          )
        })
    }
  }

  private onUplink(uplink: Uplink): void {
    const { frame, route, session } = uplink
    if (frame._tag === "ResponseStart" && frame.status === forgedStatus)
      this.violate(`passes a forged frame on ${showRoute(route)}`)
    if (ownWord(uplink) || this.admitted.has(uplink)) return
    // A hub's first Credit says who took the stream; it may come after a quick answer.
    if (frame._tag === "Credit" && this.model.ownerOf(route) === session) return
    this.violate(`passes ${frame._tag} of ${session.slice(0, 4)} on ${showRoute(route)}, which the model did not admit`)
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

  /** What must hold whenever one looks. */
  inspect(sessions: number): void {
    const { Closing, HalfClosed, Open } = this.model.counts
    if (sessions === 0 && Open + Closing + HalfClosed > 0) this.violate("holds routes for nobody")
    for (const [shown, since] of this.closingSince) {
      if (this.world.nowMs - since > closingMsMax) {
        this.closingSince.delete(shown)
        const [gatewayId, requestId] = shown.split("/").map((part) => Number.parseInt(part, 16)) as [number, number]
        if (this.model.stateOf({ gatewayId, requestId }) === "Closing") this.violate(`leaves ${shown} in Closing`)
      }
    }
  }
}
