import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { runCoordinatorChaos } from "../../scripts/chaos/coordinator-run.ts";
import { LocalCluster } from "../../scripts/local-cluster/local-cluster.ts";
import { smallJob } from "../fixtures/local-cluster.ts";

test.runIf(process.platform === "linux")(
  "the coordinator is killed every four seconds, and no step, prediction or decision is lost",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "ringfold-e2e-"));
    const { signal } = new AbortController();
    const cluster = new LocalCluster({ folder, signal });
    onTestFinished(async () => {
      await cluster.stop();
      await rm(folder, { recursive: true, force: true });
    });
    const report = await runCoordinatorChaos(
      { spec: smallJob({ epochs: 2 }), agentCount: 2, durationMs: 8_000, everyMs: 4_000 },
      { cluster, folder, signal, note: () => {}, onView: () => {} },
    );
    expect(report.coordinatorKills).toBe(2);
    expect(report.brokenInvariants).toEqual([]);
  },
  120_000,
);
