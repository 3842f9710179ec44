import { spawn } from "node:child_process";
import { once } from "node:events";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import type { Engine } from "../../../agent/engine/port.ts";
import { openShardHost, type ShardHost, type ShardToLoad } from "../../../agent/serving/host/shard-host.ts";
import { fromWire, toWire } from "../../../agent/serving/wire-tensor.ts";
import { limits } from "../../../protocol/limits.ts";
import {
  answerWhole,
  makeVersion,
  openTestEngine,
  type TrainedVersion,
} from "../../fixtures/serving-cluster.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

const never = new AbortController().signal;
const key = "digits@1#1/0";
const input = { shape: [2, 8, 8, 1], data: Float32Array.from({ length: 128 }, (_, i) => Math.sin(i)) };
let engine: Engine;
let version: TrainedVersion;
let host: ShardHost;

beforeAll(async () => {
  engine = await openTestEngine();
  version = await makeVersion(engine);
});
afterAll(() => engine.close());
beforeEach(() => {
  host = openShardHost({ engine: "cpu" }, { log: silentLog });
});
afterEach(() => host.close());

const whole = (change: Partial<ShardToLoad> = {}): ShardToLoad => ({
  deployment: 1,
  name: "digits",
  version: 1,
  shardIndex: 0,
  manifest: version.manifest,
  fromLayer: 0,
  toLayer: version.manifest.model.layers.length,
  weights: version.weights,
  ...change,
});

test("answers as the engine does, and knows what is loaded", async () => {
  expect(host.pid()).toBeNull();
  await expect(host.infer(key, toWire(input), never)).rejects.toMatchObject({ code: "NOT_FOUND" });
  await host.load(whole(), never);
  expect(host.loaded()).toEqual([key]);
  const { output, computeMs } = await host.infer(key, toWire(input), never);
  expect(output.shape).toEqual([2, 10]);
  expect(fromWire(output).data).toEqual(await answerWhole(engine, version, input));
  expect(computeMs).toBeGreaterThan(0);
  await host.unload(key);
  expect(host.loaded()).toEqual([]);
  await expect(host.infer(key, toWire(input), never)).rejects.toMatchObject({ code: "NOT_FOUND" });
});

test("takes weights that lie inside a larger buffer", async () => {
  const pool = Buffer.alloc(version.weights.byteLength + 3);
  pool.set(version.weights, 3);
  await host.load(whole({ weights: pool.subarray(3) }), never);
  const { output } = await host.infer(key, toWire(input), never);
  expect(fromWire(output).data).toEqual(await answerWhole(engine, version, input));
});

test("loads again after a crash, and fails only what was in flight", async () => {
  await host.load(whole(), never);
  const inFlight = host.infer(key, toWire(input), never);
  const pid = host.pid()!;
  process.kill(pid, "SIGKILL");
  await expect(inFlight).rejects.toMatchObject({
    code: "ENGINE_UNAVAILABLE",
    message: "the shard host process ended (SIGKILL)",
  });
  expect(host.has(key)).toBe(false);
  // A second shard rides in the queue behind the first one's reload.
  await host.load(whole({ shardIndex: 1 }), never);
  expect(host.has(key)).toBe(true);
  expect(host.pid()).not.toBe(pid);
  const { output } = await host.infer(key, toWire(input), never);
  expect(fromWire(output).data).toEqual(await answerWhole(engine, version, input));
});

test("a load on its way does not notice a crash", async () => {
  const loading = host.load(whole(), never);
  process.kill(host.pid()!, "SIGKILL");
  await loading;
  expect(host.has(key)).toBe(true);
});

test("gives up on a process that dies again and again, says so, and starts anew when asked", async () => {
  const clock = new FakeClock();
  const patient = openShardHost({ engine: "cpu" }, { log: silentLog, clock });
  const lost: string[] = [];
  patient.onLost((lostKey, error) => lost.push(`${lostKey} ${error.code}`));
  await patient.load(whole(), never);
  for (let death = 1; death <= 6; death++) {
    expect(lost).toEqual([]);
    process.kill(patient.pid()!, "SIGKILL");
    await vi.waitFor(() => expect(patient.pid()).toBeNull());
    await clock.advance(8_000);
  }
  expect(lost).toEqual([`${key} ENGINE_UNAVAILABLE`]);
  expect(patient.pid()).toBeNull();
  await patient.load(whole(), never);
  expect(patient.has(key)).toBe(true);
  await patient.close();
});

test("the process ends when its agent is killed", async () => {
  const childUrl = new URL("../../../agent/serving/host/shard-child.ts", import.meta.url).href;
  const portsUrl = new URL("../../../protocol/ports.ts", import.meta.url).href;
  const agent = spawn(process.execPath, [
    "--input-type=module",
    "--eval",
    `const { ShardChild } = await import("${childUrl}");
     const { systemClock } = await import("${portsUrl}");
     const child = new ShardChild("cpu", systemClock);
     await child.opened;
     console.log(child.pid);`,
  ]);
  const [line] = (await once(agent.stdout, "data")) as [Buffer];
  const pid = Number(String(line));
  process.kill(pid, 0);
  agent.kill("SIGKILL");
  await vi.waitFor(() => expect(() => process.kill(pid, 0)).toThrow("ESRCH"), 5_000);
});

test("refuses weights that are not safetensors, and serves on", async () => {
  await host.load(whole({ shardIndex: 1 }), never);
  await expect(host.load(whole({ weights: new Uint8Array(100) }), never)).rejects.toMatchObject({
    code: "ARTEFACT_CORRUPT",
  });
  expect(host.loaded()).toEqual(["digits@1#1/1"]);
});

test("bounds its queue, and has room again when callers leave", async () => {
  await host.load(whole(), never);
  const callers = Array.from({ length: limits.pendingPredictMax }, () => new AbortController());
  const waiting = callers.map((caller) => host.infer(key, toWire(input), caller.signal));
  const settled = Promise.allSettled(waiting);
  await expect(host.infer(key, toWire(input), never)).rejects.toMatchObject({ code: "OVERLOADED" });
  for (const caller of callers) caller.abort();
  expect((await settled).every(({ status }) => status === "rejected")).toBe(true);
  await host.infer(key, toWire(input), never);
});

test("close ends the process and whoever waits", async () => {
  await host.load(whole(), never);
  const pid = host.pid()!;
  const waiting = expect(
    Promise.all([1, 2, 3, 4].map(() => host.infer(key, toWire(input), never))),
  ).rejects.toMatchObject({ code: expect.stringMatching("CANCELLED|ENGINE_UNAVAILABLE") });
  await host.close();
  await waiting;
  expect(() => process.kill(pid, 0)).toThrow("ESRCH");
  await expect(host.load(whole(), never)).rejects.toMatchObject({ code: "CANCELLED" });
});
