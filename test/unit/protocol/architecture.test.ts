import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { conversations, topics } from "../../fixtures/messages.ts";

const architecture = readFileSync(new URL("../../../ARCHITECTURE.md", import.meta.url), "utf8");

test("the message table of ARCHITECTURE.md lists every conversation and topic, and no other", () => {
  const listed = [...architecture.matchAll(/^\| *`(\/ringfold\/[^`]+)` *\|/gm)].map(
    ([, protocol]) => protocol,
  );
  const spoken = [...conversations.map(({ protocol }) => protocol), ...topics.map(({ name }) => name)];
  expect(new Set(listed)).toEqual(new Set(spoken));
  expect(listed).toHaveLength(new Set(listed).size);
  expect(spoken).toHaveLength(new Set(spoken).size);
});
