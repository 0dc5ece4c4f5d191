/** The whole truth about what frames do and weigh, written down once more than in `Frame.ts`. A variant that is missing here does not compile. */
import { assert, describe, it } from "@effect/vitest"
import {
  absurd,
  bodyBytes,
  halfCloses,
  isSequenced,
  isTerminal,
  opensRoute,
  overtakes,
  type RequestFrame,
  type ResponseFrame,
  weightBytes
} from "../../src/tunnel/Frame.ts"

const body = new Uint8Array(7)
const headers = [
  ["ab", "cde"],
  ["f", ""]
] as const
/** What every frame weighs besides its content; and these headers, with four bytes around each. */
const overhead = 24
const headersWeigh = 2 + 3 + 4 + 1 + 4

interface Traits {
  readonly does: string
  /** Bytes that spend credit. */
  readonly spends?: number
  /** What it weighs beyond the overhead. */
  readonly weighs?: number
  /** How it keeps its place: in line, or ahead of data; and whether it spends an index. */
  readonly place: "in line" | "in line, unnumbered" | "ahead"
}
type Rows<Frame extends { readonly _tag: string }> = {
  readonly [Tag in Frame["_tag"]]: ReadonlyArray<readonly [Extract<Frame, { readonly _tag: Tag }>, Traits]>
}

const message = { data: body, binary: true, finish: true }
const start = { method: "GET", target: "/abc", headers, body }

const requests: Rows<RequestFrame> = {
  RequestStart: [
    // The body inside the opening frame is free.
    [
      { _tag: "RequestStart", ...start, streamed: false },
      { does: "opens", weighs: 4 + headersWeigh + 7, place: "in line" }
    ],
    [
      { _tag: "RequestStart", ...start, streamed: true },
      { does: "opens", weighs: 4 + headersWeigh + 7, place: "in line" }
    ]
  ],
  RequestChunk: [
    [
      { _tag: "RequestChunk", body, finish: false },
      { does: "goes on", spends: 7, weighs: 7, place: "in line" }
    ],
    [
      { _tag: "RequestChunk", body, finish: true },
      { does: "goes on", spends: 7, weighs: 7, place: "in line" }
    ]
  ],
  RequestTrailers: [
    [
      { _tag: "RequestTrailers", headers },
      { does: "goes on", weighs: headersWeigh, place: "in line" }
    ]
  ],
  RequestAbort: [
    [
      { _tag: "RequestAbort", code: "cancelled" },
      { does: "half-closes", place: "ahead" }
    ]
  ],
  WebSocketOpen: [
    [
      { _tag: "WebSocketOpen", target: "/", headers },
      { does: "opens", weighs: headersWeigh, place: "in line" }
    ]
  ],
  WebSocketMessage: [
    [
      { _tag: "WebSocketMessage", ...message },
      { does: "goes on", spends: 7, weighs: 7, place: "in line" }
    ]
  ],
  WebSocketClose: [
    [
      { _tag: "WebSocketClose", code: 1000, reason: "bye" },
      { does: "half-closes", place: "in line" }
    ]
  ],
  Credit: [
    [
      { _tag: "Credit", bytes: 1 },
      { does: "goes on", place: "ahead" }
    ]
  ]
}

const head = { status: 200, headers, body }
const responses: Rows<ResponseFrame> = {
  Informational: [
    [
      { _tag: "Informational", status: 103, headers },
      { does: "goes on", weighs: headersWeigh, place: "in line" }
    ]
  ],
  ResponseStart: [
    [
      { _tag: "ResponseStart", ...head, streamed: true },
      { does: "goes on", spends: 7, weighs: headersWeigh + 7, place: "in line" }
    ],
    [
      { _tag: "ResponseStart", ...head, streamed: false },
      { does: "ends", spends: 7, weighs: headersWeigh + 7, place: "in line" }
    ]
  ],
  ResponseChunk: [
    [
      { _tag: "ResponseChunk", body, finish: false },
      { does: "goes on", spends: 7, weighs: 7, place: "in line" }
    ],
    [
      { _tag: "ResponseChunk", body, finish: true },
      { does: "ends", spends: 7, weighs: 7, place: "in line" }
    ]
  ],
  ResponseTrailers: [
    [
      { _tag: "ResponseTrailers", headers },
      { does: "ends", weighs: headersWeigh, place: "in line" }
    ]
  ],
  ResponseAbort: [
    [
      { _tag: "ResponseAbort", code: "app_failed", message: "why" },
      { does: "ends", place: "in line, unnumbered" }
    ]
  ],
  WebSocketOpen: [
    [
      { _tag: "WebSocketOpen", headers, canHibernate: false },
      { does: "goes on", weighs: headersWeigh, place: "in line" }
    ]
  ],
  WebSocketMessage: [
    [
      { _tag: "WebSocketMessage", ...message },
      { does: "goes on", spends: 7, weighs: 7, place: "in line" }
    ]
  ],
  WebSocketMessageAck: [
    [
      { _tag: "WebSocketMessageAck", index: 1 },
      { does: "goes on", place: "in line" }
    ]
  ],
  WebSocketClose: [
    [
      { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: false },
      { does: "ends", place: "in line" }
    ],
    [
      { _tag: "WebSocketClose", code: 1000, reason: "", hibernate: true },
      { does: "ends", place: "in line" }
    ]
  ],
  Credit: [
    [
      { _tag: "Credit", bytes: 1 },
      { does: "goes on", place: "ahead" }
    ]
  ]
}

const weighs = (frame: RequestFrame | ResponseFrame, traits: Traits) => {
  assert.strictEqual(bodyBytes(frame), traits.spends ?? 0)
  assert.strictEqual(weightBytes(frame), overhead + (traits.weighs ?? 0))
  assert.strictEqual(isSequenced(frame), traits.place === "in line")
  assert.strictEqual(overtakes(frame), traits.place === "ahead")
}

for (const [frame, traits] of Object.values(requests).flat() as ReadonlyArray<readonly [RequestFrame, Traits]>) {
  it(`a ${frame._tag} going down: ${traits.does}${"streamed" in frame && frame.streamed ? " (streamed)" : ""}`, () => {
    assert.strictEqual(opensRoute(frame), traits.does === "opens")
    assert.strictEqual(halfCloses(frame), traits.does === "half-closes")
    weighs(frame, traits)
  })
}
for (const [frame, traits] of Object.values(responses).flat() as ReadonlyArray<readonly [ResponseFrame, Traits]>) {
  it(`a ${frame._tag} coming up: the stream ${traits.does}`, () => {
    assert.strictEqual(isTerminal(frame), traits.does === "ends")
    weighs(frame, traits)
  })
}

describe("a frame that no type knows", () => {
  const alien = { _tag: "Alien", body, headers } as never
  it("is a fault of ours wherever somebody decides by frame, never a default", () => {
    for (const decide of [opensRoute, halfCloses, isTerminal, bodyBytes, weightBytes, isSequenced, overtakes]) {
      assert.throws(() => decide(alien), "unreachable: ", decide.name)
    }
  })
  it("is named by the fault", () => assert.throws(() => absurd("Alien" as never), "unreachable: Alien"))
})
