/** The whole truth about what opens and ends a stream, written down once more than in `Frame.ts`. A variant that is missing here does not compile. */
import { assert, it } from "@effect/vitest"
import { halfCloses, isTerminal, opensRoute, type RequestFrame, type ResponseFrame } from "../../src/tunnel/Frame.ts"

const body = new Uint8Array(1)

type Rows<Frame extends { readonly _tag: string }> = {
  readonly [Tag in Frame["_tag"]]: ReadonlyArray<readonly [Extract<Frame, { readonly _tag: Tag }>, string]>
}

const requests: Rows<RequestFrame> = {
  RequestStart: [
    [{ _tag: "RequestStart", method: "GET", target: "/", headers: [], body, streamed: false }, "opens"],
    [{ _tag: "RequestStart", method: "PUT", target: "/", headers: [], body, streamed: true }, "opens"]
  ],
  RequestChunk: [
    [{ _tag: "RequestChunk", body, finish: false }, "neither"],
    [{ _tag: "RequestChunk", body, finish: true }, "neither"]
  ],
  RequestTrailers: [[{ _tag: "RequestTrailers", headers: [] }, "neither"]],
  RequestAbort: [[{ _tag: "RequestAbort", code: "cancelled" }, "half-closes"]],
  WebSocketOpen: [[{ _tag: "WebSocketOpen", target: "/", headers: [] }, "opens"]],
  WebSocketMessage: [[{ _tag: "WebSocketMessage", data: body, binary: true, finish: true }, "neither"]],
  WebSocketClose: [[{ _tag: "WebSocketClose", code: 1000, reason: "" }, "half-closes"]],
  Credit: [[{ _tag: "Credit", bytes: 1 }, "neither"]]
}

const responses: Rows<ResponseFrame> = {
  Informational: [[{ _tag: "Informational", status: 103, headers: [] }, "goes on"]],
  ResponseStart: [
    [{ _tag: "ResponseStart", status: 200, headers: [], body, streamed: true }, "goes on"],
    [{ _tag: "ResponseStart", status: 200, headers: [], body, streamed: false }, "ends"]
  ],
  ResponseChunk: [
    [{ _tag: "ResponseChunk", body, finish: false }, "goes on"],
    [{ _tag: "ResponseChunk", body, finish: true }, "ends"]
  ],
  ResponseTrailers: [[{ _tag: "ResponseTrailers", headers: [] }, "ends"]],
  ResponseAbort: [[{ _tag: "ResponseAbort", code: "app_failed", message: "" }, "ends"]],
  WebSocketOpen: [[{ _tag: "WebSocketOpen", headers: [], canHibernate: false }, "goes on"]],
  WebSocketMessage: [[{ _tag: "WebSocketMessage", data: body, binary: true, finish: true }, "goes on"]],
  WebSocketMessageAck: [[{ _tag: "WebSocketMessageAck", index: 1 }, "goes on"]],
  WebSocketClose: [
    [{ _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false }, "ends"],
    [{ _tag: "WebSocketClose", code: 1000, reason: "", hibernate: true }, "ends"]
  ],
  Credit: [[{ _tag: "Credit", bytes: 1 }, "goes on"]]
}

for (const [frame, does] of Object.values(requests).flat() as ReadonlyArray<readonly [RequestFrame, string]>) {
  it(`a ${frame._tag} going down: ${does}${"streamed" in frame && frame.streamed ? " (streamed)" : ""}`, () => {
    assert.strictEqual(opensRoute(frame), does === "opens")
    assert.strictEqual(halfCloses(frame), does === "half-closes")
  })
}
for (const [frame, does] of Object.values(responses).flat() as ReadonlyArray<readonly [ResponseFrame, string]>) {
  it(`a ${frame._tag} coming up: the stream ${does}`, () => assert.strictEqual(isTerminal(frame), does === "ends"))
}
