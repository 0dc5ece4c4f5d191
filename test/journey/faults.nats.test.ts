/** An ordinary week, over NATS. */
import { beforeAll } from "@effect/vitest"
import { natsStartTimeoutMs, requireNatsServer } from "../bus/NatsServer.ts"
import { faultJourneys } from "./FaultJourneys.ts"
import { overNats } from "./Topology.ts"

beforeAll(() => void requireNatsServer(), natsStartTimeoutMs)

faultJourneys(overNats)
