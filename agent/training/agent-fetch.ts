import { isErrorCode, RingfoldError } from "../../protocol/errors.ts";
import type { ArtefactStore } from "../artefact/store.ts";
import type { ChunkSource } from "../data/chunk-fetcher.ts";
import { untilAborted } from "../deadline.ts";
import type { FetchAnswer, FetchRequest } from "./trainer-messages.ts";

/** What a trainer asks its agent for: parts of a data set that are not on this machine yet. */
export class AgentFetch {
  readonly #send: (message: FetchRequest) => void;
  readonly #waiting = new Map<number, (answer: FetchAnswer) => void>();
  #requests = 0;

  constructor(send: (message: FetchRequest) => void) {
    this.#send = send;
  }

  answered(answer: FetchAnswer): void {
    this.#waiting.get(answer.request)?.(answer);
  }

  /** @throws RingfoldError what the agent failed with; the reason of `signal` */
  async fetch(manifest: string, digest: string, signal: AbortSignal): Promise<void> {
    const request = ++this.#requests;
    const answer = new Promise<FetchAnswer>((resolve) => this.#waiting.set(request, resolve));
    try {
      this.#send({ kind: "fetch", request, manifest, digest });
      const { failure } = await untilAborted(answer, signal);
      if (!failure) return;
      throw new RingfoldError(isErrorCode(failure.code) ? failure.code : "INTERNAL", failure.message, {
        digest,
      });
    } finally {
      this.#waiting.delete(request);
    }
  }
}

/** Chunks of one data set from the store that trainer and agent share; what is not there, or damaged, the agent brings. */
export function chunkSource(manifest: string, store: ArtefactStore, agent: AgentFetch): ChunkSource {
  return {
    has: (digest) => store.stat(digest) !== undefined,
    fetch: async (digest, signal) => {
      if (store.stat(digest) === undefined) await agent.fetch(manifest, digest, signal);
    },
    read: async (digest, signal) => {
      try {
        return store.get(digest);
      } catch (cause) {
        if (!(cause instanceof RingfoldError && cause.code.startsWith("ARTEFACT_"))) throw cause;
      }
      await agent.fetch(manifest, digest, signal); // the agent takes a damaged copy away first
      return store.get(digest);
    },
  };
}
