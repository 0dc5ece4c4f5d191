/**
 * What `wayleave serve` can be told, and by whom: a flag beats the environment, that beats the configuration file, that beats the default.
 *
 * Each setting stands once in `settings`; the flags, the environment variables, the file's keys and `docs/configuration.md` follow from it.
 * Next: `Server.ts`, which serves what was resolved here.
 */
import { Config, Effect, FileSystem, Option, Schema } from "effect"
import type { NatsOptions } from "../bus/NatsOptions.ts"
import { limits } from "../tunnel/Limits.ts"
import { type NatsSettings, natsOptions, natsSettings, refusePassword } from "./NatsSettings.ts"
import { ConfigurationError, optionalText, type Setting, text } from "./Setting.ts"

export { ConfigurationError } from "./Setting.ts"

/** Listening where strangers can reach it, with nothing to tell a stranger's runner from ours. */
export class UnprotectedHost extends Schema.TaggedError<UnprotectedHost>()("UnprotectedHost", {
  host: Schema.String
}) {
  override get message() {
    return (
      `refusing to listen on ${this.host} without a token file: whoever reaches it could serve any name. ` +
      "Give --token-file F, or listen on 127.0.0.1"
    )
  }
}

interface ServerSettings extends NatsSettings {
  readonly host: string
  readonly port: number
  readonly adminPort: number
  readonly domain: string
  readonly tokenFile: Option.Option<string>
  readonly actorsFile: Option.Option<string>
  readonly workers: number
  readonly json: boolean
}

/** Everything `serve` knows once flags, environment, file and defaults are put together. */
export interface ServerConfig extends Omit<ServerSettings, keyof NatsSettings> {
  /** None: one process is the whole cluster. */
  readonly nats: Option.Option<NatsOptions>
}

const Text = Schema.String.check(Schema.isMinLength(1))
const Port = Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 }))
const Workers = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: limits.workersMax }))
const Digits = Schema.String.check(Schema.isPattern(/^[0-9]{1,5}$/))
// One or more host labels; the port of a URL is not part of a domain.
const Domain = Schema.String.check(
  Schema.isPattern(/^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i)
)

const whole = (schema: Schema.Codec<number>) => {
  const decode = Schema.decodeUnknownOption(schema)
  return {
    json: decode,
    text: (value: string) => (Schema.is(Digits)(value) ? decode(Number(value)) : Option.none())
  }
}
const port = whole(Port)

const switches = new Map([
  ["1", true],
  ["true", true],
  ["0", false],
  ["false", false]
])
const toggle = {
  json: Schema.decodeUnknownOption(Schema.Boolean),
  text: (value: string) => Option.fromNullishOr(switches.get(value.toLowerCase()))
}

/** All settings. The key is the one in the configuration file. */
export const settings: { readonly [Key in keyof ServerSettings]: Setting<ServerSettings[Key]> } = {
  host: {
    flag: "--host",
    env: "WAYLEAVE_HOST",
    fallback: "127.0.0.1",
    expects: "a host name or address",
    means: "where to listen; beyond loopback only with a token file",
    ...text(Text)
  },
  port: {
    flag: "--port",
    env: "WAYLEAVE_PORT",
    fallback: 6420,
    expects: "a port from 0 to 65535",
    means: "for visitors and runners alike; 0 takes a free one",
    ...port
  },
  adminPort: {
    flag: "--admin-port",
    env: "WAYLEAVE_ADMIN_PORT",
    fallback: 6421,
    expects: "a port from 0 to 65535",
    means: "for health and metrics; 0 takes a free one",
    ...port
  },
  domain: {
    flag: "--domain",
    env: "WAYLEAVE_DOMAIN",
    fallback: "localhost",
    expects: "a domain such as localhost or tunnel.example.org, without a port",
    means: "a runner called NAME is reached at NAME.DOMAIN",
    ...text(Domain)
  },
  tokenFile: {
    flag: "--token-file",
    env: "WAYLEAVE_TOKEN_FILE",
    expects: "a file name",
    means: "the tokens runners may show, one a line with the names it covers; without it everybody may serve",
    ...optionalText
  },
  actorsFile: {
    flag: "--actors-file",
    env: "WAYLEAVE_ACTORS_FILE",
    expects: "a file name",
    means: "where actors of Rivet's runners and what they store are kept; without it they end with the process",
    ...optionalText
  },
  workers: {
    flag: "--workers",
    env: "WAYLEAVE_WORKERS",
    fallback: 1,
    expects: `a number from 1 to ${limits.workersMax}`,
    means:
      "processes behind the port for visitors, which are one tunnel over NATS: --nats, or a nats-server of their own",
    ...whole(Workers)
  },
  json: {
    flag: "--json",
    env: "WAYLEAVE_JSON",
    fallback: false,
    expects: "true or false",
    means: "write logs as JSON, one object a line",
    ...toggle
  },
  ...natsSettings
}

/** What the command line gave: only what was given. `configFile` names the file, and is no setting itself. */
export type ServerFlags = { readonly [Key in keyof ServerSettings]?: unknown } & {
  readonly configFile?: string | undefined
}

const envOf = (name: string) =>
  Config.option(Config.String(name)).pipe(
    // An empty variable is how shells and container files spell an absent one.
    Effect.map(Option.filter((value) => value !== "")),
    Effect.orElseSucceed(() => Option.none<string>())
  )

