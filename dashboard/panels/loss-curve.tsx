import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import { toRingfoldError } from "../../protocol/errors.ts";
import type { Client } from "../client.ts";
import { formatLoss, formatPercent } from "../format.ts";
import { extendPoints, replacePoints, toColumns } from "../loss-series.ts";
import type { CurvePoint, Job } from "../views.ts";
import { chartOptions, type GenerationMark } from "./chart-options.ts";

interface LossCurveProps {
  readonly job: Job;
  readonly client: Client;
  /** When the stream last came up: points that passed before it are fetched. Null while it is down. */
  readonly liveSinceMs: number | null;
}

/** Loss and accuracy by step, in training and on the held-out set, with a mark where each generation began. */
export function LossCurve({ job, client, liveSinceMs }: LossCurveProps) {
  const { points, problem } = usePoints(job, client, liveSinceMs);
  const last = points.at(-1);
  const label = last
    ? `Loss and accuracy of ${job.id}: at step ${last.step} loss ${formatLoss(last.loss)}, accuracy ${formatPercent(last.accuracy)}`
    : `Loss and accuracy of ${job.id}: no points yet`;
  return (
    <figure class="curve" data-testid="loss-curve" data-points={points.length}>
      <Chart points={points} heldOut={job.evaluations} marks={job.generations.slice(1)} label={label} />
      {problem ? <p class="curve-message">The curve could not be read: {problem}</p> : null}
      {!problem && points.length === 0 ? <p class="curve-message">No steps yet.</p> : null}
    </figure>
  );
}

/** The curve so far, fetched once per job and connection, and the newest point of every view after it. */
function usePoints(job: Job, client: Client, liveSinceMs: number | null) {
  const [points, setPoints] = useState<readonly CurvePoint[]>([]);
  const [problem, setProblem] = useState<string | null>(null);

  useEffect(() => {
    if (liveSinceMs === null) return;
    const abort = new AbortController();
    client.curve(job.id, abort.signal).then(
      (fetched) => {
        setProblem(null);
        setPoints((live) => replacePoints(live, fetched));
      },
      (cause: unknown) => {
        const error = toRingfoldError(cause);
        if (error.code !== "CANCELLED") setProblem(error.message);
      },
    );
    return () => abort.abort();
  }, [client, job.id, liveSinceMs]);

  const { step, loss, accuracy } = job.progress ?? {};
  useEffect(() => {
    if (step === undefined || loss === undefined || accuracy === undefined || step === 0) return;
    setPoints((before) => extendPoints(before, { step, loss, accuracy }));
  }, [step, loss, accuracy]);

  return { points, problem };
}

interface ChartProps {
  readonly points: readonly CurvePoint[];
  readonly heldOut: readonly CurvePoint[];
  readonly marks: readonly GenerationMark[];
  readonly label: string;
}

/** uPlot in a box that it fills; drawn anew when the box or the colour scheme changes. */
function Chart({ points, heldOut, marks, label }: ChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot | null>(null);
  const newestMarks = useRef(marks);
  const data = useRef<uPlot.AlignedData>([[]]);
  newestMarks.current = marks;

  useEffect(() => {
    const element = box.current;
    if (element === null) return;
    const draw = () => {
      chart.current?.destroy();
      chart.current = new uPlot(
        chartOptions(element, () => newestMarks.current),
        data.current,
        element,
      );
    };
    const fit = () => {
      if (element.clientWidth > 0) chart.current?.setSize({ width: element.clientWidth, height: 220 });
    };
    draw();
    const size = new ResizeObserver(fit);
    size.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    return () => {
      size.disconnect();
      scheme.removeEventListener("change", draw);
      chart.current?.destroy();
      chart.current = null;
    };
  }, []);

  useEffect(() => {
    data.current = toColumns(points, heldOut);
    showData(chart.current, data.current);
  }, [points, heldOut.length]);

  return <div class="chart" ref={box} role="img" aria-label={label} />;
}

/** A part that someone has zoomed into stays where it is while points arrive; a double click shows all again. */
function showData(chart: uPlot | null, data: uPlot.AlignedData): void {
  if (chart === null) return;
  const steps = chart.data[0];
  const { min, max } = chart.scales.x ?? {};
  const zoomed = steps.length > 1 && ((min ?? 0) > steps[0]! || (max ?? 0) < steps.at(-1)!);
  chart.setData(data, !zoomed);
  if (zoomed) chart.redraw(false);
  // uPlot itself refreshes the legend only when the pointer moves.
  chart.setLegend({});
}
