import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../agent/engine/engine.ts";
import type { Engine } from "../../agent/engine/port.ts";
import { limits } from "../../protocol/limits.ts";
import type { Cut } from "../fixtures/cables.ts";
import { type End, type StruckRank, StruckWorld } from "../fixtures/struck-ranks.ts";
import { settle } from "../simulation/fake-clock.ts";

/**
 * Every fault at every phase of a generation: real trainers, rings, healing, data planes and TLS, and a cable of its own
 * between each two ranks. The victim is struck at a segment; the others must end by themselves, blame the right one, form a
 * ring without it and have the same parameters, with no step lost.
 */

/** One of the three others is no neighbour of the victim's, and hears of it from those. */
const worldSize = 4;
/** Which hop of an operation a frame belongs to: reduce-scatter 0 to 2, all-gather 3 to 5. */
const stageOf = (frame: { readonly b: number }): number => frame.b & 0xffff;
/** 106,000 parameters: two segments in each chunk, two blocks of state. */
const hidden = 5_300;
/** Of five steps. */
const epochs = 1;
/** Operation 0 is the barrier. Whoever is in this one knows that all others have seen a step, and so how long one takes. */
const struckOperation = 3;
const struckStep = 1;

interface Fault {
  /** What becomes of the victim's links, */
  readonly cut: Cut;
  /** and of those with one neighbour, where that is something else. */
  readonly except?: { readonly rank: number; readonly cut: Cut };
  /** Whether the victim goes on by itself: its side of a partition. */
  readonly victimLives: boolean;
}
const faults: Readonly<Record<string, Fault>> = {
  "killed: its sockets close": { cut: "closed", victimLives: false },
  "reset: its sockets are reset": { cut: "reset", victimLives: false },
  "stopped: it takes and sends nothing": { cut: "stopped", victimLives: false },
  "half-open: bytes vanish": { cut: "silent", victimLives: false },
  "cut off: bytes vanish, and it lives": { cut: "silent", victimLives: true },
  // The news must run round the ring in one direction only: up, and down.
  "reset, and only the rank above hears of it": {
    ...{ cut: "stopped", except: { rank: 0, cut: "reset" }, victimLives: false },
  },
  "reset, and only the rank below hears of it": {
    ...{ cut: "stopped", except: { rank: 2, cut: "reset" }, victimLives: false },
  },
};
const isTold = (cut: Cut): boolean => cut === "closed" || cut === "reset";
/**
 * Phases in which each rank still has something to send that the one below needs. In the others a rank does not know whether
 * that one has failed or has ended the generation; when the fault is silent on its other side, the bound on a hop tells.
 */
const isNeededByAll = /^(reduce-scatter, hop [12]|between operations)$/;
/** Whether sockets that close tell all of them, and nobody has to wait for time to tell. */
const isHeard = ({ cut, except }: Fault, phase: string): boolean =>
  except ? isNeededByAll.test(phase) : isTold(cut);

const lookMs = 250;
/** Real time, loose, as the machine may be busy: survivors hear of a closed socket within milliseconds. */
const noticeMsMax = 5_000;
/** Of the survivors' ring. */
const laterGeneration = 9;
/** Of "discard", where nobody listens. */
const closedPort = 9;

let engine: Engine;
const noticedMs: number[] = [];
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => {
  engine.close();
  const sorted = noticedMs.toSorted((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * (sorted.length - 1))]?.toFixed(1);
  console.info(
    `closed sockets (${sorted.length}): last survivor ended after p50 ${at(0.5)} ms, max ${at(1)} ms`,
  );
});

/** A world in which something is under way; `struck` resolves once the victim has been. */
interface Scene {
  readonly world: StruckWorld;
  readonly victim: StruckRank;
  readonly survivors: readonly StruckRank[];
  readonly ends: readonly Promise<End>[];
  readonly struck: Promise<number>;
}
type Stage = (
  world: StruckWorld,
  victim: StruckRank,
  strike: () => void,
  fault: Fault,
) => Promise<Promise<End>[]>;

const victimOf = ({ ranks }: StruckWorld): StruckRank => ranks[1]!;

/** All ranks train; the victim is struck before it sends the second segment of one hop. */
const atHop =
  (stage: number): Stage =>
  async (world, victim, strike) => {
    victim.hooks.onSegment = (frame) => {
      if (frame.a === struckOperation && stageOf(frame) === stage && frame.c === 1) strike();
    };
    return world.begin(world.ranks, 1);
  };

