/**
 * The end of the current turn of the event loop: when what the turn produced is written, in one message. A simulation swaps it for its own.
 */
import { Context } from "effect"

/** Runs `f` once this turn has read everything there was to read. */
export type Turn = (f: () => void) => void

// `nextTick` and microtasks run before the turn's other sockets are read, and so gather next to nothing.
export const Turn = Context.Reference<Turn>("wayleave/tunnel/Turn", {
  defaultValue: () => (f) => {
    setImmediate(f)
  }
})
