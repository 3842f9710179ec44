import { describe, expect, test } from "vitest";
import { decideQueue } from "../../../coordinator/decide/queue.ts";
import {
  agentIds,
  gpuOffer,
  granted,
  queueAgent,
  queued,
  queueJob,
  reasons,
  workingJob,
} from "../../fixtures/queue-facts.ts";

describe("order", () => {
  test("higher priority first, then who was submitted first", () => {
    const jobs = [queueJob(1), queueJob(2), queueJob(3, { priority: 9 }), queueJob(10, { priority: 6 })];
    const decision = queued(jobs, 3);
    expect([...decision.grants.keys()]).toEqual(["job-3", "job-10", "job-1"]);
    expect(decision.waits.get("job-2")).toMatchObject({ position: 1 });
  });

  test("who comes and goes is asked last, who has the state first", () => {
    const agents = [queueAgent(1, { flapping: true }), queueAgent(2), queueAgent(3)];
    expect(granted(queued([queueJob(1, { gang: 2 })], agents))).toEqual({ "job-1": agentIds(2, 3) });
    const resumed = queueJob(1, { gang: 2, holders: agentIds(1), fromStep: 10 });
    expect(granted(queued([resumed], agents))).toEqual({ "job-1": agentIds(1, 2) });
  });
});

test("where every job has what it can use, no agent is looked at", () => {
  const world = {
    jobs: [workingJob(1, [1, 2]), workingJob(2, [3], { isOpen: false })],
    get agents(): never {
      throw new Error("somebody asks for agents");
    },
    ...{ known: [], quotas: new Map(), gathering: false },
  };
  expect(granted(decideQueue(world))).toEqual({});
});

describe("a gang", () => {
  test("begins whole or not at all, and what there is of it is reserved", () => {
    const busy = workingJob(1, [4, 5]);
    const agents = [1, 2, 4, 5].map((index) => queueAgent(index));
    const decision = queued([busy, queueJob(2, { gang: 3 }), queueJob(3)], agents);
    expect(granted(decision)).toEqual({});
    expect(reasons(decision)).toEqual({
      "job-2": "waits for 1 agent to become free: 2 of 3 are reserved for it",
      "job-3": "waits behind job-2 (priority 5), which has reserved 2 agents",
    });
  });

  test("one of higher priority goes past it", () => {
    const jobs = [workingJob(1, [3]), queueJob(2, { gang: 3 }), queueJob(3, { priority: 6 })];
    const decision = queued(jobs, 3);
    expect(granted(decision)).toEqual({ "job-3": agentIds(1) });
  });

  test("that is larger than the cluster reserves nothing", () => {
    const decision = queued([queueJob(1, { gang: 3 }), queueJob(2)], 2);
    expect(granted(decision)).toEqual({ "job-2": agentIds(1) });
    expect(reasons(decision)).toEqual({ "job-1": "waits for 1 more worker: 2 of 3 present" });
  });

  test("reserves even so while agents of an earlier coordinator may come back", () => {
    const decision = queued([queueJob(1, { gang: 3 }), queueJob(2)], 2, { gathering: true });
    expect(granted(decision)).toEqual({});
    expect(reasons(decision)).toMatchObject({ "job-1": "waits for 1 more worker: 2 of 3 present" });
  });

  test("that lost a member before it began is given up as soon as somebody else waits", () => {
    const torn = queueJob(1, { gang: 3, members: agentIds(1) });
    const busy = workingJob(2, [2, 3]);
    expect(queued([torn, busy], 3).returns.size).toBe(0);
    const { returns } = queued([torn, busy, queueJob(3)], 3);
    expect(Object.fromEntries(returns)).toEqual({ "job-1": { peerIds: agentIds(1), to: null } });
  });

  test("that is under way keeps its members, and is filled up before anybody begins", () => {
    const jobs = [workingJob(2, [1, 2], { gang: 4, surplus: [] }), queueJob(1, { priority: 9 })];
    const decision = queued(jobs, 3);
    expect(granted(decision)).toEqual({ "job-2": agentIds(3) });
    expect(reasons(decision)).toEqual({ "job-1": "waits for 1 agent to become free" });
  });

  test("takes what is left over when nobody needs it to begin", () => {
    const jobs = [workingJob(1, [1], { gang: 1, most: 4 }), queueJob(2, { gang: 2, most: 3 })];
    expect(granted(queued(jobs, 3))).toEqual({ "job-2": agentIds(2, 3) });
    expect(granted(queued(jobs, 6))).toEqual({ "job-2": agentIds(2, 3), "job-1": agentIds(4, 5, 6) });
  });
});

