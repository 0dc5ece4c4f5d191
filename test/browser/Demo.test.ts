/**
 * `npm start`, and a real browser: what a newcomer does first, as a test. Chromium resolves every name under localhost by itself.
 */
import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { Page } from "playwright-core"
import { installTimeoutMs, openPage, requireChromium } from "./Chromium.ts"

const root = fileURLToPath(new URL("../..", import.meta.url))

/** Starts the demo as `npm start` does, on free ports, and reads from its own words where it is. */
const startDemo = (): Promise<{ readonly url: string; readonly process: ChildProcess }> =>
  new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["src/demo/main.ts"], {
      cwd: root,
      env: { ...process.env, WAYLEAVE_PORT: "0", WAYLEAVE_ADMIN_PORT: "0" },
      stdio: ["ignore", "pipe", "pipe"]
    })
    let said = ""
    const read = (data: Buffer) => {
      said += data.toString()
      const found = /http:\/\/demo\.localhost:[0-9]+/.exec(said)
      if (found !== null) resolve({ url: found[0], process: child })
    }
    child.stdout.on("data", read)
    child.stderr.on("data", read)
    child.once("exit", (code) => reject(new Error(`the demo ended with ${code} and said:\n${said}`)))
  })

let demo: Awaited<ReturnType<typeof startDemo>>

beforeAll(async () => {
  requireChromium()
  demo = await startDemo()
}, installTimeoutMs + 60_000)

afterAll(() => {
  demo?.process.kill("SIGKILL")
})

const withPage = (use: (page: Page) => Promise<void>) =>
  Effect.gen(function* () {
    const { complaints, page } = yield* openPage({ colorScheme: "light", width: 1080, height: 800 })
    page.setDefaultTimeout(30_000)
    yield* Effect.promise(async () => {
      await page.goto(demo.url)
      await use(page)
    })
    assert.deepStrictEqual(complaints, [])
  }).pipe(Effect.scoped)

const stateOf = (page: Page, panel: string, state: string) =>
  page.waitForSelector(`#${panel}-state[data-state="${state}"]`)
const textOf = (page: Page, id: string) =>
  page
    .locator(`#${id}`)
    .textContent()
    .then((text) => text ?? "")
const data = (page: Page, id: string, name: string) => page.locator(`#${id}`).getAttribute(`data-${name}`)

describe("the demo in a browser, through the tunnel", () => {
  it.live(
    "shows an event stream whose events come one by one",
    () =>
      withPage(async (page) => {
        await stateOf(page, "sse", "ok")
        await page.waitForSelector('#sse-output[data-count="3"]')
        assert.match(await textOf(page, "sse-output"), /^event 2, [0-9]+ ms after it was sent$/)
      }),
    60_000
  )

  it.live(
    "uploads with progress, and the app saw the same bytes",
    () =>
      withPage(async (page) => {
        await page.click("#upload-button")
        await stateOf(page, "upload", "ok")
        assert.isAbove(Number(await data(page, "upload-output", "progress")), 1)
        assert.match(await textOf(page, "upload-output"), /SHA-256 [0-9a-f]{16}… on both sides/)
      }),
    60_000
  )

  it.live(
    "downloads, every byte the right one",
    () =>
      withPage(async (page) => {
        await page.click("#download-button")
        await stateOf(page, "download", "ok")
        assert.match(await textOf(page, "download-output"), /^32\.0 MiB in .*\nevery byte as it was sent$/)
      }),
    60_000
  )

  it.live(
    "talks over a WebSocket, text and binary",
    () =>
      withPage(async (page) => {
        await stateOf(page, "ws", "ok")
        await page.fill("#ws-input", "grüße durch den Tunnel 🚇")
        await page.click("#ws-button")
        await page.waitForSelector('#ws-output[data-last="grüße durch den Tunnel 🚇"]')
        await page.click("#ws-binary")
        await page.waitForSelector('#ws-output[data-last="binary:4096"]')
      }),
    60_000
  )

  it.live(
    "runs all four at once on one page",
    () =>
      withPage(async (page) => {
        await stateOf(page, "ws", "ok")
        await page.click("#upload-button")
        await page.click("#download-button")
        await page.click("#ws-button")
        for (const panel of ["upload", "download", "sse", "ws"]) await stateOf(page, panel, "ok")
        await page.waitForSelector("#ws-output[data-last]")
      }),
    60_000
  )
})
