/**
 * Bugs to plant in a copy of the source, each a small change of its text: the first eight are the ways to get routes wrong, the rest show that
 * every other thing the simulation asserts can fail. `planted.ts` runs the simulation on each copy; `Planted.test.ts` sees to it that all still apply.
 */
import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"

/** One change: `find` must occur exactly once in the files of `where`, a file or a folder. */
export interface Edit {
  readonly where: string
  readonly find: string | RegExp
  readonly put: string
}

/** One bug. */
export interface Bug {
  readonly name: string
  readonly edits: ReadonlyArray<Edit>
}

const edit = (where: string, find: string | RegExp, put: string): Edit => ({ where, find, put })
const bug = (name: string, ...edits: ReadonlyArray<Edit>): Bug => ({ name, edits })

const publishes = "return publish(judged.admitted)"
const unfenced = edit("src/route/RouteTable.ts", 'if (owner.generation !== claimant.generation) return "Foreign"', "")

/** All of them, in the order of the docs. */
export const bugs: ReadonlyArray<Bug> = [
  bug(
    "(a) clear before publish",
    edit("src/hub", publishes, "return Effect.andThen(routes.clear(judged.ending), publish(judged.admitted))")
  ),
  bug("(b) no tombstone", edit("src/route/RouteTable.ts", "this.tombstones.add(key, owner.id, now)", "")),
  bug("(c) no fencing", unfenced),
  bug(
    "(c) no fencing, nor does the hub let go of the older connection first, and no probe asks",
    unfenced,
    edit(
      "test/simulation/Watch.ts",
      /Effect\.andThen\(claim\(\{ session: target\.owner, generation: generation - 1 \}, target\.key\)\),/,
      ""
    ),
    edit(
      "src/hub/SessionTable.ts",
      /yield\* Deferred\.succeed\(present\.dismissed, "fenced"\)\n\s+yield\* Deferred\.await\(present\.ended\)/,
      "break"
    )
  ),
  bug(
    "(d) a ResponseStart without a body does not end",
    edit("src/tunnel/Frame.ts", "return !frame.streamed", "return false")
  ),
  bug(
    "(e) a route is found by its request id alone",
    edit(
      "src/route/RouteTable.ts",
      "return this.gateways.get(key.gatewayId)?.routes.get(key.requestId)",
      "return [...this.gateways.values()].map(({ routes }) => routes.get(key.requestId)).find((route) => route !== undefined)"
    )
  ),
  bug(
    "(f) a close issues a route",
    edit(
      "src/tunnel/Frame.ts",
      "export const opensRoute = (frame: RequestFrame): boolean => {",
      'export const opensRoute = (frame: RequestFrame): boolean => {\n  if (frame._tag === "WebSocketClose") return true'
    )
  ),
  bug("(g) no reopen after a failed publish", edit("src/hub", "return routes.reopen(ending)", "return Effect.void")),
  bug("(h) a route survives its session, in the hub", edit("src/hub", /yield\* routes\.revoke\([\w.]+\)/, "[]")),
  bug(
    "(h) a route survives its session, in the table",
    edit(
      "src/route/RouteTable.ts",
      "const closed = this.buryAll(owner.routes, now)",
      "const closed: Array<RouteKey> = []"
    )
  ),
  bug("what was refused is published all the same", edit("src/hub", publishes, "return publish(batch)")),
  bug(
    "a failed publish counts as a success",
    edit("src/hub", "if (Exit.isSuccess(exit)) return routes.clear(ending)", "return routes.clear(ending)")
  ),
  bug(
    "routes outlive their gateway",
    edit("src/route/RouteTable.ts", "if (now - gateway.renewedAt < this.options.leaseMs) continue", "continue")
  ),
  bug("a table forgets no session", edit("src/route/RouteTable.ts", "this.owners.delete(session)", "")),
  bug(
    "a table forgets no gateway",
    edit("src/route/RouteTable.ts", "if (gateway.routes.size === 0) this.gateways.delete(gateway.id)", "")
  ),
  bug(
    "gaps and repetitions are taken as they come",
    edit("src/tunnel/Sequence.ts", 'return ahead < modulus / 2 ? "gap" : "duplicate"', 'return "next"')
  ),
  bug(
    "an answer goes to whoever waits longest",
    edit(
      "src/gateway/InFlight.ts",
      "const link = this.find(envelope.route)",
      "const link = [...this.links.values()][0]"
    )
  ),
  bug(
    "gateways of two namespaces share a subject",
    edit("src/bus/Subject.ts", /wayleave\.\$\{token\(namespace\)\}\.gateway/, "wayleave.gateway")
  ),
  bug(
    "names of two namespaces share a subject",
    edit("src/bus/Subject.ts", /wayleave\.\$\{token\(namespace\)\}\.name/, "wayleave.name")
  ),
  bug(
    "an answer ends twice",
    edit(
      "src/gateway/HttpStream.ts",
      "this.exchange.response.end(this.hasBody ? last : nothing, trailers)",
      "for (let i = 0; i < 2; i++) this.exchange.response.end(this.hasBody ? last : nothing, trailers)"
    )
  ),
  bug(
    "nobody's patience ends",
    edit(
      "src/gateway/HttpStream.ts",
      ": Math.max(this.sentMs, this.link?.pinnedMs ?? 0) + this.parts.responseStartMs",
      ": Number.POSITIVE_INFINITY"
    )
  ),
  bug(
    "a visitor's leave is not passed on",
    edit("src/gateway/HttpStream.ts", /this\.done = true\n/, "this.done = true\n    if (!complete) return\n")
  ),
  bug("a gateway keeps what ended", edit("src/gateway/InFlight.ts", "this.links.delete(link.route.requestId)", "{}")),
  bug("a hub keeps what ended", edit("src/hub", "for (const route of ended) endStream(parts.streams, route)", "")),
  bug(
    "a few odd frames part a hub from its runner",
    edit("src/tunnel/Limits.ts", /abuseRefusalsMax: \{\s+value: 100,/, "abuseRefusalsMax: {\n    value: 4,")
  ),
  bug(
    "a message is missed between two steps",
    edit(
      "src/runner/WebSocketStream.ts",
      "if (this.fragments.length > 0 || this.core.end !== undefined) return resume(this.pull)",
      ""
    )
  ),
  bug(
    "a Hello that comes late is taken for the newer",
    edit("src/hub/SessionTable.ts", "connection <= than.dialled", "false"),
    edit("src/hub/SessionTable.ts", "dialled > 0 && dialled <= (sessions.get(id)?.generation ?? 0)", "false")
  ),
  bug(
    "a Rivet runner's init that comes late is taken for the newer",
    edit("src/hub/SessionTable.ts", "arrival < than.arrival", "false")
  ),
  bug(
    "what a bus repeats or loses on its way to a Rivet runner is taken as it comes",
    edit("src/hub/rivet/RivetPeer.ts", "stream.judge(frame, index)", '"next" as SequenceVerdict')
  ),
  bug(
    "a Rivet runner's socket goes on over what may be lost",
    edit(
      "src/hub/rivet/RivetPeer.ts",
      "return (stream.lasts || provesArrival) && ",
      "return provesArrival && stream.lasts && "
    )
  ),
  bug(
    "a Rivet socket sleeps before its gateway knows that it is open",
    edit("src/hub/rivet/RivetStream.ts", ' && frame?._tag !== "WebSocketOpen"', "")
  ),
  bug(
    "the streams of a Rivet actor outlive it",
    edit(
      "src/hub/rivet/RivetPeer.ts",
      "if (which(stream.actor)) this.endFor",
      'if (!which(stream.actor)) continue\n      if (stream.kind === "http") this.endFor'
    )
  ),
  bug(
    "a Rivet stream's end does not clear",
    edit("src/hub/rivet/RivetPump.ts", "else if (stream !== undefined) peer.forget(stream)", "")
  ),
  bug(
    "a Rivet socket that is over is kept as one that lasts",
    edit("src/hub/rivet/LastingSockets.ts", "if (socket?.stream === stream) this.remove(socket)", "")
  ),
  bug(
    "a Rivet runner's close is lost",
    edit(
      "src/hub/rivet/RivetStream.ts",
      "if (this.closed) return undefined",
      'if (this.closed || frame._tag === "WebSocketClose") return undefined'
    )
  ),
  bug(
    "the answer of a Rivet runner that is busy is lost",
    edit(
      "src/hub/rivet/RivetPeer.ts",
      "const fault = stream.offer(",
      'if (frame._tag === "ResponseStart" && this.streams.size > 3) return stream\n    const fault = stream.offer('
    )
  )
]

const filesOf = (root: string, where: string): ReadonlyArray<string> => {
  const path = join(root, where)
  if (statSync(path).isFile()) return [path]
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => join(path, file))
}

const countOf = (text: string, find: string | RegExp): number =>
  typeof find === "string" ? text.split(find).length - 1 : [...text.matchAll(new RegExp(find, "g"))].length

/** The files of a tree that a bug changes, with their new text. Throws where it no longer has the text to change, or has it twice. */
export const planted = (root: string, { edits, name }: Bug): ReadonlyMap<string, string> => {
  const texts = new Map<string, string>()
  for (const { find, put, where } of edits) {
    const textOf = (file: string) => texts.get(file) ?? readFileSync(file, "utf8")
    const found = filesOf(root, where).flatMap((file) => Array<string>(countOf(textOf(file), find)).fill(file))
    const file = found[0]
    if (file === undefined || found.length > 1) {
      throw new Error(`${name}: ${String(find)} occurs ${found.length} times in ${where}, and not once`)
    }
    texts.set(
      file,
      textOf(file).replace(find, () => put)
    )
  }
  return texts
}
