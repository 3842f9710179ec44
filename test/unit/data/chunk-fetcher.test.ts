import { setImmediate as nextTurn } from "node:timers/promises";
import { expect, test } from "vitest";
import { ChunkFetcher } from "../../../agent/data/chunk-fetcher.ts";
import { RingfoldError } from "../../../protocol/errors.ts";

/** A source whose fetches end when the test says so. */
function slowSource() {
  const asked: string[] = [];
  const here = new Set<string>();
  const ends = new Map<string, PromiseWithResolvers<void>>();
  const lifetime = new AbortController();
  const source = {
    has: (digest: string) => here.has(digest),
    read: async () => new Uint8Array(0),
    fetch: (digest: string) => {
      asked.push(digest);
      const end = Promise.withResolvers<void>();
      ends.set(digest, end);
      return end.promise;
    },
  };
  const arrive = async (digest: string) => {
    here.add(digest);
    ends.get(digest)!.resolve();
    await nextTurn();
  };
  const fail = async (digest: string) => {
    ends.get(digest)!.reject(new RingfoldError("ARTEFACT_MISSING", "nobody has it"));
    await nextTurn();
  };
  return { fetcher: new ChunkFetcher(source, lifetime.signal), asked, here, arrive, fail, lifetime };
}
const signal = new AbortController().signal;

test("four at a time, in the order of need, and for later only what is left", async () => {
  const { fetcher, asked, here, arrive } = slowSource();
  here.add("b");
  fetcher.expect("later", ["x", "y"]);
  fetcher.expect("soon", ["a", "b", "c", "d", "e"]);
  expect(asked).toEqual(["x", "y", "a", "c"]);
  await arrive("x");
  expect(asked).toEqual(["x", "y", "a", "c", "d"]);
  fetcher.expect("soon", ["d", "f"]); // "e" is not needed any more
  await arrive("y");
  await arrive("a");
  expect(asked).toEqual(["x", "y", "a", "c", "d", "f"]);
  expect(fetcher.has("a")).toBe(true);
});

test("who waits gets it before all that is expected, and shares a fetch that is under way", async () => {
  const { fetcher, asked, arrive } = slowSource();
  fetcher.expect("soon", ["a", "b", "c", "d"]);
  const both = Promise.all([fetcher.bring("z", signal), fetcher.bring("a", signal)]);
  expect(asked).toEqual(["a", "b", "c", "d", "z"]);
  await arrive("z");
  await arrive("a");
  await both;
});

test("what cannot be had is asked for again only by who waits for it", async () => {
  const { fetcher, asked, fail, arrive } = slowSource();
  fetcher.expect("soon", ["a"]);
  await fail("a");
  fetcher.expect("soon", ["a"]);
  expect(asked).toEqual(["a"]);
  const waits = fetcher.bring("a", signal);
  expect(asked).toEqual(["a", "a"]);
  await arrive("a");
  await waits;
});

test("who waits may leave; after the end of its life nothing is fetched", async () => {
  const { fetcher, asked, lifetime } = slowSource();
  const leaves = new AbortController();
  const waits = fetcher.bring("a", leaves.signal);
  leaves.abort(new RingfoldError("CANCELLED", "left"));
  await expect(waits).rejects.toMatchObject({ code: "CANCELLED" });
  lifetime.abort(new RingfoldError("CANCELLED", "closed"));
  await expect(fetcher.bring("b", signal)).rejects.toMatchObject({ code: "CANCELLED" });
  expect(asked).toEqual(["a"]);
});
