import fc from "fast-check";
import { expect, test } from "vitest";
import {
  type DeploymentRecord,
  decidePlacement,
  deploymentRecordSchema,
  deploymentState,
  forgetEarlierLives,
  type Host,
  newDeployment,
  recordShardReport,
} from "../../coordinator/decide/placement.ts";
import { memoryPeerId } from "../simulation/memory-network.ts";

const empty = (shardCount: number, replicaCount: number): DeploymentRecord =>
  newDeployment(
    { deployment: 1, name: "digits", version: 1, replicaCount, live: true },
    Array.from({ length: shardCount }, (_, i) => ({ fromLayer: i, toLayer: i + 1 })),
  );
const hostsOf = (indices: readonly number[], shardCount = 0): Host[] =>
  indices.map((index) => ({ peerId: memoryPeerId(index), shardCount, flapping: false }));
const replicasOf = (record: DeploymentRecord) =>
  record.shards.map(({ replicas }) => replicas.map(({ peerId }) => peerId));

const shape = fc.record({
  shardCount: fc.integer({ min: 1, max: 5 }),
  replicaCount: fc.integer({ min: 1, max: 4 }),
});
const hostSet = fc
  .uniqueArray(fc.record({ index: fc.nat(9), shardCount: fc.nat(3), flapping: fc.boolean() }), {
    selector: ({ index }) => index,
    maxLength: 8,
  })
  .map((hosts): Host[] => hosts.map(({ index, ...host }) => ({ peerId: memoryPeerId(index), ...host })));

/** A deployment and the live peers of each moment of its life. */
const life = fc.record({ shape, moments: fc.array(hostSet, { minLength: 1, maxLength: 5 }) });

function live(
  {
    shape: { shardCount, replicaCount },
    moments,
  }: { shape: { shardCount: number; replicaCount: number }; moments: Host[][] },
  check: (after: DeploymentRecord, hosts: Host[], before: DeploymentRecord) => void,
) {
  let record = empty(shardCount, replicaCount);
  for (const hosts of moments) {
    const before = record;
    record = decidePlacement(before, hosts);
    check(record, hosts, before);
  }
}

test("every shard has distinct live peers, as many as asked for or as there are", () => {
  fc.assert(
    fc.property(life, (story) => {
      live(story, (after, hosts) => {
        const alive = hosts.map(({ peerId }) => peerId);
        for (const peers of replicasOf(after)) {
          expect(new Set(peers).size).toBe(peers.length);
          expect(peers.every((peerId) => alive.includes(peerId))).toBe(true);
          expect(peers.length).toBe(Math.min(after.replicaCount, hosts.length));
        }
      });
    }),
  );
});

test("nothing moves without cause: a replica on a live peer stays, and stays ready", () => {
  fc.assert(
    fc.property(life, (story) => {
      live(story, (after, hosts, before) => {
        const alive = new Set(hosts.map(({ peerId }) => peerId));
        before.shards.forEach(({ replicas }, i) => {
          for (const replica of replicas) {
            if (alive.has(replica.peerId)) expect(after.shards[i]!.replicas).toContainEqual(replica);
          }
        });
      });
    }),
  );
});

test("the revision grows with a change and only then; a second look changes nothing", () => {
  fc.assert(
    fc.property(life, (story) => {
      live(story, (after, hosts, before) => {
        const changed = JSON.stringify(after.shards) !== JSON.stringify(before.shards);
        expect(after.revision).toBe(before.revision + Number(changed));
        expect(decidePlacement(after, hosts)).toBe(after);
        expect(deploymentRecordSchema.parse(JSON.parse(JSON.stringify(after)))).toEqual(after);
      });
    }),
  );
});

test("the record given is never changed", () => {
  fc.assert(
    fc.property(life, (story) => {
      let seen = "";
      live(story, (after, _hosts, before) => {
        if (seen) expect(JSON.stringify(before)).toBe(seen);
        seen = JSON.stringify(after);
      });
    }),
  );
});

test("on idle peers a fresh deployment is spread as evenly as can be", () => {
  fc.assert(
    fc.property(shape, fc.integer({ min: 1, max: 12 }), ({ shardCount, replicaCount }, hostCount) => {
      const hosts = hostsOf(Array.from({ length: hostCount }, (_, i) => i));
      const placed = replicasOf(decidePlacement(empty(shardCount, replicaCount), hosts)).flat();
      const counts = hosts.map(({ peerId }) => placed.filter((other) => other === peerId).length);
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
    }),
  );
});

