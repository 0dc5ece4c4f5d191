/** What only shows on a peer by itself: everything else is tested through a hub. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { RivetPeer } from "../../../src/hub/rivet/RivetPeer.ts"
import { type RivetVersion, versionOf } from "../../../src/protocol/Rivet.ts"
import { pair } from "../../../src/socket/MessageSocket.ts"
import { limits } from "../../../src/tunnel/Limits.ts"
import { accept, actor, message, request, route, upgrade } from "./RivetHarness.ts"

const peerOf = () => {
  const peer = new RivetPeer({
    kv: { ask: () => Effect.succeed({ _tag: "Stored" }) },
    runFork: () => {},
    generationOf: () => 0,
    onUnencodable: () => {},
    onUnsayable: () => {},
    onForgotten: () => {},
    onUnanswered: () => {},
    onEnded: Effect.void
  })
  peer.onLasting = () => true
  return peer
}

describe("the line of streams that have something to publish", () => {
  it("has each of them once, and passes over what has gone to another runner, which has it in its own", () => {
    const first = peerOf()
    const second = peerOf()
    first.send({ route: route(1), index: 0, actor, frame: upgrade })
    first.take(route(1), accept(true))
    first.take(route(1), message("x"))
    const stream = first.nextInLine()
    assert.isDefined(stream)
    assert.isUndefined(first.nextInLine())
    stream.sleep()
    let frames = 0
    while (stream.take() !== undefined) frames++
    assert.isTrue(stream.parked)
    assert.strictEqual(frames, 3)
    // A last grant arrives while its gateway is being told.
    first.send({ route: route(1), index: 0, actor, frame: { _tag: "Credit", bytes: 1 } })
    first.release(stream)
    second.adopt(stream, { actorId: actor, generation: 1 }, 7)
    second.enlist(stream)
    assert.isUndefined(first.nextInLine())
    assert.strictEqual(second.nextInLine(), stream)
    assert.strictEqual(stream.take()?.frame._tag, "Credit")
    assert.isUndefined(stream.take())
  })
})

describe("a WebSocket whose runner came back just after it had said yes", () => {
  it("sleeps only once its gateway has heard of the yes", () => {
    const peer = peerOf()
    peer.send({ route: route(1), index: 0, actor, frame: upgrade })
    peer.take(route(1), accept(true))
    const [socket] = pair({ protocol: "rivet" })
    peer.attach(socket, versionOf(7) as RivetVersion, {
      ...{ _tag: "Welcome", runnerId: "", lastEventIndex: -1n, runnerLostMs: 15_000n, actorStopMs: 1n },
      serverlessDrainMs: null
    })
    const stream = peer.nextInLine()
    assert.strictEqual(stream?.take()?.frame._tag, "WebSocketOpen")
    assert.deepInclude(stream?.take()?.frame, { _tag: "WebSocketClose", hibernate: true })
  })
})

describe("a runner whose queue is full", () => {
  it("takes no request more, and never hears of that one", () => {
    const peer = peerOf()
    const body = new Uint8Array(limits.rivetPayloadBytesMax)
    for (let id = 0; id < 3; id++) {
      assert.isTrue(peer.send({ route: route(id), index: 0, actor, frame: request("/", { body }) }))
    }
    assert.isFalse(peer.send({ route: route(9), index: 0, actor, frame: request("/", { body }) }))
    assert.deepStrictEqual(peer.withdraw(route(9)), [])
    assert.isTrue(peer.send({ route: route(9), index: 0, actor, frame: { _tag: "RequestAbort", code: "overflow" } }))
    assert.deepStrictEqual(peer.wire.withdraw(route(9)), [])
    assert.strictEqual(peer.streams.size, 3)
  })
})

describe("a runner that is gone", () => {
  it("gets nothing any more: who is given to it nonetheless hears so at once", () => {
    const peer = peerOf()
    Effect.runSync(peer.ended)
    peer.send({ route: route(1), index: 0, actor, frame: upgrade })
    const stream = peer.nextInLine()
    assert.deepInclude(stream?.take()?.frame, { _tag: "ResponseAbort", code: "no_runner" })
  })
})
