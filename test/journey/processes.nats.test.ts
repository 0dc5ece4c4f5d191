/** The first hour, over NATS: the same, with the visitor at another process than the runner. */
import { beforeAll } from "@effect/vitest"
import { natsStartTimeoutMs, requireNatsServer } from "../bus/NatsServer.ts"
import { processJourneys } from "./ProcessJourneys.ts"
import { overNats } from "./Topology.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

processJourneys(overNats)
