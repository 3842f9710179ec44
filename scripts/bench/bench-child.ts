import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

/** Starts a program of this folder that speaks over IPC. */
export function startBenchChild(file: string): ChildProcess {
  const path = fileURLToPath(new URL(file, import.meta.url));
  return fork(path, { serialization: "advanced", stdio: ["ignore", "inherit", "inherit", "ipc"] });
}

/** @throws Error when the process ends instead of answering */
export async function ask<Answer>(child: ChildProcess, message: object): Promise<Answer> {
  const answer = nextMessage<Answer>(child);
  child.send(message);
  return answer;
}

/** @throws Error when the process ends instead */
export async function nextMessage<Message>(child: ChildProcess): Promise<Message> {
  const stop = new AbortController();
  try {
    const exit = once(child, "exit", { signal: stop.signal }).then(([code]) => {
      throw new Error(`a process of the benchmark ended with code ${code}`);
    });
    exit.catch(() => {}); // it also rejects when we stop listening
    const [message] = await Promise.race([once(child, "message", { signal: stop.signal }), exit]);
    return message as Message;
  } finally {
    stop.abort();
  }
}
