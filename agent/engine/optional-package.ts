/**
 * Imports a package that need not be there. Its types are not at hand when it is not, so the caller says what it uses.
 * @throws Error with one sentence for a person: not installed, or why it does not load
 */
export async function importOptional<Module>(name: string): Promise<Module> {
  try {
    return (await import(name)) as Module;
  } catch (cause) {
    const { code, message } = cause as { code?: string; message?: string };
    // The message tells a missing package from a missing part of an installed one.
    if (code === "ERR_MODULE_NOT_FOUND" && message?.includes(`'${name}'`)) {
      throw new Error(`package ${name} is not installed`, { cause });
    }
    throw new Error(`package ${name} does not load: ${firstLine(cause)}`, { cause });
  }
}

export const firstLine = (cause: unknown): string =>
  ((cause instanceof Error ? cause.message : String(cause)).split("\n")[0] ?? "").slice(0, 300);
