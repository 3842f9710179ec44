import type { SignatureCheck } from "../protocol/attestation.ts";
import type { Holders } from "../protocol/holdings.ts";
import type { Clock, ClusterNetwork, Log, Store } from "../protocol/ports.ts";
import type { Apart } from "./apart.ts";
import type { DecisionLog } from "./decision-log.ts";
import type { PeerTable } from "./peers.ts";
import type { Registrar } from "./registrar.ts";
import type { TermTime } from "./term-time.ts";
import type { VersionRegistry } from "./version-registry.ts";

/** What the desks of the coordinator share. */
export interface CoordinatorContext {
  readonly network: ClusterNetwork;
  readonly store: Store;
  /** What it shows is for people, and for what is signed. */
  readonly clock: Clock;
  /** For waits that decisions depend on. */
  readonly time: TermTime;
  readonly log: Log;
  /** Fences every command: it grew by one when this coordinator started. */
  readonly term: number;
  readonly release: string;
  readonly peers: PeerTable;
  /** Who holds which artefacts. */
  readonly holders: Holders;
  /** Agents that each data set and version should be held by, where there are as many. */
  readonly replicaCount: number;
  readonly versions: VersionRegistry;
  readonly registrar: Registrar;
  readonly decisions: DecisionLog;
  readonly isSignedBy: SignatureCheck;
  /** For what looks around: one part that fails holds up no other. */
  readonly apart: Apart;
  /** Something that people see has changed. */
  readonly changed: () => void;
}
