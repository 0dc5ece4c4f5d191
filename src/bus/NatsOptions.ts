/**
 * What a bus over NATS is told: which servers, how to be let in, whom to believe. Pure; `NatsConnection.ts` acts on it.
 */
import { Redacted, Result, Schema } from "effect"

/** How a server lets us in. Files are read anew at each connection, so that renewed credentials are used. */
export type NatsAuth =
  | { readonly _tag: "Password"; readonly user: string; readonly password: Redacted.Redacted<string> }
  | { readonly _tag: "Token"; readonly token: Redacted.Redacted<string> }
  | { readonly _tag: "CredsFile"; readonly file: string }
  | { readonly _tag: "NkeyFile"; readonly file: string }

/** Where the servers are and how to reach them. */
export interface NatsOptions {
  /** `host` or `host:port` each, as one cluster. */
  readonly servers: ReadonlyArray<string>
  readonly auth?: NatsAuth | undefined
  /** TLS is required, whatever the server says. */
  readonly tls?: boolean
  /** Certificates, in PEM, that a server's is signed by; without it those that Node believes. */
  readonly caFile?: string | undefined
  /** How long the start may try; then it fails. */
  readonly startMs?: number
}

/**
 * The bus cannot begin. `Unreachable`: no server answered in time. `Unauthorized`: one did, and did not let us in. `Unfit`: it cannot carry what
 * we send. `Misconfigured`: a file is missing, a key or certificate is not what it should be.
 */
export class NatsStartError extends Schema.TaggedError<NatsStartError>()("NatsStartError", {
  servers: Schema.Array(Schema.String),
  reason: Schema.Literals(["Unreachable", "Unauthorized", "Unfit", "Misconfigured"]),
  problem: Schema.String
}) {
  override get message() {
    return `NATS at ${this.servers.join(", ")}: ${this.problem}`
  }
}

/** Servers as a person lists them. */
export interface ServerList {
  readonly servers: ReadonlyArray<string>
  readonly tls: boolean
  readonly login: { readonly user: string; readonly password: Redacted.Redacted<string> } | undefined
}

const schemes = ["nats:", "tls:"]

const parseServer = (text: string): URL | undefined => {
  const url = URL.parse(text.includes("://") ? text : `nats://${text}`)
  const plain = url !== null && (url.pathname === "" || url.pathname === "/") && url.search === "" && url.hash === ""
  return plain && schemes.includes(url.protocol) && url.hostname !== "" ? url : undefined
}

/**
 * Reads `nats://a:4222,tls://b:4222`: one `tls` makes all of them TLS. A user and password may stand in one of them, and hold for all. The failure
 * says what is wrong, and repeats no password.
 */
export const parseServers = (text: string): Result.Result<ServerList, string> => {
  const servers: Array<string> = []
  const logins = new Map<string, { readonly user: string; readonly password: string }>()
  let tls = false
  for (const part of text.split(",").map((one) => one.trim())) {
    const url = parseServer(part)
    if (url === undefined) return Result.fail("a server is nats://HOST:PORT or tls://HOST:PORT")
    tls ||= url.protocol === "tls:"
    servers.push(url.port === "" ? url.hostname : url.host)
    if (url.username === "") continue
    try {
      const login = { user: decodeURIComponent(url.username), password: decodeURIComponent(url.password) }
      logins.set(JSON.stringify(login), login)
    } catch {
      return Result.fail("a user or password is not well percent-encoded")
    }
  }
  if (logins.size > 1) return Result.fail("the servers name different users or passwords; one holds for all")
  const [login] = logins.values()
  return Result.succeed({
    servers,
    tls,
    login: login && { user: login.user, password: Redacted.make(login.password) }
  })
}