describe("what it needs", () => {
  const script = { needs: { scripts: true } } as const;

  test("a script waits for agents that allow scripts, and lets others pass that need none of them", () => {
    const agents = [queueAgent(1), queueAgent(2, { scripts: true })];
    const decision = queued([queueJob(1, { gang: 2, ...script }), queueJob(2)], agents);
    expect(granted(decision)).toEqual({ "job-2": agentIds(1) });
    expect(reasons(decision)["job-1"]).toBe(
      "waits for 1 more worker that allows scripts (`ringfold agent --allow-torch`): 1 of 2 present",
    );
  });

  test("where no agent allows scripts, it says how one does", () => {
    expect(reasons(queued([queueJob(1, script)], 2))).toEqual({
      "job-1": "waits: no agent allows scripts; their owners do with `ringfold agent --allow-torch`",
    });
  });

  test("backfill takes what the first in line cannot use, and nothing else", () => {
    const agents = [1, 2, 3].map((index) => queueAgent(index, { scripts: index !== 1 }));
    const jobs = [workingJob(1, [3]), queueJob(2, { gang: 2, ...script }), queueJob(3), queueJob(4)];
    const decision = queued(jobs, agents);
    expect(granted(decision)).toEqual({ "job-3": agentIds(1) });
    expect(reasons(decision)).toEqual({
      "job-2": "waits for 1 agent to become free: 1 of 2 is reserved for it",
      "job-4": "waits behind job-2 (priority 5), which has reserved 1 agent",
    });
  });

  const large = { needs: { scripts: false, gpuMemory: 8e9 } } as const;
  const withGpu = (...indexes: number[]) => indexes.map((index) => queueAgent(index, gpuOffer(8.5e9)));

  test("GPU memory: it waits for agents that have it, whoever else is idle", () => {
    const agents = [queueAgent(1), ...withGpu(2, 3)];
    const decision = queued([queueJob(1, { gang: 3, ...large }), queueJob(2, { gang: 2, ...large })], agents);
    expect(granted(decision)).toEqual({ "job-2": agentIds(2, 3) });
    expect(reasons(decision)).toEqual({
      "job-1": "waits for 1 more worker with 8 GB GPU memory: 2 of 3 present",
    });
  });

  test("it grows, is filled up and gets surplus back with such agents only", () => {
    const agents = [queueAgent(1), ...withGpu(2, 3, 4)];
    const grown = queued([workingJob(1, [2], { gang: 1, most: 4, ...large })], agents);
    expect(granted(grown)).toEqual({ "job-1": agentIds(3, 4) });
    const torn = queued([workingJob(1, [2], { gang: 2, surplus: [], ...large })], agents);
    expect(granted(torn)).toEqual({ "job-1": agentIds(3) });
    const elastic = workingJob(1, [2, 1], { gang: 1 });
    expect(elastic.surplus).toEqual(agentIds(1));
    const urgent = queueJob(2, { priority: 6, ...large });
    expect(queued([elastic, urgent], agents.slice(0, 2)).returns.size).toBe(0);
    const returns = queued([{ ...elastic, surplus: agentIds(2) }, urgent], agents.slice(0, 2)).returns;
    expect(Object.fromEntries(returns)).toEqual({ "job-1": { peerIds: agentIds(2), to: "job-2" } });
  });

  test("where those that have it work, it says what it waits for, and reserves no others", () => {
    const agents = [queueAgent(1), ...withGpu(2, 3)];
    const decision = queued([workingJob(1, [2]), queueJob(2, { gang: 2, ...large }), queueJob(3)], agents);
    expect(granted(decision)).toEqual({ "job-3": agentIds(1) });
    expect(reasons(decision)).toEqual({
      "job-2": "waits for 1 agent with 8 GB GPU memory to become free: 1 of 2 is reserved for it",
    });
  });

  test("where nobody ever could, it says so; one that is away may come back", () => {
    const nobody = "waits: no agent tells of any GPU memory; `ringfold doctor` on its machine says why";
    expect(reasons(queued([queueJob(1, large)], 2))).toEqual({ "job-1": nobody });
    const awaited = { "job-1": "waits for 1 more worker with 8 GB GPU memory: 0 of 1 present" };
    expect(reasons(queued([queueJob(1, large)], 2, { away: [gpuOffer(8e9)] }))).toEqual(awaited);
    expect(reasons(queued([queueJob(1, large)], 2, { gathering: true }))).toEqual(awaited);
  });

  test("a sweep is told of agents that its trials can use", () => {
    const decision = queued([], [queueAgent(1), ...withGpu(2, 3)]);
    expect(decision.free({ ...large, project: "default", priority: 5, most: 1 })).toBe(2);
  });

  test("agents on which its trainer failed too often do not count", () => {
    const decision = queued([queueJob(1, { gang: 2, barred: agentIds(1) })], 2);
    expect(reasons(decision)).toEqual({ "job-1": "waits for 1 more worker: 1 of 2 present" });
  });

  test("one that goes on waits for an agent that has its checkpoint, with a place kept for it", () => {
    const agents = [1, 2, 3].map((index) => queueAgent(index));
    const resumed = queueJob(2, { gang: 2, most: 4, holders: agentIds(3), fromStep: 10 });
    const decision = queued([workingJob(1, [3]), resumed, queueJob(3)], agents);
    expect(granted(decision)).toEqual({ "job-3": agentIds(2) });
    const gone = queued([{ ...resumed, holders: agentIds(9) }, queueJob(3)], agents);
    expect(granted(gone)).toEqual({ "job-3": agentIds(1) });
    expect(reasons(gone)).toEqual({ "job-2": "waits for a worker that holds the checkpoint of step 10" });
  });
});

