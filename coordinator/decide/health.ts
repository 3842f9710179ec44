import { limits } from "../../protocol/limits.ts";
import type { AuditEvent } from "../../protocol/messages/audit.ts";
import { judgementText, troubleText } from "./health-words.ts";
import type { Sighting, Turn, Verdict } from "./sighting.ts";

export interface Health {
  readonly judged: ReadonlyMap<string, { readonly verdict: Verdict; readonly life: string }>;
  readonly deafness: Deafness | null;
}

/** Most were silent at once. */
interface Deafness {
  /** The last look in which that was so. */
  readonly lastMs: number;
  /** Since when some are heard all the same; null: nobody is. */
  readonly partlySinceMs: number | null;
  /** How many were taken for silent by our own fault; people are told once. */
  readonly excusedCount: number;
}

/** What is seen at one moment. */
interface Look {
  readonly sightings: readonly Sighting[];
  /** The coordinator itself stood still a moment ago. */
  readonly wasPaused: boolean;
}

/** `event`: as the log tells it. */
export interface HealthDecision {
  readonly event: AuditEvent;
  readonly subject: string;
  readonly reason: string;
}

export const noHealth: Health = { judged: new Map(), deafness: null };

/** Three beats: of a peer whose link loses a fifth of them it happens once in two minutes, of most peers at once never. */
const silentAfterMs = 3 * limits.heartbeatIntervalMs;
/** Of members that are silent together while others are heard, for so long they may be cut off, and not dead. */
const partlyDeafMs = 30_000;

/**
 * Who lives, as a pure function of one look at all peers: (health, sightings, now) -> (health, decision).
 *
 * A peer is judged by its own silence (suspicion.ts), unless most others have fallen silent as well: then it is far more
 * likely that this coordinator hears nothing than that they all died together. It takes the trouble for its own and gives
 * nobody up: where nobody at all is heard for as long as that lasts, as there is nobody who could take over; where some
 * are heard, for a while. Who was silent meanwhile has some time to come back, as after a start of the coordinator.
 *
 * Source: Dadgar, Phillips, Currey, "Lifeguard: local health awareness for more accurate failure detection", DSN-W 2018: a
 * failure detector has to doubt itself first. Theirs doubts more the fewer answers it gets; ours knows what each peer owes.
 */
export function decideHealth(
  before: Health,
  { sightings, wasPaused }: Look,
  nowMs: number,
): { readonly health: Health; readonly decision: HealthDecision | undefined; readonly isChanged: boolean } {
  const deafness = wasPaused ? afterPause(before, nowMs) : deafnessOf(before, sightings, nowMs);
  const judged = new Map<string, { readonly verdict: Verdict; readonly life: string }>();
  const turned: Turn[] = [];
  let excusedCount = 0;
  for (const sighting of sightings) {
    const { peerId, life } = sighting;
    const isExcusedNow = isExcused(sighting, deafness, nowMs) && !isKnownDead(before, sighting);
    const verdict = isKnownDead(before, sighting) ? "dead" : judge(sighting, isExcusedNow);
    judged.set(peerId, { verdict, life });
    if (isExcusedNow && verdict === "suspect") excusedCount++;
    const known = before.judged.get(peerId);
    if (known?.life === life && known.verdict !== verdict)
      turned.push({ sighting, from: known.verdict, to: verdict, isExcused: isExcusedNow });
  }
  const told = Math.max(excusedCount, before.deafness?.excusedCount ?? 0);
  const health = { judged, deafness: deafness && { ...deafness, excusedCount: told } };
  const isChanged = turned.length > 0;
  return { health, isChanged, decision: decisionOf(before, health, { sightings, turned, excusedCount }) };
}

/** Whether most of those that are not known to be dead are silent: what we hear says more of us than of them. */
export function mostAreSilent(before: Health, sightings: readonly Sighting[]): boolean {
  const { silent, counted } = countSilent(before, sightings);
  return silent * 2 > counted;
}

/** Whether this is too long a silence for one that is heard as it should be. */
export const isSilent = ({ silentMs }: Pick<Sighting, "silentMs">): boolean => silentMs > silentAfterMs;

function countSilent(before: Health, sightings: readonly Sighting[]) {
  const counted = sightings.filter((sighting) => !isKnownDead(before, sighting));
  return { counted: counted.length, silent: counted.filter(isSilent).length };
}

/** A death that was told before, or that its socket tells, and of which no sign of life says otherwise. */
const isKnownDead = ({ judged }: Health, sighting: Sighting): boolean => {
  const known = judged.get(sighting.peerId);
  if (sighting.closed) return true;
  return known?.verdict === "dead" && known.life === sighting.life && isSilent(sighting);
};

/** Peers may have given us up; they come back as after a start. */
const afterPause = ({ deafness }: Health, nowMs: number): Deafness => ({
  lastMs: nowMs,
  partlySinceMs: null,
  excusedCount: deafness?.excusedCount ?? 0,
});

function deafnessOf(before: Health, sightings: readonly Sighting[], nowMs: number): Deafness | null {
  const { silent, counted } = countSilent(before, sightings);
  const known = before.deafness;
  const excusedCount = known?.excusedCount ?? 0;
  if (silent * 2 <= counted) {
    const isOver = known === null || nowMs - known.lastMs > limits.gatheringMs;
    return isOver ? null : known;
  }
  if (silent === counted) return { lastMs: nowMs, partlySinceMs: null, excusedCount };
  const partlySinceMs = known?.partlySinceMs ?? nowMs;
  return nowMs - partlySinceMs > partlyDeafMs ? null : { lastMs: nowMs, partlySinceMs, excusedCount };
}

/** It fell silent when most did, or its socket was given up in that silence. */
const isExcused = (sighting: Sighting, deafness: Deafness | null, nowMs: number): boolean =>
  deafness !== null && (!sighting.connected || nowMs - sighting.silentMs <= deafness.lastMs);

function judge({ connected, phi }: Sighting, excused: boolean): Verdict {
  if (!connected || phi >= limits.deathPhi) return excused ? "suspect" : "dead";
  return phi >= limits.suspicionPhi ? "suspect" : "alive";
}

/** One entry for all that one look has found. What a closing socket has told is in the log already. */
function decisionOf(
  before: Health,
  { deafness }: Health,
  seen: {
    readonly sightings: readonly Sighting[];
    readonly turned: readonly Turn[];
    readonly excusedCount: number;
  },
): HealthDecision | undefined {
  const told = seen.turned.filter(({ sighting, isExcused }) => !sighting.closed && !isExcused);
  const wasDeaf = (before.deafness?.excusedCount ?? 0) > 0;
  const isDeaf = (deafness?.excusedCount ?? 0) > 0;
  const known = seen.sightings.filter((sighting) => !isKnownDead(before, sighting)).length;
  const own = [
    ...(isDeaf && !wasDeaf ? [troubleText.withheld(seen.excusedCount, known)] : []),
    ...(wasDeaf && !isDeaf ? [troubleText.over] : []),
  ];
  if (told.length + own.length === 0) return undefined;
  const only = told.length === 1 && own.length === 0 ? told[0]!.sighting.name : undefined;
  return {
    event: {
      kind: "members-judged",
      count: told.length,
      members: told.slice(0, limits.judgedTold).map(({ sighting, to }) => ({
        ...{ peerId: sighting.peerId, name: sighting.name, state: to },
        silentMs: Math.round(sighting.silentMs),
        phi: Number(sighting.phi.toFixed(1)),
      })),
    },
    subject: only ?? "members",
    reason: [...own, ...judgementText(told)].join("; "),
  };
}
