/**
 * The 34 ways in which a server breaks with Rivet's published client, by their numbers in the specification: each with the tests that would notice, by file and
 * name, or with the reason why it cannot occur here. That the tests named here exist is tested; that they pass is their own business.
 */
import { readFileSync } from "node:fs"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { decodeToClient } from "@rivetkit/engine-runner-protocol"
import { Effect } from "effect"
import type { KvRequest } from "../../../src/actor/ActorMessage.ts"
import { startOf, stopOf } from "./ControlTwin.ts"
import {
  actor,
  advance,
  arrange,
  bytesOf,
  closeDown,
  key,
  message,
  request,
  route,
  scenario,
  settle,
  upgrade
} from "./RivetHarness.ts"

interface Hazard {
  readonly says: string
  /** File under `test/`, and a part of the name of a test in it. */
  readonly tests: ReadonlyArray<readonly [file: string, name: string]>
  /** Why it cannot occur, or what else there is to know. */
  readonly because?: string
}

const handshake = "hub/rivet/RivetHandshake.test.ts"
const http = "hub/rivet/RivetHttp.test.ts"
const webSocket = "hub/rivet/RivetWebSocket.test.ts"
const hibernation = "hub/rivet/Hibernation.test.ts"
const session = "hub/rivet/RivetSession.test.ts"
const channel = "hub/rivet/ActorChannel.test.ts"
const contained = "hub/rivet/ContainedFaults.test.ts"
const traffic = "hub/rivet/RivetClientTraffic.test.ts"
const model = "hub/rivet/RivetModel.test.ts"
const real = "hub/rivet/RealControl.test.ts"
const faults = "actor/ActorFaults.test.ts"
const client = "rivet/Client.test.ts"

