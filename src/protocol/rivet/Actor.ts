/** What all seven versions say about actors in the same words. Which message carries an actor's id and generation differs: see V1, V4, V5. */
import { Schema } from "effect"
import * as Wire from "../../tunnel/Wire.ts"

/** An identifier made by the engine; opaque here. */
export const Id = Wire.str
/** JSON as text; nothing here parses it. */
export const Json = Wire.str

/** An actor name a runner can serve, with what it says about it. */
export const ActorName = Schema.Struct({ metadata: Json })
/** Actor names by name; a runner lists them before any actor exists. */
export const ActorNames = Wire.map(Wire.str, ActorName)

/** What an actor is started with. `createTs` is in milliseconds since 1970. */
export const ActorConfig = Schema.Struct({
  name: Wire.str,
  key: Wire.optional(Wire.str),
  createTs: Wire.i64,
  input: Wire.optional(Wire.data)
})

/** What an actor asks of the engine for itself. */
export const ActorIntent = Schema.Union([
  Wire.variant(0, "ActorIntentSleep", Wire.empty),
  Wire.variant(1, "ActorIntentStop", Wire.empty)
])

/** Spelt as the published codec spells them, not as the schema file does (`OK`, `ERROR`). */
export const StopCode = Wire.enumeration({ Ok: 0, Error: 1 })
/** How an actor ended. */
export const ActorStateStopped = Schema.Struct({ code: StopCode, message: Wire.optional(Wire.str) })
/** What became of an actor. */
export const ActorState = Schema.Union([
  Wire.variant(0, "ActorStateRunning", Wire.empty),
  Wire.variant(1, "ActorStateStopped", ActorStateStopped)
])

/** Milliseconds since 1970, in a ping, a pong or an alarm. */
export const Timestamp = Wire.i64
/** The body of a ping and of a pong. */
export const Heartbeat = Schema.Struct({ ts: Timestamp })
