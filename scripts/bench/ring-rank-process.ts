import { monitorEventLoopDelay } from "node:perf_hooks";
import pino from "pino";
import { type DataPlane, openDataPlane } from "../../agent/network/data-plane/data-plane.ts";
import { downstreamLink, ringLimits, upstreamLink } from "../../agent/network/data-plane/ring-links.ts";
import { createTransientIdentity } from "../../agent/network/identity.ts";
import { RingMemory } from "../../agent/ring/memory.ts";
import { Ring } from "../../agent/ring/ring.ts";
import type { Lane, Order } from "./ring-contender.ts";
import { digestOf, fillPattern, findWrongElement } from "./ring-pattern.ts";
import { RawTcp } from "./ring-raw-tcp.ts";

/** One rank of our ring in a process of its own, led by ring-ours.ts over IPC. */

export interface RankAddress {
  readonly peerId: string;
  readonly ports: { readonly tls: number; readonly plain: number; readonly rawTcp: number };
}
export interface LinkCommand {
  readonly kind: "link";
  readonly rank: number;
  readonly ranks: readonly RankAddress[];
  readonly lanes: readonly Lane[];
  readonly bytesMax: number;
}
export type ToRank =
  | LinkCommand
  | { readonly kind: "measure"; readonly order: Order }
  | { readonly kind: "close" };
export interface RankMeasurement {
  readonly ms: readonly number[];
  /** Index of the first wrong element of each operation, -1 where all are right. */
  readonly wrong: readonly number[];
  readonly digests: readonly number[];
  readonly cpuMs: number;
  /** 0 where nobody looked. */
  readonly eventLoopDelayP99Ms: number;
}

const never = new AbortController().signal;
const log = pino({ level: "silent" });

/** A ring with the vector that it sums in place. */
interface LinkedRing {
  readonly ring: Ring;
  readonly vector: Float32Array;
}

interface Open {
  readonly rank: number;
  readonly worldSize: number;
  readonly rings: ReadonlyMap<string, LinkedRing>;
  /** What keeps the ranks in step on a plane that has no ring. */
  readonly barrier: Ring;
  readonly received: Float32Array;
}

const identity = await createTransientIdentity();
const transports = { tls: "encrypted", plain: "plaintext" } as const;
const openPlane = (name: "tls" | "plain") =>
  openDataPlane({ ...identity, host: "127.0.0.1", transport: transports[name], log });
const planes = { tls: await openPlane("tls"), plain: await openPlane("plain") };
const rawTcp = await RawTcp.listen();
const ports = { tls: planes.tls.port, plain: planes.plain.port, rawTcp: rawTcp.port };
let open: Open | undefined;

const send = (message: unknown): void => void process.send?.(message);
process.on("disconnect", () => process.exit(0));
process.on("message", (message: ToRank) => {
  obey(message).catch((error: Error) => {
    console.error(error);
    process.exit(1);
  });
});
send({ peerId: identity.peerId, ports } satisfies RankAddress);

async function obey(message: ToRank): Promise<void> {
  if (message.kind === "link") {
    open = await link(message);
    send("linked");
  } else if (message.kind === "measure") {
    send(await measure(open!, message.order));
  } else {
    await Promise.all([planes.tls.close(), planes.plain.close(), rawTcp.close()]);
    process.disconnect();
  }
}

const laneKey = ({ plane, wire }: Lane): string => `${plane}/${wire}`;

async function link(command: LinkCommand): Promise<Open> {
  const { rank, ranks, lanes, bytesMax } = command;
  const rings = new Map<string, LinkedRing>();
  for (const [index, lane] of lanes.entries()) {
    if (lane.plane !== "tls" && lane.plane !== "plain") continue;
    rings.set(laneKey(lane), await linkRing(lane.plane, command, { generation: index + 1, bytes: bytesMax }));
  }
  const upstream = ranks[(rank + ranks.length - 1) % ranks.length]!;
  await rawTcp.dial(upstream.ports.rawTcp);
  const barrier = await linkRing("plain", command, { generation: 0, bytes: 0 });
  const wantsRaw = lanes.some(({ plane }) => plane === "rawTcp");
  return {
    rank,
    worldSize: ranks.length,
    rings,
    barrier: barrier.ring,
    received: new Float32Array(wantsRaw ? ringElements(bytesMax / 4, ranks.length) : 0),
  };
}

