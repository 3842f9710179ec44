import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { RingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { AuditEvent } from "../protocol/messages/audit.ts";
import type { Store } from "../protocol/ports.ts";
import type { DecisionLog } from "./decision-log.ts";
import type { SerialQueue } from "./serial-queue.ts";
import { collections, type RequestRecord } from "./state.ts";

/** A request that its sender may repeat. */
export interface RequestKey {
  readonly key: string;
  /** Digest of all that it asks for. */
  readonly fingerprint: string;
}

type EventOf<Kind extends AuditEvent["kind"]> = Extract<AuditEvent, { readonly kind: Kind }>;

interface Made<T, Kind extends AuditEvent["kind"]> {
  readonly made: Kind;
  readonly again: (event: EventOf<Kind>) => T | Promise<T>;
}

interface KeyedRequestModules {
  readonly store: Store;
  readonly decisions: DecisionLog;
  readonly queue: SerialQueue;
}

/**
 * Requests that happen once, however often they arrive. The key is written in one write with the decision that the request
 * led to, so a coordinator that dies before it answers, or loses its leadership, leaves word for the next one. What was
 * refused decided nothing and leaves no key.
 *
 * Bounded: the newest `limits.requestKeysKept` are known.
 * Source: draft-ietf-httpapi-idempotency-key-header-07, section 2.
 */
export class KeyedRequests {
  readonly #modules: KeyedRequestModules;
  /** By digest of the key, oldest first. */
  readonly #known: Map<string, RequestRecord>;
  /** Fingerprints of those under way. */
  readonly #underWay = new Map<string, string>();

  constructor(modules: KeyedRequestModules) {
    this.#modules = modules;
    const records = collections.requests.readAll(modules.store);
    records.sort((one, other) => one.sequence - other.sequence);
    this.#known = new Map(records.map((record) => [record.id, record]));
  }

  /**
   * Does `work` in its turn; the decision that is what was asked for carries the key. What is registered on the way to it keeps its number
   * when it comes again.
   *
   * @param made which decision that is, and the answer for what an earlier request with this key has made
   * @throws RingfoldError KEY_REUSED | KEY_IN_USE, and what `work` and `again` throw
   */
  async once<T, Kind extends AuditEvent["kind"]>(
    request: RequestKey | undefined,
    work: () => Promise<T>,
    { made, again }: Made<T, Kind>,
  ): Promise<T> {
    const { queue, decisions } = this.#modules;
    if (!request) return queue.run(work);
    const id = createHash("sha256").update(request.key).digest("hex");
    const { fingerprint } = request;
    const known = this.#known.get(id);
    const first = known?.fingerprint ?? this.#underWay.get(id);
    if (first !== undefined && first !== fingerprint)
      throw new RingfoldError("KEY_REUSED", "another request came with this Idempotency-Key");
    if (known) {
      assert(known.event.kind === made, "the fingerprint of a request says what it makes");
      return again(known.event as EventOf<Kind>);
    }
    if (first !== undefined)
      throw new RingfoldError("KEY_IN_USE", "the first request with this Idempotency-Key is not done yet");
    this.#underWay.set(id, fingerprint);
    try {
      return await queue.run(() =>
        decisions.withNext(
          (decided) =>
            decided.event.kind === made ? this.#note({ ...decided, id, fingerprint }) : undefined,
          work,
        ),
      );
    } finally {
      this.#underWay.delete(id);
    }
  }

  /** What is written with the decision, and what is known once that is durable. */
  #note(record: RequestRecord) {
    const surplus = [...this.#known.keys()].slice(
      0,
      Math.max(0, this.#known.size + 1 - limits.requestKeysKept),
    );
    return {
      writes: [
        collections.requests.put(record.id, record),
        ...surplus.map((id) => collections.requests.remove(id)),
      ],
      written: () => {
        for (const id of surplus) this.#known.delete(id);
        this.#known.set(record.id, record);
      },
    };
  }
}
