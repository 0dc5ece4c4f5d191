/**
 * Who is this runner, and which names may it serve? Asked once per connection, before anything else is believed.
 */
import { createHash, timingSafeEqual } from "node:crypto"
import { Context, Effect, FileSystem, Layer, Option, Redacted, Schema } from "effect"

/** `Unauthorized`: no token, or one nobody gave out. `Forbidden`: a good token that does not cover the name. */
export class AuthenticationError extends Schema.TaggedError<AuthenticationError>()("AuthenticationError", {
  reason: Schema.Literals(["Unauthorized", "Forbidden"]),
  name: Schema.String
}) {}

/** Whom a connection speaks for. A session belongs to the identity that began it, and no other may resume it. */
export interface Identity {
  readonly id: string
}

/** Judges a runner by what it showed and the name it asks for. `serve` provides tokens from a file; anything else is a layer of your own. */
export class Authenticator extends Context.Service<
  Authenticator,
  {
    readonly authenticate: (
      token: Option.Option<Redacted.Redacted<string>>,
      name: string
    ) => Effect.Effect<Identity, AuthenticationError>
  }
>()("wayleave/auth/Authenticator") {}

/** Lets everybody in, as one identity. `serve` refuses this beyond loopback. */
export const layerOpen: Layer.Layer<Authenticator> = Layer.succeed(Authenticator, {
  authenticate: () => Effect.succeed({ id: "anyone" })
})

/** A token and the names it covers; `*` covers all, `web-*` all that begin so. */
export interface TokenGrant {
  readonly token: Redacted.Redacted<string>
  readonly names: ReadonlyArray<string>
}

const digest = (text: string) => createHash("sha256").update(text, "utf8").digest()

const covers = (pattern: string, name: string) =>
  pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : pattern === name

/** Compares digests in constant time, all of them: how long it takes tells nothing of which token came close. */
export const layerTokens = (grants: ReadonlyArray<TokenGrant>): Layer.Layer<Authenticator> => {
  const known = grants.map((grant) => ({ digest: digest(Redacted.value(grant.token)), names: grant.names }))
  return Layer.succeed(Authenticator, {
    authenticate: (token, name) =>
      Effect.suspend(() => {
        const claimed = Option.isSome(token) ? digest(Redacted.value(token.value)) : undefined
        let found: (typeof known)[number] | undefined
        if (claimed !== undefined) for (const one of known) if (timingSafeEqual(one.digest, claimed)) found = one
        if (found === undefined) return Effect.fail(new AuthenticationError({ reason: "Unauthorized", name }))
        if (!found.names.some((pattern) => covers(pattern, name))) {
          return Effect.fail(new AuthenticationError({ reason: "Forbidden", name }))
        }
        return Effect.succeed({ id: found.digest.toString("hex").slice(0, 16) })
      })
  })
}

/** A token file that cannot be used. `line` is 0 where the file as a whole is at fault; nothing here ever shows a token. */
export class TokenFileError extends Schema.TaggedError<TokenFileError>()("TokenFileError", {
  file: Schema.String,
  line: Schema.Int,
  problem: Schema.String
}) {
  override get message() {
    return `${this.file}${this.line === 0 ? "" : `, line ${this.line}`}: ${this.problem}`
  }
}

const tokenBytesMin = 16

/** Lines of `TOKEN [NAME …]`; no name means all names; blank lines and those that begin with `#` are passed over. */
export const parseTokens = Effect.fnUntraced(function* (file: string, text: string) {
  const grants: Array<TokenGrant> = []
  const lines = text.split(/\r?\n/)
  for (let i = 0; i < lines.length; i++) {
    const [token, ...names] = (lines[i] as string).trim().split(/\s+/)
    if (token === undefined || token === "" || token.startsWith("#")) continue
    if (token.length < tokenBytesMin) {
      const problem = `the token is shorter than ${tokenBytesMin} characters`
      return yield* new TokenFileError({ file, line: i + 1, problem })
    }
    grants.push({ token: Redacted.make(token), names: names.length === 0 ? ["*"] : names })
  }
  if (grants.length === 0) return yield* new TokenFileError({ file, line: 0, problem: "the file holds no token" })
  return grants
})

/** The tokens of a file, read when the layer is built. */
export const layerTokenFile = (file: string): Layer.Layer<Authenticator, TokenFileError, FileSystem.FileSystem> =>
  Layer.unwrap(
    Effect.gen(function* () {
      const files = yield* FileSystem.FileSystem
      const text = yield* files
        .readFileString(file)
        .pipe(Effect.mapError(() => new TokenFileError({ file, line: 0, problem: "the token file cannot be read" })))
      return layerTokens(yield* parseTokens(file, text))
    })
  )
