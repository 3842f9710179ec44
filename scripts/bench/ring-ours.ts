import { once } from "node:events";
import { ask, nextMessage, startBenchChild } from "./bench-child.ts";
import { type Contender, type Lane, type Measurement, slowestOf } from "./ring-contender.ts";
import type { RankAddress, RankMeasurement, ToRank } from "./ring-rank-process.ts";

/** Our ring: one process a rank, linked once for each lane, idle between orders. */
export async function openOurs(
  worldSize: number,
  { lanes, bytesMax }: { readonly lanes: readonly Lane[]; readonly bytesMax: number },
): Promise<Contender> {
  const ranks = Array.from({ length: worldSize }, () => startBenchChild("ring-rank-process.ts"));
  const addresses = await Promise.all(ranks.map((rank) => nextMessage<RankAddress>(rank)));
  await Promise.all(
    ranks.map((child, rank) =>
      ask<"linked">(child, { kind: "link", rank, ranks: addresses, lanes, bytesMax }),
    ),
  );
  return {
    lanes,
    measure: async (order): Promise<Measurement> => {
      const answers = await Promise.all(
        ranks.map((child) => ask<RankMeasurement>(child, { kind: "measure", order })),
      );
      const right = answers.every(({ wrong }) => wrong.every((index) => index === -1));
      const agreed = answers.every(({ digests }) => digests.join() === answers[0]!.digests.join());
      return {
        ms: slowestOf(answers.map(({ ms }) => ms)),
        checked: right && agreed,
        cpuMs: answers.reduce((sum, { cpuMs }) => sum + cpuMs, 0),
        ...(order.watchesLoop
          ? { eventLoopDelayP99Ms: Math.max(...answers.map((answer) => answer.eventLoopDelayP99Ms)) }
          : {}),
      };
    },
    close: async () => {
      const ended = Promise.all(ranks.map((child) => once(child, "exit")));
      for (const child of ranks) child.send({ kind: "close" } satisfies ToRank);
      await ended;
    },
  };
}
