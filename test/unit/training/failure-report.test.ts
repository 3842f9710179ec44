import { expect, test } from "vitest";
import { reportOfFailure } from "../../../agent/training/failure-report.ts";
import { StallBound } from "../../../agent/training/stall-bound.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { digestOf } from "../../fixtures/messages.ts";

const point = { step: 7, hash: digestOf("a") };
const report = (error: RingfoldError) =>
  reportOfFailure(error, {
    jobId: "job-1",
    plan: { generation: 3, ranks: [] },
    trainer: { stall: new StallBound(), point: () => point },
  });

test("an engine that runs out of memory in the middle of a job ends the job: another ring would end there, too", () => {
  const error = new RingfoldError("MODEL_TOO_LARGE", "the wasm engine has no room for another 4194.3 MB");
  expect(report(error)).toEqual({
    ...{ kind: "failed", jobId: "job-1", code: "MODEL_TOO_LARGE", message: error.message, fatal: true },
  });
});

test("what no peer has to do with is told as this rank's own fault", () => {
  expect(report(new RingfoldError("INTERNAL", "unreachable"))).toMatchObject({
    ...{ kind: "ended", fault: "INTERNAL", detail: "INTERNAL: unreachable" },
  });
  expect(report(new RingfoldError("STORE_FAILED", "the disk is full"))).toMatchObject({
    fault: "STORE_FAILED",
  });
});

test.each([
  ["RING_BROKEN", {}],
  ["HOP_TIMEOUT", { peer: "peer-2" }],
  ["CANCELLED", {}],
  ["HASH_DIVERGED", {}],
  ["OVERLOADED", {}],
  ["INTERNAL", { peer: "peer-2" }],
] as const)("%s %j is no fault of its own", (code, data) => {
  expect(report(new RingfoldError(code, "for a reason", data))).not.toHaveProperty("fault");
});

test("a broken ring ends the generation, and names whom it suspects", () => {
  const error = new RingfoldError("RING_BROKEN", "the neighbour is gone", { peer: "peer-2" });
  expect(report(error)).toMatchObject({
    kind: "ended",
    cause: "broken",
    generation: 3,
    point,
    suspect: "peer-2",
  });
});
