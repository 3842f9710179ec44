import { openEngine } from "../../agent/engine/engine.ts";
import type { Engine } from "../../agent/engine/port.ts";
import { toRingfoldError } from "../../protocol/errors.ts";
import { openTorch } from "./engine-torch.ts";
import { type BenchModel, openStepper } from "./engine-workload.ts";

export type BenchEngine = Engine["name"] | "torch";

export interface EngineSuiteOptions {
  readonly engines: readonly BenchEngine[];
  readonly models: readonly BenchModel[];
  readonly batches: readonly number[];
  readonly rounds: number;
  /** Ends the suite between two measurements. */
  readonly signal: AbortSignal;
  /** Tells a person what goes on. */
  readonly note: (line: string) => void;
}

export interface EngineRow {
  readonly engine: BenchEngine;
  readonly model: BenchModel;
  readonly batch: number;
  /** Median over the rounds. */
  readonly samplesPerSecond: number;
  /** Median over the rounds of our rate over PyTorch's of the same round; null where it did not run. */
  readonly ratioToTorch: number | null;
}

/** An engine that takes part. */
export interface EngineContender {
  readonly engine: BenchEngine;
  /** Steps of training for so long; samples a second. The first call with a model and a batch makes the model. */
  measure(model: BenchModel, batch: number, milliseconds: number): Promise<number>;
  close(): Promise<void>;
}

const roundMs = 300;
/** The cpu engine is a reference: 1,000 times slower, so one step of a small batch tells enough. */
const cpuBatchMax = 16;

/** Measures every engine in turn, round after round, so that a busy neighbour slows all of them alike. */
export async function measureEngines(options: EngineSuiteOptions): Promise<EngineRow[]> {
  const { models, batches, signal, note } = options;
  const contenders = await openContenders(options);
  const rows: EngineRow[] = [];
  try {
    for (const model of models) {
      for (const batch of batches) {
        const able = contenders.filter(({ engine }) => isSensible(engine, model, batch));
        const speeds = await interleave(able, { model, batch, rounds: options.rounds, signal });
        rows.push(...rowsOf(speeds, model, batch));
        note(`${model}, batch ${batch}: done`);
      }
    }
  } finally {
    for (const contender of contenders) await contender.close();
  }
  return rows;
}

const isSensible = (engine: BenchEngine, model: BenchModel, batch: number): boolean =>
  engine !== "cpu" || (batch <= cpuBatchMax && model !== "transformer");

async function interleave(
  contenders: readonly EngineContender[],
  run: {
    readonly model: BenchModel;
    readonly batch: number;
    readonly rounds: number;
    readonly signal: AbortSignal;
  },
): Promise<Map<BenchEngine, number[]>> {
  const speeds = new Map<BenchEngine, number[]>(contenders.map(({ engine }) => [engine, []]));
  // The first round is for compilers and caches.
  for (let round = 0; round <= run.rounds; round++) {
    for (const { engine, measure } of contenders) {
      run.signal.throwIfAborted();
      const speed = await measure(run.model, run.batch, roundMs);
      if (round > 0) speeds.get(engine)!.push(speed);
    }
  }
  return speeds;
}

function rowsOf(
  speeds: ReadonlyMap<BenchEngine, readonly number[]>,
  model: BenchModel,
  batch: number,
): EngineRow[] {
  const torch = speeds.get("torch");
  return [...speeds].map(([engine, own]) => ({
    engine,
    model,
    batch,
    samplesPerSecond: Math.round(median(own)),
    ratioToTorch: torch ? Number(median(own.map((speed, round) => speed / torch[round]!)).toFixed(2)) : null,
  }));
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

async function openContenders({ engines, note }: EngineSuiteOptions): Promise<EngineContender[]> {
  const contenders: EngineContender[] = [];
  for (const engine of engines) {
    const opened = await (engine === "torch" ? openTorch() : openOurs(engine));
    if (typeof opened === "string") note(opened);
    else contenders.push(opened);
  }
  return contenders;
}

/** One of our engines in this process; or why not, in a line. */
async function openOurs(name: Engine["name"]): Promise<EngineContender | string> {
  try {
    const engine = await openEngine({ prefer: name });
    let current: { key: string; stepper: Awaited<ReturnType<typeof openStepper>> } | undefined;
    return {
      engine: name,
      async measure(model, batch, milliseconds) {
        const key = `${model}/${batch}`;
        if (current?.key !== key) {
          current?.stepper.close();
          current = { key, stepper: await openStepper(engine, model, batch) };
        }
        const startMs = performance.now();
        let examples = 0;
        let elapsedMs: number;
        do {
          await current.stepper.step();
          examples += batch;
          elapsedMs = performance.now() - startMs;
        } while (elapsedMs < milliseconds);
        return (1_000 * examples) / elapsedMs;
      },
      async close() {
        engine.close();
      },
    };
  } catch (cause) {
    return `${name}: left out; ${toRingfoldError(cause).message}`;
  }
}
