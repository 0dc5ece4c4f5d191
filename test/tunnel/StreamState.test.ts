import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import { isTerminal, RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import {
  onRequestFrame,
  onResponseFrame,
  type RequestEvent,
  type ResponseEvent,
  requestEvent,
  responseEvent,
  type Step,
  type StreamState,
  table,
  transition
} from "../../src/tunnel/StreamState.ts"

const none = new Uint8Array(0)
const start = (streamed: boolean): RequestFrame => ({
  _tag: "RequestStart",
  method: "GET",
  target: "/",
  headers: [],
  body: none,
  streamed
})
const chunkDown = (finish: boolean): RequestFrame => ({ _tag: "RequestChunk", body: none, finish })
const head = (streamed: boolean): ResponseFrame => ({
  _tag: "ResponseStart",
  status: 200,
  headers: [],
  body: none,
  streamed
})
const chunkUp = (finish: boolean): ResponseFrame => ({ _tag: "ResponseChunk", body: none, finish })
const states = Object.keys(table) as Array<StreamState>

/** The whole table once more, as it is read: what a frame does in a state. `.` is a violation, `-` is ignored, anything else is the state after. */
const statesInOrder = [
  "Idle",
  "Uploading",
  "Awaiting",
  "Conversing",
  "Answering",
  "SocketOpening",
  "SocketOpen",
  "SocketLasting",
  "SocketAsleep",
  "Ended"
]
const truth: Readonly<Record<RequestEvent | ResponseEvent, string>> = {
  request: "Awaiting . . . . . . . . -",
  requestStreamed: "Uploading . . . . . . . . -",
  requestChunk: ". Uploading . Conversing . . . . . -",
  requestEnd: ". Awaiting . Answering . . . . . -",
  requestAbort: "- Ended Ended Ended Ended Ended Ended Ended Ended -",
  socketAsk: "SocketOpening . . . . . . . . -",
  messageDown: ". . . . . . SocketOpen SocketLasting . -",
  closeDown: "- . . . Ended Ended Ended Ended Ended -",
  creditDown: "- Uploading Awaiting Conversing Answering SocketOpening SocketOpen SocketLasting - -",
  informational: ". Uploading Awaiting . . - . . . -",
  response: ". Ended Ended . . Ended . . . -",
  responseStreamed: ". Conversing Answering . . Answering . . . -",
  responseChunk: ". . . Conversing Answering . . . . -",
  responseEnd: ". . . Ended Ended . . . . -",
  responseAbort: ". Ended Ended Ended Ended Ended Ended Ended SocketAsleep -",
  socketAccept: ". . . . . SocketOpen . . . -",
  socketAcceptLasting: ". . . . . SocketLasting . . . -",
  messageUp: ". . . . . . SocketOpen SocketLasting - -",
  messageAck: ". . . . . . SocketOpen SocketLasting - -",
  closeUp: ". . . . . Ended Ended Ended Ended -",
  sleepUp: ". . . . . Ended Ended SocketAsleep - -",
  creditUp: ". Uploading Awaiting Conversing Answering SocketOpening SocketOpen SocketLasting SocketLasting -"
}

/** Applies frames in turn and says what was done with the last. `<` goes down, `>` comes up. */
const run = (...frames: ReadonlyArray<readonly ["<", RequestFrame] | readonly [">", ResponseFrame]>) => {
  let state: StreamState = "Idle"
  let action = ""
  for (const [direction, frame] of frames) {
    const step: Step = direction === "<" ? onRequestFrame(state, frame) : onResponseFrame(state, frame)
    state = step.state
    action = step.action
  }
  return `${action} ${state}`
}

describe("StreamState", () => {
  it("knows these states and no others", () => assert.deepStrictEqual(states, statesInOrder))

  for (const [event, row] of Object.entries(truth) as ReadonlyArray<[RequestEvent | ResponseEvent, string]>) {
    it(`${event}, in whatever state it comes`, () => {
      const steps = row.split(" ").map((word, i): Step => {
        if (word === ".") return { action: "violation", state: "Ended" }
        if (word === "-") return { action: "ignore", state: states[i] as StreamState }
        return { action: "deliver", state: word as StreamState }
      })
      assert.deepStrictEqual(
        states.map((state) => transition(state, event)),
        steps
      )
    })
  }

  it("a frame that no type knows is a fault of ours, never an event", () => {
    const alien = { _tag: "Alien" } as never
    assert.throws(() => requestEvent(alien), "unreachable")
    assert.throws(() => responseEvent(alien), "unreachable")
  })

  it("walks an exchange with both bodies streamed", () => {
    assert.strictEqual(run(["<", start(true)], [">", head(true)]), "deliver Conversing")
    assert.strictEqual(run(["<", start(true)], [">", head(true)], ["<", chunkDown(true)]), "deliver Answering")
    assert.strictEqual(
      run(["<", start(true)], ["<", chunkDown(true)], [">", head(true)], [">", chunkUp(true)]),
      "deliver Ended"
    )
  })

  it("an answer that ends before its upload did ends the stream", () => {
    assert.strictEqual(run(["<", start(true)], [">", head(false)]), "deliver Ended")
    assert.strictEqual(run(["<", start(true)], [">", head(false)], ["<", chunkDown(false)]), "ignore Ended")
  })

  it("body before its head, a second head, and a body frame after the end of the upload are violations", () => {
    assert.strictEqual(run(["<", start(false)], [">", chunkUp(false)]), "violation Ended")
    assert.strictEqual(run(["<", start(false)], [">", head(true)], [">", head(true)]), "violation Ended")
    assert.strictEqual(run(["<", start(false)], ["<", chunkDown(false)]), "violation Ended")
  })

  it("HTTP frames on an open WebSocket, and WebSocket frames on HTTP, are violations", () => {
    const open: RequestFrame = { _tag: "WebSocketOpen", target: "/", headers: [] }
    const accept: ResponseFrame = { _tag: "WebSocketOpen", headers: [], canHibernate: false }
    const message: ResponseFrame = { _tag: "WebSocketMessage", data: none, binary: true, finish: true }
    assert.strictEqual(run(["<", open], [">", accept], [">", message]), "deliver SocketOpen")
    assert.strictEqual(run(["<", open], [">", accept], [">", head(true)]), "violation Ended")
    assert.strictEqual(run(["<", open], [">", message]), "violation Ended")
    assert.strictEqual(run(["<", start(false)], [">", accept]), "violation Ended")
  })

  it("an app may refuse a WebSocket by an ordinary answer, with or without a body", () => {
    const open: RequestFrame = { _tag: "WebSocketOpen", target: "/", headers: [] }
    assert.strictEqual(run(["<", open], [">", head(false)]), "deliver Ended")
    assert.strictEqual(run(["<", open], [">", head(true)], [">", chunkUp(true)]), "deliver Ended")
  })

  describe("a WebSocket that may hibernate", () => {
    const open: RequestFrame = { _tag: "WebSocketOpen", target: "/", headers: [] }
    const lasting: ResponseFrame = { _tag: "WebSocketOpen", headers: [], canHibernate: true }
    const brief: ResponseFrame = { _tag: "WebSocketOpen", headers: [], canHibernate: false }
    const sleep: ResponseFrame = { _tag: "WebSocketClose", code: null, reason: "", hibernate: true }
    const close: ResponseFrame = { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false }
    const message: ResponseFrame = { _tag: "WebSocketMessage", data: none, binary: true, finish: true }
    const credit: ResponseFrame = { _tag: "Credit", bytes: 1 }
    const abort: ResponseFrame = { _tag: "ResponseAbort", code: "actor_not_ready", message: "" }

    it("sleeps where the app said that it may, and ends where it did not", () => {
      assert.strictEqual(run(["<", open], [">", lasting], [">", message]), "deliver SocketLasting")
      assert.strictEqual(run(["<", open], [">", lasting], [">", sleep]), "deliver SocketAsleep")
      assert.strictEqual(run(["<", open], [">", brief], [">", sleep]), "deliver Ended")
      assert.strictEqual(run(["<", open], [">", sleep]), "deliver Ended")
      assert.strictEqual(run(["<", open], [">", lasting], [">", close]), "deliver Ended")
    })

    it("is woken by credit alone, stays asleep over a refusal, and ends by a close", () => {
      const asleep = [["<", open] as const, [">", lasting] as const, [">", sleep] as const]
      assert.strictEqual(run(...asleep, [">", credit]), "deliver SocketLasting")
      assert.strictEqual(run(...asleep, [">", abort]), "deliver SocketAsleep")
      assert.strictEqual(run(...asleep, [">", sleep]), "ignore SocketAsleep")
      assert.strictEqual(run(...asleep, [">", message]), "ignore SocketAsleep")
      assert.strictEqual(run(...asleep, [">", { _tag: "WebSocketMessageAck", index: 1 }]), "ignore SocketAsleep")
      assert.strictEqual(run(...asleep, [">", close]), "deliver Ended")
      assert.strictEqual(run(...asleep, ["<", { _tag: "WebSocketClose", code: null, reason: "" }]), "deliver Ended")
      assert.strictEqual(run(...asleep, ["<", { _tag: "RequestAbort", code: "deadline" }]), "deliver Ended")
      assert.strictEqual(run(...asleep, ["<", { _tag: "Credit", bytes: 1 }]), "ignore SocketAsleep")
      assert.strictEqual(run(...asleep, [">", lasting]), "violation Ended")
    })

    it("opens no second time, whatever the app says", () => {
      assert.strictEqual(run(["<", open], [">", lasting], [">", lasting]), "violation Ended")
      assert.strictEqual(run(["<", open], [">", brief], [">", lasting]), "violation Ended")
    })
  })

  it("a terminal frame that is delivered ends the stream unless it lets it sleep, and no other response frame does", () => {
    const frames: ReadonlyArray<ResponseFrame> = [
      { _tag: "Informational", status: 103, headers: [] },
      head(true),
      head(false),
      chunkUp(true),
      chunkUp(false),
      { _tag: "ResponseTrailers", headers: [] },
      { _tag: "ResponseAbort", code: "app_failed", message: "" },
      { _tag: "WebSocketOpen", headers: [], canHibernate: false },
      { _tag: "WebSocketMessage", data: none, binary: false, finish: true },
      { _tag: "WebSocketMessageAck", index: 0 },
      { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false },
      { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: true },
      { _tag: "Credit", bytes: 1 }
    ]
    for (const state of states) {
      for (const frame of frames) {
        const step = onResponseFrame(state, frame)
        const over = step.state === "Ended" || step.state === "SocketAsleep"
        if (step.action === "deliver") assert.strictEqual(over, isTerminal(frame), state + frame._tag)
      }
    }
  })

  it("each frame is its own event, by what it says of the end", () => {
    const down: ReadonlyArray<RequestFrame> = [
      start(false),
      start(true),
      chunkDown(false),
      chunkDown(true),
      { _tag: "RequestTrailers", headers: [] },
      { _tag: "RequestAbort", code: "cancelled" },
      { _tag: "WebSocketOpen", target: "/", headers: [] },
      { _tag: "WebSocketMessage", data: none, binary: false, finish: true },
      { _tag: "WebSocketClose", code: 1000, reason: "" },
      { _tag: "Credit", bytes: 1 }
    ]
    assert.deepStrictEqual(down.map(requestEvent), [
      "request",
      "requestStreamed",
      "requestChunk",
      "requestEnd",
      "requestEnd",
      "requestAbort",
      "socketAsk",
      "messageDown",
      "closeDown",
      "creditDown"
    ])
    const up: ReadonlyArray<ResponseFrame> = [
      { _tag: "Informational", status: 103, headers: [] },
      head(false),
      head(true),
      chunkUp(false),
      chunkUp(true),
      { _tag: "ResponseTrailers", headers: [] },
      { _tag: "ResponseAbort", code: "app_failed", message: "" },
      { _tag: "WebSocketOpen", headers: [], canHibernate: false },
      { _tag: "WebSocketMessage", data: none, binary: false, finish: true },
      { _tag: "WebSocketMessageAck", index: 0 },
      { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false },
      { _tag: "Credit", bytes: 1 },
      { _tag: "WebSocketOpen", headers: [], canHibernate: true },
      { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: true }
    ]
    assert.deepStrictEqual(up.map(responseEvent), [
      "informational",
      "response",
      "responseStreamed",
      "responseChunk",
      "responseEnd",
      "responseEnd",
      "responseAbort",
      "socketAccept",
      "messageUp",
      "messageAck",
      "closeUp",
      "creditUp",
      "socketAcceptLasting",
      "sleepUp"
    ])
  })

  it.prop("once Ended, everything is ignored", { down: RequestFrame, up: ResponseFrame }, ({ down, up }) => {
    for (const event of [requestEvent(down), responseEvent(up)]) {
      const step = transition("Ended", event)
      if (step.action !== "ignore" || step.state !== "Ended") return false
    }
    return true
  })

  it.prop(
    "whatever comes in whatever order, at most one frame ends a stream",
    {
      frames: Schema.Array(
        Schema.Union([
          Schema.Tuple([Schema.Literal("<"), RequestFrame]),
          Schema.Tuple([Schema.Literal(">"), ResponseFrame])
        ])
      )
    },
    ({ frames }) => {
      let state: StreamState = "Idle"
      let ends = 0
      for (const [direction, frame] of frames) {
        const step: Step = direction === "<" ? onRequestFrame(state, frame) : onResponseFrame(state, frame)
        if (step.state === "Ended" && step.action !== "ignore") ends++
        state = step.state
      }
      return ends <= 1
    }
  )
})
