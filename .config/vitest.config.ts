import { fileURLToPath } from "node:url"
import { defineConfig } from "vitest/config"

const root = fileURLToPath(new URL("..", import.meta.url))

export default defineConfig({
  root,
  // Examples import the package by its name, as a reader would; here that is the source.
  resolve: {
    alias: [
      { find: /^wayleave$/, replacement: `${root}src/index.ts` },
      { find: /^wayleave\/([a-z]+)$/, replacement: `${root}src/$1/index.ts` }
    ]
  },
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // Many tests wait for processes and timers more than they work: as many files at once as there are cores, where the default leaves one of two idle.
    maxWorkers: "100%",
    // Hundreds of processes are started; each finds what the one before it compiled.
    env: { NODE_COMPILE_CACHE: `${root}node_modules/.cache/compiled` },
    testTimeout: 15_000
  }
})
