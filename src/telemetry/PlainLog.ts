/** Logs for people: one line each, the time first, fields after the message. For machines there is Effect's own JSON logger. */
import { type Layer, Logger, References } from "effect"
import { standardOutput } from "./Lines.ts"

const show = (value: unknown): string => (typeof value === "string" ? value : JSON.stringify(value))

// A message or field may hold what a stranger sent; a line break in it would forge a line of ours.
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this replaces.
const control = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/
const everyControl = new RegExp(control, "g")
const clean = (text: string): string => (control.test(text) ? text.replace(everyControl, "·") : text)

/** Whatever may be logged, as Effect's own loggers understand it. */
const formatAny = Logger.map(Logger.formatStructured, ({ annotations, cause, level, message, timestamp }) => {
  const words = [message].flat().map(show)
  const fields = Object.entries(annotations).map(([name, value]) => `${name}=${show(value)}`)
  const line = clean([timestamp, level, ...words, ...fields].join(" "))
  return cause === undefined ? line : `${line}\n${cause}`
})

let stampedMs = Number.NaN
let stamp = ""

/** Lines of one millisecond share their time. */
const stampOf = (date: Date): string => {
  const ms = date.getTime()
  if (ms === stampedMs) return stamp
  stampedMs = ms
  stamp = date.toISOString()
  return stamp
}

/** `2026-01-31T12:00:00.000Z INFO message key=value`. */
export const formatPlain: Logger.Logger<unknown, string> = Logger.make((options) => {
  const { cause, date, fiber, logLevel, message } = options
  const text = Array.isArray(message) && message.length === 1 ? message[0] : message
  const isText = typeof text === "string" && cause.reasons.length === 0
  // An access line is no more than that, and there is one for each request.
  if (isText && Object.keys(fiber.getRef(References.CurrentLogAnnotations)).length === 0) {
    return clean(`${stampOf(date)} ${logLevel.toUpperCase()} ${text}`)
  }
  return formatAny.log(options)
})

/** Replaces all loggers by this one, or by Effect's JSON form, on standard output. */
export const layer = (options: { readonly json: boolean }): Layer.Layer<never> =>
  Logger.layer([Logger.map(options.json ? Logger.formatJson : formatPlain, (line) => standardOutput.add(line))])
