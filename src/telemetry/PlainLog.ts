/** Logs for people: one line each, the time first, fields after the message. For machines there is Effect's own JSON logger. */
import { type Layer, Logger } from "effect"
import { standardOutput } from "./Lines.ts"

const show = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value))

// A message or field may hold what a stranger sent; a line break in it would forge a line of ours.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this replaces.
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g

/** `2026-01-31T12:00:00.000Z INFO message key=value`. */
export const formatPlain: Logger.Logger<unknown, string> = Logger.map(
  Logger.formatStructured,
  ({ annotations, cause, level, message, timestamp }) => {
    const words = [message].flat().map(show)
    const fields = Object.entries(annotations).map(([name, value]) => `${name}=${show(value)}`)
    const line = [timestamp, level, ...words, ...fields].join(" ").replace(control, "·")
    return cause === undefined ? line : `${line}\n${cause}`
  }
)

/** Replaces all loggers by this one, or by Effect's JSON form, on standard output. */
export const layer = (options: { readonly json: boolean }): Layer.Layer<never> =>
  Logger.layer([Logger.map(options.json ? Logger.formatJson : formatPlain, (line) => standardOutput.add(line))])
