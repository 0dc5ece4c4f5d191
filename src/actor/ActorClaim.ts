/**
 * One process of a namespace controls its actors: two would give one actor to two runners. Whoever means to asks on the bus first, answers from
 * then on, and says so again and again; where two find each other all the same (both began at once, or two networks became one), the
 * younger gives way.
 *
 * A guard against a mistake in configuration, not an election: nobody takes over by himself. Next: `ActorControl.ts`, which is built behind it.
 */
import { Clock, Context, Deferred, Effect, Layer, Random, Schema, Stream } from "effect"
import { type BusError, MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import type { ActorClaim as Claim, Envelope } from "../tunnel/Envelope.ts"
import { limits } from "../tunnel/Limits.ts"

/** Another process controls the actors of this namespace, or one that does not say: `holder` is empty then. */
export class ActorsTaken extends Schema.TaggedError<ActorsTaken>()("ActorsTaken", {
  namespace: Schema.String,
  holder: Schema.String
}) {
  override get message() {
    const who = this.holder === "" ? "a process that does not answer" : this.holder
    return (
      `the actors of namespace ${this.namespace} are controlled by ${who} already. ` +
      "Give --actors-file to one process of a cluster only"
    )
  }
}

/** The right to control the actors, held as long as the layer's scope is open. */
export class ActorClaim extends Context.Service<
  ActorClaim,
  {
    /** Fails when an older claim is heard of. */
    readonly lost: Effect.Effect<never, ActorsTaken>
  }
>()("wayleave/actor/ActorClaim") {}

/** Who claims, and for which namespace. */
export interface ActorClaimOptions {
  readonly namespace?: string
  /** For people: where this process is. */
  readonly holder: string
}

/** Whether the other claim comes before ours. Of two that began in the same moment, one is first all the same, and both agree on which. */
const isOlder = (other: Claim, ours: Claim): boolean =>
  other.sinceMs < ours.sinceMs || (other.sinceMs === ours.sinceMs && other.holder < ours.holder)

const make = Effect.fnUntraced(function* ({ holder, namespace = "default" }: ActorClaimOptions) {
  const bus = yield* MessageBus
  const subject = Subject.ofActorClaim(namespace)
  const lost = yield* Deferred.make<never, ActorsTaken>()
  // Two processes may call themselves alike.
  const mark = (yield* Random.nextIntBetween(0, 2 ** 32)).toString(16).padStart(8, "0")
  const sinceMs = BigInt(yield* Clock.currentTimeMillis)
  const ours: Claim = { _tag: "ActorClaim", holder: `${holder} (${mark})`, sinceMs }
  const taken = (by: string) => new ActorsTaken({ namespace, holder: by })

  const ask = bus.request(subject, ours).pipe(
    Effect.matchEffect({
      onFailure: ({ reason }: BusError) => (reason === "NoResponders" ? Effect.void : Effect.fail(taken(""))),
      onSuccess: (answer) => Effect.fail(taken(answer._tag === "ActorClaim" ? answer.holder : ""))
    })
  )
  const hear = (heard: Envelope) =>
    heard._tag === "ActorClaim" && heard.holder !== ours.holder && isOlder(heard, ours)
      ? Deferred.fail(lost, taken(heard.holder))
      : Effect.void

  yield* ask
  const news = yield* bus.subscribe(subject, ["each"])
  yield* Effect.forkScoped(Stream.runForEach(news, hear))
  yield* bus.respond(subject, () => Effect.succeed(ours))
  // To all, not to one: of two that answer, a question might reach the one that asks.
  yield* bus
    .publish(subject, [ours], "each")
    .pipe(Effect.ignore, Effect.andThen(Effect.sleep(limits.actorClaimMs)), Effect.forever, Effect.forkScoped)
  return ActorClaim.of({ lost: Deferred.await(lost) })
})

/** Claims the actors. Fails where they are somebody else's. */
export const layer = (options: ActorClaimOptions): Layer.Layer<ActorClaim, ActorsTaken, MessageBus> =>
  Layer.effect(ActorClaim, make(options))
