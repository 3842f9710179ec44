import { describe, expect, it } from "vitest";
import { Elsewhere } from "../../../dashboard/elsewhere.ts";
import type { Readiness } from "../../../protocol/messages/api.ts";

const [own, second, third] = ["http://10.0.0.1:7070", "http://10.0.0.2:7070", "http://10.0.0.3:7070"];
const ready: Readiness = { ready: true, standby: false, reasons: [], coordinators: [own, second, third] };
const standby = (leader?: string): Readiness => ({
  ...{ ...ready, ready: false, standby: true },
  ...(leader && { leader }),
});

/** What the page's own coordinator says, and who can be reached. */
function page(first: Readiness | undefined, reachable: readonly string[]) {
  const world = { readiness: first, reachable: new Set(reachable), gone: [] as string[] };
  const elsewhere = new Elsewhere(`${own}/`, {
    readiness: async () => world.readiness,
    reaches: async (url) => world.reachable.has(url),
    go: (url) => world.gone.push(url),
  });
  return { world, elsewhere };
}

describe("where the page goes on", () => {
  it("stays while its coordinator leads: the stream comes back by itself", async () => {
    const { world, elsewhere } = page(ready, [own, second]);
    await elsewhere.look();
    expect(world.gone).toEqual([]);
  });

  it("goes from a coordinator that stands by to the one that leads", async () => {
    const { world, elsewhere } = page(standby(third), [second, third]);
    await elsewhere.look();
    expect(world.gone).toEqual([third]);
  });

  it("waits there while nobody leads, or whoever does is out of reach", async () => {
    const { world, elsewhere } = page(standby(), [second, third]);
    await elsewhere.look();
    world.readiness = standby(own); // its last turn
    await elsewhere.look();
    world.readiness = standby("http://127.0.0.1:7070");
    await elsewhere.look();
    expect(world.gone).toEqual([]);
  });

  it("goes from one that is gone to another one that answers", async () => {
    const { world, elsewhere } = page(ready, [third]);
    await elsewhere.remember();
    world.readiness = undefined;
    await elsewhere.look();
    expect(world.gone).toEqual([third]);
  });

  it("stays where it knows of no other, as without etcd", async () => {
    const { world, elsewhere } = page({ ...ready, coordinators: [] }, []);
    await elsewhere.remember();
    world.readiness = undefined;
    await elsewhere.look();
    expect(world.gone).toEqual([]);
  });
});
