import { defineConfig } from "vitest/config";

const common = { pool: "forks", testTimeout: 60_000, hookTimeout: 60_000 } as const;

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      {
        test: {
          ...common,
          name: "in-process",
          include: ["test/{unit,property,contract,simulation}/**/*.test.ts"],
          sequence: { groupOrder: 0 },
        },
      },
      {
        test: {
          ...common,
          name: "whole-clusters",
          // Each file runs a cluster of real processes: one at a time, or they would measure each other.
          include: ["test/{e2e,browser}/**/*.test.ts"],
          fileParallelism: false,
          sequence: { groupOrder: 1 },
        },
      },
      {
        test: {
          ...common,
          name: "long-clusters",
          // More of the same, for CI: `npm run test:long`.
          include: ["test/long/**/*.test.ts"],
          fileParallelism: false,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
