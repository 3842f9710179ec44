import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { SplitContent } from "../../../protocol/messages/dataset.ts";
import { type ChunkSink, ChunkWriter, chunkExamplesOf } from "../chunk-writer.ts";
import type { PreparationWatch } from "./preparation-watch.ts";

/** Writes example `index` of the source. */
type WriteExample = (index: number, row: Float32Array, target: Float32Array) => void;

export interface WrittenSplits {
  readonly shape: ExampleShape;
  readonly chunkExamples: number;
  readonly train: SplitContent;
  readonly test: SplitContent;
  readonly bytes: number;
}

/**
 * Writes the examples of a source that can be read in any order.
 * @param load brings an example to memory before it is written
 * @throws RingfoldError DATA_INVALID when the training split is empty; whatever `load`, `write` and the sink throw
 */
export async function writeExamples(
  shape: ExampleShape,
  splits: { readonly train: Uint32Array; readonly test: Uint32Array },
  of: {
    readonly load?: (index: number) => Promise<void>;
    readonly write: WriteExample;
    /** Sees each example of the training split as it is written. */
    readonly observe?: (row: Float32Array) => void;
  },
  { put, watch }: { readonly put: ChunkSink; readonly watch: PreparationWatch },
): Promise<WrittenSplits> {
  const { train, test } = splits;
  if (train.length === 0) {
    throw new RingfoldError(
      "DATA_INVALID",
      `the training split is empty: ${test.length} examples are held out`,
      {
        remedy: "Give more examples, or another split in the pipeline.",
      },
    );
  }
  watch.stage("writes chunks");
  let done = 0;
  const writeSplit = async (indices: Uint32Array, observe?: (row: Float32Array) => void) => {
    const writer = new ChunkWriter(shape, put);
    for (const index of indices) {
      watch.signal.throwIfAborted();
      await of.load?.(index);
      await writer.add((row, target) => {
        of.write(index, row, target);
        observe?.(row);
      });
      watch.progress(++done, train.length + test.length);
    }
    return { content: await writer.finish(), bytes: writer.bytes };
  };
  const [written, held] = [await writeSplit(train, of.observe), await writeSplit(test)];
  const contents = { train: written.content, test: held.content, bytes: written.bytes + held.bytes };
  return { shape, chunkExamples: chunkExamplesOf(shape), ...contents };
}
