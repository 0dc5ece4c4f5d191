import { assert, it } from "@effect/vitest"
import { Effect, Option, Redacted } from "effect"
import { decodeOrder, encodeOrder, type Order } from "../../src/server/WorkerMessage.ts"

const order = (nats: Order["config"]["nats"]): Order => ({
  config: {
    host: "::1",
    port: 0,
    adminPort: 6422,
    domain: "localhost",
    tokenFile: Option.some("tokens"),
    actorsFile: Option.none(),
    workers: 2,
    json: true,
    nats
  },
  alone: true
})

it.effect("a worker reads what its keeper ordered, secrets included", () =>
  Effect.gen(function* () {
    const auths = [
      undefined,
      { _tag: "Token", token: Redacted.make("t") },
      { _tag: "Password", user: "u", password: Redacted.make("p") },
      { _tag: "CredsFile", file: "c" },
      { _tag: "NkeyFile", file: "n" }
    ] as const
    for (const auth of auths) {
      const given = order(Option.some({ servers: ["a:1", "b"], tls: true, auth, caFile: undefined }))
      const read = yield* decodeOrder(encodeOrder(given))
      assert.deepStrictEqual(encodeOrder(read), encodeOrder(given))
      const readAuth = Option.getOrThrow(read.config.nats).auth
      assert.strictEqual(readAuth?._tag, auth?._tag)
      if (readAuth?._tag === "Token") assert.strictEqual(Redacted.value(readAuth.token), "t")
    }
    assert.isTrue(Option.isNone((yield* decodeOrder(encodeOrder(order(Option.none())))).config.nats))
  })
)

it.effect("an order that a stranger made up is refused", () =>
  Effect.gen(function* () {
    for (const text of ["", "{}", '{"alone":true,"config":{"port":"1"}}'])
      assert.isTrue((yield* Effect.exit(decodeOrder(text)))._tag === "Failure", text)
  })
)