/** The victim is struck when the rank below has linked with it, whether or not the rank above has heard of it. */
const atRendezvous: Stage = async (world, victim, strike) => {
  victim.hooks.onLinked = strike;
  return world.begin(world.ranks, 1);
};

/** All have applied a step, and none begins the next one before the news has gone round upwards, if it can. */
const betweenOperations: Stage = async (world, victim, strike, { cut, except }) => {
  const gate = Promise.withResolvers<void>();
  let waiting = 0;
  for (const { hooks } of world.ranks)
    hooks.onStep = async (step) => {
      if (step !== struckStep) return;
      if (++waiting === worldSize) {
        strike();
        if (isTold(except?.rank === 0 ? except.cut : cut)) await linksClosed(world, victim);
        gate.resolve();
      }
      await gate.promise;
    };
  return world.begin(world.ranks, 1);
};

/** Three ranks have trained, a fourth one heals; the victim is struck before the fourth part of a block. */
const inHealing =
  (block: number, role: "source" | "healing"): Stage =>
  async (world, victim, strike) => {
    const below = world.ranks[2]!;
    const source = role === "source" ? victim : below;
    const healing = role === "source" ? below : victim;
    const trained = world.ranks.filter((rank) => rank !== healing);
    for (const { hooks, trainer } of trained)
      hooks.onStep = (step) => {
        if (step === struckStep) trainer.requestPause();
      };
    await Promise.all(world.begin(trained, 1));
    for (const { hooks } of trained) hooks.onStep = () => {};
    source.hooks.onState = (frame) => {
      if (frame.b === block && frame.c === 3) strike();
    };
    // One source alone, so that it gives every block: nobody listens where the others are said to give their state away.
    const others = trained.filter((rank) => rank !== source);
    return world.begin(world.ranks, 2, new Map(others.map((rank) => [rank, closedPort])));
  };

const hops = Array.from({ length: worldSize - 1 }, (_, hop) => hop);
const phases: Readonly<Record<string, Stage>> = {
  rendezvous: atRendezvous,
  ...Object.fromEntries(hops.map((hop) => [`reduce-scatter, hop ${hop}`, atHop(hop)])),
  ...Object.fromEntries(hops.map((hop) => [`all-gather, hop ${hop}`, atHop(worldSize - 1 + hop)])),
  "between operations": betweenOperations,
  "healing, block 0 of a source": inHealing(0, "source"),
  "healing, block 1 of a source": inHealing(1, "source"),
  "healing, block 1 of who heals": inHealing(1, "healing"),
};

/** Each of the others has lost its link to the rank below. */
const linksClosed = (world: StruckWorld, victim: StruckRank): Promise<unknown> =>
  Promise.all(
    world.ranks
      .filter((rank) => rank !== victim)
      .map(({ below }) => below!.closed)
      .map(
        (closed) =>
          new Promise<void>((resolve) => {
            closed.addEventListener("abort", () => resolve(), { once: true });
            if (closed.aborted) resolve();
          }),
      ),
  );

async function open(stage: Stage, fault: Fault): Promise<Scene> {
  const world = await StruckWorld.open(engine, { worldSize, victim: 1, hidden, epochs });
  onTestFinished(() => world.close());
  const victim = victimOf(world);
  const struck = Promise.withResolvers<number>();
  let isStruck = false;
  const strike = () => {
    if (isStruck) return;
    isStruck = true;
    const { cut, except } = fault;
    for (const [rank, other] of world.ranks.entries())
      if (other !== victim) world.cut(victim, other, rank === except?.rank ? except.cut : cut);
    struck.resolve(performance.now());
  };
  const ends = await stage(world, victim, strike, fault);
  const survivors = world.ranks.filter((rank) => rank !== victim);
  return { world, victim, survivors, ends, struck: struck.promise };
}

/**
 * Waits for the survivors, and lets time pass for them where no socket tells of the fault, or not all of it.
 * @returns how much of it they took; 0: they have ended by what they heard
 */
