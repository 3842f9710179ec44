import { expect, test } from "vitest";
import { loadCredentials } from "../../../coordinator/credentials.ts";
import { collections, padded } from "../../../coordinator/state.ts";
import { VersionRegistry } from "../../../coordinator/version-registry.ts";
import { manifestOf } from "../../fixtures/serving.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

test("versions are numbered by name, immutable, and the same after a restart", async () => {
  const store = openMemoryStore();
  const registry = new VersionRegistry(store, 2);
  for (const name of ["digits", "digits", "letters"]) {
    const { record, write } = registry.prepare(manifestOf([4], { name }));
    await store.write([write]);
    registry.commit(record);
  }
  const named = (all: VersionRegistry) =>
    all.views(() => []).map(({ version, name }) => `${name}@${version}`);
  expect(named(registry)).toEqual(["digits@1", "digits@2", "letters@1"]);
  const again = new VersionRegistry(store, 2);
  expect(again.views(() => [])).toEqual(registry.views(() => []));
  expect(again.prepare(manifestOf([4])).record.version).toBe(3);
  expect(() => again.get("digits", 9)).toThrow(expect.objectContaining({ code: "NOT_FOUND" }));
});

test("a version that was prepared and never written leaves no gap", () => {
  const registry = new VersionRegistry(openMemoryStore(), 2);
  registry.prepare(manifestOf([4]));
  expect(registry.prepare(manifestOf([4])).record.version).toBe(1);
});

test("the digest of a version is of its content", () => {
  const digestOf = (widths: number[]) =>
    new VersionRegistry(openMemoryStore(), 2).prepare(manifestOf(widths)).record.digest;
  expect(digestOf([4])).toBe(digestOf([4]));
  expect(digestOf([4])).not.toBe(digestOf([5]));
});

test("numbers in keys stand in the order of numbers", () => {
  const numbers = [1, 2, 9, 10, 99, 100, 123_456_789];
  expect(numbers.map(padded).toSorted((a, b) => (a < b ? -1 : 1))).toEqual(numbers.map(padded));
});

test("the cluster's secrets are made once, and are the same at each start", async () => {
  const store = openMemoryStore();
  let made = 0;
  const load = () => loadCredentials(store, { clusterName: "lab", createSwarmKey: () => `key ${++made}` });
  const first = await load();
  expect(await load()).toEqual(first);
  expect(made).toBe(1);
  expect(first.authority.privateJwk.d).toEqual(expect.any(String));
  const other = await loadCredentials(openMemoryStore(), { clusterName: "lab", createSwarmKey: () => "key" });
  expect(other.authority.privateJwk.d).not.toBe(first.authority.privateJwk.d);
});

test("a damaged record is named when it is read", async () => {
  const store = openMemoryStore();
  await store.write([{ key: "job/job-1", value: new Uint8Array([0xc0]) }]);
  const refused = expect.objectContaining({ code: "STORE_FAILED", data: { key: "job/job-1" } });
  expect(() => collections.jobs.readAll(store)).toThrow(refused);
  expect(() => collections.jobs.read(store, "job-1")).toThrow(refused);
});
