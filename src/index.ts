/**
 * The front door: each part as a namespace. `wayleave/runner`, `wayleave/hub`, `wayleave/gateway`, `wayleave/protocol` and `wayleave/testing`
 * hold the same with less around it.
 */

/** The file in which actors outlive the process. */
export * as ActorDatabase from "./actor/ActorDatabase.ts"
/** Keys and values of actors. */
export * as ActorKv from "./actor/ActorKv.ts"
/** The same, kept in that file. */
export * as ActorKvSqlite from "./actor/ActorKvSqlite.ts"
/** Creates, finds and ends actors over HTTP, as Rivet's clients ask for it. */
export * as ActorsApi from "./admin/ActorsApi.ts"
/** Health and metrics for operators. */
export * as AdminApi from "./admin/AdminApi.ts"
/** Whether this process should be sent work. */
export * as Health from "./admin/Health.ts"
/** The bus between machines, over NATS. */
export * as NatsMessageBus from "./bus/NatsMessageBus.ts"
/** What it is told. */
export * as NatsOptions from "./bus/NatsOptions.ts"
/** Takes visitors in. */
export * as Gateway from "./gateway/index.ts"
/** Takes runners in. */
export * as Hub from "./hub/index.ts"
/** What they say to each other. */
export * as Protocol from "./protocol/index.ts"
/** Dials out and answers. */
export * as Runner from "./runner/index.ts"
/** The port on which visitors and runners arrive. */
export * as NodeServer from "./server/NodeServer.ts"
/** All of it in one Layer, as `wayleave serve` runs it. */
export * as Server from "./server/Server.ts"
/** What `wayleave serve` can be told. */
export * as ServerConfig from "./server/ServerConfig.ts"
/** Keeps bulk transfers from costing full collections, in a process of one's own. */
export * as YoungBuffers from "./socket/YoungBuffers.ts"
/** One line a request. */
export * as AccessLog from "./telemetry/AccessLog.ts"
