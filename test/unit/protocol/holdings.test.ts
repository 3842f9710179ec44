import fc from "fast-check";
import { expect, test } from "vitest";
import { RingfoldError } from "../../../protocol/errors.ts";
import { Holders } from "../../../protocol/holdings.ts";
import { limits } from "../../../protocol/limits.ts";
import type { ArtefactPage, Holdings } from "../../../protocol/messages/artefact.ts";
import type { Conversation } from "../../../protocol/ports.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock, settle } from "../../simulation/fake-clock.ts";

const digestAt = (index: number) => index.toString(16).padStart(64, "0");

/** A peer's store, its beats, and its list in pages of two. */
class Peer {
  readonly held = new Set<string>();
  readonly id: string;
  store = "first";
  changes: { digest: string; held: boolean }[] = [];
  asked = 0;
  isAway = false;

  constructor(id: string) {
    this.id = id;
  }

  toggle(index: number): void {
    const digest = digestAt(index);
    const held = !this.held.delete(digest);
    if (held) this.held.add(digest);
    this.changes.push({ digest, held });
  }

  beginAnew(): void {
    this.store += "+";
    this.held.clear();
    this.changes = [];
  }

  /** To what it was when it was begun, as a store that is put back from a copy. */
  goBack(): void {
    this.held.clear();
    this.changes = [];
  }

  beat(): Holdings {
    const recent = this.changes.slice(-limits.changesTold);
    return { store: this.store, revision: this.changes.length, recent };
  }

  page(after: string | null): ArtefactPage {
    this.asked++;
    if (this.isAway) throw new RingfoldError("PEER_UNREACHABLE", "away");
    const rest = [...this.held]
      .toSorted((a, b) => (a < b ? -1 : 1))
      .filter((digest) => after === null || digest > after);
    const digests = rest.slice(0, 2);
    return { store: this.store, revision: this.changes.length, digests, isLast: digests.length < 2 };
  }
}

function follow(...peers: Peer[]) {
  const clock = new FakeClock();
  const request = async <Request, Response>(
    to: string,
    _: Conversation<Request, Response>,
    { after }: Request & { after?: string | null },
  ) => {
    const peer = peers.find(({ id }) => id === to)!;
    await Promise.resolve();
    return peer.page(after ?? null) as Response;
  };
  return { clock, holders: new Holders({ network: { request }, clock, log: silentLog }) };
}

const known = (holders: Holders, { id }: Peer) => new Set(holders.heldBy(id));
const truth = ({ held }: Peer) => new Set(held);

test("who hears every beat asks for nothing", async () => {
  const peer = new Peer("one");
  const { holders } = follow(peer);
  for (let i = 0; i < 100; i++) {
    peer.toggle(i % 7);
    holders.hear("one", peer.beat());
    expect(known(holders, peer)).toEqual(truth(peer));
  }
  await settle();
  expect(peer.asked).toBe(0);
});

test("a list that cannot be had is asked for again with a later beat, not at once", async () => {
  const peer = new Peer("one");
  const { holders, clock } = follow(peer);
  for (let i = 0; i < 50; i++) peer.toggle(i);
  peer.isAway = true;
  for (let i = 0; i < 5; i++) holders.hear("one", peer.beat());
  await settle();
  expect(peer.asked).toBe(1);
  peer.isAway = false;
  await clock.advance(limits.listAskAgainMs);
  holders.hear("one", peer.beat());
  await settle();
  expect(known(holders, peer)).toEqual(truth(peer));
});

test("of many peers that come at once a few are asked at a time, and all in the end", async () => {
  const peers = Array.from({ length: 50 }, (_, i) => new Peer(`peer-${i}`));
  for (const peer of peers) for (let i = 0; i < 20; i++) peer.toggle(i);
  const { holders } = follow(...peers);
  for (const peer of peers) holders.hear(peer.id, peer.beat());
  expect(peers.filter(({ asked }) => asked > 0)).toHaveLength(0); // none has answered yet
  await settle();
  for (const peer of peers) expect(known(holders, peer)).toEqual(truth(peer));
  expect(holders.of(digestAt(3)).size).toBe(50);
  holders.forget("peer-0");
  expect(holders.of(digestAt(3)).size).toBe(49);
});

test("a store that was put back to what it was is asked for its list", async () => {
  const peer = new Peer("one");
  const { holders, clock } = follow(peer);
  for (let i = 0; i < 10; i++) peer.toggle(i);
  holders.hear("one", peer.beat());
  peer.goBack();
  for (let beat = 0; beat < 2; beat++) {
    await clock.advance(limits.listAskAgainMs);
    holders.hear("one", peer.beat());
    await settle();
    expect(known(holders, peer)).toEqual(truth(peer));
  }
});

type Step = {
  readonly kind: "toggle" | "storm" | "beat" | "lost" | "anew" | "time";
  readonly index: number;
};
const steps = fc.array(
  fc.record({
    kind: fc.constantFrom<Step["kind"]>("toggle", "toggle", "storm", "beat", "beat", "lost", "anew", "time"),
    index: fc.integer({ min: 0, max: 40 }),
  }),
  { maxLength: 120 },
);

test("whatever beats are lost and whatever changes while the list is read: what is known becomes what is true", async () => {
  await fc.assert(
    fc.asyncProperty(steps, async (all) => {
      const peer = new Peer("one");
      const { holders, clock } = follow(peer);
      for (const { kind, index } of all) {
        if (kind === "toggle") peer.toggle(index);
        // More than a beat tells.
        if (kind === "storm") for (let i = 0; i <= limits.changesTold; i++) peer.toggle(index + i);
        if (kind === "beat") holders.hear("one", peer.beat());
        if (kind === "anew") peer.beginAnew();
        if (kind === "time") await clock.advance(500);
        if (kind === "lost") await Promise.resolve(); // a page of a list that is being read comes, perhaps
      }
      for (let beat = 0; beat < 2; beat++) {
        await clock.advance(limits.listAskAgainMs);
        holders.hear("one", peer.beat());
        await settle();
      }
      expect(known(holders, peer)).toEqual(truth(peer));
      for (const digest of peer.held) expect([...holders.of(digest)]).toEqual(["one"]);
      expect(holders.of(digestAt(99)).size).toBe(0);
      holders.close();
    }),
  );
});