const hazards: Readonly<Record<number, Hazard>> = {
  1: {
    says: "a version in front of a message makes it undecodable",
    tests: [[handshake, "is laid out byte by byte as that version has it, and comes first"]]
  },
  2: {
    says: "a message that cannot be read ends the runner's process",
    tests: [
      ["hub/rivet/ScriptedRivetRunner.test.ts", "a scripted runner fails its test over"],
      ["hub/rivet/Hazards.test.ts", "all that the hub says is read by the published codec"],
      [contained, "costs the request that it belongs to"],
      [contained, "costs the command, and no other"]
    ],
    because: "each scripted runner decodes all it hears, in every test, and fails it over what does not decode"
  },
  3: {
    says: "ToClientInit is laid out differently in each version",
    tests: [[handshake, "is laid out byte by byte as that version has it, and comes first"]]
  },
  4: {
    says: "tag 4 of a store's request is Drop up to version 6, and DeleteRange in 7",
    tests: [[channel, "is asked and answers with the request's number"]]
  },
  5: {
    says: "a start that comes again restarts the actor in place",
    tests: [
      [real, "keeps its actor over a reconnect: no second start, and what came meanwhile is answered"],
      [session, "are not told again beside those that the next one is owed"],
      [
        faults,
        "before the start arrived: nothing is repeated, and the next generation is started, never the same again"
      ],
      [faults, "after `running`: no start is sent again, however often it breaks"]
    ]
  },
  6: {
    says: "`stopped` may be lost",
    tests: [
      [real, "that lost its actor while it was away is asked, and has it started anew"],
      [channel, "is asked by a request that no app sees, whose answer reaches nobody else"],
      [session, "finds the requests of actors that ended meanwhile ended as well"],
      [faults, "a visitor of an actor that stopped unheard is served by the next generation, in stated time"]
    ]
  },
  7: {
    says: "unacknowledged history comes again as one list after every init",
    tests: [
      [channel, "of a whole history come as one list"],
      [faults, "that were heard before are heard once, and acknowledged again"]
    ]
  },
  8: {
    says: "init comes before any command, and names the same runner after a reconnect",
    tests: [
      [channel, "that are owed come after the welcome, in their order"],
      [handshake, "says the same id after a reconnect"],
      [handshake, "is laid out byte by byte as that version has it, and comes first"]
    ]
  },
  9: {
    says: "only ws.eviction keeps a client from coming back, and for good",
    tests: [
      [handshake, "of a namespace that is not here is refused"],
      [handshake, "with a wrong token is refused"],
      [session, "evicts nobody of another key or another name"],
      ["server/RivetRunners.test.ts", "a server that closes tells its Rivet runners to come back"]
    ],
    because: "`RivetClose.ts` has that reason for one cause only, and every test of a close compares the words"
  },
  10: {
    says: "the actors of a runner that was evicted live on for a while",
    tests: [
      [faults, "evicted, it is somebody else at once, but its actors may live on, so they wait for the threshold"]
    ]
  },
  11: {
    says: "messages to a socket that can hibernate have numbers without a gap, from 1 on, over moves and repetitions",
    tests: [
      [webSocket, "numbers its messages around: after 65535 comes 0"],
      [webSocket, "joins what its visitor sends in fragments"],
      [hibernation, "wakes without being opened again, and goes on where its gateway says"],
      [hibernation, "of a runner that comes back sleeps for a moment, and what was not acknowledged comes again"],
      [model, "what one side says the other hears, in order and once, and nothing is left"]
    ]
  },
  12: {
    says: "a start that does not list a sleeping socket destroys it",
    tests: [
      [hibernation, "is told of the WebSockets that wait for it, whose gateways hear of it afterwards"],
      [hibernation, "anew in the same breath finds those that have only begun to fall asleep"],
      [hibernation, "in place of a generation whose end nobody told finds its WebSockets too"],
      [hibernation, "twice in one generation is told of the same WebSockets twice, which stay attached"],
      [real, "goes to another runner when its own is lost, and the actor is told of it there"]
    ]
  },
  13: {
    says: "a second WebSocketOpen makes a zombie of the socket",
    tests: [
      [hibernation, "wakes without being opened again, and goes on where its gateway says"],
      ["hub/rivet/ActorStreams.test.ts", "that comes twice is run once"]
    ]
  },
  14: {
    says: "the client echoes a close",
    tests: [
      [webSocket, "closed by its visitor is closed at the app, whose echo goes nowhere and leaves nothing"],
      [traffic, "5: it echoes the visitor's close"]
    ]
  },
  15: {
    says: "many requests get no answer",
    tests: [
      [webSocket, "whose actor stops is closed, as is one that waits for its app's yes"],
      [session, "and does not come back is lost after fifteen seconds, and whoever waits is told"],
      ["gateway/HttpStream.test.ts", "an app that does not begin its answer in time is 504, and told so"],
      ["gateway/SocketStream.test.ts", "because nobody answers is closed at the deadline, and the app told"],
      [http, "that its visitor gives up is aborted at the runner, and the late answer goes nowhere"]
    ]
  },
  16: {
    says: "a request body that is streamed to the client loses its answer",
    tests: [
      [http, "whose body comes in pieces is gathered, each piece granted as it comes, and goes down as one"],
      [http, "is answered piece by piece where the runner streams"]
    ]
  },
  17: {
    says: "`running` is said before the actor is ready",
    tests: [
      ["gateway/HttpStream.test.ts", "the time for a head runs from the end of the upload, and ends with the head"],
      [webSocket, "whose actor stops is closed, as is one that waits for its app's yes"]
    ]
  },
  18: {
    says: "ERROR is what version 7 says of an ordinary stop",
    tests: [
      ["actor/ActorLife.test.ts", "an actor that was asked to sleep sleeps, whatever its runner calls that"],
      [
        "actor/ActorControl.test.ts",
        "before version 7 OK means nothing: a start that failed is a crash, a wish to stop is kept"
      ],
      [
        "actor/ActorControl.test.ts",
        "from version 7 OK without a wish means done, and an error after a wish means it failed"
      ]
    ]
  },
  19: {
    says: "a message on a route that nobody issued is no attack",
    tests: [
      [contained, "that was never issued may come any number of times"],
      [contained, "that is over is dropped, however often"],
      [traffic, "4: it sends on a socket that nobody ever mentioned to it"]
    ]
  },
  20: {
    says: "the client's own message numbers are neither unique nor in order",
    tests: [[webSocket, "carries what its app says in the order it was said, whatever numbers it says it with"]]
  },
  21: {
    says: "what was kept while offline comes only after init",
    tests: [
      [handshake, "needs no more than init, and what follows init in one read is read"],
      [
        traffic,
        "1: it goes on with sockets that it had before a reconnect, with what it buffered and with what comes later"
      ]
    ]
  },
  22: {
    says: "the subprotocol has to be exactly `rivet`",
    tests: [["server/RivetRunners.test.ts", "is answered with exactly that"]]
  },
  23: {
    says: "one loop reads pongs, events, stores and streams",
    tests: [
      [channel, "is asked in order for each actor, and holds up neither the other actor, nor a pong, nor an answer"],
      [http, "waits for no other: a visitor that takes nothing holds up its own answer only"],
      [session, "need not answer pings meanwhile: they stand behind it"],
      [contained, "is bounded in bytes: beyond, it ends on both sides, and the one beside it goes on"]
    ]
  },
  24: {
    says: "close codes of an app may be such that no close frame may carry",
    tests: [
      [webSocket, "closed by its app without a code, or abnormally, says so"],
      [webSocket, "with a close reason beyond what a close frame holds has it cut"],
      ["socket/MessageSocket.test.ts", "sends only close codes that RFC 6455 lets an endpoint send"],
      ["socket/MessageSocket.test.ts", "cuts a close reason to 123 bytes without cutting a character"]
    ]
  },
  25: {
    says: "the tunnel's own ack asks for no route; version 2 wants one back for everything",
    tests: [
      [contained, "is nothing to any route: not counted, not published, and it ends none"],
      [contained, "is acknowledged with the ids it came with"],
      [contained, "is acknowledged before anything else is said about it"]
    ]
  },
  26: {
    says: "versions 1 and 2 have the route in the request's id, around two bytes that say nothing",
    tests: [[contained, "say the route in the request's id, whatever its two constant bytes and the message's id hold"]]
  },
  27: {
    says: "stops are never acknowledged, and starts every five minutes",
    tests: [
      [faults, "a stop is repeated once over each new connection, until the runner says `stopped`"],
      [faults, "after `running`: no start is sent again, however often it breaks"]
    ],
    because: "commands are not kept anywhere: what is owed is read off the actors (`actor/Outbox.ts`)"
  },
  28: {
    says: "two stops run the app's stop callback twice",
    tests: [[faults, "a stop is repeated once over each new connection, until the runner says `stopped`"]]
  },
  29: {
    says: "the client does not repeat a store's request after a reconnect",
    tests: [
      [channel, "keeps the order of an actor over a reconnect"],
      ["actor/ActorKvKilled.test.ts", "a put that was acknowledged is found after the process was killed"]
    ],
    because: "the answer is sent over the next connection; the client may still wait for it"
  },
  30: {
    says: "a runner that drains expects stops, and two minutes",
    tests: [
      [session, "is told to stop its actors, keeps its requests, and is lost as soon as it is gone"],
      [real, "leaves in order: its actors stop, and the next one of its key is another"],
      [client, "a runner told to end stops its actors in order and leaves, and a new one takes them on"]
    ]
  },
  31: {
    says: "the client waits for ever on a connection that nobody reads and nobody closes",
    tests: [
      [session, "that stay unanswered for fifteen seconds end the connection, and it may come back"],
      [session, "is given up where that takes for ever"],
      [contained, "is not read from beyond a bound, and is once it reads"]
    ],
    because:
      "reading stops only while the runner itself does not take what it was told, and its pings then end the connection"
  },
  32: {
    says: "one list of events, and one answer of a store, may be large",
    tests: [
      [channel, "of a whole history come as one list"],
      ["actor/KvRules.test.ts", "no list is more than a client can decode, and little is left unused"],
      ["server/RivetRunners.test.ts", "beyond 32 MiB ends the connection, as too large"]
    ],
    because:
      "events are acknowledged as they come, so that the list stays small; beyond 65,536 elements a message is refused"
  },
  33: {
    says: "two processes with one key evict each other for good",
    tests: [
      [session, "evicts the older one, and has its requests"],
      [
        faults,
        "two processes with one key take its connection from each other: said loudly, once, and not of one reconnect"
      ],
      [client, "a runner whose key another process takes is told so, and goes for good"]
    ]
  },
  34: {
    says: "a runner may come back in another version",
    tests: [
      [handshake, "is spoken to in the new version, under the same id"],
      [faults, "what the runner introduces itself as counts from its newest connection on"]
    ]
  }
}

