/**
 * `wayleave expose`: a runner that forwards to a local port, and whatever tells its person how it goes: a live view on a terminal, lines elsewhere.
 */
import { Config, Effect, FileSystem, Layer, Logger, Option, Redacted, Stdio, Stream, SubscriptionRef } from "effect"
import { Argument, Command, Flag, GlobalFlag } from "effect/cli"
import * as LocalForward from "../runner/LocalForward.ts"
import type { Target } from "../runner/LocalTarget.ts"
import * as Runner from "../runner/Runner.ts"
import { type Observer, RunnerObserver } from "../runner/RunnerObserver.ts"
import * as WsSocket from "../socket/WsSocket.ts"
import { standardOutput } from "../telemetry/Lines.ts"
import { formatPlain } from "../telemetry/PlainLog.ts"
import { asUserError } from "./asUserError.ts"
import { type ExposeEvent, json as jsonLines, plain } from "./ExposeLines.ts"
import * as ExposeState from "./ExposeState.ts"
import { render } from "./LiveView.ts"
import * as Screen from "./Screen.ts"
import { InvalidArgument, parseHubs, parseName, parseTarget } from "./Target.ts"

const flags = {
  target: Argument.String("TARGET").pipe(
    Argument.withDescription("the local app: a port, host:port or an http URL without a path")
  ),
  name: Flag.String("name").pipe(
    Flag.withDescription("what visitors reach it by (WAYLEAVE_NAME)"),
    Flag.withFallbackConfig(Config.String("WAYLEAVE_NAME"))
  ),
  hub: Flag.String("hub").pipe(
    Flag.withDescription(
      "the hub to dial, or several, separated by commas (WAYLEAVE_HUB, default ws://127.0.0.1:6420)"
    ),
    Flag.withFallbackConfig(Config.String("WAYLEAVE_HUB")),
    Flag.withDefault("ws://127.0.0.1:6420")
  ),
  tokenFile: Flag.String("token-file").pipe(
    Flag.withDescription("a file whose first line begins with the token to show (WAYLEAVE_TOKEN_FILE)"),
    Flag.withFallbackConfig(Config.String("WAYLEAVE_TOKEN_FILE")),
    Flag.optional
  ),
  json: Flag.Boolean("json").pipe(
    Flag.withDescription("tell what happens as JSON, one object a line (WAYLEAVE_JSON)"),
    Flag.withFallbackConfig(Config.Boolean("WAYLEAVE_JSON")),
    Flag.withDefault(false)
  )
}

/** The first word of the first line that is neither blank nor a comment: a token file of `serve` will do as it is. */
const readToken = Effect.fnUntraced(function* (file: string) {
  const files = yield* FileSystem.FileSystem
  const text = yield* files
    .readFileString(file)
    .pipe(Effect.mapError(() => new InvalidArgument({ what: "--token-file", problem: `${file} cannot be read` })))
  const token = text
    .split(/\r?\n/)
    .map((line) => line.trim().split(/\s+/)[0] ?? "")
    .find((word) => word !== "" && !word.startsWith("#"))
  if (token === undefined) {
    return yield* new InvalidArgument({ what: "--token-file", problem: `${file} holds no token` })
  }
  return Redacted.make(token)
})

const defaultPorts: Readonly<Record<string, number>> = { "http:": 80, "https:": 443 }

/** A URL as the forward wants it: IPv6 without brackets, the port spelled out. */
const localTarget = (url: URL): Target => ({
  protocol: url.protocol === "https:" ? "https:" : "http:",
  host: url.hostname.replace(/^\[|\]$/g, ""),
  port: url.port === "" ? (defaultPorts[url.protocol] ?? 80) : Number(url.port)
})

const linkOf = (status: Runner.RunnerStatus): ExposeState.LinkState =>
  status._tag === "Refused" ? { _tag: "Refused", cause: status.message } : status

const advice = {
  unauthorized: "the hub wants a token it knows: give --token-file",
  forbidden: "the token does not cover this name",
  bad_name: "the hub cannot reach a runner by this name",
  unsupported_version: "hub and runner have no protocol version in common: bring both to the same version",
  bad_hub_url: "that is not the URL of a hub",
  fenced: "another runner took over this session"
} as const satisfies Record<Runner.RunnerRefused["reason"], string>

const refusal = (error: Runner.RunnerRefused) =>
  asUserError({ message: `refused: ${advice[error.reason]} (${error.message})` })

