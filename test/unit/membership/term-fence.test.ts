import { expect, test } from "vitest";
import { TermFence } from "../../../agent/membership/term-fence.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const coordinator = memoryPeerId(1);

test("the present term and newer ones pass; an older one never again", () => {
  const fence = new TermFence(coordinator);
  for (const term of [1, 1, 3]) fence.check(term, coordinator);
  expect(fence.term).toBe(3);
  expect(() => fence.check(2, coordinator)).toThrow(
    expect.objectContaining({ code: "STALE_TERM", data: { term: 3 } }),
  );
  fence.check(3, coordinator);
});

test("nobody but the coordinator commands, and a stranger's term changes nothing", () => {
  const fence = new TermFence(coordinator);
  expect(() => fence.check(99, memoryPeerId(2))).toThrow(expect.objectContaining({ code: "NOT_A_MEMBER" }));
  expect(fence.term).toBe(0);
});
