import { expect, test } from "vitest";
import { Apart } from "../../../coordinator/apart.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { type BenchWorker, CoordinatorBench } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

function told() {
  const lines: string[] = [];
  const tell = (level: string) => (fields: object, message: string) => {
    const { part } = fields as { part: string };
    lines.push(`${level} ${part}: ${message}`);
  };
  const log = { debug: tell("debug"), info: tell("info"), warn: tell("warn"), error: tell("error") };
  return { lines, apart: new Apart(log) };
}

test("a part that fails is told once, and again when it works", async () => {
  const { lines, apart } = told();
  const fail = async () => {
    throw new RingfoldError("NOT_FOUND", "digits@1 was removed");
  };
  for (let look = 0; look < 3; look++) await apart.run("sweep-1", fail);
  await apart.run("sweep-2", async () => {});
  await apart.run("sweep-1", async () => {});
  expect(lines).toEqual([
    "error sweep-1: A part of the look around failed; the others go on",
    "info sweep-1: A part of the look around works again",
  ]);
});

test.each(["STALE_TERM", "STORE_FAILED", "CANCELLED"] as const)("%s concerns all parts", async (code) => {
  const { lines, apart } = told();
  const fail = async () => {
    throw new RingfoldError(code, "");
  };
  await expect(apart.run("job-1", fail)).rejects.toMatchObject({ code });
  expect(lines).toEqual([]);
});

test("a job that cannot be decided holds up no other, no goodbye and no order of an operator", async () => {
  const bench = new CoordinatorBench();
  const store = openMemoryStore(bench.disk);
  let isDamaged = false;
  await bench.start({
    ...store,
    write: async (writes) => {
      if (isDamaged && writes.some(({ key }) => key === "job/job-1"))
        throw new RingfoldError("INTERNAL", "a record that cannot be written");
      await store.write(writes);
    },
  });
  const job = exampleSpec({ workers: { min: 1, max: 1, spares: 0 } });
  await bench.coordinator.submitJob(job);
  await bench.coordinator.submitJob(job);
  isDamaged = true;
  const workers = [await bench.worker(1), await bench.worker(2)];
  await bench.clock.advance(1_000);
  expect(workers.flatMap(({ told }) => told)).toEqual(["prepare job-2"]);
  await bench.coordinator.setQuota({ project: "vision", agents: 1, jobs: null });
  const [{ peerId }] = workers as [BenchWorker, BenchWorker];
  expect((await bench.coordinator.drainPeer(peerId, true, "")).peer.state).toBe("draining");
});
