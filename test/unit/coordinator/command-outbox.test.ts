import { expect, test } from "vitest";
import { CommandOutbox, commandOf } from "../../../coordinator/command-outbox.ts";
import { PeerTable } from "../../../coordinator/peers.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { quiesceJob, stopJob } from "../../../protocol/messages/job.ts";
import { exampleHello } from "../../fixtures/messages.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { MemoryCluster } from "../../simulation/memory-network.ts";

const to = { peerId: exampleHello(1).peerId, jobId: "job-1" };
const quiesce = (generation: number) =>
  commandOf(quiesceJob, { term: 1, jobId: "job-1", generation }, [quiesceJob]);
const stop = commandOf(stopJob, { term: 1, jobId: "job-1", reason: "over" }, [quiesceJob, stopJob]);

/** An outbox, and an agent that writes down what it is told and answers as it is set to. */
function open() {
  const clock = new FakeClock();
  const cluster = new MemoryCluster(clock);
  const network = cluster.open(exampleHello(2).peerId);
  const agent = cluster.open(to.peerId);
  const told: string[] = [];
  const answers: RingfoldError[] = [];
  const answer = async (text: string) => {
    told.push(text);
    const error = answers.shift();
    if (error) throw error;
    return { ok: true } as const;
  };
  agent.handle(quiesceJob, ({ generation }) => answer(`quiesce ${generation}`));
  agent.handle(stopJob, () => answer("stop"));
  const peers = new PeerTable(clock);
  peers.admit(exampleHello(1), ["worker"]);
  return {
    clock,
    peers,
    told,
    answers,
    outbox: new CommandOutbox({ network, clock, log: silentLog, peers }),
  };
}

test("a command that did not arrive goes again, and the next one waits for it", async () => {
  const { clock, told, answers, outbox } = open();
  answers.push(new RingfoldError("OVERLOADED", "later"));
  outbox.push(to, quiesce(1));
  outbox.push(to, stop);
  await clock.advance(499);
  expect(told).toEqual(["quiesce 1"]);
  await clock.advance(1);
  expect(told).toEqual(["quiesce 1", "quiesce 1", "stop"]);
  expect(clock.pendingTimers).toBe(0);
});

test("a waiting command that has become pointless is not sent", async () => {
  const { clock, told, outbox } = open();
  outbox.push(to, quiesce(1)); // on its way already
  outbox.push(to, quiesce(2));
  outbox.push(to, quiesce(3));
  await clock.advance(0);
  expect(told).toEqual(["quiesce 1", "quiesce 3"]);
});

test.each(["STALE_TERM", "NOT_A_MEMBER"] as const)("a refusal with %s is final", async (code) => {
  const { clock, told, answers, outbox } = open();
  answers.push(new RingfoldError(code, "no"));
  outbox.push(to, quiesce(1));
  await clock.advance(10_000);
  expect(told).toEqual(["quiesce 1"]);
});

test("a new life of the agent is not told what the old one was", async () => {
  const { clock, peers, told, answers, outbox } = open();
  answers.push(new RingfoldError("OVERLOADED", "later"));
  outbox.push(to, quiesce(1));
  await clock.advance(0);
  peers.admit({ ...exampleHello(1), incarnation: "another" }, ["worker"]);
  await clock.advance(10_000);
  expect(told).toEqual(["quiesce 1"]);
});

test("closing leaves no timer", async () => {
  const { clock, answers, outbox } = open();
  answers.push(new RingfoldError("OVERLOADED", "later"));
  outbox.push(to, quiesce(1));
  await clock.advance(0);
  outbox.close();
  expect(clock.pendingTimers).toBe(0);
});
