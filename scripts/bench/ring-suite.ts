import { loadavg } from "node:os";
import type { Wire } from "../../protocol/job-spec.ts";
import type { Contender, Lane, Measurement, Plane } from "./ring-contender.ts";
import { openGloo, openOpenMpi } from "./ring-foreign.ts";
import { openOurs } from "./ring-ours.ts";

export interface SuiteOptions {
  readonly worldSizes: readonly number[];
  readonly sizes: readonly number[];
  readonly planes: readonly Plane[];
  readonly wires: readonly Wire[];
  readonly rounds: number;
  /** Ends the suite between two measurements. */
  readonly signal: AbortSignal;
  /** Tells a person what goes on. */
  readonly note: (line: string) => void;
}

export interface Row extends Lane {
  readonly worldSize: number;
  /** Of f32 on every rank, whatever the wire. */
  readonly bytes: number;
  /** Median over all operations of all rounds. */
  readonly ms: number;
  readonly meanMs: number;
  /** 2(N-1)/N * bytes / time: what the busiest link would carry as f32. */
  readonly busGBps: number;
  readonly checked: boolean;
  /** Processor seconds of all ranks for each GB that the links carried as f32. */
  readonly cpuSecondsPerGB?: number;
  readonly eventLoopDelayP99Ms?: number;
}

export interface Ratio extends Lane {
  readonly worldSize: number;
  readonly bytes: number;
  /** Our rate over theirs in the same rounds; absent where they did not run. */
  readonly toGloo?: number;
  readonly toRawTcp?: number;
  readonly toOpenMpi?: number;
}

export interface SuiteResult {
  readonly rows: readonly Row[];
  readonly ratios: readonly Ratio[];
  /** Load average of the machine over the last minute, at the start and at the end. */
  readonly load: { readonly before: number; readonly after: number };
}

/** Measures every lane in turn, round after round, so that a busy neighbour slows all of them alike. */
export async function measureRings(options: SuiteOptions): Promise<SuiteResult> {
  const before = loadavg()[0]!;
  const rows: Row[] = [];
  for (const worldSize of options.worldSizes) {
    const contenders = await openContenders(worldSize, options);
    try {
      for (const bytes of options.sizes) {
        const measured = await interleave(contenders, {
          bytes,
          rounds: options.rounds,
          signal: options.signal,
        });
        for (const [lane, measurements] of measured)
          rows.push(rowOf(lane, measurements, { worldSize, bytes }));
        options.note(`${worldSize} ranks, ${bytes} bytes: done`);
      }
    } finally {
      await Promise.all(contenders.map((contender) => contender.close()));
    }
  }
  return { rows, ratios: ratiosOf(rows), load: { before, after: loadavg()[0]! } };
}

async function openContenders(worldSize: number, options: SuiteOptions): Promise<Contender[]> {
  const { planes, wires, sizes, note } = options;
  const lanes: Lane[] = [];
  if (planes.includes("tls")) lanes.push(...wires.map((wire) => ({ plane: "tls" as const, wire })));
  if (planes.includes("plain")) lanes.push({ plane: "plain", wire: "f32" });
  if (planes.includes("rawTcp")) lanes.push({ plane: "rawTcp", wire: "f32" });
  const contenders: Contender[] = [];
  if (lanes.length > 0) contenders.push(await openOurs(worldSize, { lanes, bytesMax: Math.max(...sizes) }));
  for (const plane of ["gloo", "openmpi", "openmpiShared"] as const) {
    if (!planes.includes(plane)) continue;
    const contender = await (plane === "gloo" ? openGloo(worldSize) : openOpenMpi(worldSize, plane));
    if (typeof contender === "string") note(contender);
    else contenders.push(contender);
  }
  return contenders;
}

/** Few operations of large buffers, many of small ones: each round lasts about as long. */
const operationsOf = (bytes: number): number => Math.max(1, Math.min(40, Math.floor(2 ** 26 / bytes)));

async function interleave(
  contenders: readonly Contender[],
  {
    bytes,
    rounds,
    signal,
  }: { readonly bytes: number; readonly rounds: number; readonly signal: AbortSignal },
): Promise<Map<Lane, Measurement[]>> {
  const measured = new Map<Lane, Measurement[]>();
  // The first round warms compilers, sockets and memory; in the last one our event loops are watched. Neither is timed.
  for (let round = -1; round <= rounds; round++) {
    const watchesLoop = round === rounds;
    for (const contender of contenders) {
      for (const lane of contender.lanes) {
        if (watchesLoop && !isOurs(lane)) continue;
        signal.throwIfAborted();
        const order = { ...lane, bytes, operations: operationsOf(bytes), watchesLoop };
        const measurement = await contender.measure(order);
        if (round === -1) measured.set(lane, []);
        else measured.get(lane)!.push(measurement);
      }
    }
  }
  return measured;
}

function rowOf(
  lane: Lane,
  measurements: readonly Measurement[],
  { worldSize, bytes }: { readonly worldSize: number; readonly bytes: number },
): Row {
  const watched = measurements.find(({ eventLoopDelayP99Ms }) => eventLoopDelayP99Ms !== undefined);
  const counted = measurements.filter((measurement) => measurement !== watched);
  const all = counted.flatMap(({ ms }) => ms);
  const ms = all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)]!;
  const linkGB = ((2 * (worldSize - 1)) / worldSize) * (bytes / 1e9);
  const cpuMs = counted.reduce((sum, measurement) => sum + (measurement.cpuMs ?? Number.NaN), 0);
  return {
    ...lane,
    worldSize,
    bytes,
    ms,
    meanMs: all.reduce((sum, each) => sum + each, 0) / all.length,
    busGBps: linkGB / (ms / 1_000),
    checked: measurements.every(({ checked }) => checked),
    ...(Number.isNaN(cpuMs) ? {} : { cpuSecondsPerGB: cpuMs / 1_000 / (all.length * worldSize * linkGB) }),
    ...(watched ? { eventLoopDelayP99Ms: watched.eventLoopDelayP99Ms! } : {}),
  };
}

const isOurs = ({ plane }: Lane): boolean => plane === "tls" || plane === "plain";

function ratiosOf(rows: readonly Row[]): Ratio[] {
  return rows.filter(isOurs).map(({ plane, wire, worldSize, bytes, ms }) => {
    const other = (name: Plane) =>
      rows.find((row) => row.plane === name && row.worldSize === worldSize && row.bytes === bytes);
    const gloo = other("gloo");
    const rawTcp = other("rawTcp");
    const openMpi = other("openmpi");
    return {
      ...{ plane, wire, worldSize, bytes },
      ...(gloo ? { toGloo: gloo.ms / ms } : {}),
      ...(rawTcp ? { toRawTcp: rawTcp.ms / ms } : {}),
      ...(openMpi ? { toOpenMpi: openMpi.ms / ms } : {}),
    };
  });
}
