import { parentPort, workerData } from "node:worker_threads";
import pino from "pino";
import { openDataPlane } from "../../network/data-plane.ts";
import { digestState } from "./digest-state.ts";
import { StateSource } from "./state-source.ts";
import type { StateThreadSetup } from "./state-thread.ts";

/** The inside of a state's thread: a data plane that gives this one state to the ranks of this one plan. */
const { plane: options, plan, state, logLevel } = workerData as StateThreadSetup;
const log = pino({ name: "state", level: logLevel }, pino.destination(2));
const plane = await openDataPlane({ ...options, log });
new StateSource({ plane, digestState }).offer(plan, state);
plane.admit(plan);
parentPort!.postMessage(plane.port);
