import { setFlagsFromString } from "node:v8";

/**
 * For Node, of each `ringfold` process; the launcher `scripts/ringfold` has it too. The young generation of a process that
 * lives for hours otherwise grows to 64 MB and more and stays there, also where 40 MB are alive (docs/chaos.md, "Memory").
 */
export const smallHeapOptions: readonly string[] = ["--max-semi-space-size=8"];

/**
 * V8 lets a heap about double before it collects. A coordinator allocates little, and so would keep a hundred MB of garbage for
 * hours; so it collects when a fifth has been added. Asked 70,000 times in 30 s it stays at 207 MB, and came to 256 MB and more without.
 */
export const keepHeapSmall = (): void => setFlagsFromString("--heap-growing-percent=20");
