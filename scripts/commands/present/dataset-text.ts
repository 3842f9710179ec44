import { shortPeer } from "../../../protocol/ids.ts";
import type {
  ColumnStatistics,
  DatasetDetail,
  DatasetView,
  ImageStatistics,
  SplitContent,
  TextStatistics,
} from "../../../protocol/messages/dataset.ts";
import { formatBytes, formatCount, formatPercent } from "./quantity.ts";
import { formatFacts, formatTable } from "./table.ts";

export const datasetTable = (views: readonly DatasetView[]): string =>
  formatTable(
    ["data set", "training", "test", "input", "target", "bytes", "holders", "added by", "created"],
    views.map((view) => [
      `${view.name}@${view.version}`,
      formatCount(view.trainExamples),
      formatCount(view.testExamples),
      view.shape.inputShape.join("x"),
      targetText(view.shape.target),
      formatBytes(view.bytes),
      String(view.holders.length),
      view.addedBy,
      new Date(view.createdAtMs).toISOString(),
    ]),
  );

/** Everything about one data set: what it is, what its columns hold, how it was prepared. */
export function datasetText(detail: DatasetDetail): string {
  const { manifest } = detail;
  const { source, shape, train, test, fitted } = manifest;
  const facts = formatFacts([
    ["data set", `${detail.name}@${detail.version}`],
    ["manifest", detail.digest],
    ["source", `${source.kind}, ${formatBytes(source.bytes)}, ${source.digest}`],
    ["examples", `${train.count} for training, ${test.count} for the test`],
    [
      "chunks",
      `${train.chunks.length + test.chunks.length} of up to ${manifest.chunkExamples} examples, ${formatBytes(detail.bytes)}`,
    ],
    ["input", `${shape.inputShape.join("x")} from ${fitted.encoders.length} columns`],
    ["target", targetText(shape.target)],
    ["pipeline", detail.pipeline ?? "not registered: it is of an earlier release"],
    ["added", `${new Date(detail.createdAtMs).toISOString()} by ${detail.addedBy}`],
    ["signed by", detail.signers.map(shortPeer).join(" ") || "nobody"],
    ["held by", detail.holders.map(shortPeer).join(" ") || "no live peer yet"],
  ]);
  const parts = [
    facts,
    balanceTable(train, test, fitted.classes),
    columnTable(manifest.statistics),
    imageTable(manifest.images),
    textTable(manifest.texts),
    pipelineText(detail),
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}

function targetText(target: DatasetView["shape"]["target"]): string {
  if (target.kind === "class") return `one of ${target.classCount} classes`;
  if (target.kind === "tokens") return `${target.length} tokens of ${target.classCount}`;
  return target.kind === "binary" ? "yes or no" : "a number";
}

function balanceTable(
  train: SplitContent,
  test: SplitContent,
  classes: readonly string[] | undefined,
): string {
  if (!train.classCounts) return "";
  const share = ({ classCounts = [], count }: SplitContent, place: number) =>
    `${classCounts[place] ?? 0} (${formatPercent(count === 0 ? 0 : (classCounts[place] ?? 0) / count)})`;
  return formatTable(
    ["class", "label", "training", "test"],
    train.classCounts.map((_, place) => [
      String(place),
      classes?.[place] ?? String(place),
      share(train, place),
      share(test, place),
    ]),
  );
}

function columnTable(statistics: readonly ColumnStatistics[]): string {
  if (statistics.length === 0) return "";
  const number = (value: number | null | undefined) =>
    value === null || value === undefined ? "-" : String(Number(value.toPrecision(4)));
  return formatTable(
    [
      "column",
      "holds",
      "values",
      "missing",
      "distinct",
      "mean",
      "sd",
      "min",
      "25%",
      "50%",
      "75%",
      "max",
      "most common",
    ],
    statistics.map(({ name, kind, count, missing, distinct, mean, sd, quantiles, top }) => [
      ...[name, kind, String(count), String(missing), String(distinct), number(mean), number(sd)],
      ...[0, 2, 3, 4, 6].map((place) => number(quantiles[place])),
      top
        .slice(0, 3)
        .map(({ value, count: times }) => `${value} (${times})`)
        .join(", ")
        .slice(0, 60),
    ]),
  );
}

function imageTable(images: ImageStatistics | undefined): string {
  if (!images) return "";
  const { height, width, channels } = images;
  const names = channels.length === 3 ? ["red", "green", "blue"] : ["grey"];
  const table = formatTable(
    ["channel", "mean", "sd"],
    channels.map(({ mean, sd }, i) => [names[i] ?? String(i), mean.toFixed(4), sd.toFixed(4)]),
  );
  return `training images: ${height} high, ${width} wide, pixels from 0 to 1\n${table}`;
}

function textTable(texts: readonly TextStatistics[] | undefined): string {
  if (!texts || texts.length === 0) return "";
  return formatTable(
    ["text", "documents", "tokens", "vocabulary", "used", "unknown", "min", "median", "95%", "max", "cut"],
    texts.map(({ column, documents, tokens, vocabulary, used, unknown, lengths, cut }) => [
      ...[column, formatCount(documents), formatCount(tokens), formatCount(vocabulary), formatCount(used)],
      formatPercent(tokens === 0 ? 0 : unknown / tokens),
      ...[lengths.min, lengths.median, lengths.p95, lengths.max].map(formatCount),
      formatPercent(documents === 0 ? 0 : cut / documents),
    ]),
  );
}

function pipelineText({ manifest: { fitted, preparation } }: DatasetDetail): string {
  const lines = [`split: test share ${preparation.split.testShare}, seed ${preparation.split.seed}`];
  for (const step of fitted.steps) {
    if (step.do === "drop") lines.push(`drops ${step.trainRows + step.testRows} rows: ${step.why}`);
    else if (step.do === "fill") lines.push(`fills ${listed(step.values, (value) => String(value))}`);
    else if (step.do === "clip")
      lines.push(`clips ${listed(step.bounds, ({ low, high }) => `${low}..${high}`)}`);
    else lines.push(`scales ${listed(step.scales, ({ shift, factor }) => `(x - ${shift}) / ${factor}`)}`);
  }
  const encoders = fitted.encoders.map((encoder) => {
    if ("values" in encoder) return `${encoder.column} ${encoder.kind} of ${encoder.values.length}`;
    return `${encoder.column} ${encoder.kind}`;
  });
  return [...lines, `encodes ${shortList(encoders)}`].join("\n");
}

const listed = <T>(values: Readonly<Record<string, T>>, tell: (value: T) => string): string =>
  shortList(Object.entries(values).map(([name, value]) => `${name}: ${tell(value)}`));

const shortList = (entries: readonly string[]): string =>
  entries.length <= 8
    ? entries.join(", ")
    : `${entries.slice(0, 8).join(", ")} and ${entries.length - 8} more`;
