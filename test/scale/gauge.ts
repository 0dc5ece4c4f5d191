/** Loaded into a process before its program (`node --expose-gc --import`): on SIGUSR2 it collects garbage and says what memory is left. */
process.on("SIGUSR2", () => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
  const { arrayBuffers, external, heapUsed, rss } = process.memoryUsage()
  const cpu = process.cpuUsage()
  const gauge = { rss, held: heapUsed + external, arrayBuffers, cpuMs: (cpu.user + cpu.system) / 1000 }
  process.stdout.write(`\ngauge ${JSON.stringify(gauge)}\n`)
})
