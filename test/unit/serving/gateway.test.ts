import { expect, test } from "vitest";
import { createGateway } from "../../../agent/serving/gateway.ts";
import { PlacementTable } from "../../../agent/serving/placement-table.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { manifestOf, placementOf } from "../../fixtures/serving.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { settle } from "../../simulation/fake-clock.ts";

const body = JSON.stringify({
  inputs: [{ name: "input", shape: [1, 1], datatype: "FP32", data: [1] }],
});
const table = new PlacementTable();
table.apply({
  term: 1,
  revision: 1,
  placements: [placementOf({ manifest: manifestOf([1], { inputShape: [1] }), cuts: [1], replicas: [[]] })],
});
const post = (gateway: ReturnType<typeof createGateway>) =>
  Promise.resolve(
    gateway.request("/v2/models/digits/infer", {
      method: "POST",
      body,
      headers: { "content-length": String(body.length) },
    }),
  );
const output = { shape: [1, 1], data: Float32Array.of(1) };
const reply = { name: "digits", version: 1, output, hops: [] };

test("lets in a bounded number of requests, and the next ones when those are answered", async () => {
  const answered = Promise.withResolvers<typeof reply>();
  const predictor = { predict: () => answered.promise };
  const gateway = createGateway({ release: "0.1.0" }, { predictor, table, log: silentLog });
  const admitted = Array.from({ length: limits.pendingPredictMax }, () => post(gateway));
  await settle();
  const refused = await post(gateway);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([429, "1"]);
  answered.resolve(reply);
  expect((await Promise.all(admitted)).every(({ status }) => status === 200)).toBe(true);
  expect((await post(gateway)).status).toBe(200);
});

test("warns once when predictions begin to fail, and again after they went well", async () => {
  const warnings: string[] = [];
  const log = { ...silentLog, warn: (_: object, message: string) => void warnings.push(message) };
  let works = false;
  const predictor = {
    predict: async () => {
      if (!works) throw new RingfoldError("NO_REPLICA", "no ready replica of shard 0 of 1");
      return reply;
    },
  };
  const gateway = createGateway({ release: "0.1.0" }, { predictor, table, log });
  await post(gateway);
  await post(gateway);
  expect(warnings).toHaveLength(1);
  works = true;
  await post(gateway);
  works = false;
  await post(gateway);
  expect(warnings).toHaveLength(2);
});