/** Turns what the runner's observer sees into events; a request is told when it has ended. */
const observe = (
  change: (f: (state: ExposeState.ExposeState) => ExposeState.ExposeState) => void,
  tell: (event: ExposeEvent) => void
): Observer => ({
  started: ({ id, method, startedAtMs, target }) =>
    change((state) => ExposeState.requestStarted(state, { id, method, target, startedAtMs })),
  ended: ({ id, method, startedAtMs, target }, { abort, durationMs, status }) => {
    const failed = abort !== undefined && abort.code !== "cancelled"
    const cause = failed ? abort.message : undefined
    change((state) => ExposeState.requestEnded(state, { id, status, durationMs, failed, cause }))
    tell({ _tag: "Request", request: { id, method, target, startedAtMs, status, durationMs, failed, cause } })
  }
})

const expose = Effect.fnUntraced(function* (options: {
  readonly target: string
  readonly name: string
  readonly hub: string
  readonly tokenFile: Option.Option<string>
  readonly json: boolean
}) {
  const target = yield* parseTarget(options.target)
  const name = yield* parseName(options.name)
  const hubs = yield* parseHubs(options.hub)
  const token = Option.isSome(options.tokenFile) ? yield* readToken(options.tokenFile.value) : undefined
  const logLevel = yield* GlobalFlag.LogLevel
  const onTerminal = yield* (yield* Stdio.Stdio).stdoutIsTerminal
  // Whoever asks for logs gets lines: a log written over a live view would tear it.
  const live = onTerminal && !options.json && Option.isNone(logLevel)

  const teller = options.json ? jsonLines(target.origin) : plain(target.origin)
  const tell = (event: ExposeEvent) => {
    const line = live ? undefined : teller.line(event)
    if (line !== undefined) standardOutput.add(line)
  }
  let state = ExposeState.initial(name, target.origin, live ? ExposeState.requestsShownMax : 0)
  const observer = observe((f) => {
    state = f(state)
  }, tell)
  const onStatus = (status: Runner.RunnerStatus) => {
    const link = linkOf(status)
    state = ExposeState.linkChanged(state, link)
    // A refusal ends the command, most often before anybody listens here: it is told there.
    if (link._tag !== "Refused") tell({ _tag: "Link", link })
  }
  const runner = Runner.layer({ hubUrl: hubs.map(({ href }) => href).join(","), name, token }).pipe(
    Layer.provide(LocalForward.layer(localTarget(target))),
    Layer.provide(WsSocket.layerDialer),
    Layer.provide(Layer.succeed(RunnerObserver, observer)),
    // The status says it all; what else there is to say is for whoever asks for logs, and goes to standard error.
    Layer.provide(Logger.layer(Option.isSome(logLevel) ? [Logger.withConsoleError(formatPlain)] : []))
  )
  if (live) yield* Screen.show((glass) => render(state, glass))
  return yield* Effect.gen(function* () {
    const { refused, status } = yield* Runner.Runner
    yield* Effect.forkScoped(
      Stream.runForEach(SubscriptionRef.changes(status), (next) => Effect.sync(() => onStatus(next)))
    )
    return yield* Effect.onInterrupt(refused, () =>
      Effect.sync(() => {
        state = ExposeState.left(state)
        if (state.open > 0) tell({ _tag: "Leaving", open: state.open })
      })
    )
  }).pipe(
    Effect.provide(runner),
    Effect.tapError(({ message }) =>
      Effect.sync(() => {
        // People read it on standard error.
        if (options.json) tell({ _tag: "Link", link: { _tag: "Refused", cause: message } })
      })
    )
  )
}, Effect.scoped)

/** The subcommand. */
export const exposeCommand = Command.make("expose", flags, (options) =>
  expose(options).pipe(
    Effect.catchTags({
      RunnerRefused: (error) => Effect.fail(refusal(error)),
      InvalidArgument: (error) => Effect.fail(asUserError(error))
    })
  )
).pipe(
  Command.withDescription("Serve a local app under a name, and stay connected"),
  Command.withExamples([
    { command: "wayleave expose 3000 --name web", description: "127.0.0.1:3000 as http://web.localhost:6420" },
    {
      command: "wayleave expose app.internal:80 --name app --hub wss://tunnel.example.org --token-file token.txt",
      description: "Another machine's app, through a hub elsewhere"
    },
    {
      command: "wayleave expose 3000 --name web --hub wss://a.example.org,wss://b.example.org",
      description: "Whichever of two hubs answers"
    }
  ])
)
