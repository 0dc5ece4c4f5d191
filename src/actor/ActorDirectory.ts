/**
 * Finds an actor by name and key, or makes it, wherever in a cluster actors are controlled: here, or by the process that answers on the bus. What a
 * gateway needs to know of actors whose id nobody gave it.
 */
import { Effect, type Scope } from "effect"
import { type BusError, MessageBus } from "../bus/MessageBus.ts"
import * as Subject from "../bus/Subject.ts"
import type { ActorAnswer, ActorQuestion, Envelope } from "../tunnel/Envelope.ts"
import { ActorError, type CrashPolicy } from "./Actor.ts"
import type { ActorControl } from "./ActorControl.ts"

/** What is asked for. */
export interface ActorWish {
  readonly name: string
  readonly key: string
  /** Null where nothing is to be created. */
  readonly create: {
    readonly runnerName: string
    readonly crashPolicy: CrashPolicy
    readonly input: Uint8Array | null
  } | null
}

/** Says which actor is meant. */
export type FindActor = (wish: ActorWish) => Effect.Effect<string, ActorError | BusError>

/** Asks the control plane of this process. */
export const findHere =
  (control: ActorControl["Service"]): FindActor =>
  ({ create, key, name }) =>
    create === null
      ? Effect.map(control.find(name, key), (actor) => actor.actorId)
      : Effect.map(control.getOrCreate({ name, key, ...create }), ({ actor }) => actor.actorId)

const reasons: ReadonlyArray<string> = ActorError.fields.reason.literals
const isReason = (text: string): text is ActorError["reason"] => reasons.includes(text)
const nonsense = new ActorError({ reason: "actor.invalid_request", message: "the question could not be understood" })

const refusalOf = ({ message, refused }: ActorAnswer): ActorError =>
  isReason(refused) ? new ActorError({ reason: refused, message }) : nonsense

/** Asks whichever process controls actors. It is `NoResponders` where none does. */
export const findOnBus =
  (bus: MessageBus["Service"], namespace: string): FindActor =>
  ({ create, key, name }) =>
    Effect.flatMap(
      bus.request(Subject.ofActors(namespace), { _tag: "ActorQuestion", name, key, create }),
      (answer): Effect.Effect<string, ActorError> => {
        if (answer._tag !== "ActorAnswer") return Effect.fail(nonsense)
        return answer.refused === "" ? Effect.succeed(answer.actorId) : Effect.fail(refusalOf(answer))
      }
    )

const answerOf = (find: FindActor, question: Envelope): Effect.Effect<Envelope> => {
  const wish: Effect.Effect<ActorQuestion, ActorError> =
    question._tag === "ActorQuestion" ? Effect.succeed(question) : Effect.fail(nonsense)
  return Effect.match(Effect.flatMap(wish, find), {
    onFailure: (error): Envelope => ({
      _tag: "ActorAnswer",
      actorId: "",
      refused: error._tag === "ActorError" ? error.reason : nonsense.reason,
      message: error.message
    }),
    onSuccess: (actorId): Envelope => ({ _tag: "ActorAnswer", actorId, refused: "", message: "" })
  })
}

/** Answers for the control plane of this process, until the scope closes. */
export const answerOnBus = Effect.fnUntraced(function* (
  control: ActorControl["Service"],
  namespace: string
): Effect.fn.Return<void, never, MessageBus | Scope.Scope> {
  const bus = yield* MessageBus
  const find = findHere(control)
  yield* bus.respond(Subject.ofActors(namespace), (question) => answerOf(find, question))
})
