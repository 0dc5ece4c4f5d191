/**
 * `wayleave serve`: flags into a `ServerConfig`, and the server until a signal comes.
 */
import { Config, Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as Server from "../server/Server.ts"
import { ConfigurationError, resolve, settings } from "../server/ServerConfig.ts"
import { asUserError } from "./asUserError.ts"

const describe = (key: keyof typeof settings): string => {
  const { env, fallback, means } = settings[key]
  const value = Option.isOption(fallback) ? undefined : fallback
  return `${means} (${env}${value === undefined || value === false ? "" : `, default ${value}`})`
}

const flags = {
  host: Flag.String("host").pipe(Flag.withDescription(describe("host")), Flag.optional),
  port: Flag.Int("port").pipe(Flag.withDescription(describe("port")), Flag.optional),
  adminPort: Flag.Int("admin-port").pipe(Flag.withDescription(describe("adminPort")), Flag.optional),
  domain: Flag.String("domain").pipe(Flag.withDescription(describe("domain")), Flag.optional),
  tokenFile: Flag.String("token-file").pipe(Flag.withDescription(describe("tokenFile")), Flag.optional),
  actorsFile: Flag.String("actors-file").pipe(Flag.withDescription(describe("actorsFile")), Flag.optional),
  configFile: Flag.String("config").pipe(
    Flag.withDescription("a JSON file with the same settings; flags and environment beat it (WAYLEAVE_CONFIG)"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription(describe("json")), Flag.optional),
  nats: Flag.String("nats").pipe(
    Flag.withDescription("the servers of a cluster; not part of this version"),
    Flag.withFallbackConfig(Config.String("WAYLEAVE_NATS")),
    Flag.optional
  )
}

/** The subcommand. */
export const serveCommand = Command.make(
  "serve",
  flags,
  Effect.fnUntraced(function* ({ actorsFile, adminPort, configFile, domain, host, json, nats, port, tokenFile }) {
    if (Option.isSome(nats) && nats.value !== "") {
      return yield* new ConfigurationError({
        source: "--nats",
        problem: "clusters over NATS are not part of this version; leave it out to serve from one process"
      })
    }
    const config = yield* resolve({
      host: Option.getOrUndefined(host),
      port: Option.getOrUndefined(port),
      adminPort: Option.getOrUndefined(adminPort),
      domain: Option.getOrUndefined(domain),
      tokenFile: Option.getOrUndefined(tokenFile),
      actorsFile: Option.getOrUndefined(actorsFile),
      json: Option.getOrUndefined(json),
      configFile: Option.getOrUndefined(configFile)
    })
    return yield* Server.run(config)
  }, Effect.mapError(asUserError))
).pipe(
  Command.withDescription("Take visitors and runners: gateway, hub and admin port in one process"),
  Command.withExamples([
    { command: "wayleave serve", description: "On this machine only" },
    {
      command: "wayleave serve --host 0.0.0.0 --domain tunnel.example.org --token-file tokens.txt",
      description: "For others, who need a token"
    }
  ])
)
