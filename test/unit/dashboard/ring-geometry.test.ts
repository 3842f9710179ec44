import { describe, expect, it } from "vitest";
import { layoutRing, ringBox } from "../../../dashboard/ring-geometry.ts";
import { limits } from "../../../protocol/limits.ts";

const worldSizes = [1, 2, 3, 4, 5, 8, 12, 13, 30, 32, 33, 100, limits.worldSizeMax];

describe.each(worldSizes)("the drawing of a ring of %i", (worldSize) => {
  const { places, arrows, nodeRadius } = layoutRing(worldSize);

  it("has a place for each rank, inside the box", () => {
    expect(places.map(({ rank }) => rank)).toEqual(Array.from({ length: worldSize }, (_, rank) => rank));
    for (const { x, y } of places) {
      expect(x - nodeRadius).toBeGreaterThanOrEqual(0);
      expect(x + nodeRadius).toBeLessThanOrEqual(ringBox.width);
      expect(y - nodeRadius).toBeGreaterThanOrEqual(0);
      expect(y + nodeRadius).toBeLessThanOrEqual(ringBox.height);
    }
  });

  it("keeps neighbours apart", () => {
    for (const { x, y, rank } of places) {
      const next = places[(rank + 1) % worldSize]!;
      if (next.rank === rank) continue;
      expect(Math.hypot(next.x - x, next.y - y)).toBeGreaterThan(2 * nodeRadius - 0.1);
    }
  });

  it("has an arrow from each rank to the next, clockwise, unless it is alone", () => {
    expect(arrows.length).toBe(worldSize === 1 ? 0 : worldSize);
    arrows.forEach((path, rank) => {
      const [fromX, fromY, toX, toY] = /^M (\S+) (\S+) A .* 0 0 1 (\S+) (\S+)$/
        .exec(path)!
        .slice(1)
        .map(Number);
      const from = places[rank]!;
      const to = places[(rank + 1) % worldSize]!;
      const reach = nodeRadius + 6;
      expect(Math.hypot(fromX! - from.x, fromY! - from.y)).toBeLessThan(reach);
      expect(Math.hypot(toX! - to.x, toY! - to.y)).toBeLessThan(reach);
    });
  });
});
