/** What arrives for an app between two steps of the fiber that waits for it is not missed, whichever two they are. */
import { assert, describe, it } from "@effect/vitest"
import { Exit } from "effect"
import { RequestStream } from "../../src/runner/RequestStream.ts"
import { StreamCore } from "../../src/runner/StreamCore.ts"
import { WebSocketStream } from "../../src/runner/WebSocketStream.ts"
import { WindowGrowth } from "../../src/tunnel/Credit.ts"
import type { RequestFrame } from "../../src/tunnel/Frame.ts"
import { atEveryMoment } from "../Stepwise.ts"

const owner = {
  send: () => true,
  withdraw: () => {},
  ended: () => {},
  giveTime: () => () => {},
  growth: new WindowGrowth(() => 0)
}
const route = { gatewayId: 1, requestId: 1 }
const data = new Uint8Array([7])
const upload = {
  _tag: "RequestStart",
  method: "PUT",
  target: "/",
  headers: [],
  body: new Uint8Array(0),
  streamed: true
} as const
const upgrade = { _tag: "WebSocketOpen", target: "/", headers: [] } as const

const request = () => {
  const core = new StreamCore(route, owner)
  core.receive(upload, 0)
  return { core, stream: new RequestStream(core, upload) }
}
const webSocket = () => {
  const core = new StreamCore(route, owner)
  core.receive(upgrade, 0)
  const stream = new WebSocketStream(core, upgrade)
  stream.acceptUnsafe([])
  return { core, stream }
}

/** Every way in which something can come, and whether the app then has it or hears that nothing will. */
const arrivals: ReadonlyArray<readonly [RequestFrame, "data" | "end"]> = [
  [{ _tag: "RequestChunk", body: data, finish: false }, "data"],
  [{ _tag: "RequestChunk", body: new Uint8Array(0), finish: true }, "end"],
  [{ _tag: "RequestAbort", code: "cancelled" }, "end"]
]
const messages: ReadonlyArray<readonly [RequestFrame, "data" | "end"]> = [
  [{ _tag: "WebSocketMessage", data, binary: true, finish: true }, "data"],
  [{ _tag: "WebSocketClose", code: 1000, reason: "" }, "end"],
  [{ _tag: "RequestAbort", code: "cancelled" }, "end"]
]

const judge = (ends: ReadonlyArray<Exit.Exit<unknown, unknown> | undefined>, wanted: "data" | "end") => {
  assert.isAbove(ends.length, 2)
  assert.deepStrictEqual(
    ends.map((exit) => (exit === undefined ? "waits" : Exit.isSuccess(exit) ? "data" : "end")),
    ends.map(() => wanted)
  )
}

describe("an app that waits", () => {
  for (const [frame, wanted] of arrivals) {
    it(`for a body gets the ${wanted} at whatever moment a ${frame._tag} comes`, () => {
      const ends = atEveryMoment(() => {
        const { core, stream } = request()
        return { effect: stream.pull, happen: () => core.receive(frame, frame._tag === "RequestAbort" ? 0 : 1) }
      })
      judge(ends, wanted)
    })
  }
  for (const [frame, wanted] of messages) {
    it(`for a message gets the ${wanted} at whatever moment a ${frame._tag} comes`, () => {
      const ends = atEveryMoment(() => {
        const { core, stream } = webSocket()
        return { effect: stream.pull, happen: () => core.receive(frame, frame._tag === "RequestAbort" ? 0 : 1) }
      })
      judge(ends, wanted)
    })
  }
  it("for credit goes on at whatever moment it comes", () => {
    const ends = atEveryMoment(() => {
      const { core, stream } = webSocket()
      while (core.pieceBytes(1) > 0)
        stream.sendUnsafe(new Uint8Array(core.pieceBytes(65_536)), { binary: true, finish: true })
      return { effect: stream.send(data), happen: () => core.receive({ _tag: "Credit", bytes: 10 }, 0) }
    })
    judge(ends, "data")
  })
})
