import type { Clock } from "../../../protocol/ports.ts";
import { settle } from "../fake-clock.ts";
import type { Randomness } from "./randomness.ts";

interface Event {
  readonly atMs: number;
  /** Order among events of one instant. */
  readonly tie: number;
  run: (() => void) | undefined;
}

/**
 * Virtual time: a priority queue of events. Between two events every promise that can settle does, so what one event
 * causes has happened before the next, and a process that is ended between two events ends at one instant.
 */
export class Scheduler {
  readonly #random: Randomness;
  readonly #heap: Event[] = [];
  #nowMs = 1_700_000_000_000;
  #eventsRun = 0;

  constructor(random: Randomness) {
    this.#random = random;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  get eventsRun(): number {
    return this.#eventsRun;
  }

  /** Runs `run` later; events of one instant run in an order that the seed draws. The result cancels. */
  after(delayMs: number, run: () => void): () => void {
    const event: Event = {
      atMs: this.#nowMs + Math.max(0, delayMs),
      tie: this.#random.integer(0, 0x7fff_ffff),
      run,
    };
    this.#push(event);
    return () => {
      event.run = undefined;
    };
  }

  /** Runs the next event and all that follows from it at once. False when nothing is left to happen. */
  async step(): Promise<boolean> {
    let event = this.#pop();
    while (event && event.run === undefined) event = this.#pop();
    if (event?.run === undefined) return false;
    this.#nowMs = event.atMs;
    this.#eventsRun++;
    event.run();
    await settle();
    return true;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let at = heap.push(event) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #pop(): Event | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first === undefined || last === undefined || heap.length === 0) return first;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = last;
    return first;
  }
}

const isBefore = (a: Event, b: Event): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.tie < b.tie);

/** The life of one process, and its clock: when it ends, nothing of it happens any more. */
export class Life implements Clock {
  readonly #scheduler: Scheduler;
  #alive = true;
  #pending = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  get alive(): boolean {
    return this.#alive;
  }

  nowMs(): number {
    return Math.floor(this.#scheduler.nowMs);
  }

  /** Monotonic, with fractions. */
  monotonicMs(): number {
    return this.#scheduler.nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    let settled = false;
    const settle = (): boolean => {
      if (settled) return false;
      settled = true;
      this.#pending--;
      return true;
    };
    this.#pending++;
    const cancel = this.#scheduler.after(delayMs, () => {
      if (settle() && this.#alive) callback();
    });
    return () => {
      if (settle()) cancel();
    };
  }

  /** Timers that neither ran nor were cancelled. */
  get pendingTimers(): number {
    return this.#pending;
  }

  /** Waits; for ever when the process ends first. */
  pause(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.after(delayMs, resolve));
  }

  end(): void {
    this.#alive = false;
  }
}