const read = (file: string): string => readFileSync(fileURLToPath(new URL(`../../${file}`, import.meta.url)), "utf8")

describe("the hazards of the specification", () => {
  it("are 34", () => {
    assert.deepStrictEqual(
      Object.keys(hazards).map(Number),
      Array.from({ length: 34 }, (_, i) => i + 1)
    )
  })

  for (const [number, { because, says, tests }] of Object.entries(hazards)) {
    it(`${number}: ${says}`, () => {
      assert.isTrue(tests.length > 0 || because !== undefined)
      for (const [file, name] of tests) assert.include(read(file), name, `${file} has that test`)
    })
  }
})

scenario("2: all that the hub says is read by the published codec, word for word", (twin) =>
  Effect.gen(function* () {
    const { runner, session: id, visitor } = yield* arrange(twin, 7, { pongs: true })
    twin.port(id).command([startOf(actor), stopOf("another")])
    yield* visitor.open(actor, 1, upgrade)
    yield* runner.frame(key, { _tag: "WebSocketOpen", headers: [], canHibernate: true })
    yield* visitor.follow(1, message("text"))
    yield* visitor.follow(1, message(bytesOf(3)))
    yield* visitor.follow(1, closeDown(1000, "bye"))
    yield* visitor.follow(1, closeDown(null))
    for (const id of [2, 3]) yield* visitor.open(actor, id, request("/", { body: bytesOf(id) }))
    yield* visitor.follow(3, { _tag: "RequestAbort", code: "cancelled" })
    yield* runner.frame(route(2), {
      _tag: "ResponseStart",
      status: 200,
      headers: [],
      body: bytesOf(1),
      streamed: false
    })
    const ask = (requestId: number, asked: KvRequest) =>
      runner.say({ _tag: "KvAsked", actorId: actor, requestId, request: asked })
    yield* ask(1, { _tag: "Put", keys: [bytesOf(2)], values: [bytesOf(4)] })
    yield* ask(2, { _tag: "Get", keys: [bytesOf(2)] })
    yield* ask(3, { _tag: "List", query: { _tag: "All" }, reverse: null, limit: null })
    yield* ask(4, { _tag: "Delete", keys: [bytesOf(2)] })
    yield* ask(5, { _tag: "Drop" })
    yield* ask(6, { _tag: "Put", keys: [], values: [bytesOf(4)] })
    yield* runner.say({
      _tag: "Events",
      events: [{ checkpoint: { actorId: actor, generation: 0, index: 0n }, event: { _tag: "Running" } }]
    })
    yield* settle
    yield* advance(4_000)
    const tags = runner.heard.map(({ bytes }) => {
      const read = decodeToClient(Uint8Array.from(bytes))
      return read.tag === "ToClientTunnelMessage" ? read.val.messageKind.tag : read.tag
    })
    assert.deepStrictEqual([...new Set(tags)].sort(), [
      "ToClientAckEvents",
      "ToClientCommands",
      "ToClientInit",
      "ToClientKvResponse",
      "ToClientPing",
      "ToClientRequestAbort",
      "ToClientRequestStart",
      "ToClientWebSocketClose",
      "ToClientWebSocketMessage",
      "ToClientWebSocketOpen"
    ])
  })
)
