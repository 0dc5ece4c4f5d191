/** How a failure becomes what a person reads: one sentence on standard error, and exit code 1. */
import { CliError } from "effect/cli"
import { ListenError } from "../server/NodeServer.ts"
import { authority } from "../server/ServerConfig.ts"

/** What is wrong with an address, said so that it can be mended. */
const listenProblem = ({ code, host, port }: ListenError): string => {
  const where = authority(host, port)
  switch (code) {
    case "EADDRINUSE":
      return `${where} is in use by another process`
    case "EACCES":
      return `not allowed to listen on ${where}; ports below 1024 need a privilege`
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return `${host} is no address of this machine`
    default:
      return `cannot listen on ${where}: ${code}`
  }
}

/** An error as `wayleave` shows it. */
export const asUserError = (error: { readonly message: string }): CliError.UserError =>
  new CliError.UserError({
    cause: error,
    userMessage: error instanceof ListenError ? listenProblem(error) : error.message
  })
