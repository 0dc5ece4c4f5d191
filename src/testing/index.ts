/**
 * What tests of a program on Wayleave need: the whole tunnel in memory on the test's own clock, visitors for it, and a runner that says just
 * what it is told.
 */

/** Visitors in memory: slow, leaving, with bodies and trailers. */
export * as MemoryVisitor from "./MemoryVisitor.ts"
/** A runner that sends just the bytes it is told. */
export * as ScriptedRunner from "./ScriptedRunner.ts"
/** Gateway, bus, hub, routes and runner in memory. */
export * as TestTunnel from "./TestTunnel.ts"
