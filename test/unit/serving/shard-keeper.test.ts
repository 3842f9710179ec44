import { describe, expect, test } from "vitest";
import type { ShardToLoad } from "../../../agent/serving/host/shard-host.ts";
import { PlacementTable } from "../../../agent/serving/placement-table.ts";
import { ShardKeeper } from "../../../agent/serving/shard-keeper.ts";
import { shardKey } from "../../../agent/serving/shard-key.ts";
import { attest, canonicalDigest } from "../../../protocol/attestation.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { inferShard, placeShards, type ShardReport } from "../../../protocol/messages/serving.ts";
import { versionStatement } from "../../../protocol/provenance.ts";
import { registrationStatement } from "../../../protocol/registration.ts";
import { identity } from "../../fixtures/identities.ts";
import { manifestOf, placementOf } from "../../fixtures/serving.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock, settle } from "../../simulation/fake-clock.ts";
import { MemoryCluster, memoryPeerId } from "../../simulation/memory-network.ts";

const [self, coordinator, stranger] = [0, 1, 2].map(memoryPeerId) as [string, string, string];
const manifest = manifestOf([4, 4, 4]);
const authority = await identity(9);
const place = (version: number, cuts = [1, 3]) =>
  placementOf({ manifest, cuts, replicas: cuts.map(() => [self]), version, ready: false });

/** A host that loads at once, or fails as `loadErrors` say, first come first served. */
class RecordingHost {
  readonly shards = new Map<string, ShardToLoad>();
  readonly loadErrors: RingfoldError[] = [];
  lose: (key: string, error: RingfoldError) => void = () => undefined;

  async load(shard: ShardToLoad): Promise<void> {
    const error = this.loadErrors.shift();
    if (error !== undefined) throw error;
    this.shards.set(shardKey(shard), shard);
  }
  async unload(key: string): Promise<void> {
    this.shards.delete(key);
  }
  has(key: string): boolean {
    return this.shards.has(key);
  }
  async infer(key: string): Promise<never> {
    throw new RingfoldError("NOT_FOUND", `shard ${key} is not loaded here`);
  }
  onLost(listener: (key: string, error: RingfoldError) => void): void {
    this.lose = listener;
  }
}

function openKeeper(options: { reportsRefused?: number; fetchesRefused?: number } = {}) {
  const clock = new FakeClock();
  const cluster = new MemoryCluster(clock);
  const network = cluster.open(self);
  const host = new RecordingHost();
  const fetched: string[] = [];
  const reports: string[] = [];
  let { reportsRefused = 0, fetchesRefused = 0 } = options;
  const keeper = new ShardKeeper({
    network,
    host,
    table: new PlacementTable(),
    fetchArtefact: async (digest) => {
      fetched.push(digest);
      if (fetchesRefused-- > 0) throw new RingfoldError("ARTEFACT_MISSING", "nobody has it");
      return new Uint8Array(8);
    },
    report: async ({ deployment, name, version, shardIndex, state }: ShardReport) => {
      if (reportsRefused-- > 0) throw new RingfoldError("COORDINATOR_UNREACHABLE", "no coordinator");
      reports.push(`${name}@${version}#${deployment}/${shardIndex} ${state}`);
    },
    isCoordinator: (peerId) => peerId === coordinator,
    authority: authority.peerId,
    clock,
    log: silentLog,
  });
  const send = async (revision: number, ...placements: ReturnType<typeof place>[]) => {
    keeper.apply({ term: 1, revision, placements });
    await settle();
  };
  return { clock, cluster, host, keeper, fetched, reports, send };
}

