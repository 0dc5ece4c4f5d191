/** Programs that tests and benchmarks need and npm cannot bring: the one on PATH, else Debian's package, which is installed. */
import { execFileSync, spawnSync } from "node:child_process"

/** A program, and the package it is in. */
export interface Program {
  readonly package: string
  /** How it may be called: by name, or where Debian puts it, which is not on everybody's PATH. */
  readonly candidates: ReadonlyArray<string>
  /** What it answers to at once. */
  readonly args: ReadonlyArray<string>
}

const runs =
  ({ args }: Program) =>
  (command: string) =>
    spawnSync(command, args, { stdio: "ignore" }).error === undefined

/** The command, where it is installed. */
export const findProgram = (program: Program): string | undefined => program.candidates.find(runs(program))

/** The command, installed by apt-get where there is none. */
export const requireProgram = (program: Program): string => {
  const present = findProgram(program)
  if (present !== undefined) return present
  const name = program.package
  try {
    const options = {
      stdio: "pipe",
      timeout: 300_000,
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
    } as const
    execFileSync("apt-get", ["update"], options)
    execFileSync("apt-get", ["install", "-y", "--no-install-recommends", name], options)
  } catch (cause) {
    throw new Error(`${name} is missing and apt-get could not install it. Put one on PATH and run again.`, { cause })
  }
  const installed = findProgram(program)
  if (installed === undefined) throw new Error(`apt-get installed ${name}, but there is none on PATH`)
  return installed
}
