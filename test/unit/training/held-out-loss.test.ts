import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, onTestFinished, test } from "vitest";
import { openArtefactStore } from "../../../agent/artefact/store.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { EvaluationResult } from "../../../agent/engine/port.ts";
import { digestState } from "../../../agent/training/healing/digest-state.ts";
import { LocalRingHost } from "../../../agent/training/ring-host/local-ring-host.ts";
import { assembleSession } from "../../../agent/training/trainer-session.ts";
import { type JobReport, jobReportSchema } from "../../../protocol/messages/job-report.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { openDataPeers } from "../../fixtures/data-planes.ts";
import { examplePlan, exampleSpec } from "../../fixtures/messages.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { tinyData } from "../../fixtures/trainers.ts";

/** A whole job of one rank, whose held-out set comes to this; what it reports, to the last word. */
async function reportsOf(changed: Partial<EvaluationResult>): Promise<JobReport[]> {
  const engine = await openEngine({ prefer: "cpu" });
  const folder = await mkdtemp(join(tmpdir(), "ringfold-held-out-"));
  const [{ peerId, plane }] = (await openDataPeers(1, "plaintext")) as [
    Awaited<ReturnType<typeof openDataPeers>>[0],
  ];
  const spec = exampleSpec({
    batchSize: 8,
    epochs: 1,
    evaluation: { everySteps: 2, metric: "loss", minDelta: 0 },
  });
  const data = tinyData(32, 5);
  const model = engine.openModel({ architecture: "mlp", hidden: [4] }, { ...data.shape, seed: 1 });
  const reports: JobReport[] = [];
  const lastWord = Promise.withResolvers<void>();
  const nowMs = () => performance.now();
  const { session, trainer } = await assembleSession({
    ...{
      setup: { jobId: "job-1", spec, peerId, host: "127.0.0.1" },
      data,
      engineName: "cpu",
      log: silentLog,
    },
    ...{ clock: systemClock, nowMs, nextTurn: () => nextTurn(), store: openArtefactStore(folder) },
    host: new LocalRingHost({ ...{ peerId, plane, digestState, clock: systemClock, nowMs } }),
    model: { ...model, evaluate: async (batch) => ({ ...(await model.evaluate(batch)), ...changed }) },
    fetchArtefact: () => Promise.reject(new Error("nothing is fetched")),
    closeModel: () => engine.close(),
    send: (report) => {
      reports.push(report);
      if (["finished", "failed", "ended"].includes(report.kind)) lastWord.resolve();
    },
  });
  onTestFinished(async () => {
    await session.close();
    await rm(folder, { recursive: true });
  });
  const { rank, heals, statePort } = examplePlan.ranks[0]!;
  const ranks = [{ rank, heals, statePort, peerId, host: "127.0.0.1", port: plane.port }];
  session.start({ ...examplePlan, ranks, source: peerId, start: trainer.point(), transport: "plaintext" });
  await lastWord.promise;
  return reports;
}

/** A report that cannot be sent is tried for ever, and none behind it is heard. */
const expectSendable = (reports: readonly JobReport[]) => {
  for (const report of reports) expect(jobReportSchema.safeParse(report).error?.issues).toBeUndefined();
};

test.each([Number.NaN, Number.POSITIVE_INFINITY])(
  "a held-out loss of %f ends the job by name",
  async (lossSum) => {
    const reports = await reportsOf({ lossSum });
    expectSendable(reports);
    expect(reports.some(({ kind }) => kind === "evaluated")).toBe(false);
    expect(reports.at(-1)).toMatchObject({ kind: "failed", code: "NOT_FINITE", fatal: true });
  },
);

test("a large one is told like any other", async () => {
  const reports = await reportsOf({ lossSum: 1e30 });
  expectSendable(reports);
  expect(reports.at(-1)).toMatchObject({ kind: "finished", evaluation: { examples: 5 } });
});
