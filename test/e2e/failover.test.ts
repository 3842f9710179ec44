import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { ClusterView } from "../../protocol/messages/api.ts";
import type { AuditEntry } from "../../protocol/messages/audit.ts";
import { startAgentProcess } from "../../scripts/local-cluster/local-cluster.ts";
import { Candidate, type Said } from "../fixtures/candidate.ts";
import { EtcdCluster, etcdIsInstalled, freePorts } from "../fixtures/etcd-cluster.ts";
import { smallJob } from "../fixtures/local-cluster.ts";

const leaderMaxMs = 5_000;

describe.skipIf(!etcdIsInstalled)("several coordinators", () => {
  let etcd: EtcdCluster;
  let folder: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "ringfold-failover-"));
    etcd = await EtcdCluster.start(3);
  });
  afterAll(async () => {
    await etcd?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  test("the leader is killed, then stopped, and a node of etcd dies: another leads in time with every decision, and the agent follows", {
    timeout: 180_000,
  }, async () => {
    const ports = await freePorts(4);
    const hosts = etcd.endpoints.map((endpoint) => new URL(endpoint).host).join(",");
    const start = (index: number) => {
      const candidate = new Candidate([
        ...["--store", `etcd://${hosts}/lab`, "--data", join(folder, `c${index}`)],
        ...["--listen", `127.0.0.1:${ports[2 * index]}`, "--http", `127.0.0.1:${ports[2 * index + 1]}`],
      ]);
      onTestFinished(() => candidate.kill());
      return candidate;
    };
    const first = start(0);
    const { operatorToken } = await first.says("ready");
    const second = start(1);
    await second.says("standby");
    const api = async <T>(
      said: Said,
      path: string,
      body?: object,
      key: string = randomUUID(),
    ): Promise<T> => {
      const headers = {
        ...{ authorization: `Bearer ${operatorToken}`, "content-type": "application/json" },
        "idempotency-key": `"${key}"`,
      };
      const init = body ? { method: "POST", body: JSON.stringify(body), headers } : {};
      const response = await fetch(`${said.httpUrl}/api/${path}`, init);
      if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
      return (await response.json()) as T;
    };
    const coordinators = [first, second];
    let leading = 0;
    const httpUrl = (index: number) => `http://127.0.0.1:${ports[2 * index + 1]}`;
    let leader = { httpUrl: httpUrl(0) } as Said;
    // The token was made when the second one was known.
    const { token } = await api<{ token: string }>(leader, "tokens", {});
    const agent = await startAgentProcess({
      parameters: [
        "--data",
        join(folder, "agent"),
        "--engine",
        "cpu",
        "--listen",
        "127.0.0.1:0",
        "--gateway",
        "127.0.0.1:0",
      ],
      logPath: join(folder, "agent.log"),
      env: { ...process.env, RINGFOLD_JOIN: token, RINGFOLD_HOME: folder },
      signal: AbortSignal.timeout(120_000),
    });
    onTestFinished(() => agent.kill());
    const agentIsBack = async () => {
      for (let waited = 0; waited < 60_000; waited += 50) {
        const { peers } = await api<ClusterView>(leader, "cluster");
        if (peers.some(({ state }) => state === "alive")) return;
        await delay(50);
      }
      throw new Error("the agent did not come back");
    };
    await agentIsBack();

    const acknowledged: string[] = [];
    const job = { ...smallJob(), workers: { min: 9, max: 9 } };
    const submit = async (key?: string) => {
      const { id } = await api<{ id: string }>(leader, "jobs", job, key);
      acknowledged.push(id);
    };
    const figures: Record<string, { leaderMs: number; agentMs: number }> = {};
    const takeover = async (what: string, strike: () => void) => {
      for (let i = 0; i < 5; i++) await submit(`${what} ${i}`);
      const next = coordinators[1 - leading]!;
      const startedMs = performance.now();
      strike();
      leader = await next.says("ready");
      const leaderMs = Math.round(performance.now() - startedMs);
      leading = 1 - leading;
      // Sent again to the new leader, as by somebody whom the answer did not reach.
      expect(await api(leader, "jobs", job, `${what} 4`)).toMatchObject({ id: acknowledged.at(-1) });
      await submit();
      await agentIsBack();
      figures[what] = { leaderMs, agentMs: Math.round(performance.now() - startedMs) };
    };
    await takeover("killed", () => first.signal("SIGKILL"));
    coordinators[0] = start(0);
    await coordinators[0].says("standby");
    await takeover("stopped", () => second.signal("SIGSTOP"));
    second.signal("SIGCONT");
    await second.says("standby");
    await etcd.kill(0);
    await submit();
    await takeover("asked to end", () => coordinators[0]!.signal("SIGTERM"));

    console.log(JSON.stringify(figures));
    const { jobs } = await api<ClusterView>(leader, "cluster");
    expect(jobs.map(({ id }) => id)).toHaveLength(acknowledged.length);
    expect(new Set(jobs.map(({ id }) => id))).toEqual(new Set(acknowledged));
    const { items: entries } = await api<{ items: AuditEntry[] }>(leader, "audit?limit=1000");
    expect(entries.map(({ sequence }) => sequence)).toEqual(entries.map((_, i) => i + 1));
    const started = entries.filter(({ event }) => event.kind === "coordinator-started");
    expect(started.map(({ term }) => term)).toEqual([1, 2, 3, 4]);
    for (const { leaderMs } of Object.values(figures)) expect(leaderMs).toBeLessThan(leaderMaxMs);
  });
});
