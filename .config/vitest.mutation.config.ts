// The tests that judge the modules which `npm run test:mutation` breaks: each mutant runs those of them that reach it.
import base from "./vitest.config.ts"

const include = [
  "test/route/*.test.ts",
  "test/hub/*.test.ts",
  "test/tunnel/Frame.test.ts",
  "test/tunnel/IdMap.test.ts",
  "test/tunnel/Sequence.test.ts",
  "test/tunnel/StreamState.test.ts",
  "test/tunnel/Credit.test.ts",
  "test/protocol/Rivet*.test.ts",
  "test/conformance/wayleave1.test.ts"
]

export default { ...base, test: { ...base.test, include, testTimeout: 60_000 } }
