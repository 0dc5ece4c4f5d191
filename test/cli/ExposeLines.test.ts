import { assert, it } from "@effect/vitest"
import { type ExposeEvent, json, plain, type Teller } from "../../src/cli/ExposeLines.ts"

const url = "http://web.localhost:6420"
const connected = (roundTripMs: number): ExposeEvent => ({
  _tag: "Link",
  link: { _tag: "Connected", publicUrl: url, roundTripMs }
})
const events: ReadonlyArray<ExposeEvent> = [
  { _tag: "Link", link: { _tag: "Connecting" } },
  connected(1),
  connected(2),
  {
    _tag: "Request",
    request: {
      id: 1,
      method: "GET",
      target: "/a\u001b[31m",
      startedAtMs: 0,
      status: 200,
      durationMs: 12,
      failed: false
    }
  },
  {
    _tag: "Request",
    request: {
      id: 2,
      method: "GET",
      target: "/b",
      startedAtMs: 0,
      status: undefined,
      durationMs: 3,
      failed: true,
      cause: "nothing answers\u0007"
    }
  },
  { _tag: "Link", link: { _tag: "Waiting", retryInMs: 400, cause: "connection lost" } },
  connected(3),
  { _tag: "Leaving", open: 2 }
]
const told = (teller: Teller) => events.map((event) => teller.line(event)).filter((line) => line !== undefined)

it("plain lines tell the URL once, then what changes", () => {
  assert.deepStrictEqual(told(plain("http://127.0.0.1:3000")), [
    "http://web.localhost:6420 -> http://127.0.0.1:3000",
    "GET /a·[31m 200 12 ms",
    "GET /b - failed 3 ms: nothing answers·",
    "not connected: connection lost; next try in 400 ms",
    "connected again: http://web.localhost:6420 -> http://127.0.0.1:3000",
    "leaving: 2 open may finish; a second signal ends at once"
  ])
})

it("JSON lines carry the same, for programs", () => {
  const target = "http://127.0.0.1:3000"
  assert.deepStrictEqual(
    told(json(target)).map((line) => JSON.parse(line)),
    [
      { event: "connected", url, target },
      { event: "request", method: "GET", target: "/a\u001b[31m", status: 200, durationMs: 12, failed: false },
      {
        event: "request",
        method: "GET",
        target: "/b",
        status: null,
        durationMs: 3,
        failed: true,
        cause: "nothing answers\u0007"
      },
      { event: "disconnected", cause: "connection lost", retryInMs: 400 },
      { event: "connected", url, target },
      { event: "leaving", open: 2 }
    ]
  )
  for (const line of told(json(target))) assert.notInclude(line, "\n")
})
