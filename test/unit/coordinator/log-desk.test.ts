import { expect, test } from "vitest";
import { LogDesk } from "../../../coordinator/log-desk.ts";
import { PeerTable } from "../../../coordinator/peers.ts";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import { type JobLogRequest, readJobLog } from "../../../protocol/messages/job-log.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { digestOf, exampleHello, exampleSpec } from "../../fixtures/messages.ts";
import { MemoryCluster, memoryPeerId } from "../../simulation/memory-network.ts";
import { generation, jobView } from "../cli/views.ts";

const spec = jobSpecSchema.parse({
  ...{ name: "script", engine: "torch", model: { architecture: "script" }, data: { source: "script" } },
  script: { name: "train.py", digest: digestOf("a"), source: "", args: [] },
});
const [first, second] = [1, 2].map(memoryPeerId) as [string, string];

/** Three agents that may run scripts; the text is what each has printed. */
function bench(texts: readonly string[]) {
  const cluster = new MemoryCluster();
  const network = cluster.open(memoryPeerId(0));
  const peers = new PeerTable(systemClock);
  const asked: { readonly peerId: string; readonly request: JobLogRequest }[] = [];
  for (const [i, text] of texts.entries()) {
    const index = i + 1;
    const hello = exampleHello(index);
    peers.admit({ ...hello, capabilities: { ...hello.capabilities, scripts: true } }, ["worker"]);
    cluster.open(hello.peerId).handle(readJobLog, async (request) => {
      asked.push({ peerId: hello.peerId, request });
      const start = request.after < 0 ? text.length + request.after : request.after;
      const piece = text.slice(start, start + 4);
      const next = start + piece.length;
      return { text: piece, start, next, hasMore: next < text.length, isOver: true };
    });
  }
  return { desk: new LogDesk({ network, peers, term: 3, clock: systemClock }), asked, peers };
}
const rings = [{ ...generation(1, 0, "two"), ranks: [second, first] }];

test("what all agents have printed comes piece by piece, by rank, each byte once", async () => {
  const { desk, asked } = bench(["abcdef", "gh", ""]);
  const job = jobView({ spec, state: "succeeded", generations: rings });
  const one = await desk.read(job, {});
  expect(one.pieces.map(({ name, rank, text }) => ({ name, rank, text }))).toEqual([
    { name: "worker-2", rank: 0, text: "gh" },
    { name: "worker-1", rank: 1, text: "abcd" },
  ]);
  expect(one).toMatchObject({ hasMore: true, isOver: true, unreachable: [] });
  const two = await desk.read(job, { after: one.next });
  expect(two.pieces.map(({ text }) => text)).toEqual(["ef"]);
  expect(two.hasMore).toBe(false);
  expect((await desk.read(job, { after: two.next })).pieces).toEqual([]);
  expect(asked.map(({ request }) => request.term)).toEqual(Array(9).fill(3));
});

test("of a ring that runs only the ranks are asked again, and who is gone is named", async () => {
  const { desk, asked, peers } = bench(["abcd", "efgh", ""]);
  const job = jobView({ spec, state: "running", generations: rings });
  const { next, isOver } = await desk.read(job, {});
  expect(isOver).toBe(false);
  asked.length = 0;
  peers.setConnected(second, false);
  expect(await desk.read(job, { after: next })).toMatchObject({ unreachable: ["worker-2"], pieces: [] });
  expect(asked.map(({ peerId }) => peerId)).toEqual([first]);
});

test("the end of each log is asked for by its length; a job without a script has none", async () => {
  const { desk, asked } = bench(["abcdef"]);
  const { pieces } = await desk.read(jobView({ spec, state: "failed" }), { tail: 3 });
  expect(pieces).toMatchObject([{ text: "def", rank: null, skippedBytes: 0 }]);
  expect(asked[0]!.request.after).toBe(-3);
  await expect(desk.read(jobView({ spec: exampleSpec() }), {})).rejects.toMatchObject({
    code: "REQUEST_INVALID",
    message: "job-1 brings no script, so it has no log",
  });
});
