import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, FileSystem, Layer, Option, Redacted } from "effect"
import { authority, isLoopback, requireProtection, resolve, settings } from "../../src/server/ServerConfig.ts"

const sources = (options: { readonly env?: Record<string, string>; readonly files?: Record<string, string> }) =>
  Layer.mergeAll(
    ConfigProvider.layer(ConfigProvider.fromEnv({ env: options.env ?? {} })),
    FileSystem.layerNoop({
      readFileString: (file) => {
        const content = options.files?.[file]
        return content === undefined ? Effect.die(`no file ${file}`) : Effect.succeed(content)
      }
    })
  )

it.effect("without anything given, the defaults hold", () =>
  Effect.gen(function* () {
    assert.deepStrictEqual(yield* resolve({}), {
      host: "127.0.0.1",
      port: 6420,
      adminPort: 6421,
      domain: "localhost",
      tokenFile: Option.none(),
      actorsFile: Option.none(),
      workers: 1,
      json: false,
      nats: Option.none()
    })
  }).pipe(Effect.provide(sources({})))
)

it.effect("a flag beats the environment, that beats the file, that beats the default", () =>
  Effect.gen(function* () {
    const config = yield* resolve({ port: 1001, configFile: "/f.json" })
    assert.strictEqual(config.port, 1001)
    assert.strictEqual(config.adminPort, 2002)
    assert.strictEqual(config.domain, "file.example")
    assert.strictEqual(config.host, "127.0.0.1")
    assert.deepStrictEqual(config.tokenFile, Option.some("tokens"))
    assert.isTrue(config.json)
  }).pipe(
    Effect.provide(
      sources({
        env: { WAYLEAVE_PORT: "2001", WAYLEAVE_ADMIN_PORT: "2002", WAYLEAVE_HOST: "", WAYLEAVE_JSON: "true" },
        files: {
          "/f.json": JSON.stringify({ port: 3001, adminPort: 3002, domain: "File.Example", tokenFile: "tokens" })
        }
      })
    )
  )
)

it.effect("WAYLEAVE_CONFIG names the file where no flag does", () =>
  Effect.gen(function* () {
    assert.strictEqual((yield* resolve({})).port, 3001)
  }).pipe(Effect.provide(sources({ env: { WAYLEAVE_CONFIG: "/e.json" }, files: { "/e.json": '{"port":3001}' } })))
)

const refused = (
  name: string,
  options: Parameters<typeof sources>[0],
  flags: object,
  source: string,
  problem: RegExp
) =>
  it.effect(name, () =>
    Effect.gen(function* () {
      const error = yield* Effect.flip(resolve(flags))
      assert.strictEqual(error.source, source)
      assert.match(error.problem, problem)
    }).pipe(Effect.provide(sources(options)))
  )

refused(
  "a port that is no number names its variable",
  { env: { WAYLEAVE_PORT: "http" } },
  {},
  "WAYLEAVE_PORT",
  /"http"/
)
refused("a port beyond 65535 names its flag", {}, { port: 70_000 }, "--port", /0 to 65535, got 70000/)
refused(
  "a bad value is refused even where a flag overrules it",
  { env: { WAYLEAVE_PORT: "x" } },
  { port: 1 },
  "WAYLEAVE_PORT",
  /./
)
refused("a domain with a port is refused", {}, { domain: "a.example:80" }, "--domain", /without a port/)
refused("more workers than bounded is refused", {}, { workers: 65 }, "--workers", /a number from 1 to 64, got 65/)
refused(
  "workers whose ports for operators would reach that for visitors are refused",
  {},
  { workers: 4, port: 7003, adminPort: 7000 },
  "--admin-port",
  /4 workers take 7000 to 7003, and 7003 is for visitors/
)
refused(
  "workers whose ports for operators would lead beyond the last are refused",
  { env: { WAYLEAVE_WORKERS: "2" } },
  { port: 7000, adminPort: 65_535 },
  "--admin-port",
  /beyond 65535/
)
refused(
  "workers cannot share the file of actors",
  { files: { "/f": '{"workers":2,"actorsFile":"a.db"}' } },
  { configFile: "/f" },
  "--workers",
  /controlled by one process, so 2 workers cannot share a\.db; give one of/
)
refused("one port for visitors and operators is refused", {}, { port: 7000, adminPort: 7000 }, "--admin-port", /differ/)
refused(
  "an unknown key in the file is refused and the known ones are told",
  { files: { "/f": '{"prot":1}' } },
  { configFile: "/f" },
  '/f, key "prot"',
  /known are host, port/
)
refused("a file that is no JSON is refused", { files: { "/f": "{" } }, { configFile: "/f" }, "/f", /not JSON/)
refused(
  "a wrong type in the file names file and key",
  { files: { "/f": '{"port":"6420"}' } },
  { configFile: "/f" },
  '/f, key "port"',
  /got "6420"/
)

