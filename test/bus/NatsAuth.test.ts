/** How a bus is let in by a real server, and what a person is told where it is not. */
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { nkeys } from "@nats-io/transport-node"
import { Effect, Fiber, Layer, Redacted, Result } from "effect"
import { MessageBus } from "../../src/bus/MessageBus.ts"
import * as NatsMessageBus from "../../src/bus/NatsMessageBus.ts"
import { type NatsAuth, type NatsOptions, parseServers } from "../../src/bus/NatsOptions.ts"
import { limits } from "../../src/tunnel/Limits.ts"
import { numbered, take } from "../contract/MessageBusContract.ts"
import { type NatsServerOptions, natsStartTimeoutMs, requireNatsServer, startNatsServer } from "./NatsServer.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "wayleave-nats-auth-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

const fileOf = (name: string, content: string | Uint8Array) =>
  Effect.map(directory, (path) => {
    writeFileSync(join(path, name), content)
    return join(path, name)
  })

/** Whether a bus with these options carries an envelope to itself. */
const carries = (options: NatsOptions) =>
  Effect.gen(function* () {
    const bus = yield* MessageBus
    const inbox = yield* bus.subscribe("s")
    yield* bus.publish("s", [numbered(7)], "one")
    assert.deepStrictEqual(yield* take(inbox, 1), [7])
  }).pipe(Effect.scoped, Effect.provide(NatsMessageBus.layer(options)))

const failure = (options: NatsOptions) => Effect.flip(Effect.scoped(Layer.build(NatsMessageBus.layer(options))))

const letsIn = (
  title: string,
  server: NatsServerOptions,
  right: Effect.Effect<NatsAuth, never, never>,
  wrong: NatsAuth
) =>
  it.live(`lets in ${title}, and nobody else`, () =>
    Effect.gen(function* () {
      const { port } = yield* startNatsServer(server)
      const servers = [`127.0.0.1:${port}`]
      yield* carries({ servers, auth: yield* right })
      for (const auth of [wrong, undefined]) {
        const error = yield* failure({ servers, auth })
        assert.strictEqual(error.reason, "Unauthorized")
        assert.strictEqual(error.message, `NATS at 127.0.0.1:${port}: the server did not let us in`)
      }
    }).pipe(Effect.scoped)
  )

const password = (user: string, secret: string): NatsAuth => ({
  _tag: "Password",
  user,
  password: Redacted.make(secret)
})

describe("a server", () => {
  letsIn(
    "a user with a password",
    { config: 'authorization { user: "way", password: "s3cret" }' },
    Effect.succeed(password("way", "s3cret")),
    password("way", "wrong")
  )
  letsIn(
    "a token",
    { config: 'authorization { token: "t0ken" }' },
    Effect.succeed({ _tag: "Token", token: Redacted.make("t0ken") }),
    { _tag: "Token", token: Redacted.make("wrong") }
  )

  it.live("lets in the seed of an nkey, from a file with a line's end, and not another's", () =>
    Effect.gen(function* () {
      const user = nkeys.createUser()
      const { port } = yield* startNatsServer({ config: `authorization { users: [{ nkey: ${user.getPublicKey()} }] }` })
      const servers = [`127.0.0.1:${port}`]
      const seedFile = (pair: typeof user) => fileOf("seed.nk", `${new TextDecoder().decode(pair.getSeed())}\n`)
      yield* carries({ servers, auth: { _tag: "NkeyFile", file: yield* seedFile(user) } })
      const other = yield* failure({ servers, auth: { _tag: "NkeyFile", file: yield* seedFile(nkeys.createUser()) } })
      assert.strictEqual(other.reason, "Unauthorized")
    }).pipe(Effect.scoped)
  )

  it.live("lets in the user of a credentials file, and not one of a strange account", () =>
    Effect.gen(function* () {
      const operator = nkeys.createOperator()
      const account = nkeys.createAccount()
      const claims = (issuer: typeof operator, subject: typeof operator, nats: object) => {
        const encoded = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url")
        const body = encoded({
          jti: subject.getPublicKey(),
          iat: 1_700_000_000,
          iss: issuer.getPublicKey(),
          sub: subject.getPublicKey(),
          name: "test",
          nats: { ...nats, version: 2 }
        })
        const signed = `${encoded({ typ: "JWT", alg: "ed25519-nkey" })}.${body}`
        return `${signed}.${Buffer.from(issuer.sign(new TextEncoder().encode(signed))).toString("base64url")}`
      }
      const unlimited = { subs: -1, data: -1, payload: -1 }
      const ofAccount = { type: "account", limits: { ...unlimited, imports: -1, exports: -1, conn: -1, leaf: -1 } }
      const credsFile = (issuer: typeof operator) => {
        const user = nkeys.createUser()
        const jwt = claims(issuer, user, { type: "user", pub: {}, sub: {}, ...unlimited })
        const seed = new TextDecoder().decode(user.getSeed())
        const block = (title: string, text: string) => `-----BEGIN ${title}-----\n${text}\n------END ${title}------\n`
        return fileOf("user.creds", `${block("NATS USER JWT", jwt)}\n${block("USER NKEY SEED", seed)}`)
      }
      const { port } = yield* startNatsServer({
        config: [
          `operator: "${claims(operator, operator, { type: "operator" })}"`,
          "resolver: MEMORY",
          `resolver_preload: { ${account.getPublicKey()}: "${claims(operator, account, ofAccount)}" }`
        ].join("\n")
      })
      const servers = [`127.0.0.1:${port}`]
      yield* carries({ servers, auth: { _tag: "CredsFile", file: yield* credsFile(account) } })
      const stranger = yield* credsFile(nkeys.createAccount())
      assert.strictEqual(
        (yield* failure({ servers, auth: { _tag: "CredsFile", file: stranger } })).reason,
        "Unauthorized"
      )
    }).pipe(Effect.scoped)
  )

  it.live("with TLS is believed by the certificate of its signer, and by nobody else's", () =>
    Effect.gen(function* () {
      const path = yield* directory
      const certificate = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2"
      ]
      const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
      execFileSync("openssl", [...certificate, ...subject, "-keyout", "key.pem", "-out", "cert.pem"], {
        cwd: path,
        stdio: "pipe"
      })
      const { port } = yield* startNatsServer({
        config: 'tls { cert_file: "$DIR/cert.pem", key_file: "$DIR/key.pem" }',
        files: {
          "cert.pem": readFileSync(join(path, "cert.pem"), "utf8"),
          "key.pem": readFileSync(join(path, "key.pem"), "utf8")
        }
      })
      const servers = [`localhost:${port}`]
      yield* carries({ servers, caFile: join(path, "cert.pem") })
      const doubtful = yield* failure({ servers, tls: true })
      assert.strictEqual(doubtful.reason, "Misconfigured")
      assert.match(doubtful.problem, /self-signed/)
      const { port: plain } = yield* startNatsServer()
      const bare = yield* failure({ servers: [`127.0.0.1:${plain}`], tls: true })
      assert.match(bare.problem, /does not support 'tls'/)
    }).pipe(Effect.scoped)
  )
})

