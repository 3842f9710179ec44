import { randomUUID } from "node:crypto";
import { issueToken } from "../protocol/credentials.ts";
import { RingfoldError } from "../protocol/errors.ts";
import type { IssuedToken, TokenRequest } from "../protocol/messages/api.ts";
import type { AuditEvent, Decider } from "../protocol/messages/audit.ts";
import type { CoordinatorContext } from "./context.ts";
import type { ClusterCredentials } from "./credentials.ts";
import { collections } from "./state.ts";

type Created = Extract<AuditEvent, { readonly kind: "token-created" }>;

/** Records of tokens that nobody can join with any more go with the next one that is made, so many at once. */
const forgottenAtOnce = 32;
const operator = { kind: "operator" } as const;

/**
 * Join tokens: who made which, and which are taken back. The log holds what a token is for, never the token; with that the same one
 * is signed again for who asks again.
 */
export class TokenDesk {
  readonly #context: CoordinatorContext;
  readonly #credentials: ClusterCredentials;
  /** Multiaddrs that a token names. */
  readonly #addresses: () => Promise<string[]>;

  constructor(
    context: CoordinatorContext,
    credentials: ClusterCredentials,
    addresses: () => Promise<string[]>,
  ) {
    this.#context = context;
    this.#credentials = credentials;
    this.#addresses = addresses;
  }

  async create(request: TokenRequest, who: Decider = operator): Promise<IssuedToken> {
    const { role, expiresInSeconds, addresses } = request;
    const { decisions, store, clock } = this.#context;
    const nowMs = clock.nowMs();
    const event: Created = {
      ...{ kind: "token-created", token: randomUUID(), role, addresses },
      expiresAtMs: nowMs + 1_000 * expiresInSeconds,
    };
    const { token: id, expiresAtMs } = event;
    const over = collections.tokens.readAll(store).filter((known) => known.expiresAtMs < nowMs);
    const reason = `admits a ${role} until ${new Date(expiresAtMs).toISOString()}`;
    await decisions.commit({ who, subject: `token ${id}`, event, reason, isNews: false }, [
      collections.tokens.put(id, { id, role, expiresAtMs, revokedAtMs: null }),
      ...over.slice(0, forgottenAtOnce).map((known) => collections.tokens.remove(known.id)),
    ]);
    return this.issued(event);
  }

  /** The token that this decision made. */
  async issued({ token: id, role, expiresAtMs, addresses }: Created): Promise<IssuedToken> {
    const { authority, swarmKey } = this.#credentials;
    const token = await issueToken(authority, {
      ...{ id, role, swarmKey, expiresAtMs, coordinator: this.#context.network.peerId },
      addresses: addresses ? await this.#addresses() : [],
    });
    return { token, id };
  }

  /** Nobody joins with it any more; who has joined stays. @throws RingfoldError NOT_FOUND */
  async revoke(id: string): Promise<void> {
    const { decisions, store, clock } = this.#context;
    const known = collections.tokens.read(store, id);
    if (!known) {
      const remedy =
        "`ringfold audit --kind token-created` lists them; one that is out of date is forgotten.";
      throw new RingfoldError("NOT_FOUND", `there is no token ${id}`, { token: id, remedy });
    }
    if (known.revokedAtMs !== null) return;
    const event = { kind: "token-revoked", token: id } as const;
    await decisions.commit(
      { who: operator, subject: `token ${id}`, event, reason: "admits nobody any more", isNews: true },
      [collections.tokens.put(id, { ...known, revokedAtMs: clock.nowMs() })],
    );
  }
}
