/** What all seven versions say about actors in the same words. Which message carries an actor's id and generation differs: see V1, V4, V5. */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"

/** An identifier made by the engine; opaque here. */
export const Id = Wire.str
/** JSON as text; nothing here parses it. */
export const Json = Wire.str

export const ActorName = Schema.Struct({ metadata: Json })
export const ActorNames = Wire.map(Wire.str, ActorName)

export const ActorConfig = Schema.Struct({
  name: Wire.str,
  key: Wire.optional(Wire.str),
  createTs: Wire.i64,
  input: Wire.optional(Wire.data)
})

export const ActorIntent = Schema.Union([
  Wire.variant(0, "ActorIntentSleep", Wire.empty),
  Wire.variant(1, "ActorIntentStop", Wire.empty)
])

/** Spelt as the published codec spells them, not as the schema file does (`OK`, `ERROR`). */
export const StopCode = Wire.enumeration({ Ok: 0, Error: 1 })
export const ActorStateStopped = Schema.Struct({ code: StopCode, message: Wire.optional(Wire.str) })
export const ActorState = Schema.Union([
  Wire.variant(0, "ActorStateRunning", Wire.empty),
  Wire.variant(1, "ActorStateStopped", ActorStateStopped)
])

/** Milliseconds since 1970, in a ping, a pong or an alarm. */
export const Timestamp = Wire.i64
export const Heartbeat = Schema.Struct({ ts: Timestamp })
