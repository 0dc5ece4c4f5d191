/**
 * What `expose` knows at one moment, and how it changes: a value and pure transitions, so that every way to show it can be tested by itself.
 * Next: `LiveView.ts` draws it on a terminal, `ExposeLines.ts` tells its changes line by line.
 */

/** Where the connection to the hub stands. */
export type LinkState =
  | { readonly _tag: "Connecting" }
  | { readonly _tag: "Connected"; readonly publicUrl: string; readonly roundTripMs: number | undefined }
  | { readonly _tag: "Waiting"; readonly retryInMs: number; readonly cause: string }
  | { readonly _tag: "Refused"; readonly cause: string }

/** One request as the runner saw it. `status` is undefined until the app answered, `durationMs` until the stream ended. */
export interface RequestEntry {
  readonly id: number
  readonly method: string
  readonly target: string
  readonly startedAtMs: number
  readonly status: number | undefined
  readonly durationMs: number | undefined
  readonly failed: boolean
  /** Why it failed, in the runner's words. */
  readonly cause?: string | undefined
}

/** All of it. `requests` are the latest, newest first, and at most `requestsMax`. */
export interface ExposeState {
  readonly name: string
  readonly target: string
  readonly link: LinkState
  /** The command was told to end, and open requests may finish. */
  readonly leaving: boolean
  readonly requests: ReadonlyArray<RequestEntry>
  readonly requestsMax: number
  readonly open: number
  readonly answered: number
  readonly failed: number
}

/** How many requests are remembered: more than any terminal shows. */
export const requestsShownMax = 200

/** Before the first connection. Where nobody looks at the list, it need not be kept: then `requestsMax` is 0. */
export const initial = (name: string, target: string, requestsMax = requestsShownMax): ExposeState => ({
  name,
  target,
  link: { _tag: "Connecting" },
  leaving: false,
  requests: [],
  requestsMax,
  open: 0,
  answered: 0,
  failed: 0
})

/** The connection changed. */
export const linkChanged = (state: ExposeState, link: LinkState): ExposeState => ({ ...state, link })

/** The command was told to end. */
export const left = (state: ExposeState): ExposeState => ({ ...state, leaving: true })

/** A visitor's request reached us. */
export const requestStarted = (
  state: ExposeState,
  request: Pick<RequestEntry, "id" | "method" | "target" | "startedAtMs">
): ExposeState => ({
  ...state,
  open: state.open + 1,
  requests: [
    { ...request, status: undefined, durationMs: undefined, failed: false },
    ...state.requests.slice(0, Math.max(0, state.requestsMax - 1))
  ].slice(0, state.requestsMax)
})

/** It ended: answered in full, or not. One that scrolled out of the list still counts. */
export const requestEnded = (
  state: ExposeState,
  end: {
    readonly id: number
    readonly status: number | undefined
    readonly durationMs: number
    readonly failed: boolean
    readonly cause?: string | undefined
  }
): ExposeState => ({
  ...state,
  open: Math.max(0, state.open - 1),
  answered: state.answered + (end.failed ? 0 : 1),
  failed: state.failed + (end.failed ? 1 : 0),
  requests: state.requests.map((entry) => (entry.id === end.id ? { ...entry, ...end } : entry))
})
