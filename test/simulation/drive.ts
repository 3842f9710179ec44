import type { Mutation } from "./mutations.ts";
import type { World } from "./world/world.ts";

/** More than any story needs: something goes round in circles. */
const eventsMax = 400_000;
const checkEveryEvents = 16;

/** Who looks at a world from outside while it runs. */
interface Onlooker {
  look(): void;
  /** For a person: where everyone stands. */
  standing(): string;
}

/** Runs the events of a world, one after the other, and has an onlooker look at it now and then. */
export class Drive {
  readonly #world: World;
  readonly #onlooker: Onlooker;

  constructor(world: World, onlooker: Onlooker) {
    this.#world = world;
    this.#onlooker = onlooker;
  }

  /** Until `done`, or a property does not hold: one is that it takes no longer than `bound.ms` of virtual time. */
  async until(bound: { readonly what: string; readonly ms: number }, done: () => boolean): Promise<void> {
    const world = this.#world;
    const endMs = world.elapsedMs + bound.ms;
    for (let events = 0; !world.violation && !done(); events++) {
      if (events % checkEveryEvents === 0) this.#onlooker.look();
      const idle = !(await world.scheduler.step());
      if (idle || world.elapsedMs > endMs || world.scheduler.eventsRun > eventsMax)
        world.violate("progress", `${bound.what}: ${this.#onlooker.standing()}`);
    }
  }
}

/** Runs a story with a bug planted, if there is one; a promise that nobody has caught is a violation. */
export async function guarded<T>(
  world: World,
  mutation: Pick<Mutation, "plant"> | undefined,
  story: () => Promise<T>,
): Promise<T> {
  const onRejection = (cause: unknown) =>
    world.violate(
      "nothing is thrown into the void",
      cause instanceof Error ? (cause.stack ?? cause.message) : String(cause),
    );
  const uproot = mutation?.plant?.();
  process.on("unhandledRejection", onRejection);
  try {
    return await story();
  } finally {
    uproot?.();
    process.off("unhandledRejection", onRejection);
  }
}
