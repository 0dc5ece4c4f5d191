import { assert, describe, it } from "@effect/vitest"
import type { Schema } from "effect"
import { ActorDownlink, ActorUplink } from "../../src/actor/ActorMessage.ts"
import type { Codec } from "../../src/protocol/Bare.ts"
import { type Down, type RivetVersion, type Up, versionOf, versions } from "../../src/protocol/Rivet.ts"
import {
  pack,
  packMessageId,
  packRequestId,
  unpack,
  unpackIndex,
  unpackRoute
} from "../../src/protocol/rivet/PackedId.ts"
import * as V1 from "../../src/protocol/rivet/V1.ts"
import * as V2 from "../../src/protocol/rivet/V2.ts"
import * as V3 from "../../src/protocol/rivet/V3.ts"
import * as V4 from "../../src/protocol/rivet/V4.ts"
import * as V5 from "../../src/protocol/rivet/V5.ts"
import * as V6 from "../../src/protocol/rivet/V6.ts"
import * as V7 from "../../src/protocol/rivet/V7.ts"
import { RouteKey } from "../../src/tunnel/Envelope.ts"
import { RequestFrame, ResponseFrame } from "../../src/tunnel/Frame.ts"
import * as Wire from "../../src/tunnel/Wire.ts"

const modules = [V1, V2, V3, V4, V5, V6, V7] as const
const hex = (bytes: Uint8Array | null) => (bytes === null ? null : Buffer.from(bytes).toString("hex"))
const version = (number: number): RivetVersion => {
  const found = versionOf(number)
  if (found === undefined) throw new Error(`no version ${number}`)
  return found
}

type Loose = { [key: string]: unknown }

/** What a version 1 to 7 message becomes on its way through the model and back: the losses of docs/protocol/rivet.md, and no others. */
const survives = (number: number, direction: "up" | "down", message: { tag: string; val: unknown }): unknown => {
  if (message.tag === "ToServerEvents" && number === 4)
    return {
      tag: message.tag,
      val: (message.val as Array<{ checkpoint: { actorId: string }; inner: { tag: string; val: Loose } }>).map(
        ({ checkpoint, inner }) => ({
          checkpoint,
          inner: { tag: inner.tag, val: { ...inner.val, actorId: checkpoint.actorId } }
        })
      )
    }
  if (!message.tag.endsWith("TunnelMessage")) return message
  const val = message.val as Loose & { messageKind: { tag: string; val: Loose | null } }
  const { messageKind } = val
  const kind: Loose | null = messageKind.val === null ? null : { ...messageKind.val }
  if (kind !== null && "stream" in kind && (kind.body as Uint8Array | null)?.length === 0) kind.body = null
  if (kind !== null && kind.reason === "") kind.reason = null
  if (kind !== null && "lastMsgIndex" in kind) kind.lastMsgIndex = -1n
  const rest = { ...val, messageKind: { tag: messageKind.tag, val: kind } }
  if (number > 2) return { tag: message.tag, val: rest }
  const route = unpackRoute(val.requestId as Uint8Array)
  const down = typeof kind?.index === "number" ? kind.index : unpackIndex(val.messageId as Uint8Array)
  const messageId = packMessageId(route, direction === "up" ? 0 : down)
  const ids = { requestId: packRequestId(route), messageId }
  return { tag: message.tag, val: direction === "up" ? { ...rest, ...ids } : { ...rest, ...ids, gatewayReplyTo: null } }
}

/** Names that differ only in case are one header; such maps are joined on the way down and left out here. */
const oneSpelling = (message: unknown): boolean => {
  const headers = ((message as Loose).val as Loose | null)?.messageKind as { val: Loose | null } | undefined
  const map = headers?.val?.headers as ReadonlyMap<string, string> | undefined
  return map === undefined || new Set([...map.keys()].map((name) => name.toLowerCase())).size === map.size
}

