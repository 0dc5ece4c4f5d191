import { assert, describe, it } from "@effect/vitest"
import { CliOutput } from "effect/cli"
import * as ExposeState from "../../src/cli/ExposeState.ts"
import { duration, type Glass, printable, render, shorten } from "../../src/cli/LiveView.ts"

const glass: Glass = { columns: 72, rows: 24, color: false, nowMs: 10_000 }
const fresh = ExposeState.initial("web", "http://127.0.0.1:3000")
const connected = ExposeState.linkChanged(fresh, {
  _tag: "Connected",
  publicUrl: "http://web.localhost:6420",
  roundTripMs: 3.4
})
const request = (id: number, target: string) => ({ id, method: "GET", target, startedAtMs: 8_500 })

describe("the live view", () => {
  it("shows URL, target, state and round-trip time", () => {
    const text = render(connected, glass).join("\n")
    assert.include(text, "http://web.localhost:6420")
    assert.include(text, "-> http://127.0.0.1:3000")
    assert.include(text, "● connected  3 ms to the hub")
    assert.include(text, "0 open · 0 answered · 0 failed")
  })

  it("says what it waits for and why", () => {
    const waiting = ExposeState.linkChanged(connected, {
      _tag: "Waiting",
      retryInMs: 1_600,
      cause: "connection refused"
    })
    assert.include(render(waiting, glass)[0] ?? "", "not connected  next try in 1.6 s: connection refused")
    const refused = ExposeState.linkChanged(connected, { _tag: "Refused", cause: "unknown token" })
    assert.include(render(refused, glass)[0] ?? "", "refused  unknown token")
  })

  it("lists requests newest first, with status and duration, and how long an open one has taken", () => {
    let state = ExposeState.requestStarted(connected, request(1, "/slow"))
    state = ExposeState.requestStarted(state, request(2, "/quick"))
    state = ExposeState.requestEnded(state, { id: 2, status: 200, durationMs: 12, failed: false })
    const lines = render(state, glass)
    const at = lines.findIndex((line) => line.includes("/quick"))
    assert.match(lines[at] ?? "", /GET +\/quick +200 +12 ms$/)
    assert.match(lines[at + 1] ?? "", /GET +\/slow +… +1\.5 s$/)
    assert.include(lines.join("\n"), "1 open · 1 answered · 0 failed")
  })

  it("says that it leaves, and how not to wait", () => {
    assert.strictEqual(render(connected, glass).at(-1), "Ctrl-C ends it")
    const last = render(ExposeState.left(connected), glass).at(-1)
    assert.strictEqual(last, "leaving once these are done; Ctrl-C again ends it at once")
  })

  it("shows as failed what began and broke off, and why", () => {
    let state = ExposeState.requestStarted(connected, request(1, "/half"))
    state = ExposeState.requestEnded(state, { id: 1, status: 200, durationMs: 5, failed: true, cause: "it broke" })
    assert.match(render(state, glass).join("\n"), /\/half {2}it broke +200 !/)
    assert.strictEqual(state.failed, 1)
    assert.strictEqual(state.open, 0)
  })

  for (const columns of [1, 10, 40, 80, 200]) {
    for (const rows of [1, 5, 9, 10, 30]) {
      it(`never exceeds ${columns} columns and ${rows} rows`, () => {
        let state = connected
        for (let id = 0; id < 50; id++) state = ExposeState.requestStarted(state, request(id, `/${"長い".repeat(60)}`))
        const lines = render(state, { ...glass, columns, rows })
        assert.isAtMost(lines.length, rows)
        for (const line of lines) assert.isAtMost(CliOutput.displayWidth(line), columns, line)
      })
    }
  }

  it("uses no escape sequence without colour, and only colours with it", () => {
    const state = ExposeState.requestStarted(connected, request(1, "/a"))
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what this looks for.
    const escapes = (lines: ReadonlyArray<string>) => lines.join("\n").match(/\u001b[^m]*m?/g) ?? []
    assert.isEmpty(escapes(render(state, glass)))
    const coloured = escapes(render(state, { ...glass, color: true }))
    assert.isNotEmpty(coloured)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: the escape character is what this looks for.
    for (const code of coloured) assert.match(code, /^\u001b\[[0-9]+m$/)
  })

  it("never passes on what a visitor could steer a terminal with", () => {
    const hostile = "/a\u001b[2J\u001b]0;owned\u0007\r\n\u202eb\u009b31m"
    const state = ExposeState.requestStarted(connected, { ...request(1, hostile), method: "G\u001bT" })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters must not be there.
    for (const line of render(state, glass)) assert.notMatch(line, /[\u0000-\u001f\u007f-\u009f\u202e]/)
    assert.strictEqual(printable("a\u0000b"), "a·b")
  })
})

it("forgets the oldest requests, not their count", () => {
  let state = connected
  const total = ExposeState.requestsShownMax + 50
  for (let id = 0; id < total; id++) state = ExposeState.requestStarted(state, request(id, "/"))
  assert.strictEqual(state.requests.length, ExposeState.requestsShownMax)
  for (let id = 0; id < total; id++) {
    state = ExposeState.requestEnded(state, { id, status: 200, durationMs: 1, failed: false })
  }
  assert.strictEqual(state.open, 0)
  assert.strictEqual(state.answered, total)
})

it("durations read as a person would say them", () => {
  const said = [0, 0.4, 1, 999, 999.6, 1_000, 59_940, 99_949, 99_951, 3_600_000, 36_000_000, 400_000_000].map(duration)
  assert.deepStrictEqual(said, [
    "<1 ms",
    "<1 ms",
    "1 ms",
    "999 ms",
    "1.0 s",
    "1.0 s",
    "59.9 s",
    "99.9 s",
    "2 min",
    "60 min",
    "10 h",
    "111 h"
  ])
})

it("a text is cut at a character, with an ellipsis, by width", () => {
  assert.strictEqual(shorten("abcdef", 6), "abcdef")
  assert.strictEqual(shorten("abcdef", 5), "abcd…")
  assert.strictEqual(shorten("長い名前", 5), "長い…")
  assert.strictEqual(shorten("abc", 0), "")
})

it("of requests that nobody looks at only the number is kept", () => {
  let state = ExposeState.initial("web", "http://127.0.0.1:3000", 0)
  for (const id of [1, 2]) {
    state = ExposeState.requestStarted(state, { id, method: "GET", target: "/", startedAtMs: 0 })
  }
  state = ExposeState.requestEnded(state, { id: 1, status: 200, durationMs: 1, failed: false })
  assert.deepInclude(state, { open: 1, answered: 1, requests: [] })
})
