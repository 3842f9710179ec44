/** Messages of one kind: of a request, its answer's bytes too. */
interface Carried {
  readonly count: number;
  readonly bytes: number;
}

export type Messages = Readonly<Record<string, Carried>>;

/** What has passed, by kind: the protocol of a request, or the topic of a fact. */
export class Traffic {
  readonly #kinds = new Map<string, Carried>();

  add(kind: string, bytes: number): void {
    const { count, bytes: before } = this.#kinds.get(kind) ?? nothing;
    this.#kinds.set(kind, { count: count + 1, bytes: before + bytes });
  }

  /** So far. */
  all(): Messages {
    return Object.fromEntries(this.#kinds);
  }

  /** What has passed since `all` said this. */
  since(before: Messages): Messages {
    const passed = [...this.#kinds].map(([kind, { count, bytes }]) => {
      const known = before[kind] ?? nothing;
      return [kind, { count: count - known.count, bytes: bytes - known.bytes }] as const;
    });
    return Object.fromEntries(passed.filter(([, { count }]) => count > 0));
  }
}

const nothing: Carried = { count: 0, bytes: 0 };

export function sumOf(messages: Messages): Carried {
  const all = Object.values(messages);
  return {
    count: all.reduce((sum, { count }) => sum + count, 0),
    bytes: all.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** `presence 5000 (3.1 MB), job/report 40 (0.0 MB)`: the most first. */
export const messagesText = (messages: Messages): string =>
  Object.entries(messages)
    .toSorted(([, one], [, other]) => other.count - one.count)
    .map(([kind, { count, bytes }]) => `${nameOf(kind)} ${count} (${(bytes / 1e6).toFixed(2)} MB)`)
    .join(", ");

/** `/ringfold/job/report/1` is `job/report`. */
const nameOf = (kind: string): string => kind.replace(/^\/ringfold\//, "").replace(/\/\d+$/, "");
