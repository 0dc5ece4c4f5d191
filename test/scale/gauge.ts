/**
 * Loaded into a process before its program (`node --expose-gc --import`): on SIGUSR2 it collects garbage and says what is left: memory, and what
 * keeps the event loop going, counted by kind.
 */
process.on("SIGUSR2", () => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  const { arrayBuffers, external, heapUsed, rss } = process.memoryUsage()
  const cpu = process.cpuUsage()
  const resources: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) resources[kind] = (resources[kind] ?? 0) + 1
  const cpuMs = (cpu.user + cpu.system) / 1000
  const gauge = { rss, held: heapUsed + external, heapUsed, arrayBuffers, cpuMs, resources }
  process.stdout.write(`\ngauge ${JSON.stringify(gauge)}\n`)
})