describe("a quota", () => {
  const vision = { project: "vision" } as const;

  test("bounds the jobs of its project that run, and no other", () => {
    const jobs = [workingJob(1, [1], vision), queueJob(2, vision), queueJob(3)];
    const quotas = [{ ...vision, agents: null, jobs: 1 }];
    const decision = queued(jobs, 4, { quotas });
    expect(granted(decision)).toEqual({ "job-3": agentIds(2) });
    expect(reasons(decision)).toEqual({ "job-2": "waits: project vision runs 1 of 1 jobs" });
  });

  test("bounds its agents, also of a job that grows", () => {
    const quotas = [{ ...vision, agents: 3, jobs: null }];
    const grown = queued([workingJob(1, [1], { ...vision, gang: 1, most: 5 })], 6, { quotas });
    expect(granted(grown)).toEqual({ "job-1": agentIds(2, 3) });
    const decision = queued([workingJob(1, [1, 2], vision), queueJob(2, { ...vision, gang: 2 })], 6, {
      quotas,
    });
    expect(reasons(decision)).toEqual({
      "job-2": "waits: project vision has 2 of 3 agents, and it needs 2",
    });
  });

  test("what the first of a project waits for is not taken by its later ones", () => {
    const quotas = [{ ...vision, agents: 3, jobs: null }];
    const jobs = [workingJob(1, [1, 2], vision), queueJob(2, { ...vision, gang: 2 }), queueJob(3, vision)];
    const decision = queued(jobs, 6, { quotas });
    expect(granted(decision)).toEqual({});
    expect(reasons(decision)["job-3"]).toBe(
      "waits behind job-2 (priority 5) within the quota of project vision",
    );
  });

  test("that a job can never fit in stops neither its project nor others", () => {
    const quotas = [{ ...vision, agents: 2, jobs: null }];
    const jobs = [queueJob(1, { ...vision, gang: 3 }), queueJob(2, vision)];
    const decision = queued(jobs, 4, { quotas });
    expect(granted(decision)).toEqual({ "job-2": agentIds(1) });
    expect(reasons(decision)).toEqual({
      "job-1": "waits: it needs 3 agents, and project vision may have 2",
    });
  });
});

describe("surplus of lower priority", () => {
  const elastic = workingJob(1, [1, 2, 3], { gang: 1 });

  test("is given back where that lets a job begin, the last ranks first", () => {
    const decision = queued([elastic, queueJob(2, { gang: 2, priority: 6 })], 3);
    expect(Object.fromEntries(decision.returns)).toEqual({
      "job-1": { peerIds: agentIds(3, 2), to: "job-2" },
    });
    expect(reasons(decision)).toEqual({ "job-2": "waits for 2 agents that job-1 gives back" });
  });

  test("is left alone where it would not be enough, and by jobs of the same priority", () => {
    expect(queued([elastic, queueJob(2, { gang: 3, priority: 6 })], 3).returns.size).toBe(0);
    expect(queued([elastic, queueJob(2, { gang: 2 })], 3).returns.size).toBe(0);
  });

  test("that is on its way is not asked for twice", () => {
    const going = { ...elastic, surplus: agentIds(2), yielding: agentIds(3) };
    const decision = queued([going, queueJob(2, { priority: 6 })], 3);
    expect(decision.returns.size).toBe(0);
    expect(reasons(decision)).toEqual({ "job-2": "waits for 1 agent that job-1 gives back" });
  });
});

test("one more job would get what nobody of its priority has reserved, within its quota", () => {
  const jobs = [workingJob(1, [1]), queueJob(2, { gang: 3 })];
  const decision = queued(
    jobs,
    [1, 2, 3].map((index) => queueAgent(index)),
  );
  const more = { needs: { scripts: false }, project: "default", most: 1 };
  expect(decision.free({ ...more, priority: 5 })).toBe(0);
  expect(decision.free({ ...more, priority: 6 })).toBe(2);
  const quotas = [{ project: "default", agents: 4, jobs: 1 }];
  expect(queued([], 9, { quotas }).free({ ...more, priority: 5, most: 2 })).toBe(2);
  expect(queued([], 9, { quotas }).free({ ...more, priority: 5, most: 9 })).toBe(4);
});