const cluster = { WAYLEAVE_NATS: "nats://a:4222,b" }
refused(
  "a list of servers that is none is refused, and not repeated: it may hold a password",
  { env: { WAYLEAVE_NATS: "http://u:secret@a" } },
  {},
  "WAYLEAVE_NATS",
  /^expected NATS servers such as \S+ one with tls:\/\/ makes all of them TLS$/
)
refused(
  "a password on the command line is refused",
  {},
  { nats: "nats://u:secret@a" },
  "--nats",
  /^a user and password do not belong on a command line; give them in WAYLEAVE_NATS$/
)
refused(
  "a user without a password is refused",
  { env: { ...cluster, WAYLEAVE_NATS_USER: "u" } },
  {},
  "WAYLEAVE_NATS_USER",
  /needs WAYLEAVE_NATS_PASSWORD/
)
refused(
  "two ways to be let in are refused",
  { env: { ...cluster, WAYLEAVE_NATS_TOKEN: "t" } },
  { natsCreds: "/creds" },
  "WAYLEAVE_NATS_TOKEN, WAYLEAVE_NATS_CREDS",
  /more than one way/
)

it.effect("the servers of a cluster come with how they let us in", () =>
  Effect.gen(function* () {
    const { nats } = yield* resolve({ natsCa: "/ca.pem" })
    const options = Option.getOrThrow(nats)
    assert.deepStrictEqual(options.servers, ["a:4222", "b"])
    assert.deepInclude(options, { tls: false, caFile: "/ca.pem" })
    assert.isTrue(options.auth?._tag === "Password" && options.auth.user === "u")
    assert.strictEqual(options.auth?._tag === "Password" ? Redacted.value(options.auth.password) : "", "p:w")
    assert.notInclude(JSON.stringify(options), "p:w")
  }).pipe(Effect.provide(sources({ env: { ...cluster, WAYLEAVE_NATS_USER: "u", WAYLEAVE_NATS_PASSWORD: "p:w" } })))
)

it.effect("a token in the file holds, and secrets without servers are of no matter", () =>
  Effect.gen(function* () {
    const { nats } = yield* resolve({ nats: "tls://a" })
    const options = Option.getOrThrow(nats)
    assert.isTrue(options.tls)
    assert.strictEqual(options.auth?._tag === "Token" ? Redacted.value(options.auth.token) : "", "t0ken")
    assert.isTrue(Option.isNone((yield* resolve({})).nats))
  }).pipe(Effect.provide(sources({ env: { WAYLEAVE_CONFIG: "/f" }, files: { "/f": '{"natsToken":"t0ken"}' } })))
)

it.effect("beyond loopback a token file is needed", () =>
  Effect.gen(function* () {
    const config = yield* resolve({ host: "0.0.0.0" })
    const error = yield* Effect.flip(requireProtection(config))
    assert.match(error.message, /0\.0\.0\.0 without a token file/)
    yield* requireProtection({ ...config, tokenFile: Option.some("tokens") })
    yield* requireProtection({ ...config, host: "127.0.0.1" })
  }).pipe(Effect.provide(sources({})))
)

it("only addresses that this machine alone can reach count as loopback", () => {
  for (const host of ["localhost", "127.0.0.1", "127.8.9.1", "::1", "[::1]", "::ffff:127.0.0.1"])
    assert.isTrue(isLoopback(host), host)
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "1127.0.0.1", "127.0.0.1.example.org"])
    assert.isFalse(isLoopback(host), host)
})

it("an IPv6 address stands in brackets before a port", () => {
  assert.strictEqual(authority("::1", 80), "[::1]:80")
  assert.strictEqual(authority("127.0.0.1", 80), "127.0.0.1:80")
})

it("every flag has the environment variable of its name", () => {
  for (const { env, flag } of Object.values(settings)) {
    if (flag === undefined) continue
    assert.strictEqual(env, `WAYLEAVE_${flag.slice(2).replaceAll("-", "_").toUpperCase()}`)
  }
})
