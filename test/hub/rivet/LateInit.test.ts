/**
 * An init that comes behind the one of its runner's next connection. Rivet's runners count nothing; but they dial again only after they were accepted,
 * so the connection that was accepted later is the newer, whichever speaks first.
 */
import { assert, describe } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { dial, init } from "../../../src/testing/ScriptedRivetRunner.ts"
import { actor, all, answer, request, rivetGateway, route, scenario, settle } from "./RivetHarness.ts"

describe.each(all)("version %i: an init that comes behind the one of its runner's next connection", (version) => {
  scenario("is refused, and evicts nobody: the runner would never come back", (twin) =>
    Effect.gen(function* () {
      const visitor = yield* rivetGateway
      const older = yield* dial({ version })
      const newer = yield* dial({ version })
      yield* newer.say(init())
      assert.deepInclude(yield* newer.nextActor, { _tag: "Welcome" })
      yield* older.say(init())
      yield* Fiber.join(older.accepted)
      const end = older.socket.closedUnsafe()
      assert.strictEqual(end?.code, 1011)
      assert.notMatch(end?.reason ?? "", /^ws\.eviction/)
      yield* settle
      assert.isUndefined(newer.socket.closedUnsafe())
      twin.host(actor, twin.sessionOf())
      yield* visitor.open(actor, 1, request("/"))
      yield* newer.nextFrame
      yield* newer.frame(route(1), answer())
      assert.strictEqual((yield* visitor.frameOf(1))._tag, "ResponseStart")
    })
  )
})
