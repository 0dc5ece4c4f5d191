/** Reads what `node --cpu-prof` writes, and adds up where the time went: by function and by file or package. */

interface CallFrame {
  readonly functionName: string
  readonly url: string
  readonly lineNumber: number
}

/** The part of a `.cpuprofile` that is read here. Times are microseconds of the machine's steady clock. */
export interface CpuProfile {
  readonly nodes: ReadonlyArray<{
    readonly id: number
    readonly callFrame: CallFrame
    readonly children?: ReadonlyArray<number>
  }>
  readonly startTime: number
  readonly samples: ReadonlyArray<number>
  readonly timeDeltas: ReadonlyArray<number>
}

/** Time of its own, not of what it called. */
export interface Share {
  readonly name: string
  readonly micros: number
}

/** Where the time between two moments went. */
export interface Profile {
  readonly idleMicros: number
  /** Everything but idle: the whole of what the shares are shares of. */
  readonly busyMicros: number
  readonly functions: ReadonlyArray<Share>
  readonly groups: ReadonlyArray<Share>
  /** What was spent in places that match, with all that they called. */
  readonly withinMicros: number
}

/** What is counted. */
export interface AggregateOptions {
  readonly fromMicros?: number
  readonly toMicros?: number
  /** Functions by name and place, as `functions` has them. */
  readonly within?: RegExp
}

const packageIn = /^.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\/(.*)$/
const ownIn = /^.*\/((?:src|test)\/.*)$/

/** Our source by file, packages by name, Node by itself; what V8 does on its own by its own name. */
export const groupOf = ({ functionName, url }: CallFrame): string => {
  if (url === "") return functionName.startsWith("(") ? functionName : "native"
  if (url.startsWith("node:")) return "node"
  return packageIn.exec(url)?.[1] ?? ownIn.exec(url)?.[1] ?? url
}

const placeOf = (frame: CallFrame): string => {
  const name = frame.functionName === "" ? "(anonymous)" : frame.functionName
  if (frame.url === "") return name
  const [, pkg, path] = packageIn.exec(frame.url) ?? []
  const file = pkg === undefined ? (ownIn.exec(frame.url)?.[1] ?? frame.url) : `${pkg}/${path}`
  return `${name} ${file}:${frame.lineNumber + 1}`
}

const ranked = (sums: ReadonlyMap<string, number>): ReadonlyArray<Share> =>
  [...sums].map(([name, micros]) => ({ name, micros })).toSorted((a, b) => b.micros - a.micros)

/** The ids of all nodes that match, and of what they called. */
const idsWithin = ({ nodes }: CpuProfile, pattern: RegExp): ReadonlySet<number> => {
  const children = new Map(nodes.map(({ children, id }) => [id, children ?? []]))
  const within = new Set<number>()
  const enter = (id: number): void => {
    if (within.has(id)) return
    within.add(id)
    for (const child of children.get(id) ?? []) enter(child)
  }
  for (const { callFrame, id } of nodes) if (pattern.test(placeOf(callFrame))) enter(id)
  return within
}

/** Adds up the samples between two moments of the same clock. */
export const aggregate = (
  profile: CpuProfile,
  { fromMicros = -Infinity, toMicros = Infinity, within = /(?!)/ }: AggregateOptions = {}
): Profile => {
  const idsOfWithin = idsWithin(profile, within)
  const frames = new Map(profile.nodes.map(({ callFrame, id }) => [id, callFrame]))
  const functions = new Map<string, number>()
  const groups = new Map<string, number>()
  const add = (sums: Map<string, number>, name: string, micros: number) =>
    sums.set(name, (sums.get(name) ?? 0) + micros)
  let idleMicros = 0
  let busyMicros = 0
  let withinMicros = 0
  let now = profile.startTime
  for (const [i, id] of profile.samples.entries()) {
    now += profile.timeDeltas[i] ?? 0
    const frame = frames.get(id)
    if (frame === undefined || now < fromMicros || now > toMicros) continue
    // A sample stands for the time until the next.
    const micros = profile.timeDeltas[i + 1] ?? 0
    if (frame.functionName === "(idle)") {
      idleMicros += micros
      continue
    }
    busyMicros += micros
    if (idsOfWithin.has(id)) withinMicros += micros
    add(functions, placeOf(frame), micros)
    add(groups, groupOf(frame), micros)
  }
  return { idleMicros, busyMicros, withinMicros, functions: ranked(functions), groups: ranked(groups) }
}
