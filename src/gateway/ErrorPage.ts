/**
 * How an error looks to a visitor: JSON for programs, a small page for browsers, the same facts in both. What the codes mean is `GatewayError.ts`.
 */
import type { HeaderList } from "../tunnel/Frame.ts"
import { entryOf, type GatewayErrorCode } from "./GatewayError.ts"

/** What the page may mention besides the code. */
export interface ErrorFacts {
  readonly requestId: string
  /** The name asked for, empty where there was none. */
  readonly name: string
  readonly domain: string
  /** The visitor's Accept header, empty where there was none. */
  readonly accept: string
}

/** An error answer, ready to be written. */
export interface ErrorAnswer {
  readonly status: number
  readonly headers: HeaderList
  readonly body: Uint8Array
}

const quality = (accept: string, type: string): number => {
  for (const range of accept.split(",")) {
    const [name, ...parameters] = range.split(";").map((part) => part.trim().toLowerCase())
    if (name !== type) continue
    for (const parameter of parameters) {
      if (parameter.startsWith("q=")) return Number(parameter.slice(2)) || 0
    }
    return 1
  }
  return 0
}

/** Only who names HTML, as browsers do, gets a page; `curl`, `fetch` and the rest get JSON. */
export const prefersHtml = (accept: string): boolean => {
  const html = quality(accept, "text/html")
  return html > 0 && html >= quality(accept, "application/json")
}

const escapes: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;"
}
const escapeHtml = (text: string) => text.replace(/[&<>"']/g, (char) => escapes[char] as string)

const style = `:root{color-scheme:light dark;--ink:#1d2521;--soft:#5c6a62;--paper:#f6f4ec;--card:#fffdf6;--line:#dcd8c8;--path:#3f7d58}
@media(prefers-color-scheme:dark){:root{--ink:#e8e6da;--soft:#9aa79f;--paper:#161b18;--card:#1e2521;--line:#323b35;--path:#7cc498}}
body{margin:0;min-height:100vh;display:grid;place-items:center;background:var(--paper);color:var(--ink);font:16px/1.6 system-ui,sans-serif}
main{max-width:34rem;margin:1.5rem;padding:2rem 2.25rem;background:var(--card);border:1px solid var(--line);border-top:4px solid var(--path);border-radius:10px}
h1{margin:0 0 .5rem;font-size:1.45rem;line-height:1.25}p{margin:.6rem 0}pre{overflow-x:auto;padding:.8rem 1rem;background:var(--paper);border:1px solid var(--line);border-radius:6px}
code{font:14px ui-monospace,monospace}footer{margin-top:1.4rem;color:var(--soft);font-size:.85rem}`

const advice = (code: GatewayErrorCode, facts: ErrorFacts): string => {
  if (code === "unknown_host") {
    return `<p><b>Wayleave</b> is a tunnel: it gives an app on your machine an address of its own here. To expose what runs on port 3000, run</p>
<pre><code>npx wayleave expose 3000 --name web</code></pre><p>and open <code>web.${escapeHtml(facts.domain)}</code> on this port.</p>`
  }
  if (code === "no_runner") {
    return `<p>If this is your app, start its runner:</p><pre><code>npx wayleave expose 3000 --name ${escapeHtml(facts.name)}</code></pre>`
  }
  return ""
}

const page = (code: GatewayErrorCode, facts: ErrorFacts): string => {
  const entry = entryOf(code)
  const named = facts.name === "" ? "" : ` · ${escapeHtml(facts.name)}`
  return `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${entry.title}</title>
<style>${style}</style><main><h1>${entry.title}</h1><p>${entry.message}</p>${advice(code, facts)}
<footer><code>${code}</code>${named} · request <code>${escapeHtml(facts.requestId)}</code></footer></main></html>\n`
}

const encoder = new TextEncoder()

/** The whole answer for a code. */
export const errorAnswer = (code: GatewayErrorCode, facts: ErrorFacts): ErrorAnswer => {
  const entry = entryOf(code)
  const html = prefersHtml(facts.accept)
  const text = html
    ? page(code, facts)
    : `${JSON.stringify({ code, message: entry.message, requestId: facts.requestId })}\n`
  const body = encoder.encode(text)
  const headers: Array<readonly [string, string]> = [
    ["content-type", html ? "text/html; charset=utf-8" : "application/json"],
    ["content-length", String(body.length)],
    ["cache-control", "no-store"],
    ["x-content-type-options", "nosniff"],
    // Tells an error of the tunnel from one of the app, which may have the same status.
    ["x-wayleave-error", code]
  ]
  if (entry.retryAfterSeconds !== undefined) headers.push(["retry-after", String(entry.retryAfterSeconds)])
  if (entry.status === 426) headers.push(["upgrade", "websocket"], ["connection", "upgrade"])
  return { status: entry.status, headers, body }
}
