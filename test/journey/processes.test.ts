/** The first hour, in one process. */
import { processJourneys } from "./ProcessJourneys.ts"
import { oneProcess } from "./Topology.ts"

processJourneys(oneProcess)
