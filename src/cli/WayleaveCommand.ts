/**
 * The command tree. Next: `ServeCommand.ts` and `ExposeCommand.ts`, what the subcommands do; `runProcess.ts`, how the process ends.
 */
import { readFileSync } from "node:fs"
import { Command } from "effect/cli"
import { exposeCommand } from "./ExposeCommand.ts"
import { runProcess } from "./runProcess.ts"
import { serveCommand } from "./ServeCommand.ts"

/** The package's own version. The file lies two folders up both in `src` and in `dist`. */
export const version: string = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version

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
