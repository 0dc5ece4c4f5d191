/**
 * A new frame variant does not compile until every place that has to decide about it has decided. Shown by adding one to a copy of the source
 * and reading what the compiler says: the list of files is the list of decisions, and changes only on purpose.
 */
import { spawnSync } from "node:child_process"
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"

const root = fileURLToPath(new URL("../../", import.meta.url))
const compiler = join(root, "node_modules/typescript/bin/tsc")

/** Files of a copy of `src`, changed by `edit`, that do not compile. */
const broken = (edit: (read: (file: string) => string, write: (file: string, text: string) => void) => void) => {
  const copy = mkdtempSync(join(tmpdir(), "wayleave-exhaustive-"))
  try {
    cpSync(join(root, "src"), join(copy, "src"), { recursive: true })
    cpSync(join(root, "package.json"), join(copy, "package.json"))
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"))
    const config = JSON.parse(readFileSync(join(root, "tsconfig.json"), "utf8"))
    writeFileSync(join(copy, "tsconfig.json"), JSON.stringify({ ...config, include: ["src"] }))
    edit(
      (file) => readFileSync(join(copy, "src", file), "utf8"),
      (file, text) => writeFileSync(join(copy, "src", file), text)
    )
    const { status, stdout } = spawnSync(process.execPath, [compiler, "-p", copy, "--pretty", "false"], {
      encoding: "utf8",
      cwd: copy
    })
    const files = [...stdout.matchAll(/^src\/(.+?)\(\d+,\d+\): error TS/gm)].map((match) => match[1] as string)
    assert.strictEqual(status === 0, files.length === 0, stdout)
    return [...new Set(files)].sort()
  } finally {
    rmSync(copy, { recursive: true, force: true })
  }
}

const replaced = (text: string, from: string, to: string): string => {
  assert.include(text, from)
  return text.replace(from, to)
}

/** Adds a member to one of the two unions of the model. */
const withVariant = (union: "RequestFrame" | "ResponseFrame", number: number) =>
  broken((read, write) => {
    const head = `export const ${union} = Schema.Union([`
    write(
      "tunnel/Frame.ts",
      replaced(
        read("tunnel/Frame.ts"),
        head,
        `export const Novelty = Wire.tagged(${number}, "Novelty", { text: Wire.str })\n${head}\n  Novelty,`
      )
    )
  })

describe("a new variant stops the build wherever a decision is due", () => {
  it("and today's source compiles", () => {
    assert.deepStrictEqual(
      broken(() => {}),
      []
    )
  }, 60_000)

  it("for what goes down to a runner", () => {
    assert.deepStrictEqual(withVariant("RequestFrame", 99), [
      "hub/Downlink.ts",
      "hub/rivet/RivetPeer.ts",
      "hub/rivet/RivetWire.ts",
      "protocol/rivet/TunnelFrame.ts",
      "runner/RequestStream.ts",
      "runner/RunnerSession.ts",
      "runner/StreamCore.ts",
      "runner/WebSocketStream.ts",
      "tunnel/Frame.ts",
      "tunnel/StreamState.ts"
    ])
  }, 60_000)

  it("for what comes back", () => {
    assert.deepStrictEqual(withVariant("ResponseFrame", 99), [
      "gateway/HttpStream.ts",
      "gateway/SocketStream.ts",
      "hub/rivet/Pieces.ts",
      "hub/rivet/Strays.ts",
      "protocol/rivet/TunnelFrame.ts",
      "runner/StreamCore.ts",
      "tunnel/Frame.ts",
      "tunnel/StreamState.ts"
    ])
  }, 60_000)

  it("for the messages of wayleave.1", () => {
    const files = broken((read, write) => {
      const source = replaced(
        read("protocol/Wayleave1.ts"),
        "  Hello,\n",
        '  Hello,\n  Wire.tagged(98, "Novelty", { received }),\n'
      )
      write(
        "protocol/Wayleave1.ts",
        replaced(source, "  Welcome,\n", '  Welcome,\n  Wire.tagged(98, "Novelty", { received }),\n')
      )
    })
    assert.deepStrictEqual(files, ["hub/Uplink.ts", "runner/HubConnection.ts"])
  }, 60_000)

  it("for the states of a route", () => {
    const files = broken((read, write) => {
      const states = 'export type RouteState = "Open" | "Closing" | "HalfClosed" | "Closed"'
      write("route/RouteTable.ts", replaced(read("route/RouteTable.ts"), states, `${states} | "Novelty"`))
    })
    assert.deepStrictEqual(files, ["route/RouteTable.ts"])
  }, 60_000)
})
