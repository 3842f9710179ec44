import packageJson from "../package.json" with { type: "json" };

/** Release of this program, as package.json says it. */
export const release: string = packageJson.version;
