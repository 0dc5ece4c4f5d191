/** What one setting is: its names, what it accepts, and how it is put right. The tables are `ServerConfig.ts` and `NatsSettings.ts`. */
import { Option, Redacted, Schema } from "effect"

/** A value that cannot be used. `source` is the flag, variable or file and key that gave it, so that it can be found and mended. */
export class ConfigurationError extends Schema.TaggedError<ConfigurationError>()("ConfigurationError", {
  source: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.source}: ${this.problem}`
  }
}

/** One setting: its names, what it accepts as JSON and as text, and what a person is told who got it wrong. */
export interface Setting<A> {
  /** None for a secret: every process of the machine can read a command line. */
  readonly flag: string | undefined
  readonly env: string
  readonly fallback: A
  readonly expects: string
  readonly means: string
  /** What was given may hold a secret, and is not repeated to whoever got it wrong. */
  readonly secret?: boolean
  readonly json: (value: unknown) => Option.Option<A>
  readonly text: (value: string) => Option.Option<A>
}

const Text = Schema.String.check(Schema.isMinLength(1))

/** A text that follows a schema. */
export const text = (schema: Schema.Codec<string> = Text) => {
  const decode = Schema.decodeUnknownOption(schema)
  return { json: decode, text: decode }
}

/** A text that may be absent, turned into what it stands for; `None` where it stands for nothing. */
export const optional = <A>(
  parse: (text: string) => Option.Option<A>
): Pick<Setting<Option.Option<A>>, "json" | "text" | "fallback"> => {
  const decode = (value: unknown) =>
    Option.map(Option.flatMap(Schema.decodeUnknownOption(Text)(value), parse), Option.some)
  return { fallback: Option.none(), json: decode, text: decode }
}

/** Any text, or none. */
export const optionalText = optional<string>(Option.some)

/** A secret, or none. */
export const optionalSecret = {
  ...optional((value) => Option.some(Redacted.make(value))),
  flag: undefined,
  secret: true
}
