import { describe, expect, it } from "vitest";
import { type Connection, connectionTiming, followStream } from "../../../dashboard/connection.ts";

/** A clock that only moves when told, and a stream that only says what it is told. */
function world() {
  let nowMs = 1_000_000;
  let timers: { atMs: number; callback: () => void }[] = [];
  const clock = {
    nowMs: () => nowMs,
    monotonicMs: () => nowMs,
    after: (delayMs: number, callback: () => void) => {
      const timer = { atMs: nowMs + delayMs, callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
  };
  const advance = (byMs: number) => {
    const untilMs = nowMs + byMs;
    for (;;) {
      const next = timers
        .filter(({ atMs }) => atMs <= untilMs)
        .sort((one, other) => one.atMs - other.atMs)[0];
      if (!next) break;
      timers = timers.filter((timer) => timer !== next);
      nowMs = next.atMs;
      next.callback();
    }
    nowMs = untilMs;
  };
  const streams: { onData(text: string): void; onFailure(): void; open: boolean }[] = [];
  const views: number[] = [];
  const phases: Connection[] = [];
  const stop = followStream({
    clock,
    open: (handlers) => {
      const stream = { ...handlers, open: true };
      streams.push(stream);
      return () => {
        stream.open = false;
      };
    },
    read: (text) => (Number.isNaN(Number(text)) ? undefined : Number(text)),
    onView: (view) => views.push(view),
    onConnection: (connection) => phases.push(connection),
  });
  return {
    advance,
    streams,
    views,
    stop,
    newest: () => streams.at(-1)!,
    openCount: () => streams.filter(({ open }) => open).length,
    timerCount: () => timers.length,
    phase: () => phases.at(-1)?.phase,
    phases: () => phases.map(({ phase }) => phase),
    sinceMs: () => phases.at(-1)?.sinceMs,
  };
}

describe("the page's connection", () => {
  it("is live from the first view on", () => {
    const { newest, phases, views } = world();
    expect(phases()).toEqual(["connecting"]);
    newest().onData("1");
    newest().onData("2");
    expect(phases()).toEqual(["connecting", "live"]);
    expect(views).toEqual([1, 2]);
  });

  it("tells since when it has heard nothing, and calls a long silence lost", () => {
    const { newest, advance, phase, sinceMs } = world();
    newest().onData("1");
    advance(3_000);
    newest().onData("2");
    newest().onFailure();
    expect(phase()).toBe("reconnecting");
    expect(sinceMs()).toBe(1_003_000);
    advance(connectionTiming.lostAfterMs);
    expect(phase()).toBe("lost");
    expect(sinceMs()).toBe(1_003_000);
  });

  it("comes back by itself after an outage of any length", () => {
    const { newest, advance, phase, streams } = world();
    newest().onData("1");
    newest().onFailure();
    for (let minute = 0; minute < 10; minute++) {
      const before = streams.length;
      advance(60_000);
      expect(streams.length).toBeGreaterThan(before);
      newest().onFailure();
    }
    advance(connectionTiming.retryLastMs);
    newest().onData("2");
    expect(phase()).toBe("live");
    advance(connectionTiming.lostAfterMs / 2);
    expect(phase()).toBe("live");
  });

  it("does not call an outage lost that is over", () => {
    const { newest, advance, phases } = world();
    newest().onData("1");
    newest().onFailure();
    advance(connectionTiming.retryFirstMs);
    for (let second = 0; second < 60; second++) {
      newest().onData("2");
      advance(1_000);
    }
    expect(phases()).toEqual(["connecting", "live", "reconnecting", "live"]);
  });

  it("asks a dead coordinator at most once in retryLastMs", () => {
    const { newest, advance, streams } = world();
    newest().onFailure();
    for (let second = 0; second < 600; second++) {
      advance(1_000);
      if (newest().open) newest().onFailure();
    }
    expect(streams.length).toBeLessThan(600_000 / connectionTiming.retryLastMs + 6);
  });

  it("replaces a silent connection without alarm, and raises it when the new one is silent too", () => {
    const { newest, advance, phase, streams, openCount } = world();
    newest().onData("1");
    advance(connectionTiming.silentAfterMs);
    expect(streams.length).toBe(2);
    expect(openCount()).toBe(1);
    expect(phase()).toBe("live");
    advance(connectionTiming.firstViewMs);
    expect(phase()).toBe("reconnecting");
  });

  it("keeps the last good view when the words are another release's", () => {
    const { newest, phase, views } = world();
    newest().onData("1");
    newest().onData("what?");
    expect(phase()).toBe("incompatible");
    newest().onData("2");
    expect(phase()).toBe("live");
    expect(views).toEqual([1, 2]);
  });

  it("leaves no stream and no timer behind when stopped, in whatever phase", () => {
    const acts: ((w: ReturnType<typeof world>) => void)[] = [
      () => {},
      (w) => w.newest().onData("1"),
      (w) => w.newest().onFailure(),
      (w) => w.advance(60_000),
    ];
    for (const act of acts) {
      const w = world();
      act(w);
      w.stop();
      expect(w.openCount()).toBe(0);
      expect(w.timerCount()).toBe(0);
    }
  });
});