describe("ShardKeeper", () => {
  test("loads what is placed here with one fetch a version, and reports each shard", async () => {
    const { send, host, fetched, reports } = openKeeper();
    await send(1, place(1));
    expect([...host.shards.values()].map(({ fromLayer, toLayer }) => [fromLayer, toLayer])).toEqual([
      [0, 1],
      [1, 3],
    ]);
    expect(fetched).toEqual([manifest.weights.digest]);
    expect(reports).toEqual(["digits@1#1/0 ready", "digits@1#1/1 ready"]);
  });

  test("unloads a replaced version only after requests on their way have passed", async () => {
    const { send, host, clock } = openKeeper();
    await send(1, place(1));
    await send(2, place(2));
    await clock.advance(limits.predictTimeoutMs - 1);
    expect([...host.shards.keys()]).toEqual(["digits@1#1/0", "digits@1#1/1", "digits@2#2/0", "digits@2#2/1"]);
    await clock.advance(1);
    expect([...host.shards.keys()]).toEqual(["digits@2#2/0", "digits@2#2/1"]);
  });

  test("keeps a shard that is placed here again before it has left", async () => {
    const { send, host, clock } = openKeeper();
    await send(1, place(1));
    await send(2);
    await send(3, place(1));
    await clock.advance(limits.predictTimeoutMs);
    expect([...host.shards.keys()]).toEqual(["digits@1#1/0", "digits@1#1/1"]);
  });

  test("another cut of the same version is another deployment, loaded beside the first", async () => {
    const { send, host } = openKeeper();
    const [first, second] = [place(1, [1, 3]), { ...place(1, [2, 3]), deployment: 2, live: false }];
    await send(1, first, second);
    expect(host.shards.get("digits@1#1/0")).toMatchObject({ fromLayer: 0, toLayer: 1 });
    expect(host.shards.get("digits@1#2/0")).toMatchObject({ fromLayer: 0, toLayer: 2 });
  });

  test("reports what could not be loaded, and tries again by itself", async () => {
    const { send, clock, reports } = openKeeper({ fetchesRefused: 1 });
    await send(1, place(1, [3]));
    expect(reports).toEqual(["digits@1#1/0 failed"]);
    await clock.advance(1_000);
    expect(reports).toEqual(["digits@1#1/0 failed", "digits@1#1/0 ready"]);
  });

  test("loads nothing of a version whose manifest is not what its makers have signed", async () => {
    const { send, host, reports, fetched } = openKeeper();
    const signer = await identity(1);
    const lineage = { ...manifest.lineage, peers: [signer.peerId] };
    const signed = { ...manifest, lineage };
    const asked = { generation: 1, configuration: "c".repeat(64) };
    const attestation = await attest(versionStatement(signed, asked), signer);
    const altered = { ...signed, weights: { ...manifest.weights, digest: "9".repeat(64) } };
    await send(1, { ...place(1, [3]), manifest: altered, attestation });
    expect(reports).toEqual(["digits@1#1/0 failed"]);
    expect([host.shards.size, fetched]).toEqual([0, []]);
    await send(2, { ...place(2, [3]), manifest: signed, attestation });
    expect(reports.at(-1)).toBe("digits@2#2/0 ready");
  });

  test("loads nothing of a version that the cluster's authority has not registered so", async () => {
    const { send, host, reports, fetched } = openKeeper();
    const registered = async (version: number, by = authority) => {
      const numbered = { version, digest: canonicalDigest(manifest), manifest };
      return attest(registrationStatement(numbered, { cluster: "lab", registeredAtMs: 1 }), by);
    };
    const wrong = [
      { ...place(1, [3]), registration: await registered(2) },
      { ...place(2, [3]), registration: await registered(2, await identity(1)) },
      { ...place(3, [3]), registration: await registered(3), manifest: { ...manifest, createdAtMs: 9 } },
    ];
    for (const [i, placement] of wrong.entries()) await send(i + 1, placement);
    expect(reports).toEqual(["digits@1#1/0 failed", "digits@2#2/0 failed", "digits@3#3/0 failed"]);
    expect([host.shards.size, fetched]).toEqual([0, []]);
    await send(4, { ...place(4, [3]), registration: await registered(4) });
    expect(reports.at(-1)).toBe("digits@4#4/0 ready");
  });

  test("reports a shard that the host gave up, and tries again", async () => {
    const { send, host, clock, reports } = openKeeper();
    await send(1, place(1, [3]));
    host.lose("digits@1#1/0", new RingfoldError("ENGINE_UNAVAILABLE", "it died six times"));
    await clock.advance(1_000);
    expect(reports).toEqual(["digits@1#1/0 ready", "digits@1#1/0 failed", "digits@1#1/0 ready"]);
  });

  test("repeats a report until the coordinator takes it", async () => {
    const { send, clock, reports } = openKeeper({ reportsRefused: 3 });
    await send(1, place(1, [3]));
    await clock.advance(499);
    expect(reports).toEqual([]);
    await clock.advance(60_000);
    expect(reports).toEqual(["digits@1#1/0 ready"]);
  });

  test("reports again when a table forgets that a shard is ready", async () => {
    const { send, reports } = openKeeper();
    await send(1, place(1, [3]));
    await send(2, place(1, [3]));
    expect(reports).toEqual(["digits@1#1/0 ready", "digits@1#1/0 ready"]);
  });

  test("takes tables from a coordinator only", async () => {
    const { cluster, host } = openKeeper();
    const message = { term: 1, revision: 1, placements: [place(1)] };
    await expect(cluster.open(stranger).request(self, placeShards, message)).rejects.toMatchObject({
      code: "NOT_A_MEMBER",
    });
    await cluster.open(coordinator).request(self, placeShards, message);
    await settle();
    expect(host.shards.size).toBe(2);
  });

  test("answers hops to shards that it does not have with NOT_FOUND", async () => {
    const { cluster } = openKeeper();
    const input = { shape: [1], data: new Uint8Array(4) };
    await expect(
      cluster
        .open(stranger)
        .request(self, inferShard, { deployment: 1, name: "digits", version: 1, shardIndex: 0, input }),
    ).rejects.toMatchObject({ code: "NOT_FOUND" });
  });

  test("leaves no timer behind", async () => {
    const { send, keeper, clock } = openKeeper({ reportsRefused: 9, fetchesRefused: 1 });
    await send(1, place(1));
    await send(2, place(2));
    keeper.close();
    expect(clock.pendingTimers).toBe(0);
  });
});
