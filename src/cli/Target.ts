/**
 * Reads what a person typed after `expose`: where the local app is, which name it gets, which hub to dial.
 */
import { Effect, Schema } from "effect"

/** An argument that does not say what it should. `what` is the argument or flag, `problem` what is wrong and what would be right. */
export class InvalidArgument extends Schema.TaggedError<InvalidArgument>()("InvalidArgument", {
  what: Schema.String,
  problem: Schema.String
}) {
  override get message() {
    return `${this.what}: ${this.problem}`
  }
}

const refuse = (what: string, problem: string) => Effect.fail(new InvalidArgument({ what, problem }))

const portMax = 65_535

/** A port, `host:port` or URL as the origin of the local app. A bare port is on 127.0.0.1, as most development servers are. */
export const parseTarget = (text: string): Effect.Effect<URL, InvalidArgument> => {
  const expected = `expected a port, host:port or an http URL, got ${JSON.stringify(text)}`
  if (/^[0-9]+$/.test(text)) {
    const port = Number(text)
    return port >= 1 && port <= portMax
      ? Effect.succeed(new URL(`http://127.0.0.1:${port}`))
      : refuse("TARGET", `a port is a number from 1 to ${portMax}, got ${text}`)
  }
  const url = URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`)
  if (url === null || url.hostname === "") return refuse("TARGET", expected)
  if (url.protocol !== "http:" && url.protocol !== "https:") return refuse("TARGET", expected)
  // A bare word would quietly mean port 80 of some host; nobody means that by `expose web`.
  if (!text.includes("://") && !/:[0-9]+$/.test(text)) return refuse("TARGET", expected)
  if (url.username !== "" || url.password !== "") return refuse("TARGET", "a user or password does not belong here")
  if (url.pathname !== "/" || url.search !== "" || url.hash !== "") {
    return refuse("TARGET", `an origin without a path is needed: requests keep the path the visitor asked for`)
  }
  return Effect.succeed(url)
}

/** A name is the first label of the public host: letters, digits and hyphens, at most 63, as DNS has it (RFC 1035, 2.3.1). */
export const parseName = (text: string): Effect.Effect<string, InvalidArgument> => {
  const name = text.toLowerCase()
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name)
    ? Effect.succeed(name)
    : refuse(
        "--name",
        `a name is 1 to 63 letters, digits and hyphens, with no hyphen at either end, got ${JSON.stringify(text)}`
      )
}

const schemes: Readonly<Record<string, string>> = { "ws:": "ws:", "wss:": "wss:", "http:": "ws:", "https:": "wss:" }

/** The hub's WebSocket URL. A URL without a path gets the one every Wayleave hub listens on; http and https are taken for ws and wss. */
const parseHub = (text: string): Effect.Effect<URL, InvalidArgument> => {
  const url = URL.parse(text)
  const scheme = url === null ? undefined : schemes[url.protocol]
  if (url === null || scheme === undefined || url.hostname === "") {
    return refuse("--hub", `expected a URL such as ws://127.0.0.1:6420, got ${JSON.stringify(text)}`)
  }
  if (url.username !== "" || url.password !== "") {
    return refuse("--hub", "a token does not belong in the URL: give --token-file")
  }
  url.protocol = scheme
  url.hash = ""
  if (url.pathname === "/") url.pathname = "/runners/connect"
  return Effect.succeed(url)
}

/** Several hubs, separated by commas: a runner tries them in turn. */
export const parseHubs = (text: string): Effect.Effect<ReadonlyArray<URL>, InvalidArgument> =>
  Effect.forEach(text.split(","), (part) => parseHub(part.trim()))
