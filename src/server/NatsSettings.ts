/** The settings of a cluster over NATS, and what they come to. Secrets come from the environment or from files, never from a flag. */
import { Effect, Option, type Redacted, Result } from "effect"
import { type NatsAuth, type NatsOptions, parseServers, type ServerList } from "../bus/NatsOptions.ts"
import { ConfigurationError, optional, optionalSecret, optionalText, type Setting } from "./Setting.ts"

/** The settings as they are given. */
export interface NatsSettings {
  readonly nats: Option.Option<ServerList>
  readonly natsUser: Option.Option<string>
  readonly natsPassword: Option.Option<Redacted.Redacted<string>>
  readonly natsToken: Option.Option<Redacted.Redacted<string>>
  readonly natsCreds: Option.Option<string>
  readonly natsNkeyFile: Option.Option<string>
  readonly natsCa: Option.Option<string>
}

/** Their names and meanings. */
export const natsSettings: { readonly [Key in keyof NatsSettings]: Setting<NatsSettings[Key]> } = {
  nats: {
    flag: "--nats",
    env: "WAYLEAVE_NATS",
    expects: "NATS servers such as nats://a:4222,nats://b:4222; one with tls:// makes all of them TLS",
    means: "the servers that make one tunnel of several processes; without them this process is the whole of it",
    secret: true,
    ...optional((value) => Result.getSuccess(parseServers(value)))
  },
  natsUser: {
    flag: undefined,
    env: "WAYLEAVE_NATS_USER",
    expects: "a user's name",
    means: "who we are to NATS, by password; nats://USER:PASSWORD@HOST in the variable or the file says the same",
    ...optionalText
  },
  natsPassword: {
    env: "WAYLEAVE_NATS_PASSWORD",
    expects: "a password",
    means: "the password of that user",
    ...optionalSecret
  },
  natsToken: {
    env: "WAYLEAVE_NATS_TOKEN",
    expects: "a token",
    means: "who we are to NATS, by token",
    ...optionalSecret
  },
  natsCreds: {
    flag: "--nats-creds",
    env: "WAYLEAVE_NATS_CREDS",
    expects: "a file name",
    means: "who we are to NATS, by a credentials file",
    ...optionalText
  },
  natsNkeyFile: {
    flag: "--nats-nkey-file",
    env: "WAYLEAVE_NATS_NKEY_FILE",
    expects: "a file name",
    means: "who we are to NATS, by the seed of an nkey in a file",
    ...optionalText
  },
  natsCa: {
    flag: "--nats-ca",
    env: "WAYLEAVE_NATS_CA",
    expects: "a file name",
    means: "certificates, in PEM, that sign those of the NATS servers; makes the connection TLS",
    ...optionalText
  }
}

type Named = readonly [source: string, auth: NatsAuth]

const named = <A>(source: string, value: Option.Option<A>, auth: (value: A) => NatsAuth): ReadonlyArray<Named> =>
  Option.isSome(value) ? [[source, auth(value.value)]] : []

/** Every way to be let in that was given: there may be one. */
const ways = (given: NatsSettings, { login }: ServerList): ReadonlyArray<Named> => [
  ...(login === undefined ? [] : [["the user in the list of servers", { _tag: "Password", ...login }] as const]),
  ...named(
    natsSettings.natsUser.env,
    Option.zipWith(given.natsUser, given.natsPassword, (user, password) => ({ user, password })),
    (pair) => ({ _tag: "Password", ...pair })
  ),
  ...named(natsSettings.natsToken.env, given.natsToken, (token) => ({ _tag: "Token", token })),
  ...named(natsSettings.natsCreds.env, given.natsCreds, (file) => ({ _tag: "CredsFile", file })),
  ...named(natsSettings.natsNkeyFile.env, given.natsNkeyFile, (file) => ({ _tag: "NkeyFile", file }))
]

/** What they come to: nothing where no server is named, else the options of a bus. */
export const natsOptions = (given: NatsSettings): Effect.Effect<Option.Option<NatsOptions>, ConfigurationError> => {
  if (Option.isNone(given.nats)) return Effect.succeed(Option.none())
  const list = given.nats.value
  const { natsPassword, natsUser } = natsSettings
  if (Option.isSome(given.natsUser) !== Option.isSome(given.natsPassword)) {
    const [present, absent] = Option.isSome(given.natsUser) ? [natsUser, natsPassword] : [natsPassword, natsUser]
    return Effect.fail(new ConfigurationError({ source: present.env, problem: `needs ${absent.env} as well` }))
  }
  const [way, ...others] = ways(given, list)
  if (others.length > 0) {
    const source = [way, ...others].map((one) => one?.[0]).join(", ")
    return Effect.fail(new ConfigurationError({ source, problem: "more than one way to be let in by NATS; give one" }))
  }
  return Effect.succeedSome({
    servers: list.servers,
    tls: list.tls,
    auth: way?.[1],
    caFile: Option.getOrUndefined(given.natsCa)
  })
}

/** Refuses a password where every process of the machine could read it. */
export const refusePassword = (flag: unknown): Effect.Effect<void, ConfigurationError> =>
  typeof flag === "string" && flag.includes("@")
    ? Effect.fail(
        new ConfigurationError({
          source: "--nats",
          problem: `a user and password do not belong on a command line; give them in ${natsSettings.nats.env}`
        })
      )
    : Effect.void