test("a peer that hosts other deployments is taken after an idle one", () => {
  const hosts = [...hostsOf([1], 2), ...hostsOf([2])];
  expect(replicasOf(decidePlacement(empty(1, 1), hosts))).toEqual([[memoryPeerId(2)]]);
});

test("the record of a placement counts what is ready", () => {
  const report = (record: DeploymentRecord, peer: number, shardIndex: number, ready = true) =>
    recordShardReport(record, { peerId: memoryPeerId(peer), shardIndex, ready, life: "first" });
  let record = decidePlacement(empty(2, 2), hostsOf([1, 2]));
  expect(deploymentState(record)).toEqual({ state: "loading", reason: "0 of 4 replicas are ready" });
  record = report(report(record, 1, 0), 1, 1);
  expect(deploymentState(record)).toEqual({ state: "degraded", reason: "2 of 4 replicas are ready" });
  record = report(report(record, 2, 0), 2, 1);
  expect(deploymentState(record)).toEqual({ state: "ready", reason: "4 of 4 replicas are ready" });
  expect(deploymentState(report(record, 2, 1, false)).state).toBe("degraded");
  expect(deploymentState(decidePlacement(record, [])).state).toBe("unavailable");
});

test("a report about a shard that the peer does not host, or that is no news, changes nothing", () => {
  const record = decidePlacement(empty(2, 1), hostsOf([1, 2]));
  const [first] = replicasOf(record);
  const ofFirst = { peerId: first![0]!, shardIndex: 0, ready: true, life: "first" };
  expect(recordShardReport(record, { ...ofFirst, shardIndex: 1 })).toBe(record);
  expect(recordShardReport(record, { ...ofFirst, shardIndex: 9 })).toBe(record);
  expect(recordShardReport(record, { ...ofFirst, peerId: memoryPeerId(7) })).toBe(record);
  const ready = recordShardReport(record, ofFirst);
  expect(ready.revision).toBe(record.revision + 1);
  expect(recordShardReport(ready, ofFirst)).toBe(ready);
  expect(recordShardReport(ready, { ...ofFirst, life: "second" })).not.toBe(ready);
});

test("a peer that cannot load a shard makes way for another one, and is kept where there is none", () => {
  const fail = (record: DeploymentRecord, peerId: string) =>
    recordShardReport(record, { peerId, shardIndex: 0, ready: false, life: "first" });
  const hosts = hostsOf([1, 2]);
  const [first, second] = hosts.map(({ peerId }) => peerId) as [string, string];
  let record = decidePlacement(empty(1, 1), hosts);
  expect(replicasOf(record)).toEqual([[first]]);
  record = decidePlacement(fail(record, first), hosts);
  expect(replicasOf(record)).toEqual([[second]]);
  record = fail(record, second);
  expect(decidePlacement(record, hosts)).toBe(record); // nobody is left to try: it goes on trying where it is
  const restarted = decidePlacement(decidePlacement(record, []), hosts);
  expect(replicasOf(restarted)).toEqual([[first]]); // a peer that was away is given another chance
});

test("a replica is ready in the life in which it said so, and in no other", () => {
  const [first, second] = hostsOf([1, 2]).map(({ peerId }) => peerId) as [string, string];
  const ready = [first, second].reduce(
    (record, peerId) => recordShardReport(record, { peerId, shardIndex: 0, ready: true, life: "first" }),
    decidePlacement(empty(1, 2), hostsOf([1, 2])),
  );
  expect(forgetEarlierLives(ready, () => "first")).toBe(ready);
  expect(forgetEarlierLives(ready, () => undefined)).toBe(ready);
  const returned = forgetEarlierLives(ready, (peerId) => (peerId === first ? "second" : undefined));
  expect(returned.shards[0]!.replicas.filter((replica) => replica.ready).map(({ peerId }) => peerId)).toEqual(
    [second],
  );
  expect(returned.revision).toBe(ready.revision + 1);
  expect(
    recordShardReport(returned, { peerId: first, shardIndex: 0, ready: true, life: "second" }).shards,
  ).toEqual([
    expect.objectContaining({
      replicas: [
        { peerId: first, ready: true, life: "second" },
        { peerId: second, ready: true, life: "first" },
      ],
    }),
  ]);
});

test("who comes and goes gets a replica only where nobody else is", () => {
  const [steady, shaky] = hostsOf([1, 2]);
  const hosts = [
    { ...steady!, shardCount: 5 },
    { ...shaky!, flapping: true },
  ];
  expect(replicasOf(decidePlacement(empty(1, 1), hosts))).toEqual([[steady!.peerId]]);
  expect(replicasOf(decidePlacement(empty(1, 2), hosts))[0]).toHaveLength(2);
});
