/**
 * `wayleave serve`: flags into a `ServerConfig`, and the server until a signal comes: in this process, or in workers whose keeper it is.
 *
 * Next: `server/Server.ts`; with `--workers`, `server/Workers.ts` and, in each of them, `server/Worker.ts`.
 */
import { Effect, Option } from "effect"
import { Command, Flag } from "effect/cli"
import * as Server from "../server/Server.ts"
import { resolve, settings } from "../server/ServerConfig.ts"
import * as Worker from "../server/Worker.ts"
import * as Workers from "../server/Workers.ts"
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
  workers: Flag.Int("workers").pipe(Flag.withDescription(describe("workers")), Flag.optional),
  configFile: Flag.String("config").pipe(
    Flag.withDescription("a JSON file with the same settings; flags and environment beat it (WAYLEAVE_CONFIG)"),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(Flag.withDescription(describe("json")), Flag.optional),
  nats: Flag.String("nats").pipe(Flag.withDescription(describe("nats")), Flag.optional),
  natsCreds: Flag.String("nats-creds").pipe(Flag.withDescription(describe("natsCreds")), Flag.optional),
  natsNkeyFile: Flag.String("nats-nkey-file").pipe(Flag.withDescription(describe("natsNkeyFile")), Flag.optional),
  natsCa: Flag.String("nats-ca").pipe(Flag.withDescription(describe("natsCa")), Flag.optional)
}

/** The subcommand. */
export const serveCommand = Command.make(
  "serve",
  flags,
  Effect.fnUntraced(function* (given) {
    if (Worker.isWorker()) return yield* Worker.run((error) => asUserError(error).userMessage ?? error.message)
    const config = yield* resolve({
      host: Option.getOrUndefined(given.host),
      port: Option.getOrUndefined(given.port),
      adminPort: Option.getOrUndefined(given.adminPort),
      domain: Option.getOrUndefined(given.domain),
      tokenFile: Option.getOrUndefined(given.tokenFile),
      actorsFile: Option.getOrUndefined(given.actorsFile),
      workers: Option.getOrUndefined(given.workers),
      json: Option.getOrUndefined(given.json),
      nats: Option.getOrUndefined(given.nats),
      natsCreds: Option.getOrUndefined(given.natsCreds),
      natsNkeyFile: Option.getOrUndefined(given.natsNkeyFile),
      natsCa: Option.getOrUndefined(given.natsCa),
      configFile: Option.getOrUndefined(given.configFile)
    })
    return yield* config.workers === 1 ? Server.run(config) : Workers.run(config)
  }, Effect.mapError(asUserError))
).pipe(
  Command.withDescription("Take visitors and runners: gateway, hub and admin port, in one process or several"),
  Command.withExamples([
    { command: "wayleave serve", description: "On this machine only" },
    {
      command: "wayleave serve --host 0.0.0.0 --domain tunnel.example.org --token-file tokens.txt",
      description: "For others, who need a token"
    },
    {
      command: "wayleave serve --workers 4",
      description: "On four cores of this machine; needs a nats-server, installed or by --nats"
    },
    {
      command: "wayleave serve --nats nats://nats.internal:4222",
      description: "One of several, which together are one tunnel"
    }
  ])
)
