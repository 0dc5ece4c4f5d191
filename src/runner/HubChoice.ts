/** Which hub a runner dials: one of several URLs, in turn from a random start, and the same again for as long as it answers. */

const schemes: Readonly<Record<string, "ws:" | "wss:">> = {
  "ws:": "ws:",
  "http:": "ws:",
  "wss:": "wss:",
  "https:": "wss:"
}

/** The URL to dial for a hub, undefined where `hubUrl` is none. */
const connectUrl = (hubUrl: string): URL | undefined => {
  if (!URL.canParse(hubUrl)) return undefined
  const url = new URL(hubUrl)
  const scheme = schemes[url.protocol]
  if (scheme === undefined) return undefined
  // The setter refuses to go from http to ws in some runtimes; a new URL does not.
  const dialled = new URL(`${scheme}//${url.host}${url.pathname.replace(/\/$/, "")}`)
  if (!dialled.pathname.endsWith("/runners/connect")) {
    dialled.pathname = `${dialled.pathname.replace(/\/$/, "")}/runners/connect`
  }
  return dialled
}

/** The URLs to dial for hubs separated by commas; the first part that is the URL of none instead, where there is one. */
export const connectUrls = (hubUrls: string): { readonly urls: ReadonlyArray<URL> } | { readonly wrong: string } => {
  const urls: Array<URL> = []
  for (const part of hubUrls.split(",")) {
    const url = connectUrl(part.trim())
    if (url === undefined) return { wrong: part.trim() }
    urls.push(url)
  }
  return { urls }
}

/** Where visitors find the app: the hub's domain, at the port the hub was dialled at. */
export const publicUrl = (dialled: URL, name: string, domain: string): string => {
  const port = dialled.port === "" ? "" : `:${dialled.port}`
  return `${dialled.protocol === "wss:" ? "https" : "http"}://${name}.${domain}${port}`
}

/** The hubs of one runner, and the one whose turn it is. */
export class HubChoice {
  private readonly urls: ReadonlyArray<URL>
  private turn: number

  constructor(urls: ReadonlyArray<URL>, start: number) {
    this.urls = urls
    this.turn = start % urls.length
  }

  /** How many there are. */
  get size(): number {
    return this.urls.length
  }

  /** The one to dial. */
  get current(): URL {
    return this.urls[this.turn] as URL
  }

  /** This one would not have us, or is going away: the next one's turn, unless that has come already. */
  passOver(url: URL): void {
    if (this.current === url) this.turn = (this.turn + 1) % this.urls.length
  }
}
