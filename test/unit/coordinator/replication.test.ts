import { expect, test } from "vitest";
import { decideReplicas, holdsLastCopy } from "../../../coordinator/decide/replication.ts";

const agent = (peerId: string, ...holds: string[]) => ({ peerId, holds: new Set(holds), isLeaving: false });
const leaving = (peerId: string, ...holds: string[]) => ({ ...agent(peerId, ...holds), isLeaving: true });

test("a data set with one holder goes to one more, the one with the least", () => {
  const agents = [agent("a", "d1", "d2"), agent("b", "d2"), agent("c")];
  expect(decideReplicas(["d1", "d2"], agents, 2)).toEqual(new Map([["c", ["d1"]]]));
});

test("several new data sets are spread over the agents", () => {
  const asked = decideReplicas(["d1", "d2"], [agent("a", "d1", "d2"), agent("b"), agent("c")], 2);
  expect([...asked.values()].flat().sort()).toEqual(["d1", "d2"]);
  expect(asked.size).toBe(2);
});

test("nobody is asked for what nobody has, nor for more than there are agents", () => {
  expect(decideReplicas(["d1"], [agent("a"), agent("b")], 2).size).toBe(0);
  expect(decideReplicas(["d1"], [agent("a", "d1")], 2).size).toBe(0);
});

test("as long as the agents are the same, so is the choice", () => {
  const agents = [agent("c"), agent("b"), agent("a", "d1")];
  expect(decideReplicas(["d1"], agents, 2)).toEqual(decideReplicas(["d1"], agents.toReversed(), 2));
});

test("who is on its way out gives what it holds, is no copy to count on, and is asked for nothing", () => {
  const agents = [leaving("a", "d1", "d2"), agent("b", "d2"), agent("c"), leaving("d")];
  expect(decideReplicas(["d1", "d2"], agents, 2)).toEqual(
    new Map([
      ["c", ["d1", "d2"]],
      ["b", ["d1"]],
    ]),
  );
});

test("a last copy keeps its holder until somebody who stays has it, where somebody stays", () => {
  const last = leaving("a", "d1", "other");
  expect(holdsLastCopy(last, ["d1"], [last, agent("b")])).toBe(true);
  expect(holdsLastCopy(last, ["d1"], [last, agent("b", "d1")])).toBe(false);
  expect(holdsLastCopy(last, ["d2"], [last, agent("b")])).toBe(false);
  expect(holdsLastCopy(last, ["d1"], [last])).toBe(false);
  expect(holdsLastCopy(last, ["d1"], [last, leaving("b", "d1")])).toBe(false);
  // Of two that leave with the only copies neither may go while a third is there to take it.
  expect(holdsLastCopy(last, ["d1"], [last, leaving("b", "d1"), agent("c")])).toBe(true);
});
