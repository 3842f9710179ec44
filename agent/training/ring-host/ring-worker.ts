import { parentPort, workerData } from "node:worker_threads";
import pino from "pino";
import { systemClock } from "../../../protocol/ports.ts";
import { openDataPlane } from "../../network/data-plane/data-plane.ts";
import { RingMemory } from "../../ring/memory.ts";
import { digestState } from "../healing/digest-state.ts";
import { LocalRingHost } from "./local-ring-host.ts";
import { OpenRings } from "./open-rings.ts";
import {
  errorMessage,
  type FromRingThread,
  type RingThreadSetup,
  receivedError,
  type ToRingThread,
} from "./ring-thread-messages.ts";

/**
 * The inside of the ring thread: the data plane, and this rank's end of each ring, which goes on while the engine computes.
 * It does what it is told in the order in which it is told; answers come as they are ready.
 */

type Operation = Extract<ToRingThread, { readonly kind: "all-reduce" | "all-gather" }>;
type Link = Extract<ToRingThread, { readonly kind: "link" }>;

const { plane: options, logLevel } = workerData as RingThreadSetup;
const log = pino({ name: "ring", level: logLevel }, pino.destination(2));
const plane = await openDataPlane({ ...options, log });
const nowMs = () => performance.now();
const host = new LocalRingHost({ peerId: options.peerId, plane, digestState, clock: systemClock, nowMs });
const rings = new OpenRings();
const calls = new Map<number, AbortController>();

const post = (message: FromRingThread, transfer: readonly ArrayBuffer[] = []): void =>
  parentPort!.postMessage(message, transfer);

parentPort!.on("message", (message: ToRingThread) => {
  switch (message.kind) {
    case "link":
      return void answer(message.call, async (signal) => void (await link(message, signal)));
    case "fetch-start":
      return void answer(message.call, (signal) => host.fetchStart(message.plan, signal));
    case "all-reduce":
    case "all-gather":
      return void answer(message.call, (signal) => operate(message, signal), message.ring);
    case "cancel":
      return calls.get(message.call)?.abort(receivedError(message.error));
    case "hop-timeout": {
      const ring = rings.get(message.ring)?.ring;
      if (ring) ring.hopTimeoutMs = message.timeoutMs;
      return;
    }
    case "destroy":
      return rings.end(message.ring);
    case "offer":
      return host.offer(message.plan, message.state);
    case "withdraw":
      return host.withdraw();
  }
});
post({ kind: "listening", port: host.port });

async function link({ call, plan, memory: shared, broken }: Link, signal: AbortSignal): Promise<void> {
  const memory = new RingMemory(shared.options, shared.memory);
  const ring = await host.link(plan, memory, signal);
  const flag = new Int32Array(broken);
  for (const { peerId, closed } of ring.downstreams) {
    const rank = plan.ranks.findIndex((member) => member.peerId === peerId);
    closed.addEventListener("abort", () => void Atomics.compareExchange(flag, 0, 0, rank + 1), {
      once: true,
    });
  }
  rings.add(call, { ring, memory });
}

function operate(message: Operation, signal: AbortSignal): Promise<unknown> {
  return rings.operate<unknown>(message.ring, async ({ ring, memory }) => {
    if (message.kind === "all-gather") return ring.allGather(message.payload, signal, message);
    const { vector, residual } =
      "copies" in message
        ? message.copies
        : {
            vector: memory.vectorAt(message.vector),
            residual: message.residual && memory.vectorAt(message.residual),
          };
    await ring.allReduce(vector, signal, { ...message.options, ...(residual ? { residual } : {}) });
    return "copies" in message ? message.copies : undefined;
  });
}

/** Runs a call to its end and says how it went, and what it has made of its ring. */
async function answer(
  call: number,
  work: (signal: AbortSignal) => Promise<unknown>,
  ringOfCall?: number,
): Promise<void> {
  const cancel = new AbortController();
  calls.set(call, cancel);
  try {
    const value = await work(cancel.signal);
    const ring = ringOfCall === undefined ? undefined : rings.get(ringOfCall)?.ring;
    const figures = ring && { sentBytes: ring.sentBytes, busyMs: ring.busyMs, isWornOut: ring.isWornOut };
    const isWhole = value instanceof Uint8Array && value.byteLength === value.buffer.byteLength;
    const transfer = isWhole ? [value.buffer as ArrayBuffer] : [];
    post({ kind: "result", call, value, ...(figures ? { ring: figures } : {}) }, transfer);
  } catch (cause) {
    post({ kind: "error", call, error: errorMessage(cause) });
  } finally {
    calls.delete(call);
  }
}