describe("each version of Rivet's protocol", () => {
  it("is found by its number, and no other is", () => {
    assert.deepStrictEqual(
      versions.map((found) => found.version),
      [1, 2, 3, 4, 5, 6, 7]
    )
    assert.deepStrictEqual([versionOf(0), versionOf(8)], [undefined, undefined])
  })

  for (const [i, module] of modules.entries()) {
    const number = i + 1
    it.prop(
      `a runner's message of version ${number} survives the way into the model and out again`,
      { message: module.ToServer as unknown as Schema.Schema<{ tag: string; val: unknown }> },
      ({ message }) => {
        if (!oneSpelling(message)) return
        const codec = module.codecs.ToServer as unknown as Codec<unknown>
        const again = version(number).encodeUp(version(number).decodeUp(codec.encode(message)))
        assert.strictEqual(hex(again), hex(codec.encode(survives(number, "up", message))))
      },
      { arbitrary: { runs: 300 } }
    )
    it.prop(
      `a message to a runner of version ${number} survives the way into the model and out again`,
      { message: module.ToClient as unknown as Schema.Schema<{ tag: string; val: unknown }> },
      ({ message }) => {
        if (!oneSpelling(message)) return
        const codec = module.codecs.ToClient as unknown as Codec<unknown>
        const again = version(number).encodeDown(version(number).decodeDown(codec.encode(message)))
        assert.strictEqual(hex(again), hex(codec.encode(survives(number, "down", message))))
      },
      { arbitrary: { runs: 300 } }
    )
  }
})

const ups = { route: RouteKey, index: Wire.u16, frame: ResponseFrame }
const downs = { route: RouteKey, index: Wire.u16, frame: RequestFrame }
const up = (route: RouteKey, index: number, frame: ResponseFrame): Up => ({
  _tag: "TunnelUp",
  route,
  index,
  frame: frame._tag === "WebSocketMessage" ? { ...frame, finish: true } : frame,
  acknowledgement: null
})
const down = (route: RouteKey, index: number, frame: RequestFrame): Down => ({
  _tag: "TunnelDown",
  route,
  index,
  actorId: "a",
  frame: frame._tag === "WebSocketMessage" ? { ...frame, finish: true } : frame
})