async function untilEnded(
  { world, survivors, ends }: Scene,
  { isHeard, victimLives }: { readonly isHeard: boolean; readonly victimLives: boolean },
): Promise<{ readonly ended: readonly End[]; readonly passedMs: number }> {
  let isOver = false;
  let passedMs = 0;
  const own = ends.filter((_, i) => world.ranks[i] !== victimOf(world));
  // The coordinator calls the generation off for those who are still being linked, as soon as one has ended.
  const callOff = () => {
    for (const survivor of survivors) survivor.quiesce();
  };
  for (const end of own) void end.then(callOff);
  const all = Promise.all(own).finally(() => {
    isOver = true;
  });
  const patientUntilMs = performance.now() + (isHeard ? noticeMsMax : 0);
  for (let turn = 0; !isOver; turn++) {
    await settle();
    if (turn % 20 < 19 || performance.now() < patientUntilMs) continue;
    passedMs += lookMs;
    await world.clock.advance(lookMs);
    if (victimLives) await world.victimClock.advance(lookMs);
  }
  return { ended: await all, passedMs };
}

/** The side without a majority has ended by itself, and not gone on meanwhile. */
async function expectStopped({ world, victim, ends }: Scene, furthest: number): Promise<void> {
  let end: End | undefined;
  void ends[world.ranks.indexOf(victim)]!.then((its) => {
    end = its;
  });
  for (let turn = 0; !end; turn++) {
    await settle();
    if (turn % 20 === 19) await world.victimClock.advance(lookMs);
  }
  expect(end.outcome).toMatchObject({ code: expect.any(String) });
  expect(victim.trainer.point().step).toBeLessThanOrEqual(furthest + 1); // the one that was under way
}

/** They form a ring without it, begin where the most advanced of them stands, and have the same bits after each step. */
async function expectTogether({ world, survivors }: Scene, furthest: number): Promise<void> {
  const again = await Promise.all(world.begin(survivors, laterGeneration));
  expect(again.map(({ outcome }) => outcome)).toEqual(survivors.map(() => "done"));
  const [one, ...others] = survivors.map(({ trainer }) => trainer.point());
  for (const point of others) expect(point).toEqual(one);
  expect(one!.step).toBe(survivors[0]!.trainer.totalSteps);
  const hashes = new Map<number, string>();
  for (const { applied } of survivors) {
    const steps = applied.map(({ step }) => step);
    expect(steps).toEqual([...new Set(steps)].toSorted((a, b) => a - b)); // none was taken back
    for (const { step, hash } of applied) {
      expect(hashes.get(step) ?? hash).toBe(hash);
      hashes.set(step, hash);
    }
  }
  expect(hashes.has(furthest) || furthest === 0).toBe(true);
}

describe.each(Object.entries(phases))("%s", (phase, stage) => {
  test.each(Object.entries(faults))("a rank is %s", async (_, fault) => {
    const scene = await open(stage, fault);
    const { world, victim, survivors } = scene;
    const struckAtMs = await scene.struck;
    const heard = isHeard(fault, phase);
    const { ended, passedMs } = await untilEnded(scene, { ...fault, isHeard: heard });

    if (heard) {
      expect(passedMs).toBe(0);
      noticedMs.push(Math.max(...ended.map(({ atMs }) => atMs)) - struckAtMs);
      // Who ended first has it from the victim, the others from their neighbours; between operations all had heard when they went on.
      const inOrder = ended.toSorted((a, b) => a.atMs - b.atMs);
      const knowing = phase === "between operations" ? inOrder : inOrder.slice(0, 1);
      const blamed = knowing.map(({ outcome }) => typeof outcome === "object" && outcome.data.peer);
      expect(blamed).toContain(victim.peerId);
    }
    const codes = heard ? ["RING_BROKEN"] : ["RING_BROKEN", "HOP_TIMEOUT"];
    if (phase === "rendezvous") codes.push("PEER_UNREACHABLE", "REQUEST_TIMEOUT", "CANCELLED");
    for (const { outcome } of ended) expect(codes).toContain((outcome as { code?: string }).code);
    // Whose patience ends first names its own neighbour; the one below the victim, where it is that one, the victim.
    const below = ended[survivors.indexOf(world.ranks[2]!)]!.outcome;
    if (typeof below === "object" && below.code === "HOP_TIMEOUT" && phase !== "rendezvous")
      expect(below.data.peer).toBe(victim.peerId);
    // The looks at a hop are a quarter of its bound apart; a segment that was under way starts it anew.
    const boundMs = /hop|between/.test(phase) ? limits.stallMsMin : limits.firstStepTimeoutMs;
    expect(passedMs).toBeLessThanOrEqual(1.5 * boundMs + lookMs);

    const furthest = Math.max(...survivors.map(({ trainer }) => trainer.point().step));
    await expectTogether(scene, furthest);
    if (fault.victimLives) await expectStopped(scene, furthest);
  });
});
