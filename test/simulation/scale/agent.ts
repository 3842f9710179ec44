import { setTimeout as delay } from "node:timers/promises";
import { limits } from "../../../protocol/limits.ts";
import { holdArtefacts, listArtefacts } from "../../../protocol/messages/artefact.ts";
import { prepareJob, quiesceJob, startGeneration, stopJob } from "../../../protocol/messages/job.ts";
import { type JobReport, reportJob } from "../../../protocol/messages/job-report.ts";
import { join, presenceTopic } from "../../../protocol/messages/membership.ts";
import { placeShards } from "../../../protocol/messages/serving.ts";
import { exampleHello, exampleReports } from "../../fixtures/messages.ts";
import type { Star } from "./star.ts";

const ready = exampleReports.find((report) => report.kind === "ready")!;
/** Of a process. */
const restartMs = 100;
const ok = { ok: true } as const;

/** An agent as the coordinator sees one: it joins, beats, and is ready for whatever it is asked to train. */
export class ScaleAgent {
  readonly peerId: string;
  readonly #star: Star;
  readonly #index: number;
  readonly #token: string;
  #network: ReturnType<Star["open"]>;
  #membership: string | null = null;
  #life = 0;
  #beats = 0;
  #reports = 0;
  #held: string[] = [];
  /** Its whole list was read. */
  isKnown = false;

  constructor(star: Star, index: number, token: string) {
    this.#star = star;
    this.#index = index;
    this.#token = token;
    this.peerId = exampleHello(index).peerId;
    this.#network = this.#open();
  }

  async join(): Promise<void> {
    const request = { hello: this.#hello(), token: this.#token, membership: this.#membership };
    this.#membership = (await this.#network.request(this.#star.hub.peerId, join, request)).membership;
  }

  /** Once it has joined. */
  async beat(): Promise<void> {
    if (this.#membership === null) return;
    await this.#network.publish(presenceTopic, {
      ...{ hello: this.#hello(), membership: this.#membership, sequence: this.#beats++ },
      ...{ load: { cpu: 1, residentBytes: 1e8 }, holdings: this.#holdings(), links: [], served: [] },
    });
  }

  /** Has so many artefacts from now on, of which it tells no single one, as after a restart of the coordinator. */
  hold(count: number): void {
    const digest = (i: number) => `${this.#index}f${i}`.padStart(64, "0");
    this.#held = Array.from({ length: count }, (_, i) => digest(i)).toSorted((a, b) => (a < b ? -1 : 1));
  }

  #holdings() {
    return { store: this.peerId, revision: this.#held.length, recent: [] };
  }

  crash(): void {
    this.#star.crash(this.peerId);
  }

  /** As a process that has just started. */
  async beginAnew(): Promise<void> {
    this.crash();
    await delay(restartMs);
    this.#life++;
    this.#beats = 0;
    this.#reports = 0;
    this.#network = this.#open();
    await this.join();
  }

  #hello() {
    const hello = exampleHello(this.#index);
    return { ...hello, incarnation: `${hello.incarnation}-${this.#life}` };
  }

  #open() {
    const network = this.#star.open(this.peerId);
    const obey = async () => ok;
    network.handle(listArtefacts, async ({ after }) => {
      const rest = this.#held.filter((digest) => after === null || digest > after);
      const digests = rest.slice(0, limits.artefactsListed);
      this.isKnown = digests.length === rest.length;
      const { store, revision } = this.#holdings();
      return { store, revision, digests, isLast: this.isKnown };
    });
    network.handle(prepareJob, async ({ jobId }) => {
      setImmediate(() => void this.#report({ ...ready, jobId }).catch(() => undefined));
      return ok;
    });
    for (const conversation of [startGeneration, quiesceJob, stopJob, holdArtefacts, placeShards])
      network.handle(conversation as typeof stopJob, obey);
    return network;
  }

  async #report(report: JobReport): Promise<void> {
    const origin = { life: this.#hello().incarnation, sequence: this.#reports++ };
    await this.#network.request(this.#star.hub.peerId, reportJob, { report, origin });
  }
}
