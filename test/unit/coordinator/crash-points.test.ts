import { expect, test } from "vitest";
import { runCrashPoints } from "../../../scripts/crash-points/crash-points.ts";

/** The long form: `npm run crash-points -- --points 1000 --json` (docs/coordinator.md). */
test("killed at thirty moments, the store is whole and holds what was acknowledged", {
  timeout: 180_000,
}, async () => {
  expect(await runCrashPoints({ points: 30, seed: 7 })).toMatchObject({
    points: 30,
    lostDecisions: 0,
    damagedStores: 0,
  });
});
