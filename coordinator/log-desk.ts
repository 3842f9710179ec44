import { RingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { JobView } from "../protocol/messages/api.ts";
import { type JobLogs, type JobLogsQuery, readJobLog } from "../protocol/messages/job-log.ts";
import type { CoordinatorContext } from "./context.ts";

/** All pieces of one answer together: what one agent may give depends on how many there are. */
const answerBytesMax = 4 * 1024 * 1024;
const pieceBytesMin = 4 * 1024;

type Piece = JobLogs["pieces"][number];
interface Told {
  readonly piece: Piece;
  readonly next: number;
  readonly hasMore: boolean;
  readonly isOver: boolean;
}

/** What scripts print lies on the machines that run them; here it is asked for, and nothing of it is kept. */
export class LogDesk {
  readonly #context: Pick<CoordinatorContext, "network" | "peers" | "term" | "clock">;

  constructor(context: Pick<CoordinatorContext, "network" | "peers" | "term" | "clock">) {
    this.#context = context;
  }

  /** @throws RingfoldError REQUEST_INVALID for a job without a script */
  async read(job: JobView, { after, tail }: JobLogsQuery): Promise<JobLogs> {
    if (!job.spec.script)
      throw new RingfoldError("REQUEST_INVALID", `${job.id} brings no script, so it has no log`, {
        remedy: "What its trainers say is in the logs of the agents.",
      });
    const known = placesOf(after);
    const ranks = ranksOf(job);
    const { asked, unreachable } = this.#whomToAsk(job, ranks, known);
    const share = Math.floor(answerBytesMax / Math.max(1, asked.length));
    const bytesMax = Math.max(pieceBytesMin, Math.min(limits.jobLogBytes, tail ?? share));
    const told = await Promise.all(
      asked.map(async ({ peerId, name }): Promise<Told | undefined> => {
        const from = known.get(keyOf(peerId)) ?? (tail === undefined ? 0 : -tail);
        try {
          const request = { term: this.#context.term, jobId: job.id, after: from, bytesMax };
          const answer = await this.#context.network.request(peerId, readJobLog, request);
          const skippedBytes = from < 0 ? 0 : Math.max(0, answer.start - from);
          const piece = { peerId, name, rank: ranks.get(peerId) ?? null, text: answer.text, skippedBytes };
          return { ...answer, piece };
        } catch {
          unreachable.push(name);
          return undefined;
        }
      }),
    );
    const answers = told.filter((one) => one !== undefined);
    for (const { piece, next } of answers) if (next > 0) known.set(keyOf(piece.peerId), next);
    return {
      pieces: answers.map(({ piece }) => piece).filter(({ text }) => text !== ""),
      unreachable,
      next: [...known].map(([key, place]) => `${key}:${place}`).join(","),
      hasMore: answers.some(({ hasMore }) => hasMore),
      isOver: hasEnded(job) && answers.every(({ isOver }) => isOver),
    };
  }

  /** While the ring runs, its ranks; else every agent that may run scripts, as one that failed early was none. */
  #whomToAsk(job: JobView, ranks: ReadonlyMap<string, number>, known: ReadonlyMap<string, number>) {
    const onlyKnown = job.state === "running" && known.size > 0;
    const unreachable: string[] = [];
    const asked: { readonly peerId: string; readonly name: string }[] = [];
    for (const { hello, connected } of this.#context.peers.all()) {
      const { peerId, name, capabilities } = hello;
      const isInvolved = ranks.has(peerId) || known.has(keyOf(peerId));
      if (connected && (isInvolved || (capabilities.scripts && !onlyKnown))) asked.push({ peerId, name });
      else if (isInvolved) unreachable.push(name);
    }
    const order = ({ peerId }: { readonly peerId: string }) => ranks.get(peerId) ?? Number.MAX_SAFE_INTEGER;
    return { asked: asked.sort((a, b) => order(a) - order(b) || a.name.localeCompare(b.name)), unreachable };
  }
}

const hasEnded = ({ state }: JobView): boolean =>
  state === "succeeded" || state === "failed" || state === "cancelled";

/** By peer, in the newest generation that it was in. */
const ranksOf = ({ generations }: JobView): Map<string, number> =>
  new Map(generations.flatMap(({ ranks }) => ranks.map((peerId, rank) => [peerId, rank] as const)));

/** An address has little room, and the end of a peer id is as good as random. */
const keyOf = (peerId: string): string => peerId.slice(-10);

const placesOf = (after: string | undefined): Map<string, number> =>
  new Map(
    (after ? after.split(",") : []).map((part) => {
      const [key = "", place] = part.split(":");
      return [key, Number(place)] as const;
    }),
  );