describe("a start", () => {
  /** A port that was free a moment ago. */
  const freePort = Effect.scoped(
    Effect.gen(function* () {
      const { kill, port } = yield* startNatsServer()
      yield* kill
      return port
    })
  )
  it.live("waits for a server that comes a little later", () =>
    Effect.gen(function* () {
      const port = yield* freePort
      const working = yield* Effect.forkChild(carries({ servers: [`127.0.0.1:${port}`] }), { startImmediately: true })
      yield* startNatsServer({ port })
      yield* Fiber.join(working)
    }).pipe(Effect.scoped)
  )
  it.live("goes on with any of several servers", () =>
    Effect.gen(function* () {
      const gone = yield* freePort
      const { port } = yield* startNatsServer()
      yield* carries({ servers: [`127.0.0.1:${gone}`, `127.0.0.1:${port}`] })
    }).pipe(Effect.scoped)
  )
  it.live("at a server that takes no message as long as a request fails, and says what is needed", () =>
    Effect.gen(function* () {
      const { port } = yield* startNatsServer({ config: "max_payload: 65536" })
      const error = yield* failure({ servers: [`127.0.0.1:${port}`] })
      assert.strictEqual(error.reason, "Unfit")
      assert.include(error.problem, `max_payload of 65536 bytes is below the ${limits.natsPayloadBytesMin}`)
    }).pipe(Effect.scoped)
  )
  it.live("with a file that is missing or no key fails in words", () =>
    Effect.gen(function* () {
      const { port } = yield* startNatsServer()
      const servers = [`127.0.0.1:${port}`]
      for (const options of [
        { auth: { _tag: "CredsFile", file: "/nonexistent/creds" } },
        { auth: { _tag: "NkeyFile", file: "/nonexistent/nkey" } },
        { caFile: "/nonexistent/ca" }
      ] as const) {
        const error = yield* failure({ servers, ...options })
        assert.strictEqual(error.reason, "Misconfigured")
        assert.match(error.problem, /\/nonexistent\/(creds|nkey|ca)/)
      }
      const empty = yield* failure({ servers, auth: { _tag: "CredsFile", file: "/dev/null" } })
      assert.deepInclude(empty, { reason: "Misconfigured", problem: "unable to parse credentials" })
    }).pipe(Effect.scoped)
  )
})

describe("a list of servers", () => {
  const read = (text: string) => Result.getOrThrow(parseServers(text))
  it("is read with its ports, its scheme and its user", () => {
    assert.deepInclude(read("nats://a:4222, b ,nats://[::1]:4333"), {
      servers: ["a:4222", "b", "[::1]:4333"],
      tls: false
    })
    assert.isTrue(read("nats://a,tls://b").tls)
    const { login } = read("nats://way:p%40ss@a,b")
    assert.strictEqual(login?.user, "way")
    assert.strictEqual(login && Redacted.value(login.password), "p@ss")
  })
  it("is refused where it is none, and no password is repeated", () => {
    for (const text of [
      "",
      "http://a",
      "nats://",
      "a,,b",
      "nats://a/path",
      "nats://u:p%zz@a",
      "nats://u:x@a,nats://v:x@b"
    ]) {
      const problem = parseServers(text)
      assert.isTrue(Result.isFailure(problem), text)
      assert.notInclude(JSON.stringify(problem), "p%zz")
    }
  })
})
