import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { parseHubs, parseName, parseTarget } from "../../src/cli/Target.ts"

const targets: ReadonlyArray<readonly [string, string]> = [
  ["3000", "http://127.0.0.1:3000"],
  ["65535", "http://127.0.0.1:65535"],
  ["localhost:8080", "http://localhost:8080"],
  ["app.internal:80", "http://app.internal"],
  ["[::1]:3000", "http://[::1]:3000"],
  ["http://127.0.0.1:3000", "http://127.0.0.1:3000"],
  ["http://127.0.0.1:3000/", "http://127.0.0.1:3000"],
  ["https://app.internal", "https://app.internal"]
]
for (const [text, origin] of targets) {
  it.effect(`a target ${text} is ${origin}`, () =>
    Effect.map(parseTarget(text), (url) => assert.strictEqual(url.origin, origin))
  )
}

for (const text of [
  "",
  "0",
  "65536",
  "web",
  "host:",
  "host:99999",
  "ftp://a:1",
  "http://a/b",
  "a:1/b?c",
  "http://u:p@a:1"
]) {
  it.effect(`a target ${JSON.stringify(text)} is refused with words`, () =>
    Effect.map(Effect.flip(parseTarget(text)), (error) => {
      assert.strictEqual(error.what, "TARGET")
      assert.isNotEmpty(error.problem)
    })
  )
}

it.effect("names are host labels, in lower case", () =>
  Effect.gen(function* () {
    assert.strictEqual(yield* parseName("Web-1"), "web-1")
    assert.strictEqual(yield* parseName("a".repeat(63)), "a".repeat(63))
    for (const bad of ["", "-a", "a-", "a.b", "a_b", "ä", "a b", "a".repeat(64)]) {
      assert.strictEqual((yield* Effect.flip(parseName(bad))).what, "--name", bad)
    }
  })
)

const hrefs = (text: string) => Effect.map(parseHubs(text), (urls) => urls.map(({ href }) => href))

it.effect("a hub's URL gets the path of runners where it has none", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* hrefs("ws://127.0.0.1:6420"), ["ws://127.0.0.1:6420/runners/connect"])
    assert.deepStrictEqual(yield* hrefs("https://t.example"), ["wss://t.example/runners/connect"])
    assert.deepStrictEqual(yield* hrefs("wss://t.example/in/here?x=1#y"), ["wss://t.example/in/here?x=1"])
    for (const bad of ["", "127.0.0.1:6420", "ftp://a", "ws://", "ws://a,", "ws://a,b"]) {
      assert.strictEqual((yield* Effect.flip(parseHubs(bad))).what, "--hub", bad)
    }
    const secret = yield* Effect.flip(parseHubs("ws://me:s3cret@a"))
    assert.notInclude(secret.message, "s3cret")
  })
)

it.effect("several hubs are separated by commas", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* hrefs("ws://a:1, https://b"), ["ws://a:1/runners/connect", "wss://b/runners/connect"])
  })
)
