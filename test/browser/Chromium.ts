/**
 * The browser for tests: Debian's chromium, installed where it is missing, driven by playwright-core. Never skipped: without a browser
 * these tests fail and say what to do.
 */
import { execFileSync } from "node:child_process"
import { accessSync, constants } from "node:fs"
import { Effect } from "effect"
import { type Browser, chromium, type Page } from "playwright-core"

const executable = "/usr/bin/chromium"

/** Everything a browser would do on its own behalf is off: nothing but our page may use the network. */
const args = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync"
]

const present = (): boolean => {
  try {
    accessSync(executable, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** How long an installation may take: about 100 MB of packages. */
export const installTimeoutMs = 600_000

/** Installs chromium by apt-get where it is missing. */
export const requireChromium = (): void => {
  if (present()) return
  try {
    const options = {
      stdio: "pipe",
      timeout: installTimeoutMs,
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }
    } as const
    execFileSync("apt-get", ["update"], options)
    execFileSync("apt-get", ["install", "-y", "--no-install-recommends", "chromium", "fonts-dejavu-core"], options)
  } catch (cause) {
    throw new Error(`${executable} is missing and apt-get could not install it. Install chromium and run again.`, {
      cause
    })
  }
  if (!present()) throw new Error(`apt-get installed chromium, but ${executable} is not there`)
}

/** A page of a fresh browser, closed with the scope. What the page throws or logs as an error is gathered in `complaints`. */
export const openPage = Effect.fnUntraced(function* (options: {
  readonly colorScheme: "light" | "dark"
  readonly width: number
  readonly height: number
}) {
  const browser: Browser = yield* Effect.acquireRelease(
    Effect.promise(() => chromium.launch({ executablePath: executable, args, headless: true })),
    (browser) => Effect.promise(() => browser.close())
  )
  const page: Page = yield* Effect.promise(() =>
    browser.newPage({
      colorScheme: options.colorScheme,
      viewport: { width: options.width, height: options.height },
      deviceScaleFactor: 1.5
    })
  )
  const complaints: Array<string> = []
  page.on("pageerror", (error) => complaints.push(error.message))
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()))
  return { page, complaints }
})
