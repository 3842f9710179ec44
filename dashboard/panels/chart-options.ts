import type uPlot from "uplot";
import { formatCount, formatLoss, formatPercent } from "../format.ts";

export interface GenerationMark {
  readonly generation: number;
  readonly startStep: number;
}

type Colours = ReturnType<typeof readColours>;

/** Colours come from the style sheet, so that the canvas follows the colour scheme like the rest of the page. */
function readColours(element: HTMLElement) {
  const style = getComputedStyle(element);
  const colour = (name: string) => style.getPropertyValue(name).trim();
  return {
    text: colour("--text-muted"),
    grid: colour("--line"),
    loss: colour("--series-loss"),
    accuracy: colour("--series-accuracy"),
    mark: colour("--warn"),
    font: `11px ${style.fontFamily}`,
  };
}

/**
 * Loss on the left scale, accuracy (0-1) on the right one.
 * @param marks read at each drawing: the generations after the first
 */
export function chartOptions(element: HTMLElement, marks: () => readonly GenerationMark[]): uPlot.Options {
  const colours = readColours(element);
  const axis = { stroke: colours.text, font: colours.font, ticks: { show: false } };
  const grid = { stroke: colours.grid, width: 1 };
  return {
    width: Math.max(element.clientWidth, 100),
    height: 220,
    scales: {
      x: { time: false },
      loss: { range: (_, __, max) => [0, Number.isFinite(max) ? max * 1.05 : 1] },
      accuracy: { range: [0, 1] },
    },
    axes: [
      { ...axis, grid: { show: false }, size: 28, values: (_, splits) => splits.map(formatCount) },
      { ...axis, grid, scale: "loss", size: 48, values: (_, splits) => splits.map((value) => String(value)) },
      {
        ...axis,
        grid: { show: false },
        scale: "accuracy",
        side: 1,
        size: 44,
        values: (_, splits) => splits.map((value) => formatPercent(value, 0)),
      },
    ],
    // With no pointer on the chart the legend shows the newest point.
    series: [
      { label: "Step", value: legend(formatCount) },
      {
        label: "Loss",
        scale: "loss",
        stroke: colours.loss,
        width: 1.5,
        spanGaps: true,
        points: { show: false },
        value: legend(formatLoss),
      },
      {
        label: "Accuracy",
        scale: "accuracy",
        stroke: colours.accuracy,
        width: 1.5,
        spanGaps: true,
        points: { show: false },
        value: legend(formatPercent),
      },
      heldOut({ label: "Held-out loss", scale: "loss", stroke: colours.loss, value: legend(formatLoss) }),
      heldOut({
        ...{ label: "Held-out accuracy", scale: "accuracy" },
        ...{ stroke: colours.accuracy, value: legend(formatPercent) },
      }),
    ],
    cursor: { points: { size: 6 }, drag: { x: true, y: false } },
    hooks: { draw: [(chart) => drawMarks(chart, marks(), colours)] },
  };
}

/** Few points far apart: dots on a dashed line. */
const heldOut = (series: uPlot.Series): uPlot.Series => ({
  ...series,
  width: 1,
  dash: [4, 4],
  spanGaps: true,
  points: { show: true, size: 5 },
});

const legend =
  (format: (value: number | null) => string): uPlot.Series.Value =>
  (chart, value, seriesIndex, index) =>
    format((index === null ? newest(chart.data[seriesIndex]) : value) ?? null);

const newest = (values: uPlot.AlignedData[number] | undefined) =>
  Array.from(values ?? []).findLast((value) => value !== null);

/** A dashed upright line where each generation began, with its number where there is room. */
function drawMarks(chart: uPlot, marks: readonly GenerationMark[], { mark, font }: Colours): void {
  const { ctx, bbox } = chart;
  // The canvas counts device pixels.
  const pixel = devicePixelRatio;
  let labelEnd = 0;
  ctx.save();
  ctx.strokeStyle = mark;
  ctx.fillStyle = mark;
  ctx.lineWidth = pixel;
  ctx.textBaseline = "top";
  ctx.font = font.replace(/^[\d.]+/, (size) => String(Number(size) * pixel));
  ctx.setLineDash([3 * pixel, 3 * pixel]);
  for (const { generation, startStep } of marks) {
    const x = chart.valToPos(startStep, "x", true);
    if (!(x >= bbox.left && x <= bbox.left + bbox.width)) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (x < labelEnd) continue;
    const label = `gen ${generation}`;
    // Half-way down, where both curves are seldom found.
    ctx.fillText(label, x + 4 * pixel, bbox.top + bbox.height / 2);
    labelEnd = x + ctx.measureText(label).width + 8 * pixel;
  }
  ctx.restore();
}
