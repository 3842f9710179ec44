import { expect, test } from "vitest";
import { ServedEvidence } from "../../../coordinator/served-evidence.ts";
import { served } from "../../fixtures/served.ts";

const [candidate, live] = [2, 1];
const [one, other] = ["gateway 1", "gateway 2"];
const told = (requests: number, failed = 0, deployment = candidate) => ({
  deployment,
  ...served(requests, { failed }),
});

function begun() {
  const evidence = new ServedEvidence();
  evidence.begin([candidate, live]);
  return evidence;
}
const sumOf = (evidence: ServedEvidence, deployment = candidate) => {
  const { requests, errors } = evidence.of(deployment);
  return { requests, failed: errors.NOT_FINITE ?? 0 };
};

test("what gateways have answered since the window began adds up, whichever beats are lost or doubled", () => {
  const evidence = begun();
  evidence.hear(one, "a", [told(0), told(1_000, 100, live)]);
  evidence.hear(other, "a", [told(0)]);
  evidence.hear(one, "a", [told(10, 1), told(1_050, 105, live)]);
  evidence.hear(one, "a", [told(30, 2)]);
  evidence.hear(one, "a", [told(30, 2)]);
  evidence.hear(other, "a", [told(5)]);
  expect(sumOf(evidence)).toEqual({ requests: 35, failed: 2 });
  expect(sumOf(evidence, live)).toEqual({ requests: 50, failed: 5 });
});

test("a new window begins with nothing, and what was told before does not come into it", () => {
  const evidence = begun();
  evidence.hear(one, "a", [told(0)]);
  evidence.hear(one, "a", [told(40, 40)]);
  evidence.begin([candidate, live]);
  expect(sumOf(evidence)).toEqual({ requests: 0, failed: 0 });
  evidence.hear(one, "a", [told(45, 40)]);
  expect(sumOf(evidence)).toEqual({ requests: 5, failed: 0 });
});

test("a strict window begins for each gateway with its next beat", () => {
  const evidence = begun();
  evidence.hear(one, "a", [told(0)]);
  evidence.begin([candidate, live], { strict: true });
  evidence.hear(one, "a", [told(40, 40)]);
  evidence.hear(one, "a", [told(45, 40)]);
  expect(sumOf(evidence)).toEqual({ requests: 5, failed: 0 });
});

test("a gateway that begins anew counts from nothing, and what it had answered before stays", () => {
  const evidence = begun();
  evidence.hear(one, "a", [told(0)]);
  evidence.hear(one, "a", [told(40, 1)]);
  evidence.hear(one, "b", [told(7, 2)]);
  evidence.hear(one, "b", [told(9, 2)]);
  expect(sumOf(evidence)).toEqual({ requests: 49, failed: 3 });
});

test("of a gateway that a new coordinator meets, only what comes from then on counts", () => {
  const evidence = begun();
  evidence.hear(one, "a", [told(5_000, 900)]);
  expect(sumOf(evidence)).toEqual({ requests: 0, failed: 0 });
  evidence.hear(one, "a", [told(5_010, 901)]);
  expect(sumOf(evidence)).toEqual({ requests: 10, failed: 1 });
});

test("who is forgotten leaves what it has answered; deployments that nobody compares are not kept", () => {
  const evidence = begun();
  evidence.hear(one, "a", [told(0)]);
  evidence.hear(one, "a", [told(3), told(9, 0, 77)]);
  evidence.forget(one);
  expect(sumOf(evidence)).toEqual({ requests: 3, failed: 0 });
  evidence.hear(one, "a", [told(50)]);
  expect(sumOf(evidence)).toEqual({ requests: 3, failed: 0 });
  evidence.end([candidate, live]);
  expect([sumOf(evidence), sumOf(evidence, 77)]).toEqual([
    { requests: 0, failed: 0 },
    { requests: 0, failed: 0 },
  ]);
});
