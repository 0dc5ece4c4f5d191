/**
 * Draws an `ExposeState` for a terminal: a pure function from state and size to lines that fit. `Screen.ts` puts them on the glass.
 *
 * Methods and targets come from strangers: whatever could move a cursor or change a colour is shown as a dot, never sent on.
 */
import { CliOutput } from "effect/cli"
import type { ExposeState, LinkState, RequestEntry } from "./ExposeState.ts"

/** What the terminal offers, and what time it is there. */
export interface Glass {
  readonly columns: number
  readonly rows: number
  readonly color: boolean
  readonly nowMs: number
}

type Tone = "bold" | "dim" | "green" | "yellow" | "red" | "cyan"
const codes: Readonly<Record<Tone, string>> = { bold: "1", dim: "2", green: "32", yellow: "33", red: "31", cyan: "36" }

/** A run of text in one tone; measured and cut before it is coloured. */
interface Span {
  readonly text: string
  readonly tone?: Tone
}

/** C0, C1, bidirectional and zero-width controls, and lone surrogates: a terminal might obey them. */
const unprintable =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes.
  /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]/g

/** Text from elsewhere, fit to be shown. Pairs of surrogates are characters beyond the basic plane: dots as well, their width is anyone's guess. */
export const printable = (text: string): string => text.replace(unprintable, "·")

/** The longest beginning that fits; an ellipsis stands for the rest. */
export const shorten = (text: string, columns: number): string => {
  if (columns <= 0) return ""
  if (CliOutput.displayWidth(text) <= columns) return text
  let kept = ""
  let width = 0
  for (const character of text) {
    width += CliOutput.displayWidth(character)
    if (width > columns - 1) break
    kept += character
  }
  return `${kept}…`
}

const pad = (text: string, columns: number): string =>
  text + " ".repeat(Math.max(0, columns - CliOutput.displayWidth(text)))

/** Milliseconds as a person reads them, in at most seven characters. */
export const duration = (ms: number): string => {
  if (ms < 1) return "<1 ms"
  if (ms < 999.5) return `${Math.round(ms)} ms`
  if (ms < 99_950) return `${(ms / 1000).toFixed(1)} s`
  const minutes = Math.round(ms / 60_000)
  return minutes < 600 ? `${minutes} min` : `${Math.round(minutes / 60)} h`
}

const linkSpans = (link: LinkState): ReadonlyArray<Span> => {
  switch (link._tag) {
    case "Connecting":
      return [{ text: "◌ connecting", tone: "yellow" }]
    case "Connected":
      return [
        { text: "● connected", tone: "green" },
        { text: link.roundTripMs === undefined ? "" : `  ${duration(link.roundTripMs)} to the hub`, tone: "dim" }
      ]
    case "Waiting":
      return [
        { text: "◌ not connected", tone: "yellow" },
        { text: `  next try in ${duration(link.retryInMs)}: ${printable(link.cause)}`, tone: "dim" }
      ]
    case "Refused":
      return [
        { text: "✗ refused", tone: "red" },
        { text: `  ${printable(link.cause)}`, tone: "dim" }
      ]
  }
  return link satisfies never
}

const statusTone = (entry: RequestEntry): Tone => {
  if (entry.failed || (entry.status ?? 0) >= 500) return "red"
  if ((entry.status ?? 0) >= 400) return "yellow"
  if ((entry.status ?? 0) >= 300) return "cyan"
  return "green"
}

const methodColumns = 7
const statusColumns = 6
const durationColumns = 8

const requestSpans = (entry: RequestEntry, glass: Glass): ReadonlyArray<Span> => {
  const status =
    entry.status === undefined ? (entry.failed ? "failed" : "…") : `${entry.status}${entry.failed ? " !" : ""}`
  const took = entry.durationMs ?? glass.nowMs - entry.startedAtMs
  const room = glass.columns - 2 - methodColumns - 1 - statusColumns - 1 - durationColumns - 1
  const asked = entry.cause === undefined ? entry.target : `${entry.target}  ${entry.cause}`
  const target = shorten(printable(asked), room)
  return [
    { text: `  ${pad(shorten(printable(entry.method), methodColumns), methodColumns)} ` },
    { text: `${pad(target, Math.max(0, room))} ` },
    { text: `${pad(status, statusColumns)} `, tone: statusTone(entry) },
    { text: duration(Math.max(0, took)).padStart(durationColumns), tone: "dim" }
  ]
}

const paint = (spans: ReadonlyArray<Span>, glass: Glass): string => {
  let room = glass.columns
  let line = ""
  for (const { text, tone } of spans) {
    const shown = shorten(text, room)
    room -= CliOutput.displayWidth(shown)
    line += glass.color && tone !== undefined && shown !== "" ? `\u001b[${codes[tone]}m${shown}\u001b[0m` : shown
    if (room <= 0) break
  }
  return line
}

/** Lines of at most `columns`, at most `rows` of them; the newest requests that fit. */
export const render = (state: ExposeState, glass: Glass): ReadonlyArray<string> => {
  const url: Span =
    state.link._tag === "Connected"
      ? { text: printable(state.link.publicUrl), tone: "bold" }
      : { text: state.name, tone: "bold" }
  const above: ReadonlyArray<ReadonlyArray<Span>> = [
    [{ text: "wayleave ", tone: "dim" }, ...linkSpans(state.link)],
    [],
    [{ text: "  " }, url],
    [{ text: `  -> ${printable(state.target)}`, tone: "dim" }],
    [],
    [{ text: `  ${state.open} open · ${state.answered} answered · ${state.failed} failed` }],
    []
  ]
  const below: ReadonlyArray<ReadonlyArray<Span>> = [
    [],
    [
      {
        text: state.leaving ? "leaving once these are done; Ctrl-C again ends it at once" : "Ctrl-C ends it",
        tone: "dim"
      }
    ]
  ]
  const room = Math.max(0, glass.rows - above.length - below.length)
  const requests = state.requests.slice(0, room).map((entry) => requestSpans(entry, glass))
  return [...above, ...requests, ...below].slice(0, glass.rows).map((spans) => paint(spans, glass))
}
