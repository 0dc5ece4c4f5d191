/**
 * The command tree. Next: `ServeCommand.ts` and `ExposeCommand.ts`, what the subcommands do; `runProcess.ts`, how the process ends.
 */
import { Command } from "effect/cli"
import { version } from "../server/Version.ts"
import { exposeCommand } from "./ExposeCommand.ts"
import { runProcess } from "./runProcess.ts"
import { serveCommand } from "./ServeCommand.ts"

/** `wayleave` with all its subcommands. */
export const wayleaveCommand = Command.make("wayleave").pipe(
  Command.withDescription("A tunnel whose every answer holds a route: apps behind NAT, reached from outside"),
  Command.withSubcommands([serveCommand, exposeCommand]),
  Command.withExamples([
    { command: "wayleave serve", description: "Take visitors and runners on this machine, port 6420" },
    { command: "wayleave expose 3000 --name web", description: "Serve 127.0.0.1:3000 as http://web.localhost:6420" }
  ])
)

/** Reads the process's arguments and does what they say. */
export const main = (): void => runProcess(Command.run(wayleaveCommand, { version }))
