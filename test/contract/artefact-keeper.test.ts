import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { ArtefactKeeper } from "../../agent/artefact/keeper.ts";
import { openArtefactStore } from "../../agent/artefact/store.ts";
import { TermFence } from "../../agent/membership/term-fence.ts";
import { holdArtefacts } from "../../protocol/messages/artefact.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";
import { MemoryCluster, memoryPeerId } from "../simulation/memory-network.ts";

const never = () => Promise.reject(new Error("nothing is fetched here"));

test("checkpoints go when nobody goes on from them; never what a job that trains or another name needs", async () => {
  const cluster = new MemoryCluster();
  const [coordinator, agent] = [cluster.open(memoryPeerId(1)), cluster.open(memoryPeerId(2))];
  const store = openArtefactStore(join(temporaryFolder(), "artefacts"));
  onTestFinished(() => store.close());
  const keeper = new ArtefactKeeper({
    ...{ network: agent, fence: new TermFence(coordinator.peerId), store, log: silentLog },
    ...{ fetchPart: never, fetchWhole: never, isTraining: (jobId) => jobId === "job-3" },
  });
  const put = async (content: number, ...names: string[]) => {
    const digest = await store.put(Uint8Array.of(content));
    for (const name of names) await store.setName(name, { digest, step: content });
    return digest;
  };
  const weights = await put(0);
  const staying = [
    weights,
    await put(1, "checkpoint/job-11"), // begins as the name of another one does
    await put(2, "checkpoint/job-1", "checkpoint/job-12"), // one state of two jobs
    await put(3, "checkpoint/job-3"),
  ];
  await put(4, "checkpoint/job-1/1");
  await put(5, "checkpoint/job-2/stage-0", "checkpoint/job-1/2");
  await put(6, "checkpoint/job-2/stage-1/1");
  const request = { term: 1, hold: [], keep: [], forget: [], weights: { hold: [], forget: [] } };
  const checkpoints = ["job-1", "job-2", "job-3", "job-9"];
  for (let i = 0; i < 2; i++)
    await coordinator.request(agent.peerId, holdArtefacts, { ...request, checkpoints });
  // What is asked for is done one after the other, beside the answers.
  await expect
    .poll(() => new Set(store.names().keys()))
    .toEqual(new Set(["checkpoint/job-11", "checkpoint/job-12", "checkpoint/job-3"]));
  await keeper.close();
  expect(new Set(store.list())).toEqual(new Set(staying));
});