async function linkRing(
  name: "tls" | "plain",
  { rank, ranks }: LinkCommand,
  { generation, bytes }: { readonly generation: number; readonly bytes: number },
): Promise<LinkedRing> {
  const plane: DataPlane = planes[name];
  const worldSize = ranks.length;
  const upstream = ranks[(rank + worldSize - 1) % worldSize]!;
  const downstream = ranks[(rank + 1) % worldSize]!;
  const memory = new RingMemory({ elementCount: bytes / 4 });
  const purpose = { kind: "ring", jobId: `bench-${generation}`, generation } as const;
  plane.admit({ ...purpose, peerIds: ranks.map(({ peerId }) => peerId) });
  const [dialled, accepted] = await Promise.all([
    plane.dial({ peerId: upstream.peerId, host: "127.0.0.1", port: upstream.ports[name] }, purpose, never, {
      receiveRegion: memory.receiveRegion,
    }),
    plane.accept(downstream.peerId, purpose, never),
  ]);
  const links = { upstream: upstreamLink(dialled), downstream: downstreamLink(accepted) };
  return {
    ring: new Ring({ rank, worldSize, links, memory, ...ringLimits[transports[name]] }),
    vector: memory.allocate(bytes / 4),
  };
}

/** What one rank of a ring sends, and receives, for `elementCount`. */
function ringElements(elementCount: number, worldSize: number): number {
  return Math.floor((2 * (worldSize - 1) * elementCount) / worldSize);
}

async function measure(self: Open, order: Order): Promise<RankMeasurement> {
  const result = {
    ...{ ms: [] as number[], wrong: [] as number[], digests: [] as number[] },
    ...{ cpuMs: 0, eventLoopDelayP99Ms: 0 },
  };
  for (let round = 0; round < order.operations; round++) {
    const { ms, cpuMs, eventLoopDelayP99Ms, wrong, digest } =
      order.plane === "rawTcp"
        ? await transferOnce(self, order, round)
        : await reduceOnce(self, order, round);
    result.ms.push(ms);
    result.wrong.push(wrong);
    result.digests.push(digest);
    result.cpuMs += cpuMs;
    result.eventLoopDelayP99Ms = Math.max(result.eventLoopDelayP99Ms, eventLoopDelayP99Ms);
  }
  return result;
}

async function reduceOnce(self: Open, order: Order, round: number) {
  const { rank, worldSize } = self;
  const { ring, vector } = self.rings.get(laneKey(order))!;
  const buffer = vector.subarray(0, order.bytes / 4);
  fillPattern(buffer, { rank, round });
  const timing = await timed(ring, order, () => ring.allReduce(buffer, never, { wire: order.wire }));
  const ranks = Array.from({ length: worldSize }, (_, r) => r);
  return {
    ...timing,
    wrong: findWrongElement(buffer, { ranks, round, wire: order.wire }),
    digest: digestOf(buffer),
  };
}

async function transferOnce(self: Open, order: Order, round: number) {
  const { rank, worldSize, received } = self;
  const elementCount = ringElements(order.bytes / 4, worldSize);
  const buffer = self.received.subarray(0, elementCount);
  const sent = new Float32Array(elementCount);
  fillPattern(sent, { rank, round });
  rawTcp.expect(new Uint8Array(received.buffer, 0, 4 * elementCount));
  const timing = await timed(self.barrier, order, () => rawTcp.transfer(new Uint8Array(sent.buffer)));
  const upstream = (rank + worldSize - 1) % worldSize;
  return { ...timing, wrong: findWrongElement(buffer, { ranks: [upstream], round, wire: "f32" }), digest: 0 };
}

/** Between two barriers: nobody fills or checks a vector while another rank is still at work. */
async function timed(barrier: Ring, { watchesLoop }: Order, work: () => Promise<void>) {
  const loopDelay = monitorEventLoopDelay({ resolution: 1 });
  await barrier.barrier(never);
  if (watchesLoop) loopDelay.enable();
  const cpuBefore = process.cpuUsage();
  const startMs = performance.now();
  await work();
  const ms = performance.now() - startMs;
  const { user, system } = process.cpuUsage(cpuBefore);
  loopDelay.disable();
  await barrier.barrier(never);
  const eventLoopDelayP99Ms = watchesLoop ? loopDelay.percentile(99) / 1e6 : 0;
  return { ms, cpuMs: (user + system) / 1_000, eventLoopDelayP99Ms };
}
