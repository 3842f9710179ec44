import { readdir, readFile } from "node:fs/promises";

/** Of the kernel's clock ticks in /proc, a hundred are a second on every Linux: USER_HZ is part of its interface. */
const tickMs = 10;
/** Places in /proc/PID/stat behind the command's name: process group, time in user mode, in the kernel. */
const [groupAt, userAt, kernelAt] = [2, 11, 12];

/** Milliseconds of processor time that the processes of a group have used; undefined where there is no /proc, or no such group. */
export async function processorTimeMs(group: number): Promise<number | undefined> {
  const names = await readdir("/proc").catch(() => [] as string[]);
  const stats = await Promise.all(
    names
      .filter((name) => /^\d+$/.test(name))
      .map((name) => readFile(`/proc/${name}/stat`, "utf8").catch(() => "")),
  );
  const times = stats.flatMap((stat) => {
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (Number(fields[groupAt]) !== group) return [];
    return [tickMs * (Number(fields[userAt]) + Number(fields[kernelAt]))];
  });
  return times.length === 0 ? undefined : times.reduce((total, ms) => total + ms, 0);
}
