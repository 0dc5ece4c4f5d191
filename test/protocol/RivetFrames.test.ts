/**
 * Every frame of the model through every version of Rivet's protocol, and what exactly is read back: the tables of `docs/protocol/rivet.md` once
 * more. A variant that is missing here does not compile. That nothing else is lost, whatever the bytes, is `Rivet.test.ts`.
 */
import { assert, describe, it } from "@effect/vitest"
import {
  type RivetVersion,
  versions,
  type WholeRequestFrame,
  type WholeResponseFrame
} from "../../src/protocol/Rivet.ts"
import { liftRequest, liftResponse, lowerRequest, lowerResponse } from "../../src/protocol/rivet/TunnelFrame.ts"
import type { RouteKey } from "../../src/tunnel/Envelope.ts"

const route: RouteKey = { gatewayId: 0x01020304, requestId: 0xf5f6f7f8 }
const index = 0x1234
const none = new Uint8Array(0)
const data = new Uint8Array([1, 2])
const headers = [["a", "b"]] as const

/** What is read back; null where the version says nothing. */
type ReadBack<Frame> = Frame | null | ((version: number) => Frame | null)
type Rows<Frame extends { readonly _tag: string }> = {
  readonly [Tag in Frame["_tag"]]: ReadonlyArray<
    readonly [Extract<Frame, { readonly _tag: Tag }>, ReadBack<Frame> | "the same"]
  >
}

const start = { status: 201, headers, body: data }
const answers: Rows<WholeResponseFrame> = {
  Informational: [[{ _tag: "Informational", status: 103, headers }, null]],
  ResponseStart: [
    [{ _tag: "ResponseStart", ...start, streamed: false }, "the same"],
    [{ _tag: "ResponseStart", ...start, streamed: true }, "the same"],
    [{ _tag: "ResponseStart", status: 204, headers: [], body: none, streamed: false }, "the same"]
  ],
  ResponseChunk: [
    [{ _tag: "ResponseChunk", body: data, finish: false }, "the same"],
    [{ _tag: "ResponseChunk", body: none, finish: true }, "the same"]
  ],
  ResponseTrailers: [
    [
      { _tag: "ResponseTrailers", headers },
      { _tag: "ResponseChunk", body: none, finish: true }
    ]
  ],
  ResponseAbort: [
    [
      { _tag: "ResponseAbort", code: "overflow", message: "why" },
      { _tag: "ResponseAbort", code: "app_failed", message: "" }
    ]
  ],
  WebSocketOpen: [
    [
      { _tag: "WebSocketOpen", headers, canHibernate: true },
      (version) => ({ _tag: "WebSocketOpen", headers: [], canHibernate: version > 1 })
    ],
    [
      { _tag: "WebSocketOpen", headers: [], canHibernate: false },
      { _tag: "WebSocketOpen", headers: [], canHibernate: false }
    ]
  ],
  WebSocketMessage: [
    [{ _tag: "WebSocketMessage", data, binary: true, finish: true }, "the same"],
    [{ _tag: "WebSocketMessage", data: none, binary: false, finish: true }, "the same"]
  ],
  WebSocketMessageAck: [
    [
      { _tag: "WebSocketMessageAck", index: 7 },
      (version) => (version > 1 ? { _tag: "WebSocketMessageAck", index: 7 } : null)
    ]
  ],
  WebSocketClose: [
    [
      { _tag: "WebSocketClose", code: 1000, reason: "bye", hibernate: true },
      (version) => ({ _tag: "WebSocketClose", code: 1000, reason: "bye", hibernate: version > 1 })
    ],
    [{ _tag: "WebSocketClose", code: null, reason: "", hibernate: false }, "the same"]
  ],
  Credit: [[{ _tag: "Credit", bytes: 1 }, null]]
}

const request = { method: "PUT", target: "/x?y", headers, body: data }
const requests: Rows<WholeRequestFrame> = {
  RequestStart: [
    [{ _tag: "RequestStart", ...request, streamed: true }, "the same"],
    [{ _tag: "RequestStart", ...request, body: none, streamed: false }, "the same"]
  ],
  RequestChunk: [
    [{ _tag: "RequestChunk", body: data, finish: false }, "the same"],
    [{ _tag: "RequestChunk", body: none, finish: true }, "the same"]
  ],
  RequestTrailers: [
    [
      { _tag: "RequestTrailers", headers },
      { _tag: "RequestChunk", body: none, finish: true }
    ]
  ],
  RequestAbort: [
    [
      { _tag: "RequestAbort", code: "deadline" },
      { _tag: "RequestAbort", code: "cancelled" }
    ]
  ],
  WebSocketOpen: [[{ _tag: "WebSocketOpen", target: "/x", headers }, "the same"]],
  WebSocketMessage: [
    [{ _tag: "WebSocketMessage", data, binary: true, finish: true }, "the same"],
    [{ _tag: "WebSocketMessage", data: none, binary: false, finish: true }, "the same"]
  ],
  WebSocketClose: [
    [{ _tag: "WebSocketClose", code: 1000, reason: "bye" }, "the same"],
    [{ _tag: "WebSocketClose", code: null, reason: "" }, "the same"]
  ],
  Credit: [[{ _tag: "Credit", bytes: 1 }, null]]
}

