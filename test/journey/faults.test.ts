/** An ordinary week, in one process. */
import { faultJourneys } from "./FaultJourneys.ts"
import { oneProcess } from "./Topology.ts"

faultJourneys(oneProcess)
