import { needWords } from "../../protocol/needs.ts";
import type { Client } from "../client.ts";
import { formatAge, formatBytes, formatCount, formatDuration, formatLoss, formatPercent } from "../format.ts";
import type { Job, Peer } from "../views.ts";
import { Checkpoints } from "./checkpoints.tsx";
import { Generations } from "./generations.tsx";
import { JobNumbers } from "./job-numbers.tsx";
import { LossCurve } from "./loss-curve.tsx";
import { Ring } from "./ring.tsx";

interface JobDetailProps {
  readonly job: Job;
  readonly peers: readonly Peer[];
  readonly client: Client;
  readonly liveSinceMs: number | null;
  readonly nowMs: number;
}

/** The opened job: why it is as it is, how far it is, how it learns, and what its ring went through. */
export const JobDetail = ({ job, peers, client, liveSinceMs, nowMs }: JobDetailProps) => (
  <>
    <p class="reason" aria-live="polite" data-testid="job-reason">
      {job.queuePosition === null ? null : (
        <strong data-testid="job-queue-position">Number {job.queuePosition} in the queue: </strong>
      )}
      {job.reason}
    </p>
    <ProgressBar job={job} />
    <JobNumbers job={job} timeLeft />
    <Outcome job={job} />
    <div class="job-figures">
      <LossCurve key={job.id} job={job} client={client} liveSinceMs={liveSinceMs} />
      <Ring job={job} peers={peers} />
    </div>
    <div class="job-tables">
      <Generations generations={job.generations} generationCount={job.generationCount} />
      <Checkpoints checkpoints={job.checkpoints} />
    </div>
    <Recipe job={job} nowMs={nowMs} />
  </>
);

const ProgressBar = ({ job }: { job: Job }) => {
  const total = job.progress?.totalSteps ?? 0;
  const step = Math.min(job.progress?.step ?? 0, total);
  return (
    <progress
      class="progress"
      data-state={job.state}
      aria-label={`Progress of ${job.id}`}
      max={Math.max(1, total)}
      value={step}
    >
      {total > 0 ? formatPercent(step / total, 0) : null}
    </progress>
  );
};

const Outcome = ({ job }: { job: Job }) => {
  if (job.evaluation === null) return null;
  const { accuracy, loss, metrics, examples } = job.evaluation;
  const figures = Object.entries(metrics).map(([name, value]) => `${name} ${Number(value.toPrecision(4))}, `);
  return (
    <p class="outcome" data-testid="job-evaluation">
      {accuracy === null ? null : (
        <>
          <strong>{formatPercent(accuracy)}</strong> accuracy,{" "}
        </>
      )}
      {figures}loss {formatLoss(loss)} on {formatCount(examples)} held-out examples
      {job.version ? (
        <>
          . Registered as <a href="#versions">{job.version}</a>
        </>
      ) : null}
      .
    </p>
  );
};

/** The parts of the job file that explain what one sees; and when it ran. */
const Recipe = ({ job, nowMs }: { job: Job; nowMs: number }) => {
  const { spec } = job;
  const ranMs = job.startedAtMs === null ? null : (job.endedAtMs ?? nowMs) - job.startedAtMs;
  const facts: [string, string][] = [
    ["Model", spec.model.architecture],
    ["Data", spec.data.source],
    ["Optimizer", `${spec.optimizer.kind}, learning rate ${spec.optimizer.learningRate}`],
    ["Batch", formatCount(spec.batchSize)],
    ["Epochs", job.progress ? `${job.progress.epoch.toFixed(2)} of ${spec.epochs}` : String(spec.epochs)],
    [
      "Workers",
      spec.workers.min === spec.workers.max
        ? String(spec.workers.min)
        : `${spec.workers.min}–${spec.workers.max}`,
    ],
    ...(spec.needs ? [["Needs", needWords(spec.needs).join(", ")] satisfies [string, string]] : []),
    ["Project", spec.project],
    ["Priority", String(job.priority)],
    ["Engine", spec.engine],
    ["Ring", ringText(job)],
    ["Communication", communicationText(job)],
    ["Sent by a rank", job.progress ? formatBytes(job.progress.sentBytes) : "–"],
    ["Seed", String(spec.seed)],
    ["Submitted", formatAge(nowMs - job.submittedAtMs)],
    ["Ran for", formatDuration(ranMs)],
  ];
  return (
    <dl class="facts recipe">
      {facts.map(([title, text]) => (
        <div key={title}>
          <dt>{title}</dt>
          <dd>{text}</dd>
        </div>
      ))}
    </dl>
  );
};

function ringText({ spec, generations }: Job): string {
  const { transport, wire, topK, synchronization } = spec;
  const way = generations.at(-1)?.algorithm === "doubling" ? "in pairs (recursive doubling), " : "";
  const what = `${way}${topK ? `top ${100 * topK.fraction}%` : wire}`;
  const { kind } = synchronization;
  return kind === "every-step"
    ? `${transport}, ${what}`
    : `${transport}, ${what}, ${kind} every ${synchronization.everySteps} steps`;
}

/** Measured beside predicted, a step: far apart, and the link model or a neighbour is wrong. */
function communicationText({ progress, generations }: Job): string {
  if (!progress) return "–";
  const predicted = generations.at(-1)?.predictedCommunicationMs;
  const hidden = progress.hiddenCommunicationMs;
  const behind = hidden > 0 ? `, ${hidden.toFixed(1)} ms more behind computing` : "";
  const measured = `${progress.communicationMs.toFixed(1)} ms a step${behind}`;
  return predicted == null ? measured : `${measured}, predicted ${predicted.toFixed(1)} ms`;
}
