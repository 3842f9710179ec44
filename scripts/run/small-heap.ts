import { setFlagsFromString } from "node:v8";

/**
 * V8 lets a heap about double before it collects. A coordinator allocates little, and so would keep a hundred MB of garbage for
 * hours (docs/chaos.md, "Memory"); so it collects when a fifth has been added. Asked 70,000 times in 30 s it stays at 207 MB, and came to 256 MB and more without.
 */
export const keepHeapSmall = (): void => setFlagsFromString("--heap-growing-percent=20");
