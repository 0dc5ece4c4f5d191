/**
 * Tells what happens in lines: plain ones where the output is no terminal, JSON objects with `--json`. One change, at most one line.
 *
 * The JSON lines are an interface: `docs/cli.md` lists them, and fields are only ever added.
 */
import type { LinkState, RequestEntry } from "./ExposeState.ts"
import { duration, printable } from "./LiveView.ts"

/** What is told: the connection as it changes, each request once it has ended, and that the command leaves while some are open. */
export type ExposeEvent =
  | { readonly _tag: "Link"; readonly link: LinkState }
  | { readonly _tag: "Request"; readonly request: RequestEntry }
  | { readonly _tag: "Leaving"; readonly open: number }

/** Words a line with what came before it: the second connection is told otherwise than the first. */
export interface Teller {
  /** The line for an event; undefined where nothing is worth one, such as a new round-trip time. */
  readonly line: (event: ExposeEvent) => string | undefined
}

/** Lines for people and logs. */
export const plain = (target: string): Teller => {
  let connected: string | undefined
  let everConnected = false
  return {
    line: (event) => {
      if (event._tag === "Request") {
        const { cause, durationMs, failed, method, status, target } = event.request
        const outcome = `${status ?? "-"}${failed ? " failed" : ""}`
        const why = cause === undefined ? "" : `: ${printable(cause)}`
        return `${printable(method)} ${printable(target)} ${outcome} ${duration(durationMs ?? 0)}${why}`
      }
      if (event._tag === "Leaving") return `leaving: ${event.open} open may finish; a second signal ends at once`
      const { link } = event
      switch (link._tag) {
        case "Connecting":
          return undefined
        case "Connected": {
          if (connected === link.publicUrl) return undefined
          const again = everConnected ? "connected again: " : ""
          connected = link.publicUrl
          everConnected = true
          return `${again}${link.publicUrl} -> ${target}`
        }
        case "Waiting":
          connected = undefined
          return `not connected: ${printable(link.cause)}; next try in ${duration(link.retryInMs)}`
        case "Refused":
          return `refused: ${printable(link.cause)}`
      }
      return link satisfies never
    }
  }
}

/** One JSON object a line, for programs. */
export const json = (target: string): Teller => {
  let connected: string | undefined
  return {
    line: (event) => {
      if (event._tag === "Request") {
        const { cause, durationMs, failed, method, status, target } = event.request
        return JSON.stringify({ event: "request", method, target, status: status ?? null, durationMs, failed, cause })
      }
      if (event._tag === "Leaving") return JSON.stringify({ event: "leaving", open: event.open })
      const { link } = event
      switch (link._tag) {
        case "Connecting":
          return undefined
        case "Connected":
          if (connected === link.publicUrl) return undefined
          connected = link.publicUrl
          return JSON.stringify({ event: "connected", url: link.publicUrl, target })
        case "Waiting":
          connected = undefined
          return JSON.stringify({ event: "disconnected", cause: link.cause, retryInMs: link.retryInMs })
        case "Refused":
          return JSON.stringify({ event: "refused", cause: link.cause })
      }
      return link satisfies never
    }
  }
}
