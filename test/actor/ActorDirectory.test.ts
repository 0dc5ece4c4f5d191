/** Asking for actors by name, from a process that does not control them. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { type ActorControl, ActorError, type ActorRequest, type ActorView } from "../../src/actor/ActorControl.ts"
import { answerOnBus, findOnBus } from "../../src/actor/ActorDirectory.ts"
import { layerMemory, MessageBus } from "../../src/bus/MessageBus.ts"

const control = (given: Partial<ActorControl["Service"]>) => given as ActorControl["Service"]
const view = (actorId: string) => ({ actorId }) as ActorView

const asked = (given: Partial<ActorControl["Service"]>) =>
  Effect.gen(function* () {
    yield* answerOnBus(control(given), "default")
    return findOnBus(yield* MessageBus, "default")
  })

it.effect("an actor is found, or made with what was asked, where actors are controlled", () =>
  Effect.gen(function* () {
    const requests: Array<ActorRequest> = []
    const find = yield* asked({
      find: (name, key) => Effect.succeed(view(`${name}:${key}`)),
      getOrCreate: (request) => {
        requests.push(request)
        return Effect.succeed({ actor: view("new"), created: true })
      }
    })
    assert.strictEqual(yield* find({ name: "room", key: "a", create: null }), "room:a")
    for (const input of [null, new Uint8Array([1, 2])]) {
      const create = { runnerName: "workers", crashPolicy: "destroy", input } as const
      assert.strictEqual(yield* find({ name: "room", key: "b", create }), "new")
      assert.deepStrictEqual(requests.at(-1), { name: "room", key: "b", ...create })
    }
  }).pipe(Effect.scoped, Effect.provide(layerMemory))
)

it.effect("what the control plane refuses is refused in its own words", () =>
  Effect.gen(function* () {
    const find = yield* asked({
      find: () => Effect.fail(new ActorError({ reason: "actor.not_found", message: "there is no such actor" }))
    })
    assert.deepInclude(yield* Effect.flip(find({ name: "room", key: "a", create: null })), {
      _tag: "ActorError",
      reason: "actor.not_found",
      message: "there is no such actor"
    })
  }).pipe(Effect.scoped, Effect.provide(layerMemory))
)

it.effect("where nobody controls actors that is known at once", () =>
  Effect.gen(function* () {
    const find = findOnBus(yield* MessageBus, "default")
    assert.deepInclude(yield* Effect.flip(find({ name: "room", key: "a", create: null })), {
      _tag: "BusError",
      reason: "NoResponders"
    })
  }).pipe(Effect.provide(layerMemory))
)

it.effect("a question that is none is answered all the same", () =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    yield* asked({})
    const answer = yield* bus.request("wayleave.default.actors", { _tag: "LeaseRenewal", gatewayId: 1 })
    assert.deepInclude(answer, { _tag: "ActorAnswer", refused: "actor.invalid_request" })
  }).pipe(Effect.scoped, Effect.provide(layerMemory))
)
