import type { Witness } from "../checks/witness.ts";
import type { Mutation } from "../mutations.ts";
import type { SimulatedDataPlanes } from "../world/data-planes.ts";
import type { SimulatedNetwork } from "../world/network.ts";
import type { ArtefactDisk } from "../world/storage.ts";
import type { World } from "../world/world.ts";

/** What the processes of one machine have around them. */
export interface Surroundings {
  readonly world: World;
  readonly network: SimulatedNetwork;
  readonly planes: SimulatedDataPlanes;
  readonly witness: Witness;
  /** Of this machine: it outlives its processes. */
  readonly disk: ArtefactDisk;
  /** What another machine that runs and is in reach has. */
  readonly borrow: (digest: string) => Uint8Array | undefined;
  readonly peerId: string;
  readonly name: string;
  readonly coordinatorPeerId: string;
  /** Virtual time that a computation takes, mostly close to the least. */
  readonly computeMs: { readonly min: number; readonly max: number };
  readonly mutation: Mutation | undefined;
}
