/**
 * What a worker and its keeper say to each other. The order comes with the worker's environment: it is there before anything else is, and every process of
 * the machine can read a command line. The rest goes over the channel that a forked process has.
 *
 * The order holds the whole configuration, as it was put together once: a worker that is started again is what it was, whatever became of the file.
 */
import { type Effect, Schema } from "effect"
import type { ServerConfig } from "./ServerConfig.ts"

const Secret = Schema.Redacted(Schema.String)

const NatsAuth = Schema.TaggedUnion({
  Password: { user: Schema.String, password: Secret },
  Token: { token: Secret },
  CredsFile: { file: Schema.String },
  NkeyFile: { file: Schema.String }
})

const Config = Schema.Struct({
  host: Schema.String,
  port: Schema.Int,
  adminPort: Schema.Int,
  domain: Schema.String,
  tokenFile: Schema.Option(Schema.String),
  actorsFile: Schema.Option(Schema.String),
  workers: Schema.Int,
  json: Schema.Boolean,
  nats: Schema.Option(
    Schema.Struct({
      servers: Schema.Array(Schema.String),
      auth: Schema.optional(NatsAuth),
      tls: Schema.optionalKey(Schema.Boolean),
      caFile: Schema.optional(Schema.String),
      startMs: Schema.optionalKey(Schema.Number)
    })
  )
}) satisfies Schema.Codec<ServerConfig, unknown>

/** What a worker is to do. */
export const Order = Schema.Struct({
  config: Config,
  /** All processes on its bus are workers of one keeper. */
  alone: Schema.Boolean
})
/** What a worker is to do. */
export type Order = typeof Order.Type

/** The variable that holds the order. */
export const orderVariable = "WAYLEAVE_WORKER_ORDER"

const OrderText = Schema.fromJsonString(Schema.toCodecJson(Order))

/** The order as a text, and back. */
export const encodeOrder: (order: Order) => string = Schema.encodeSync(OrderText)
/** Fails where a stranger made it up. */
export const decodeOrder: (text: string) => Effect.Effect<Order, Schema.SchemaError> =
  Schema.decodeUnknownEffect(OrderText)

/** To a worker. */
export const KeeperMessage = Schema.TaggedUnion({
  /** Take nothing new, and end when what is open has finished. */
  Drain: {}
})

/** From a worker. */
export const WorkerMessage = Schema.TaggedUnion({
  /** Visitors may come. */
  Ready: { url: Schema.String, port: Schema.Int, adminUrl: Schema.String, adminPort: Schema.Int },
  /** It cannot begin, and ends now; in the words that a person reads. */
  Failed: { message: Schema.String }
})
/** From a worker. */
export type WorkerMessage = typeof WorkerMessage.Type
