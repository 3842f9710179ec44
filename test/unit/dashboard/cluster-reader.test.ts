import { expect, it } from "vitest";
import { clusterReader } from "../../../dashboard/cluster-reader.ts";
import type { ClusterView } from "../../../protocol/messages/api.ts";
import { clusterView, jobView, peerView, progress, versionView } from "../cli/views.ts";

const cluster = (changes: Partial<ClusterView>) => ({
  kind: "cluster" as const,
  data: JSON.stringify(clusterView(changes)),
});
const change = (value: object) => ({
  kind: "change" as const,
  data: JSON.stringify({ nowMs: 7, events: [], ...value }),
});

it("goes on from everything by what has changed, and keeps what has not", () => {
  const read = clusterReader();
  const before = read(cluster({ peers: [peerView()], jobs: [jobView()], versions: [versionView] }))!;
  const [second, third] = [2, 3].map((version) => ({ ...versionView, version }));
  const after = read(
    change({
      jobs: { put: [jobView({ state: "running", progress: progress(3) })], removed: [] },
      versions: { put: [third, second], removed: ["digits@1"] },
      events: [{ sequence: 9, atMs: 1, subject: "job-1 digits", message: "runs" }],
    }),
  )!;
  expect(after.nowMs).toBe(7);
  expect(after.jobs).toMatchObject([{ id: "job-1", state: "running" }]);
  expect(after.versions.map(({ version }) => version)).toEqual([3, 2]);
  expect(after.events.at(-1)).toMatchObject({ sequence: 9 });
  expect(after.peers).toBe(before.peers);
  expect(before.versions).toHaveLength(1);
});

it("shows a job that has diverged, whose numbers JSON does not have", () => {
  const read = clusterReader();
  read(cluster({ jobs: [jobView()] }));
  const diverged = jobView({ state: "running", progress: { ...progress(3), loss: Number.NaN } });
  expect(read(change({ jobs: { put: [diverged], removed: [] } }))!.jobs[0]!.progress!.loss).toBeNull();
});

it("understands no change before everything has come, nor after one that it did not understand", () => {
  const read = clusterReader();
  expect(read(change({}))).toBeUndefined();
  expect(read(cluster({}))).toBeDefined();
  expect(read(change({ jobs: { put: [{ id: 7 }], removed: [] } }))).toBeUndefined();
  expect(read(change({}))).toBeUndefined();
  expect(read(cluster({}))).toBeDefined();
});
