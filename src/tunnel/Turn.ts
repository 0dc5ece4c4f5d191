/**
 * When what was gathered is dealt with: at the end of the current turn of the event loop, or of the present job. A simulation swaps both for
 * its own, and so decides what comes before what.
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

/** The end of the present job, before anything else is read: one wake-up is made of many there. */
export const Soon = Context.Reference<Turn>("wayleave/tunnel/Soon", { defaultValue: () => queueMicrotask })