const readFile = Effect.fnUntraced(function* (file: string) {
  const files = yield* FileSystem.FileSystem
  const content = yield* files
    .readFileString(file)
    .pipe(
      Effect.mapError(() => new ConfigurationError({ source: file, problem: "the configuration file cannot be read" }))
    )
  const parsed = yield* Effect.try({
    try: () => JSON.parse(content) as unknown,
    catch: (error) =>
      new ConfigurationError({ source: file, problem: `not JSON: ${error instanceof Error ? error.message : error}` })
  })
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) {
    return yield* new ConfigurationError({ source: file, problem: "expected one JSON object" })
  }
  for (const key of Object.keys(parsed)) {
    if (!Object.hasOwn(settings, key)) {
      const known = Object.keys(settings).join(", ")
      return yield* new ConfigurationError({
        source: `${file}, key "${key}"`,
        problem: `no such setting; known are ${known}`
      })
    }
  }
  return parsed as Readonly<Record<string, unknown>>
})

/** Refuses what makes sense alone, and not together. */
const refuseMisfits = ({ actorsFile, adminPort, port, workers }: ServerConfig) => {
  const refuse = (key: "adminPort" | "workers", problem: string) =>
    Effect.fail(new ConfigurationError({ source: settings[key].flag ?? settings[key].env, problem }))
  const adminPortLast = adminPort === 0 ? 0 : adminPort + workers - 1
  if (port !== 0 && port >= adminPort && port <= adminPortLast) {
    return workers === 1
      ? refuse("adminPort", `${adminPort} is the port for visitors already; the two must differ`)
      : refuse("adminPort", `${workers} workers take ${adminPort} to ${adminPortLast}, and ${port} is for visitors`)
  }
  if (adminPortLast > 65_535) {
    return refuse("adminPort", `${workers} workers take one port each from ${adminPort} on, which leads beyond 65535`)
  }
  if (workers > 1 && Option.isSome(actorsFile)) {
    const problem = `actors are controlled by one process, so ${workers} workers cannot share ${actorsFile.value}; give one of --workers and --actors-file`
    return refuse("workers", problem)
  }
  return Effect.void
}

/** Puts the sources together. Every value given is checked, also one that a stronger source overrules: it would surprise later. */
export const resolve = Effect.fnUntraced(function* (
  flags: ServerFlags
): Effect.fn.Return<ServerConfig, ConfigurationError, FileSystem.FileSystem> {
  const configFile = flags.configFile ?? Option.getOrUndefined(yield* envOf("WAYLEAVE_CONFIG"))
  const file = configFile === undefined ? {} : yield* readFile(configFile)
  yield* refusePassword(flags.nats)
  const setting = Effect.fnUntraced(function* <Key extends keyof ServerSettings>(key: Key) {
    const { expects, env, fallback, flag, json, secret, text } = settings[key]
    const fromFlag = flags[key]
    const fromEnv = yield* envOf(env)
    const candidates: Array<readonly [source: string, value: Option.Option<ServerSettings[Key]>, given: unknown]> = []
    if (fromFlag !== undefined) candidates.push([flag ?? key, json(fromFlag), fromFlag])
    if (Option.isSome(fromEnv)) candidates.push([env, text(fromEnv.value), fromEnv.value])
    if (file[key] !== undefined) candidates.push([`${configFile}, key "${key}"`, json(file[key]), file[key]])
    for (const [source, value, given] of candidates) {
      if (Option.isNone(value)) {
        return yield* new ConfigurationError({
          source,
          problem: `expected ${expects}${secret === true ? "" : `, got ${JSON.stringify(given)}`}`
        })
      }
    }
    return Option.getOrElse(candidates[0]?.[1] ?? Option.none(), () => fallback)
  })
  const config: ServerConfig = {
    host: yield* setting("host"),
    port: yield* setting("port"),
    adminPort: yield* setting("adminPort"),
    domain: (yield* setting("domain")).toLowerCase(),
    tokenFile: yield* setting("tokenFile"),
    actorsFile: yield* setting("actorsFile"),
    workers: yield* setting("workers"),
    json: yield* setting("json"),
    nats: yield* Effect.flatMap(
      Effect.all({
        nats: setting("nats"),
        natsUser: setting("natsUser"),
        natsPassword: setting("natsPassword"),
        natsToken: setting("natsToken"),
        natsCreds: setting("natsCreds"),
        natsNkeyFile: setting("natsNkeyFile"),
        natsCa: setting("natsCa")
      }),
      natsOptions
    )
  }
  yield* refuseMisfits(config)
  return config
})

const loopback = /^(?:localhost|127(?:\.[0-9]{1,3}){3}|::1|\[::1\]|::ffff:127(?:\.[0-9]{1,3}){3})$/i

/** Whether only this machine can reach `host`. A name other than `localhost` may resolve to anything, so it is taken for the outside. */
export const isLoopback = (host: string): boolean => loopback.test(host)

/** Refuses to listen beyond loopback with nothing that tells runners apart. */
export const requireProtection = (config: ServerConfig): Effect.Effect<void, UnprotectedHost> =>
  isLoopback(config.host) || Option.isSome(config.tokenFile)
    ? Effect.void
    : Effect.fail(new UnprotectedHost({ host: config.host }))

/** `host:port` as it stands in a URL: IPv6 in brackets. */
export const authority = (host: string, port: number): string =>
  `${host.includes(":") && !host.startsWith("[") ? `[${host}]` : host}:${port}`
