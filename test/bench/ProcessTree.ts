/** What the kernel counts for a process and all that it has started, as far as they still run: processor time and resident memory. */
import { readdirSync, readFileSync } from "node:fs"

const read = (path: string): string => {
  try {
    return readFileSync(path, "utf8")
  } catch {
    // It has ended meanwhile.
    return ""
  }
}

const fieldsOf = (stat: string) => stat.slice(stat.lastIndexOf(")") + 2).split(" ")

/** The processes themselves, their children, and theirs. */
export const withDescendants = (pids: ReadonlyArray<number>): ReadonlyArray<number> => {
  const parents = new Map<number, number>()
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue
    const parent = Number(fieldsOf(read(`/proc/${name}/stat`))[1])
    parents.set(Number(name), parent)
  }
  const known = new Set(pids)
  let grown = true
  while (grown) {
    const before = known.size
    for (const [pid, parent] of parents) if (known.has(parent)) known.add(pid)
    grown = known.size > before
  }
  return [...known]
}

/** Linux counts these a hundred times a second on every machine that Node runs on. */
const tickNs = 1e7

const processorNsOf = (pid: number): number => {
  let ns = 0
  try {
    for (const task of readdirSync(`/proc/${pid}/task`))
      ns += Number(read(`/proc/${pid}/task/${task}/schedstat`).split(" ")[0])
  } catch {
    return 0
  }
  if (ns > 0) return ns
  const fields = fieldsOf(read(`/proc/${pid}/stat`))
  return (Number(fields[11]) + Number(fields[12])) * tickNs
}

/** Nanoseconds of processor time that all threads of these processes have used. */
export const processorNs = (pids: ReadonlyArray<number>): number =>
  pids.reduce((sum, pid) => sum + processorNsOf(pid), 0)

/** The same for this process and those of its children that have ended: the load tools. */
export const ownProcessorNs = (): number => {
  const { system, user } = process.cpuUsage()
  const fields = fieldsOf(read("/proc/self/stat"))
  return (user + system) * 1000 + (Number(fields[13]) + Number(fields[14])) * tickNs
}

/** Resident bytes of these processes. */
export const residentBytes = (pids: ReadonlyArray<number>): number =>
  pids.reduce((sum, pid) => sum + Number(/VmRSS:\s+(\d+) kB/.exec(read(`/proc/${pid}/status`))?.[1] ?? 0) * 1024, 0)

/** Ends them all at once, by their ids: whoever is killed alone leaves its children. */
export const killTree = (pid: number): void => {
  for (const one of withDescendants([pid])) {
    try {
      process.kill(one, "SIGKILL")
    } catch {
      // It has ended already.
    }
  }
}
