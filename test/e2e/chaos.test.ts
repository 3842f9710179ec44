import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { runChaos } from "../../scripts/chaos/chaos-run.ts";
import { LocalCluster } from "../../scripts/local-cluster/local-cluster.ts";
import { smallJob } from "../fixtures/local-cluster.ts";

const agentCount = 3;

test.runIf(process.platform === "linux")(
  "agents are killed every four seconds, and the job does not notice",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "ringfold-e2e-"));
    const { signal } = new AbortController();
    const cluster = new LocalCluster({ folder, signal });
    onTestFinished(async () => {
      await cluster.stop();
      await rm(folder, { recursive: true, force: true });
    });
    const report = await runChaos(
      {
        spec: smallJob(),
        agentCount,
        length: { kind: "time", durationMs: 8_000 },
        everyMs: 4_000,
        signal: "kill",
        seed: 11,
      },
      { cluster, folder, signal, note: () => {}, onView: () => {} },
    );
    expect(report.kills).toBeGreaterThan(0);
    // The last one may strike when the last step is done.
    expect(report.recoveryMs?.count).toBeGreaterThan(0);
    // Cores that other tests use as well say nothing about speed.
    expect(report.failures.filter(({ invariant }) => invariant !== "throughputShare")).toEqual([]);
  },
  120_000,
);
