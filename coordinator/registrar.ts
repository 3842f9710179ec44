import { attest, type Signer } from "../protocol/attestation.ts";
import type { Envelope } from "../protocol/messages/attestation.ts";
import type { VersionManifest } from "../protocol/messages/model.ts";
import type { Clock, StoreWrite } from "../protocol/ports.ts";
import { registrationStatement } from "../protocol/registration.ts";
import type { VersionRecord } from "./decide/version.ts";
import type { VersionRegistry } from "./version-registry.ts";

interface RegistrarModules {
  readonly versions: Pick<VersionRegistry, "prepare" | "write">;
  /** With the key of the cluster's authority, which coordinators that take turns share. */
  readonly authority: Signer;
  readonly cluster: string;
  readonly clock: Clock;
}

/** Makes a version's record whole before it is written: its number, and the authority's signature under what only a coordinator knows. */
export class Registrar {
  readonly #modules: RegistrarModules;

  constructor(modules: RegistrarModules) {
    this.#modules = modules;
  }

  /** One at a time: the number is not taken before the returned write is durable, and `VersionRegistry.commit` was told. */
  async prepare(
    manifest: VersionManifest,
    attestation?: Envelope,
  ): Promise<{ readonly record: VersionRecord; readonly write: StoreWrite }> {
    const { versions, authority, cluster, clock } = this.#modules;
    const { record } = versions.prepare(manifest, attestation);
    const statement = registrationStatement(record, { cluster, registeredAtMs: clock.nowMs() });
    const signed = { ...record, registration: await attest(statement, authority) };
    return { record: signed, write: versions.write(signed) };
  }
}
