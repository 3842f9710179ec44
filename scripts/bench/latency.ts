import type { ChildProcess } from "node:child_process";
import { wayOf } from "../../coordinator/decide/exchange.ts";
import { type Algorithm, jobSpecSchema } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import { doublingAllReduceMs, type LinkCost, ringAllReduceMs } from "../../protocol/link-model.ts";
import type { GenerationPlan, Rank } from "../../protocol/messages/job.ts";
import { flightBytes, flowOver, type SegmentFlow, segmentFlows } from "../../protocol/segment-flow.ts";
import { ask, nextMessage, startBenchChild } from "./bench-child.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";
import type { ToProxy } from "./delay-proxy-process.ts";
import type { RankReady, Summed, ToLatencyRank } from "./latency-rank-process.ts";

/**
 * Ring against recursive doubling on links with latency: one process a rank, TLS, each link through a proxy that delays it.
 * Predicted from links that were measured through the same proxy, beside measured; `chosen` is what a coordinator takes. The
 * ring is measured with the transport's own window as well as with the one for these links.
 */
interface Row {
  readonly latencyMs: number;
  readonly bytes: number;
  readonly algorithm: Algorithm;
  /** Segments that a rank may have under way. */
  readonly window: number;
  readonly predictedMs: number;
  /** Median over the operations of the slowest rank's time. */
  readonly measuredMs: number;
  readonly chosen: boolean;
  readonly checked: boolean;
}

interface Flags {
  readonly ranks: number;
  readonly latencies: readonly number[];
  readonly sizes: readonly number[];
  readonly operations: number;
}

const numbers = (text: string): number[] => text.split(",").map(Number);
const ask1 = <Answer>(child: ChildProcess, message: ToLatencyRank | ToProxy): Promise<Answer> =>
  ask<Answer>(child, message);

await runBench(async () => {
  const flags = parseBenchOptions<Flags>("bench:latency", (command) =>
    command
      .option("--ranks <n>", "processes", Number, 4)
      .option("--latencies <ms,...>", "one way, of every link", numbers, [0, 1, 5, 20])
      .option("--sizes <KB,...>", "of the vectors, in 1024 bytes", numbers, [64, 256, 1_024])
      .option("--operations <n>", "of each kind, interleaved in rounds of 5", Number, 20),
  );
  if (!flags) return;
  const rows: Row[] = [];
  for (const latencyMs of flags.latencies) {
    for (const row of await measure(latencyMs, flags)) {
      rows.push(row);
      if (!flags.json) process.stdout.write(`${lineOf(row)}\n`);
    }
  }
  if (flags.json) process.stdout.write(`${JSON.stringify({ ranks: flags.ranks, rows })}\n`);
});

async function measure(latencyMs: number, flags: Flags): Promise<Row[]> {
  const children = Array.from({ length: flags.ranks }, () => startBenchChild("latency-rank-process.ts"));
  const proxy = startBenchChild("delay-proxy-process.ts");
  try {
    const ready = await Promise.all(children.map((child) => nextMessage<RankReady>(child)));
    const ports = await ask1<number[]>(proxy, {
      ...{ kind: "open", latencyMs },
      targets: ready.map(({ port }) => port),
    });
    const ranks = ready.map(
      ({ peerId }, rank): Rank => ({
        ...{ rank, peerId, host: "127.0.0.1", port: ports[rank]!, statePort: ports[rank]!, heals: false },
      }),
    );
    const rows: Row[] = [];
    for (const kilobytes of flags.sizes)
      rows.push(
        ...(await compare({ children, ranks, latencyMs, bytes: 1_024 * kilobytes }, flags.operations)),
      );
    return rows;
  } finally {
    for (const child of [...children, proxy]) if (child.connected) child.disconnect();
  }
}

interface Field {
  readonly children: readonly ChildProcess[];
  readonly ranks: readonly Rank[];
  readonly latencyMs: number;
  readonly bytes: number;
}

