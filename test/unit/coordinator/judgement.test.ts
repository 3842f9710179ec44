import { describe, expect, test } from "vitest";
import { judge } from "../../../coordinator/decide/judgement.ts";
import { rolloutBoundsSchema } from "../../../protocol/messages/rollout.ts";
import { served } from "../../fixtures/served.ts";

const bounds = rolloutBoundsSchema.parse({});
const verdict = (
  candidate: ReturnType<typeof served>,
  live: ReturnType<typeof served> | null,
  changes: Partial<typeof bounds> = {},
) => judge({ candidate, live }, { ...bounds, ...changes });

describe("errors", () => {
  test("three requests say nothing, whether they fail or not", () => {
    expect(verdict(served(3, { failed: 3 }), served(1_000)).verdict).toBe("open");
    expect(verdict(served(3), served(1_000), { minRequests: 1 }).verdict).toBe("open");
  });

  test("a version that fails always is called worse after twenty requests", () => {
    expect(verdict(served(19, { failed: 19 }), served(1_000)).verdict).toBe("open");
    expect(verdict(served(20, { failed: 20 }), served(1_000))).toEqual({
      verdict: "broken",
      reason:
        "it fails 100% of 20, the live one 0% of 1000: at least 67.7% more, 2% are allowed (NOT_FINITE 20)",
    });
  });

  test("as many errors as the live version has are no fault", () => {
    expect(verdict(served(400, { failed: 40 }), served(4_000, { failed: 400 })).verdict).toBe("open");
    expect(verdict(served(4_000, { failed: 400 }), served(8_000, { failed: 800 })).verdict).toBe("within");
  });

  test("a rate beyond what is allowed is a fault only where it is beyond chance", () => {
    expect(verdict(served(100, { failed: 5 }), served(1_000)).verdict).toBe("open");
    expect(verdict(served(1_000, { failed: 50 }), served(1_000)).verdict).toBe("broken");
  });

  test("without errors it is called as good when so many requests exclude them", () => {
    expect(verdict(served(130), served(1_000))).toMatchObject({
      verdict: "open",
      reason: expect.stringMatching(/it may be 2.04%$/),
    });
    expect(verdict(served(140), served(1_000)).verdict).toBe("within");
  });

  test("where nothing is left to compare with, it may fail as often as is allowed", () => {
    expect(verdict(served(200), null).verdict).toBe("within");
    expect(verdict(served(200, { failed: 30 }), null).verdict).toBe("broken");
  });
});

describe("times", () => {
  const fast = served(1_000, { ms: 100 });

  test("a tail beyond the ratio is called worse", () => {
    expect(verdict(served(1_000, { ms: 400 }), fast).verdict).toBe("broken");
    expect(verdict(served(1_000, { ms: 120 }), fast).verdict).toBe("within");
  });

  test("few requests do not call it worse", () => {
    expect(verdict(served(30, { ms: 400 }), served(100, { ms: 100 })).verdict).toBe("open");
  });

  test("what is slower than allowed and not beyond chance is neither", () => {
    expect(verdict(served(200, { ms: 158 }), fast).verdict).toBe("open");
  });

  test("the way to another machine is no fault of a version", () => {
    expect(verdict(served(1_000, { ms: 5 }), served(1_000, { ms: 0.5 })).verdict).toBe("within");
    expect(verdict(served(1_000, { ms: 5 }), served(1_000, { ms: 0.5 }), { latencySlackMs: 1 }).verdict).toBe(
      "broken",
    );
  });
});

test("it says what it waits for", () => {
  expect(verdict(served(0), served(10)).reason).toBe("no request has come to it");
  expect(verdict(served(60), served(1_000)).reason).toBe("60 of at least 100 requests have come to it");
  expect(verdict(served(200), served(3)).reason).toBe(
    "3 of at least 100 requests to the live version have come to compare with",
  );
});
