import { parentPort, workerData } from "node:worker_threads";
import pino from "pino";
import { openDataPlane } from "../../network/data-plane/data-plane.ts";
import { digestState } from "./digest-state.ts";
import { StateSource } from "./state-source.ts";
import type { StateThreadSetup, ToStateThread } from "./state-thread.ts";

/** The inside of the thread that gives states away: a data plane, and the newest state for the ranks of its plan. */
const { plane: options, logLevel } = workerData as StateThreadSetup;
const log = pino({ name: "state", level: logLevel }, pino.destination(2));
const plane = await openDataPlane({ ...options, log });
const source = new StateSource({ plane, digestState });
parentPort!.on("message", (message: ToStateThread) => {
  if (message.kind === "withdraw") return source.withdraw();
  source.offer(message.plan, message.state);
  plane.admit(message.plan);
});
parentPort!.postMessage(plane.port);
