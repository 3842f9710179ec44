import pino from "pino";
import pretty from "pino-pretty";

/** Logs go to stderr: lines of JSON, or for a person at a terminal something to read. */
export function createLog(name: string, level: string): pino.Logger {
  if (!process.stderr.isTTY) return pino({ name, level }, pino.destination(2));
  return pino(
    { name, level },
    pretty({
      destination: 2,
      sync: true,
      ignore: "pid,hostname,name",
      messageFormat: `[${name}] {msg}`,
      translateTime: "HH:MM:ss.l",
    }),
  );
}
