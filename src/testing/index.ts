/**
 * What tests of a program on Wayleave need: the whole tunnel in memory on the test's own clock, visitors for it, a runner that says just
 * what it is told, and the contract that a route store of one's own has to keep.
 */

/** A bus that fails, loses, repeats and delays by a seeded chance. */
export * as FaultyBus from "./FaultyBus.ts"
/** Connections that come late, stall, break or fall silent by a seeded chance. */
export * as FaultySocket from "./FaultySocket.ts"
/** Visitors in memory: slow, leaving, with bodies and trailers. */
export * as MemoryVisitor from "./MemoryVisitor.ts"
/** What every route store owes its hub, as a list of checks. */
export * as RouteStoreContract from "./RouteStoreContract.ts"
/** A runner of any of Rivet's versions that sends just what it is told, and reads as strictly as a real one. */
export * as ScriptedRivetRunner from "./ScriptedRivetRunner.ts"
/** A runner that sends just the bytes it is told. */
export * as ScriptedRunner from "./ScriptedRunner.ts"
/** Gateway, bus, hub, routes and runner in memory. */
export * as TestTunnel from "./TestTunnel.ts"