/** Only these say which actor they are for. */
const saysActor = (frame: WholeRequestFrame) => frame._tag === "RequestStart" || frame._tag === "WebSocketOpen"

const readBack = <Frame>(frame: Frame, back: ReadBack<Frame> | "the same", version: number): Frame | null => {
  if (back === "the same") return frame
  return typeof back === "function" ? (back as (version: number) => Frame | null)(version) : back
}

const ups = Object.values(answers).flat() as ReadonlyArray<
  readonly [WholeResponseFrame, ReadBack<WholeResponseFrame> | "the same"]
>
const downs = Object.values(requests).flat() as ReadonlyArray<
  readonly [WholeRequestFrame, ReadBack<WholeRequestFrame> | "the same"]
>

/** A copy of its own: what is decoded are views of what was encoded. */
const copied = (bytes: Uint8Array | null) => (bytes === null ? null : new Uint8Array(bytes))

for (const { decodeDown, decodeUp, encodeDown, encodeUp, version } of versions) {
  describe(`version ${version}`, () => {
    for (const [frame, back] of ups) {
      const lifted = readBack(frame, back, version)
      it(`${lifted === null ? "says nothing of" : "carries"} a ${frame._tag} up`, () => {
        const bytes = copied(encodeUp({ _tag: "TunnelUp", route, index, frame, acknowledgement: null }))
        if (bytes === null || lifted === null) return assert.isTrue(bytes === null && lifted === null)
        const up = decodeUp(bytes)
        if (up._tag !== "TunnelUp") return assert.fail(up._tag)
        assert.deepStrictEqual(
          { ...up, acknowledgement: up.acknowledgement !== null },
          { _tag: "TunnelUp", route, index: version > 2 ? index : null, frame: lifted, acknowledgement: version === 2 }
        )
      })
    }
    for (const [frame, back] of downs) {
      const lifted = readBack(frame, back, version)
      it(`${lifted === null ? "says nothing of" : "carries"} a ${frame._tag} down`, () => {
        const bytes = copied(encodeDown({ _tag: "TunnelDown", route, index, actorId: "actor", frame }))
        if (bytes === null || lifted === null) return assert.isTrue(bytes === null && lifted === null)
        assert.deepStrictEqual(decodeDown(bytes), {
          _tag: "TunnelDown",
          route,
          index,
          actorId: saysActor(frame) ? "actor" : "",
          frame: lifted
        })
      })
    }
    it(`${version > 3 ? "has no ack of the tunnel's own" : "carries the tunnel's own ack"}`, () => {
      const ack = { _tag: "TunnelAck", route, index, acknowledgement: null } as const
      const [up, down] = [copied(encodeUp(ack)), copied(encodeDown(ack))]
      if (up === null || down === null) return assert.deepStrictEqual([up, down, version > 3], [null, null, true])
      const lifted = decodeUp(up)
      if (lifted._tag !== "TunnelAck") return assert.fail(lifted._tag)
      assert.deepStrictEqual(
        { ...lifted, acknowledgement: lifted.acknowledgement !== null },
        { ...ack, index: version === 3 ? index : null, acknowledgement: version === 2 }
      )
      assert.deepStrictEqual(decodeDown(down), ack)
    })
  })
}

describe("what no type knows is a fault of ours, in every version: there is no default", () => {
  const alien = { _tag: "Alien", tag: "Alien" } as never
  const checkpoint = { actorId: "a", generation: 1, index: 1n }
  const throws = (name: string, convert: (version: RivetVersion) => unknown) => {
    it(name, () => {
      for (const version of versions) assert.throws(() => convert(version), "unreachable", `version ${version.version}`)
    })
  }
  throws("an answer", ({ encodeUp }) =>
    encodeUp({ _tag: "TunnelUp", route, index, frame: alien, acknowledgement: null })
  )
  throws("a request", ({ encodeDown }) => encodeDown({ _tag: "TunnelDown", route, index, actorId: "a", frame: alien }))
  throws("an actor's word", ({ encodeUp }) => encodeUp({ _tag: "Actor", message: alien }))
  throws("a word to an actor", ({ encodeDown }) => encodeDown({ _tag: "Actor", message: alien }))
  throws("a command", ({ encodeDown }) =>
    encodeDown({ _tag: "Actor", message: { _tag: "Commands", commands: [{ checkpoint, command: alien }] } })
  )
  it("a kind of message", () => {
    for (const convert of [liftRequest, liftResponse, lowerResponse]) {
      assert.throws(() => convert(alien), "unreachable")
    }
    assert.throws(() => lowerRequest(alien, "a"), "unreachable")
  })
})