async function compare(field: Field, operations: number): Promise<Row[]> {
  const { children, ranks, bytes } = field;
  const all = <Answer>(message: ToLatencyRank) =>
    Promise.all(children.map((child) => ask1<Answer>(child, message)));
  const probing = planOf({ algorithm: "ring", flow: segmentFlows.encrypted }, { ranks, number: 1 });
  await all({ kind: "link", plan: probing, bytes });
  const links = await probeAll(field, probing);
  const byLink = flowOver(hopsOf(links), "encrypted");
  const ways: readonly Way[] = [
    { algorithm: "ring", flow: segmentFlows.encrypted },
    ...(byLink.window > segmentFlows.encrypted.window ? [{ algorithm: "ring", flow: byLink } as const] : []),
    { algorithm: "doubling", flow: flowOver(links.flat(), "encrypted") },
  ];
  const plans = ways.map((way, i) => planOf(way, { ranks, number: i + 2 }));
  for (const plan of plans) await all({ kind: "link", plan, bytes });
  const summed = new Map<GenerationPlan, Summed[][]>();
  const perRound = 5;
  for (let done = 0; done < operations; done += perRound) {
    for (const plan of plans) {
      const answers = await all<Summed>({ kind: "sum", plan, operations: perRound });
      summed.set(plan, [...(summed.get(plan) ?? []), answers]);
    }
  }
  await all({ kind: "unlink" });
  return plans.map((plan, i) => rowOf(ways[i]!, field, { links, rounds: summed.get(plan)! }));
}

function hopsOf(links: readonly LinkCost[][]): LinkCost[] {
  return links.map((costs, rank) => costs[(rank + 1) % links.length]!);
}

interface Way {
  readonly algorithm: Algorithm;
  readonly flow: SegmentFlow;
}

function rowOf(
  { algorithm, flow }: Way,
  { ranks, latencyMs, bytes }: Field,
  { links, rounds }: { readonly links: readonly LinkCost[][]; readonly rounds: readonly Summed[][] },
): Row {
  const worldSize = ranks.length;
  const linkOf = (from: number, to: number) => links[from]![to]!;
  const chosen = wayOf(
    jobSpecSchema.parse({ name: "bench", model: { architecture: "mlp" }, data: { source: "mnist" } }),
    {
      ids: ranks.map(({ rank }) => String(rank)),
      links: (from, to) => linkOf(Number(from), Number(to)),
      parameterCount: bytes / 4,
    },
  );
  const isChosen =
    chosen.algorithm === algorithm && (algorithm === "doubling" || chosen.window === flow.window);
  const times = rounds.flatMap((answers) =>
    answers[0]!.ms.map((_, i) => Math.max(...answers.map(({ ms }) => ms[i]!))),
  );
  return {
    ...{ latencyMs, bytes, algorithm, window: flow.window, chosen: isChosen },
    predictedMs:
      algorithm === "ring"
        ? ringAllReduceMs(hopsOf(links), bytes, flightBytes(flow))
        : doublingAllReduceMs(linkOf, { worldSize, bytes, flightBytes: flightBytes(flow) }),
    measuredMs: times.toSorted((a, b) => a - b)[Math.floor(times.length / 2)]!,
    checked: rounds.every((answers) =>
      answers.every(({ isRight, digest }) => isRight && digest === answers[0]!.digest),
    ),
  };
}

/** One link after the other, as agents do it. @returns [from][to] */
async function probeAll({ children, ranks }: Field, purpose: GenerationPlan): Promise<LinkCost[][]> {
  const links: LinkCost[][] = [];
  for (const [from, child] of children.entries()) {
    const costs: LinkCost[] = [];
    for (const to of ranks) {
      costs.push(
        to.rank === from
          ? { latencyMs: 0, bytesPerSecond: limits.linkBytesPerSecondSupposed }
          : await ask1<LinkCost>(child, { kind: "probe", to, purpose }),
      );
    }
    links.push(costs);
  }
  return links;
}

function planOf(
  { algorithm, flow }: Way,
  { ranks, number }: { readonly ranks: readonly Rank[]; readonly number: number },
): GenerationPlan {
  return {
    ...{ jobId: `job-${number}`, generation: 1, ranks: [...ranks], algorithm, window: flow.window },
    ...{ start: { step: 0, hash: "0".repeat(64) }, source: ranks[0]!.peerId },
    ...{ transport: "encrypted", predictedCommunicationMs: null, reason: "a benchmark" },
  };
}

function lineOf({
  latencyMs,
  bytes,
  algorithm,
  window,
  predictedMs,
  measuredMs,
  chosen,
  checked,
}: Row): string {
  const parts = [
    `r ${String(latencyMs).padStart(2)} ms`,
    `${String(bytes / 1_024).padStart(5)} KB`,
    `${algorithm.padEnd(8)} window ${String(window).padStart(3)} predicted ${predictedMs.toFixed(1).padStart(6)} ms`,
    `measured ${measuredMs.toFixed(1).padStart(6)} ms${chosen ? "  chosen" : ""}${checked ? "" : "  WRONG"}`,
  ];
  return parts.join("  ");
}
