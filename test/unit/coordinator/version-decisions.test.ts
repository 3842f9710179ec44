import fc from "fast-check";
import { expect, test } from "vitest";
import { decideAlias } from "../../../coordinator/decide/alias.ts";
import { assertRemovable } from "../../../coordinator/decide/references.ts";
import { decideRetention } from "../../../coordinator/decide/retention.ts";
import { diffVersions } from "../../../coordinator/decide/version-diff.ts";
import { versionManifestSchema } from "../../../protocol/messages/model.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { manifest as shownManifest } from "../cli/views.ts";

const manifest = versionManifestSchema.parse(shownManifest);
const champion = { name: "digits", alias: "champion", version: 2, movedAtMs: 1 };
const request = { name: "digits", alias: "champion", version: 3 };

test.each([
  ["whatever it points to", champion, {}],
  ["from where it is", champion, { from: 2 }],
  ["where there is none yet", undefined, { from: null }],
])("an alias moves: %s", (_, known, from) => {
  const { record } = decideAlias(known, { ...request, ...from }, 7);
  expect(record).toEqual({ ...request, movedAtMs: 7 });
});

test.each([
  ["elsewhere", champion, { from: 1 }, "points to digits@2"],
  ["already there", champion, { from: null }, "points to digits@2"],
  ["not there", undefined, { from: 2 }, "does not exist"],
])("an alias stays: it is %s", (_, known, from, message) => {
  expect(() => decideAlias(known, { ...request, ...from }, 7)).toThrowError(
    expect.objectContaining({ code: "CONFLICT", message: expect.stringContaining(message) }),
  );
});

test("of any who move an alias at once from where they saw it, one succeeds", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (targets) => {
      let known = { ...champion };
      const moved = targets.filter((version) => {
        try {
          known = decideAlias(known, { ...request, version, from: 2 }, 7).record;
          return version !== 2;
        } catch {
          return false;
        }
      });
      expect(moved.length).toBeLessThanOrEqual(1);
    }),
  );
});

test("property: retention never takes what something needs, what is among the newest, or what is young; and all else", () => {
  const dayMs = 24 * 3_600_000;
  const nowMs = 1_000 * dayMs;
  const version = fc.record({ ageMs: fc.nat(40 * dayMs), isNeeded: fc.boolean() });
  fc.assert(
    fc.property(
      fc.array(version, { maxLength: 40 }),
      fc.nat(45),
      fc.option(fc.integer({ min: 1, max: 45 })),
      (all, keepLast, keepForDays) => {
        const present = all.map(({ ageMs }, i) => ({ version: 2 * i + 1, createdAtMs: nowMs - ageMs }));
        const needed = present.filter((_, i) => all[i]!.isNeeded).map((each) => each.version);
        const references = new Map(needed.map((each) => [each, "it is served"] as const));
        const { removed, kept } = decideRetention(present, { keepLast, keepForDays }, references, nowMs);
        const stays = present.filter(
          (each, i) =>
            references.has(each.version) ||
            i >= present.length - keepLast ||
            (keepForDays !== null && nowMs - each.createdAtMs < keepForDays * dayMs),
        );
        expect(removed).toEqual(present.filter((each) => !stays.includes(each)).map((each) => each.version));
        expect(kept.length).toBe(Math.max(0, present.length - keepLast) - removed.length);
        for (const each of kept) expect(each.reason === "it is served").toBe(references.has(each.version));
      },
    ),
  );
});

test("what is needed says why it stays", () => {
  const references = new Map([[2, "champion points to it"]]);
  expect(() => assertRemovable({ name: "digits", version: 2 }, references, "wait")).toThrowError(
    /stays: champion points to it/,
  );
  assertRemovable({ name: "digits", version: 1 }, references, "wait");
});

test("two versions differ where they differ, key by key", () => {
  const before = { manifest, job: exampleSpec({ batchSize: 64 }) };
  const after = {
    manifest: { ...manifest, metrics: { ...manifest.metrics, accuracy: 0.99 } },
    job: exampleSpec({ batchSize: 128 }),
  };
  expect(diffVersions(before, before)).toEqual([]);
  expect(diffVersions(before, after)).toEqual([
    { part: "job", path: "batchSize", before: 64, after: 128 },
    { part: "metrics", path: "accuracy", before: manifest.metrics.accuracy, after: 0.99 },
  ]);
});

test("a job that is not known any more is no difference but its absence", () => {
  const known = { manifest, job: exampleSpec() };
  const differences = diffVersions({ manifest, job: undefined }, known);
  expect(differences.every(({ part, before }) => part === "job" && before === undefined)).toBe(true);
});