describe("down to a version and up again", () => {
  it.prop(
    "keeps all of an answer that the version can say",
    ups,
    ({ route, index, frame }) => {
      for (const { encodeUp, decodeUp } of versions) {
        const once = encodeUp(up(route, index, frame))
        if (once === null) continue
        const lifted = decodeUp(once)
        assert.deepStrictEqual(lifted._tag === "TunnelUp" && lifted.route, route)
        const numbered = lifted._tag === "TunnelUp" ? { ...lifted, index } : lifted
        assert.strictEqual(hex(encodeUp(numbered)), hex(once))
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop(
    "keeps all of a request that the version can say",
    downs,
    ({ route, index, frame }) => {
      for (const { encodeDown, decodeDown } of versions) {
        const once = encodeDown(down(route, index, frame))
        if (once !== null) assert.strictEqual(hex(encodeDown(decodeDown(once))), hex(once))
      }
    },
    { arbitrary: { runs: 500 } }
  )

  it.prop(
    "keeps all of an actor message that the version can say",
    { message: ActorUplink, answer: ActorDownlink },
    ({ message, answer }) => {
      for (const { encodeUp, decodeUp, encodeDown, decodeDown } of versions) {
        const once = encodeUp({ _tag: "Actor", message })
        if (once !== null) assert.strictEqual(hex(encodeUp(decodeUp(once))), hex(once))
        const told = encodeDown({ _tag: "Actor", message: answer })
        if (told !== null) assert.strictEqual(hex(encodeDown(decodeDown(told))), hex(told))
      }
    },
    { arbitrary: { runs: 1000 } }
  )

  it.prop(
    "loses nothing of actor messages between two sides of version 7 but what it has no words for",
    { message: ActorUplink },
    ({ message }) => {
      const { encodeUp, decodeUp } = version(7)
      const bytes = encodeUp({ _tag: "Actor", message })
      const silent = message._tag === "CommandsDoneUpTo" || message._tag === "RunnerPing"
      assert.strictEqual(bytes === null, silent)
      if (bytes === null) return
      const expected = message._tag === "Introduction" ? { ...message, lastCommandIndex: null } : message
      assert.deepStrictEqual(decodeUp(new Uint8Array(bytes)), { _tag: "Actor", message: expected })
    },
    { arbitrary: { runs: 1000 } }
  )
})

const route: RouteKey = { gatewayId: 0x01020304, requestId: 0x05060708 }
const headers = [["a", "b"]] as const
const none = new Uint8Array(0)

/** Which versions have words for which frame of the model. */
const spoken = (encode: (version: RivetVersion) => Uint8Array | null) =>
  versions.filter((each) => encode(each) !== null).map((each) => each.version)

describe("what a version cannot say", () => {
  const all = [1, 2, 3, 4, 5, 6, 7]
  it.each([
    [{ _tag: "Informational", status: 103, headers }, []],
    [{ _tag: "ResponseStart", status: 200, headers, body: none, streamed: false }, all],
    [{ _tag: "ResponseChunk", body: none, finish: true }, all],
    [{ _tag: "ResponseTrailers", headers }, all],
    [{ _tag: "ResponseAbort", code: "cancelled", message: "" }, all],
    [{ _tag: "WebSocketOpen", headers, canHibernate: true }, all],
    [{ _tag: "WebSocketMessage", data: none, binary: true, finish: true }, all],
    [{ _tag: "WebSocketMessageAck", index: 1 }, [2, 3, 4, 5, 6, 7]],
    [{ _tag: "WebSocketClose", code: null, reason: "", hibernate: false }, all],
    [{ _tag: "Credit", bytes: 1 }, []]
  ] as ReadonlyArray<[ResponseFrame, Array<number>]>)("of answers: %j", (frame, expected) => {
    assert.deepStrictEqual(
      spoken(({ encodeUp }) => encodeUp(up(route, 0, frame))),
      expected
    )
  })

  it.each([
    [{ _tag: "RequestStart", method: "GET", target: "/", headers, body: none, streamed: false }, all],
    [{ _tag: "RequestChunk", body: none, finish: true }, all],
    [{ _tag: "RequestTrailers", headers }, all],
    [{ _tag: "RequestAbort", code: "deadline" }, all],
    [{ _tag: "WebSocketOpen", target: "/", headers }, all],
    [{ _tag: "WebSocketMessage", data: none, binary: true, finish: true }, all],
    [{ _tag: "WebSocketClose", code: null, reason: "" }, all],
    [{ _tag: "Credit", bytes: 1 }, []]
  ] as ReadonlyArray<[RequestFrame, Array<number>]>)("of requests: %j", (frame, expected) => {
    assert.deepStrictEqual(
      spoken(({ encodeDown }) => encodeDown(down(route, 0, frame))),
      expected
    )
  })

  it("of actor messages", () => {
    const says = (message: ActorUplink) => spoken(({ encodeUp }) => encodeUp({ _tag: "Actor", message }))
    const told = (message: ActorDownlink) => spoken(({ encodeDown }) => encodeDown({ _tag: "Actor", message }))
    const range = { _tag: "DeleteRange", start: none, end: none } as const
    assert.deepStrictEqual(says({ _tag: "Pong", atMs: 1n }), [4, 5, 6, 7])
    assert.deepStrictEqual(says({ _tag: "RunnerPing", atMs: 1n }), [1, 2, 3])
    assert.deepStrictEqual(says({ _tag: "CommandsDoneUpTo", index: 1n }), [1, 2, 3])
    assert.deepStrictEqual(says({ _tag: "KvAsked", actorId: "a", requestId: 1, request: range }), [7])
    assert.deepStrictEqual(told({ _tag: "Ping", atMs: 1n }), [4, 5, 6, 7])
    assert.deepStrictEqual(told({ _tag: "Close" }), [1, 2, 3])
    assert.deepStrictEqual(told({ _tag: "EventsSeenUpTo", index: 1n }), [1, 2, 3])
    assert.deepStrictEqual(told({ _tag: "EventsSeen", upTo: [] }), [4, 5, 6, 7])
  })

  it("of several checkpoints in versions 1 to 3: the highest number covers them all", () => {
    const upTo = [5n, 9n, 3n].map((index) => ({ actorId: `actor-${index}`, generation: 1, index }))
    for (const { encodeDown, decodeDown, encodeUp, decodeUp } of versions.slice(0, 3)) {
      const seen = decodeDown(encodeDown({ _tag: "Actor", message: { _tag: "EventsSeen", upTo } }) ?? none)
      assert.deepStrictEqual(seen, { _tag: "Actor", message: { _tag: "EventsSeenUpTo", index: 9n } })
      const done = decodeUp(encodeUp({ _tag: "Actor", message: { _tag: "CommandsDone", upTo } }) ?? none)
      assert.deepStrictEqual(done, { _tag: "Actor", message: { _tag: "CommandsDoneUpTo", index: 9n } })
    }
  })

  it("is dropped with the frame's own stream going on: trailers still end a body", () => {
    const { encodeUp, decodeUp } = version(7)
    const lifted = decodeUp(encodeUp(up(route, 3, { _tag: "ResponseTrailers", headers })) ?? none)
    assert.deepStrictEqual(
      lifted._tag === "TunnelUp" && [lifted.frame._tag, "finish" in lifted.frame && lifted.frame.finish],
      ["ResponseChunk", true]
    )
  })

  it("of header lists: one value a name, joined where HTTP allows it, and the first cookie set", () => {
    const { encodeUp, decodeUp, encodeDown, decodeDown } = version(7)
    const several = [
      ["Vary", "a"],
      ["set-cookie", "x=1"],
      ["vary", "b"],
      ["Set-Cookie", "y=2"],
      ["cookie", "a=1"],
      ["cookie", "b=2"]
    ] as const
    const start = { _tag: "ResponseStart", status: 200, headers: several, body: none, streamed: false } as const
    const lifted = decodeUp(encodeUp(up(route, 0, start)) ?? none)
    const expected: ReadonlyArray<readonly [string, string]> = [
      ["Vary", "a, b"],
      ["set-cookie", "x=1"],
      ["cookie", "a=1; b=2"]
    ]
    assert.deepStrictEqual(lifted._tag === "TunnelUp" && "headers" in lifted.frame && lifted.frame.headers, expected)
    const open = decodeDown(
      encodeDown(down(route, 0, { _tag: "WebSocketOpen", target: "/", headers: several })) ?? none
    )
    assert.deepStrictEqual(open._tag === "TunnelDown" && "headers" in open.frame && open.frame.headers, expected)
  })
})

describe("ids", () => {
  it("keep the route's bytes in the order they are logged in", () => {
    const abort = { _tag: "ResponseAbort", code: "app_failed", message: "" } as const
    const bytes = version(7).encodeUp(up(route, 258, abort))
    assert.strictEqual(hex(bytes), "060102030405060708020102")
  })

  it("of versions 1 and 2 look like a UUID with the route inside", () => {
    assert.strictEqual(hex(packRequestId(route)), "01020304050640078008000000000000")
    assert.strictEqual(hex(packMessageId(route, 0x1234)), "01020304050640078008341200000000")
  })

  it.prop(
    "of versions 1 and 2 give back what was packed",
    { route: RouteKey, index: Wire.u16, content: Wire.fixed(14) },
    (given) => {
      assert.deepStrictEqual(unpackRoute(packRequestId(given.route)), given.route)
      assert.strictEqual(unpackIndex(packMessageId(given.route, given.index)), given.index)
      assert.deepStrictEqual(unpack(pack(given.content)), new Uint8Array(given.content))
    }
  )

  it("of versions 1 and 2 leave the index to the hub", () => {
    for (const number of [1, 2]) {
      const lifted = version(number).decodeUp(
        version(number).encodeUp(up(route, 7, { _tag: "ResponseChunk", body: none, finish: false })) ?? none
      )
      assert.strictEqual(lifted._tag === "TunnelUp" && lifted.index, null)
    }
  })
})

describe("the tunnel's own ack", () => {
  it("is told apart from frames in versions 1 to 3, and does not exist later", () => {
    const ack = { _tag: "TunnelAck", route, index: 0, acknowledgement: null } as const
    for (const { version: number, encodeUp, decodeUp } of versions) {
      const bytes = encodeUp(ack)
      assert.strictEqual(bytes === null, number > 3)
      if (bytes !== null) assert.strictEqual(decodeUp(bytes)._tag, "TunnelAck")
    }
  })

  it("is owed for every tunnel message of version 2, with the very ids the runner chose", () => {
    const ids = { requestId: new Uint8Array(16).fill(7), messageId: new Uint8Array(16).fill(9) }
    for (const messageKind of [
      { tag: "TunnelAck", val: null },
      { tag: "ToServerResponseAbort", val: null }
    ] as const) {
      const lifted = version(2).decodeUp(
        V2.codecs.ToServer.encode({ tag: "ToServerTunnelMessage", val: { ...ids, messageKind } })
      )
      if (lifted._tag === "Actor" || lifted.acknowledgement === null) return assert.fail("no acknowledgement")
      assert.deepStrictEqual(V2.codecs.ToClient.decode(new Uint8Array(lifted.acknowledgement)), {
        tag: "ToClientTunnelMessage",
        val: { ...ids, messageKind: { tag: "TunnelAck", val: null }, gatewayReplyTo: null }
      })
    }
  })
})
