import { readdir } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { ImagePreparation } from "../../../protocol/preparation.ts";
import type { ChunkSink } from "../chunk-writer.ts";
import { openDataset } from "../dataset.ts";
import { ImageSums } from "./content-statistics.ts";
import { hashOrder, hashSplit } from "./hash-order.ts";
import { decodeImage, imageSize } from "./image-decoder.ts";
import type { PreparationWatch } from "./preparation-watch.ts";
import { writeExamples } from "./split-writer.ts";
import type { PreparedContent } from "./table-preparation.ts";

const imageEnding = /\.(jpe?g|png|webp|gif|tiff?|avif)$/i;
const idxNames = {
  trainImages: /^train.*images.*idx3/,
  trainLabels: /^train.*labels.*idx1/,
  testImages: /^(t10k|test).*images.*idx3/,
  testLabels: /^(t10k|test).*labels.*idx1/,
};

/**
 * A folder becomes labelled images: the four IDX files of MNIST's family, else a folder for each class, either by itself or
 * below `train` and `test`.
 * @throws RingfoldError DATA_INVALID naming the file
 */
export async function prepareImages(
  path: string,
  preparation: ImagePreparation,
  put: ChunkSink,
  watch: PreparationWatch,
): Promise<PreparedContent> {
  watch.stage("reads the source");
  const names = await readdir(path);
  const idx = Object.entries(idxNames).flatMap(([key, pattern]) => {
    const name = names.find((candidate) => pattern.test(candidate));
    return name === undefined ? [] : [[key, join(path, name)] as const];
  });
  if (idx.length === Object.keys(idxNames).length) return prepareIdx(idx, preparation, { put, watch });
  return prepareFolder(path, preparation, { put, watch });
}

interface Output {
  readonly put: ChunkSink;
  readonly watch: PreparationWatch;
}

async function prepareIdx(
  files: readonly (readonly [key: string, path: string])[],
  { split }: ImagePreparation,
  output: Output,
): Promise<PreparedContent> {
  type Files = Record<keyof typeof idxNames, string>;
  const { train, test, shape } = await openDataset({
    source: "idx",
    ...(Object.fromEntries(files) as Files),
  });
  const keys = Array.from({ length: train.count + test.count }, (_, index) => index);
  const splits = {
    train: hashOrder(keys.slice(0, train.count), keys, split.seed),
    test: hashOrder(keys.slice(train.count), keys, split.seed),
  };
  const write = (index: number, row: Float32Array, target: Float32Array) =>
    index < train.count
      ? train.gather([index], row, target)
      : test.gather([index - train.count], row, target);
  const described = await writeImages(shape, splits, { write }, output);
  return { ...described, fitted: { columns: [], steps: [], encoders: [] }, statistics: [] };
}

async function prepareFolder(
  path: string,
  preparation: ImagePreparation,
  output: Output,
): Promise<PreparedContent> {
  const { split, channels } = preparation;
  const files = await listImages(path);
  const classes = [...new Set(files.map(({ label }) => label))].sort((a, b) => (a < b ? -1 : 1));
  if (classes.length < 2) {
    throw invalid(
      path,
      `${files.length} images in ${classes.length} folders; a folder for each class is expected`,
    );
  }
  const keys = files.map(({ key }) => key);
  const isTold = files.some(({ side }) => side !== undefined);
  const ofSide = (side: "train" | "test") =>
    hashOrder(
      files.flatMap((file, index) => (file.side === side ? [index] : [])),
      keys,
      split.seed,
    );
  const splits = isTold ? { train: ofSide("train"), test: ofSide("test") } : hashSplit(keys, split);
  const size = preparation.size ?? (await imageSize(files[0]!.path));
  const shape: ExampleShape = {
    inputShape: [size.height, size.width, channels],
    target: { kind: "class", classCount: classes.length },
  };
  const places = new Map(classes.map((label, place) => [label, place]));
  let pixels: Uint8Array = new Uint8Array(0);
  const load = async (index: number) => {
    pixels = await decodeImage(files[index]!.path, {
      ...size,
      channels,
      resize: preparation.size !== undefined,
    });
  };
  const write = (index: number, row: Float32Array, target: Float32Array) => {
    for (let i = 0; i < pixels.length; i++) row[i] = pixels[i]! / 255;
    target[0] = places.get(files[index]!.label)!;
  };
  const described = await writeImages(shape, splits, { load, write }, output);
  return { ...described, fitted: { columns: [], steps: [], encoders: [], classes }, statistics: [] };
}

/** Writes the examples, and describes those of the training split. */
async function writeImages(
  shape: ExampleShape,
  splits: Parameters<typeof writeExamples>[1],
  of: Omit<Parameters<typeof writeExamples>[2], "observe">,
  output: Output,
) {
  const [height = 1, width = 1, channels = 1] = shape.inputShape;
  const sums = new ImageSums(channels);
  const written = await writeExamples(shape, splits, { ...of, observe: (row) => sums.add(row) }, output);
  return { ...written, images: sums.statistics({ height, width }) };
}

interface ImageFile {
  readonly path: string;
  /** Within its class, so that a folder may be anywhere. */
  readonly key: string;
  readonly label: string;
  readonly side: "train" | "test" | undefined;
}

async function listImages(root: string): Promise<ImageFile[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile() && imageEnding.test(entry.name))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split(sep))
    .sort((a, b) => (a.join("/") < b.join("/") ? -1 : 1));
  const hasSides = files.length > 0 && files.every(([first]) => first === "train" || first === "test");
  return files.map((parts) => {
    const [label, ...rest] = hasSides ? parts.slice(1) : parts;
    if (label === undefined || rest.length === 0)
      throw invalid(join(root, ...parts), "it lies in no folder of a class");
    const side = hasSides ? (parts[0] as "train" | "test") : undefined;
    return { path: join(root, ...parts), key: parts.join("/"), label, side };
  });
}

const invalid = (path: string, detail: string): RingfoldError =>
  new RingfoldError("DATA_INVALID", `${path}: ${detail}`, { path });
