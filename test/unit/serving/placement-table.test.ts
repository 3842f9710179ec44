import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { diffShards, missingShards, PlacementTable } from "../../../agent/serving/placement-table.ts";
import { manifestOf, placementOf } from "../../fixtures/serving.ts";

const manifest = manifestOf([8, 8, 3]);
const placement = (version = 1, replicas = [["a", "b"], ["c"]]) =>
  placementOf({ manifest, cuts: [2, 3], replicas, version });

describe("PlacementTable", () => {
  test("finds the live version, by name or by both", () => {
    const table = new PlacementTable();
    expect(table.known).toBe(false);
    table.apply({ term: 0, revision: 0, placements: [placement(3)] });
    expect(table.known).toBe(true);
    expect(table.find("digits")?.version).toBe(3);
    expect(table.find("digits", 3)?.version).toBe(3);
    expect(table.find("digits", 2)).toBeUndefined();
    expect(table.find("letters")).toBeUndefined();
  });

  test("only newer tables count, and a deposed coordinator is refused", () => {
    const table = new PlacementTable();
    expect(table.apply({ term: 2, revision: 5, placements: [placement(5)] })).toBe(true);
    expect(table.apply({ term: 2, revision: 5, placements: [placement(6)] })).toBe(false);
    expect(table.apply({ term: 2, revision: 4, placements: [] })).toBe(false);
    expect(() => table.apply({ term: 1, revision: 9, placements: [] })).toThrowError(
      expect.objectContaining({ code: "STALE_TERM" }),
    );
    expect(table.find("digits")?.version).toBe(5);
    expect(table.apply({ term: 3, revision: 1, placements: [] })).toBe(true);
    expect(table.live()).toEqual([]);
  });

  test("ends with the newest of one coordinator's tables in whatever order they come", () => {
    const revisions = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 });
    fc.assert(
      fc.property(revisions, (order) => {
        const table = new PlacementTable();
        for (const revision of order) table.apply({ term: 1, revision, placements: [placement(revision)] });
        expect(table.find("digits")?.version).toBe(Math.max(...order));
      }),
    );
  });

  test("sorts shards by index", () => {
    const table = new PlacementTable();
    const shuffled = { ...placement(), shards: placement().shards.toReversed() };
    table.apply({ term: 1, revision: 1, placements: [shuffled] });
    expect(table.find("digits")?.shards.map(({ shardIndex }) => shardIndex)).toEqual([0, 1]);
  });

  test.each([
    ["a gap", [1, 3], [2, 3]],
    ["an overlap", [0, 2], [1, 3]],
    ["layers left over", [0, 1], [1, 2]],
    ["more layers than there are", [0, 2], [2, 4]],
  ])("refuses %s, and keeps what it had", (_, first, second) => {
    const table = new PlacementTable();
    table.apply({ term: 1, revision: 1, placements: [placement()] });
    const shards = [first, second].map(([fromLayer = 0, toLayer = 0], shardIndex) => ({
      shardIndex,
      fromLayer,
      toLayer,
      replicas: [],
    }));
    expect(() =>
      table.apply({ term: 1, revision: 2, placements: [{ ...placement(2), shards }] }),
    ).toThrowError(expect.objectContaining({ code: "MESSAGE_INVALID" }));
    expect(table.find("digits")?.version).toBe(1);
  });

  test("knows which shards a peer should hold", () => {
    const table = new PlacementTable();
    table.apply({ term: 1, revision: 1, placements: [placement(1, [["a"], ["a", "c"]])] });
    expect(table.assignedTo("a").map(({ key }) => key)).toEqual(["digits@1#1/0", "digits@1#1/1"]);
    expect(table.assignedTo("c").map(({ key }) => key)).toEqual(["digits@1#1/1"]);
    expect(table.assignedTo("b")).toEqual([]);
  });
});

test("diffShards loads what is new and unloads what is gone", () => {
  const table = new PlacementTable();
  table.apply({ term: 1, revision: 1, placements: [placement(2, [["a"], ["a"]])] });
  const { load, unload } = diffShards(table.assignedTo("a"), ["digits@2#2/0", "digits@1#1/0"]);
  expect(load.map(({ key }) => key)).toEqual(["digits@2#2/1"]);
  expect(unload).toEqual(["digits@1#1/0"]);
});

test("missingShards names the shards without a ready replica", () => {
  expect(missingShards(placement())).toEqual([]);
  expect(missingShards(placement(1, [["a"], []]))).toEqual([1]);
  const waiting = placementOf({ manifest, cuts: [2, 3], replicas: [["a"], ["b"]], ready: false });
  expect(missingShards(waiting)).toEqual([0, 1]);
});
